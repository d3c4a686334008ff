"""The engine's ``Endpoint`` of each local identity of this process, and its replay memory on disk.

All connections of one identity, dialled or accepted, whatever their policy, have to share association numbers and
replay memory (62351-4 AssoID and flood rules); ``endpoint_for`` sees to it.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import errno
import fcntl
import logging
import os
from collections import OrderedDict
from typing import Final

from fastsec.config import Config
from fastsec.errors import ConfigError
from fastsec.instant import now
from fastsec.peers import Endpoint
from fastsec.pki.identity import OsiName

CONFIGS_KEPT: Final = 256  # per identity; each reload of certificates makes a new one
COMPACT_ABOVE: Final = 8 * 1024 * 1024

_log = logging.getLogger("fastsec.replay")


class ReplayFile:
    """The replay memory of one identity on disk: loaded at the start, appended to before a request is answered.

    A lock file beside it keeps a second process away. Appended lines survive the end of the process, not that of the
    operating system. A file that could not be kept complete is removed, and made anew when that is possible again.

    Arguments:
        path: the file; if it does not exist it is made, and times before the start are refused this once.
        endpoint: whose memory it is; takes over what the file has.
    Errors:
        ConfigError: unreadable, damaged, or in use by another process.
    """

    __slots__ = ("_behind", "_endpoint", "_file", "_lock", "_size", "path")

    def __init__(self, path: str, endpoint: Endpoint) -> None:
        self.path = path
        self._endpoint = endpoint
        self._file = self._lock = -1
        self._size = 0
        self._behind = False
        try:
            self._lock = os.open(path + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ConfigError(f"replay file {path}: in use by another process; give each its own") from None
            self._load()
            self._compact()
        except OSError as error:
            self.close()
            raise ConfigError(f"replay file {path}: {error.strerror or error}") from None
        except ConfigError:
            self.close()
            raise

    def _load(self) -> None:
        try:
            with open(self.path, "rb") as file:
                lines = file.read().decode("ascii", "replace").splitlines(keepends=True)
        except FileNotFoundError:
            lines = None  # nothing is known of the time before
        if lines and not lines[-1].endswith("\n"):
            lines.pop()  # the process ended while it wrote
        try:
            self._endpoint.load(lines, now())
        except ConfigError as error:
            raise ConfigError(
                f"replay file {self.path}: line {error.line} is damaged; remove the file, then requests from before "
                "the start are refused instead"
            ) from None

    def _compact(self) -> None:
        """Write only what still counts, to a new file that then takes the old one's place."""
        fresh = self.path + ".new"
        data = self._endpoint.dump(now()).encode("ascii")
        with open(fresh, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, self.path)
        if self._file >= 0:
            os.close(self._file)
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._size = len(data)

    def append(self, lines: str) -> None:
        """Add lines, which are in the endpoint's memory too; a full disk is logged and does not stop operation."""
        data = lines.encode("ascii")
        try:
            if self._behind:
                self._compact()
                self._behind = False
                _log.warning("replay file %s can be written again", self.path)
                return
            if os.write(self._file, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._size += len(data)
            if self._size > COMPACT_ABOVE:
                self._compact()
        except OSError as error:
            if not self._behind:
                _log.error("replay file %s cannot be written: %s; trying on", self.path, error.strerror or error)
            self._behind = True
            with contextlib.suppress(OSError):  # after a restart none is better than one that lacks something
                os.unlink(self.path)

    def close(self) -> None:
        """Give the files back."""
        for descriptor in (self._file, self._lock):
            if descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        self._file = self._lock = -1


class Identity:
    """One local identity: its first endpoint, and those that share numbers and memory with it."""

    __slots__ = ("_first", "_siblings", "file")

    def __init__(self, config: Config) -> None:
        self._first = Endpoint(config, now=now())
        self._siblings: OrderedDict[tuple[int, bool], tuple[Config, Endpoint]] = OrderedDict()
        self.file: ReplayFile | None = None

    def endpoint(self, config: Config, *, tls: bool = False) -> Endpoint:
        """The endpoint with ``config``; ``tls``: there is TLS below, which its handshakes then say."""
        if config.replay_file is not None and self.file is None:
            self.file = ReplayFile(config.replay_file, self._first)
            for _, endpoint in self._siblings.values():
                endpoint.refuse_before = self._first.refuse_before
        key = (id(config), tls)
        known = self._siblings.get(key)
        if known is not None and known[0] is config:
            return known[1]
        sibling = copy.copy(self._first)  # numbers, memory and limits stay shared
        sibling.config = dataclasses.replace(config, tls_protected=True) if tls else config
        sibling.half_open = 0
        self._siblings[key] = (config, sibling)
        if len(self._siblings) > CONFIGS_KEPT:
            self._siblings.popitem(last=False)
        return sibling

    def keep(self) -> None:
        """Write down what the replay memory has learnt since the last call."""
        lines = self._first.replay.journal()
        if lines and self.file is not None:
            self.file.append(lines)


_identities: dict[OsiName, Identity] = {}


def identity_of(config: Config) -> Identity:
    """The identity of ``config``, the same object for every configuration with this name.

    Errors:
        ConfigError: the replay file cannot be used.
    """
    name = config.credential.name
    identity = _identities.get(name)
    if identity is None:
        identity = Identity(config)
        identity.endpoint(config)  # the replay file may refuse
        _identities[name] = identity
    return identity


def forget_identities() -> None:
    """Drop all identities and close their files: for tests, and before a fork."""
    for identity in _identities.values():
        if identity.file is not None:
            identity.file.close()
    _identities.clear()
