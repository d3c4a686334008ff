"""The reader of ClientHellos: what OpenSSL's say, and octets that are none."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tlspeers import client_hello

from fastsec.aio.tls_hello import RECORD_MAX, read_hello


def by_openssl(**settings) -> bytes:
    """The ClientHello that OpenSSL makes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    for name, value in settings.items():
        setattr(context, name, value)
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
    return outgoing.read()


def test_of_openssl() -> None:
    hello = read_hello(by_openssl())
    assert hello is not None
    assert hello.highest == 0x0304
    assert {0x1301, 0x1302} <= set(hello.suites)
    assert hello.secure_renegotiation
    assert hello.encrypt_then_mac
    assert hello.psk_modes == (1,)
    assert not hello.psk
    assert not hello.early_data
    assert hello.ticket == 0
    assert hello.session == 32
    assert 0x0403 in (hello.signatures or ())
    older = read_hello(by_openssl(maximum_version=ssl.TLSVersion.TLSv1_2))
    assert older is not None
    assert older.versions == (0x0303,)
    assert older.session == 0


def test_by_hand() -> None:
    named = b"\x02\x00\x02XY" + b"\x00" + b"\x01" + bytes(20)
    trusted = len(named).to_bytes(2, "big") + named
    hello = read_hello(client_hello(0x0302, (1, 0x00FF), {0xFF01: None, 13: None, 35: None, 3: trusted}))
    assert hello is not None
    assert (hello.versions, hello.suites, hello.secure_renegotiation) == ((0x0302,), (1, 0x00FF), True)
    assert hello.trusted == ((2, b"XY"), (0, b""), (1, bytes(20)))
    assert hello.signatures is None
    assert hello.ticket is None
    grease = read_hello(client_hello(extensions={43: b"\x06\x0a\x0a\x03\x04\x03\x03", 47: b"\x00\x05\x00\x03abc"}))
    assert grease.versions == (0x0304, 0x0303)
    assert grease.authorities == (b"abc",)
    assert read_hello(bytes.fromhex("802e010002")).versions == (2,)


@pytest.mark.parametrize(
    "octets", [b"", b"\x16", b"GET / HTTP/1.0\r\n", b"\x16\x03\x01\x00\x01\x02", b"\x15\x03\x01\x00\x02\x02\x28"]
)
def test_what_is_none(octets) -> None:
    assert read_hello(octets) is None


def test_cut_anywhere() -> None:
    whole = client_hello()
    assert read_hello(whole) is not None
    for end in range(len(whole)):
        assert read_hello(whole[:end]) is None


@given(st.binary(max_size=300), st.integers(0, 120), st.integers(0, 255))
def test_never_fails(octets, at, value) -> None:
    read_hello(octets)
    read_hello(b"\x16\x03\x01" + len(octets).to_bytes(2, "big") + octets)
    changed = bytearray(client_hello())
    changed[at % len(changed)] = value
    read_hello(bytes(changed))


def test_large_ones_are_bounded() -> None:
    many = client_hello(suites=tuple(range(1000)))
    assert read_hello(many) is None
    assert read_hello(many + bytes(10 * RECORD_MAX)) is None
