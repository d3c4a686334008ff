"""The nine signed SecPDUs. Tokens are dicts with the standard's component names; absent components have no key.

``sigAlg``, ``hmac`` and the lists hold (OID, parameters as DER or None); ``version`` and ``confParams`` are sets of
bit numbers; ``dhKey`` is a list of (group, public value); ``encr-mode`` is ("aea", list) or ("non-aea", list or None,
list).
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from .tlv import (
    Components,
    Fault,
    Tlv,
    bad,
    bits,
    integer,
    oid,
    only,
    read,
    read_bits,
    read_integer,
    read_oid,
    tlv,
    walk,
)

Algorithm = tuple[str, bytes | None]
Token = dict[str, Any]

RSA_SHA256 = "1.2.840.113549.1.1.11"
ECDSA_SHA256 = "1.2.840.10045.4.3.2"
HMAC_SHA256 = "1.2.840.113549.2.9"
AES = {"aes128-CBC": "2.16.840.1.101.3.4.1.2", "aes256-CBC": "2.16.840.1.101.3.4.1.42"}
AES |= {"aes128-GCM": "2.16.840.1.101.3.4.1.6", "aes256-GCM": "2.16.840.1.101.3.4.1.46"}
AES |= {"aes128-GMAC": "2.16.840.1.101.3.4.1.9", "aes256-GMAC": "2.16.840.1.101.3.4.1.49"}
GCM_LIKE = {AES["aes128-GCM"], AES["aes256-GCM"], AES["aes128-GMAC"], AES["aes256-GMAC"]}
CBC = {AES["aes128-CBC"], AES["aes256-CBC"]}
NULL = b"\x05\x00"
MMS = {"IEC 61850-8-1", "IEC 61850-8-2"}

# (carrier, outer tag) -> name, token, does a diag follow
SIGNED = {
    ("AARQ", 0x30): ("HandshakeReq", 1, False),
    ("AARE", 0xA0): ("HandshakeAcc", 1, False),
    ("AARE", 0xA1): ("ApplicationReject", 3, False),
    ("AARE", 0xA2): ("HandshakeSecReject", 3, True),
    ("ABRT", 0xA0): ("HandshakeSecAbort", 3, True),
    ("ABRT", 0xA1): ("DtSecAbort", 3, True),
    ("ABRT", 0xA2): ("ApplAbort", 3, False),
    ("RLRQ", 0x30): ("ReleaseReq", 3, False),
    ("RLRE", 0x30): ("ReleaseRsp", 3, False),
}
OUTER = {name: (carrier, tag) for (carrier, tag), (name, _, _) in SIGNED.items()}


class SignedPdu(NamedTuple):
    name: str
    pp: str | None
    token: Token
    diag: int | None
    appl_data: bytes | None
    tbs: bytes
    algo: Algorithm
    signature: bytes


# --- AlgorithmIdentifier --------------------------------------------------------------------------------------------


def algorithm(name: str, icv_len: int = 12) -> Algorithm:
    """By OID, as it is emitted."""
    if name in (RSA_SHA256, HMAC_SHA256):
        return name, NULL
    if name in GCM_LIKE:
        return name, tlv(0x30, tlv(0x04, bytes(12)) + (integer(icv_len) if icv_len != 12 else b""))
    return name, None


def encode_algorithm(value: Algorithm) -> bytes:
    return tlv(0x30, oid(value[0]) + (value[1] or b""))


def decode_algorithm(item: Tlv) -> Algorithm:
    if len(item.whole) > 128:
        raise bad("AlgorithmIdentifier too long")
    parts = Components(item.content)
    name = read_oid(parts.take(0x06))
    params = parts.left.pop(0).whole if parts.left else None
    parts.finish()
    meaning((name, params))
    return name, params


def meaning(value: Algorithm) -> tuple[str, int, bytes | None]:
    """What two AlgorithmIdentifiers are compared by: OID, ICV length, parameters of unknown ones."""
    name, params = value
    if params == NULL:
        params = None
    if name in GCM_LIKE:
        if params is None:
            return name, 12, None
        outer = only(params)
        if outer.tag != 0x30:
            raise bad("GCM parameters")
        parts = Components(outer.content)
        parts.take(0x04)
        icv_len = read_integer(parts.take(0x02), 12, 16) if parts.left else 12
        parts.finish()
        return name, icv_len, None
    if name in CBC:
        if params is not None and params[0] != 0x04:
            raise bad("CBC parameters")
        return name, 0, None
    if name in (RSA_SHA256, ECDSA_SHA256, HMAC_SHA256):
        if params is not None:
            raise bad("parameters")
        return name, 32 if name == HMAC_SHA256 else 0, None
    return name, 0, params


def decode_algorithms(content: bytes) -> list[Algorithm]:
    found: list[Algorithm] = []
    for item in walk(content):
        if item.tag != 0x30:
            raise bad("list of algorithms")
        found.append(decode_algorithm(item))
    if not 1 <= len(found) <= 16 or len({meaning(one) for one in found}) != len(found):
        raise bad("list of algorithms")
    return found


# --- tokens ---------------------------------------------------------------------------------------------------------

_TIME = re.compile(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(?:[.,](\d{1,9}))?Z", re.ASCII)
_NUMBER = re.compile(r"\d{1,3}(:\d{1,3})?", re.ASCII)


def time_digits(text: str) -> str:
    """What TimeStamps are ordered and compared by: all digits, the fraction to nine."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise bad("TimeStamp")
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    leap = (year % 4 == 0 and year % 100 != 0) or year % 400 == 0
    days = [31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    if not 1 <= month <= 12 or not 1 <= day <= days[month - 1] or hour > 23 or minute > 59 or second > 60:
        raise bad("TimeStamp")
    return text[:14] + (found[7] or "").ljust(9, "0")


def read_time(item: Tlv) -> str:
    text = item.content.decode("latin-1")
    time_digits(text)
    return text


def read_asso_id(item: Tlv) -> str:
    text = item.content.decode("latin-1")
    if not _NUMBER.fullmatch(text) or any(len(part) > 1 and part[0] == "0" for part in text.split(":")):
        raise bad("AssoID")
    return text


def read_octets(item: Tlv, maximum: int) -> bytes:
    if len(item.content) > maximum:
        raise bad("too long")
    return item.content


def encode_token1(token: Token) -> bytes:
    mode = token["encr-mode"]
    out = encode_algorithm(token["sigAlg"]) + tlv(0x04, token["pkCert"])
    if token.get("certPath"):
        out += tlv(0x30, b"".join(tlv(0x04, one) for one in token["certPath"]))
    out += bits(token["version"]) + tlv(0x0C, token["assoID"].encode())
    out += tlv(0x30, b"".join(encode_dh(one) for one in token["dhKey"]))
    out += encode_algorithm(token["hmac"]) + tlv(0x18, token["time"].encode())
    if mode[0] == "aea":
        out += tlv(0x30, b"".join(encode_algorithm(one) for one in mode[1]))
    else:
        encr = tlv(0xA0, b"".join(encode_algorithm(one) for one in mode[1])) if mode[1] is not None else b""
        out += tlv(0xA0, encr + tlv(0xA1, b"".join(sorted(encode_algorithm(one) for one in mode[2]))))
    out += bits(token["confParams"])
    if token.get("attCert") is not None:
        out += tlv(0x04, token["attCert"])
    return tlv(0x30, out)


def encode_dh(value: tuple[int, bytes], tag: int = 0x30) -> bytes:
    return tlv(tag, integer(value[0]) + tlv(0x04, value[1]))


def decode_dh(item: Tlv) -> tuple[int, bytes]:
    parts = Components(item.content)
    value = read_integer(parts.take(0x02), 0, 65535), read_octets(parts.take(0x04), 1024)
    parts.finish()
    return value


def decode_cert_path(item: Tlv) -> list[bytes]:
    read_octets(item, 16 * 1024)
    found = list(walk(item.content))
    if len(found) > 4 or any(one.tag != 0x04 or len(one.content) > 8192 for one in found):
        raise bad("CertPath")
    return [one.content for one in found]


def decode_token1(content: bytes) -> Token:
    parts = Components(content)
    token: Token = {"sigAlg": decode_algorithm(parts.take(0x30)), "pkCert": read_octets(parts.take(0x04), 8192)}
    if (item := parts.maybe(0x30)) is not None:
        token["certPath"] = decode_cert_path(item)
    token["version"] = read_bits(parts.take(0x03))
    token["assoID"] = read_asso_id(parts.take(0x0C))
    keys: list[tuple[int, bytes]] = []
    for one in walk(parts.take(0x30).content):
        if one.tag != 0x30:
            raise bad("DiffieHellmanSet")
        keys.append(decode_dh(one))
    if not 1 <= len(keys) <= 8 or len(dict(keys)) != len(keys):
        raise bad("DiffieHellmanSet")
    token["dhKey"] = keys
    token["hmac"] = decode_algorithm(parts.take(0x30))
    token["time"] = read_time(parts.take(0x18))
    if (item := parts.maybe(0x30)) is not None:
        token["encr-mode"] = ("aea", decode_algorithms(item.content))
    else:
        inner = Components(parts.take(0xA0).content)
        encr = inner.maybe(0xA0)
        icv = inner.take(0xA1)
        inner.finish()
        token["encr-mode"] = (
            "non-aea",
            None if encr is None else decode_algorithms(encr.content),
            decode_algorithms(icv.content),
        )
    token["confParams"] = read_bits(parts.take(0x03))
    if (item := parts.maybe(0x04)) is not None:
        token["attCert"] = read_octets(item, 8192)
    return token


def encode_token3(token: Token) -> bytes:
    out = encode_algorithm(token["sigAlg"]) + bits(token["version"])
    if token.get("assoID") is not None:
        out += tlv(0x80, token["assoID"].encode())
    out += tlv(0x18, token["time"].encode()) + tlv(0x04, token["pkCert"])
    if token.get("certPath"):
        out += tlv(0x30, b"".join(tlv(0x04, one) for one in token["certPath"]))
    return tlv(0x30, out)


def decode_token3(content: bytes) -> Token:
    parts = Components(content)
    token: Token = {"sigAlg": decode_algorithm(parts.take(0x30)), "version": read_bits(parts.take(0x03))}
    if (item := parts.maybe(0x80)) is not None:
        token["assoID"] = read_asso_id(item)
    token["time"] = read_time(parts.take(0x18))
    token["pkCert"] = read_octets(parts.take(0x04), 8192)
    if (item := parts.maybe(0x30)) is not None:
        token["certPath"] = decode_cert_path(item)
    return token


# --- SecPDUs --------------------------------------------------------------------------------------------------------


def is_appl_data(tag: int) -> bool:
    first = tag
    while first > 0xFF:
        first >>= 8
    return first & 0xC0 == 0x80 or tag in (0xC0, 0xE0)


def wrap(pp: str, data: bytes) -> bytes:
    """ApplData of a protected protocol other than MMS, in a handshake."""
    return tlv(0xE0, tlv(0x0C, pp.encode()) + tlv(0x04, data))


def encode_tbs(name: str, token: Token, diag: int | None = None, appl_data: bytes | None = None) -> bytes:
    """Content octets of tbs."""
    _, number, _ = SIGNED[OUTER[name]]
    out = encode_token1(token) if number == 1 else encode_token3(token)
    return out + (integer(diag, 0x80) if diag is not None else b"") + (appl_data or b"")


def assemble(name: str, pp: str | None, tbs: bytes, algo: Algorithm, signature: bytes) -> bytes:
    head = tlv(0x0C, pp.encode()) if pp is not None else b""
    return tlv(OUTER[name][1], head + tlv(0x30, tbs) + tlv(0x30, encode_algorithm(algo) + tlv(0x04, signature)))


def decode(carrier: str, data: bytes) -> SignedPdu:
    outer = only(data)
    if (carrier, outer.tag) not in SIGNED:
        raise bad("not a SecPDU of this carrier")
    name, number, has_diag = SIGNED[carrier, outer.tag]
    rest = outer.content
    pp = None
    if number == 1:
        item = read(rest)
        if item.tag != 0x0C or len(item.content) > 64:
            raise bad("pp")
        try:
            pp = item.content.decode("utf-8")
        except UnicodeDecodeError:
            raise bad("pp") from None
        rest = rest[len(item.whole) :]
    signed = read(rest, indefinite=True)
    if signed.tag != 0x30:
        raise bad("tbs")
    sign = only(rest[len(signed.whole) :])
    if sign.tag != 0x30:
        raise bad("Signature")
    parts = Components(sign.content)
    algo, signature = decode_algorithm(parts.take(0x30)), read_octets(parts.take(0x04), 1024)
    parts.finish()

    inner = Components(signed.content)
    content = inner.take(0x30).content
    token = decode_token1(content) if number == 1 else decode_token3(content)
    first = next((item for item in inner.left if is_appl_data(item.tag)), None)
    diag = appl_data = None
    if first is not None and not has_diag:
        appl_data = first.whole
    elif first is not None and first.tag == 0x80:
        diag = read_integer(first, 0, 2**31 - 1)
    if number == 1:
        check_appl_data(pp or "", appl_data)
    return SignedPdu(name, pp, token, diag, appl_data, signed.signed, algo, signature)


def check_appl_data(pp: str, appl_data: bytes | None) -> None:
    if pp in MMS:
        if appl_data is None or appl_data[0] >= 0xC0:
            raise bad("no MMS PDU")
    elif appl_data is not None and appl_data[0] >= 0xC0:
        outer = only(appl_data)
        if outer.tag != 0xE0:
            raise bad("applData")
        parts = Components(outer.content)
        inner_pp, _ = parts.take(0x0C), parts.take(0x04)
        parts.finish()
        if inner_pp.content != pp.encode() or len(inner_pp.content) > 64:
            raise bad("pp of applData")


__all__ = ["Fault", "SignedPdu", "algorithm", "assemble", "decode", "encode_tbs", "wrap"]
