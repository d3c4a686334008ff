"""Guards: every mode against the reference, every manipulation against the list of checks."""

from __future__ import annotations

import dataclasses
import hmac
import os
import pickle
import subprocess
import sys
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from guardkit import ASSO, BY_NAME, KEYS, KINDS, START, T0, Kind, appl, gcm_algorithm, hmac_algorithm
from hypothesis import given
from hypothesis import strategies as st

from fastsec import limits, profile
from fastsec._core.crypto import Secret
from fastsec._core.cursor import Reader
from fastsec._core.guard import (
    MODE_AE,
    MODE_GMAC,
    MODE_HMAC,
    GuardParams,
    Opened,
    OpenGuard,
    SealGuard,
    scan_transfer,
)
from fastsec.errors import DecodeError, IntegrityError, LocalError, PeerError, ReplayError
from reference.tlv import Fault, tlv
from reference.transfer import _cbc, time_text

every_kind = pytest.mark.parametrize("kind", KINDS, ids=str)
kinds = st.sampled_from(KINDS)
DATA = appl(40)
SKEW = limits.SPEC_CLOCK_SKEW * 1000


FAMILY = {
    "icv": IntegrityError,
    "icv-algorithm": IntegrityError,
    "time": ReplayError,
    "replay": ReplayError,
    "sequence": ReplayError,
}


def verdict(guard: OpenGuard, pdu: bytes, utc_ms: int = T0) -> str:
    """Name of the failed check, or "" if the PDU was accepted; a failure must change nothing."""
    before = (guard.count, guard.last_time)
    try:
        guard.open(pdu, utc_ms)
    except PeerError as error:
        if (guard.count, guard.last_time) != before:
            return "changed"
        return error.check if type(error) is FAMILY.get(error.check, DecodeError) else repr(error)
    return ""


# --- parts of a PDU, to build wrong ones ----------------------------------------------------------------------------
@dataclasses.dataclass
class Pieces:
    """A ClearTransfer or EncrTransfer taken apart; ``build`` signs anew unless told otherwise."""

    kind: Kind
    token: bytes
    body: bytes
    auth: bytes | None
    token_form: Callable[[bytes], bytes] = lambda content: tlv(0x30, content)
    tbp_form: Callable[[bytes], bytes] = lambda content: tlv(0x30, content)

    @classmethod
    def of(cls, kind: Kind, pdu: bytes) -> Pieces:
        outer = Reader(pdu)
        outer.next()
        inside = outer.enter()
        inside.expect(0x30)
        tbp = inside.enter()
        auth = None
        if inside.more():
            inside.next()
            auth = inside.value()
        tbp.expect(0x30)
        token = tbp.value()
        tbp.next()
        return cls(kind, token, tbp.raw(), auth)

    def build(self, *, extra: bytes = b"", tail: bytes = b"") -> bytes:
        return tlv(0x30, self.tbp_form(self.token_form(self.token) + self.body + extra) + tail)


def resign(
    kind: Kind,
    token: bytes,
    body: bytes | None = None,
    *,
    tbp: bytes | None = None,
    nonce: bytes = bytes(12),
    plain: bytes = DATA,
    form: Callable[[bytes], bytes] = lambda c: tlv(0x30, c),
    algorithm: bytes | None = None,
    icv: Callable[[bytes], bytes] = lambda icv: icv,
    indefinite: bool = False,
    with_nonce: bytes | None = b"",
) -> bytes:
    """A PDU around any token2 content with a right ICV, or a right AE tag over the token."""
    covered = token + b"\x00\x00" if indefinite else token
    token_tlv = b"\x30\x80" + covered if indefinite else form(token)
    sender = kind.sender()
    if kind.mode == MODE_AE:
        iv = next_iv(token)
        cipher = AESGCM(sender._ek).encrypt(iv, plain, covered)[: len(plain) + kind.icv_len]
        body = body or tlv(0x04, icv(cipher))
        return tlv(0x30, tlv(0x30, token_tlv + body))
    if body is None:
        body = tlv(0x04, _cbc(sender._ek, next_iv(token), plain)) if kind.encrypting else plain
    if tbp is None:
        content = token_tlv + body
        signed = content + b"\x00\x00" if indefinite else content
        tbp = b"\x30\x80" + signed if indefinite else tlv(0x30, content)
    else:
        signed = tbp[2:]
    if kind.suite.icv and kind.suite.icv[0] == profile.HMAC_SHA256:
        mac = hmac.digest(sender._ik, signed, "sha256")
        auth = b""
    else:
        mac = AESGCM(sender._ik).encrypt(nonce, b"", signed)[: kind.icv_len]
        auth = tlv(0x80, nonce)
    if with_nonce is None:
        auth = b""
    elif with_nonce:
        auth = tlv(0x80, with_nonce)
    auth += kind.icv_algorithm if algorithm is None else algorithm
    return tlv(0x30, tbp + tlv(0x30, auth + tlv(0x04, icv(mac))))


