"""Certificates, CRLs, keys, signatures, and whole paths that are signed anew after a change."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from engine_pair import CLIENT, UTC, authority, credential
from fastsec import limits
from fastsec._core.cursor import Reader, tlv
from fastsec._core.dh import Ephemeral, check_public
from fastsec._core.pk import PrivateKey, PublicKey, check_der
from fastsec.errors import DecodeError, HandshakeError, IntegrityError, PeerError
from fastsec.pki import builder, oids
from fastsec.pki.certificate import Certificate, name_text
from fastsec.pki.credential import SoftwareSigner
from fastsec.pki.crl import RevocationList
from fastsec.pki.path import TrustStore, VerifiedPeer
from fuzz.kit import Bits, Target, edited, packed, tree

_CHECKS: Final = frozenset(("certificate", "path", "certificate-signature", "revoked"))


# --- one certificate, one list --------------------------------------------------------------------------------------


def certificate(data: bytes) -> None:
    """A certificate; what is accepted is DER to the last octet."""
    for ca in (False, True):
        try:
            found = Certificate(data, ca=ca)
        except HandshakeError as error:
            assert error.check == ("path" if ca else "certificate")
            continue
        assert tree(data) == data
        assert found.tbs in data
        assert found.issuer in data
        assert found.subject in data
        assert repr(found).isprintable()
        assert len(name_text(found.subject)) <= 96
        for check in (found.check_leaf, lambda known=found: known.check_valid(UTC)):
            with contextlib.suppress(HandshakeError):
                check()


def strict(data: bytes) -> None:
    """check_der: accepted means that writing the TLVs anew gives the same octets."""
    try:
        check_der(data)
    except PeerError:
        return
    assert tree(data) == data


def revocations(data: bytes) -> None:
    """A CRL."""
    try:
        found = RevocationList(data)
    except DecodeError:
        return
    assert tree(data) == data
    assert len(found.entries) <= len(data) // 4
    for serial in found.serials:
        assert found.entries.find(serial) is not None
    with contextlib.suppress(IntegrityError):
        found.verify(ROOT)


def public_key(data: bytes) -> None:
    """SubjectPublicKeyInfo; a key that was taken judges a signature made of the same octets."""
    for ca in (False, True):
        try:
            key = PublicKey.from_spki(data, ca=ca)
        except PeerError:
            continue
        assert tree(data) == data
        assert key.octets in data
        for oid in oids.SIGNATURES:
            try:
                key.verify(oid, b"data", data)
            except PeerError:
                continue
            raise AssertionError("a signature made of a public key")


def signature(data: bytes) -> None:
    """Octets as a signature over fixed data: what verifies here, verifies in ``cryptography`` too."""
    public, known, oid, _ = _SIGNED[data[0] % len(_SIGNED) if data else 0]
    octets = data[1:]
    try:
        public.verify(oid, _WORDS, octets)
    except IntegrityError:
        return
    try:
        if isinstance(known, rsa.RSAPublicKey):
            known.verify(octets, _WORDS, padding.PKCS1v15(), SHA256())
        else:
            known.verify(octets, _WORDS, ec.ECDSA(SHA256()))
    except InvalidSignature:
        raise AssertionError("a signature that is none verifies") from None


_WORDS: Final = b"what was signed"


def point(data: bytes) -> None:
    """A Diffie-Hellman public value of a peer: refused, or it gives a shared secret."""
    if not data:
        return
    own = _OWN[data[0] % len(_OWN)]
    try:
        check_public(own.group, data[1:])
    except PeerError:
        derived = None
    else:
        derived = own
    try:
        own.derive(data[1:]).wipe()
    except PeerError:
        assert derived is None
    else:
        assert derived is not None


# --- paths ----------------------------------------------------------------------------------------------------------

TRIAL: Final = authority("one")
ROOT: Final = Certificate(TRIAL.root, ca=True)
_KEY: Final = builder.generate_key("p256")
_KEYS: Final = [builder.generate_key("p256") for _ in range(3)]
_PUBLIC: Final = [builder.spki(key.public_key()) for key in _KEYS]
_NAMES: Final = [
    TRIAL._issuer,
    builder.text_name(cn="Middle"),
    builder.text_name(cn="Lower"),
    builder.text_name(cn="Middle"),
]


def _pem(key: builder.PrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


_SIGNERS: Final = [SoftwareSigner(PrivateKey.from_pem(_pem(key))) for key in (TRIAL._key, *_KEYS)]
_ECDSA: Final = tlv(0x30, bytes.fromhex("06082a8648ce3d040302"))


def _intermediate(number: int, issuer: int, **more: Any) -> bytes:
    facts: dict[str, Any] = {
        "serial": 100 + number,
        "issuer": _NAMES[issuer],
        "subject": _NAMES[number],
        "public": _PUBLIC[number - 1],
        "not_before_ms": UTC - 86_400_000,
        "not_after_ms": UTC + 86_400_000,
        "extensions": (
            builder.basic_constraints(True, more.pop("path_len", None)),
            builder.key_usage(oids.KU_KEY_CERT_SIGN, oids.KU_CRL_SIGN),
        ),
        "key": [TRIAL._key, *_KEYS][issuer],
    }
    return builder.certificate(**facts | more)


def _leaf(issuer: int) -> bytes:
    return builder.certificate(
        serial=4711,
        issuer=_NAMES[issuer],
        subject=builder.osi_subject(CLIENT),
        public=builder.spki(_KEY.public_key()),
        not_before_ms=UTC - 86_400_000,
        not_after_ms=UTC + 86_400_000,
        extensions=(
            builder.key_usage(oids.KU_DIGITAL_SIGNATURE, oids.KU_KEY_AGREEMENT),
            builder.alternative_names(osi=CLIENT),
        ),
        key=[TRIAL._key, *_KEYS][issuer],
    )


# Certificates to make paths of: (octets, number of the key that signs them).
PARTS: Final = [
    (_leaf(0), 0),
    (_leaf(1), 1),
    (_leaf(2), 2),
    (_intermediate(1, 0), 0),
    (_intermediate(2, 1), 1),
    (_intermediate(1, 2), 2),
    (_intermediate(3, 0, path_len=0), 0),
    (_intermediate(2, 2), 2),
    (TRIAL.root, 0),
]
STORES: Final = [
    TrustStore((TRIAL.root,), (TRIAL.crl,)),
    TrustStore((TRIAL.root,), (), "subject"),
    TrustStore((TRIAL.root, PARTS[6][0]), (TRIAL.crl,), "registered-id"),
]


def signed_anew(bits: Bits, octets: bytes, signer: int) -> bytes:
    """A certificate of which the input changed the inside, with a good signature of the key it names."""
    reader = Reader(octets)
    reader.expect(0x30)
    parts = reader.enter()
    parts.expect(0x30)
    tbs = edited(bits, parts.value())
    if bits.octet() & 1:
        with contextlib.suppress(ValueError):
            tbs = tree(tbs)
    tbs = tlv(0x30, tbs)
    return tlv(0x30, tbs + _ECDSA + tlv(0x03, b"\0" + _SIGNERS[signer % 4].sign(tbs)))


def path(data: bytes) -> None:
    """A leaf and up to five authorities, some changed and signed anew: a verdict that names its check, or a proof."""
    bits = Bits(data)
    how = bits.octet()
    utc = UTC + bits.signed() * 1_000_000
    chain = []
    for number in range(1 + (how & 7) % 6):
        which = bits.octet()
        octets, signer = PARTS[which % len(PARTS)]
        if which >= 128 and (number == 0 or which >= 192):
            octets = signed_anew(bits, octets, signer)
        elif which & 64:
            octets = edited(bits, octets)
        chain.append(octets)
    store = STORES[how >> 3 & 3] if how >> 3 & 3 < 3 else STORES[0]
    try:
        found = store.validate(chain[0], chain[1:], utc)
    except HandshakeError as error:
        assert error.check in _CHECKS, error.check
        return
    assert isinstance(found, VerifiedPeer)
    assert found.names
    assert found.certificate.der == chain[0]
    assert found.chain[-1] in store.anchors
    assert 1 <= len(found.chain) <= limits.OUR_CERT_PATH_COUNT + 1
    assert found.not_after_ms + 1000 > utc
    below = found.certificate
    for above in found.chain:
        assert above.is_ca
        assert above.subject == below.issuer
        # The signature, by somebody else's code.
        point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), above.public_key.octets)
        point.verify(below.signature, below.tbs, ec.ECDSA(SHA256()))
        below = above
    with contextlib.suppress(HandshakeError):
        again = store.recheck(found, utc + bits.signed() * 10_000_000)
        assert again == replace(found, findings=again.findings)


# --- seeds ----------------------------------------------------------------------------------------------------------


def _certificates() -> Iterable[bytes]:
    yield TRIAL.root
    for key in ("p256", "brainpool", "rsa2048"):
        yield credential(CLIENT, key).certificate
    yield from (octets for octets, _ in PARTS)


def _strict_seeds() -> Iterable[bytes]:
    yield from (octets[:400] for octets in _certificates())
    yield from (bytes.fromhex(octets) for octets in ("300302017f", "308103020101", "3103010101", "03020780", "0101ff"))


def _lists() -> Iterable[bytes]:
    yield TRIAL.crl
    yield authority("listed").revoke(*[credential(CLIENT, number=n, by="listed").certificate for n in (7, 8)])
    point = tlv(0x30, tlv(0x81, b"\xff"))
    scope = builder.Extension(oids.ISSUING_DISTRIBUTION_POINT, point, critical=True)
    yield builder.revocation_list(
        issuer=_NAMES[0],
        this_update_ms=UTC,
        next_update_ms=None,
        revoked=[(5, UTC)],
        extensions=(scope, builder.crl_number(9)),
        key=TRIAL._key,
    )


def _keys() -> Iterable[bytes]:
    for kind in ("p256", "brainpool", "rsa2048", "rsa3072"):
        yield builder.spki(builder.generate_key(kind).public_key())


def _signed() -> list[tuple[PublicKey, Any, str, bytes]]:
    found = []
    for kind in ("p256", "brainpool", "rsa2048"):
        key = builder.generate_key(kind)
        signer = SoftwareSigner(PrivateKey.from_pem(_pem(key)))
        public = key.public_key()
        found.append((PublicKey.from_spki(builder.spki(public)), public, signer.algorithm, signer.sign(_WORDS)))
    return found


_SIGNED: Final = _signed()
_OWN: Final = [Ephemeral.generate(group) for group in (23, 28, 14)]


def _path_seeds() -> Iterable[bytes]:
    for how, *which in ((0, 0), (1, 1, 3), (2, 2, 4, 3), (3, 2, 4, 3, 8), (4, 2, 7, 5, 4, 3), (5, 1, 3, 3, 5, 4, 6)):
        for store in (0, 8, 16):
            yield packed(how | store, 0, *which)
        yield packed(how, 0, which[0] | 128, 1, 1, 0, 40, 3, 1, *which[1:])
        yield packed(how, 90, which[0], *(number | 192 for number in which[1:]))


def load() -> dict[str, Target]:
    """The targets of this module."""
    return {
        "certificate": Target(certificate, 1500, _certificates, 0),
        "der": Target(strict, 512, _strict_seeds, 0),
        "crl": Target(revocations, 1024, _lists, 0),
        "public_key": Target(public_key, 700, _keys, 0),
        "signature": Target(
            signature, 300, lambda: [bytes((n,)) + genuine for n, (_, _, _, genuine) in enumerate(_SIGNED)], 1
        ),
        "dh_value": Target(point, 300, lambda: [bytes((n,)) + own.public for n, own in enumerate(_OWN)]),
        "path": Target(path, 128, _path_seeds),
    }
