"""The transition table: complete, consistent with the engine, and every (state, input) pair does what it says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from engine_pair import ANSWER, CLIENT, INITIATE, READ, RESPONSE, SERVER, ConnectionPair, Side, config, credential
from fastsec.association import Association, Environment, Raised, Run, Send
from fastsec.control import CARRIER_OF, GROUP_OF
from fastsec.errors import StateError
from fastsec.profile import DtDiag, HandshakeDiag
from fastsec.secpdu.fields import Carrier, SecPduKind
from fastsec.state import (
    CALLS,
    DATA_STATES,
    OVER,
    PDUS,
    RULES,
    SERVER_HANDSHAKE,
    TABLE,
    TERMINAL_PDUS,
    Fault,
    Input,
    Rule,
    State,
    fault_of,
    legend,
)
from forge import control, replies

XMPP = Environment(abort_is_final=False)
WORK = (
    Input.REQUEST_MADE,
    Input.REQUEST_TAKEN,
    Input.ACCEPTANCE_MADE,
    Input.ACCEPTANCE_TAKEN,
    Input.CONTROL_MADE,
    Input.KEYS_MADE,
    Input.PEER_CHECKED,
)


def test_the_table_has_no_holes() -> None:
    assert set(TABLE) == {(state, given) for state in State for given in Input}


def test_every_rule_names_an_action_and_a_reason() -> None:
    for (state, given), rule in RULES.items():
        assert callable(getattr(Association, f"_{rule.action}")), (state, given)
        assert rule.why
        assert not rule.when or isinstance(getattr(Association, rule.when), property)


def test_every_state_can_be_reached_and_left() -> None:
    reached = {rule.next for rule in RULES.values()} | {State.READY, State.LISTENING, State.ANSWERING}
    assert reached >= set(State)
    for state in set(State) - OVER:
        for leave in (Input.LOST, Input.PLAIN_ABORT, Input.ENVIRONMENT_FAULT, Input.ABORT):
            assert isinstance(TABLE[state, leave], Rule), (state, leave)
    assert not any(state is State.ENDED for state, _ in RULES)


def test_faults_follow_section_7() -> None:
    for state in State:
        for given in Input:
            fault = fault_of(state, given)
            if given in CALLS:
                assert fault is (Fault.DROP if given is Input.ABORT else Fault.CALLER)
            elif state in OVER or given not in PDUS:
                assert fault is Fault.DROP
            elif given in TERMINAL_PDUS:
                assert fault is Fault.IGNORE
            elif state in SERVER_HANDSHAKE:
                assert fault is Fault.SEC_REJECT
            elif state in DATA_STATES:
                assert fault is Fault.DT_ABORT
            else:
                assert fault is Fault.SEC_ABORT


def test_the_legend_has_one_line_per_rule() -> None:
    assert len(legend().splitlines()) == len(RULES)


# --- reaching each state ----------------------------------------------------------------------------------------------


def one_job(side: Side) -> None:
    job = side.jobs.popleft()
    job.run()
    side.association.job_done(job, side.pair.now)
    side.pair.collect(side)


def reach(state: State, environment: Environment) -> tuple[ConnectionPair, Side]:
    """A pair with one side in ``state``, its jobs held back."""
    pair = ConnectionPair(environment=environment, accept=None)
    client, server = pair.client, pair.server
    client.hold_jobs = server.hold_jobs = True
    client.auto = server.auto = False
    if state is State.LISTENING:
        return pair, server
    if state is State.READY:
        return pair, client
    client.start(INITIATE)
    if state is State.REQUESTING:
        return pair, client
    one_job(client)
    if state is State.WAITING:
        pair.link.clear()
        return pair, client
    pair.move()
    if state is State.EXAMINING:
        return pair, server
    one_job(server)
    if state is State.DECIDING:
        return pair, server
    server.accept(RESPONSE)
    if state is State.ACCEPTING:
        return pair, server
    one_job(server)
    pair.move()
    if state is State.JUDGING:
        return pair, client
    one_job(client)
    client.hold_jobs = server.hold_jobs = False
    pair.confirm()
    client.hold_jobs = server.hold_jobs = True
    if state is State.OPEN:
        return pair, client
    if state is State.ENDING:
        client.abort(None)
        return pair, client
    if state is State.ENDED:
        client.connection_lost()
        return pair, client
    if state is State.RELEASING:
        client.release()
        one_job(client)
        pair.link.clear()
        return pair, client
    if state is State.CROSSED:
        server.release()
        one_job(server)
        client.release()
        one_job(client)
        pair.link.clear()
        pdu = next(sent for who, sent in reversed(pair.wire) if who == "client")
        pair.deliver(server, pdu)
        one_job(server)
        return pair, server
    client.release()
    one_job(client)
    pair.move()
    one_job(server)
    if state is State.ANSWERING:
        server.release_accept()
    return pair, server


@pytest.mark.parametrize("state", State)
def test_each_state_is_reached(state: State) -> None:
    _, side = reach(state, XMPP)
    assert side.association.state is state


# --- every pair -------------------------------------------------------------------------------------------------------


def pdu_for(pair: ConnectionPair, side: Side, given: Input) -> Send:
    """A well-formed PDU of this kind from the other side; for control PDUs genuine, so that only the state decides."""
    donor = ConnectionPair().open()
    who = "server" if side is pair.client else "client"
    match given:
        case Input.HANDSHAKE_REQ:
            return Send(Carrier.ASSOCIATE_REQ, donor.wire[0][1].pdu)
        case Input.HANDSHAKE_ACC:
            return Send(Carrier.ASSOCIATE_RSP, donor.wire[1][1].pdu)
        case Input.TRANSFER:
            tx = pair.other(side).association.tx
            if tx is None:
                donor.client.send(READ)
                return Send(Carrier.DATA, donor.wire[2][1].pdu)
            return Send(Carrier.DATA, tx.seal(READ, pair.now.utc_ms))
    kind = SecPduKind[given.name]
    number = side.association.asso_id or side.association._n
    return Send(
        CARRIER_OF[kind],
        control(pair, who, kind, after_ms=50, asso_id=number, by=credential(SERVER if who == "server" else CLIENT)),
    )


def call_for(side: Side, given: Input) -> Callable[[], Any]:
    return {
        Input.START: lambda: side.start(INITIATE),
        Input.ACCEPT: lambda: side.accept(RESPONSE),
        Input.REJECT: lambda: side.reject(None, False),
        Input.SEND: lambda: side.send(ANSWER),
        Input.UPDATE_KEYS: lambda: side.update_keys(),
        Input.RELEASE: lambda: side.release(),
        Input.RELEASE_ACCEPT: lambda: side.release_accept(),
        Input.ABORT: lambda: side.abort(None),
        Input.LOST: lambda: side.connection_lost(),
        Input.ENVIRONMENT_FAULT: lambda: side.environment_fault("ACSE_PROT_ERR"),
        Input.PLAIN_ABORT: lambda: side.pair.deliver(side, Send(Carrier.ABORT, None)),
        Input.PLAIN_REJECT: lambda: side.pair.deliver(side, Send(Carrier.ASSOCIATE_RSP, None, "rejected-permanent")),
        Input.TIMEOUT: lambda: side.association._dispatch(Input.TIMEOUT, side.pair.now),
    }[given]


PAIRS = [(state, given) for state in State for given in Input if given not in WORK]


@pytest.mark.parametrize(("state", "given"), PAIRS, ids=lambda value: value.name)
def test_every_pair(state: State, given: Input, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the table says is what happens: an error to the caller, the right PDU, an event, an action, or nothing."""
    # Where an abort ends the connection whatever it carries, it cannot be seen to be ignored.
    pair, side = reach(state, XMPP if given in TERMINAL_PDUS else Environment())
    association = side.association
    entry = TABLE[state, given]
    acted: list[str] = []
    if isinstance(entry, Rule):
        spy(monkeypatch, association, entry.action, acted)
    if isinstance(entry, Rule) and entry.when and not getattr(association, entry.when):
        entry = fault_of(state, given)
    side.jobs.clear()  # what was under way stays so
    waits = association.busy  # a PDU that comes while one is being checked waits for it
    before, wire = len(side.outputs), len(pair.wire)

    if given in PDUS:
        sent = pdu_for(pair, side, given)
        pair.deliver(side, sent)
        if waits and state not in OVER:
            assert association.state is state
            return
    elif entry is Fault.CALLER:
        with pytest.raises(StateError):
            call_for(side, given)()
        assert association.state is state
        assert len(side.outputs) == before
        return
    else:
        if given in (Input.PLAIN_ABORT, Input.PLAIN_REJECT) and waits:
            return
        call_for(side, given)()
        pair.collect(side)

    side.hold_jobs = False
    side.run_jobs()
    events = [output.event.id for output in side.outputs[before:] if isinstance(output, Raised)]
    sent_kinds = [pdu.kind if pdu else None for pdu in replies_after(pair, side, wire)]
    match entry:
        case Fault.DROP:
            assert not events
            assert not sent_kinds
            assert association.state is state
        case Fault.IGNORE:
            group = GROUP_OF[SecPduKind[given.name]]
            assert events[:1] == [f"IEC62351-4:{int(group)}.4"]
            assert not set(sent_kinds) & {SecPduKind.DT_SEC_ABORT, SecPduKind.HANDSHAKE_SEC_ABORT}
        case Fault.SEC_REJECT | Fault.SEC_ABORT | Fault.DT_ABORT:
            expected = {
                Fault.SEC_REJECT: (SecPduKind.HANDSHAKE_SEC_REJECT, HandshakeDiag.PROTOCOL_ERROR),
                Fault.SEC_ABORT: (SecPduKind.HANDSHAKE_SEC_ABORT, HandshakeDiag.PROTOCOL_ERROR),
                Fault.DT_ABORT: (SecPduKind.DT_SEC_ABORT, DtDiag.PROTOCOL_ERROR),
            }[entry]
            answer = [pdu for pdu in replies_after(pair, side, wire) if pdu][-1]
            assert (answer.kind, answer.diag) == expected
            assert association.state is State.ENDED
            assert len(events) == 1
        case Rule(_, State.ENDED):
            assert acted[0] == entry.action
            assert association.state is State.ENDED
            assert side.ended
        case Rule(_, State.ENDING):
            assert acted == [entry.action]
            assert association.state is State.ENDED
            assert sent_kinds
        case Rule(action):
            assert acted == [action]
            return


