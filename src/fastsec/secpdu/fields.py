"""The field table of the SecPDUs: every component, tag, size and CHOICE number as data; no logic.

The codecs are built from these rows when they are imported. Whoever holds the standard's free code components corrects
a wire-visible choice here and nowhere else. The mark says what a row rests on: S = published fact about IEC 62351-4,
C = our choice where public facts are silent (docs/conformance.md lists those). It marks the tag; names, order and
optionality of all components are S unless the comment says otherwise.

A tag is the identifier octets as they stand on the wire, big-endian: 0x30 = SEQUENCE, 0xA0 = [0] constructed.
"""

from __future__ import annotations

from enum import Enum, IntEnum, unique
from typing import Final, NamedTuple

from fastsec import limits


@unique
class SecPduKind(Enum):
    """The eleven SecPDUs; the value is the XML element name, the standard's name in lower camel case [C]."""

    __hash__ = object.__hash__  # members are singletons; Enum's own hash is a Python call

    HANDSHAKE_REQ = "handshakeReq"
    HANDSHAKE_ACC = "handshakeAcc"
    APPLICATION_REJECT = "applicationReject"
    HANDSHAKE_SEC_REJECT = "handshakeSecReject"
    HANDSHAKE_SEC_ABORT = "handshakeSecAbort"
    DT_SEC_ABORT = "dtSecAbort"
    APPL_ABORT = "applAbort"
    RELEASE_REQ = "releaseReq"
    RELEASE_RSP = "releaseRsp"
    CLEAR_TRANSFER = "clearTransfer"
    ENCR_TRANSFER = "encrTransfer"

    @property
    def standard_name(self) -> str:
        """The name as the standard writes it, e.g. ``HandshakeReq``."""
        return self.value[0].upper() + self.value[1:]


@unique
class Carrier(Enum):
    """What of the environment carries a SecPDU; over OSI the APDU with the user-information."""

    __hash__ = object.__hash__

    ASSOCIATE_REQ = "AARQ"
    ASSOCIATE_RSP = "AARE"
    ABORT = "ABRT"
    RELEASE_REQ = "RLRQ"
    RELEASE_RSP = "RLRE"
    DATA = "presentation data"


@unique
class Kind(Enum):
    """What the content of a component is; each codec has one reading and one writing function per member."""

    ALGORITHM = "AlgorithmIdentifier"
    ALGORITHMS = "SEQUENCE (SIZE(1..MAX)) OF AlgorithmIdentifier"
    ALGORITHM_SET = "SET (SIZE(1..MAX)) OF AlgorithmIdentifier"
    ASSO_ID = "AssoID"
    BOOLEAN = "BOOLEAN"
    CERT_PATH = "SEQUENCE OF OCTET STRING"
    DH_PUBLIC = "DhPublic"
    DH_SET = "SEQUENCE (SIZE(1..8)) OF DhPublic"
    ENCR_MODE = "CHOICE of the encryption modes"
    INTEGER = "INTEGER"
    NAMED_BITS = "BIT STRING with named bits"
    OCTETS = "OCTET STRING"
    TIME = "GeneralizedTime"
    UTF8 = "UTF8String"


class Mark(Enum):
    """What a row rests on."""

    S = "published fact"
    C = "choice of fastsec"


class Field(NamedTuple):
    """One component of a SEQUENCE.

    Attributes:
        name: the component's name in the standard.
        attribute: its name in ``fastsec.secpdu.model``.
        tag: identifier octets; for ENCR_MODE those of the first alternative.
        kind: what its content is.
        mark: what tag and kind rest on.
        optional: OPTIONAL or DEFAULT FALSE.
        maximum: largest allowed number of octets of content (OCTETS, UTF8), greatest value (INTEGER) or number of
            elements (lists); 0 = set by the kind alone.
    """

    name: str
    attribute: str
    tag: int
    kind: Kind
    mark: Mark
    optional: bool = False
    maximum: int = 0


S, C = Mark.S, Mark.C

