"""The data channel: both directions over any cut of the octets, regular and irregular frames, faults and limits."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import pytest
from guardkit import BY_NAME, DATA, KEYS, KINDS, T0, Kind, appl, every_kind, resign, token2, verdict
from hypothesis import given
from hypothesis import strategies as st

from fastsec import limits
from fastsec._core.cursor import Reader
from fastsec._core.guard import OpenGuard, SealGuard
from fastsec._core.osidata import OsiChannel
from fastsec._core.tpkt import dt, tpkt
from fastsec.errors import DecodeError, LocalError, PeerError, StateError
from reference.tlv import Fault, tlv

kinds = st.sampled_from(KINDS)
CONTEXT = 5
MAX = limits.OUR_TSDU_MAX
CR = bytes.fromhex("06e00000000100")


def sender(guard: SealGuard | None, tpdu_size: int = 65_408, context: int = CONTEXT) -> OsiChannel:
    channel = OsiChannel(MAX)
    channel.arm_tx(guard, context, tpdu_size)
    return channel


def receiver(guard: OpenGuard | None, context: int = CONTEXT, max_tsdu: int = MAX) -> OsiChannel:
    channel = OsiChannel(max_tsdu)
    channel.arm_rx(guard, context)
    return channel


def presentation(pdu: bytes, context: int = CONTEXT) -> bytes:
    return b"\x01\x00\x01\x00" + tlv(0x61, tlv(0x30, tlv(0x02, bytes([context])) + tlv(0xA0, pdu)))


def secpdu_in(tsdu: bytes) -> bytes:
    reader = Reader(tsdu, 4)
    for tag in (0x61, 0x30):
        reader.expect(tag)
        reader = reader.enter()
    reader.integer()
    return reader.octets(0xA0)


def drain(channel: OsiChannel, pieces: Iterable[bytes], utc_ms: int = T0) -> list[object]:
    """All that comes out, in order: payloads as bytes, frames as tuples, the end of the stream as its exception."""
    out: list[object] = []
    try:
        for piece in pieces:
            out += channel.feed(piece, utc_ms)
            while (item := channel.next()) is not None:
                out.append(item if channel.fault is None else channel.fault.check)
                out += channel.feed(b"", utc_ms)
    except DecodeError as error:
        out.append(DecodeError if error.check == "protocol-error" else error)
        for call in (lambda: channel.feed(b"", utc_ms), lambda: channel.feed(b"\x03", utc_ms), channel.next):
            with pytest.raises(DecodeError):
                call()
    return out


def one_by_one(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


# --- the octets -----------------------------------------------------------------------------------------------------
def test_the_frame_is_the_one_of_the_standards() -> None:
    kind = BY_NAME["gcm128-16"]
    pdu = kind.seal_guard().seal(appl(30), T0)
    assert sender(kind.seal_guard()).seal(appl(30), T0) == dt(presentation(pdu), 65_408)
    big = kind.seal_guard().seal(appl(5000), T0)
    assert sender(kind.seal_guard(), 2048).seal(appl(5000), T0) == dt(presentation(big), 2048)
    assert sender(None).seal(b"\xa0\x00", T0) == dt(presentation(b"\xa0\x00"), 65_408)
    assert sender(None, context=-1).seal(b"anything", T0) == dt(b"anything", 65_408)
    wide = b"\x01\x00\x01\x00" + tlv(0x61, tlv(0x30, b"\x02\x02\x01\x2c" + tlv(0xA0, b"\xa0\x00")))
    assert sender(None, context=300).seal(b"\xa0\x00", T0) == dt(wide, 65_408)
    assert receiver(None, 300).feed(dt(wide, 128), T0) == [b"\xa0\x00"]


@every_kind
@pytest.mark.parametrize("tpdu_size", [128, 1024, 8192, 65_408, 65_531])
def test_round_trip(kind: Kind, tpdu_size: int) -> None:
    tx, rx = sender(kind.seal_guard(), tpdu_size), receiver(kind.open_guard())
    data = [appl(size) for size in (2, 60, 129, 256, 1000, 4096, 16_384, 65_000)]
    for item in data:
        assert rx.feed(tx.seal(item, T0), T0) == [item]
    blocks = tx.seal_batch(data, T0 + 1)
    assert drain(rx, blocks, T0) == data
    assert rx.buffered == 0
    assert rx.next() is None


@every_kind
def test_byte_by_byte_is_as_good_as_whole(kind: Kind) -> None:
    data = [appl(size) for size in (2, 60, 300, 1000)]
    for tpdu_size in (128, 65_408):
        octets = b"".join(sender(kind.seal_guard(), tpdu_size).seal_batch(data, T0))
        assert drain(receiver(kind.open_guard()), one_by_one(octets)) == data
        assert drain(receiver(kind.open_guard()), [octets]) == data
        for cut in range(0, len(octets), 7):
            assert drain(receiver(kind.open_guard()), [octets[:cut], octets[cut:]]) == data


def frames_of(kind: Kind, plan: list[int]) -> tuple[bytes, list[object]]:
    """A stream of regular and irregular frames, and what must come out of it."""
    guard = kind.seal_guard()
    tx = sender(guard, 256)
    octets = b""
    wanted: list[object] = []
    for what in plan:
        if what == 0:
            octets += tpkt(CR)
            wanted.append((0xE0, CR))
        elif what == 1:
            octets += tx.frame(b"\x01\x00\x01\x00\x61\x00")
            wanted.append((0xF0, b"\x01\x00\x01\x00\x61\x00"))
        elif what == 2:
            tsdu = bytes(700)
            octets += dt(tsdu, 300)
            wanted.append((0xF0, tsdu))
        else:
            octets += tx.seal(appl(what), T0)
            wanted.append(appl(what))
    return octets, wanted


@given(
    kinds, st.lists(st.sampled_from([0, 1, 2, 20, 200, 600]), max_size=8), st.lists(st.integers(1, 400), max_size=30)
)
def test_any_cut_of_any_mixture(kind: Kind, plan: list[int], cuts: list[int]) -> None:
    octets, wanted = frames_of(kind, plan)
    pieces, rest = [], octets
    for cut in cuts:
        pieces.append(rest[:cut])
        rest = rest[cut:]
    channel = receiver(kind.open_guard())
    assert drain(channel, [*pieces, rest]) == wanted
    assert channel.buffered == 0
    # Before it is armed everything comes as frames.
    plain = OsiChannel(MAX)
    out = drain(plain, [*pieces, rest])
    assert len(out) == len(wanted)
    assert all(isinstance(item, tuple) for item in out)


@given(
    st.sampled_from([kind for kind in KINDS if not kind.suite.encr]),
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(-1, 3), st.sampled_from(["", "00", ","]), st.integers(0, 9)),
        max_size=10,
    ),
)
def test_fast_way_full_way_and_reference_agree(kind: Kind, plan: list[tuple[int, int, str, int]]) -> None:
    """Rightly sealed PDUs at any time and seq, in forms that the fast way takes and in others, some with a wrong
    ICV or out of the window: the same verdicts whichever way they go."""
    rx, guard, twin = receiver(kind.open_guard()), kind.open_guard(), kind.receiver()
    for ms, seq, form, fault in plan:
        time = f"20261120120000.00{ms}Z"
        if form == "00":
            time = time.replace("Z", "00Z")
        elif form == ",":
            time = time.replace(".", ",")
        if seq < 0:  # the one that is waited for
            seq = twin.window.seq + 1 if twin.window.time == f"2026112012000000{ms}000000" else 0
        pdu = resign(
            kind, token2(kind, time=time, seq=seq), icv=lambda icv, f=fault: bytes(len(icv)) if f == 1 else icv
        )
        now = T0 + 600_004 if fault == 2 else T0
        full = verdict(guard, pdu, now)
        try:
            assert twin.open(pdu, now).appl_data == DATA
            wanted = ""
        except Fault as error:
            wanted = error.check
        assert full == wanted
        assert drain(rx, [dt(presentation(pdu), 8192)], now) == [DATA if full == "" else full]


# --- irregular PDUs -------------------------------------------------------------------------------------------------
@every_kind
def test_key_update_fields_and_null_leave_the_fast_path_unopened(kind: Kind) -> None:
    seal, guard = kind.seal_guard(), kind.open_guard()
    tx, rx = sender(seal), receiver(guard)
    for field in ("rekey", "req_rekey", "changed_key", "null"):
        if field == "rekey":
            seal.rekey = (23, b"a")
        elif field != "null":
            setattr(seal, field, True)
        data = b"\x05\x00" if field == "null" else appl(20)
        octets = tx.seal(appl(10), T0) if field == "null" else b""
        octets += tx.seal(data, T0)
        seal.req_rekey = False
        count = guard.count
        payloads = rx.feed(octets + tx.seal(appl(30), T0), T0)
        assert payloads == ([appl(10)] if field == "null" else [])
        assert guard.count == count + len(payloads)
        assert rx.buffered > 0
        assert rx.feed(b"", T0) == []  # it waits
        item = rx.next()
        assert item is not None
        assert (item[0], rx.fault) == (0xF0, None)
        opened = guard.open(secpdu_in(item[1]), T0)
        assert opened.appl_data == (None if field == "null" else data)
        assert rx.next() is None
        assert rx.feed(b"", T0) == [appl(30)]


def test_extensions_leave_the_fast_path() -> None:
    kind = BY_NAME["hmac"]
    guard = kind.open_guard()
    pdu = resign(kind, token2(kind, tail=b"\x84\x00"))
    rx = receiver(guard)
    assert drain(rx, [dt(presentation(pdu), 8192)]) == [(0xF0, presentation(pdu))]
    assert guard.count == 0


@pytest.mark.parametrize("kind", [k for k in KINDS if not k.aes], ids=str)
def test_only_appl_data_of_what_the_icv_covers_becomes_a_payload(kind: Kind) -> None:
    """Extensions behind applData, and what is no applData, never come out of the fast path, right ICV or not."""
    guard = kind.open_guard()
    rx = receiver(guard)
    extended = resign(kind, token2(kind), DATA + b"\x9f\x20\x01a")
    (left,) = drain(rx, [dt(presentation(extended), 8192)])
    assert left == (0xF0, presentation(extended))
    assert guard.count == 0
    opened = guard.open(extended, T0)
    assert (opened.appl_data, opened.unknown) == (DATA, True)
    for body in (b"\x30" + DATA[1:], b"\xa0\x80" + DATA[2:], DATA[:-1]):
        other = kind.open_guard()
        channel = receiver(other)
        channel.feed(dt(presentation(resign(kind, token2(kind), body)), 8192), T0)
        assert channel.fault is not None
        assert channel.fault.check == "protocol-error"
        assert other.count == 0


@every_kind
def test_a_negative_seq_is_not_the_number_it_looks_like(kind: Kind) -> None:
    guard, seal = kind.open_guard(), kind.seal_guard()
    tx, rx = sender(seal), receiver(guard)
    for _ in range(128):
        assert rx.feed(tx.seal(DATA, T0), T0) == [DATA]  # seq 0 to 127
    negative = resign(kind, token2(kind, seq_tlv=b"\x02\x01\x80"))
    assert rx.feed(dt(presentation(negative), 8192), T0) == []
    assert rx.fault is not None
    assert rx.fault.check == "protocol-error"
    assert rx.next() is not None
    assert rx.feed(tx.seal(DATA, T0), T0) == [DATA]


def test_new_key_between_two_frames_of_one_read() -> None:
    """The carrier of a rekey stops the channel; the engine arms the new guard; the rest opens under it."""
    kind = BY_NAME["gcm256-12"]
    other = bytes(reversed(KEYS))
    seal, guard = kind.seal_guard(), kind.open_guard()
    tx, rx = sender(seal), receiver(guard)
    octets = tx.seal(appl(10), T0)
    seal.rekey = (23, b"a")
    octets += tx.seal(appl(11), T0)
    new_seal = kind.seal_guard(previous=seal, keys=other)
    tx.arm_tx(new_seal, CONTEXT, 65_408)
    octets += tx.seal(appl(12), T0)
    assert rx.feed(octets, T0) == [appl(10)]
    item = rx.next()
    assert item is not None
    assert guard.open(secpdu_in(item[1]), T0).rekey == (23, b"a")
    rx.arm_rx(kind.open_guard(previous=guard, keys=other), CONTEXT)
    assert rx.feed(b"", T0) == [appl(12)]


@pytest.mark.parametrize("kind", [k for k in KINDS if not k.suite.encr], ids=str)
def test_foreign_encodings_of_regular_pdus_are_payloads_too(kind: Kind) -> None:
    """Definite lengths of any form, in the prefix and in the PDU; other forms of time: only the fast way is lost."""

    def long(tag: int, content: bytes) -> bytes:
        return bytes([tag, 0x84]) + len(content).to_bytes(4, "big") + content

    guard = kind.open_guard()
    rx = receiver(guard)
    pdus = [
        resign(kind, token2(kind, seq=0), form=lambda c: long(0x30, c)),
        resign(kind, token2(kind, seq=1), indefinite=kind.suite.aea is None),
        resign(kind, token2(kind, time="20261120120000Z", seq=2)),
        resign(kind, token2(kind, seq_tlv=b"\x02\x03\x00\x00\x03")),
        resign(kind, token2(kind, seq=4)),
        resign(kind, token2(kind, time="20261120120000,5Z")),
        resign(kind, token2(kind, time="20261120120000.500Z", seq=1)),
    ]
    for number, pdu in enumerate(pdus):
        tsdu = b"\x01\x00\x01\x00" + long(0x61, long(0x30, b"\x02\x02\x00\x05" + long(0xA0, pdu)))
        assert rx.feed(dt(tsdu, 8192), T0) == [appl(40)], number
    assert guard.count == len(pdus)


@pytest.mark.parametrize(
    "tsdu",
    [
        b"",
        b"\x01\x00\x01",
        b"\x01\x00\x01\x00",
        b"\x09\x00" + bytes(40),
        presentation(b"\xa0\x02ab", 3),
        presentation(b""),
        presentation(b"\xa0\x02ab") + b"\x00",
        presentation(b"\xa0\x02ab" + b"\x00")[:-1],
        presentation(b"\xa0\x02ab").replace(b"\x61", b"\x62", 1),
        b"\x01\x00\x01\x00" + tlv(0x61, tlv(0x30, b"\x02\x01\x05" + tlv(0xA0, b"\xa0\x00")) * 2),
        b"\x01\x00\x01\x00" + tlv(0x61, tlv(0x30, b"\x06\x02\x51\x01\x02\x01\x05" + tlv(0xA0, b"\xa0\x00"))),
        b"\x01\x00\x01\x00" + tlv(0x61, tlv(0x30, b"\x02\x05\x00\x00\x00\x00\x05" + tlv(0xA0, b"\xa0\x00"))),
        b"\x01\x00\x01\x00" + tlv(0x61, tlv(0x30, b"\x02\x01\x05" + tlv(0xA1, b"\xa0\x00"))),
        b"\x01\x00\x01\x00\x61\x80\x30\x07\x02\x01\x05\xa0\x02\xa0\x00\x00\x00",
    ],
)
def test_other_tsdus_wait(tsdu: bytes) -> None:
    for guard in (None, BY_NAME["hmac"].open_guard()):
        rx = receiver(guard)
        assert drain(rx, [dt(tsdu, 128), dt(tsdu, 128)]) == [(0xF0, tsdu)] * 2
        assert rx.fault is None


# --- faults ---------------------------------------------------------------------------------------------------------
@every_kind
def test_every_bit_flip_of_the_pdu_is_a_fault_or_irregular(kind: Kind) -> None:
    """The channel gives the verdict of OpenGuard.open, or leaves the frame to the engine; never a wrong payload."""
    pdu = kind.seal_guard().seal(appl(20), T0)
    for bit in range(8 * len(pdu)):
        broken = bytearray(pdu)
        broken[bit // 8] ^= 0x80 >> bit % 8
        guard = kind.open_guard()
        try:
            expected: object = kind.open_guard().open(bytes(broken), T0).appl_data
        except PeerError as error:
            expected = error.check
        out = drain(receiver(guard), [dt(presentation(bytes(broken)), 8192)])
        assert out == [expected] or (out == [(0xF0, presentation(bytes(broken)))] and expected == "icv")
        assert guard.count == (1 if out == [appl(20)] else 0)


@every_kind
def test_replay_and_loss_are_faults(kind: Kind) -> None:
    tx = sender(kind.seal_guard())
    frames = [tx.seal(appl(20), T0) for _ in range(4)]
    rx = receiver(kind.open_guard())
    assert drain(rx, [frames[0] + frames[1] + frames[1] + frames[2]]) == [appl(20), appl(20), "replay", appl(20)]
    rx = receiver(kind.open_guard())
    assert drain(rx, [frames[1], frames[0], frames[2]]) == ["sequence", appl(20), "sequence"]
    assert drain(rx, [frames[1]], T0 + 700_000) == ["time"]
    rx = receiver(kind.open_guard(keys=bytes(96)))
    assert drain(rx, [frames[0]]) == ["icv"]


def test_fault_belongs_to_its_frame() -> None:
    kind = BY_NAME["hmac"]
    tx, rx = sender(kind.seal_guard()), receiver(kind.open_guard())
    good = [tx.seal(appl(20), T0) for _ in range(3)]
    assert rx.feed(good[0] + good[0] + tpkt(CR) + good[1], T0) == [appl(20)]
    assert rx.fault is not None
    assert rx.fault.check == "replay"
    assert rx.fault.__traceback__ is None
    item = rx.next()
    assert item is not None
    assert rx.fault is not None
    assert rx.feed(b"", T0) == []
    assert rx.fault is None
    assert rx.next() == (0xE0, CR)
    assert rx.feed(b"", T0) == [appl(20)]


@pytest.mark.parametrize(
    "octets",
    [
        "00",
        "02000007",
        "47455420",  # somebody else's protocol
        "03000006",
        "0300000702f0",
        "0300000703f08000",
        "03000008ff",
        "0300000801e0",
        "0300000800",
        "0300000805e0000000"[:10],
        "0300000803f0",
        "0300000702f000",  # a segment of nothing
    ],
)
def test_broken_streams(octets: str) -> None:
    data = bytes.fromhex(octets)
    if octets == "0300000702f0":
        assert drain(OsiChannel(MAX), [data]) == []  # not complete
        return
    for channel in (OsiChannel(MAX), receiver(None)):
        assert drain(channel, [data]) == [DecodeError]
    for channel in (OsiChannel(MAX), receiver(None)):
        assert drain(channel, one_by_one(data)) == [DecodeError]


def test_payloads_in_front_of_a_broken_frame_are_delivered() -> None:
    kind = BY_NAME["hmac"]
    tx, rx = sender(kind.seal_guard()), receiver(kind.open_guard())
    assert rx.feed(tx.seal(appl(20), T0) + b"\x04", T0) == [appl(20)]
    with pytest.raises(DecodeError):
        rx.next()
    rx = receiver(kind.open_guard())
    assert rx.feed(tpkt(CR) + b"\x04", T0) == []
    assert rx.next() == (0xE0, CR)
    with pytest.raises(DecodeError):
        rx.feed(b"", T0)


def test_tpdu_limit() -> None:
    channel = receiver(None, -1)
    assert channel.tpdu_max == 65_531
    channel.tpdu_max = 256
    assert channel.feed(dt(b"a" * 253, 256), T0) == [b"a" * 253]
    assert drain(channel, [dt(b"a" * 254, 257)]) == [DecodeError]
    for value in (127, 65_532):
        with pytest.raises(LocalError):
            channel.tpdu_max = value
        with pytest.raises(LocalError):
            channel.tpdu_size = value
        with pytest.raises(LocalError):
            channel.arm_tx(None, 3, value)


@pytest.mark.parametrize("tpdu_size", [128, 1000, 8192])
def test_tsdu_limit(tpdu_size: int) -> None:
    channel = receiver(None, -1, 1000)
    assert channel.feed(dt(b"a" * 1000, tpdu_size), T0) == [b"a" * 1000]
    assert drain(channel, [dt(b"a" * 1001, tpdu_size)]) == [DecodeError]
    assert channel.buffered == 0
    endless = dt(b"a" * 100, 128).replace(b"\x02\xf0\x80", b"\x02\xf0\x00") * 11
    assert drain(OsiChannel(1000), [endless]) == [DecodeError]


@given(
    st.binary(max_size=60),
    st.sampled_from([b"", b"\x03\x00\x00", b"\x03\x00\x00\x14\x02\xf0\x80", presentation(b"\x30")]),
)
def test_any_octets(data: bytes, prefix: bytes) -> None:
    for make in (lambda: OsiChannel(100), lambda: receiver(None), lambda: receiver(BY_NAME["gmac128-16"].open_guard())):
        whole = drain(make(), [prefix + data])
        assert whole == drain(make(), one_by_one(prefix + data))


# --- holding and waiting --------------------------------------------------------------------------------------------
def test_an_idle_channel_is_small() -> None:
    rx = receiver(None, -1)
    rx.feed(dt(bytes(60_000), 65_408), T0)
    assert rx.buffered == 0
    assert sys.getsizeof(rx) < 512


def test_large_frames_byte_by_byte_are_linear() -> None:
    """60 KiB octet by octet, and many small frames behind an irregular one; quadratic copying would not end."""
    rx = receiver(None, -1)
    data = bytes(60_000)
    out = []
    for octet in one_by_one(dt(data, 65_408)):
        out += rx.feed(octet, T0)
    assert out == [data]
    frames = dt(b"x", 128) * 200_000
    rx = OsiChannel(MAX)
    rx.feed(frames, T0)
    count = 0
    while rx.next() is not None:
        count += 1
    assert count == 200_000


def test_disarming_leaves_the_rest_to_next() -> None:
    tx, rx = sender(None), receiver(None)
    frame = tx.seal(b"\xa0\x00", T0)
    assert rx.feed(frame + tpkt(CR) + frame + frame[:5], T0) == [b"\xa0\x00"]
    rx.disarm_rx()
    assert rx.feed(frame[5:], T0) == []
    assert rx.next() == (0xE0, CR)
    assert rx.next() == rx.next() == (0xF0, presentation(b"\xa0\x00"))
    assert rx.next() is None


# --- sending --------------------------------------------------------------------------------------------------------
def test_sending_needs_arming() -> None:
    channel = OsiChannel(MAX)
    assert channel.tpdu_size == 128
    assert channel.frame(b"abc") == dt(b"abc", 128)
    for call in (lambda: channel.seal(b"\xa0\x00", T0), lambda: channel.seal_batch([b"\xa0\x00"], T0)):
        with pytest.raises(StateError):
            call()
    channel.arm_tx(None, 3, 8192)
    assert channel.tpdu_size == 8192
    channel.seal(b"\xa0\x00", T0)
    channel.disarm_tx()
    with pytest.raises(StateError):
        channel.seal(b"\xa0\x00", T0)
    assert channel.frame(b"abc") == dt(b"abc", 8192)


@pytest.mark.parametrize("context", [-2, 32_768])
def test_context_ids_have_bounds(context: int) -> None:
    channel = OsiChannel(MAX)
    with pytest.raises(LocalError):
        channel.arm_tx(None, context, 8192)
    with pytest.raises(LocalError):
        channel.arm_rx(None, context)
    with pytest.raises(LocalError):
        OsiChannel(0)


@given(kinds, st.lists(st.integers(2, 40_000).filter(lambda n: n not in (130, 259, 260, 65_540)), max_size=12))
def test_batch_blocks(kind: Kind, sizes: list[int]) -> None:
    data = [appl(size) for size in sizes]
    for tpdu_size in (1024, 65_408):
        blocks = sender(kind.seal_guard(), tpdu_size).seal_batch(data, T0)
        single = sender(kind.seal_guard(), tpdu_size)
        assert sum(map(len, blocks)) == sum(len(single.seal(item, T0)) for item in data)
        assert all(len(block) <= limits.OUR_BATCH_BLOCK for block in blocks)
        assert drain(receiver(kind.open_guard()), blocks) == data


def test_batch_of_wrong_data_seals_nothing() -> None:
    kind = BY_NAME["gcm128-16"]
    guard = kind.seal_guard()
    channel = sender(guard)
    assert channel.seal_batch([], T0) == []
    for wrong in (b"\x30\x00", b"", bytearray(b"\xa0\x00"), None):
        with pytest.raises(LocalError):
            channel.seal_batch([appl(20), wrong], T0)  # type: ignore[list-item]  # what an untyped caller may do
    assert guard.count == 0


def test_a_pdu_larger_than_peers_take_is_not_sealed() -> None:
    guard = BY_NAME["gcm128-16"].seal_guard()
    channel = sender(guard)
    largest = appl(limits.OUR_MMS_PDU_MAX)
    larger = appl(limits.OUR_MMS_PDU_MAX + 1)
    assert (len(largest), len(larger)) == (limits.OUR_MMS_PDU_MAX, limits.OUR_MMS_PDU_MAX + 1)
    with pytest.raises(LocalError, match="OUR_MMS_PDU_MAX"):
        channel.seal(larger, T0)
    with pytest.raises(LocalError, match="OUR_MMS_PDU_MAX"):
        channel.seal_batch([largest, larger], T0)
    assert guard.count == 0
    channel.seal(largest, T0)


def test_batch_of_one_large_pdu_is_one_block() -> None:
    channel = sender(None, context=-1)
    blocks = channel.seal_batch([bytes(10), bytes(limits.OUR_BATCH_BLOCK), bytes(10)], T0)
    assert [len(block) > limits.OUR_BATCH_BLOCK for block in blocks] == [False, True, False]


def test_wiped_guards_open_and_seal_nothing() -> None:
    kind = BY_NAME["gcm128-16"]
    seal, guard = kind.seal_guard(), kind.open_guard()
    tx, rx = sender(seal), receiver(guard)
    frame = tx.seal(appl(20), T0)
    seal.wipe()
    guard.wipe()
    with pytest.raises(LocalError):
        tx.seal(appl(20), T0)
    with pytest.raises(LocalError):
        tx.seal_batch([appl(20)], T0)
    assert drain(rx, [frame]) == [(0xF0, frame[7:])]
