"""Uses the client that was generated from the OpenAPI: publishes, pages, meets a problem. Run by tests/street."""

import sys

from newswire_client import Client
from newswire_client.api.events import event, history, publish
from newswire_client.api.operation import health
from newswire_client.models import EventDraft, EventDraftPayloadType0, Problem

EVENTS = 250
client = Client(base_url=sys.argv[1])

drafts = []
for number in range(1, EVENTS + 1):
    payload = EventDraftPayloadType0.from_dict({"id": f"task-{number}", "project": "proj-1", "n": number % 2})
    drafts.append(EventDraft(channel="tasks", event_type="task.created", event_id=f"run/{number}", payload=payload))
for first in range(0, EVENTS, 100):
    published = publish.sync(client=client, body=drafts[first : first + 100])
    offsets = [result.offset for result in published.data.results]
    assert offsets == list(range(first + 1, first + 1 + len(offsets))), offsets
again = publish.sync(client=client, body=drafts[0])
assert again.data.results[0].duplicate is True, again

pages, seen, after = 0, [], 0
while after is not None:
    page = history.sync(client=client, channels=["tasks"], after=after, limit=100)
    seen += [(one.offset, one.event_id, one.payload["id"]) for one in page.data]
    pages, after = pages + 1, page.next_
assert seen == [(n, f"run/{n}", f"task-{n}") for n in range(1, EVENTS + 1)], seen[:3]

one = event.sync(client=client, offset=7)
assert one.data.event_id == "run/7", one
missing = event.sync(client=client, offset=EVENTS + 1)
assert isinstance(missing, Problem) and missing.code == "not_found", missing
assert health.sync(client=client).data.status == "ok"
print(f"{len(seen)} events in {pages} pages")