SEQUENCE: Final = 0x30
ASSO_ID_PATTERN: Final = r"(?:0|[1-9][0-9]{0,2})(?::(?:0|[1-9][0-9]{0,2}))?"  # [S] pattern, [C] no leading zeros
# [S] form, [C] second 60, 0..9 digits of fraction, dot or comma
TIME_PATTERN: Final = (
    r"[0-9]{4}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])"
    r"(?:[01][0-9]|2[0-3])[0-5][0-9](?:[0-5][0-9]|60)(?:[.,][0-9]{1,9})?Z"
)
GROUP_MAX: Final = 65_535

CLEAR_TOKEN_1: Final = (
    Field("sigAlg", "sig_alg", 0x30, Kind.ALGORITHM, S),
    Field("pkCert", "pk_cert", 0x04, Kind.OCTETS, S, maximum=limits.SPEC_CERTIFICATE_MAX),
    Field("certPath", "cert_path", 0x30, Kind.CERT_PATH, C, True, limits.OUR_CERT_PATH_COUNT),
    Field("version", "version", 0x03, Kind.NAMED_BITS, S),
    Field("assoID", "asso_id", 0x0C, Kind.ASSO_ID, S),
    Field("dhKey", "dh_key", 0x30, Kind.DH_SET, C, maximum=limits.OUR_DH_SET_MAX),
    Field("hmac", "hmac", 0x30, Kind.ALGORITHM, S),
    Field("time", "time", 0x18, Kind.TIME, S),
    Field("encr-mode", "encr_mode", 0x30, Kind.ENCR_MODE, S),
    Field("confParams", "conf_params", 0x03, Kind.NAMED_BITS, S),
    Field("attCert", "att_cert", 0x04, Kind.OCTETS, S, True, limits.OUR_ATT_CERT_MAX),
)

# Alternatives of encr-mode. aea is the SEQUENCE OF itself, non-aea a SEQUENCE of these two components.
ENCR_MODE_AEA: Final = Field("aea", "algorithms", 0x30, Kind.ALGORITHMS, S, maximum=limits.OUR_LIST_MAX)
ENCR_MODE_NON_AEA_TAG: Final = 0xA0  # [S]
ENCR_MODE_NON_AEA: Final = (
    Field("encr", "encr", 0xA0, Kind.ALGORITHMS, S, True, limits.OUR_LIST_MAX),
    Field("icvAlgID", "icv", 0xA1, Kind.ALGORITHM_SET, S, maximum=limits.OUR_LIST_MAX),
)

DH_PUBLIC: Final = (
    Field("group", "group", 0x02, Kind.INTEGER, C, maximum=GROUP_MAX),
    Field("publicKey", "public", 0x04, Kind.OCTETS, C, maximum=limits.OUR_DH_PUBLIC_MAX),
)

CLEAR_TOKEN_2: Final = (
    Field("assoID", "asso_id", 0x0C, Kind.ASSO_ID, S),
    Field("time", "time", 0x18, Kind.TIME, S),
    Field("seq", "seq", 0x02, Kind.INTEGER, C, maximum=limits.OUR_SEQ_MAX),
    Field("iv", "iv", 0x80, Kind.OCTETS, C, True),
    Field("rekey", "rekey", 0xA1, Kind.DH_PUBLIC, C, True),
    Field("reqRekey", "req_rekey", 0x82, Kind.BOOLEAN, C, True),
    Field("changedKey", "changed_key", 0x83, Kind.BOOLEAN, C, True),
)

CLEAR_TOKEN_3: Final = (
    Field("sigAlg", "sig_alg", 0x30, Kind.ALGORITHM, C),
    Field("version", "version", 0x03, Kind.NAMED_BITS, C),
    Field("assoID", "asso_id", 0x80, Kind.ASSO_ID, C, True),
    Field("time", "time", 0x18, Kind.TIME, C),
    Field("pkCert", "pk_cert", 0x04, Kind.OCTETS, C, maximum=limits.SPEC_CERTIFICATE_MAX),
    Field("certPath", "cert_path", 0x30, Kind.CERT_PATH, C, True, limits.OUR_CERT_PATH_COUNT),
)

SIGNATURE: Final = (
    Field("algo", "algo", 0x30, Kind.ALGORITHM, S),
    Field("sign", "signature", 0x04, Kind.OCTETS, S, maximum=limits.OUR_SIGNATURE_MAX),
)

