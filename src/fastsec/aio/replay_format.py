"""How the replay memory stands in its files.

For a memory at PATH there are ``PATH.0`` and ``PATH.1``, of which one is written to and the other holds what came
before, and ``PATH.lock``. Each of the first two is text:

    fastsec replay 1 GENERATION LENGTH STATE CRC           64 octets, written anew at each step
    = IDENTITY PROCESSES BOOT SINCE UTC MONO KIND SKIP CRC
    PEER Q20261121101500000000000/17 DIGEST CRC            a handshake PDU seen
    PEER +s3 17:403 CRC                                    a pair n:m in use: as server, by process 3
    PEER -86400000 17:403 CRC                              at rest until then (monotonic clock)
    . =3 1795000000000 CRC                                 own requests of process 3 are earlier than this

Only the first LENGTH octets count, so what a process had half written when it died is nothing. CRC is that of zlib, of
the line before it.
"""

from __future__ import annotations

from typing import Final, NamedTuple
from zlib import crc32

MAGIC: Final = b"fastsec replay "
HEAD: Final = 64
FACTS_MAX: Final = 512
STATE_AT: Final = len(MAGIC) + 26
OPEN, MOVED, CLOSED, LACKING = "o", "m", "c", "x"  # a newer generation exists; ended orderly; not all is in it


class Damaged(Exception):
    """The file does not say what it said, or less than it did."""


class Head(NamedTuple):
    """The first line."""

    generation: int
    length: int
    state: str


NONE: Final = Head(-1, 0, "")


class Facts(NamedTuple):
    """The second line.

    Attributes:
        identity: whose memory it is.
        processes: how many share it.
        boot: of the operating system; what was written last before it went down may be missing.
        since: time key of what is known, None if all is.
        utc_ms, mono_ms: when the generation began.
        whole: whether the generation before it does not count any more.
        skip: octets that say nothing new to who has read the generation before.
    """

    identity: str
    processes: int
    boot: str
    since: str | None
    utc_ms: int
    mono_ms: int
    whole: bool
    skip: int


def framed(lines: list[str]) -> bytes:
    """The lines with their checksums."""
    return "".join([f"{line} {crc32(line.encode()):08x}\n" for line in lines]).encode("ascii")


def unframed(data: bytes) -> list[str]:
    """The lines without their checksums. Damaged: one of them is not what was written."""
    if data and data[-1:] != b"\n":
        raise Damaged("a line has no end")
    lines = []
    for text in data.split(b"\n")[:-1]:
        line, _, check = text.rpartition(b" ")
        if check != b"%08x" % crc32(line):
            raise Damaged("a checksum is wrong")
        lines.append(line.decode("ascii"))
    return lines


def head_line(generation: int, length: int, state: str) -> bytes:
    """The first line."""
    text = MAGIC + b"1 %010d %012d %s" % (generation, length, state.encode())
    return (text + b" %08x" % crc32(text)).ljust(HEAD - 1) + b"\n"


def parse_head(raw: bytes) -> Head:
    """What the first line says, or Damaged."""
    text, _, check = raw.rstrip().rpartition(b" ")
    if len(raw) < HEAD or check != b"%08x" % crc32(text):
        raise Damaged("its first line is damaged")
    _, generation, length, state = text[len(MAGIC) :].split(b" ")
    return Head(int(generation), int(length), state.decode())


def parse_facts(line: str) -> Facts:
    """What the second line says, or Damaged."""
    try:
        mark, identity, processes, boot, since, utc_ms, mono_ms, kind, skip = line.split(" ")
        since_or_none = None if since == "-" else since
        facts = Facts(identity, int(processes), boot, since_or_none, int(utc_ms), int(mono_ms), kind == "w", int(skip))
    except ValueError:
        raise Damaged("its second line is damaged") from None
    if mark != "=":
        raise Damaged("its second line is missing")
    return facts


def head_or_none(raw: bytes) -> Head | None:
    """What the first line says, None if it is damaged."""
    try:
        return parse_head(raw)
    except Damaged:
        return None


def state_of(raw: bytes) -> str:
    """The state in a first line that is good."""
    return chr(raw[STATE_AT])


def facts_line(facts: Facts) -> str:
    """The second line; always as long, whatever ``skip`` is."""
    return (
        f"= {facts.identity} {facts.processes} {facts.boot} {facts.since or '-'} {facts.utc_ms} {facts.mono_ms} "
        f"{'w' if facts.whole else 'p'} {facts.skip:012d}"
    )
