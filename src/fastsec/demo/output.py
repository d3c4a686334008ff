"""What the demo prints: live, for people; with rich where it is installed, plainly elsewhere."""

from __future__ import annotations

import importlib
import io
import sys
from typing import Any, Protocol, TextIO


class Narrator(Protocol):
    """The few things the story says."""

    def step(self, number: int, title: str) -> None: ...
    def say(self, text: str) -> None: ...
    def proof(self, text: str) -> None: ...
    def log(self, source: str, text: str) -> None: ...
    def dump(self, title: str, octets: bytes, limit: int = 96) -> None: ...
    def fail(self, text: str) -> None: ...
    def end(self, text: str) -> None: ...


def hexdump(octets: bytes, limit: int = 96) -> list[str]:
    """Lines of offset, hexadecimal and printable characters of the first ``limit`` octets."""
    lines = []
    for at in range(0, min(len(octets), limit), 16):
        part = octets[at : at + 16]
        text = "".join(chr(octet) if 32 <= octet < 127 else "." for octet in part)
        lines.append(f"{at:04x}  {part.hex(' '):<47}  {text}")
    if len(octets) > limit:
        lines.append(f"      … {len(octets) - limit} more octets")
    return lines


class PlainNarrator:
    """Plain lines of text."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def _print(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def step(self, number: int, title: str) -> None:
        self._print(f"\n{number}. {title}")

    def say(self, text: str) -> None:
        self._print(f"   {text}")

    def proof(self, text: str) -> None:
        self._print(f"   ok: {text}")

    def log(self, source: str, text: str) -> None:
        self._print(f"   [{source}] {text}")

    def dump(self, title: str, octets: bytes, limit: int = 96) -> None:
        self._print(f"   {title} ({len(octets)} octets)")
        for line in hexdump(octets, limit):
            self._print(f"     {line}")

    def fail(self, text: str) -> None:
        self._print(f"   FAILED: {text}")

    def end(self, text: str) -> None:
        self._print(f"\n{text}")


class RichNarrator:
    """The same in colours."""

    def __init__(self, stream: TextIO, console: Any, text: Any) -> None:
        self._console = console(file=stream, highlight=False, soft_wrap=True)
        self._text = text

    def _print(self, *parts: tuple[str, str]) -> None:
        line = self._text()
        for part, style in parts:
            line.append(part, style)
        self._console.print(line)

    def step(self, number: int, title: str) -> None:
        self._console.print()
        self._print((f" {number} ", "bold white on blue"), (f" {title}", "bold"))

    def say(self, text: str) -> None:
        self._print(("   " + text, ""))

    def proof(self, text: str) -> None:
        self._print(("   ✓ ", "bold green"), (text, "green"))

    def log(self, source: str, text: str) -> None:
        self._print((f"   {source:>6} │ ", "cyan"), (text, "yellow"))

    def dump(self, title: str, octets: bytes, limit: int = 96) -> None:
        self._print((f"   {title}", "bold"), (f"  {len(octets)} octets", "dim"))
        for line in hexdump(octets, limit):
            self._print(("     " + line[:55], "dim"), (line[55:], "magenta"))

    def fail(self, text: str) -> None:
        self._print(("   ✗ ", "bold red"), (text, "red"))

    def end(self, text: str) -> None:
        self._console.print()
        self._print((text, "bold"))


def narrator(stream: TextIO | None = None) -> Narrator:
    """The best narrator there is for ``stream`` (default: stdout)."""
    stream = sys.stdout if stream is None else stream
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")  # a terminal without UTF-8 gets question marks, not a traceback
    try:
        console = importlib.import_module("rich.console").Console
        text = importlib.import_module("rich.text").Text
    except ImportError:
        return PlainNarrator(stream)
    return RichNarrator(stream, console, text)