def next_iv(token: bytes) -> bytes:
    r = Reader(token)
    r.next()
    r.next()
    r.next()
    return r.octets(0x80) if r.peek() == 0x80 else bytes(16)


def token2(
    kind: Kind,
    *,
    asso: str = ASSO,
    time: str = START,
    seq: int = 0,
    seq_tlv: bytes | None = None,
    iv: bytes | None = None,
    tail: bytes = b"",
) -> bytes:
    if iv is None:
        iv = bytes(12) if kind.mode == MODE_AE else b"0123456789abcdef" if kind.encrypting else b""
    number = tlv(0x02, seq.to_bytes(seq.bit_length() // 8 + 1, "big")) if seq_tlv is None else seq_tlv
    return tlv(0x0C, asso.encode()) + tlv(0x18, time.encode()) + number + (tlv(0x80, iv) if iv else b"") + tail


# --- both ways with the reference -----------------------------------------------------------------------------------
@every_kind
def test_opens_what_the_reference_seals_and_the_reverse(kind: Kind) -> None:
    ours, theirs = kind.seal_guard(), kind.sender()
    ours_in, theirs_in = kind.open_guard(), kind.receiver()
    for step, size in enumerate([2, 3, 15, 16, 17, 129, 256, 258, 1000, 65_000]):
        now = T0 + step // 3
        pdu = ours.seal(appl(size), now)
        if not kind.suite.encr:  # CBC draws its IV
            assert pdu == theirs.seal(appl(size), now)
        else:
            assert ours_in.open(theirs.seal(appl(size), now), now).appl_data == appl(size)
        assert theirs_in.open(pdu, now).appl_data == appl(size)
        if not kind.suite.encr:
            assert ours_in.open(pdu, now).appl_data == appl(size)
    assert ours.count == theirs_in.count == ours_in.count == 10


@every_kind
def test_key_update_fields(kind: Kind) -> None:
    ours, theirs = kind.seal_guard(), kind.receiver()
    incoming = kind.open_guard()
    ours.rekey = (23, b"\x04" + bytes(64))
    ours.req_rekey = True
    pdu = ours.seal(DATA, T0)
    assert scan_transfer(pdu) == (int(kind.encrypting), True, True, False)
    assert theirs.open(pdu, T0) == (DATA, (23, b"\x04" + bytes(64)), True, False)
    opened = incoming.open(pdu, T0)
    assert (opened.appl_data, opened.rekey, opened.req_rekey, opened.changed_key, opened.unknown) == (
        DATA,
        (23, b"\x04" + bytes(64)),
        True,
        False,
        False,
    )
    assert ours.rekey is None
    assert ours.req_rekey
    ours.req_rekey = False
    ours.changed_key = True
    pdu = ours.seal(b"\x05\x00", T0)
    assert scan_transfer(pdu) == (int(kind.encrypting), False, False, True)
    assert theirs.open(pdu, T0) == (None, None, False, True)
    opened = incoming.open(pdu, T0)
    assert (opened.appl_data, opened.rekey, opened.req_rekey, opened.changed_key) == (None, None, False, True)
    assert not ours.changed_key
    pdu = ours.seal(DATA, T0)
    assert scan_transfer(pdu) == (int(kind.encrypting), False, False, False)
    assert incoming.open(pdu, T0).appl_data == DATA


@given(kinds, st.lists(st.tuples(st.integers(-5000, 5000), st.integers(2, 400)), max_size=12))
def test_any_sequence_of_clock_and_sizes(kind: Kind, steps: list[tuple[int, int]]) -> None:
    """The sender's clock may step in both directions: what it sends stays in order, and acceptable."""
    ours, theirs = kind.seal_guard(), kind.sender()
    ours_in, theirs_in = kind.open_guard(), kind.receiver()
    for clock, size in steps:
        data = b"\xa1" + tlv(0x04, bytes(size))[1:]
        pdu = ours.seal(data, T0 + clock)
        assert theirs_in.open(pdu, T0).appl_data == data
        assert ours_in.open(theirs.seal(data, T0 + clock), T0).appl_data == data
        assert ours.last_time == theirs.time


@every_kind
def test_appl_data_kinds(kind: Kind) -> None:
    seal, incoming = kind.seal_guard(), kind.open_guard()
    for data in (b"\x80\x00", b"\xbf\x81\x01\x00", b"\xc0\x01a", b"\xe0\x02\x05\x00", b"\x8b\x00"):
        assert incoming.open(seal.seal(data, T0), T0).appl_data == data
    for data in (
        b"",
        b"\xa0",
        b"\xa0\x01",
        b"\xa0\x00\x00",
        b"\x30\x00",
        b"\x04\x00",
        b"\x60\x00",
        b"\xc1\x00",
        b"\xdf\x20\x00",
        b"\x05\x00\x00",
        b"\x05\x01\x00",
        b"\xa0\x80\x00\x00",
        b"\x00\x00",
    ):
        with pytest.raises(LocalError):
            seal.seal(data, T0)
        wanted = "wrong-kind" if data == b"\x04\x00" and not kind.encrypting else "protocol-error"
        assert verdict(incoming, resign(kind, token2(kind, seq=5), plain=data)) == wanted
    assert seal.count == 5


# --- manipulation ---------------------------------------------------------------------------------------------------
def normal(check: str) -> str:
    return "protocol-error" if check == "asso-id" else check


def agree(kind: Kind, pdu: bytes, utc_ms: int = T0) -> str:
    """Open with both implementations; they must say the same. Ours alone calls a known field of ClearToken2 in a
    wrong form, or twice, a syntax error; to the reference it is an extension, and a later check fails. The reference
    alone decodes the OID of an algorithm before comparing it."""
    ours, theirs = kind.open_guard(), kind.receiver()
    got = verdict(ours, pdu, utc_ms)
    wanted = ""
    try:
        theirs.open(pdu, utc_ms)
    except Fault as fault:
        wanted = fault.check
    if got == "protocol-error":
        assert wanted
    else:
        assert normal(got) == normal(wanted) or (got, wanted) == ("icv-algorithm", "protocol-error")
    return got


@every_kind
def test_every_bit_flip_is_rejected(kind: Kind) -> None:
    for data in (DATA, appl(150)):
        pdu = kind.seal_guard().seal(data, T0)
        seen = set()
        ignored = pdu.rfind(b"\x04\x0c" + bytes(12)) + 1
        for bit in range(8 * len(pdu)):
            broken = bytearray(pdu)
            broken[bit // 8] ^= 0x80 >> bit % 8
            got = agree(kind, bytes(broken))
            if got == "":
                # Only aes-nonce of the algorithm's parameters is of no meaning, and its length: 0C becomes 8C, twelve
                # length octets of zero.
                assert bit == 8 * ignored or ignored < bit // 8 <= ignored + 12
                assert kind.params.icv_algorithm.count(bytes(12)) == 1
            seen.add(got)
        assert {"protocol-error", "icv"} <= seen


@every_kind
def test_every_truncation_and_extension_is_rejected(kind: Kind) -> None:
    pdu = kind.seal_guard().seal(DATA, T0)
    for size in range(len(pdu)):
        assert agree(kind, pdu[:size]) == "protocol-error"
        with pytest.raises(DecodeError):
            scan_transfer(pdu[:size])
    assert agree(kind, pdu + b"\x00") == "protocol-error"
    assert agree(kind, pdu + pdu) == "protocol-error"


@given(kinds, st.integers(0, 400), st.integers(0, 3), st.binary(max_size=6))
def test_spliced_octets_agree_with_the_reference(kind: Kind, at: int, cut: int, put: bytes) -> None:
    pdu = kind.seal_guard().seal(DATA, T0)
    at %= len(pdu)
    agree(kind, pdu[:at] + put + pdu[at + cut :])


@given(kinds, st.binary(max_size=120))
def test_any_octets(kind: Kind, data: bytes) -> None:
    assert agree(kind, data) != ""


# --- the list of checks, in its order -------------------------------------------------------------------------------
@every_kind
def test_wrong_kind(kind: Kind) -> None:
    other = BY_NAME["hmac" if kind.encrypting else "gcm128-16"]
    pdu = other.seal_guard().seal(DATA, T0)
    assert agree(kind, pdu) == "wrong-kind"
    with pytest.raises(DecodeError) as caught:
        kind.open_guard().open(pdu, T0)
    assert caught.value.code == (4 if kind.encrypting else 3)
    # kind comes before assoID
    assert verdict(kind.open_guard(), pdu.replace(ASSO.encode(), b"17:231")) == "wrong-kind"


@every_kind
def test_asso_id(kind: Kind) -> None:
    for asso in ("17:231", "17", "17:23", "17:2300", "", "1é7:23"):
        token = token2(kind, asso=asso)
        assert verdict(kind.open_guard(), resign(kind, token)) == "asso-id"
        # and it comes before everything that follows
        assert verdict(kind.open_guard(), resign(kind, token, icv=lambda icv: icv[:-1] + b"\x00")) == "asso-id"


@every_kind
def test_icv(kind: Kind) -> None:
    def wrong(pdu: bytes, utc_ms: int = T0) -> str:
        return agree(kind, pdu, utc_ms)

    token = token2(kind)
    assert wrong(resign(kind, token)) == ""
    assert wrong(resign(kind, token, icv=lambda icv: bytes(len(icv)))) == "icv"
    assert wrong(resign(kind, token, icv=lambda icv: icv[:-1] + bytes([icv[-1] ^ 1]))) == "icv"
    assert wrong(resign(kind, token, icv=lambda icv: icv[:-1])) == "icv"  # shorter than agreed
    assert wrong(resign(kind, token, icv=lambda icv: icv + b"\x00")) == "icv"
    assert wrong(resign(kind, token, icv=lambda icv: b"")) == "icv"
    # before time and sequence
    broken = resign(kind, token2(kind, seq=9), icv=lambda icv: bytes(len(icv)))
    assert wrong(broken, T0 + 2 * SKEW) == "icv"


@pytest.mark.parametrize("kind", [k for k in KINDS if k.mode != MODE_AE], ids=str)
def test_icv_algorithm(kind: Kind) -> None:
    token = token2(kind)
    gmac = "gmac" in kind.name
    oid = kind.suite.icv[0] if kind.suite.icv else ""
    bare = tlv(0x30, kind.icv_algorithm[2 : 4 + kind.icv_algorithm[3]])
    equal = [gcm_algorithm(oid, kind.icv_len, b"a" * 12)] if gmac else [bare, tlv(0x30, bare[2:] + b"\x05\x00")]
    if gmac and kind.icv_len == 12:
        equal += [
            bare,
            tlv(0x30, bare[2:] + b"\x05\x00"),
            tlv(0x30, bare[2:] + tlv(0x30, tlv(4, bytes(12)) + b"\x02\x01\x0c")),
        ]
    for algorithm in equal:
        assert agree(kind, resign(kind, token, algorithm=algorithm)) == ""
    unequal = [gcm_algorithm(profile.AES256_GMAC_RFC9044, kind.icv_len), tlv(0x30, bare[2:] + b"\x02\x01\x05")]
    if gmac:
        unequal += [hmac_algorithm(), gcm_algorithm(oid, 17), gcm_algorithm(oid, 14)]
        other = profile.AES128_GCM if oid == profile.AES256_GCM else profile.AES256_GCM
        unequal += [gcm_algorithm(other, kind.icv_len)]
        if kind.icv_len != 12:
            unequal += [bare]
    else:
        unequal += [gcm_algorithm(profile.AES128_GCM, 16), gcm_algorithm(profile.HMAC_SHA256, 16)]
    for algorithm in unequal:
        pdu = resign(kind, token, algorithm=algorithm)
        assert verdict(kind.open_guard(), pdu) == "icv-algorithm"
        # before a missing nonce and a wrong ICV
        pdu = resign(kind, token, algorithm=algorithm, icv=lambda icv: b"", with_nonce=None)
        assert verdict(kind.open_guard(), pdu) == "icv-algorithm"
    for algorithm in (
        tlv(0x30, b""),
        tlv(0x30, bare[2:] + b"\x05\x01\x00"),
        tlv(0x30, bare[2:] + b"\x05\x00\x05\x00"),
        tlv(0x30, bare[2:] + tlv(0x30, b"\x02\x01\x10")),
        tlv(0x30, bare[2:] + tlv(0x30, tlv(4, bytes(12)) + b"\x02\x01\x10\x05\x00")),
        tlv(0x31, bare[2:]),
    ):
        assert verdict(kind.open_guard(), resign(kind, token, algorithm=algorithm)) == "protocol-error"


@pytest.mark.parametrize("kind", [k for k in KINDS if "gmac" in k.name], ids=str)
def test_nonce_missing(kind: Kind) -> None:
    for nonce in (None, b"a" * 11, b"a" * 13, b"a" * 16):
        pdu = resign(kind, token2(kind), with_nonce=nonce, icv=lambda icv: bytes(len(icv)))
        assert agree(kind, pdu) == "nonce-missing"
    with pytest.raises(DecodeError) as caught:
        kind.open_guard().open(pdu, T0)
    assert caught.value.code == 5


@pytest.mark.parametrize("kind", [k for k in KINDS if k.encrypting], ids=str)
def test_iv_missing(kind: Kind) -> None:
    check, code = ("ae-iv-missing", 11) if kind.mode == MODE_AE else ("iv-missing", 7)
    good = resign(kind, token2(kind))
    pieces = Pieces.of(kind, good)
    tail = tlv(0x30, pieces.auth) if pieces.auth is not None else b""
    for size in (None, 0, 8, 11, 13, 15, 17):
        iv = b"" if size is None else tlv(0x80, bytes(size))
        pieces.token = tlv(0x0C, ASSO.encode()) + tlv(0x18, START.encode()) + b"\x02\x01\x00" + iv
        assert agree(kind, pieces.build(tail=tail)) == check
    with pytest.raises(DecodeError) as caught:
        kind.open_guard().open(pieces.build(tail=tail), T0)
    assert caught.value.code == code


@pytest.mark.parametrize("kind", [k for k in KINDS if k.suite.encr], ids=str)
def test_cbc_is_judged_after_the_icv(kind: Kind) -> None:
    """Wrong lengths and paddings under a right ICV; the ICV decides alone whether they are looked at."""
    token = token2(kind)
    ek = kind.sender()._ek

    def cbc(plain: bytes) -> bytes:
        encryptor = Cipher(algorithms.AES(ek), modes.CBC(next_iv(token))).encryptor()
        return encryptor.update(plain) + encryptor.finalize()

    assert agree(kind, resign(kind, token, tlv(0x04, cbc(b"\x8b\x00" + b"\x0e" * 14)))) == ""
    for cipher in (
        b"",
        bytes(15),
        bytes(17),
        cbc(b"\x8b\x00" + b"\x0f" * 14),
        cbc(b"\x8b\x00" + bytes(14)),
        cbc(b"\x8b\x00" + b"\x11" * 14),
        cbc(b"\x8b\x00" + b"\x0d" + b"\x0e" * 13),
        cbc(b"\x10" * 16),
        cbc(b"\x8b\x00\x00" + b"\x0d" * 13),
    ):
        assert agree(kind, resign(kind, token, tlv(0x04, cipher))) == "protocol-error"
        assert agree(kind, resign(kind, token, tlv(0x04, cipher), icv=lambda i: bytes(len(i)))) == "icv"


@pytest.mark.parametrize("kind", [k for k in KINDS if k.mode == MODE_AE], ids=str)
def test_nothing_follows_an_authenticated_encryption(kind: Kind) -> None:
    pieces = Pieces.of(kind, kind.seal_guard().seal(DATA, T0))
    assert agree(kind, pieces.build()) == ""
    assert agree(kind, pieces.build(extra=b"\x9f\x20\x00")) == "protocol-error"
    auth = tlv(0x30, hmac_algorithm() + tlv(0x04, bytes(32)))
    assert agree(kind, pieces.build(tail=auth)) == "protocol-error"


@pytest.mark.parametrize("kind", [k for k in KINDS if k.mode != MODE_AE], ids=str)
def test_extensions_under_the_icv_are_ignored(kind: Kind) -> None:
    guard, twin = kind.open_guard(), kind.receiver()
    pieces = Pieces.of(kind, kind.seal_guard().seal(DATA, T0))
    body = pieces.body + b"\x9f\x20\x01a" + b"\x30\x00"
    pdu = resign(kind, pieces.token, body)
    opened = guard.open(pdu, T0)
    assert opened.appl_data == twin.open(pdu, T0).appl_data == DATA
    assert opened.unknown
    # without an ICV over them they are a manipulation
    assert pieces.auth is not None
    assert agree(kind, pieces.build(extra=b"\x9f\x20\x01a", tail=tlv(0x30, pieces.auth))) == "icv"
    # auth itself has no extensions
    assert agree(kind, pieces.build(tail=tlv(0x30, pieces.auth + b"\x05\x00"))) == "protocol-error"
    assert agree(kind, pieces.build(tail=tlv(0x30, pieces.auth) + b"\x05\x00")) == "protocol-error"
    assert agree(kind, pieces.build()) == "protocol-error"


@every_kind
def test_token_fields_come_once_and_in_order(kind: Kind) -> None:
    guard = kind.open_guard()
    unknown = token2(kind, tail=b"\x82\x01\x00" + b"\x83\x01\x00" + b"\x84\x01a" + b"\x30\x00")
    opened = guard.open(resign(kind, unknown), T0)
    assert (opened.unknown, opened.req_rekey, opened.changed_key) == (True, False, False)
    for tail in (
        b"\x82\x01\xff\x82\x01\xff",
        b"\x83\x01\xff\x82\x01\xff",
        b"\x84\x00\x82\x01\xff",
        b"\x82\x00",
        b"\x82\x02\xff\xff",
        b"\xa2\x03\x01\x01\xff",
        b"\x81\x00",
        b"\xa0\x00",
        b"\xa1\x00",
        b"\xa1\x03\x02\x01\x17",
        b"\xa1\x05\x02\x01\x17\x05\x00",
        b"\xa1\x05\x04\x00\x02\x01\x17",
        b"\xa1\x07\x02\x01\x17\x04\x00\x05\x00",
        b"\xa1\x05\x02\x01\x97\x04\x00",
        b"\x84",
    ):
        pdu = resign(kind, token2(kind, seq=1, tail=tail))
        assert verdict(guard, pdu) == "protocol-error", tail.hex()
        with pytest.raises(DecodeError):
            scan_transfer(pdu)


@every_kind
@pytest.mark.parametrize("number", ["0200", "0201ff", "02050080000000", "020900000000000000007f"])
def test_seq_range(kind: Kind, number: str) -> None:
    assert agree(kind, resign(kind, token2(kind, seq_tlv=bytes.fromhex(number)))) == "protocol-error"


@every_kind
def test_indefinite_form_of_tbp_and_token(kind: Kind) -> None:
    for seq, indefinite in enumerate([True, False]):
        token = token2(kind, seq=seq)
        pdu = resign(kind, token, indefinite=indefinite)
        if seq == 0:
            assert pdu.count(b"\x30\x80") >= 1
            assert agree(kind, pdu) == ""
            # the end-of-contents octets are covered
            assert verdict(kind.open_guard(), pdu.replace(b"\x30\x80", b"\x31\x80", 1)) == "protocol-error"
    # applData and the PDU itself have definite lengths
    assert verdict(kind.open_guard(), b"\x30\x80" + pdu[3:] + b"\x00\x00") == "protocol-error"


# --- time -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text",
    [
        "20261120120000Z",
        "20261120120000.1Z",
        "20261120120000,12Z",
        "20261120120000.123456789Z",
        "20261120115960Z",
        "20261120115960.999Z",
    ],
)
def test_time_forms(text: str) -> None:
    kind = BY_NAME["hmac"]
    guard = kind.open_guard("20261120115900Z")
    guard.open(resign(kind, token2(kind, time=text)), T0)
    fraction = text.replace(",", ".").strip("Z").partition(".")[2]
    assert guard.last_time == text[:14] + fraction.ljust(9, "0")
    # equal under another spelling
    same = text[:14] + "." + fraction.ljust(9, "0") + "Z"
    assert verdict(guard, resign(kind, token2(kind, time=same, seq=0))) == "replay"
    assert verdict(guard, resign(kind, token2(kind, time=same, seq=1))) == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Z",
        "2026112012Z",
        "202611201200Z",
        "20261120120000",
        "20261120120000.Z",
        "20261120120000.1234567890Z",
        "20261120120000.000+0000",
        "20261120120000.000z",
        "20261120120000;000Z",
        "20261120120000.0 0Z",
        "20261120T12000.000Z",
        "2026-1-20120000.00Z",
        "20260020120000.000Z",
        "20261320120000.000Z",
        "20261100120000.000Z",
        "20261131120000.000Z",
        "20260229120000.000Z",
        "21000229120000.000Z",
        "20261120240000.000Z",
        "20261120126000.000Z",
        "20261120120061.000Z",
        "/0261120120000.000Z",
        ":0261120120000.000Z",
    ],
)
def test_refuses_other_times(text: str) -> None:
    kind = BY_NAME["hmac"]
    assert agree(kind, resign(kind, token2(kind, time=text))) == "protocol-error"
    if text:
        with pytest.raises(LocalError):
            kind.open_guard(text)


