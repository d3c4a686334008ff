"""Every truncation and single-bit flip of every OSI PDU, in every state: a value or a named error, nothing else."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import get_args

import pytest

from envs.osi.support import (
    MAX_TSDU,
    PLAIN_INITIATOR,
    RELEASE,
    REQUEST,
    Pair,
    captured,
    endpoint,
    take,
)
from envs.osi.test_states import MAKERS, SAMPLES
from fastsec._core.osidata import OsiChannel
from fastsec._core.tpkt import tpkt
from fastsec.envs.osi import AeTitle, Indication, OsiEndpoint, acse, cotp, presentation, session
from fastsec.envs.osi.states import State
from fastsec.errors import DecodeError

INDICATIONS = get_args(Indication)


def more_samples() -> list[tuple[int, bytes]]:
    """PDUs with more in them than those of the state test."""
    aare = acse.aare_fields("1.0.62351.4.2.1", Pair.secure().responder.params.local.title, (1, 1, 1))
    rejection = presentation.encode_refuse(
        b"\0\1", (0, 2, 0), (1, acse.encode_aare(aare, (5, b"\xa2\x03\x02\x01\x01")))
    )
    password = next(item for item in captured("mms_password_ok.pcapng") if item.payload[3] == 0x0D)
    field = next(item for item in captured("iti_iec61850_read.pcap") if item.payload[3] == 0x0D)
    tsdus = [
        session.encode_refuse(2, rejection),
        session.encode_refuse(2, presentation.encode_refuse(None, (), provider_reason=3)),
        session.encode_abort(bytes.fromhex("3006800102810101")),
        session.encode_accept(None, b"", 1),
        bytes.fromhex("0103100100 01031901036100"),
        password.payload[3:],
        field.payload[3:],
    ]
    confirm = cotp.Connect(cotp.CODE_CC, 1, 9, b"\0\1", b"\0\1", 8192, 65408)
    return [(0xF0, tsdu) for tsdu in tsdus] + [(0xD0, cotp.encode_connect(confirm))]


PDUS = [sample for samples in SAMPLES.values() for sample in samples] + more_samples()


def mutations(octets: bytes) -> Iterator[bytes]:
    for size in range(len(octets)):
        yield octets[:size]
    for at in range(len(octets)):
        for bit in range(8):
            yield octets[:at] + bytes((octets[at] ^ 1 << bit,)) + octets[at + 1 :]


@pytest.mark.parametrize(("code", "pdu"), PDUS, ids=lambda value: value[:4].hex() if isinstance(value, bytes) else None)
def test_endpoint_survives_in_every_state(code: int, pdu: bytes) -> None:
    """Shallow copies of one endpoint per state stand in for fresh ones; the channel only frames answers."""
    sides = [make() for state, _, make in MAKERS if state is not State.CLOSED]
    for side in sides:
        side.data_to_send()
    for mutated in mutations(pdu):
        for side in sides:
            trial: OsiEndpoint = copy.copy(side)
            trial._out = []
            found = trial.receive_tpdu(code, mutated)
            assert all(isinstance(each, INDICATIONS) for each in found)
            # Whatever it was: the state is one of the table, and an end is reported.
            assert found or trial.state is not State.CLOSED
            trial.data_to_send()


def inner(decode: Callable[[bytes], object], octets: bytes) -> None:
    for mutated in mutations(octets):
        with contextlib.suppress(DecodeError):
            decode(mutated)


def decoder(tsdu: bytes) -> Callable[[bytes], object]:
    """What reads the user data of this SPDU."""
    found: dict[int, Callable[[bytes], object]] = {
        session.SI_CN: presentation.decode_connect,
        session.SI_AC: presentation.decode_accept,
        session.SI_RF: presentation.decode_refuse,
        session.SI_AB: presentation.decode_abort,
    }
    return found.get(tsdu[0], presentation.decode_user_data)


CARRIERS = [pdu for code, pdu in PDUS if code == 0xF0 and len(pdu) > 12 and session.decode(pdu).user_data]


@pytest.mark.parametrize("tsdu", CARRIERS, ids=lambda value: value[:6].hex())
def test_parsers_give_a_value_or_a_decode_error(tsdu: bytes) -> None:
    """The layers by themselves, where a session length that no longer fits would otherwise hide them."""
    inner(session.decode, tsdu)
    inner(decoder(tsdu), session.decode(tsdu).user_data)


@pytest.mark.parametrize(
    "apdu",
    [
        acse.encode_aarq(PLAIN_INITIATOR.aarq_fields, 3, REQUEST),
        acse.encode_aarq(acse.aarq_fields("1.2.3", AeTitle(b"\x30\0", b"\x31\0", 1, 2), AeTitle(), b"pw"), 3, REQUEST),
        acse.encode_aare(
            acse.aare_fields("1.2.3", AeTitle("1.2.3", 5, 1, 2), (1, 1, 13), authenticated=True), (5, RELEASE)
        ),
        acse.encode_release(acse.TAG_RLRQ, (5, RELEASE)),
        acse.encode_abort(1, (5, RELEASE)),
        bytes.fromhex("6406800101810103"),
    ],
    ids=lambda value: value[:2].hex(),
)
def test_acse_gives_a_value_or_a_decode_error(apdu: bytes) -> None:
    inner(acse.decode, apdu)


def test_all_kinds_of_carriers_are_there() -> None:
    assert {tsdu[0] for tsdu in CARRIERS} == {0x01, 0x09, 0x0A, 0x0C, 0x0D, 0x0E, 0x19}


def test_stream_of_frames_survives() -> None:
    """The whole way in: frames of a connection, one of them mutated, through a channel."""
    pair = Pair.secure()
    pair.associate().initiator.release(RELEASE)
    pair.to_responder()
    sent = [octets for from_initiator, octets in pair.log if from_initiator]
    assert len(sent) == 3
    for number, frame in enumerate(sent):
        for mutated in mutations(frame):
            side = endpoint("responder", pair.responder.params)
            try:
                for before in sent[:number]:
                    take(side, before)
                    if side.state is State.ASSOCIATING:
                        side.accept(b"\xa0\x00")
                found = take(side, mutated)
            except DecodeError:
                continue
            assert all(isinstance(each, INDICATIONS) for each in found)
            side.data_to_send()


def test_nothing_of_a_mutated_request_is_kept() -> None:
    """A request that is refused leaves no octets behind in the channel."""
    channel = OsiChannel(MAX_TSDU)
    side = OsiEndpoint("responder", Pair.plain().responder.params, channel)
    pair = Pair.make(PLAIN_INITIATOR, Pair.plain().responder.params)
    pair.request(REQUEST)
    for _, octets in pair.log:
        if octets[5] in (0xE0, 0xF0):
            take(side, octets)
    assert channel.buffered == 0
    take(side, tpkt(b"\x02\xf0\x80\xff"))
    assert channel.buffered == 0
    assert side.closed
