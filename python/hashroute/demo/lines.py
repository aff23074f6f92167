"""How the demo's processes talk to it: a JSON object a line, over standard input and output.

The end of standard input means that the demo is gone: every process then ends by itself, so that
even a demo that was killed leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

# A line holds at most one batch of answers; past this something is badly wrong and reading stops
# with an error.
LINE_BYTES_MAX = 1 << 20

Message = dict[str, Any]


def say(message: Mapping[str, Any]) -> None:
    """Writes `message` as one line and hands it on at once."""
    sys.stdout.write(encode(message))
    sys.stdout.flush()


async def heard() -> AsyncIterator[Message]:
    """Yields the messages from standard input until it ends."""
    reader = asyncio.StreamReader(limit=LINE_BYTES_MAX)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    try:
        async for message in messages(reader):
            yield message
    finally:
        transport.close()


async def messages(reader: asyncio.StreamReader) -> AsyncIterator[Message]:
    """Yields the messages that `reader` brings until it ends.

    A last line that is cut short is no message: its writer was killed.
    """
    async for line in reader:
        if line.endswith(b"\n"):
            yield json.loads(line)


def encode(message: Mapping[str, Any]) -> str:
    """Returns `message` as one line, its end included."""
    return json.dumps(message, separators=(",", ":")) + "\n"