@pytest.mark.parametrize("text", ["20240229000000.000Z", "20000229000000Z", "99991231235959Z", "00010101000000Z"])
def test_calendar(text: str) -> None:
    kind = BY_NAME["hmac"]
    assert kind.open_guard(text).last_time == text.strip("Z").replace(".", "").ljust(23, "0")


@given(st.integers(0, 253402300799999 - 60_000))
def test_written_times_are_right_over_the_whole_range(utc_ms: int) -> None:
    kind = BY_NAME["hmac"]
    seal = kind.seal_guard("19700101000000.000Z")
    pdu = seal.seal(DATA, utc_ms)
    assert seal.last_time == time_text(utc_ms)
    incoming = kind.open_guard("19691231235959.999Z")
    for off, wanted in ((SKEW + 1, "time"), (-SKEW - 1, "time"), (SKEW, "")):
        assert verdict(incoming, pdu, utc_ms + off) == wanted


@every_kind
def test_window_of_ten_minutes(kind: Kind) -> None:
    pdu = kind.seal_guard().seal(DATA, T0)
    assert agree(kind, pdu, T0 + SKEW) == ""
    assert agree(kind, pdu, T0 - SKEW) == ""
    assert agree(kind, pdu, T0 + SKEW + 1) == "time"
    assert agree(kind, pdu, T0 - SKEW - 1) == "time"
    # A clock that steps out of the window stops even the next PDU of the same time.
    guard, seal = kind.open_guard(), kind.seal_guard()
    guard.open(seal.seal(DATA, T0), T0)
    assert verdict(guard, seal.seal(DATA, T0), T0 + SKEW + 1) == "time"


