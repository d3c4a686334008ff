"""The wire constants of IEC 62351-4 as data: OIDs, algorithm identifiers, groups, diagnostics, bits, names.

Together with ``fastsec.secpdu.fields`` this is the one place to correct when a choice marked [C] turns out to differ
from the standard's free code components. [S] = published fact about the standard, [C] = our choice. No logic here.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

# --- protected protocols (NMTOKEN pp) -------------------------------------------------------------------------------
PP_MMS_OSI: Final = "IEC 61850-8-1"  # [S]
PP_MMS_XMPP: Final = "IEC 61850-8-2"  # [S]

# --- object identifiers ---------------------------------------------------------------------------------------------
OID_E2E_SECURITY_AS: Final = "1.0.62351.4.1.1.1"  # [C] arcs below {1 0 62351 4}
OID_E2E_MMS_AC: Final = "1.0.62351.4.2.1"  # [C] arcs
OID_MMS_AS: Final = "1.0.9506.2.1"  # [S]
OID_MMS_AC: Final = "1.0.9506.2.3"  # [S] basic-AC
OID_MMS_AC_FIELD: Final = "1.0.9506.1.1"  # seen from a device in the field
OID_ACSE_AS: Final = "2.2.1.0.1"
OID_BER: Final = "2.1.1"
OID_ACSE_PASSWORD: Final = "2.2.3.1"  # noqa: S105 — the mechanism's name
OID_SUBJECT_OBJECT_IDENTIFIER: Final = "2.5.4.106"  # [S] Annex G

SHA256_RSA: Final = "1.2.840.113549.1.1.11"
ECDSA_SHA256: Final = "1.2.840.10045.4.3.2"
HMAC_SHA256: Final = "1.2.840.113549.2.9"
AES128_CBC: Final = "2.16.840.1.101.3.4.1.2"
AES256_CBC: Final = "2.16.840.1.101.3.4.1.42"
AES128_GCM: Final = "2.16.840.1.101.3.4.1.6"
AES256_GCM: Final = "2.16.840.1.101.3.4.1.46"
AES128_GMAC_RFC9044: Final = "2.16.840.1.101.3.4.1.9"
AES256_GMAC_RFC9044: Final = "2.16.840.1.101.3.4.1.49"

# --- A-security-profile of 2007 (compatibility mode) ----------------------------------------------------------------
OID_MMS_AUTHENTICATION: Final = "1.0.840.0.1.0.1.1"  # [S] mechanism-name
OID_MMS_AUTHENTICATION_AS: Final = "1.0.840.0.1.1.4.1"  # [S] mmsAuthenticationAS
CONTEXT_MMS_AUTHENTICATION: Final = 5  # offered id, as in the field; on reception go by OID
A_PROFILE_SIGNED: Final = "characters"  # [C] what is signed: the characters of time (field) or its encoding (text)
A_PROFILE_TIME: Final = "field"  # [C] YYYYMMDDhhmmss. (field); both readings are 15 characters
A_PROFILE_TIME_TAG: Final = 0x81  # [C] tag of the encoding that is signed where the encoding is: the one on the wire
A_PROFILE_CARRIER: Final = "external"  # [C] alternative of the ACSE authentication-value (field)

CONTEXT_ACSE: Final = 1
CONTEXT_MMS: Final = 3
CONTEXT_E2E: Final = 5  # offered id; on reception go by OID


GCM_KEY_SIZE: Final[dict[str, int]] = {AES128_GCM: 16, AES256_GCM: 32}
GMAC_KEY_SIZE: Final[dict[str, int]] = {  # [C] GMAC uses the GCM OID; RFC 9044's are accepted
    AES128_GCM: 16,
    AES256_GCM: 32,
    AES128_GMAC_RFC9044: 16,
    AES256_GMAC_RFC9044: 32,
}
CBC_KEY_SIZE: Final[dict[str, int]] = {AES128_CBC: 16, AES256_CBC: 32}
ICV_LEN_DEFAULT: Final = 12  # RFC 5084
ICV_LEN_RANGE: Final = range(12, 17)
HMAC_ICV_LEN: Final = 32
HMAC_KEY_SIZE: Final = 32
NULL_APPL_DATA: Final = b"\x05\x00"  # [C] the NULL transfer


class Group(IntEnum):
    """Diffie-Hellman groups by the numbers the standard uses."""

    MODP_2048 = 14  # RFC 3526
    SECP256R1 = 23  # [S] the standard's number for secp256r1
    BRAINPOOL_P256R1 = 28


# fmt: off
MODP_2048_PRIME: Final = int(  # RFC 3526
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74"
    "020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B302B0A6DF25F1437"
    "4FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE45B3DC2007CB8A163BF05"
    "98DA48361C55D39A69163FA8FD24CF5F83655D23DCA3AD961C62F356208552BB"
    "9ED529077096966D670C354E4ABC9804F1746C08CA18217C32905E462E36CE3B"
    "E39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF695581718"
    "3995497CEA956AE515D2261898FA051015728E5A8AACAA68FFFFFFFFFFFFFFFF",
    16,
)
# fmt: on


# --- bit numbers ----------------------------------------------------------------------------------------------------
VERSION_V1_BIT: Final = 0
CONF_TLS_PROTECTED: Final = 0  # [C]
CONF_APPL_PROTECTED: Final = 1  # [C]
CONF_VPN: Final = 2  # [C]


class HandshakeDiag(IntEnum):
    """HandshakeDiagnostics; numbers [S], ENUMERATED [C]."""

    NO_REASON_GIVEN = 0
    PROTOCOL_ERROR = 1
    PROTECTED_PROTOCOL_NOT_SUPPORTED = 2
    INVALID_SIGNATURE_ALGORITHM = 3
    UNEXPECTED_VERSION = 4
    HMAC_ALGORITHM_NOT_SUPPORTED = 5
    ENCRYPTION_NOT_REQUIRED = 6
    ENCRYPTION_REQUIRED = 7
    INVALID_PUBLIC_KEY_CERTIFICATE = 8
    INVALID_CERTIFICATION_PATH = 9
    INVALID_TIME_VALUE = 10
    DH_GROUP_NOT_SUPPORTED = 11
    ILLEGAL_DH_GROUP_SELECTED = 12
    ICV_ALGORITHMS_NOT_SUPPORTED = 13
    ENCRYPT_ALGORITHMS_NOT_SUPPORTED = 14
    AEA_ALGORITHMS_NOT_SUPPORTED = 15
    INVALID_ATTRIBUTE_CERTIFICATE = 16
    ENCR_MODE_AEA_NOT_SUPPORTED = 17
    AE_IS_REQUIRED = 18
    AEA_SELECT_BUT_ENCRYP_NOT_SUPP = 19
    INVALID_AE_ALGORITHM = 20
    SINGLE_AE_ALGORITHM_REQUIRED = 21
    AE_NOT_USED = 22
    INVALID_ENCRYPTION_ALGORITHM = 23
    SINGLE_ENCRYPT_ALGO_REQUIRED = 24
    SINGLE_ICV_ALGO_REQUIRED = 25


class DtDiag(IntEnum):
    """DtDiagnostics; numbers [S], the last two [C], ENUMERATED [C]."""

    NO_REASON_GIVEN = 0
    PROTOCOL_ERROR = 1
    UNEXPECTED_VERSION = 2
    ENCRYPTION_NOT_SELECTED = 3
    ENCRYPTION_REQUIRED = 4
    GMAC_NONCE_REQUIRED = 5
    INVALID_SEQUENCE_NUMBER = 6
    AES_INIT_VECTOR_REQUIRED = 7
    UNEXPECTED_DH_PUBLIC_KEY = 8
    UNEXPECTED_CHANGED_KEYS = 9
    INVALID_TIME_VALUE = 10
    GMAC_INIT_VECTOR_REQUIRED = 11


# Where a diagnostic's name holds that of a component of the tokens.
_COMPONENT_NAMES = (
    ("signature-algorithm", "signatureAlgorithm"),
    ("dh-group", "dhGroup"),
    ("dh-public-key", "dhPublicKey"),
    ("changed-keys", "changedKeys"),
)


def wire_name(diagnostic: IntEnum) -> str:
    """The diagnostic's name as the standard spells it, e.g. ``invalid-time-value``, ``dhGroup-not-supported``."""
    name = diagnostic.name.lower().replace("_", "-")
    for ours, theirs in _COMPONENT_NAMES:
        name = name.replace(ours, theirs)
    return name
