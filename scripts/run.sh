#!/usr/bin/env bash
# `make run`: builds Newswire, starts a server, plays the demo company through its API and shows the feed until Ctrl-C.
# LISTEN=host:port and DATA_DIR=dir choose another place; BINARY names a binary that is built already.
# Nothing is asked, so it runs without a terminal too.
set -euo pipefail
cd "$(dirname "$0")/.."

listen=${LISTEN:-127.0.0.1:8080}
data_dir=${DATA_DIR:-./newswire-data}
newswire=${BINARY:-target/release/newswire}
server_log=target/newswire-serve.log
server=

stop_server() {
    [ -n "$server" ] || return 0
    kill -TERM "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    server=
}

interrupted() {
    if [ -n "$server" ]; then
        stop_server
        printf '\nStopped. The events are kept in %s; `make run` goes on from there.\n' "$data_dir"
    fi
    exit 0
}
trap stop_server EXIT
trap interrupted INT TERM HUP

build() {
    if ! command -v cargo >/dev/null; then
        echo "Newswire is built with Rust, and cargo is not on the PATH. Install Rust, then run this again." >&2
        exit 1
    fi
    [ -x "$newswire" ] || echo "Building Newswire. The first time takes some minutes, later starts seconds."
    cargo build --release --locked --package newswire-server
}

[ -n "${BINARY:-}" ] || build
mkdir -p target

# In a process group of its own, so that Ctrl-C reaches the demo alone and the server is stopped once, by us.
set -m
"$newswire" serve --listen "$listen" --data-dir "$data_dir" </dev/null >"$server_log" 2>&1 &
server=$!
set +m

# `serve` prints one line once it accepts connections.
address=
for _ in $(seq 600); do
    address=$(sed -n 's#.*http://\([^ /]*\).*#\1#p' "$server_log" | head -n 1)
    [ -z "$address" ] || break
    if ! kill -0 "$server" 2>/dev/null; then
        server=
        cat "$server_log" >&2
        if grep -q 'cannot listen' "$server_log"; then
            printf '\nTo use another port: LISTEN=127.0.0.1:8090 make run\n' >&2
        fi
        exit 1
    fi
    sleep 0.1
done
if [ -z "$address" ]; then
    echo "The server did not accept connections within a minute; its log is $server_log" >&2
    exit 1
fi

cat <<TEXT

The server listens on http://$address.
  events   $data_dir
  its log  $server_log
  to use the commands below in a second terminal: export PATH="$(cd "$(dirname "$newswire")" && pwd):\$PATH"

TEXT

"$newswire" demo --watch --url "http://$address"