@every_kind
def test_time_and_sequence(kind: Kind) -> None:
    guard = kind.open_guard("20261120120000.005Z")

    def put(ms: int, seq: int) -> str:
        return verdict(guard, resign(kind, token2(kind, time=f"20261120120000.{ms:03}Z", seq=seq)), T0)

    assert put(4, 0) == "time"  # before the peer's ClearToken1
    assert put(5, 1) == "sequence"
    assert put(5, 0) == ""
    assert put(5, 0) == "replay"
    assert put(5, 2) == "sequence"
    assert put(5, 1) == ""
    assert put(5, 0) == "replay"
    assert put(6, 1) == "sequence"
    assert put(6, 2**31 - 1) == "sequence"
    assert put(6, 0) == ""
    assert put(5, 2) == "time"
    assert put(5, 1) == "time"  # an old one is out of time before it is a replay
    assert put(900, 0) == ""
    assert guard.count == 4


@every_kind
def test_clock_that_steps_back(kind: Kind) -> None:
    seal, guard = kind.seal_guard(), kind.open_guard()
    for clock, time in ((10, 10), (11, 11), (3, 11), (-5000, 11), (11, 11), (12, 12)):
        guard.open(seal.seal(DATA, T0 + clock), T0)
        assert seal.last_time == f"20261120120000.{time:03}Z"


