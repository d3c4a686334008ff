"""Child of test_failing_library: runs operations while the n-th call of libcrypto or malloc fails, for every n.

Arguments: the names of the operations. Prints for each how many failures were put in before and after it was done for
the first time; ends with an error at one that was not handled.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import sys
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from guardkit import BY_NAME, T0, appl

from fastsec import profile
from fastsec._core import crypto
from fastsec._core.crypto import LibraryError, Secret
from fastsec._core.cursor import Writer
from fastsec._core.dh import Ephemeral, check_public
from fastsec._core.osidata import OsiChannel
from fastsec._core.pk import PrivateKey, PublicKey
from fastsec.errors import ConfigError, HandshakeError, IntegrityError
from fastsec.secpdu import fields
from fastsec.secpdu.components import components_of

shim = ctypes.CDLL(os.environ["FAILING"])
shim.failing_arm.argtypes = [ctypes.c_long]
peek_error = ctypes.CDLL("libcrypto.so.3").ERR_peek_error
peek_error.restype = ctypes.c_ulong

# What a failure of the library may come out as: refused, never accepted and never a crash.
REFUSALS = (LibraryError, MemoryError, HandshakeError, IntegrityError, ConfigError)
DATA = appl(300)
SEALED = crypto.aes_gcm_seal(bytes(16), bytes(12), b"aad", b"data")
LIMIT = 1000
SIG = {"rsa": profile.SHA256_RSA, "ec": profile.ECDSA_SHA256}


@functools.cache
def key_of(name: str) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
    return rsa.generate_private_key(65537, 2048) if name == "rsa" else ec.generate_private_key(ec.SECP256R1())


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def spki(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def guards(name: str) -> Callable[[], object]:
    """New guards every time; each failure hits one of the two constructors, sealing or opening."""
    kind = BY_NAME[name]

    def call() -> object:
        sealer, opener = kind.seal_guard(), kind.open_guard()
        return opener.open(sealer.seal(DATA, T0), T0).appl_data

    return call


def sealing(name: str) -> Callable[[], object]:
    """One guard for all: a failure to seal uses nothing up, so the next PDU is the one that is expected next."""
    kind = BY_NAME[name]
    sealer, opener = kind.seal_guard(), kind.open_guard()

    def call() -> object:
        before = sealer.count
        try:
            pdu = sealer.seal(DATA, T0)
        except REFUSALS:
            assert sealer.count == before
            raise
        number = shim.failing_arm(0)
        try:
            return opener.open(pdu, T0).appl_data
        finally:
            shim.failing_arm(number)

    return call


def opening(name: str) -> Callable[[], object]:
    """One guard for all: what could not be verified for want of a library is not accepted, and can be later."""
    kind = BY_NAME[name]
    sealer, opener = kind.seal_guard(), kind.open_guard()
    waiting: list[bytes] = []

    def call() -> object:
        if not waiting:
            number = shim.failing_arm(0)
            waiting.append(sealer.seal(DATA, T0))
            shim.failing_arm(number)
        opened = opener.open(waiting[0], T0)
        waiting.clear()
        return opened.appl_data

    return call


def channel(name: str, *, pieces: int = 1 << 20, tpdu: int = 1024) -> Callable[[], object]:
    """Through the channel and its fast way, the octets in pieces. Nothing else than the payload ever comes out."""
    kind = BY_NAME[name]

    def call() -> object:
        number = shim.failing_arm(0)
        tx, rx = OsiChannel(1 << 16), OsiChannel(1 << 16)
        tx.arm_tx(kind.seal_guard(), profile.CONTEXT_E2E, tpdu)
        rx.arm_rx(kind.open_guard(), profile.CONTEXT_E2E)
        shim.failing_arm(number)
        octets = tx.seal(DATA, T0)
        payloads = []
        for at in range(0, len(octets), pieces):
            payloads += rx.feed(octets[at : at + pieces], T0)
        if not payloads:
            assert rx.fault is not None
            raise rx.fault
        return payloads[0]

    return call


def agreement(group: int) -> Callable[[], object]:
    peer = Ephemeral.generate(group)

    def call() -> object:
        own = Ephemeral.generate(group)
        check_public(group, peer.public)
        first = own.derive(peer.public).reveal()
        return first == own.derive(peer.public).reveal()

    return call


def signing(name: str) -> Callable[[], object]:
    """Load a key, sign, verify."""
    key = key_of(name)
    octets, public = pem(key), spki(key)

    def call() -> object:
        private = PrivateKey.from_pem(octets)
        signature = private.sign(SIG[name], DATA)
        PublicKey.from_spki(public).verify(SIG[name], DATA, signature)
        return private.public_spki() == public

    return call


def signing_again(name: str) -> Callable[[], object]:
    """The same with keys that are there."""
    key = key_of(name)
    private, public = PrivateKey.from_pem(pem(key)), PublicKey.from_spki(spki(key))

    def call() -> object:
        public.verify(SIG[name], DATA, private.sign(SIG[name], DATA))
        return True

    return call


def writing() -> object:
    writer = Writer()
    for _ in range(4):
        writer.octets(bytes(1000))
    return writer.getvalue()


OPERATIONS: dict[str, Callable[[], Callable[[], object]]] = {
    "sha256": lambda: lambda: crypto.sha256(b"data"),
    "hmac": lambda: lambda: crypto.hmac_sha256(b"key", b"data"),
    "hmac, long key": lambda: lambda: crypto.hmac_sha256(bytes(100), b"data"),
    "hkdf": lambda: lambda: crypto.hkdf_sha256(Secret.from_bytes(b"ikm"), b"salt", b"info", 96).reveal(),
    "gcm seal": lambda: lambda: crypto.aes_gcm_seal(bytes(16), bytes(12), b"aad", b"data"),
    "gcm open": lambda: lambda: crypto.aes_gcm_open(bytes(16), bytes(12), b"aad", SEALED),
    "cbc": lambda: lambda: crypto.aes_cbc(bytes(16), bytes(16), bytes(32), True),
    "random": lambda: lambda: len(crypto.random_bytes(16)),
    "secret": lambda: lambda: Secret.from_bytes(b"octets").reveal(),
    "writer": lambda: writing,
    "components": lambda: lambda: type(components_of(fields.SIGNATURE)),
    **{f"agreement {group}": (lambda group=group: agreement(group)) for group in (14, 23, 28)},
    **{f"sign {name}": (lambda name=name: signing(name)) for name in SIG},
    **{f"sign {name} again": (lambda name=name: signing_again(name)) for name in SIG},
    **{f"guards {name}": (lambda name=name: guards(name)) for name in BY_NAME},
    **{f"sealing {name}": (lambda name=name: sealing(name)) for name in BY_NAME},
    **{f"opening {name}": (lambda name=name: opening(name)) for name in BY_NAME},
    **{f"channel {name}": (lambda name=name: channel(name)) for name in BY_NAME},
    "channel in pieces": lambda: channel("gcm128-16", pieces=50),
    "channel in small TPDUs": lambda: channel("gcm128-16", tpdu=128),
}


def run(call: Callable[[], object], expected: object, number: int) -> bool:
    """Run with failure ``number``; whether it came to that."""
    shim.failing_arm(number)
    try:
        value = call()
        refused = False
    except REFUSALS:
        refused = True
    finally:
        left = shim.failing_arm(0)
    failed = left == 0
    if not refused:
        # The fast way may fail and the slow one succeed; a wrong value never comes out.
        assert value == expected, (number, value)
    assert not refused or failed, number
    assert peek_error() == 0, f"failure {number} left an error behind"
    assert call() == expected, f"failure {number} broke something"
    return failed


def main(name: str) -> None:
    call = OPERATIONS[name]()
    # Contexts that are kept once made are made under every failure, before one is there.
    made = 0
    for number in range(1, LIMIT):
        shim.failing_arm(number)
        with contextlib.suppress(*REFUSALS):
            call()
        if shim.failing_arm(0):
            break
        made += 1
    expected = call()
    count = next(number for number in range(1, LIMIT) if not run(call, expected, number)) - 1
    print(name, made, count, sep="|", flush=True)


if __name__ == "__main__":
    for operation in sys.argv[1:]:
        main(operation)
