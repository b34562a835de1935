"""Teaches schemathesis the media types it does not know. Named by schemathesis.toml."""

import json

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(_context, value):
    if not isinstance(value, list):
        return json.dumps(value).encode()
    return "".join(f"{json.dumps(line)}\n" for line in value).encode()
