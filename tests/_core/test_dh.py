"""Key agreement against ``cryptography`` and plain arithmetic, and every value that must be refused."""

from __future__ import annotations

import copy
import hashlib
import pickle

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fastsec._core.dh import Ephemeral, check_public
from fastsec.errors import HandshakeError, LocalError

# RFC 3526 group 14, recomputed from its definition: 2^2048 - 2^1984 - 1 + 2^64 * (floor(2^1918 pi) + 124476).


def modp_2048() -> int:
    """The prime by its formula; pi by Machin's series in integers."""
    digits = 1918 + 64
    one = 1 << digits

    def arctan_inverse(x: int) -> int:
        total = term = one // x
        n, sign = 3, -1
        while term:
            term //= x * x
            total += sign * (term // n)
            sign, n = -sign, n + 2
        return total

    pi = 4 * (4 * arctan_inverse(5) - arctan_inverse(239))
    return 2**2048 - 2**1984 - 1 + 2**64 * ((pi >> 64) + 124476)


P14 = modp_2048()


SIZES = {14: (256, 256), 23: (65, 32), 28: (65, 32)}


@pytest.mark.parametrize("group", SIZES)
def test_agreement(group: int) -> None:
    one, other = Ephemeral.generate(group), Ephemeral.generate(group)
    assert one.group == group
    assert len(one.public) == SIZES[group][0]
    assert one.public != other.public
    z = one.derive(other.public)
    assert len(z) == SIZES[group][1]
    assert z.reveal() == other.derive(one.public).reveal()
    # The second agreement works from the bare private value.
    third = Ephemeral.generate(group)
    assert one.derive(third.public).reveal() == third.derive(one.public).reveal() != z.reveal()
    assert one.derive(other.public).reveal() == z.reveal()


@pytest.mark.parametrize(("group", "curve"), [(23, ec.SECP256R1()), (28, ec.BrainpoolP256R1())])
def test_ec_agreement_with_the_oracle(group: int, curve: ec.EllipticCurve) -> None:
    for _ in range(20):
        theirs = ec.generate_private_key(curve)
        ours = Ephemeral.generate(group)
        expected = theirs.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(curve, ours.public))
        public = theirs.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        assert ours.derive(public).reveal() == expected


def test_modp_agreement_with_plain_arithmetic() -> None:
    ours = Ephemeral.generate(14)
    for exponent in (2, 65537, int.from_bytes(hashlib.sha256(b"peer").digest(), "big")):
        public = pow(2, exponent, P14).to_bytes(256, "big")
        expected = pow(int.from_bytes(ours.public, "big"), exponent, P14)
        assert ours.derive(public).reveal() == expected.to_bytes(256, "big")


def test_modp_secret_keeps_leading_zeros() -> None:
    # Search a peer value whose Z has a leading zero octet: one of 256 has.
    ours = Ephemeral.generate(14)
    value = int.from_bytes(ours.public, "big")
    exponent, z = 1, value
    while z >> 2040:
        exponent, z = exponent + 1, z * value % P14
    secret = ours.derive(pow(2, exponent, P14).to_bytes(256, "big")).reveal()
    assert secret == z.to_bytes(256, "big")
    assert secret[0] == 0


def refused(group: int, value: bytes) -> None:
    for action in (lambda: check_public(group, value), lambda: Ephemeral.generate(group).derive(value)):
        with pytest.raises(HandshakeError) as caught:
            action()
        assert caught.value.check == "protocol-error"


@pytest.mark.parametrize("value", [0, 1, P14 - 1, P14, P14 + 1, P14 + 2, 2**2048 - 1])
def test_modp_values_out_of_range(value: int) -> None:
    refused(14, value.to_bytes(256, "big"))


@pytest.mark.parametrize("value", [2, 3, P14 - 2, 4, P14 // 2])
def test_modp_values_in_range(value: int) -> None:
    check_public(14, value.to_bytes(256, "big"))


@pytest.mark.parametrize("group", SIZES)
def test_values_of_another_size(group: int) -> None:
    good = Ephemeral.generate(group).public
    check_public(group, good)
    for wrong in (b"", good[:-1], good + b"\x00", b"\x00" + good, good[1:]):
        refused(group, wrong)


def test_sizes_of_one_group_in_another() -> None:
    refused(23, Ephemeral.generate(14).public)
    refused(14, Ephemeral.generate(23).public)
    refused(23, Ephemeral.generate(28).public)
    refused(28, Ephemeral.generate(23).public)


@pytest.mark.parametrize("group", [23, 28])
def test_points_off_the_curve(group: int) -> None:
    good = Ephemeral.generate(group).public
    for wrong in (
        good[:-1] + bytes([good[-1] ^ 1]),
        good[:1] + good[33:] + good[1:33],
        b"\x04" + bytes(64),
        b"\x04" + b"\xff" * 64,
        bytes([6 + (good[-1] & 1)]) + good[1:],
        bytes([2]) + good[1:],
        b"\x00" + good[1:],
    ):
        refused(group, wrong)
    check_public(group, good)


def test_a_bad_value_leaves_the_key_usable() -> None:
    ours, peer = Ephemeral.generate(23), Ephemeral.generate(23)
    with pytest.raises(HandshakeError):
        ours.derive(b"\x04" + bytes(64))
    assert ours.derive(peer.public).reveal() == peer.derive(ours.public).reveal()


@pytest.mark.parametrize("group", [0, 1, 2, 5, 15, 19, 24, 256, -1])
def test_other_groups(group: int) -> None:
    with pytest.raises(LocalError):
        Ephemeral.generate(group)
    with pytest.raises(HandshakeError):
        check_public(group, bytes(65))


@pytest.mark.parametrize("group", SIZES)
def test_wiped(group: int) -> None:
    ours, peer = Ephemeral.generate(group), Ephemeral.generate(group)
    ours.derive(peer.public)
    ours.wipe()
    ours.wipe()
    with pytest.raises(LocalError):
        ours.derive(peer.public)
    fresh = Ephemeral.generate(group)
    fresh.wipe()
    with pytest.raises(LocalError):
        fresh.derive(peer.public)


def test_ephemerals_are_not_copied() -> None:
    ours = Ephemeral.generate(23)
    for action in (pickle.dumps, copy.copy):
        with pytest.raises(LocalError):
            action(ours)
    assert ours.public.hex() not in repr(ours)
    with pytest.raises(LocalError):
        Ephemeral()
