"""The two gateways of the demo: the product itself, ``python -m fastsec gateway FILE.toml``, as processes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fastsec.demo.process import Process, ProcessError

_EVENT = re.compile(r"IEC62351-4:\d+\.\d+")
_START_TIMEOUT = 20.0
_POLL = 0.05


@dataclass(slots=True)
class Gateway:
    """One running gateway.

    Attributes:
        name: its configuration's name.
        process: its process; all of its log lines are in ``process.lines``.
    """

    name: str
    process: Process

    @classmethod
    async def start(cls, name: str, config: Path, port: int, on_line: Callable[[str], None] | None = None) -> Gateway:
        """Start it and wait until it accepts connections on 127.0.0.1:``port``."""
        process = await Process.spawn(
            f"gateway {name}", ["-m", "fastsec", "gateway", config.name], config.parent, on_line
        )
        gateway = cls(name, process)
        try:
            async with asyncio.timeout(_START_TIMEOUT):
                while not await _accepts(port):
                    if not process.running:
                        raise ProcessError(f"gateway {name} did not start; {process.tail()}")
                    await asyncio.sleep(_POLL)
        except TimeoutError:
            await process.stop()
            raise ProcessError(f"gateway {name} does not listen on port {port}; {process.tail()}") from None
        except BaseException:
            await process.stop()
            raise
        return gateway

    def mark(self) -> int:
        """The present end of its log; ``event`` looks behind it."""
        return len(self.process.lines)

    async def event(self, mark: int, seconds: float = 10.0) -> tuple[str, str]:
        """The first security event of domain IEC62351-4 in the log after ``mark``: its id and the log line."""
        _, line = await self.process.wait_line(lambda text: _EVENT.search(text) is not None, seconds, mark)
        found = _EVENT.search(line)
        assert found is not None  # noqa: S101 - wait_line has just matched it
        return found.group(), line


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
