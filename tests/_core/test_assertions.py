"""The assertions of a checked build (make debug, make asan) fire when an invariant of _core is broken.

The invariants cannot be broken from Python; tests/native/breaker.pyx does it at the C level.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from types import ModuleType

import pytest
from guardkit import BY_NAME, T0, appl

import native
from fastsec._core.crypto import Secret
from fastsec._core.cursor import Reader, Writer
from fastsec._core.osidata import OsiChannel

pytestmark = pytest.mark.skipif(
    os.environ.get("FASTSEC_CHECKED") != "1", reason="only a checked build has assertions: make debug, make asan"
)
HMAC = BY_NAME["hmac"]


@pytest.fixture(scope="module")
def breaker() -> ModuleType:
    folder = str(native.build("breaker"))
    sys.path.append(folder)
    try:
        return importlib.import_module("breaker")
    finally:
        sys.path.remove(folder)


def fires(message: str, call: Callable[..., object], *facts: object) -> None:
    with pytest.raises(AssertionError, match=message):
        call(*facts)


class unraisable:
    """Expects one exception that a function without a way to raise it has reported."""

    def __init__(self, kind: type[BaseException], message: str) -> None:
        self.kind, self.message = kind, message

    def __enter__(self) -> None:
        self.seen: list[object] = []
        self.hook, sys.unraisablehook = sys.unraisablehook, lambda facts: self.seen.append(facts.exc_value)

    def __exit__(self, *_: object) -> None:
        sys.unraisablehook = self.hook
        assert [type(one) for one in self.seen] == [self.kind]
        assert self.message in str(self.seen[0])


def test_reader(breaker: ModuleType) -> None:
    reader = Reader(b"\x30\x02\x05\x00\x05\x00")
    reader.next()
    breaker.reader_end(reader)
    with unraisable(AssertionError, "a level outside its octets"):  # place() has no way to raise it
        reader.enter()


def test_writer(breaker: ModuleType) -> None:
    writer = Writer()
    writer.null()
    breaker.writer_used(writer)
    fires("past the buffer", writer.null)
    writer = Writer()
    writer.null()
    breaker.writer_buffer(writer)
    fires("past the buffer", writer.null)
    writer = Writer()
    writer.begin(0x30)
    breaker.writer_opened(writer)
    fires("patched length", writer.end)


def test_secret(breaker: ModuleType) -> None:
    secret = Secret.from_bytes(b"k" * 16)
    breaker.secret_size(secret)
    fires("wiped Secret with octets", secret.wipe)
    fires("wiped Secret with octets", secret.reveal)
    breaker.secret_size_back(secret)


@pytest.mark.parametrize("kind", BY_NAME.values(), ids=str)
def test_guards(kind, breaker: ModuleType) -> None:
    data = appl(40)
    seal, guard = kind.seal_guard(), kind.open_guard()
    pdu = seal.seal(data, T0)
    guard.open(pdu, T0)
    fires("out of order", breaker.open_commit, guard)
    breaker.seal_seq(seal)
    fires("seq out of range", seal.seal, data, T0)
    for one, alive in ((seal, breaker.seal_alive), (guard, breaker.open_alive)):
        one.wipe()
        alive(one)
    fires("without the keys", seal.seal, data, T0 + 1)
    fires("without the keys", guard.open, pdu, T0)


def test_channel(breaker: ModuleType) -> None:
    for broken, mend in (
        (breaker.channel_tail, breaker.channel_tail_back),
        (breaker.channel_parts, breaker.channel_parts_back),
    ):
        channel = OsiChannel(1000)
        broken(channel)
        fires("buffers that are not what", channel.feed, b"", T0)
        fires("buffers that are not what", channel.next)
        mend(channel)
