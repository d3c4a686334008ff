"""The A-profile: its authentication-value, what carries it in AARQ and AARE, and the verdict about one signed anew."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA256

from aprofile_world import (
    ACSE_CONTEXT,
    AUTHENTICATION_CONTEXT,
    CONNECTION_REQUEST,
    INITIATE,
    INITIATE_RESPONSE,
    MMS_CONTEXT,
    AWorld,
    authentication,
    characters,
    connect_by_hand,
    der,
    external,
    now_ms,
    value_of,
)
from envs.osi.support import CALLED, CALLING, Pair, endpoint, take
from fastsec import limits
from fastsec.aprofile import subject_text, take_value
from fastsec.envs.osi import AssociateCnf, AssociateInd, EnvFault, OsiParams
from fastsec.errors import DecodeError, PeerError
from fastsec.secpdu import authentication as codec
from fastsec.secpdu.timestamp import time_utc_ms
from fuzz.kit import Bits, Target, edited, packed

_WORLD: Final = AWorld()
_CONFIG: Final = _WORLD.config(_WORLD.der)
_RESPONDER: Final = OsiParams(security=False, a_profile=True, local=CALLED)
_INITIATOR: Final = OsiParams(security=False, a_profile=True, local=CALLING, remote=CALLED)
_SMALL: Final = der(0xA0, der(0x80, b"c"), der(0x81, b"20260921141320."), der(0x82, b"s"))
ANSWER_MAX: Final = 4096


def value(data: bytes) -> None:
    """MMS-Authentication-value: what is read can be written, and read again."""
    try:
        found = codec.decode(data)
    except DecodeError:
        return
    assert len(found.certificate) <= limits.SPEC_CERTIFICATE_MAX
    assert len(found.signature) <= limits.OUR_SIGNATURE_MAX
    assert codec.decode(codec.encode(found)) == found
    stamp = codec.time_stamp(found.time)
    assert stamp[:14] == found.time[:14]
    assert codec.time_stamp(stamp) == stamp
    time_utc_ms(stamp)


def fields(data: bytes) -> None:
    """The authentication fields of an AARQ, or of an AARE, are anything."""
    bits = Bits(data)
    how = bits.octet()
    proof = edited(bits, authentication(external(_SMALL)) if how & 2 else bits.chunk())
    if how & 1:
        pair = Pair.make(replace(_INITIATOR, a_profile_carrier="other" if how & 4 else "external"), _RESPONDER)
        pair.transport()
        pair.initiator.associate(INITIATE, _SMALL)
        pair.to_responder()
        pair.responder.accept(INITIATE_RESPONSE, _SMALL)
        octets = edited(bits, pair.responder.data_to_send())
        side, opened = pair.initiator, AssociateCnf
    else:
        contexts = ACSE_CONTEXT + MMS_CONTEXT + (AUTHENTICATION_CONTEXT if how & 8 else b"")
        side, opened = endpoint("responder", _RESPONDER), AssociateInd
        take(side, CONNECTION_REQUEST)
        side.data_to_send()
        octets = edited(bits, connect_by_hand(proof, contexts=contexts))
    try:
        found = take(side, octets)
    except DecodeError:
        return
    for indication in found:
        if isinstance(indication, opened) and getattr(indication, "result", "accepted") == "accepted":
            assert indication.proof
        elif isinstance(indication, EnvFault):
            assert side.closed
    if side.closed:
        assert len(side.data_to_send()) <= ANSWER_MAX
    elif isinstance(found[:1] and found[0], AssociateInd):
        side.accept(INITIATE_RESPONSE, _SMALL)
        assert len(side.data_to_send()) <= ANSWER_MAX


def verdict(data: bytes) -> None:
    """A value that was changed, or made of other parts and signed: what is accepted is signed by who is trusted."""
    bits = Bits(data)
    how = bits.octet()
    text = characters(bits.signed() * 8) if how & 1 else bits.chunk().decode("latin-1")
    octets = text.encode("latin-1")
    signed = (octets, codec.tlv(0x81, octets), codec.tlv(0x18, octets), bits.chunk())[how >> 1 & 3]
    holder = (_WORLD.centre, _WORLD.der)[how >> 3 & 1]
    changed = replace_certificate(holder, edited(bits, holder.certificate)) if how & 16 else holder
    try:
        whole = value_of(changed, text, signed=signed)
    except UnicodeEncodeError:
        return
    whole = edited(bits, whole)
    try:
        taken = take_value(whole, _CONFIG, _CONFIG.trust, now_ms())
    except PeerError:
        return
    read = codec.decode(whole)
    parsed = x509.load_der_x509_certificate(read.certificate)
    parsed.verify_directly_issued_by(x509.load_der_x509_certificate(_WORLD.authority.certificate))
    for candidate in codec.accepted_octets(read.time):
        try:
            parsed.public_key().verify(read.signature, candidate, padding.PKCS1v15(), SHA256())  # type: ignore[union-attr,call-arg,arg-type]
        except Exception:
            continue
        break
    else:
        raise AssertionError("accepted without a signature")
    assert read.certificate == _WORLD.centre.certificate
    assert abs(time_utc_ms(taken.time) - time.time() * 1000) < limits.SPEC_CLOCK_SKEW * 1000 + 60_000
    subject_text(taken.peer.certificate.subject)


def replace_certificate(holder: Any, certificate: bytes) -> Any:
    return replace(holder, certificate=certificate)


def _values() -> Iterable[bytes]:
    yield _SMALL
    yield der(0xA0, der(0x80, b""), der(0x81, b"20260921141320Z"), der(0x82, b""))
    yield der(0xA0, der(0x80, bytes(300)), der(0x81, b"20260921141320.123456789Z"), der(0x82, bytes(256)))
    yield b"\xa0\x80\x80\x01c\x81\x0e20260921141320\x82\x01s\0\0"
    yield der(0xA1, b"")


def _fields() -> Iterable[bytes]:
    for how in (0, 2, 8, 10, 1, 5):
        for changes in (0, 1, 2):
            yield packed(how, authentication(external(_SMALL)), changes, 0, 0, 3, 1)
    mechanism = bytes.fromhex("2886480001000101")
    yield packed(0, authentication(der(0xA3, der(0x06, mechanism), _SMALL)), 0, 0)
    yield packed(0, authentication(der(0x80, b"password")), 0, 0)
    yield packed(0, b"", 0, 0)


def _verdicts() -> Iterable[bytes]:
    for how in range(0, 8, 1):
        yield packed(how | 1, 0, b"abc", 0, 0)
    yield packed(0, b"20260921141320.", 0, 0)
    yield packed(17, 0, 1, 0, 40, 1, 0)
    yield packed(9, 0, 0)


def load() -> dict[str, Target]:
    """The targets of this module."""
    return {
        "a_profile_value": Target(value, 700, _values, 0),
        "a_profile_fields": Target(fields, 300, _fields),
        "a_profile_verdict": Target(verdict, 120, _verdicts),
    }
