"""The order of the checks on a received transfer: every manipulation gives its verdict, and nothing changes."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from guardkit import (
    ASSO,
    BY_NAME,
    DATA,
    KINDS,
    SKEW,
    START,
    T0,
    Kind,
    Pieces,
    agree,
    appl,
    every_kind,
    gcm_algorithm,
    hmac_algorithm,
    next_iv,
    resign,
    token2,
    verdict,
)
from hypothesis import given
from hypothesis import strategies as st

from fastsec import profile
from fastsec._core.guard import MODE_AE, scan_transfer
from fastsec.errors import DecodeError, LocalError
from reference.tlv import tlv
from reference.transfer import time_text

kinds = st.sampled_from(KINDS)


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


def test_seq_beyond_its_range_is_refused_by_the_receiver() -> None:
    kind = BY_NAME["hmac"]
    guard = kind.open_guard()
    guard.open(resign(kind, token2(kind, seq=0)), T0)
    assert verdict(guard, resign(kind, token2(kind, seq=2**31 - 1))) == "sequence"
    assert verdict(guard, resign(kind, token2(kind, time="20261120120000.001Z", seq=0))) == ""
