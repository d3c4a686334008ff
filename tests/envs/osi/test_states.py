"""Every (state, input) pair of a connection: what is reported, what is answered, where it leads."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from envs.osi.support import (
    ABORT,
    ACCEPTANCE,
    RELEASE,
    REQUEST,
    SECURE_INITIATOR,
    Pair,
)
from fastsec.envs.osi import (
    AbortInd,
    AssociateCnf,
    AssociateInd,
    DataInd,
    EnvFault,
    OsiEndpoint,
    ProviderAbort,
    ReleaseCnf,
    ReleaseInd,
    TransportConnected,
    acse,
    cotp,
    presentation,
    session,
    states,
)
from fastsec.envs.osi.size import encode_request
from fastsec.envs.osi.states import Action, Input, State
from fastsec.errors import StateError

DATA = b"\xa0\x00"


def _transport() -> Pair:
    pair = Pair.secure()
    pair.transport()
    return pair


def _requested() -> Pair:
    pair = Pair.secure()
    pair.request(REQUEST)
    return pair


def _releasing(who: str) -> Pair:
    pair = Pair.secure().associate()
    getattr(pair, who).release(RELEASE)
    return pair


def _collision() -> Pair:
    pair = _releasing("initiator")
    pair.responder.release(RELEASE)
    pair.to_responder()
    pair.to_initiator()
    return pair


def _wait_cc() -> OsiEndpoint:
    side = Pair.secure().initiator
    side.connect_transport()
    return side


def _received() -> OsiEndpoint:
    pair = _releasing("initiator")
    pair.to_responder()
    return pair.responder


def _answered() -> Pair:
    pair = _collision()
    pair.initiator.release_response(RELEASE)
    return pair


def _due() -> OsiEndpoint:
    pair = _answered()
    pair.to_responder()
    return pair.responder


def _closed() -> OsiEndpoint:
    side = Pair.secure().associate().initiator
    side.abort()
    return side


# How to get into each state, for both roles where both can be in it.
MAKERS: list[tuple[State, str, Callable[[], OsiEndpoint]]] = [
    (State.START, "initiator", lambda: Pair.secure().initiator),
    (State.WAIT_CC, "initiator", _wait_cc),
    (State.TRANSPORT, "initiator", lambda: _transport().initiator),
    (State.WAIT_AC, "initiator", lambda: _requested().initiator),
    (State.WAIT_CR, "responder", lambda: Pair.secure().responder),
    (State.WAIT_CN, "responder", lambda: _transport().responder),
    (State.ASSOCIATING, "responder", lambda: _requested().responder),
    (State.OPEN, "initiator", lambda: Pair.secure().associate().initiator),
    (State.OPEN, "responder", lambda: Pair.secure().associate().responder),
    (State.RELEASING, "initiator", lambda: _releasing("initiator").initiator),
    (State.RELEASING, "responder", lambda: _releasing("responder").responder),
    (State.RELEASE_RECEIVED, "responder", _received),
    (State.COLLISION, "initiator", lambda: _collision().initiator),
    (State.COLLISION_ANSWERED, "initiator", lambda: _answered().initiator),
    (State.COLLISION_WAIT, "responder", lambda: _collision().responder),
    (State.COLLISION_DUE, "responder", _due),
    (State.CLOSED, "initiator", _closed),
]


def _apdu(apdu: bytes) -> bytes:
    return presentation.user_data(1, apdu)


_AARE = acse.encode_aare(Pair.secure().responder.params.aare_fields, (5, ACCEPTANCE))
_RESULTS = (0, 0, 0)

# For each input one PDU that is in order and some that are not, if the kind allows that.
SAMPLES: dict[Input, list[tuple[int, bytes]]] = {
    Input.CR: [(0xE0, cotp.encode_connect(cotp.Connect(cotp.CODE_CR, 0, 9)))],
    Input.CC: [(0xD0, cotp.encode_connect(cotp.Connect(cotp.CODE_CC, 1, 9)))],
    Input.DR: [(0x80, cotp.encode_disconnect(1, 9, 3))],
    Input.ER: [(0x70, cotp.encode_error(1, 2))],
    Input.BAD_TPDU: [(0xE0, b"\x01\xe0"), (0x60, b"\x02\x60\x00"), (0x00, b"\x01\x00"), (0x10, b"\x04\x10abc")],
    Input.CN: [(0xF0, session.encode_connect(SECURE_INITIATOR.cn_header, encode_request(SECURE_INITIATOR, REQUEST)))],
    Input.AC: [(0xF0, session.encode_accept(b"\0\1", presentation.encode_accept(None, _RESULTS, 1, _AARE)))],
    Input.RF: [(0xF0, session.encode_refuse(129))],
    Input.FN: [(0xF0, session.encode_finish(_apdu(acse.encode_release(acse.TAG_RLRQ, (5, RELEASE)))))],
    Input.DN: [(0xF0, session.encode_disconnect(_apdu(acse.encode_release(acse.TAG_RLRE, (5, RELEASE)))))],
    Input.NF: [(0xF0, bytes.fromhex("0800")), (0xF0, bytes.fromhex("0803c10161"))],
    Input.AB: [(0xF0, session.encode_abort(presentation.encode_abort(1, acse.encode_abort(0, (5, ABORT)))))],
    Input.AA: [(0xF0, bytes.fromhex("1a00"))],
    Input.DT: [(0xF0, session.encode_data(presentation.user_data(5, DATA)))],
    Input.CDO: [(0xF0, bytes.fromhex("0f00")), (0xF0, bytes.fromhex("1000"))],
    Input.OTHER_SPDU: [
        (0xF0, b""),
        (0xF0, b"\x21\x00a"),
        (0xF0, b"\x0d\x05"),
        (0xF0, b"\x0d\x00a"),
        (0xF0, b"\x01\x00"),
    ],
}

# What is expected where the input is no fault: indications, next state, kinds of the PDUs sent.
Outcome = tuple[list[type], State, str]
_LOST: dict[Input, Outcome] = {
    Input.DR: ([ProviderAbort], State.CLOSED, ""),
    Input.ER: ([ProviderAbort], State.CLOSED, ""),
}
_ABORTED: dict[Input, Outcome] = {**_LOST, Input.AB: ([AbortInd], State.CLOSED, "")}

EXPECTED: dict[tuple[State, str], dict[Input, Outcome]] = {
    (State.START, "initiator"): {},
    (State.WAIT_CC, "initiator"): {**_LOST, Input.CC: ([TransportConnected], State.TRANSPORT, "")},
    (State.TRANSPORT, "initiator"): _LOST,
    (State.WAIT_AC, "initiator"): {
        **_ABORTED,
        Input.AC: ([AssociateCnf], State.OPEN, ""),
        Input.RF: ([ProviderAbort], State.CLOSED, ""),
    },
    (State.WAIT_CR, "responder"): {Input.CR: ([TransportConnected], State.WAIT_CN, "CC")},
    (State.WAIT_CN, "responder"): {
        **_LOST,
        Input.AB: ([ProviderAbort], State.CLOSED, ""),
        Input.CN: ([AssociateInd], State.ASSOCIATING, ""),
    },
    (State.ASSOCIATING, "responder"): _ABORTED,
    **{
        (State.OPEN, role): {
            **_ABORTED,
            Input.DT: ([DataInd], State.OPEN, ""),
            Input.FN: ([ReleaseInd], State.RELEASE_RECEIVED, ""),
        }
        for role in ("initiator", "responder")
    },
    **{
        (State.RELEASING, role): {
            **_ABORTED,
            Input.DT: ([DataInd], State.RELEASING, ""),
            Input.FN: ([ReleaseInd], collision, ""),
            Input.DN: ([ReleaseCnf], State.CLOSED, ""),
        }
        for role, collision in (("initiator", State.COLLISION), ("responder", State.COLLISION_WAIT))
    },
    (State.RELEASE_RECEIVED, "responder"): _ABORTED,
    (State.COLLISION, "initiator"): _ABORTED,
    (State.COLLISION_ANSWERED, "initiator"): {**_ABORTED, Input.DN: ([ReleaseCnf], State.CLOSED, "")},
    (State.COLLISION_WAIT, "responder"): {**_ABORTED, Input.DN: ([ReleaseCnf], State.COLLISION_DUE, "")},
    (State.COLLISION_DUE, "responder"): _ABORTED,
    (State.CLOSED, "initiator"): {kind: ([], State.CLOSED, "") for kind in Input},
}

# What a fault is answered with, by state: an error of the transport, nothing (the adapter closes), or an ABRT.
FAULT_ANSWERS = {State.START: "ER", State.WAIT_CC: "ER", State.WAIT_CR: "ER", State.TRANSPORT: "", State.WAIT_CN: ""}


def answered(side: OsiEndpoint) -> str:
    """What kinds of PDUs wait to be sent."""
    octets = side.data_to_send()
    kinds = []
    while octets:
        size = int.from_bytes(octets[2:4], "big")
        code = octets[5]
        if code == 0xF0:
            kinds.append({0x19: "AB", 0x0C: "RF", 0x0A: "DN"}[octets[7]])
        else:
            kinds.append({0xD0: "CC", 0x70: "ER", 0x80: "DR"}[code])
        octets = octets[size:]
    return " ".join(kinds)


PAIRS = [(state, role, make, kind) for state, role, make in MAKERS for kind in Input]


@pytest.mark.parametrize(("state", "role", "make", "kind"), PAIRS, ids=lambda value: getattr(value, "name", None))
def test_every_pair(state: State, role: str, make: Callable[[], OsiEndpoint], kind: Input) -> None:
    for code, tpdu in SAMPLES[kind]:
        side = make()
        side.data_to_send()
        assert (side.state, side.role) == (state, role)
        found = side.receive_tpdu(code, tpdu)
        expected = EXPECTED[state, role].get(kind)
        if expected is None:
            answer = FAULT_ANSWERS.get(state, "AB")
            if kind in (Input.DR, Input.ER) and answer == "ER":
                answer = ""  # an error is not answered by an error
            expected = ([EnvFault], State.CLOSED, answer)
        assert ([type(each) for each in found], side.state, answered(side)) == expected
        # Nothing comes after the end, not even to the same input again.
        if side.closed:
            assert side.receive_tpdu(code, tpdu) == []
            assert side.data_to_send() == b""


def test_all_pairs_are_there() -> None:
    assert {state for state, _, _ in MAKERS} == set(State)
    assert set(EXPECTED) == {(state, role) for state, role, _ in MAKERS}
    assert set(SAMPLES) == set(Input)
    assert set(states.TABLE) == set(State)


def test_the_table_says_the_same() -> None:
    """The table is the document: what it names is what the endpoint accepts."""
    for (state, _), accepted in EXPECTED.items():
        assert set(states.TABLE[state]) == set(accepted)
    for action in Action:
        assert callable(getattr(OsiEndpoint, action.value))


@pytest.mark.parametrize(("state", "role", "make"), MAKERS, ids=lambda value: getattr(value, "name", None))
def test_abort_in_every_state(state: State, role: str, make: Callable[[], OsiEndpoint]) -> None:
    side = make()
    side.data_to_send()
    side.abort(None)
    assert side.closed
    early = state in (State.START, State.WAIT_CC, State.TRANSPORT, State.WAIT_CR, State.WAIT_CN, State.CLOSED)
    assert answered(side) == ("" if early else "AB")


@pytest.mark.parametrize(
    ("call", "arguments", "allowed"),
    [
        ("connect_transport", (), {State.START}),
        ("associate", (REQUEST,), {State.TRANSPORT}),
        ("accept", (ACCEPTANCE,), {State.ASSOCIATING}),
        ("reject", (None,), {State.ASSOCIATING}),
        ("data", (DATA,), {State.OPEN, State.RELEASE_RECEIVED}),
        ("release", (RELEASE,), {State.OPEN, State.RELEASE_RECEIVED}),
        (
            "release_response",
            (RELEASE,),
            {State.RELEASE_RECEIVED, State.COLLISION, State.COLLISION_WAIT, State.COLLISION_DUE},
        ),
    ],
)
def test_every_call_in_every_state(call: str, arguments: tuple[object, ...], allowed: set[State]) -> None:
    for state, _, make in MAKERS:
        side = make()
        side.data_to_send()
        if state in allowed:
            getattr(side, call)(*arguments)
        else:
            with pytest.raises(StateError):
                getattr(side, call)(*arguments)
            assert side.state is state
            assert side.data_to_send() == b""
