"""A reader of syslog lines written from the grammar of RFC 5424, section 6, octet by octet: the oracle of the tests."""

from __future__ import annotations

from dataclasses import dataclass


class Malformed(ValueError):
    """The line does not follow the grammar."""


@dataclass(frozen=True)
class Message:
    priority: int
    timestamp: str
    hostname: str
    app_name: str
    procid: str
    msgid: str
    elements: list[tuple[str, list[tuple[str, str]]]]
    rest: bytes

    @property
    def params(self) -> dict[str, str]:
        """The parameters of the first element; each name stands once."""
        (first, *_) = self.elements
        assert len({name for name, _ in first[1]}) == len(first[1])
        return dict(first[1])


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, octet: bytes) -> None:
        if self.data[self.at : self.at + 1] != octet:
            raise Malformed(f"{octet!r} expected at {self.at}")
        self.at += 1

    def word(self, maximum: int, *, without: bytes = b"") -> str:
        """1..maximum octets of PRINTUSASCII."""
        start = self.at
        while self.at < len(self.data) and 33 <= self.data[self.at] <= 126 and self.data[self.at] not in without:
            self.at += 1
        found = self.data[start : self.at]
        if not 1 <= len(found) <= maximum:
            raise Malformed(f"{found!r} at {start}")
        return found.decode("ascii")

    def value(self) -> str:
        self.take(b'"')
        found = bytearray()
        while True:
            octet = self.data[self.at : self.at + 1]
            if octet == b"":
                raise Malformed("the value does not end")
            self.at += 1
            if octet == b'"':
                return found.decode("utf-8")
            if octet == b"]":
                raise Malformed("a bracket that is not escaped")
            if octet == b"\\":
                octet = self.data[self.at : self.at + 1]
                if octet not in (b'"', b"\\", b"]"):
                    raise Malformed("a backslash before something else")
                self.at += 1
            found += octet


def parse(line: bytes) -> Message:
    reader = _Reader(line)
    reader.take(b"<")
    priority = reader.word(3, without=b">")
    reader.take(b">")
    reader.take(b"1")
    words = []
    for maximum in (32, 255, 48, 128, 32):
        reader.take(b" ")
        words.append(reader.word(maximum))
    reader.take(b" ")
    elements: list[tuple[str, list[tuple[str, str]]]] = []
    while line[reader.at : reader.at + 1] == b"[":
        reader.take(b"[")
        name = reader.word(32, without=b'=]"')
        params = []
        while line[reader.at : reader.at + 1] == b" ":
            reader.take(b" ")
            key = reader.word(32, without=b'=]"')
            reader.take(b"=")
            params.append((key, reader.value()))
        reader.take(b"]")
        elements.append((name, params))
    if not elements:
        raise Malformed("no structured data")
    return Message(int(priority), *words, elements, line[reader.at :])
