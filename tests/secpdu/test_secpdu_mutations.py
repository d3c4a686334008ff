"""Every truncation and every bit flip of every signed SecPDU: refused, or decoded to something whose signature check
fails, or one of the octets that nobody signs, which are listed here and caught by the check named with them."""

from __future__ import annotations

import functools
from datetime import datetime

import pytest
import secpdu_values as values
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from fastsec import profile
from fastsec._core.pk import PublicKey
from fastsec.errors import DecodeError, PeerError
from fastsec.secpdu import der
from fastsec.secpdu.fields import Body, SecPdu, Token
from fastsec.secpdu.model import Carrier, Handshake, SecPduKind, algorithm_id
from reference import keys
from reference.tlv import Fault

# Flipped bits make serial numbers that are not positive; cryptography says that it will refuse them one day. The test
# wants a fault or a value, so either is right.
pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")

PP = profile.PP_MMS_OSI.encode()
Private = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@functools.cache
def identity(kind: str) -> tuple[Private, bytes]:
    """A key and a certificate for it, signed by itself."""
    make = {"rsa": lambda: rsa.generate_private_key(65537, 2048), "ec": lambda: ec.generate_private_key(ec.SECP256R1())}
    key: Private = make[kind]()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "n")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1)
    builder = builder.not_valid_before(datetime(2020, 1, 1)).not_valid_after(datetime(2040, 1, 1))
    return key, builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


@functools.cache
def signed(row: SecPdu, kind: str) -> bytes:
    """One SecPDU with a true signature."""
    key, certificate = identity(kind)
    algo = algorithm_id(keys.algorithm_of(key))
    if row.token is Token.CLEAR_TOKEN_1:
        token1 = values.token1(sig_alg=algo, pk_cert=certificate, cert_path=(), att_cert=None)
        token1 = token1._replace(dh_key=token1.dh_key[:1])
        tbs = der.encode_handshake_tbs(token1, values.MMS_PDU)
        return der.assemble(row.kind, profile.PP_MMS_OSI, tbs, algo, keys.sign(key, tbs))
    token3 = values.token3(sig_alg=algo, pk_cert=certificate, cert_path=())
    body = (4, None) if row.body is Body.DIAG else (None, b"\xa2\x03\x80\x01x")
    tbs = der.encode_control_tbs(row.kind, token3, *body)
    return der.assemble(row.kind, None, tbs, algo, keys.sign(key, tbs))


def verdict(carrier: Carrier, octets: bytes) -> str:
    """The first check that refuses this SecPDU, in the order of the specification; "" if it passes them all."""
    try:
        pdu = der.decode(carrier, octets)
    except DecodeError as error:
        return "decode" if error.check == "protocol-error" and error.step else "an error without its place"
    token = pdu.token1 if isinstance(pdu, Handshake) else pdu.token3
    if token.sig_alg != pdu.algo:
        return "sig-mismatch"
    try:
        keys.verify(token.pk_cert, pdu.algo.oid, pdu.tbs, pdu.signature)
    except Fault:
        return "signature"
    if isinstance(pdu, Handshake) and not pdu.speaks(profile.PP_MMS_OSI):
        return "pp"
    return "" if pdu.kind is der.kind_of(carrier, octets) else "kind"


CASES = [(row, "ec") for row in values.SIGNED_ROWS] + [(row, "rsa") for row in values.SIGNED_ROWS[:4]]
cases = pytest.mark.parametrize(("row", "key"), CASES, ids=[f"{row.kind.value}-{key}" for row, key in CASES])
# What one flipped bit of the CHOICE's tag makes of a terminal PDU: tbs carries no type tag. The state machine still
# ends the association, which is what both kinds mean.
OTHER_KIND = {
    SecPduKind.HANDSHAKE_SEC_ABORT: {SecPduKind.DT_SEC_ABORT, SecPduKind.APPL_ABORT},
    SecPduKind.DT_SEC_ABORT: {SecPduKind.HANDSHAKE_SEC_ABORT},
    SecPduKind.APPL_ABORT: {SecPduKind.HANDSHAKE_SEC_ABORT},
}