SMALL_NUMBERS = """
from fastsec import limits
limits.OUR_SEQ_MAX = 2
limits.OUR_MESSAGES_PER_KEY = 9
from guardkit import BY_NAME, T0, appl
from fastsec._core.osidata import OsiChannel
from fastsec.errors import LimitReached
kind = BY_NAME["gcm128-16"]
seal, guard = kind.seal_guard(), kind.open_guard()
for time in (0, 0, 0, 1, 1, 1, 2, 2):
    guard.open(seal.seal(appl(9), T0), T0)
    assert seal.last_time == f"20261120120000.00{time}Z", (seal.last_time, time)
channel = OsiChannel(100)
channel.arm_tx(seal, 5, 128)
try:
    channel.seal_batch([appl(9), appl(9)], T0)
except LimitReached as error:
    assert error.limit == "OUR_MESSAGES_PER_KEY" and seal.count == 8
else:
    raise AssertionError
guard.open(seal.seal(appl(9), T0 + 1), T0)
for call in (lambda: seal.seal(appl(9), T0), lambda: channel.seal(appl(9), T0)):
    try:
        call()
    except LimitReached as error:
        assert error.limit == "OUR_MESSAGES_PER_KEY" and seal.count == 9
    else:
        raise AssertionError
new = kind.seal_guard(previous=seal)
guard.open(new.seal(appl(9), T0), T0)
"""


