#!/usr/bin/env bash
# Builds the book of the documents in target/book. It is built from a copy of the tree, so that the pages' links to each
# other and to the sources lead in the book to where they lead here.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! mdbook --version >/dev/null 2>&1; then
    echo "mdbook is missing; compiling it once, which takes minutes"
    cargo install mdbook --locked --version 0.5.4 --no-default-features --features search
fi
pages=target/book-pages
rm -rf "$pages" target/book
mkdir -p "$pages"
git ls-files -z | grep -zv '^fuzz/corpus/' | xargs -0 cp --parents -t "$pages"
# The table of contents has to stand at the top, and its links with it.
sed 's#](#](docs/#; s#](docs/\.\./#](#' docs/SUMMARY.md >"$pages/SUMMARY.md"
rm "$pages/docs/SUMMARY.md"
mdbook build "$pages"
echo "The book is in target/book; open target/book/index.html"
