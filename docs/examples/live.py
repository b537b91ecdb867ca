"""Live speech to text: send a recording as it would be spoken, print the words, survive broken connections.

    python live.py speech.webm [ws://127.0.0.1:8000]

Needs `websockets`. Any recording goes that can be decoded from its first byte on: WebM, Ogg, MP3, WAV, FLAC.
"""

import asyncio
import json
import sys
from contextlib import suppress
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

PIECE = 4000  # bytes
PAUSE = 0.1  # seconds between pieces: as fast as 40 kB/s; a microphone sets its own pace
TRIES = 100  # to come back, one every 0.2 seconds: the server waits no longer than 30


class Stream:
    """One stream, over as many connections as it takes."""

    def __init__(self, server: str, recording: bytes) -> None:
        self.address = f"{server}/v1/stream"
        self.recording = recording  # a microphone's client would forget what the server has `received`
        self.session = ""
        self.seen = 0  # the last event

    def where(self) -> str:
        """Return the address of a new stream, or of the one that was begun."""
        if not self.session:
            return f"{self.address}?encoding=auto&delay=xhigh"
        return f"{self.address}?session={self.session}&after={self.seen}"

    async def run(self) -> None:
        """Go on, connection after connection, until everything has been told."""
        for _ in range(TRIES):
            with suppress(OSError, ConnectionClosed):
                async with connect(self.where(), compression=None) as connection:
                    if await self.carry(connection):
                        return
            print("No connection; coming back.", file=sys.stderr)
            await asyncio.sleep(0.2)

    async def carry(self, connection: ClientConnection) -> bool:
        """Send and print; tell whether everything has been told, or the connection broke."""
        sending: asyncio.Task[None] | None = None
        async with asyncio.TaskGroup() as tasks:
            with suppress(ConnectionClosed):
                async for message in connection:
                    event = json.loads(message)
                    match event["type"]:
                        case "ready":
                            self.session = event["session"]
                            sending = tasks.create_task(self.send(connection, event["received"]))
                        case "final":
                            print(event["text"], flush=True)
                        case "error":
                            sys.exit(event["error"]["message"])
                        case "end":
                            return True
                    self.seen = event["seq"]
            if sending:
                sending.cancel()
        return False

    async def send(self, connection: ClientConnection, start: int) -> None:
        """Send what the server has not got, from the byte that its `ready` told."""
        with suppress(ConnectionClosed):
            for at in range(start, len(self.recording), PIECE):
                await connection.send(self.recording[at : at + PIECE])
                await asyncio.sleep(PAUSE)
            await connection.send('{"type": "end"}')


if __name__ == "__main__":
    server = sys.argv[2] if len(sys.argv) > 2 else "ws://127.0.0.1:8000"
    asyncio.run(Stream(server, Path(sys.argv[1]).read_bytes()).run())
