"""Prints the micro-expressions of a running session as they happen.

    python run.py --serve 8000
    python examples/live_client.py [ADDRESS]

ADDRESS is what the session prints at its start; http://127.0.0.1:8000/ if it is left out.
"""

import asyncio
import json
import sys

import aiohttp

ADDRESS = (sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000/").rstrip("/")


async def main() -> None:
    # A session may be silent for hours.
    forever = aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(timeout=forever, raise_for_status=True) as http,
        http.get(f"{ADDRESS}/api/v1/live") as lines,
    ):
        async for line in lines.content:
            record = json.loads(line)
            if record["type"] == "micro_expression":
                print(f"{record['onset_s']:.2f} s: {record['label']}", flush=True)


asyncio.run(main())
