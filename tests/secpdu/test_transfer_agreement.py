"""Transfers: the guard of ``_core`` and the independent implementation seal alike, open each other's PDUs, and refuse
the same damaged ones for the same reason."""

from __future__ import annotations

import pytest
import transfer_values as values
from hypothesis import given
from hypothesis import strategies as st
from secpdu_values import mms_pdus

from fastsec.errors import PeerError
from fastsec.secpdu import der, fields
from fastsec.secpdu.fields import Carrier, SecPduKind
from reference.tlv import Fault, only, tlv, walk
from reference.transfer import Suite

suites = pytest.mark.parametrize("suite", values.SUITES, ids=values.suite_id)
NULL = b"\x05\x00"
PDU = b"\xa0\x03\x02\x01\x07"

opaque = st.binary(max_size=300).map(lambda data: tlv(0xC0, data))
rekeys = st.none() | st.tuples(st.sampled_from([14, 23, 28]), st.binary(min_size=1, max_size=256))
messages = st.lists(
    st.tuples(mms_pdus | opaque | st.just(NULL), st.integers(-2, 5), rekeys, st.booleans(), st.booleans()),
    min_size=1,
    max_size=6,
)
Message = tuple[bytes, int, tuple[int, bytes] | None, bool, bool]


@suites
@given(sent=messages)
def test_fastsec_seals_and_the_reference_opens(suite: Suite, sent: list[Message]) -> None:
    tx, twin, rx = values.seal_guard(suite), values.sender(suite), values.receiver(suite)
    now = values.T0
    for appl_data, step, rekey, req_rekey, changed_key in sent:
        now += step
        tx.rekey, tx.req_rekey, tx.changed_key = rekey, req_rekey, changed_key
        octets = tx.seal(appl_data, now)
        if suite.encr is None:  # CBC has a random IV
            flags = {"rekey": rekey, "req_rekey": req_rekey, "changed_key": changed_key}
            assert twin.seal(appl_data, now, **flags) == octets
        opened = rx.open(octets, now)
        assert opened == (None if appl_data == NULL else appl_data, rekey, req_rekey, changed_key)
        kind = SecPduKind.ENCR_TRANSFER if suite.aea or suite.encr else SecPduKind.CLEAR_TRANSFER
        assert der.kind_of(Carrier.DATA, octets) is kind


@suites
@given(sent=messages)
def test_the_reference_seals_and_fastsec_opens(suite: Suite, sent: list[Message]) -> None:
    tx, rx = values.sender(suite), values.open_guard(suite)
    now = values.T0
    for appl_data, step, rekey, req_rekey, changed_key in sent:
        now += step
        octets = tx.seal(appl_data, now, rekey=rekey, req_rekey=req_rekey, changed_key=changed_key)
        opened = rx.open(octets, now)
        assert opened.appl_data == (None if appl_data == NULL else appl_data)
        assert (opened.rekey, opened.req_rekey, opened.changed_key) == (rekey, req_rekey, changed_key)


@suites
def test_nonce_time_and_seq_continue_across_a_key_change(suite: Suite) -> None:
    tx, twin = values.seal_guard(suite), values.sender(suite)
    rx, other = values.open_guard(suite), values.receiver(suite)
    for octets in (tx.seal(PDU, values.T0), tx.seal(PDU, values.T0)):
        rx.open(octets, values.T0)
        other.open(octets, values.T0)
    twin.seal(PDU, values.T0)
    twin.seal(PDU, values.T0)
    tx, twin = values.seal_guard(suite, 2, tx), values.sender(suite, 2, twin)
    rx, other = values.open_guard(suite, 2, rx), values.receiver(suite, 2, other.window)
    octets = tx.seal(PDU, values.T0)
    if suite.encr is None:
        assert twin.seal(PDU, values.T0) == octets
    assert rx.open(octets, values.T0).appl_data == other.open(octets, values.T0).appl_data == PDU


