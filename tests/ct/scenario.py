"""Runs under valgrind, see test_constant_time.py: what the engine does with keys, each step with secret keys.

Prints one JSON object: step to the number of errors that memcheck reported in it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import ctmark

from fastsec import profile
from fastsec._core import crypto
from fastsec._core.cursor import encode_oid, tlv
from fastsec._core.guard import (
    MODE_AE,
    MODE_CBC_GMAC,
    MODE_CBC_HMAC,
    MODE_GMAC,
    MODE_HMAC,
    GuardParams,
    OpenGuard,
    SealGuard,
)
from fastsec._core.osidata import OsiChannel
from fastsec._core.pk import Ephemeral
from fastsec.errors import DecodeError, IntegrityError

T0 = 1_795_176_000_000
START = "20261120120000.000Z"
counts: dict[str, int] = {}


@contextmanager
def step(name: str) -> Iterator[None]:
    ctmark.note(f"STEP {name}")
    before = ctmark.errors()
    ctmark.message()
    yield
    counts[name] = counts.get(name, 0) + ctmark.errors() - before


HMAC = tlv(0x30, tlv(0x06, encode_oid(profile.HMAC_SHA256)) + tlv(0x05, b""))


def gmac(oid: str, size: int) -> bytes:
    parameters = tlv(0x04, bytes(12)) + (b"" if size == 12 else tlv(0x02, bytes([size])))
    return tlv(0x30, tlv(0x06, encode_oid(oid)) + tlv(0x30, parameters))


# name: mode, algorithm of the ICV, its length, octets of the encryption key and of the ICV key
KINDS = {
    "hmac": (MODE_HMAC, HMAC, 32, 0, 32),
    "gmac128-12": (MODE_GMAC, gmac(profile.AES128_GCM, 12), 12, 0, 16),
    "gmac256-16": (MODE_GMAC, gmac(profile.AES256_GCM, 16), 16, 0, 32),
    "cbc128-hmac": (MODE_CBC_HMAC, HMAC, 32, 16, 32),
    "cbc256-gmac256-13": (MODE_CBC_GMAC, gmac(profile.AES256_GCM, 13), 13, 32, 32),
    "gcm128-12": (MODE_AE, b"", 12, 16, 0),
    "gcm256-14": (MODE_AE, b"", 14, 32, 0),
    "gcm256-16": (MODE_AE, b"", 16, 32, 0),
}
APPL = tlv(0xA0, bytes(range(61)))


class Pair:
    """Two guards over secret keys."""

    def __init__(self, name: str) -> None:
        mode, algorithm, self.icv_len, aes, mac = KINDS[name]
        self.name = name
        keys = crypto.Secret.from_bytes(bytes((i * 37 + 5) & 0xFF for i in range(64)))
        ctmark.secret(keys)
        facts = (GuardParams(mode, "17:230", algorithm, self.icv_len, aes, mac), keys)
        places = ((0, mac) if mac else None, (32, aes) if aes else None)
        with step(f"{name}: keying"):
            self.seal_guard = SealGuard(*facts, *places, start_time=START)
            self.open_guard = OpenGuard(*facts, *places, start_time=START)

    def seal(self) -> bytes:
        with step(f"{self.name}: seal"):
            pdu = self.seal_guard.seal(APPL, T0)
        ctmark.public(pdu)  # it goes onto the wire
        return pdu

    def open(self, what: str, pdu: bytes) -> str:
        with step(f"{self.name}: {what}"):
            try:
                opened = self.open_guard.open(pdu, T0)
            except (IntegrityError, DecodeError) as error:
                return str(error.check)
        assert opened.appl_data == APPL
        return ""


def flip(pdu: bytes, index: int) -> bytes:
    changed = bytearray(pdu)
    changed[index] ^= 0x40
    return bytes(changed)


def judge(name: str) -> None:
    """Right and wrong ICVs, through the guard's full check and through the channel's fast way."""
    pair = Pair(name)
    pdu = pair.seal()
    size = pair.icv_len
    for what, wrong in (
        ("first octet of the ICV wrong", flip(pdu, -size)),
        ("last octet of the ICV wrong", flip(pdu, -1)),
        ("whole ICV wrong", pdu[:-size] + bytes(x ^ 0xFF for x in pdu[-size:])),
        ("applData or ciphertext wrong", flip(pdu, 80)),
    ):
        assert pair.open(what, wrong) == "icv", (name, what)
    assert pair.open("right", pdu) == ""
    a, b = OsiChannel(65536), OsiChannel(65536)
    a.arm_tx(pair.seal_guard, 3, 8192)
    b.arm_rx(pair.open_guard, 3)
    with step(f"{name}: channel seals"):
        sent = a.seal_batch([APPL, APPL], T0)
    octets = b"".join(sent)
    ctmark.public(octets)
    with step(f"{name}: channel opens"):
        assert b.feed(octets[: len(octets) // 2], T0) == [APPL]
    with step(f"{name}: channel refuses"):
        assert b.feed(flip(octets[len(octets) // 2 :], -1), T0) == []
        assert b.next() is not None
    assert b.fault is not None
    assert b.fault.check == "icv"


def agree() -> None:
    """From Z, which EVP_PKEY_derive gives as a secret, over HKDF to keys."""
    for group in (14, 23, 28):
        ours, theirs = Ephemeral.generate(group), Ephemeral.generate(group)
        with step(f"group {group}: Z and HKDF"):
            z = ours.derive(theirs.public)
            crypto.hkdf_sha256(z, bytes(32), b"", 128)


def compare() -> None:
    known, made = bytes(32), bytes([0] * 31 + [1])
    ctmark.secret(made)
    with step("equal"):
        crypto.equal(known, made)


def main() -> None:
    assert ctmark.running()
    for name in KINDS:
        judge(name)
    agree()
    compare()
    clean = dict(counts)
    counts.clear()
    if "controls" in sys.argv:
        # The branch on a verdict that stays secret is reported: the taint does arrive there, in each mode.
        for name in KINDS:
            pair = Pair(name)
            pdu = pair.seal()
            ctmark.keep_verdict(True)
            pair.open("verdict kept secret", pdu)
            ctmark.keep_verdict(False)
    print(json.dumps({"steps": clean, "controls": counts}))


main()
