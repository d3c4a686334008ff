"""The hash chain of the event file: every line carries a hash over itself and the hash of the line before.

A line is 64 hexadecimal digits, a space and its content: SHA-256 over the hash before (32 octets) and the content, or
HMAC-SHA-256 of the same with a key. A file begins with a line of its own whose content names the chain, how many lines
were before and the hash of the last one, so that files can be joined and each can be checked by itself.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

START: Final = bytes(32)
_HEADER: Final = re.compile(rb"fastsec-events 1 (sha256|hmac-sha256) ([0-9]{1,18}) ([0-9a-f]{64})")
_LINE: Final = re.compile(rb"([0-9a-f]{64}) (.*)", re.S)
_NUMBER: Final = re.compile(rb' SqNum="([0-9]{1,10})"')
_NEAR: Final = 1000
_TRACED: Final = 100
FINDINGS_MAX: Final = 1000
_UNKNOWN: Final = "changed, inserted, or records removed before it"


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain.

    Attributes:
        number: lines so far.
        hash: of the last one.
    """

    number: int = 0
    hash: bytes = START


def link(previous: bytes, content: bytes, key: bytes | bytearray | None) -> bytes:
    """The hash of a line."""
    if key is None:
        return hashlib.sha256(previous + content).digest()
    return hmac.digest(key, previous + content, "sha256")


def header(head: Head, key: bytes | bytearray | None) -> bytes:
    """The content of the first line of a file that goes on after ``head``."""
    kind = b"sha256" if key is None else b"hmac-sha256"
    return b"fastsec-events 1 %s %d %s" % (kind, head.number, head.hash.hex().encode())


def append(head: Head, contents: Iterable[bytes], key: bytes | bytearray | None) -> tuple[bytes, Head]:
    """Lines, each with its end, for ``contents``, and the new end of the chain."""
    lines: list[bytes] = []
    last, number = head.hash, head.number
    for content in contents:
        last = link(last, content, key)
        lines.append(b"%s %s\n" % (last.hex().encode(), content))
        number += 1
    return b"".join(lines), Head(number, last)


def sealed(head: Head, key: bytes | bytearray | None) -> bytes:
    """``head`` for a file of its own, that shows whether records are missing at the end."""
    text = b"%018d %s" % (head.number, head.hash.hex().encode())
    mac = START.hex().encode() if key is None else hmac.digest(key, b"head " + text, "sha256").hex().encode()
    return b"%s %s\n" % (text, mac)


def unsealed(text: bytes, key: bytes | bytearray | None) -> Head | None:
    """What ``sealed`` wrote; None if it is damaged or the key does not fit."""
    match = re.fullmatch(rb"([0-9]{18}) ([0-9a-f]{64}) ([0-9a-f]{64})\n", text)
    if match is None:
        return None
    head = Head(int(match[1]), bytes.fromhex(match[2].decode()))
    return head if hmac.compare_digest(sealed(head, key), text) else None


