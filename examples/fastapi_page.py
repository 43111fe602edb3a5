"""Serves events to browsers as they happen: FastAPI, server-sent events, one recognizer for all.

    pip install fastapi uvicorn
    python examples/fastapi_page.py [SOURCE] [PORT]

The page at / lists the events; /events is the stream behind it, one JSON record a message.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator

import uvicorn
from fastapi import FastAPI
from fastapi.responses import HTMLResponse, StreamingResponse

from realtime_mer import Recognizer

SOURCE = sys.argv[1] if len(sys.argv) > 1 else 0
PORT = int(sys.argv[2]) if len(sys.argv) > 2 else 8000
PAGE = """<!doctype html><title>Micro-expressions</title><ul id=list></ul><script>
new EventSource("/events").onmessage = (message) => {
  const event = JSON.parse(message.data)
  const item = document.createElement("li")
  item.textContent = `${event.onset_s} s: ${event.label}`
  list.append(item)
}</script>"""

# Each viewer has a short queue; one who does not read loses the oldest, and delays nobody.
viewers: set[asyncio.Queue[str]] = set()
found: list[str] = []


async def recognize() -> None:
    async for event in Recognizer(SOURCE):
        record = json.dumps(event.to_dict())
        found.append(record)
        for queue in viewers:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(record)


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    task = asyncio.create_task(recognize())
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


app = FastAPI(lifespan=lifespan)


@app.get("/")
def page() -> HTMLResponse:
    return HTMLResponse(PAGE)


@app.get("/events")
async def events() -> StreamingResponse:
    async def messages() -> AsyncIterator[str]:
        queue: asyncio.Queue[str] = asyncio.Queue(maxsize=100)
        viewers.add(queue)
        try:
            for record in found[-100:]:
                yield f"data: {record}\n\n"
            while True:
                yield f"data: {await queue.get()}\n\n"
        finally:
            viewers.discard(queue)

    return StreamingResponse(messages(), media_type="text/event-stream")


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="warning")
