"""Octets of a file in order, with their place in it, and what is said where the file is damaged."""

from __future__ import annotations

from typing import BinaryIO, Final

CHUNK: Final = 1 << 16


class Damage(Exception):
    """The file is not what it should be.

    Arguments:
        where: place in the file, e.g. ``octet 24``.
        why: what is wrong there.
    """

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"{where}: {why}")
        self.where = where
        self.why = why


class Source:
    """Reads a binary stream once, from front to back.

    Attributes:
        offset: octets taken so far.
    """

    def __init__(self, file: BinaryIO) -> None:
        # What a pipe has now, not only when a whole chunk is there: somebody may be watching.
        self._read = getattr(file, "read1", file.read)
        self._buffer = b""
        self._at = 0  # what lies before it has been taken
        self.offset = 0

    def peek(self, count: int) -> bytes:
        """The next ``count`` octets, fewer at the end, without taking them."""
        if len(self._buffer) - self._at < count:
            parts = [self._buffer[self._at :]]
            lacking = count - len(parts[0])
            while lacking > 0 and (more := self._read(max(CHUNK, lacking))):
                parts.append(more)
                lacking -= len(more)
            self._buffer, self._at = b"".join(parts), 0
        return self._buffer[self._at : self._at + count]

    def take(self, count: int, what: str) -> bytes:
        """Exactly ``count`` octets. Damage if the file ends before."""
        octets = self.peek(count)
        if len(octets) < count:
            raise Damage(f"octet {self.offset}", f"the file ends within {what}: {count} octets, {len(octets)} there")
        self._at += count
        self.offset += count
        return octets

    def skip(self, count: int, what: str) -> None:
        """Take ``count`` octets without keeping them."""
        while count:
            part = min(count, CHUNK)
            self.take(part, what)
            count -= part

    def chunk(self) -> bytes:
        """What comes next, up to 64 KiB; b"" at the end."""
        self.peek(1)
        octets = self._buffer[self._at : self._at + CHUNK]
        self._at += len(octets)
        self.offset += len(octets)
        return octets

    def rest(self, maximum: int) -> bytes:
        """All that is left. Damage beyond ``maximum`` octets."""
        parts = []
        size = 0
        while octets := self.chunk():
            size += len(octets)
            if size > maximum:
                raise Damage(f"octet {self.offset}", f"more than {maximum >> 20} MiB of it; use a pcap file")
            parts.append(octets)
        return b"".join(parts)