def verdicts(suite: Suite, octets: bytes, now: int = values.T0) -> tuple[str, str]:
    """What fastsec and what the reference say to one PDU: a check, or "" for its acceptance."""
    first, second = values.sender(suite).seal(PDU, values.T0, iv=bytes(16)), octets
    rx, other = values.open_guard(suite), values.receiver(suite)
    rx.open(first, values.T0)
    other.open(first, values.T0)
    before = rx.last_time
    try:
        rx.open(second, now)
        mine = ""
    except PeerError as error:
        mine = error.check
        assert rx.count == 1
        assert rx.last_time == before
    try:
        other.open(second, now)
        theirs = ""
    except Fault as fault:
        theirs = fault.check
    return mine, theirs


@suites
def test_the_guard_writes_what_the_field_table_says(suite: Suite) -> None:
    """The guard has its tags in C; the table is what documentation and the other codecs go by."""
    tx = values.seal_guard(suite)
    tx.rekey, tx.req_rekey, tx.changed_key = (23, b"\x04" * 65), True, True
    tbp, *auth = walk(only(tx.seal(PDU, values.T0)).content)
    token, body = walk(tbp.content)
    table = [field for field in fields.CLEAR_TOKEN_2 if field.name != "iv" or suite.aea or suite.encr]
    assert [component.tag for component in walk(token.content)] == [field.tag for field in table]
    (rekey,) = [component for component in walk(token.content) if component.tag == 0xA1]
    assert [component.tag for component in walk(rekey.content)] == [field.tag for field in fields.DH_PUBLIC]
    assert (body.tag == fields.ENCRYPTED_TAG) == bool(suite.aea or suite.encr)
    if suite.aea:
        assert not auth
    else:
        table = [field for field in fields.AUTHENTICATOR if field.name != "nonce" or suite.mode.endswith("GMAC")]
        assert [component.tag for component in walk(auth[0].content)] == [field.tag for field in table]


def alike(suite: Suite, octets: bytes) -> str:
    """The verdict that both share. Where Authenticator.algorithm is damaged they need only refuse both: one says that
    its parameters are malformed, the other, later, that it is not the agreed one."""
    mine, theirs = verdicts(suite, octets)
    if values.sender(suite)._algorithm in octets:
        assert mine == theirs, octets.hex()
    else:
        assert bool(mine) == bool(theirs), octets.hex()
    return mine


def second_pdu(suite: Suite, appl_data: bytes = PDU, later: int = 0) -> bytes:
    tx = values.sender(suite)
    tx.seal(PDU, values.T0)
    return tx.seal(appl_data, values.T0 + later, iv=bytes(16))


@suites
def test_every_truncation(suite: Suite) -> None:
    octets = second_pdu(suite)
    for length in range(len(octets)):
        assert verdicts(suite, octets[:length]) == ("protocol-error", "protocol-error")
    assert verdicts(suite, octets + b"\0") == ("protocol-error", "protocol-error")
    assert verdicts(suite, octets) == ("", "")


