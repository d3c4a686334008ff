"""The events of the domain IEC62351-9 that validation of certificates raises (62351-14), by number."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from fastsec.events import SecurityEvent, event

DOMAIN: Final = "IEC62351-9"
CERTIFICATE: Final = 2
REVOCATION: Final = 4


class Cert(IntEnum):
    """Group 2, public-key certificates. 16, 23 and 24 are of TLS and 20 of keyEncipherment; here 20 stands for the
    keyAgreement that an end-to-end certificate needs."""

    FORMAT = 1
    SIGNATURE = 2
    VERSION = 3
    ISSUER = 4
    ALGORITHM = 5
    EXPIRED = 6
    EARLY = 7
    SUBJECT = 8
    ALGORITHM_MISMATCH = 9
    ANCHOR = 10
    PATH = 11
    CRITICAL = 12
    EXTENSION_VALUE = 13
    AUTHORITY_KEY_ID = 14
    SUBJECT_KEY_ID = 15
    BASIC_CONSTRAINTS = 17
    PATH_LENGTH = 18
    DIGITAL_SIGNATURE = 19
    KEY_USAGE = 20
    KEY_CERT_SIGN = 21
    CRL_SIGN = 22
    OCSP_SIGNING = 25
    NO_CRL_POINT = 26
    NO_OCSP = 27


class Revocation(IntEnum):
    """Group 4."""

    REVOKED = 1
    NO_CRL = 2
    CRL_EXPIRED = 3
    CRL_SIGNATURE = 4
    NO_OCSP = 5
    OCSP_TIMEOUT = 6
    OCSP_UNKNOWN = 7
    OCSP_EXPIRED = 8
    OCSP_SIGNATURE = 9


def certificate_event(number: int, **params: object) -> SecurityEvent:
    """An event of group 2."""
    return event(DOMAIN, CERTIFICATE, number, peer="", **params)


def revocation_event(number: int, **params: object) -> SecurityEvent:
    """An event of group 4."""
    return event(DOMAIN, REVOCATION, number, peer="", **params)
