"""The reference itself: published vectors, and two of its peers with each other."""

from __future__ import annotations

import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from reference.keys import P_14, DhKey, Private, hkdf
from reference.peer import ReferencePeer
from reference.secpdu import AES, HMAC_SHA256, NULL
from reference.tlv import Fault, bits, integer, oid, only, read, read_integer, read_oid, tlv
from reference.transfer import Suite

T0 = 1_795_175_059_123
PDU = b"\xa0\x02hi"
GCM, CBC = AES["aes128-GCM"], AES["aes256-CBC"]
SUITES = [
    Suite(aea=(GCM, 16)),
    Suite(aea=(AES["aes256-GCM"], 12)),
    Suite(icv=(HMAC_SHA256, 32)),
    Suite(icv=(GCM, 12)),
    Suite(encr=CBC, icv=(HMAC_SHA256, 32)),
    Suite(encr=CBC, icv=(GCM, 16)),
]


def test_hkdf_of_rfc_5869() -> None:
    """Test case 3: SHA-256, no salt, no info."""
    expected = "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    assert hkdf(b"\x0b" * 22, b"", 42).hex() == expected


def test_prime_of_group_14() -> None:
    """RFC 3526: p = 2^2048 - 2^1984 - 1 + 2^64 * ( [2^1918 pi] + 124476 )."""
    shift = 2048
    one = 1 << shift

    def arctan(inverse: int) -> int:
        term = total = one // inverse
        for n in range(3, 4 * shift, 2):
            term //= -inverse * inverse
            total += term // n
        return total

    pi = 4 * (4 * arctan(5) - arctan(239))
    assert (1 << 2048) - (1 << 1984) - 1 + ((pi >> (shift - 1918)) + 124476 << 64) == P_14


@pytest.mark.parametrize("length", [0, 127, 128, 255, 256, 65_536])
def test_lengths(length: int) -> None:
    assert only(tlv(0x30, bytes(length))).content == bytes(length)


@pytest.mark.parametrize("value", [0, 127, 128, 255, 256, 2**31 - 1])
def test_integers(value: int) -> None:
    assert read_integer(only(integer(value)), 0, 2**31 - 1) == value


def test_known_encodings() -> None:
    assert oid("1.2.840.113549").hex() == "06062a864886f70d"
    assert read_oid(only(bytes.fromhex("06062a864886f70d"))) == "1.2.840.113549"
    assert oid("2.999.3").hex() == "0603883703"
    assert bits({0}).hex() == "03020780"
    assert bits(set()).hex() == "030100"
    assert integer(128).hex() == "02020080"


@pytest.mark.parametrize("octets", ["", "30", "3080", "308000", "30800000", "30ff", "3001", "1f1e00", "1f8001", "0000"])
def test_what_is_no_tlv(octets: str) -> None:
    with pytest.raises(Fault):
        read(bytes.fromhex(octets))


def identity() -> tuple[Private, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    day = datetime.datetime(2026, 1, 1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, day, day.replace(year=2040))
    return key, builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def pair(suite: Suite, group: int = 23) -> tuple[ReferencePeer, ReferencePeer]:
    (key, leaf), (other_key, other_leaf) = identity(), identity()
    client = ReferencePeer(True, leaf, key, suite, group, other_leaf)
    server = ReferencePeer(False, other_leaf, other_key, suite, group, leaf)
    assert server.take_handshake(client.start(PDU, T0), T0) == PDU
    assert client.take_handshake(server.accept(PDU, T0), T0) == PDU
    return client, server


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.mode)
@pytest.mark.parametrize("group", [14, 23, 28])
def test_an_association(suite: Suite, group: int) -> None:
    client, server = pair(suite, group)
    for step in range(3):
        assert server.receive(client.send(PDU, T0 + step), T0).appl_data == PDU
        assert client.receive(server.send(PDU, T0 + step), T0).appl_data == PDU
    for step in range(3, 5):
        assert server.receive(client.update_keys(T0 + step), T0).appl_data is None
        assert client.update_outstanding
        assert server.receive(client.send(PDU, T0 + step), T0).appl_data == PDU
        assert client.receive(server.send(NULL, T0 + step), T0).changed_key
        assert not client.update_outstanding
        assert client.receive(server.send(PDU, T0 + step), T0).appl_data == PDU
    server.req_rekey = True
    assert client.receive(server.send(PDU, T0 + 9), T0).req_rekey
    assert server.take_control("RLRQ", client.control("ReleaseReq", T0), T0).name == "ReleaseReq"
    assert client.take_control("RLRE", server.control("ReleaseRsp", T0), T0).name == "ReleaseRsp"


def test_faults() -> None:
    client, server = pair(SUITES[0])
    octets = client.send(PDU, T0)
    server.receive(octets, T0)
    with pytest.raises(Fault, match="replay"):
        server.receive(octets, T0)
    later = client.send(PDU, T0)
    with pytest.raises(Fault, match="icv"):
        server.receive(later[:-1] + bytes([later[-1] ^ 1]), T0)
    abort = server.control("DtSecAbort", T0, diag=6)
    assert client.take_control("ABRT", abort, T0).diag == 6
    with pytest.raises(Fault, match="replay"):
        client.take_control("ABRT", abort, T0)
    stranger = ReferencePeer(False, *reversed(identity()), SUITES[0])
    stranger.asso_id = client.asso_id
    with pytest.raises(Fault, match="certificate"):
        client.take_control("ABRT", stranger.control("ApplAbort", T0 + 5), T0)


def test_values_that_are_no_public_values() -> None:
    key = DhKey(14)
    for value in (0, 1, P_14 - 1, P_14):
        with pytest.raises(Fault):
            key.shared(value.to_bytes(256, "big"))
    for group in (23, 28):
        for public in (bytes(256), b"\x04" + bytes(64), b"\x02" + bytes(32)):
            with pytest.raises(Fault):
                DhKey(group).shared(public)
