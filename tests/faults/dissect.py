"""What each octet of a frame is, by name: written from the standards' tables, on the tests' own TLV reading.

A name is a path like ``ACSE.user-information.SecPDU.tbs.token1.time:V``; the letter says tag, length or value.
"""

from __future__ import annotations

from typing import Any

Names = list[str]
Schema = Any  # None: a value; dict: by tag; list: components in order, as (tag, name, schema)

ALGORITHM = {0x06: ("oid", None), 0x05: ("null", None), 0x30: ("parameters", {0x04: ("nonce", None)})}
DH = {0x02: ("group", None), 0x04: ("public", None)}
TOKEN1 = [
    (0x30, "sigAlg", ALGORITHM),
    (0x04, "pkCert", None),
    (0x03, "version", None),
    (0x0C, "assoID", None),
    (0x30, "dhKey", {0x30: ("value", DH)}),
    (0x30, "hmac", ALGORITHM),
    (0x18, "time", None),
    (0x30, "aea", {0x30: ("algorithm", ALGORITHM)}),
    (
        0xA0,
        "non-aea",
        {0xA0: ("encr", {0x30: ("algorithm", ALGORITHM)}), 0xA1: ("icv", {0x30: ("algorithm", ALGORITHM)})},
    ),
    (0x03, "confParams", None),
]
TOKEN3 = [
    (0x30, "sigAlg", ALGORITHM),
    (0x03, "version", None),
    (0x80, "assoID", None),
    (0x18, "time", None),
    (0x04, "pkCert", None),
]
TOKEN2 = {
    0x0C: ("assoID", None),
    0x18: ("time", None),
    0x02: ("seq", None),
    0x80: ("iv", None),
    0xA1: ("rekey", DH),
    0x82: ("reqRekey", None),
    0x83: ("changedKey", None),
}
SIGNATURE = {0x30: ("algo", ALGORITHM), 0x04: ("value", None)}
HANDSHAKE = [
    (0x0C, "pp", None),
    (0x30, "tbs", [(0x30, "token1", TOKEN1), (-1, "applData", None)]),
    (0x30, "sign", SIGNATURE),
]
CONTROL = [(0x30, "tbs", [(0x30, "token3", TOKEN3), (-1, "applData", None)]), (0x30, "sign", SIGNATURE)]
TRANSFER = [
    (0x30, "tbp", [(0x30, "token2", TOKEN2), (-1, "applData", None)]),
    (0x30, "auth", {0x80: ("nonce", None), 0x30: ("algorithm", ALGORITHM), 0x04: ("icv", None)}),
]


def _secpdu(inner: Schema) -> Schema:
    return {-1: ("SecPDU", inner)}


def _acse(inner: Schema) -> Schema:
    external = {0x06: ("reference", None), 0x02: ("reference", None), 0xA0: ("single-ASN1", _secpdu(inner))}
    fields = {
        0xA1: ("context", {-1: ("value", None)}),
        0xA2: ("a2", {-1: ("value", None)}),
        0xA3: ("a3", {-1: ("value", {-1: ("value", None)})}),
        0xA4: ("a4", {-1: ("value", None)}),
        0xA5: ("a5", {-1: ("value", None)}),
        0xA6: ("a6", {-1: ("value", None)}),
        0xA7: ("a7", {-1: ("value", None)}),
        0xBE: ("user-information", {0x28: ("EXTERNAL", external)}),
    }
    return {-1: ("ACSE", fields)}


def _user_data(inner: Schema) -> Schema:
    pdv = {0x06: ("transfer-syntax", None), 0x02: ("context-id", None), 0xA0: ("single-ASN1", inner)}
    return {0x30: ("PDV", pdv)}


def _connect(inner: Schema) -> Schema:
    context = {0x02: ("id", None), 0x06: ("syntax", None), 0x30: ("transfer", {0x06: ("syntax", None)})}
    result = {0x80: ("value", None), 0x81: ("transfer", None), 0x82: ("reason", None)}
    normal = {
        0x81: ("calling", None),
        0x82: ("called", None),
        0x83: ("responding", None),
        0xA4: ("contexts", {0x30: ("context", context)}),
        0xA5: ("results", {0x30: ("result", result)}),
        0x61: ("user-data", _user_data(inner)),
    }
    return {0x31: ("CP", {0xA0: ("mode", {0x80: ("value", None)}), 0xA2: ("normal", normal)})}


