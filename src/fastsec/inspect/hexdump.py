"""Octets out of text: hex digits with or without white space, or a dump with offsets and characters beside it."""

from __future__ import annotations

import re
from typing import Final

from fastsec.inspect.source import Damage

_OFFSET: Final = re.compile(r"\s*(?:0x)?([0-9A-Fa-f]{4,16})(?::|\s|$)\s*(.*)")
_TOKEN: Final = re.compile(r"(?:0x|\\x)?((?:[0-9A-Fa-f]{2})+)[,;:]?$")
_JOINTS: Final = re.compile(r"(?<=[0-9A-Fa-f]{2})[:\-](?=[0-9A-Fa-f]{2})")
_LINE_MAX: Final = 1 << 22
_HALF_LINE: Final = 8


def is_hex(head: bytes) -> bool:
    """Whether a file that begins so is text with hex digits."""
    if not head or not all(octet in b"\t\n\r" or 32 <= octet < 127 for octet in head):
        return False
    for line in head.decode("ascii").splitlines():
        text = line.strip()
        if text and not text.startswith("#"):
            return re.match(r"(?:0x|\\x)?[0-9A-Fa-f]{2}", text) is not None
    return False


def read_hex(octets: bytes) -> bytes:
    """The octets that the text means; lines that begin with # are comments.

    Errors:
        Damage: something else than hex digits, with its line.
    """
    out = bytearray()
    try:
        whole_text = octets.decode("ascii")
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        raise Damage(f"line {line}", "characters that are not ASCII") from None
    lines = [
        (number, line)
        for number, line in enumerate(whole_text.splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if lines and _is_offset(lines[0][1]):
        _read_dump(lines, out)
        return bytes(out)
    half = ""
    for number, text in lines:
        digits = half + "".join(_digits(token, number) for token in _JOINTS.sub(" ", text).split())
        whole = len(digits) & ~1
        out += bytes.fromhex(digits[:whole])
        half = digits[whole:]
    if half:
        raise Damage(f"line {lines[-1][0]}", "an odd number of hex digits")
    return bytes(out)


def _digits(token: str, number: int) -> str:
    text = token.rstrip(",;")
    for prefix in ("0x", "0X", "\\x"):
        text = text.removeprefix(prefix)
    text = text.replace("\\x", "")
    if not re.fullmatch(r"[0-9A-Fa-f]*", text):
        raise Damage(f"line {number}", "something that is not hex digits")
    return text


def _is_offset(line: str) -> bool:
    """Whether a first line begins with an offset of zero: no SecPDU and no TPKT begins with two zero octets."""
    match = _OFFSET.match(line)
    return match is not None and int(match[1], 16) == 0 and bool(match[2])


def _read_dump(lines: list[tuple[int, str]], out: bytearray) -> None:
    """hexdump -C, xxd, od -A x -t x1, Wireshark's bytes: offset, octets, and perhaps characters."""
    rows: list[tuple[int, int, str]] = []
    for number, line in lines:
        match = _OFFSET.match(line[:_LINE_MAX])
        if match is None:
            raise Damage(f"line {number}", "a line without an offset")
        rows.append((number, int(match[1], 16), match[2]))
    base = len(out)
    last = 16
    for index, (number, offset, rest) in enumerate(rows):
        following = rows[index + 1][1] if index + 1 < len(rows) else None
        if offset == 0:
            base = len(out)
        elif offset == len(out) - base and not rest.strip():
            continue  # hexdump ends with the size alone
        elif offset != len(out) - base:
            raise Damage(f"line {number}", f"offset {offset:x} where {len(out) - base:x} should follow")
        room = following - offset if following is not None and following > offset else last
        octets = _row(rest, room)
        if following is not None and following > offset and len(octets) != room:
            raise Damage(f"line {number}", f"{len(octets)} octets where the offsets say {room}")
        if following is not None and following > offset:
            last = room
        out += octets


def _row(rest: str, room: int) -> bytes:
    """The octets of one line; the characters beside them may look like octets too."""
    if "|" in rest:
        return _octets(rest.partition("|")[0], room)
    # Two spaces part the octets from the characters, but in some dumps also the halves of a line.
    first, *more = re.split(r"\s{2,}", rest.strip())
    octets = _octets(first, room)
    if more and len(octets) == _HALF_LINE == len(first.split()):
        characters = "".join(chr(octet) if 32 <= octet < 127 else "." for octet in octets)
        if more[0] != characters:
            octets += _octets(more[0], room - len(octets))
    return octets


def _octets(text: str, room: int) -> bytes:
    octets = b""
    for token in text.split():
        match = _TOKEN.match(token)
        if match is None or len(octets) + len(match[1]) // 2 > room:
            break
        octets += bytes.fromhex(match[1])
    return octets
