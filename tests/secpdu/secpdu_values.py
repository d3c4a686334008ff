"""Values for the SecPDU tests: Hypothesis strategies, and translation between fastsec's model and the reference's."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from fastsec import profile
from fastsec._core.cursor import tlv
from fastsec.secpdu import der
from fastsec.secpdu.fields import SEC_PDUS, Body, SecPdu, Token
from fastsec.secpdu.model import (
    AeaOffer,
    AlgorithmId,
    Carrier,
    ClearToken1,
    ClearToken3,
    Control,
    DhPublic,
    Handshake,
    NonAeaOffer,
    SecPduKind,
    algorithm_id,
)
from reference import secpdu as reference

MMS_PDU = bytes.fromhex("a826800300fde881010a82010a830105a416800101810305f100820c03ee1c00000408000079ef18")
ECDSA = algorithm_id(profile.ECDSA_SHA256)
RSA = algorithm_id(profile.SHA256_RSA)
HMAC = algorithm_id(profile.HMAC_SHA256)
SIGNED_ROWS = [row for row in SEC_PDUS if row.carrier is not Carrier.DATA]
HANDSHAKES = [row for row in SIGNED_ROWS if row.token is Token.CLEAR_TOKEN_1]
CONTROLS = [row for row in SIGNED_ROWS if row.token is Token.CLEAR_TOKEN_3]
ROW = {row.kind: row for row in SEC_PDUS}


def token1(**changes: Any) -> ClearToken1:
    """An ordinary ClearToken1 with changes."""
    values: dict[str, Any] = {
        "sig_alg": ECDSA,
        "pk_cert": b"\x30\x03cer",
        "cert_path": (b"\x30\x03one", b"\x30\x03two"),
        "version": 1,
        "asso_id": "17",
        "dh_key": (DhPublic(23, b"\x04" + bytes(range(64))), DhPublic(14, b"\x05" * 256)),
        "hmac": HMAC,
        "time": "20261120114419.123Z",
        "encr_mode": AeaOffer((algorithm_id(profile.AES128_GCM, 16), algorithm_id(profile.AES256_GCM, 12))),
        "conf_params": 2,
        "att_cert": b"\x30\x03att",
    }
    return ClearToken1(**(values | changes))


def token3(**changes: Any) -> ClearToken3:
    """An ordinary ClearToken3 with changes."""
    values: dict[str, Any] = {
        "sig_alg": RSA,
        "version": 1,
        "asso_id": "17:5",
        "time": "20261120114420.000Z",
        "pk_cert": b"\x30\x03cer",
        "cert_path": (b"\x30\x03one",),
    }
    return ClearToken3(**(values | changes))


def handshake(token: ClearToken1, appl_data: bytes | None = MMS_PDU, pp: str = profile.PP_MMS_OSI) -> bytes:
    """A HandshakeReq with a signature nobody checks."""
    tbs = der.encode_handshake_tbs(token, appl_data)
    return der.assemble(SecPduKind.HANDSHAKE_REQ, pp, tbs, token.sig_alg, b"signature")


def control(kind: SecPduKind, token: ClearToken3, diag: int | None = None, appl_data: bytes | None = None) -> bytes:
    """Another signed SecPDU with a signature nobody checks."""
    tbs = der.encode_control_tbs(kind, token, diag, appl_data)
    return der.assemble(kind, None, tbs, token.sig_alg, b"signature")


def sample(row: SecPdu) -> bytes:
    """One SecPDU of each signed kind."""
    if row.token is Token.CLEAR_TOKEN_1:
        token = token1()
        return der.assemble(row.kind, profile.PP_MMS_OSI, der.encode_handshake_tbs(token, MMS_PDU), ECDSA, b"sig")
    return control(row.kind, token3(), *((7, None) if row.body is Body.DIAG else (None, b"\xa2\x01x")))


# --- strategies -----------------------------------------------------------------------------------------------------

KNOWN_ALGORITHMS = [
    *(algorithm_id(oid, n) for oid in profile.GMAC_KEY_SIZE for n in profile.ICV_LEN_RANGE),
    *(algorithm_id(oid) for oid in profile.CBC_KEY_SIZE),
    *(AlgorithmId(oid, b"\x04\x02iv") for oid in profile.CBC_KEY_SIZE),
    HMAC,
    RSA,
    ECDSA,
    AlgorithmId(profile.ECDSA_SHA256, b"\x05\x00"),
]
_arcs = st.lists(st.integers(0, 2**40), min_size=1, max_size=5)
_unknown = st.builds(
    lambda arcs, params: AlgorithmId("1.3." + ".".join(map(str, arcs)), params),
    _arcs,
    st.none() | st.binary(max_size=20).map(lambda content: tlv(0x30, content)),
)
algorithms = st.sampled_from(KNOWN_ALGORITHMS) | _unknown
algorithm_lists = st.lists(algorithms, min_size=1, max_size=16, unique=True).map(tuple)
dh_sets = st.lists(
    st.builds(DhPublic, st.integers(0, 65535), st.binary(max_size=300)),
    min_size=1,
    max_size=8,
    unique_by=lambda key: key.group,
).map(tuple)
times = st.builds(
    lambda ms, digits, dot: der.time_text(ms)[:14] + (dot + digits if digits else "") + "Z",
    st.integers(-62_167_219_200_000, 253_402_300_799_999),
    st.text("0123456789", max_size=9),
    st.sampled_from(".,"),
)
_number = st.integers(0, 999).map(str)
asso_ids = _number | st.tuples(_number, _number).map(":".join)
paths = st.lists(st.binary(max_size=200), max_size=4).map(tuple)
encr_modes = st.builds(AeaOffer, algorithm_lists) | st.builds(
    # SET OF: the encoder sorts, so only the sorted order comes back as it went.
    lambda encr, icv: NonAeaOffer(encr, tuple(sorted(icv, key=lambda algorithm: algorithm.der))),
    st.none() | algorithm_lists,
    algorithm_lists,
)
masks = st.integers(0, 2**20)
token1s = st.builds(
    ClearToken1,
    sig_alg=algorithms,
    pk_cert=st.binary(max_size=600),
    cert_path=paths,
    version=masks,
    asso_id=asso_ids,
    dh_key=dh_sets,
    hmac=algorithms,
    time=times,
    encr_mode=encr_modes,
    conf_params=masks,
    att_cert=st.none() | st.binary(max_size=300),
)
token3s = st.builds(
    ClearToken3,
    sig_alg=algorithms,
    version=masks,
    asso_id=st.none() | asso_ids,
    time=times,
    pk_cert=st.binary(max_size=600),
    cert_path=paths,
)
_context_tags = st.integers(0x80, 0xBF).filter(lambda tag: tag & 0x1F != 0x1F) | st.sampled_from([0xBF1F, 0x9F8101])
mms_pdus = st.builds(tlv, _context_tags, st.binary(max_size=300))
opaque_pdus = st.builds(tlv, st.sampled_from([0xC0, 0xE0]), st.binary(max_size=300))
pps = st.sampled_from([profile.PP_MMS_OSI, profile.PP_MMS_XMPP])
names = st.text(max_size=16).filter(lambda name: name not in (profile.PP_MMS_OSI, profile.PP_MMS_XMPP))


@st.composite
def handshake_parts(draw: st.DrawFn) -> tuple[str, bytes | None]:
    """(pp, applData) that belong together."""
    if draw(st.booleans()):
        return draw(pps), draw(mms_pdus)
    pp = draw(names)
    return pp, draw(st.none() | st.binary(max_size=300).map(lambda data: der.wrap_appl_data(pp, data)))


# --- fastsec's model as the reference has it ------------------------------------------------------------------------


def bit_set(mask: int) -> set[int]:
    return {n for n in range(mask.bit_length()) if mask >> n & 1}


def as_reference_algorithm(value: AlgorithmId) -> reference.Algorithm:
    return value.oid, value.params


def as_reference_token(token: ClearToken1 | ClearToken3) -> reference.Token:
    out: reference.Token = {
        "sigAlg": as_reference_algorithm(token.sig_alg),
        "pkCert": token.pk_cert,
        "version": bit_set(token.version),
        "time": token.time,
    }
    if token.asso_id is not None:
        out["assoID"] = token.asso_id
    if token.cert_path:
        out["certPath"] = list(token.cert_path)
    if isinstance(token, ClearToken3):
        return out
    mode = token.encr_mode
    if isinstance(mode, AeaOffer):
        out["encr-mode"] = ("aea", [as_reference_algorithm(one) for one in mode.algorithms])
    else:
        encr = None if mode.encr is None else [as_reference_algorithm(one) for one in mode.encr]
        out["encr-mode"] = ("non-aea", encr, [as_reference_algorithm(one) for one in mode.icv])
    out["dhKey"] = [(key.group, key.public) for key in token.dh_key]
    out["hmac"] = as_reference_algorithm(token.hmac)
    out["confParams"] = bit_set(token.conf_params)
    if token.att_cert is not None:
        out["attCert"] = token.att_cert
    return out


def as_reference(pdu: Handshake | Control) -> reference.SignedPdu:
    is_handshake = isinstance(pdu, Handshake)
    token = as_reference_token(pdu.token1 if isinstance(pdu, Handshake) else pdu.token3)
    return reference.SignedPdu(
        pdu.kind.standard_name,
        pdu.pp if isinstance(pdu, Handshake) else None,
        token,
        None if is_handshake else pdu.diag,
        pdu.appl_data,
        pdu.tbs,
        as_reference_algorithm(pdu.algo),
        pdu.signature,
    )


def without_empty_path(pdu: reference.SignedPdu) -> reference.SignedPdu:
    """fastsec does not tell an empty certPath from an absent one."""
    token = {name: value for name, value in pdu.token.items() if name != "certPath" or value}
    return pdu._replace(token=token)
