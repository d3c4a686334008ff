"""The authentication of an A-profile's AARQ or AARE: what it says, and whether the signature verifies."""

from __future__ import annotations

from typing import Any, Final

from fastsec import profile
from fastsec.aprofile import subject_text
from fastsec.envs.osi.acse import Authentication
from fastsec.errors import DecodeError, IntegrityError, PeerError
from fastsec.inspect.words import printable
from fastsec.pki.certificate import Certificate
from fastsec.secpdu import authentication

_READINGS: Final = ("the characters of the time", "its encoding as on the wire", "its encoding as GeneralizedTime")


def describe(given: Authentication) -> dict[str, Any] | None:
    """What an A-profile authentication-value holds, None where there is none; faults are told, never raised.

    Whether the certificate is trusted, the time fresh and the value new is not judged here.
    """
    if given.mechanism != profile.OID_MMS_AUTHENTICATION:
        return None
    about: dict[str, Any] = {}
    try:
        proof = given.proof
        if proof is None:
            return {"fault": "no authentication-value of external or other"}
        about["carrier"] = proof.carrier
        value = authentication.decode(proof.value)
    except DecodeError as error:
        return {**about, "fault": f"{error.step}: {error}" if error.step else str(error)}
    about["time"] = printable(value.time)
    try:
        certificate = Certificate(value.certificate)
        about["subject"] = printable(subject_text(certificate.subject))
        about["serial"] = certificate.serial.hex()
        about["sha256"] = certificate.sha256.hex()
        about["key"] = f"{certificate.public_key.kind} of {certificate.public_key.bits} bits"
    except PeerError as error:
        return {**about, "fault": f"certificate: {error}"}
    about["signature"] = "does not verify"
    for reading, octets in zip(_READINGS, authentication.accepted_octets(value.time), strict=True):
        try:
            certificate.public_key.verify(profile.SHA256_RSA, octets, value.signature)
        except IntegrityError:
            continue
        about["signature"] = f"verified, over {reading}"
        break
    return about
