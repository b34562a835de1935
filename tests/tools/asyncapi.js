// Reads an AsyncAPI document from standard input as its own parser does. Prints every finding, and fails on the first
// that is an error or a warning: 0 is an error, 1 a warning, 2 and 3 are hints.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

// The parser is where `scripts/setup-tests.sh` put it, beside this file and not above it.
const require = createRequire(new URL("./.installed/", import.meta.url));
const { Parser } = require("@asyncapi/parser");

const { document, diagnostics } = await new Parser().parse(readFileSync(0, "utf8"));
for (const { severity, code, path, message } of diagnostics) {
  console.log(`${severity} ${code} ${path.join("/")}: ${message}`);
}
const faults = diagnostics.filter(({ severity }) => severity <= 1);
if (!document || faults.length > 0) {
  process.exit(1);
}
console.log(`${document.channels().length} channels, ${document.operations().length} operations, ${document.messages().length} messages`);
