"""The event file: lines in a hash chain, rotated by size, and the counter of records that survives a restart.

``PATH`` is written, ``PATH.1`` to ``PATH.n`` are older, ``PATH.head`` holds the end of the chain and the lock: one
process writes. All this runs in the writer's thread (``fastsec.aio.event_log``).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fastsec.errors import ConfigError
from fastsec.eventlog import chain
from fastsec.eventlog.record import SQNUM_MAX

if TYPE_CHECKING:
    from fastsec.eventlog.record import Record

SIZE: Final = 10 * 1024 * 1024
COUNT: Final = 10
BLOCK: Final = 1024
SYNC: Final = 1.0  # seconds between two fsync
_MODE: Final = 0o600
_NUMBER: Final = re.compile(rb"([0-9]{10}) ([0-9a-f]{8})\n")


def _lock(path: Path, what: str) -> int:
    """A file descriptor of ``path``, locked as long as it is open."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, _MODE)
    except OSError as error:
        raise ConfigError(f"{what} {path}: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise ConfigError(f"{what} {path}: another process writes it") from None
    return descriptor


class Counter:
    """Numbers of records, 1.., that go on after a restart and never come twice, also not after ``kill -9``.

    Numbers are reserved in blocks: what is written down is the number to go on with after a crash. So a crash leaves a
    gap of at most one block, and one fsync serves a block. An orderly end leaves none.

    Arguments:
        path: where; None: there is no counter, all numbers are 0.
    Errors:
        ConfigError: the file cannot be used, or another process does.
    """

    def __init__(self, path: Path | None) -> None:
        self._file = -1
        self._next = self._reserved = 1
        if path is None:
            return
        self._file = _lock(path, "the counter of events")
        self._next = self._reserved = self._read()

    def _read(self) -> int:
        text = os.pread(self._file, 64, 0)
        if not text:
            return 1
        match = _NUMBER.fullmatch(text)
        if match is not None and int(match[2], 16) == zlib.crc32(match[1]) and 1 <= int(match[1]) <= SQNUM_MAX:
            return int(match[1])
        return min(int(time.time()), SQNUM_MAX)  # damaged: above everything that has been counted so far

    def _write(self, number: int) -> None:
        digits = b"%010d" % number
        os.pwrite(self._file, b"%s %08x\n" % (digits, zlib.crc32(digits)), 0)
        os.ftruncate(self._file, 20)
        os.fsync(self._file)

    def next(self) -> int:
        """The number of the next record.

        Errors:
            OSError: the next block cannot be written down.
        """
        if self._file < 0:
            return 0
        number = self._next
        if number == self._reserved:
            reserved = number + BLOCK
            self._write(reserved if reserved <= SQNUM_MAX else 1)
            self._reserved = min(reserved, SQNUM_MAX + 1)
        self._next += 1
        if self._next > SQNUM_MAX:
            self._next = self._reserved = 1
        return number

    def close(self) -> None:
        """Write down where to go on, without a gap."""
        if self._file >= 0:
            with contextlib.suppress(OSError):
                self._write(self._next)
            os.close(self._file)
            self._file = -1


class EventFile:
    """Appends records to a file.

    Arguments:
        path: the file; its directory has to be there.
        size: octets above which it is rotated.
        count: older files kept.
        key: makes the hash chain one that only its owner can make; wiped by ``close``.
        report: told what is found wrong with the file, on opening it and later.
    Errors:
        ConfigError: the file cannot be used, or another process does.
    """

    def __init__(
        self,
        path: Path,
        *,
        size: int = SIZE,
        count: int = COUNT,
        key: bytes | None = None,
        report: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._path = path
        self._limit = size
        self._count = count
        self._key = None if key is None else bytearray(key)
        self._file = -1
        self._size = 0
        self._dirty = False
        self._synced = time.monotonic()
        self._report = report
        self._head_file = _lock(Path(f"{path}.head"), "the end of the event file")
        self._head = chain.Head()
        try:
            self._begin()
        except OSError as error:
            self.close()
            raise ConfigError(f"the event file {path}: {error.strerror}") from None

    # --- as an output ------------------------------------------------------------------------------------------------
    def write(self, records: list[tuple[Record, bytes]]) -> None:
        """Append lines, and take out of ``records`` what was appended.

        Errors:
            OSError: what is left in ``records`` is not in the file.
        """
        self._look()
        if not self._size:
            self._append([chain.header(self._head, self._key)])
        pending: list[bytes] = []
        octets = 0
        for _, line in list(records):
            more = len(line) + 66
            if self._size + octets + more > self._limit and self._size + octets > 256:
                self._append(pending)
                del records[: len(pending)]
                pending, octets = [], 0
                self._rotate()
            pending.append(line)
            octets += more
        self._append(pending)
        records.clear()
        if time.monotonic() - self._synced >= SYNC:
            self.flush()

    def flush(self) -> None:
        """Have the system write to the disk what was appended."""
        if self._dirty and self._file >= 0:
            os.fsync(self._file)
            self._dirty = False
        self._synced = time.monotonic()

    def close(self) -> None:
        """Close the file and wipe the key."""
        with contextlib.suppress(OSError):
            self.flush()
        for descriptor in (self._file, self._head_file):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._head_file = -1
        if self._key is not None:
            self._key[:] = bytes(len(self._key))

    # --- opening -----------------------------------------------------------------------------------------------------
    def _begin(self) -> None:
        known = chain.unsealed(os.pread(self._head_file, 256, 0), self._key)
        stated = os.fstat(self._head_file).st_size > 0
        if stated and known is None:
            self._report(f"{self._path}.head is damaged, or was made with another key")
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            data = b""
        if not data:
            if known is not None and known.number and not self._rotating(known):
                self._report(f"{self._path} is gone or empty")
            self._head = known or chain.Head()
            self._open()
            return
        torn = len(data) - data.rfind(b"\n") - 1
        found = chain.verify([(str(self._path), data[: len(data) - torn])], self._key)
        if found.findings or (known is not None and found.head.number < known.number):
            missing = known.number - found.head.number if known else 0
            at_end = f"{self._path}: records are missing at the end: {missing}"
            self._report(str(found.findings[0]) if found.findings else at_end)
            self._head = known or found.head
            self._shift()  # what was found stays as it is, for whoever looks into it
            self._open()
            return
        if known is not None and known.number == found.head.number and known.hash != found.head.hash:
            self._report(f"{self._path}: the last record is not the one that was written last")
        self._head = found.head
        self._open()
        if torn:
            # A write that a crash cut short; its record never counted.
            os.ftruncate(self._file, len(data) - torn)
            self._size = len(data) - torn

    def _rotating(self, known: chain.Head) -> bool:
        """Whether a rotation was cut short by a crash: the file before ends where the chain does."""
        try:
            data = Path(f"{self._path}.1").read_bytes()
        except OSError:
            return False
        return chain.verify([("", data)], self._key).head == known

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        if self._file >= 0:
            os.close(self._file)
        self._file = os.open(self._path, flags, _MODE)
        self._size = os.fstat(self._file).st_size
        if not self._size:
            self._append([chain.header(self._head, self._key)])

    # --- writing -----------------------------------------------------------------------------------------------------
    def _append(self, contents: list[bytes]) -> None:
        if not contents:
            return
        data, head = chain.append(self._head, contents, self._key)
        try:
            done = os.write(self._file, data)
            while done < len(data):
                done += os.write(self._file, data[done:])
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise
        self._size += len(data)
        self._head = head
        self._dirty = True
        os.pwrite(self._head_file, chain.sealed(head, self._key), 0)

    def _look(self) -> None:
        """Somebody may have taken the file away, cut it or written to it."""
        try:
            there = os.stat(self._path, follow_symlinks=False)
            own = os.fstat(self._file)
            same = (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino)
        except OSError:
            same = False
        if not same:
            self._report(f"{self._path} was taken away while it was written")
            self._open()
        elif own.st_size != self._size:
            self._report(f"{self._path} was changed by somebody else: {own.st_size} octets, {self._size} were written")
            self._rotate()

    def _rotate(self) -> None:
        self.flush()
        self._shift()
        self._open()

    def _shift(self) -> None:
        for number in range(self._count, 0, -1):
            older = Path(f"{self._path}.{number}")
            if number == self._count:
                older.unlink(missing_ok=True)
            elif older.exists():
                os.rename(older, f"{self._path}.{number + 1}")
        os.rename(self._path, f"{self._path}.1")
