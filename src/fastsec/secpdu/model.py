"""The values that the SecPDU codecs read and write (62351-4 SecPDUs). Immutable; no octets of the wire but where named.
Named tuples, because one handshake makes several of them and a frozen dataclass takes five times as long to make.

Attribute names are the standard's component names in snake case; ``fields`` ties both together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from fastsec import profile
from fastsec._core.cursor import Reader, Writer
from fastsec.errors import DecodeError
from fastsec.secpdu.fields import Body, Carrier, SecPduKind, Token

__all__ = [
    "AeaOffer",
    "AlgorithmId",
    "Body",
    "Carrier",
    "ClearToken1",
    "ClearToken3",
    "Control",
    "DhPublic",
    "Handshake",
    "NonAeaOffer",
    "SecPduKind",
    "Token",
    "algorithm_id",
]

_NULL: Final = b"\x05\x00"
_PARAMS_NULL: Final = frozenset({profile.SHA256_RSA, profile.HMAC_SHA256})
_PARAMS_NULL_OR_ABSENT: Final = _PARAMS_NULL | {profile.ECDSA_SHA256}
_MMS: Final = frozenset({profile.PP_MMS_OSI, profile.PP_MMS_XMPP})


@dataclass(frozen=True, slots=True, eq=False)
class AlgorithmId:
    """AlgorithmIdentifier. Two are equal when they mean the same: same OID, same ICV length; NULL and absent
    parameters are the same, aes-nonce and the IV in CBC parameters do not count. Parameters of an OID that fastsec
    does not know count octet by octet.

    Arguments:
        oid: dotted.
        params: the whole TLV of the parameters, or None. DecodeError if they do not fit a known OID.

    Attributes:
        icv_len: octets of the ICV: 32 for hmacWithSHA256, aes-ICVlen for GCM and GMAC, else 0.
        der: the encoding, with the parameters as given.
        key: what equality goes by.
    """

    oid: str
    params: bytes | None = None
    icv_len: int = field(init=False)
    der: bytes = field(init=False, repr=False)
    key: tuple[str, int, bytes | None] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        known = True
        icv_len = 0
        if self.oid in profile.GMAC_KEY_SIZE:
            icv_len = _gcm_icv_len(self.params)
        elif self.oid in profile.CBC_KEY_SIZE:
            if self.params is not None and self.params != _NULL and self.params[0] != 0x04:
                raise DecodeError("parameters of AES-CBC", step="AlgorithmIdentifier.parameters")
        elif self.oid in _PARAMS_NULL_OR_ABSENT:
            if self.params is not None and self.params != _NULL:
                raise DecodeError("parameters other than NULL", step="AlgorithmIdentifier.parameters")
            icv_len = profile.HMAC_ICV_LEN if self.oid == profile.HMAC_SHA256 else 0
        else:
            known = False
        writer = Writer()
        writer.begin(0x30)
        writer.oid(self.oid)
        if self.params is not None:
            writer.raw(self.params)
        writer.end()
        object.__setattr__(self, "icv_len", icv_len)
        object.__setattr__(self, "der", writer.getvalue())
        params = None if known or self.params == _NULL else self.params
        object.__setattr__(self, "key", (self.oid, icv_len, params))

    @property
    def pair(self) -> tuple[str, int]:
        """What is negotiated: (OID, ICV length)."""
        return self.oid, self.icv_len

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AlgorithmId) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


def _gcm_icv_len(params: bytes | None) -> int:
    """aes-ICVlen of GCMParameters (RFC 5084) and GMACParameters (RFC 9044): SEQUENCE { OCTET STRING, INTEGER
    DEFAULT 12 }; absent parameters mean the default too."""
    if params is None or params == _NULL:
        return profile.ICV_LEN_DEFAULT
    outer = Reader(params, step="AlgorithmIdentifier.parameters")
    outer.expect(0x30)
    outer.finish()
    inner = outer.enter()
    inner.octets()
    icv_len = inner.integer() if inner.more() else profile.ICV_LEN_DEFAULT
    inner.finish()
    if icv_len not in profile.ICV_LEN_RANGE:
        raise DecodeError("aes-ICVlen must be 12 to 16", step="AlgorithmIdentifier.parameters")
    return icv_len


def algorithm_id(oid: str, icv_len: int = 0) -> AlgorithmId:
    """The AlgorithmIdentifier as fastsec emits it.

    Arguments:
        oid: dotted.
        icv_len: octets of the ICV, 12 to 16, for GCM and GMAC; without meaning for others.
    """
    if oid in _PARAMS_NULL:
        return AlgorithmId(oid, _NULL)
    if oid not in profile.GMAC_KEY_SIZE:
        return AlgorithmId(oid)
    writer = Writer()
    writer.begin(0x30)
    writer.octets(bytes(12))
    if icv_len != profile.ICV_LEN_DEFAULT:
        writer.integer(icv_len)
    writer.end()
    return AlgorithmId(oid, writer.getvalue())


class DhPublic(NamedTuple):
    """A Diffie-Hellman public value.

    Attributes:
        group: its number (14, 23, 28 in the standard).
        public: MODP big-endian, left padded to the size of p; EC uncompressed point.
    """

    group: int
    public: bytes


class AeaOffer(NamedTuple):
    """encr-mode aea: algorithms of authenticated encryption, in the sender's order; in HandshakeAcc exactly one."""

    algorithms: tuple[AlgorithmId, ...]


