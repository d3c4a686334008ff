"""Frames that wait for the collector, in memory and, where there is a directory, also on disk for the next start."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
import threading
from collections import deque
from pathlib import Path
from typing import Final

from fastsec.eventlog.limiter import RESERVE

LIMIT: Final = 16 * 1024 * 1024
SEGMENT: Final = 64 * 1024
_NAME: Final = re.compile(r"spool-([0-9]{15})")
_FRAME: Final = re.compile(rb"([1-9][0-9]{0,5}) ")

_log = logging.getLogger("fastsec.events.syslog")


class Spool:
    """A queue of frames, each with a number. Frames stay until they are done, so that they can be sent again.

    On disk it is a row of files, each deleted when all its frames are done. So after a crash some come again, none is
    lost. When it is full, what is new is refused, the less severe first: nobody can push older records out.

    Arguments:
        limit: octets.
        directory: where; made if missing. None: memory only.
    Attributes:
        refused: frames refused so far.
    """

    def __init__(self, limit: int = LIMIT, directory: Path | None = None) -> None:
        self._limit = limit
        self._directory = directory
        self._lock = threading.Lock()
        self._frames: deque[bytes] = deque()
        self._octets = 0
        self._first = 0
        self.refused = 0
        self._segments: deque[tuple[Path, int]] = deque()  # and the number after their last frame
        self._serial = 0  # of the next file
        self._file = -1
        self._written = 0
        self._unwritten: list[bytes] = []
        if directory is not None:
            self._load(directory)

    @property
    def first(self) -> int:
        """Number of the oldest frame."""
        return self._first

    @property
    def next(self) -> int:
        """Number that the next frame gets."""
        return self._first + len(self._frames)

    @property
    def kept(self) -> bool:
        """True if what is left survives the end of the process."""
        return self._directory is not None

    def append(self, frame: bytes, severity: str) -> bool:
        """Take ``frame``; False: there is no room for one of this severity. ``sync`` is due afterwards."""
        with self._lock:
            if self._octets + len(frame) > self._limit * (1 - RESERVE.get(severity, 0.0)):
                self.refused += 1
                return False
            self._frames.append(frame)
            self._octets += len(frame)
            if self._directory is not None:
                self._unwritten.append(frame)
            return True

    def read(self, number: int, octets: int) -> list[bytes]:
        """Frames from ``number`` on: at least one if there is one, together not much more than ``octets``."""
        found: list[bytes] = []
        with self._lock:
            for frame in itertools.islice(self._frames, max(0, number - self._first), None):
                found.append(frame)
                octets -= len(frame)
                if octets <= 0:
                    break
        return found

    def done(self, number: int) -> None:
        """Frames below ``number`` need not be sent again."""
        with self._lock:
            while self._frames and self._first < number:
                self._octets -= len(self._frames.popleft())
                self._first += 1
            while self._segments and self._segments[0][1] <= self._first:
                path, _ = self._segments.popleft()
                if not self._segments:
                    self._finish()
                with contextlib.suppress(OSError):
                    path.unlink()

    # --- on disk -----------------------------------------------------------------------------------------------------
    def sync(self) -> None:
        """Write to disk what was taken."""
        with self._lock:
            frames, self._unwritten = self._unwritten, []
            if not frames or self._directory is None:
                return
            number = self.next - len(frames)
            try:
                for frame in frames:
                    number += 1
                    if number <= self._first:
                        continue  # sent and done meanwhile
                    if self._file < 0 or self._written >= SEGMENT:
                        self._begin(self._directory)
                    os.write(self._file, frame)
                    self._written += len(frame)
                    self._segments[-1] = (self._segments[-1][0], number)
            except OSError as error:
                _log.error("the spool in %s cannot be written: %s", self._directory, error.strerror)

    def _begin(self, directory: Path) -> None:
        self._finish()
        path = directory / f"spool-{self._serial:015d}"
        self._serial += 1
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(path, flags, 0o600)
        self._segments.append((path, self.next))

    def _finish(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file, self._written = -1, 0

    def _load(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        found = sorted(path for path in directory.iterdir() if _NAME.fullmatch(path.name))
        for path in found:
            for frame in _frames(path.read_bytes()):
                self._frames.append(frame)
                self._octets += len(frame)
            self._segments.append((path, len(self._frames)))
            self._serial = int(path.name.partition("-")[2]) + 1

    def close(self) -> None:
        """Write and close what is open; what is on disk stays there."""
        self.sync()
        with self._lock:
            self._finish()


def _frames(data: bytes) -> list[bytes]:
    """The whole frames at the beginning of ``data``."""
    found: list[bytes] = []
    at = 0
    while match := _FRAME.match(data, at):
        end = match.end() + int(match[1])
        if end > len(data):
            break
        found.append(data[at:end])
        at = end
    return found
