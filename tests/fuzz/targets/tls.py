"""The ClientHello reader: any octets give None or a Hello whose parts are bounded."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterable

from fastsec.aio.tls_checks import failure_events, hello_events, offered_version
from fastsec.aio.tls_hello import LIST_MAX, read_hello
from fastsec.aio.tls_profile import TLSRules
from fuzz.kit import Target

_RULES = TLSRules()


def client_hello(data: bytes) -> None:
    """Read, and make all events of it."""
    hello = read_hello(data)
    if hello is None:
        return
    assert hello.versions
    lists = (hello.versions, hello.suites, hello.psk_modes, hello.signatures or (), hello.trusted, hello.authorities)
    assert all(len(each) <= LIST_MAX for each in lists)
    offered_version(hello)
    for version in (None, "TLSv1.2", "TLSv1.3"):
        for event in hello_events(hello, _RULES, "peer", version=version, cipher="AES128-SHA256"):
            assert all(len(value) <= 128 for _, value in event.params)
    failure_events(ssl.SSLError("no shared cipher"), _RULES, hello, "peer", server_side=True)


def _seeds() -> Iterable[bytes]:
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.maximum_version = version
        context.set_alpn_protocols(["fastsec-rehandshake/1"])
        outgoing = ssl.MemoryBIO()
        with contextlib.suppress(ssl.SSLWantReadError):
            context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost").do_handshake()
        yield outgoing.read()
    yield bytes.fromhex("802e0100020015000000100100800300800700c0060040020080040080") + bytes(24)
    lists = bytes.fromhex("000300080000000301020304002f00070005000341424300290000002a00000023000a") + bytes(10)
    body = b"\x03\x03" + bytes(32) + b"\x00\x00\x04\x00\x3b\xc0\x2b\x01\x00" + len(lists).to_bytes(2, "big") + lists
    yield b"\x16\x03\x01" + (len(body) + 4).to_bytes(2, "big") + b"\x01" + len(body).to_bytes(3, "big") + body


def load() -> dict[str, Target]:
    """The targets of this module."""
    return {"client_hello": Target(client_hello, 2048, _seeds)}
