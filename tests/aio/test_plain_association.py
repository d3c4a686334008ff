"""The unsecured association by itself: every PDU in every state, without a connection."""

from __future__ import annotations

import itertools

import pytest

from fastsec import limits
from fastsec.aio.plain import BareAssociation, PlainAssociation
from fastsec.errors import Aborted, DecodeError, Rejected, StateError
from fastsec.instant import Instant
from fastsec.outputs import AssociateIndication, Ended, Established, Received, Released, ReleaseIndication, Send
from fastsec.secpdu.fields import Carrier

NOW = Instant(1_000_000, 5_000)
STATES = {
    # name: (client?, how to get there)
    "ready": (True, []),
    "listening": (False, []),
    "waiting": (True, ["start"]),
    "deciding": (False, [Carrier.ASSOCIATE_REQ]),
    "open client": (True, ["start", Carrier.ASSOCIATE_RSP]),
    "open server": (False, [Carrier.ASSOCIATE_REQ, "accept"]),
    "asked": (True, ["start", Carrier.ASSOCIATE_RSP, Carrier.RELEASE_REQ]),
    "releasing client": (True, ["start", Carrier.ASSOCIATE_RSP, "release"]),
    "releasing server": (False, [Carrier.ASSOCIATE_REQ, "accept", "release"]),
    "crossed client": (True, ["start", Carrier.ASSOCIATE_RSP, "release", Carrier.RELEASE_REQ]),
    "crossed server": (False, [Carrier.ASSOCIATE_REQ, "accept", "release", Carrier.RELEASE_REQ]),
    "ended": (True, ["start", "abort"]),
}


def act(assoc: PlainAssociation, step) -> None:
    """One call or one PDU."""
    if isinstance(step, Carrier):
        assoc.receive(step, b"pdu", NOW)
    elif step == "start":
        assoc.start(b"req", NOW)
    elif step == "accept":
        assoc.accept(b"rsp", NOW)
    elif step == "reject":
        assoc.reject(b"err", False, NOW)
    elif step == "send":
        assoc.send(b"pdu", NOW)
    elif step == "release":
        assoc.release(NOW)
    elif step == "release_accept":
        assoc.release_accept(NOW)
    else:
        assoc.abort(None, NOW)


def in_state(name: str) -> PlainAssociation:
    client, steps = STATES[name]
    assoc = PlainAssociation(client)
    for step in steps:
        act(assoc, step)
    assoc.outputs()
    return assoc


LEGAL = {
    ("listening", Carrier.ASSOCIATE_REQ): [AssociateIndication],
    ("waiting", Carrier.ASSOCIATE_RSP): [Established],
    ("open client", Carrier.DATA): [Received],
    ("open server", Carrier.DATA): [Received],
    ("releasing client", Carrier.DATA): [Received],
    ("releasing server", Carrier.DATA): [Received],
    ("crossed client", Carrier.DATA): [Received],
    ("crossed server", Carrier.DATA): [Received],
    ("open client", Carrier.RELEASE_REQ): [ReleaseIndication],
    ("open server", Carrier.RELEASE_REQ): [ReleaseIndication],
    ("releasing client", Carrier.RELEASE_REQ): [Send],  # X.227: the initiator answers first
    ("releasing server", Carrier.RELEASE_REQ): [],
    ("releasing client", Carrier.RELEASE_RSP): [Released, Ended],
    ("releasing server", Carrier.RELEASE_RSP): [Released, Ended],
    ("crossed client", Carrier.RELEASE_RSP): [Released, Ended],
    ("crossed server", Carrier.RELEASE_RSP): [Send, Released, Ended],
}


@pytest.mark.parametrize(("state", "carrier"), list(itertools.product(STATES, Carrier)), ids=str)
def test_every_pdu_in_every_state(state, carrier) -> None:
    assoc = in_state(state)
    act(assoc, carrier)
    outputs = assoc.outputs()
    if state == "ended" or (carrier is Carrier.DATA and (state, carrier) not in LEGAL):
        assert outputs == []
    elif carrier is Carrier.ABORT:
        [end] = outputs
        assert isinstance(end.error, Aborted)
        assert end.error.side == "peer"
    elif (state, carrier) in LEGAL:
        assert [type(output) for output in outputs] == LEGAL[state, carrier]
    else:
        send, end = outputs
        assert (send.carrier, send.pdu) == (Carrier.ABORT, None)
        assert isinstance(end.error, Aborted)
        act(assoc, carrier)
        assert assoc.outputs() == []


CALLS = {
    "start": {"ready", "listening"},
    "accept": {"deciding"},
    "reject": {"deciding"},
    "send": {"open client", "open server", "asked"},
    "release": {"open client", "open server"},
    "release_accept": {"asked"},
    "abort": set(STATES),
}


@pytest.mark.parametrize(("state", "call"), list(itertools.product(STATES, CALLS)))
def test_every_call_in_every_state(state, call) -> None:
    assoc = in_state(state)
    if state in CALLS[call]:
        act(assoc, call)
        outputs = assoc.outputs()
        assert bool(outputs) is (state != "ended")
        if outputs:
            assert isinstance(outputs[0], Send)
    else:
        with pytest.raises(StateError):
            act(assoc, call)
        assert assoc.outputs() == []


@pytest.mark.parametrize("state", sorted(STATES))
def test_loss_and_faults_end_it_once(state) -> None:
    for end_it in (
        lambda assoc: assoc.connection_lost(NOW),
        lambda assoc: assoc.environment_fault("OSI_ENV_PROT_ERR", NOW),
        lambda assoc: assoc.transfer_fault(DecodeError("x"), NOW),
        lambda assoc: assoc.refused(None, True, "no"),
    ):
        assoc = in_state(state)
        end_it(assoc)
        outputs = assoc.outputs()
        assert [type(output) for output in outputs].count(Ended) == (0 if state == "ended" else 1)
        end_it(assoc)
        assoc.job_done(None, NOW)
        assert assoc.outputs() == []
        assert not assoc.fast_rx
        assert not assoc.fast_tx
        assert assoc.deadline is None


@pytest.mark.parametrize(
    ("state", "seconds"),
    [
        ("waiting", limits.OUR_AARQ_TO_AARE),
        ("deciding", limits.OUR_AARQ_TO_AARE),
        ("asked", limits.OUR_RELEASE),
        ("releasing client", limits.OUR_RELEASE),
    ],
)
def test_deadlines(state, seconds) -> None:
    assoc = in_state(state)
    assert assoc.deadline == NOW.mono_ms + seconds * 1000
    assoc.tick(Instant(0, assoc.deadline - 1))
    assert assoc.outputs() == []
    assoc.tick(Instant(0, assoc.deadline))
    send, end = assoc.outputs()
    if state == "deciding":
        assert send.disposition == "rejected-transient"
        assert isinstance(end.error, Rejected)
    else:
        assert send.carrier is Carrier.ABORT
        assert "in time" in str(end.error)
    assoc.tick(Instant(0, 10**12))
    assert assoc.outputs() == []


def test_bare() -> None:
    assoc = BareAssociation(True)
    assoc.start(b"", NOW)
    assert [type(output) for output in assoc.outputs()] == [Established]
    assert assoc.fast_rx
    assert assoc.fast_tx
    assoc.release(NOW)
    assert [type(output) for output in assoc.outputs()] == [Released, Ended]
