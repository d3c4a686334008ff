"""The two gateways of the demo: the product itself, ``python -m fastsec gateway FILE.toml``, as processes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastsec.demo.process import Process

_DOMAIN = "IEC62351-4:"


@dataclass(frozen=True, slots=True)
class Event:
    """A security event in a gateway's log.

    Attributes:
        id: e.g. ``IEC62351-4:11.5``.
        mnemonic: its name in IEC 62351-14.
        text: the log's words, with its level in front.
    """

    id: str
    mnemonic: str
    text: str


@dataclass(slots=True)
class Gateway:
    """One running gateway.

    Attributes:
        name: its configuration's name.
        process: its process; all of its log lines (JSON) are in ``process.lines``.
    """

    name: str
    process: Process

    @classmethod
    async def start(
        cls, name: str, config: Path, on_line: Callable[[str], None] | None = None, *, key_log: Path | None = None
    ) -> Gateway:
        """Start it and wait until its log says that it is listening."""
        argv = ["-m", "fastsec", "gateway", config.name]
        if key_log is not None:
            argv += ["--insecure-key-log", str(key_log)]
        process = await Process.spawn(f"gateway {name}", argv, config.parent, on_line)
        try:
            await process.wait_line(lambda line: "listens" in _record(line))
        except BaseException:
            await process.stop()
            raise
        return cls(name, process)

    def mark(self) -> int:
        """The present end of its log; ``event`` looks behind it."""
        return len(self.process.lines)

    async def event(self, mark: int, seconds: float = 10.0) -> Event:
        """The first security event of IEC 62351-4 in the log after ``mark``; ProcessError if none comes in time."""
        _, line = await self.process.wait_line(
            lambda text: str(_record(text).get("event", "")).startswith(_DOMAIN), seconds, mark
        )
        record = _record(line)
        return Event(record["event"], record.get("mnemonic", ""), f"{record.get('level')}: {record.get('msg')}")


def _record(line: str) -> dict[str, Any]:
    """A log line as an object; {} for anything else."""
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}
