"""The engine's ``Endpoint`` of each local identity of this process.

All connections of one identity, dialled or accepted, whatever their policy, have to share association numbers and
replay memory (62351-4 AssoID and flood rules); ``endpoint_for`` sees to it.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import copy
import dataclasses
import os
from typing import Final
from weakref import WeakValueDictionary, ref

from fastsec.aio.replay_file import ReplayFile
from fastsec.config import Config
from fastsec.errors import ConfigError, LimitReached
from fastsec.instant import now
from fastsec.peers import Endpoint, Refusals
from fastsec.pki.identity import OsiName

WATCH_EVERY: Final = 1.0  # seconds
TIDIED_AT_ONCE: Final = 64  # peers


class Identity:
    """One local identity: its first endpoint, and those that share numbers and memory with it."""

    __slots__ = ("__weakref__", "_first", "_siblings", "_watched", "file")

    def __init__(self, config: Config) -> None:
        self._first = Endpoint(config, now=now(), worker=config.worker)
        # Those in use. One that is replaced takes its private key with it, or the sessions of its token.
        self._siblings: WeakValueDictionary[tuple[int, bool], Endpoint] = WeakValueDictionary()
        self._watched: ref[asyncio.AbstractEventLoop] | None = None
        self.file: ReplayFile | None = None

    @property
    def refusals(self) -> Refusals:
        """What its flood rules have refused so far, whatever the configuration."""
        return self._first.refusals

    def endpoint(self, config: Config, *, tls: bool = False) -> Endpoint:
        """The endpoint with ``config``; ``tls``: there is TLS below, which its handshakes then say."""
        self._agree(config)
        if config.replay_file is not None and self.file is None:
            self.file = ReplayFile(
                config.replay_file, self._first.replay, config.credential.name.oid, self._first.worker
            )
        key = (id(config), tls)
        known = self._siblings.get(key)
        if known is not None and known.made_for is config:
            return known
        self._first.config = self._first.made_for = config
        sibling = copy.copy(self._first)  # numbers, memory and limits stay shared
        sibling.config = dataclasses.replace(config, tls_protected=True) if tls else config
        sibling.half_open = 0
        self._siblings[key] = sibling
        return sibling

    def _agree(self, config: Config) -> None:
        """ConfigError if a configuration of this identity says otherwise about what they all share."""
        if config.worker != self._first.worker:
            raise ConfigError(
                f"worker = {config.worker}, but {self._first.worker} in another configuration of "
                f"{config.credential.name} in this process: one process has one place"
            )
        if config.replay_file is not None and self.file is not None and config.replay_file != self.file.path:
            raise ConfigError(
                f"replay file {config.replay_file}: {config.credential.name} has {self.file.path} already; "
                "give all its configurations the same one"
            )

    def keep(self) -> None:
        """Write down what the replay memory has learnt since the last call."""
        with contextlib.suppress(LimitReached):  # logged; it is tried again
            self._first.replay.flush()

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on read every second what other processes have added, so that it never is much."""
        if self._first.worker[1] > 1 and (self._watched is None or self._watched() is not loop):
            self._watched = ref(loop)
            loop.call_later(WATCH_EVERY, _watch, ref(self), ref(loop))

    def catch_up(self) -> None:
        """Read what other processes have added, and forget what has expired."""
        memory = self._first.replay
        with contextlib.suppress(LimitReached), memory:
            for _ in range(TIDIED_AT_ONCE):
                memory.tidy(now().utc_ms)


def _watch(watched: ref[Identity], on: ref[asyncio.AbstractEventLoop]) -> None:
    identity, loop = watched(), on()
    if identity is not None and loop is not None and identity.file is not None:
        identity.catch_up()
        loop.call_later(WATCH_EVERY, _watch, watched, on)


_identities: dict[OsiName, Identity] = {}


def refusals() -> list[Refusals]:
    """What the flood rules of each identity have refused so far."""
    return [identity.refusals for identity in list(_identities.values())]


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
    """Drop all identities and close their files: for tests, and at the end of a process."""
    for identity in _identities.values():
        if identity.file is not None:
            identity.file.close()
            identity.file = None
    _identities.clear()


def _forget_copies() -> None:
    """In a forked process: what was opened belongs to the other one, which goes on with it."""
    for identity in _identities.values():
        if identity.file is not None:
            identity.file.abandon()
    _identities.clear()


atexit.register(forget_identities)
os.register_at_fork(after_in_child=_forget_copies)
