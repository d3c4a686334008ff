"""The handshake given up, refused without reason, or cut off: both sides end, nothing leaks."""

from __future__ import annotations

import pytest

from engine_pair import (
    CLIENT,
    INITIATE,
    SERVER,
    ConnectionPair,
    Side,
    trust,
)
from fastsec.association import Ended, Send
from fastsec.errors import Aborted, Rejected
from fastsec.instant import Instant
from fastsec.profile import HandshakeDiag as Diag
from fastsec.secpdu.fields import Carrier, SecPduKind
from fastsec.state import State
from forge import replies

# --- giving up --------------------------------------------------------------------------------------------------------


def test_client_gives_up_waiting_with_a_plain_abort() -> None:
    pair = ConnectionPair()
    pair.on_wire = lambda who, sent: None
    pair.client.start(INITIATE)
    pair.elapse(31)
    assert pair.wire[-1] == ("client", Send(Carrier.ABORT, None))
    assert isinstance(pair.client.error, Aborted)
    assert pair.client.association.deadline is None


def test_client_abort_while_waiting_is_a_plain_abort() -> None:
    pair = ConnectionPair(accept=None)
    pair.client.start(INITIATE)
    pair.move()
    pair.client.abort(b"\xa0\x00")
    pair.move()
    assert pair.wire[-1] == ("client", Send(Carrier.ABORT, None))
    assert isinstance(pair.server.error, Aborted)
    assert pair.server.error.side == "provider"
    assert pair.endpoints[1].half_open == 0


def test_server_application_too_slow() -> None:
    pair = ConnectionPair(accept=None)
    pair.client.start(INITIATE)
    pair.move()
    pair.elapse(29, ticking=False)
    pair.now = Instant(pair.now.utc_ms + 2000, pair.now.mono_ms + 2000)
    pair.server.tick()
    pair.move()
    assert replies(pair, "server")[0].kind is SecPduKind.APPLICATION_REJECT
    assert pair.client.error.transient


def test_refusal_without_secpdu() -> None:
    pair = ConnectionPair()
    pair.on_wire = lambda who, sent: (
        Send(sent.carrier, None, "rejected-transient") if sent.carrier is Carrier.ASSOCIATE_RSP else sent
    )
    pair.client.start(INITIATE)
    pair.move()
    assert isinstance(pair.client.error, Rejected)
    assert pair.client.error.side == "provider"
    assert pair.client.error.transient
    assert not pair.client.events


def test_acceptance_without_secpdu_is_a_protocol_error() -> None:
    pair = ConnectionPair()
    pair.on_wire = lambda who, sent: (
        Send(sent.carrier, None, sent.disposition) if sent.carrier is Carrier.ASSOCIATE_RSP else sent
    )
    pair.client.start(INITIATE)
    pair.move()
    assert pair.client.events == ["PROTOCOL_ERR_ASS_ACC"]
    assert replies(pair, "client")[1].diag == Diag.PROTOCOL_ERROR


def one_job(side: Side) -> None:
    if side.jobs:
        job = side.jobs.popleft()
        job.run()
        side.association.job_done(job, side.pair.now)
        side.pair.collect(side)


@pytest.mark.parametrize("at", ["REQUESTING", "WAITING", "EXAMINING", "DECIDING", "ACCEPTING", "JUDGING", "OPEN"])
def test_connection_lost_at_every_stage(at: str) -> None:
    """Both sides end, nothing leaks, late jobs do no harm."""
    pair = ConnectionPair()
    stop = {"REQUESTING": pair.client, "JUDGING": pair.client, "EXAMINING": pair.server, "ACCEPTING": pair.server}
    if at in ("WAITING", "DECIDING"):
        pair.accept = None
    pair.client.hold_jobs = pair.server.hold_jobs = True
    pair.client.start(INITIATE)

    def reached() -> bool:
        return State[at] in (pair.client.association.state, pair.server.association.state)

    steps = [step for side in (pair.client, pair.server) for step in (lambda side=side: one_job(side), pair.move)]
    for _ in range(6):
        for step in steps:
            if at == "OPEN" or not reached():
                step()
    assert reached() or at == "OPEN"
    assert at not in stop or stop[at].jobs
    if at == "OPEN":
        pair.client.hold_jobs = pair.server.hold_jobs = False
        pair.client.run_jobs()
        pair.move()
    for side in (pair.client, pair.server):
        side.connection_lost()
        assert side.ended
        side.run_jobs()
        assert sum(isinstance(output, Ended) for output in side.outputs) == 1
        assert isinstance(side.outputs[-1], Ended)
        assert side.association.tx is None
    assert pair.endpoints[1].half_open == 0
    assert not pair.endpoints[0].numbers(SERVER.oid).live_as_client
    assert not pair.endpoints[1].numbers(CLIENT.oid).live_as_server
    assert not pair.endpoints[1]._unconfirmed


def test_trust_stores_of_the_helpers_differ() -> None:
    assert trust("one").anchors[0].der != trust("two").anchors[0].der
