"""Transfers that are put together from odd parts and then protected with the right keys, as any peer could.

Flipped bits never come behind the ICV; these do. fastsec and the reference must take the same ones, read the same in
them, and refuse the others by the same check."""

from __future__ import annotations

import hmac

import pytest
import transfer_values as values
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from fastsec import limits
from fastsec._core.osidata import OsiChannel
from fastsec.errors import DecodeError, PeerError
from reference.secpdu import encode_algorithm
from reference.tlv import Fault, integer, tlv
from reference.transfer import Suite

PDU = b"\xa0\x03\x02\x01\x07"
NONCE = bytes(11) + b"\x07"
TIMES = [
    "20261120114419.123Z",
    "20261120114419.124Z",
    "20261120114419Z",
    "20261120114419,1230Z",
    "20261120114419.1235Z",
    "20261120114420.000000001Z",
    "20261120113419.122Z",
    "20261120115419.124Z",
    "20261120114360Z",
    "20261120T114419Z",
]
APPL_DATA = [PDU, b"\x05\x00", b"\xc0\x01x", b"\xe0\x00", b"\x30\x00", b"\xbf\x21\x00", b"\x8b\x00", b"", b"\x05\x01x"]
EXTENSIONS = [
    b"\x84\x01x",
    b"\x04\x01y",
    b"\x30\x03\x02\x01\x01",
    b"\x82\x01\xff",
    b"\xa0\x00",
    b"\x5f\x21\x00",
    b"\0\0",
]
suites = st.sampled_from(values.SUITES)


@st.composite
def edited(draw: st.DrawFn, octets: bytes) -> bytes:
    """Mostly unchanged, else an octet changed, inserted or left out."""
    if not octets or draw(st.integers(0, 9)) > 3:
        return octets
    position = draw(st.integers(0, len(octets) - 1))
    inserted = draw(st.sampled_from([b"", b"\0", b"\x80", b"\x30", b"\x04", b"\xa1"]) | st.binary(max_size=1))
    return octets[:position] + inserted + octets[position + draw(st.integers(0, 1)) :]


@st.composite
def wrapped(draw: st.DrawFn, content: bytes) -> tuple[bytes, bytes]:
    """(SEQUENCE, the octets that are protected with it) in one of the forms of BER."""
    form = draw(st.integers(0, 9))
    if form == 0:
        return b"\x30\x80" + content + b"\0\0", content + b"\0\0"
    if form == 1:
        return b"\x30\x83" + len(content).to_bytes(3, "big") + content, content
    return tlv(0x30, content), content


@st.composite
def transfers(draw: st.DrawFn, suite: Suite) -> bytes:
    ik, ek = values.key_octets(suite)
    rarely = st.integers(0, 9).map(lambda n: n == 0)
    iv = NONCE if suite.aea else bytes(16) if suite.encr else b""
    token = tlv(0x0C, b"17:5") + tlv(0x18, draw(st.sampled_from(TIMES)).encode())
    token += integer(draw(st.sampled_from([1, 1, 0, 2, 2**31 - 1, 2**31])))
    if iv:
        token += tlv(0x80, iv[: len(iv) - draw(rarely)])
    if draw(rarely):
        token += tlv(0xA1, integer(23) + tlv(0x04, bytes(draw(st.sampled_from([0, 65])))))
    for tag in (0x82, 0x83):
        if draw(rarely):
            token += tlv(tag, draw(st.sampled_from([b"\xff", b"\0", b"\x01", b"", b"\xff\xff"])))
    if draw(rarely):
        token += draw(st.sampled_from(EXTENSIONS))
    whole, aad = draw(wrapped(draw(edited(token))))
    body = draw(edited(draw(st.sampled_from(APPL_DATA))))
    if suite.aea:
        body = tlv(0x04, AESGCM(ek).encrypt(NONCE, body, aad)[: len(body) + suite.icv_len])
    elif suite.encr:
        pad = 16 - len(body) % 16
        padding = draw(st.sampled_from([bytes([pad]) * pad, bytes(pad), bytes([pad]) * (pad - 1) + b"\x11"]))
        encryptor = Cipher(algorithms.AES(ek), modes.CBC(bytes(16))).encryptor()
        body = tlv(0x04, encryptor.update(body + padding) + encryptor.finalize())
    after = draw(st.sampled_from(EXTENSIONS)) if draw(rarely) else b""
    tbp, covered = draw(wrapped(whole + body + after))
    auth = b""
    if not suite.aea:
        algorithm = values.sender(draw(suites) if draw(rarely) else suite)._algorithm
        if suite.mode.endswith("GMAC"):
            auth = tlv(0x80, NONCE[: 12 - draw(rarely)]) + algorithm
            auth += tlv(0x04, AESGCM(ik).encrypt(NONCE, b"", covered)[: suite.icv_len - draw(rarely)])
        else:
            auth = algorithm + tlv(0x04, hmac.digest(ik, covered, "sha256")[: 32 - draw(rarely)])
    if auth or draw(rarely):
        auth = tlv(0x30, auth)
    return draw(wrapped(tbp + auth))[0]