def _name(octets: bytes, names: Names, start: int, end: int, path: str, schema: Schema) -> None:
    at, left = start, list(schema) if isinstance(schema, list) else None
    while at < end:
        tag = octets[at]
        size, value = octets[at + 1], at + 2
        if size & 0x80:
            count = size & 0x7F
            size, value = int.from_bytes(octets[value : value + count], "big"), value + count
        found: tuple[str, Schema] = (f"{tag:02x}", None)
        if left is not None:
            while left:
                wanted, name, inner = left.pop(0)
                if wanted in (tag, -1):
                    found = (name, inner)
                    break
        elif schema is not None:
            found = schema.get(tag) or schema.get(-1) or found
        name, inner = found
        whole = f"{path}.{name}" if path else name
        names[at] = f"{whole}:T"
        names[at + 1 : value] = [f"{whole}:L"] * (value - at - 1)
        stop = min(value + size, end)
        if inner is None:
            names[value:stop] = [f"{whole}:V"] * (stop - value)
        else:
            _name(octets, names, value, stop, whole, inner)
        at = value + size


def _session(octets: bytes, names: Names, start: int, end: int, inner: Schema, path: str = "S") -> None:
    at = start
    while at < end:
        code, size, value = octets[at], octets[at + 1], at + 2
        if size == 0xFF:
            size, value = int.from_bytes(octets[value : value + 2], "big"), value + 2
        whole = f"{path}.{code:02x}"
        names[at] = f"{whole}:T"
        names[at + 1 : value] = [f"{whole}:L"] * (value - at - 1)
        if code == 0x05:
            _session(octets, names, value, value + size, None, whole)
        elif code in (0xC1, 0xC2):
            _name(octets, names, value, value + size, "", inner)
        else:
            names[value : value + size] = [f"{whole}:V"] * size
        at = value + size


KINDS = {
    0x0D: ("CN", lambda: _connect(_acse(HANDSHAKE))),
    0x0E: ("AC", lambda: _connect(_acse(HANDSHAKE))),
    0x09: ("FN", lambda: {0x61: ("user-data", _user_data(_acse(CONTROL)))}),
    0x0A: ("DN", lambda: {0x61: ("user-data", _user_data(_acse(CONTROL)))}),
    0x19: ("AB", lambda: {0xA0: ("ARU", {0x61: ("user-data", _user_data(_acse(CONTROL)))}), -1: ("ARU", None)}),
}


def dissect(frame: bytes) -> tuple[str, Names]:
    """(kind of frame, name of each octet) of one good TPKT."""
    names = ["TPKT.version", "TPKT.reserved", "TPKT.length", "TPKT.length"] + ["?"] * (len(frame) - 4)
    code = frame[5]
    if code in (0xE0, 0xD0):
        names[4:11] = ["COTP.li", "COTP.code", *["COTP.dst"] * 2, *["COTP.src"] * 2, "COTP.class"]
        at = 11
        while at < len(frame):
            size = frame[at + 1]
            whole = f"COTP.{frame[at]:02x}"
            names[at : at + 2 + size] = [f"{whole}:T", f"{whole}:L", *[f"{whole}:V"] * size]
            at += 2 + size
        return "CR" if code == 0xE0 else "CC", names
    names[4:7] = ["COTP.li", "COTP.code", "COTP.eot"]
    if frame[7:11] == b"\x01\x00\x01\x00":
        names[7:11] = ["S.prefix"] * 4
        _name(frame, names, 11, len(frame), "", {0x61: ("user-data", _user_data(_secpdu(TRANSFER)))})
        return "DT", names
    kind, inner = KINDS[frame[7]]
    size, value = frame[8], 9
    if size == 0xFF:
        size, value = int.from_bytes(frame[9:11], "big"), 11
    names[7] = "S.si"
    names[8:value] = ["S.li"] * (value - 8)
    _session(frame, names, value, value + size, inner())
    return kind, names