# --- verifying --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with a file.

    Attributes:
        file: its name.
        line: from 1; 0: the file as a whole, or its end.
        text: what.
    """

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}" if self.line else f"{self.file}: {self.text}"


@dataclass(frozen=True, slots=True)
class Verified:
    """The outcome.

    Attributes:
        findings: what is wrong; empty: nothing.
        first: lines of the chain before what was given.
        head: the end of the chain.
        keyed: whether the chain is made with a key.
    """

    findings: tuple[Finding, ...]
    first: int
    head: Head
    keyed: bool


@dataclass(slots=True)
class _File:
    name: str
    lines: Sequence[bytes]
    number: int
    previous: bytes
    keyed: bool


def verify(
    files: Iterable[tuple[str, bytes]], key: bytes | bytearray | None = None, head: Head | None = None
) -> Verified:
    """Check the files of one chain, in any order.

    Arguments:
        files: names and contents.
        key: of a chain made with one.
        head: what is known of its end, if anything.
    """
    findings: list[Finding] = []
    known = []
    for name, data in files:
        file = _opened(name, data, findings)
        if file is not None:
            known.append(file)
    known.sort(key=lambda file: file.number)
    end: Head | None = None
    for file in known:
        if file.keyed != (key is not None):
            text = "was made with a key; give its file" if file.keyed else "was made without a key"
            findings.append(Finding(file.name, 0, text))
            continue
        if end is not None and (file.number, file.previous) != (end.number, end.hash):
            findings.append(Finding(file.name, 1, _gap(end, file)))
        end = _walk(file, key, findings)
    if head is not None and end is not None:
        name = known[-1].name
        if end.number < head.number:
            findings.append(Finding(name, 0, f"records are missing at the end: {head.number - end.number}"))
        elif end.number == head.number and end.hash != head.hash:
            findings.append(Finding(name, 0, "the last record is not the one that was written last"))
    first = known[0].number if known else 0
    return Verified(tuple(findings[:FINDINGS_MAX]), first, end or Head(), bool(known and known[0].keyed))


def _opened(name: str, data: bytes, findings: list[Finding]) -> _File | None:
    if not data:
        findings.append(Finding(name, 0, "is empty; a file of the chain has at least its first line"))
        return None
    lines = data.split(b"\n")
    if lines.pop() != b"":
        findings.append(Finding(name, len(lines) + 1, "the last line is incomplete"))
    match = _LINE.fullmatch(lines[0]) if lines else None
    head = _HEADER.fullmatch(match[2]) if match else None
    if head is None:
        findings.append(Finding(name, 1, "the first line is missing or changed: it has no place in the chain"))
        return None
    return _File(name, lines, int(head[2]), bytes.fromhex(head[3].decode()), head[1] == b"hmac-sha256")


def _gap(end: Head, file: _File) -> str:
    if file.number > end.number:
        return f"does not go on where the file before ends: lines missing between them: {file.number - end.number}"
    return "does not go on where the file before ends: records were removed, added or changed there"


def _walk(file: _File, key: bytes | bytearray | None, findings: list[Finding]) -> Head:
    """Check the links within one file; the end of it."""
    hashes: list[bytes] = []  # as written
    contents: list[bytes] = []
    broken: list[int] = []
    previous = file.previous
    for index, text in enumerate(file.lines):
        match = _LINE.fullmatch(text)
        written = bytes.fromhex(match[1].decode()) if match else b""
        content = match[2] if match else text
        hashes.append(written)
        contents.append(content)
        if not match or not hmac.compare_digest(link(previous, content, key), written):
            broken.append(index)
        previous = written or previous
    for count, index in enumerate(broken[:FINDINGS_MAX]):
        cause = _cause(file, index, hashes, contents, key) if count < _TRACED else _UNKNOWN
        findings.append(Finding(file.name, index + 1, cause))
    return Head(file.number + len(file.lines), previous)


def _cause(
    file: _File, index: int, hashes: Sequence[bytes], contents: Sequence[bytes], key: bytes | bytearray | None
) -> str:
    if not hashes[index]:
        return "no line of the chain: inserted, or its hash was damaged"
    for other in range(max(0, index - _NEAR), min(len(hashes), index + _NEAR)):
        if hashes[other] and other != index and link(hashes[other], contents[index], key) == hashes[index]:
            if other == index - 2:
                return f"line {index} was inserted before this one, or its hash changed"
            return f"out of order: belongs after line {other + 1}"
    numbers = [_number(contents[at]) for at in (index - 1, index)] if index else [None, None]
    before, here = numbers
    if before is not None and here is not None and here > before + 1:
        return f"records removed before it (SqNum {before + 1} to {here - 1}), or it was changed"
    return _UNKNOWN


def _number(content: bytes) -> int | None:
    match = _NUMBER.search(content)
    return int(match[1]) if match else None