class NonAeaOffer(NamedTuple):
    """encr-mode non-aea: encryption in the sender's order (None = absent: none), and a set of ICV algorithms."""

    encr: tuple[AlgorithmId, ...] | None
    icv: tuple[AlgorithmId, ...]


class ClearToken1(NamedTuple):
    """The token of HandshakeReq and HandshakeAcc.

    Attributes:
        sig_alg: algorithm of the sender's signature.
        pk_cert: DER certificate, at most 8192 octets.
        cert_path: DER certificates, issuer of pk_cert first; () = absent.
        version: mask of named bits; v1 is bit 0.
        asso_id: ``n`` in HandshakeReq, ``n:m`` in HandshakeAcc.
        dh_key: 1 to 8 values of different groups.
        hmac: the hash of HKDF.
        time: TimeStamp as text, see ``timestamp``.
        encr_mode: AeaOffer or NonAeaOffer.
        conf_params: mask of named bits, numbers in ``profile``; unknown ones are kept and mean nothing.
        att_cert: DER attribute certificate or None.
    """

    sig_alg: AlgorithmId
    pk_cert: bytes
    cert_path: tuple[bytes, ...]
    version: int
    asso_id: str
    dh_key: tuple[DhPublic, ...]
    hmac: AlgorithmId
    time: str
    encr_mode: AeaOffer | NonAeaOffer
    conf_params: int
    att_cert: bytes | None = None


class ClearToken3(NamedTuple):
    """The token of rejects, aborts and release; attributes as in ClearToken1, asso_id None = absent."""

    sig_alg: AlgorithmId
    version: int
    asso_id: str | None
    time: str
    pk_cert: bytes
    cert_path: tuple[bytes, ...] = ()


class Handshake(NamedTuple):
    """A received HandshakeReq or HandshakeAcc; nothing in it is verified.

    Attributes:
        kind: HANDSHAKE_REQ or HANDSHAKE_ACC.
        pp: name of the protected protocol; not signed.
        token1: see ClearToken1.
        appl_data: the TLV of applData as received, or None.
        tbs: the octets that are signed, exactly as received.
        algo: Signature.algo; not signed.
        signature: Signature.sign.
    """

    kind: SecPduKind
    pp: str
    token1: ClearToken1
    appl_data: bytes | None
    tbs: bytes
    algo: AlgorithmId
    signature: bytes

    def speaks(self, pp: str) -> bool:
        """Whether this is a handshake for the protected protocol ``pp``. Not only by the name outside, which nobody
        signed, but also by the form of applData, which the signature covers: MMS as it is, others in the wrapper
        [PRIVATE 0] that repeats their name."""
        if self.pp != pp:
            return False
        if self.appl_data is None:
            return pp not in _MMS
        return (self.appl_data[0] >= 0xC0) != (pp in _MMS)


class Control(NamedTuple):
    """A received signed SecPDU with ClearToken3; nothing in it is verified.

    Attributes:
        kind: which of the seven.
        token3: see ClearToken3.
        diag: the diagnostic's number, or None (absent, or a kind without).
        appl_data: the TLV of applData as received, or None.
        tbs: the octets that are signed, exactly as received.
        algo: Signature.algo; not signed.
        signature: Signature.sign.
    """

    kind: SecPduKind
    token3: ClearToken3
    diag: int | None
    appl_data: bytes | None
    tbs: bytes
    algo: AlgorithmId
    signature: bytes