@suites
def test_every_bit_flip(suite: Suite) -> None:
    """All are refused, but for aes-nonce in the Authenticator's algorithm, which nobody reads: its twelve zero octets,
    and the bit that makes them the twelve length octets of an empty one (BER lengths need not be minimal)."""
    octets = second_pdu(suite)
    ignored: set[int] = set()
    if suite.mode.endswith("GMAC"):
        start = octets.rindex(b"\x04\x0c" + bytes(12))
        ignored = {8 * (start + 1), *range(8 * (start + 2), 8 * (start + 14))}
    accepted = set()
    for bit in range(8 * len(octets)):
        flipped = bytearray(octets)
        flipped[bit // 8] ^= 0x80 >> bit % 8
        if not alike(suite, bytes(flipped)):
            accepted.add(bit)
    assert accepted == ignored


@suites
@given(edits=st.lists(st.tuples(st.integers(0, 200), st.integers(0, 3), st.binary(max_size=3)), min_size=1, max_size=3))
def test_both_judge_damaged_octets_alike(suite: Suite, edits: list[tuple[int, int, bytes]]) -> None:
    octets = second_pdu(suite)
    for position, removed, inserted in edits:
        position %= len(octets) + 1
        octets = octets[:position] + inserted + octets[position + removed :]
    alike(suite, octets)


@suites
@pytest.mark.parametrize("skew", [-600_001, -600_000, 600_000, 600_001])
def test_clock_skew(suite: Suite, skew: int) -> None:
    expected = "time" if abs(skew) > 600_000 else ""
    assert verdicts(suite, second_pdu(suite), values.T0 + skew) == (expected, expected)


@suites
def test_sequence_rules(suite: Suite) -> None:
    def check(expected: str, time: str, seq: int) -> None:
        tx = values.sender(suite)
        tx.seal(PDU, values.T0)
        tx.time, tx.seq = time, seq - 1
        octets = tx.seal(PDU, 0, iv=bytes(16))  # a clock in the past: the time stays, seq advances
        assert verdicts(suite, octets) == (expected, expected)

    same, later, earlier = "20261120114419.123Z", "20261120114419.124Z", "20261120114419.122Z"
    check("", same, 1)
    check("replay", same, 0)
    check("sequence", same, 2)
    check("", later, 0)
    check("sequence", later, 1)
    check("time", earlier, 0)
    check("time", earlier, 1)


@suites
@pytest.mark.parametrize(
    "appl_data", [b"", b"\x30\x00", b"\x04\x01x", PDU + PDU, PDU + b"\0", b"\xa0\x02x", b"\x05\x01x", b"\xc1\x00"]
)
def test_appl_data_that_is_refused(suite: Suite, appl_data: bytes) -> None:
    octets = second_pdu(suite, appl_data)
    mine, theirs = verdicts(suite, octets)
    assert mine == theirs
    clear_with_extension = not (suite.aea or suite.encr) and appl_data == PDU + PDU
    assert mine == (
        ""
        if clear_with_extension
        else "wrong-kind"
        if appl_data == b"\x04\x01x" and suite.mode in ("HMAC", "GMAC")
        else "protocol-error"
    )


@suites
def test_another_kind_or_association(suite: Suite) -> None:
    for other in values.SUITES:
        if bool(other.aea or other.encr) != bool(suite.aea or suite.encr):
            assert verdicts(suite, second_pdu(other)) == ("wrong-kind", "wrong-kind")
        elif values.suite_id(other) != values.suite_id(suite):
            mine, theirs = verdicts(suite, second_pdu(other))
            assert mine == theirs != ""
    octets = second_pdu(suite)
    assert verdicts(suite, octets.replace(b"17:5", b"17:6")) == ("asso-id", "asso-id")


@suites
def test_indefinite_tbp_and_token(suite: Suite) -> None:
    """The end-of-contents octets belong to what is protected."""
    tx = values.sender(suite)
    tx.seal(PDU, values.T0)
    octets = _indefinite(tx, suite)
    assert verdicts(suite, octets) == ("", "")
    assert verdicts(suite, _indefinite(tx, suite, spoil=True)) == ("icv", "icv")


def _indefinite(tx: values.Sender, suite: Suite, spoil: bool = False) -> bytes:
    """The PDU in indefinite form, protected by hand; spoilt: protected without end-of-contents octets."""
    import hmac

    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    from reference.tlv import integer
    from reference.transfer import _cbc

    ik, ek = values.key_octets(suite)
    nonce = bytes(11) + b"\x07"
    iv = nonce if suite.aea else bytes(16) if suite.encr else b""
    token = tlv(0x0C, b"17:5") + tlv(0x18, tx.time.encode()) + integer(tx.seq + 1) + (tlv(0x80, iv) if iv else b"")
    end = b"" if spoil else b"\0\0"
    if suite.aea:
        cipher = AESGCM(ek).encrypt(nonce, PDU, token + end)[: len(PDU) + suite.icv_len]
        return tlv(0x30, b"\x30\x80\x30\x80" + token + b"\0\0" + tlv(0x04, cipher) + b"\0\0")
    body = tlv(0x04, _cbc(ek, iv, PDU)) if suite.encr else PDU
    tbp = b"\x30\x80" + token + b"\0\0" + body
    auth = tx._algorithm
    if suite.mode.endswith("GMAC"):
        auth = tlv(0x80, nonce) + auth + tlv(0x04, AESGCM(ik).encrypt(nonce, b"", tbp + end)[: suite.icv_len])
    else:
        auth += tlv(0x04, hmac.digest(ik, tbp + end, "sha256"))
    return tlv(0x30, b"\x30\x80" + tbp + b"\0\0" + tlv(0x30, auth))
