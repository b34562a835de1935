"""The Litestar peer: its channels plugin with the memory backend, which its documentation calls the fastest.

`/CHANNEL` is the plugin's own WebSocket handler: one event, one send, one frame. `/joined/CHANNEL` is what a user who
needs more writes by hand: all that waits for a subscriber goes out in one frame, one event a line.
`/publish/CHANNEL` takes one event a frame. LITESTAR_HISTORY=N keeps N events and sends them to whoever subscribes.
"""

import asyncio
import os

from litestar import Litestar, WebSocket, websocket
from litestar.channels import ChannelsPlugin, Subscriber
from litestar.channels.backends.memory import MemoryChannelsBackend
from litestar.exceptions import WebSocketDisconnect

HISTORY = int(os.environ.get("LITESTAR_HISTORY", "0"))

channels_plugin = ChannelsPlugin(
    backend=MemoryChannelsBackend(history=HISTORY),
    channels=["tasks"],
    create_ws_route_handlers=True,
    ws_handler_send_history=HISTORY,
    # No bound, the default: a subscriber who falls behind loses nothing.
    subscriber_max_backlog=None,
)


@websocket("/publish/{channel:str}")
async def publish(socket: WebSocket, channel: str, channels: ChannelsPlugin) -> None:
    """Publishes every frame that comes in."""
    await socket.accept()
    try:
        while True:
            # Not `publish`, which would put another queue and task in between.
            await channels.wait_published(await socket.receive_text(), channel)
    except WebSocketDisconnect:
        pass


async def send_joined(socket: WebSocket, subscriber: Subscriber) -> None:
    """Sends what has come in since the last send as one frame, for as long as there is something."""
    events = subscriber.iter_events()
    async for event in events:
        waiting = [event]
        # Does not wait: the event is there already.
        while subscriber.qsize and (more := await anext(events, None)) is not None:
            waiting.append(more)
        await socket.send_data(b"\n".join(waiting), mode="text")


@websocket("/joined/{channel:str}")
async def joined(socket: WebSocket, channel: str, channels: ChannelsPlugin) -> None:
    """Subscribes to a channel, whose events go out joined."""
    await socket.accept()
    async with channels.start_subscription(channel, history=HISTORY) as subscriber:
        sending = asyncio.create_task(send_joined(socket, subscriber))
        try:
            # As the plugin's own handler does: a disconnect is only seen by reading.
            while (await socket.receive())["type"] != "websocket.disconnect":
                continue
        finally:
            sending.cancel()


app = Litestar(
    route_handlers=[publish, joined],
    plugins=[channels_plugin],
    openapi_config=None,
)
