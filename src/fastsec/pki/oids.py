"""Object identifiers and bit numbers of X.509 and RFC 5280 that this package names."""

from __future__ import annotations

from typing import Final

from fastsec import profile

OBJECT_IDENTIFIER: Final = profile.OID_SUBJECT_OBJECT_IDENTIFIER
NAME_ATTRIBUTES: Final[dict[str, str]] = {"cn": "2.5.4.3", "o": "2.5.4.10", "ou": "2.5.4.11"}

SUBJECT_KEY_IDENTIFIER: Final = "2.5.29.14"
KEY_USAGE: Final = "2.5.29.15"
SUBJECT_ALT_NAME: Final = "2.5.29.17"
BASIC_CONSTRAINTS: Final = "2.5.29.19"
CRL_NUMBER: Final = "2.5.29.20"
DELTA_CRL_INDICATOR: Final = "2.5.29.27"
ISSUING_DISTRIBUTION_POINT: Final = "2.5.29.28"
CRL_DISTRIBUTION_POINTS: Final = "2.5.29.31"
CRL_REASON: Final = "2.5.29.21"
CERTIFICATE_POLICIES: Final = "2.5.29.32"
AUTHORITY_KEY_IDENTIFIER: Final = "2.5.29.35"
EXTENDED_KEY_USAGE: Final = "2.5.29.37"
IEC_USER_ROLES: Final = "1.0.62351.8.1"  # IS 2020, as emitted
IEC_USER_ROLES_2011: Final = "1.2.840.10070.8.1"
SOA_IDENTIFIER: Final = "2.5.29.50"
NO_REVOCATION_AVAILABLE: Final = "2.5.29.56"
ANY_PURPOSE: Final = "2.5.29.37.0"
AUTHORITY_INFO_ACCESS: Final = "1.3.6.1.5.5.7.1.1"
ACCESS_OCSP: Final = "1.3.6.1.5.5.7.48.1"
OCSP_BASIC: Final = "1.3.6.1.5.5.7.48.1.1"
OCSP_NONCE: Final = "1.3.6.1.5.5.7.48.1.2"
OCSP_NO_CHECK: Final = "1.3.6.1.5.5.7.48.1.5"
OCSP_SIGNING: Final = "1.3.6.1.5.5.7.3.9"
SERVER_AUTH: Final = "1.3.6.1.5.5.7.3.1"
CLIENT_AUTH: Final = "1.3.6.1.5.5.7.3.2"

# keyUsage bit numbers (RFC 5280 4.2.1.3)
KU_DIGITAL_SIGNATURE: Final = 0
KU_KEY_ENCIPHERMENT: Final = 2
KU_KEY_AGREEMENT: Final = 4
KU_KEY_CERT_SIGN: Final = 5
KU_CRL_SIGN: Final = 6

RSA_WITH: Final[dict[str, str]] = {
    "sha256": profile.SHA256_RSA,
    "sha384": "1.2.840.113549.1.1.12",
    "sha512": "1.2.840.113549.1.1.13",
}
ECDSA_WITH: Final[dict[str, str]] = {
    "sha256": profile.ECDSA_SHA256,
    "sha384": "1.2.840.10045.4.3.3",
    "sha512": "1.2.840.10045.4.3.4",
}
SIGNATURES: Final = frozenset([*RSA_WITH.values(), *ECDSA_WITH.values()])
