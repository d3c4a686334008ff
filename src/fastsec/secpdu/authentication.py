"""MMS-Authentication-value of the A-security-profile of 2007, which travels in the ACSE authentication-value.

::

    MMS-Authentication-value ::= CHOICE { certificate-based [0] IMPLICIT SEQUENCE {
        authentication-Certificate [0] IMPLICIT OCTET STRING, time [1] IMPLICIT GeneralizedTime,
        signature [2] IMPLICIT OCTET STRING } }

The time is UTC whether or not it ends in Z: peers in the field leave the Z out and end in a dot.
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple

from fastsec import limits, profile
from fastsec._core.cursor import Reader, Writer, tlv
from fastsec.errors import DecodeError
from fastsec.secpdu.timestamp import is_time, time_text

Signed = Literal["characters", "encoding"]
TimeForm = Literal["field", "der", "milliseconds"]

SIGNED: Final = ("characters", "encoding")
TIME_FORMS: Final = ("field", "der", "milliseconds")
_TIME_TEXT_MAX: Final = 25
_TIME: Final = re.compile(r"([0-9]{14})(?:[.,]([0-9]{0,9}))?Z?").fullmatch
_STEP: Final = "MMS-Authentication-value"


class AuthenticationValue(NamedTuple):
    """What one side proves itself with.

    Attributes:
        certificate: DER.
        time: characters of the GeneralizedTime as they are sent.
        signature: sha256WithRSAEncryption over the time.
    """

    certificate: bytes
    time: str
    signature: bytes


def encode(value: AuthenticationValue) -> bytes:
    """The CHOICE, one TLV."""
    writer = Writer()
    writer.begin(0xA0)
    writer.octets(value.certificate, 0x80)
    writer.primitive(0x81, value.time.encode("ascii"))
    writer.octets(value.signature, 0x82)
    writer.end()
    return writer.getvalue()


def decode(octets: bytes) -> AuthenticationValue:
    """Parse the CHOICE, BER.

    Errors:
        DecodeError: malformed, another alternative, a component too long, a time that does not exist. One of a
            certificate of more than 8192 octets has the check ``certificate``.
    """
    outer = Reader(octets, indefinite=True, step=_STEP)
    outer.expect(0xA0)
    reader = outer.enter(indefinite=True)
    outer.finish()
    certificate = reader.octets(0x80)
    if len(certificate) > limits.SPEC_CERTIFICATE_MAX:
        raise DecodeError(f"certificate of {len(certificate)} octets", check="certificate", step=_STEP)
    time = reader.text(0x81, _TIME_TEXT_MAX)
    signature = reader.octets(0x82, limits.OUR_SIGNATURE_MAX)
    reader.finish()
    time_stamp(time)
    return AuthenticationValue(certificate, time, signature)


def time_stamp(time: str) -> str:
    """The time as a TimeStamp (``fastsec.secpdu.timestamp``), which orders and equates it; DecodeError if it is no
    time."""
    match = _TIME(time)
    if match is not None:
        fraction = match[2]
        text = f"{match[1]}.{fraction}Z" if fraction else f"{match[1]}Z"
        if is_time(text):
            return text
    raise DecodeError("not a GeneralizedTime", step=f"{_STEP}.time")


def time_step(form: TimeForm) -> int:
    """Milliseconds between two times that this form tells apart."""
    return 1 if form == "milliseconds" else 1000


def time_characters(utc_ms: int, form: TimeForm) -> str:
    """The characters of a moment.

    Arguments:
        form: ``field``: ``YYYYMMDDhhmmss.``; ``der``: ``YYYYMMDDhhmmssZ``; ``milliseconds``: ``YYYYMMDDhhmmss.sssZ``.
    """
    text = time_text(utc_ms)
    if form == "milliseconds":
        return text
    return text[:14] + ("." if form == "field" else "Z")


def signed_octets(time: str, what: Signed) -> bytes:
    """What is signed: the ``characters`` of the time, or its ``encoding``."""
    characters = time.encode("ascii")
    return characters if what == "characters" else tlv(profile.A_PROFILE_TIME_TAG, characters)


def accepted_octets(time: str) -> tuple[bytes, ...]:
    """All that a peer may have signed: the characters; the encoding with the tag of the wire; with that of the type."""
    characters = time.encode("ascii")
    return characters, tlv(0x81, characters), tlv(0x18, characters)