AUTHENTICATOR: Final = (
    Field("nonce", "nonce", 0x80, Kind.OCTETS, C, True),
    Field("algorithm", "algorithm", 0x30, Kind.ALGORITHM, C),
    Field("icv", "icv", 0x04, Kind.OCTETS, C),
)

# Components of the signed and of the protected part after their token.
PP: Final = Field("pp", "pp", 0x0C, Kind.UTF8, S, maximum=limits.OUR_PP_MAX)
DIAG: Final = Field("diag", "diag", 0x80, Kind.INTEGER, C, True, 2_147_483_647)
APPL_DATA_HANDSHAKE_TAG: Final = 0xE0  # [C] [PRIVATE 0] SEQUENCE { pp, data }, for other protocols than MMS
APPL_DATA_TRANSFER_TAG: Final = 0xC0  # [C] [PRIVATE 0] OCTET STRING
APPL_DATA_PP: Final = Field("pp", "pp", 0x0C, Kind.UTF8, C, maximum=limits.OUR_PP_MAX)
APPL_DATA_DATA: Final = Field("data", "data", 0x04, Kind.OCTETS, C)
ENCRYPTED_TAG: Final = 0x04  # applData of EncrTransfer


@unique
class Token(IntEnum):
    """Which ClearToken a SecPDU carries [S]."""

    CLEAR_TOKEN_1 = 1
    CLEAR_TOKEN_2 = 2
    CLEAR_TOKEN_3 = 3


@unique
class Body(Enum):
    """What may follow the token in tbs or tbp."""

    APPL_DATA = "applData"
    DIAG = "diag"


class SecPdu(NamedTuple):
    """One SecPDU.

    Attributes:
        kind: which.
        carrier: what carries it [S].
        tag: its outer tag there: 30, or that of the CHOICE, which replaces it [S over OSI].
        token: the ClearToken inside [S].
        body: applData or diag.
    """

    kind: SecPduKind
    carrier: Carrier
    tag: int
    token: Token
    body: Body


SEC_PDUS: Final = (
    SecPdu(SecPduKind.HANDSHAKE_REQ, Carrier.ASSOCIATE_REQ, 0x30, Token.CLEAR_TOKEN_1, Body.APPL_DATA),
    SecPdu(SecPduKind.HANDSHAKE_ACC, Carrier.ASSOCIATE_RSP, 0xA0, Token.CLEAR_TOKEN_1, Body.APPL_DATA),
    SecPdu(SecPduKind.APPLICATION_REJECT, Carrier.ASSOCIATE_RSP, 0xA1, Token.CLEAR_TOKEN_3, Body.APPL_DATA),
    SecPdu(SecPduKind.HANDSHAKE_SEC_REJECT, Carrier.ASSOCIATE_RSP, 0xA2, Token.CLEAR_TOKEN_3, Body.DIAG),
    SecPdu(SecPduKind.HANDSHAKE_SEC_ABORT, Carrier.ABORT, 0xA0, Token.CLEAR_TOKEN_3, Body.DIAG),
    SecPdu(SecPduKind.DT_SEC_ABORT, Carrier.ABORT, 0xA1, Token.CLEAR_TOKEN_3, Body.DIAG),
    SecPdu(SecPduKind.APPL_ABORT, Carrier.ABORT, 0xA2, Token.CLEAR_TOKEN_3, Body.APPL_DATA),
    SecPdu(SecPduKind.RELEASE_REQ, Carrier.RELEASE_REQ, 0x30, Token.CLEAR_TOKEN_3, Body.APPL_DATA),
    SecPdu(SecPduKind.RELEASE_RSP, Carrier.RELEASE_RSP, 0x30, Token.CLEAR_TOKEN_3, Body.APPL_DATA),
    SecPdu(SecPduKind.CLEAR_TRANSFER, Carrier.DATA, 0x30, Token.CLEAR_TOKEN_2, Body.APPL_DATA),
    SecPdu(SecPduKind.ENCR_TRANSFER, Carrier.DATA, 0x30, Token.CLEAR_TOKEN_2, Body.APPL_DATA),
)
OSI_DIAGNOSTICS_TAGS: Final = (0x83, 0xA3)  # [3] of the CHOICE in ABRT: received as opaque, never sent [S]

# The component after token2 in tbp that makes a ClearTransfer with nothing in it.
NULL_APPL_DATA_TAG: Final = 0x05  # [C]