def spy(monkeypatch: pytest.MonkeyPatch, association: Association, action: str, acted: list[str]) -> None:
    """Note every call of an action."""
    genuine = getattr(Association, f"_{action}")

    def noted(self: Association, *facts: Any) -> None:
        if self is association:
            acted.append(action)
        genuine(self, *facts)

    monkeypatch.setattr(Association, f"_{action}", noted)


def replies_after(pair: ConnectionPair, side: Side, start: int) -> list[Any]:
    who = "client" if side is pair.client else "server"
    earlier = sum(1 for sender, sent in pair.wire[:start] if sender == who and sent.carrier is not Carrier.DATA)
    return replies(pair, who)[earlier:]


@pytest.mark.parametrize("given", WORK, ids=lambda value: value.name)
@pytest.mark.parametrize("state", State, ids=lambda value: value.name)
def test_late_work_does_no_harm(state: State, given: Input) -> None:
    """The result of a job that no longer fits is dropped."""
    if isinstance(TABLE[state, given], Rule):
        return
    _, side = reach(state, XMPP)
    before = len(side.outputs)
    side.association._dispatch(given, None, side.pair.now)
    assert side.association.state is state
    assert not side.association.outputs()
    assert len(side.outputs) == before


def test_a_job_is_taken_once() -> None:
    pair = ConnectionPair()
    pair.client.hold_jobs = True
    pair.client.start(INITIATE)
    (job,) = pair.client.jobs
    job.run()
    job.run()
    pair.client.association.job_done(job, pair.now)
    pair.collect(pair.client)
    wire = len(pair.wire)
    pair.client.association.job_done(job, pair.now)
    pair.collect(pair.client)
    assert len(pair.wire) == wire


def test_public_key_work_happens_in_jobs_only() -> None:
    """Two jobs per side and handshake; those that sign name the signer's own executor."""
    from dataclasses import replace

    class Card:
        """A signer with a thread of its own."""

        executor = object()

        def __init__(self, inner: Any) -> None:
            self.inner = inner
            self.algorithm = inner.algorithm
            self.kind = inner.kind

        def sign(self, data: bytes) -> bytes:
            return self.inner.sign(data)

    own = credential(CLIENT)
    pair = ConnectionPair(config(CLIENT, credential=replace(own, signer=Card(own.signer)))).open()
    runs = pair.client.seen(Run)
    assert [run.job.executor is Card.executor for run in runs] == [True, False]
    assert len(pair.server.seen(Run)) == 2
    assert all(run.job.executor is None for run in pair.server.seen(Run))
