"""HandshakeReqs put together from their parts, so that each part can be wrong."""

from __future__ import annotations

import pytest
import secpdu_values as values
from secpdu_values import MMS_PDU, token1

from fastsec import profile
from fastsec._core.cursor import tlv
from fastsec.errors import DecodeError
from fastsec.secpdu import der, fields
from fastsec.secpdu.model import Carrier, ClearToken1, Handshake, algorithm_id

NULL = b"\x05\x00"
GCM16 = algorithm_id(profile.AES128_GCM, 16)
SIGN = tlv(0x30, values.ECDSA.der + tlv(0x04, b"sig"))
PP = tlv(0x0C, b"IEC 61850-8-1")


def split(content: bytes) -> list[bytes]:
    """The TLVs that make up some content octets."""
    found = []
    while content:
        size = len(content)
        for end in range(2, size + 1):
            header = content[:end]
            if header[1] < 0x80:
                size = 2 + header[1]
                break
            if end == 2 + (header[1] & 0x7F):
                size = end + int.from_bytes(header[2:], "big")
                break
        found.append(content[:size])
        content = content[size:]
    return found


def components(token: ClearToken1) -> list[bytes]:
    """The encoded components of a token, by name order of the field table, absent ones left out."""
    tbs = der.encode_handshake_tbs(token, None)
    outer = 2 if tbs[1] < 0x80 else 2 + (tbs[1] & 0x7F)
    return split(tbs[outer:])


def request(token_content: bytes, after: bytes = MMS_PDU, sign: bytes = SIGN, pp: bytes = PP) -> bytes:
    return tlv(0x30, pp + tlv(0x30, tlv(0x30, token_content) + after) + sign)


def decode(octets: bytes) -> Handshake:
    pdu = der.decode(Carrier.ASSOCIATE_REQ, octets)
    assert isinstance(pdu, Handshake)
    return pdu


def refused(octets: bytes, step: str = "", carrier: Carrier = Carrier.ASSOCIATE_REQ) -> None:
    with pytest.raises(DecodeError) as caught:
        der.decode(carrier, octets)
    assert caught.value.check == "protocol-error"
    assert caught.value.step.startswith(step), caught.value.step


PARTS = components(token1())
NAMES = [field.name for field in fields.CLEAR_TOKEN_1]


def put(name: str, encoded: bytes) -> bytes:
    """A request of which one component is replaced."""
    return request(b"".join(encoded if own == name else part for own, part in zip(NAMES, PARTS, strict=True)))
