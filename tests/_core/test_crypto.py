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
from fastsec._core.crypto import (
    Secret,
    aes_cbc,
    aes_gcm_open,
    aes_gcm_seal,
    equal,
    hkdf_sha256,
    hmac_sha256,
    random_bytes,
    sha256,
)
from fastsec.errors import IntegrityError, LocalError

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


# McGrew and Viega, "The Galois/Counter Mode of Operation", appendix B, cases with a 96-bit IV and keys we use.
P4 = (
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657"
    "ba637b39"
)
A4 = "feedfacedeadbeeffeedfacedeadbeefabaddad2"
GCM = [
    ("00" * 16, "00" * 12, "", "", "", "58e2fccefa7e3061367f1d57a4e7455a"),
    ("00" * 16, "00" * 12, "", "00" * 16, "0388dace60b6a392f328c2b971b2fe78", "ab6e47d42cec13bdf53a67b21257bddf"),
    (
        "feffe9928665731c6d6a8f9467308308",
        "cafebabefacedbaddecaf888",
        "",
        P4 + "1aafd255",
        "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac97"
        "3d58e091473f5985",
        "4d5c2af327cd64a62cf35abd2ba6fab4",
    ),
    (
        "feffe9928665731c6d6a8f9467308308",
        "cafebabefacedbaddecaf888",
        A4,
        P4,
        "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac97"
        "3d58e091",
        "5bc94fbc3221a5db94fae95ae7121a47",
    ),
    ("00" * 32, "00" * 12, "", "", "", "530f8afbc74536b9a963b4f1c4cb738b"),
    ("00" * 32, "00" * 12, "", "00" * 16, "cea7403d4d606b6e074ec5d3baf39d18", "d0d1c8a799996bf0265b98b5d48ab919"),
    (
        "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
        "cafebabefacedbaddecaf888",
        A4,
        P4,
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0a"
        "bcc9f662",
        "76fc6ece0f4e1768cddf8853bb2d551b",
    ),
]


@pytest.mark.parametrize(("key", "nonce", "aad", "plain", "cipher", "tag"), GCM)
def test_gcm_mcgrew(key: str, nonce: str, aad: str, plain: str, cipher: str, tag: str) -> None:
    for size in (12, 13, 16):
        sealed = x(cipher) + x(tag)[:size]
        assert aes_gcm_seal(x(key), x(nonce), x(aad), x(plain), size) == sealed
        assert aes_gcm_open(x(key), x(nonce), x(aad), sealed, size) == x(plain)
        for at in range(len(sealed)):
            broken = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
            with pytest.raises(IntegrityError):
                aes_gcm_open(x(key), x(nonce), x(aad), broken, size)
        with pytest.raises(IntegrityError):
            aes_gcm_open(x(key), x(nonce), x(aad) + b"a", sealed, size)


# NIST SP 800-38A, F.2.1 and F.2.5
BLOCKS = (
    "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52ef"
    "f69f2445df4f9b17ad2b417be66c3710"
)
CBC = [
    (
        "2b7e151628aed2a6abf7158809cf4f3c",
        "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b273bed6b8e3c1743b7116e69e22229516"
        "3ff1caa1681fac09120eca307586e1a7",
    ),
    (
        "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
        "f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d39f23369a9d9bacfa530e26304231461"
        "b2eb05e2c39be9fcda6c19078c6a9d1b",
    ),
]


@pytest.mark.parametrize(("key", "cipher"), CBC)
def test_cbc_nist(key: str, cipher: str) -> None:
    iv = bytes(range(16))
    assert aes_cbc(x(key), iv, x(BLOCKS), True).hex() == cipher
    assert aes_cbc(x(key), iv, x(cipher), False).hex() == BLOCKS


def test_cipher_arguments() -> None:
    for key, nonce, size in ((24, 12, 16), (16, 11, 16), (16, 12, 11), (16, 12, 17)):
        with pytest.raises(LocalError):
            aes_gcm_seal(bytes(key), bytes(nonce), b"", b"", size)
        with pytest.raises(LocalError):
            aes_gcm_open(bytes(key), bytes(nonce), b"", bytes(16), size)
    with pytest.raises(LocalError):
        aes_gcm_open(bytes(16), bytes(12), b"", bytes(15))
    for key, iv, size in ((24, 16, 16), (16, 12, 16), (16, 16, 15)):
        with pytest.raises(LocalError):
            aes_cbc(bytes(key), bytes(iv), bytes(size), True)


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