def test_last_seq_moves_the_time_and_the_last_message_ends_the_key() -> None:
    """In a process of its own whose limits are small before the module reads them."""
    path = os.pathsep.join(filter(None, sys.path))
    subprocess.run([sys.executable, "-c", SMALL_NUMBERS], check=True, env=os.environ | {"PYTHONPATH": path})


def test_seq_beyond_its_range_is_refused_by_the_receiver() -> None:
    kind = BY_NAME["hmac"]
    guard = kind.open_guard()
    guard.open(resign(kind, token2(kind, seq=0)), T0)
    assert verdict(guard, resign(kind, token2(kind, seq=2**31 - 1))) == "sequence"
    assert verdict(guard, resign(kind, token2(kind, time="20261120120000.001Z", seq=0))) == ""


# --- across keys ----------------------------------------------------------------------------------------------------
@every_kind
def test_new_key_continues_time_sequence_and_nonce(kind: Kind) -> None:
    other = bytes(reversed(KEYS))
    seal, guard = kind.seal_guard(), kind.open_guard()
    first = [seal.seal(DATA, T0) for _ in range(3)]
    for pdu in first:
        guard.open(pdu, T0)
    new_seal, new_guard = kind.seal_guard(previous=seal, keys=other), kind.open_guard(previous=guard, keys=other)
    assert new_seal.count == new_guard.count == 0
    pdu = new_seal.seal(DATA, T0)
    assert b"\x02\x01\x03" in pdu
    if "gmac" in kind.name or kind.mode == MODE_AE:
        assert (3).to_bytes(12, "big") in pdu
    assert verdict(guard, pdu) == "icv"
    assert new_guard.open(pdu, T0).appl_data == DATA
    # One window for both: nothing old comes in again under either key.
    assert verdict(guard, first[2]) == "replay"
    assert verdict(guard, first[0]) == "replay"
    # A last PDU under the old key still has its place in the order.
    late = seal.seal(DATA, T0)
    assert guard.open(late, T0).appl_data == DATA
    assert verdict(new_guard, pdu) == "replay"
    seal.wipe()
    assert new_guard.open(new_seal.seal(DATA, T0), T0).appl_data == DATA


