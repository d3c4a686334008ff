"""Symmetric cryptography against published vectors and against `cryptography`; secrets do not leak or linger."""

from __future__ import annotations

import copy
import pickle

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from fastsec._core import crypto
from fastsec._core.crypto import Secret, equal, hkdf_sha256, hmac_sha256, random_bytes, sha256
from fastsec.errors import LocalError

x = bytes.fromhex


# --- published vectors ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("message", "digest"),  # FIPS 180-4 examples
    [
        (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
        ),
    ],
)
def test_sha256(message: bytes, digest: str) -> None:
    assert sha256(message).hex() == digest


RFC_4231 = [
    (b"\x0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
    (b"Jefe", b"what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
    (b"\xaa" * 20, b"\xdd" * 50, "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
    (bytes(range(1, 26)), b"\xcd" * 50, "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
    (
        b"\xaa" * 131,
        b"Test Using Larger Than Block-Size Key - Hash Key First",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
    ),
    (
        b"\xaa" * 131,
        b"This is a test using a larger than block-size key and a larger than block-size data. The key needs to be "
        b"hashed before being used by the HMAC algorithm.",
        "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
    ),
]


@pytest.mark.parametrize(("key", "message", "mac"), RFC_4231)
def test_hmac_rfc_4231(key: bytes, message: bytes, mac: str) -> None:
    assert hmac_sha256(key, message).hex() == mac


RFC_5869 = [
    (
        "0b" * 22,
        "000102030405060708090a0b0c",
        "f0f1f2f3f4f5f6f7f8f9",
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    (
        bytes(range(0x00, 0x50)).hex(),
        bytes(range(0x60, 0xB0)).hex(),
        bytes(range(0xB0, 0x100)).hex(),
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
        "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
    ),
    (
        "0b" * 22,
        "",
        "",
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ),
]


@pytest.mark.parametrize(("ikm", "salt", "info", "okm"), RFC_5869)
def test_hkdf_rfc_5869(ikm: str, salt: str, info: str, okm: str) -> None:
    out = hkdf_sha256(Secret.from_bytes(x(ikm)), x(salt), x(info), len(x(okm)))
    assert out.reveal().hex() == okm


@given(st.binary(min_size=1, max_size=300), st.binary(max_size=100), st.binary(max_size=100), st.integers(1, 4096))
def test_hkdf_agrees_with_cryptography(ikm: bytes, salt: bytes, info: bytes, length: int) -> None:
    wanted = HKDF(hashes.SHA256(), length, salt, info).derive(ikm)
    assert hkdf_sha256(Secret.from_bytes(ikm), salt, info, length).reveal() == wanted


# --- Secret ---------------------------------------------------------------------------------------------------------
def test_secret_tells_nothing() -> None:
    secret = Secret.from_bytes(b"sixteen octets !")
    assert len(secret) == 16
    assert repr(secret) == str(secret) == "<Secret of 16 octets>"
    assert secret.reveal() == b"sixteen octets !"
    with pytest.raises(LocalError):
        secret == secret  # noqa: B015
    with pytest.raises(TypeError):
        hash(secret)
    for take in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(LocalError):
            take(secret)


def test_secret_wipes() -> None:
    secret = Secret.from_bytes(b"abc")
    secret.wipe()
    secret.wipe()
    assert len(secret) == 0
    with pytest.raises(LocalError):
        secret.reveal()
    with pytest.raises(LocalError):
        hkdf_sha256(secret, b"", b"", 32)
    with pytest.raises(LocalError):
        Secret().reveal()


@pytest.mark.parametrize("size", [0, 4097])
def test_secret_has_bounds(size: int) -> None:
    with pytest.raises(LocalError):
        Secret.from_bytes(bytes(size))
    with pytest.raises(LocalError):
        hkdf_sha256(Secret.from_bytes(b"a"), b"", b"", size)


# --- the rest -------------------------------------------------------------------------------------------------------
def test_equal() -> None:
    assert equal(b"", b"")
    assert equal(b"abc", b"abc")
    assert not equal(b"abc", b"abd")
    assert not equal(b"abc", b"abcd")


def test_random_bytes() -> None:
    assert random_bytes(0) == b""
    assert len(random_bytes(1000)) == 1000
    assert random_bytes(16) != random_bytes(16)
    for count in (-1, (1 << 20) + 1):
        with pytest.raises(LocalError):
            random_bytes(count)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(TypeError):
        crypto.sha256(None)  # type: ignore[arg-type]  # what an untyped caller may do
    with pytest.raises(TypeError):
        crypto.sha256(bytearray(b"a"))  # type: ignore[arg-type]  # as above