Verdict = tuple[str, object]


def verdicts(suite: Suite, octets: bytes) -> tuple[Verdict, Verdict]:
    """(check that failed, "" for none; what was read) of fastsec and of the reference, for the second PDU sent."""
    first = values.sender(suite).seal(PDU, values.T0, iv=bytes(16))
    rx, other = values.open_guard(suite), values.receiver(suite)
    rx.open(first, values.T0)
    other.open(first, values.T0)
    try:
        opened = rx.open(octets, values.T0)
        mine: Verdict = "", (opened.appl_data, opened.rekey, opened.req_rekey, opened.changed_key)
    except PeerError as error:
        mine = error.check, None
    try:
        theirs: Verdict = "", tuple(other.open(octets, values.T0))
    except Fault as fault:
        theirs = fault.check, None
    return mine, theirs


@pytest.mark.parametrize("suite", values.SUITES, ids=values.suite_id)
@settings(max_examples=300)
@given(data=st.data())
def test_both_take_the_same_ones(suite: Suite, data: st.DataObject) -> None:
    octets = data.draw(transfers(suite))
    mine, theirs = verdicts(suite, octets)
    assert mine == theirs


def data_frame(secpdu: bytes) -> bytes:
    """TPKT and DT TPDU with presentation user data of context 5."""
    tsdu = b"\x01\x00\x01\x00" + tlv(0x61, tlv(0x30, b"\x02\x01\x05" + tlv(0xA0, secpdu)))
    return b"\x03\x00" + (len(tsdu) + 7).to_bytes(2, "big") + b"\x02\xf0\x80" + tsdu


@pytest.mark.parametrize("suite", values.SUITES, ids=values.suite_id)
@settings(max_examples=300)
@given(data=st.data())
def test_the_fast_path_takes_nothing_else(suite: Suite, data: st.DataObject) -> None:
    """What the channel opens by itself the reference opens too, to the same; all else it leaves to the slow path."""
    octets = data.draw(transfers(suite))
    first = values.sender(suite).seal(PDU, values.T0, iv=bytes(16))
    other = values.receiver(suite)
    other.open(first, values.T0)
    channel = OsiChannel(70_000)
    channel.arm_rx(values.open_guard(suite), 5)
    assert channel.feed(data_frame(first), values.T0) == [PDU]
    opened = channel.feed(data_frame(octets), values.T0)
    if opened:
        theirs = other.open(octets, values.T0)
        assert opened == [theirs.appl_data]
        assert theirs[1:] == (None, False, False)
        assert channel.next() is None
    elif channel.fault is not None:
        with pytest.raises(Fault):
            other.open(octets, values.T0)
    else:
        assert channel.next() is not None


def test_an_algorithm_of_more_octets_than_allowed() -> None:
    suite = values.SUITES[1]
    assert suite.icv is not None
    for excess in (0, 1):
        tx = values.sender(suite)
        head = len(encode_algorithm((suite.icv[0], tlv(0x30, tlv(0x04, b"")))))
        nonce = bytes(limits.OUR_ALGORITHM_ID_MAX - head + excess)
        tx._algorithm = encode_algorithm((suite.icv[0], tlv(0x30, tlv(0x04, nonce))))
        assert len(tx._algorithm) == limits.OUR_ALGORITHM_ID_MAX + excess
        octets = tx.seal(PDU, values.T0)
        if excess:
            with pytest.raises(DecodeError, match="too long"):
                values.open_guard(suite).open(octets, values.T0)
        else:
            assert values.open_guard(suite).open(octets, values.T0).appl_data == PDU