@pytest.mark.parametrize("kind", [k for k in KINDS if k.mode == MODE_AE or "gmac" in k.name], ids=str)
def test_nonces_count(kind: Kind) -> None:
    seal = kind.seal_guard()
    for number in range(300):
        assert number.to_bytes(12, "big") in seal.seal(DATA, T0)


@pytest.mark.parametrize("kind", [k for k in KINDS if k.suite.encr], ids=str)
def test_ivs_differ(kind: Kind) -> None:
    seal = kind.seal_guard()
    ivs = {next_iv(Pieces.of(kind, seal.seal(DATA, T0)).token) for _ in range(500)}
    assert len(ivs) == 500


# --- life of a guard ------------------------------------------------------------------------------------------------
@every_kind
def test_wipe(kind: Kind) -> None:
    seal, guard = kind.seal_guard(), kind.open_guard()
    pdu = seal.seal(DATA, T0)
    seal.wipe()
    guard.wipe()
    seal.wipe()
    with pytest.raises(LocalError):
        seal.seal(DATA, T0)
    with pytest.raises(LocalError):
        guard.open(pdu, T0)


@every_kind
def test_key_material_may_be_wiped_after_construction(kind: Kind) -> None:
    keys = Secret.from_bytes(KEYS)
    seal = SealGuard(kind.params, keys, kind.ik, kind.ek, start_time=START)
    guard = OpenGuard(kind.params, keys, kind.ik, kind.ek, start_time=START)
    keys.wipe()
    assert guard.open(seal.seal(DATA, T0), T0).appl_data == DATA
    with pytest.raises(LocalError):
        SealGuard(kind.params, keys, kind.ik, kind.ek, start_time=START)