@cases
def test_the_untouched_pdu_passes(row: SecPdu, key: str) -> None:
    octets = signed(row, key)
    assert verdict(row.carrier, octets) == ""
    pdu = der.decode(row.carrier, octets)
    token = pdu.token1 if isinstance(pdu, Handshake) else pdu.token3
    certificate = x509.load_der_x509_certificate(token.pk_cert)
    spki = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    PublicKey.from_spki(spki).verify(pdu.algo.oid, pdu.tbs, pdu.signature)
    with pytest.raises(PeerError):
        PublicKey.from_spki(spki).verify(pdu.algo.oid, pdu.tbs + b"\0", pdu.signature)


@cases
def test_every_truncation(row: SecPdu, key: str) -> None:
    octets = signed(row, key)
    for length in range(len(octets)):
        assert verdict(row.carrier, octets[:length]) == "decode"
    assert verdict(row.carrier, octets + b"\0") == "decode"


@cases
def test_every_bit_flip(row: SecPdu, key: str) -> None:
    octets = signed(row, key)
    name_of_protocol = range(octets.find(PP), octets.find(PP) + len(PP)) if PP in octets else range(0)
    kinds = set()
    found = set()
    for bit in range(8 * len(octets)):
        flipped = bytearray(octets)
        flipped[bit // 8] ^= 0x80 >> bit % 8
        result = verdict(row.carrier, bytes(flipped))
        found.add(result)
        if bit // 8 in name_of_protocol:
            assert result in ("pp", "decode")  # decode: what is no UTF-8 any more
        elif result == "":
            assert bit < 8
            kinds.add(der.kind_of(row.carrier, bytes(flipped)))
        else:
            assert result in ("decode", "sig-mismatch", "signature"), (bit // 8, result)
    assert kinds == OTHER_KIND.get(row.kind, set())
    assert found - {""} >= {"decode", "signature"} | ({"pp"} if name_of_protocol else set())


@pytest.mark.parametrize("key", ["ec", "rsa"])
def test_parameters_of_the_unsigned_algorithm(key: str) -> None:
    """Signature.algo is not signed: NULL may come and go there, which changes no meaning; nothing else passes."""
    row = values.SIGNED_ROWS[0]
    pdu = der.decode(row.carrier, signed(row, key))
    for params in (b"", b"\x05\x00"):
        algo = algorithm_id(pdu.algo.oid)
        object.__setattr__(algo, "der", _algorithm(algo.oid, params))
        octets = der.assemble(row.kind, profile.PP_MMS_OSI, pdu.tbs, algo, pdu.signature)
        assert verdict(row.carrier, octets) == ""
    for params in (b"\x04\x00", b"\x30\x00", b"\x05\x00\x05\x00", b"\x05\x01\x00"):
        object.__setattr__(algo, "der", _algorithm(algo.oid, params))
        octets = der.assemble(row.kind, profile.PP_MMS_OSI, pdu.tbs, algo, pdu.signature)
        assert verdict(row.carrier, octets) == "decode"


def _algorithm(oid: str, params: bytes) -> bytes:
    encoded = algorithm_id(oid).der
    content = encoded[2 : 4 + encoded[3]] + params
    return bytes([0x30, len(content)]) + content


def test_lengths_outside_tbs_may_be_rewritten() -> None:
    """BER: an intermediary may write longer length octets around the signed part. The content stays what was signed."""
    row = values.SIGNED_ROWS[0]
    octets = signed(row, "ec")
    pdu = der.decode(row.carrier, octets)
    assert isinstance(pdu, Handshake)
    sign = der.assemble(SecPduKind.RELEASE_REQ, None, b"", pdu.algo, pdu.signature)[4:]
    inner = b"\x0c\x81\x0d" + PP + b"\x30\x84" + len(pdu.tbs).to_bytes(4, "big") + pdu.tbs + sign
    again = b"\x30\x85" + len(inner).to_bytes(5, "big") + inner
    assert der.decode(row.carrier, again) == pdu
    assert verdict(row.carrier, again) == ""