def test_message_limits() -> None:
    seal = BY_NAME["hmac"].seal_guard()
    assert seal.soft_limit == limits.OUR_MESSAGES_PER_KEY_SOFT
    assert not seal.due
    seal.soft_limit = 2
    seal.seal(DATA, T0)
    assert not seal.due
    seal.seal(DATA, T0)
    assert seal.due


def test_failed_seal_uses_nothing_up() -> None:
    kind = BY_NAME["gcm128-16"]
    seal, guard = kind.seal_guard(), kind.open_guard()
    seal.rekey = (23, b"a" * 2000)
    with pytest.raises(LocalError):
        seal.seal(DATA, T0)
    seal.rekey = (-1, b"")
    with pytest.raises(LocalError):
        seal.seal(DATA, T0)
    seal.rekey = None
    for clock in (-1, 253402300799999, 2**62):
        with pytest.raises(LocalError):
            seal.seal(DATA, clock)
    assert seal.count == 0
    assert seal.last_time == START
    pdu = seal.seal(DATA, T0)
    assert b"\x80\x0c" + bytes(12) in pdu
    guard.open(pdu, T0)


@pytest.mark.parametrize(
    "values",
    [
        (5, ASSO, b"", 16, 16, 0),
        (MODE_AE, ASSO, b"", 11, 16, 0),
        (MODE_AE, ASSO, b"", 17, 16, 0),
        (MODE_AE, ASSO, b"", 16, 24, 0),
        (MODE_AE, ASSO, b"", 16, 16, 16),
        (MODE_AE, ASSO, hmac_algorithm(), 16, 16, 0),
        (MODE_AE, "", b"", 16, 16, 0),
        (MODE_AE, "1234:123", b"", 16, 16, 0),
        (MODE_HMAC, ASSO, b"", 32, 0, 32),
        (MODE_HMAC, ASSO, hmac_algorithm(), 16, 0, 32),
        (MODE_HMAC, ASSO, hmac_algorithm(), 32, 16, 32),
        (MODE_HMAC, ASSO, hmac_algorithm(), 32, 0, 16),
        (MODE_HMAC, ASSO, hmac_algorithm() + b"\x00", 32, 0, 32),
        (MODE_HMAC, ASSO, gcm_algorithm(profile.AES128_GCM, 16), 32, 0, 32),
        (MODE_HMAC, ASSO, tlv(0x30, bytes(200)), 32, 0, 32),
        (MODE_GMAC, ASSO, gcm_algorithm(profile.AES128_GCM, 16), 12, 0, 16),
        (MODE_GMAC, ASSO, gcm_algorithm(profile.AES128_GCM, 16), 16, 0, 24),
        (MODE_GMAC, ASSO, gcm_algorithm(profile.AES128_GCM, 11), 11, 0, 16),
    ],
)
def test_parameters_must_fit_together(values: tuple[int, str, bytes, int, int, int]) -> None:
    with pytest.raises(LocalError):
        GuardParams(*values)


def test_keys_must_fit() -> None:
    params = BY_NAME["cbc128-hmac"].params
    keys = Secret.from_bytes(KEYS)
    for ik, ek in (
        (None, (0, 16)),
        ((0, 32), None),
        ((0, 16), (0, 16)),
        ((0, 32), (0, 32)),
        ((65, 32), (0, 16)),
        ((-1, 32), (0, 16)),
        ((0, 32), (2**62, 16)),
    ):
        for guard in (SealGuard, OpenGuard):
            with pytest.raises(LocalError):
                guard(params, keys, ik, ek, start_time=START)
    for guard in (SealGuard, OpenGuard):
        with pytest.raises(LocalError):
            guard(params, keys, (0, 32), (0, 16))
        with pytest.raises(LocalError):
            guard(params, keys, (0, 32), (0, 16), start_time="yesterday")
    with pytest.raises(LocalError):
        SealGuard(params, keys, (0, 32), (0, 16), start_time="19691231235959.999Z")


def test_nothing_tells_a_secret() -> None:
    kind = BY_NAME["gcm128-16"]
    for thing in (kind.seal_guard(), kind.open_guard(), kind.params, Opened()):
        assert KEYS[40:56].hex() not in repr(thing).encode().hex()
    with pytest.raises(PeerError) as caught:
        kind.open_guard().open(resign(kind, token2(kind, seq=3), plain=b"\xa0\x06secret"), T0)
    assert "secret" not in str(caught.value)
    with pytest.raises(TypeError):
        pickle.dumps(kind.seal_guard())
