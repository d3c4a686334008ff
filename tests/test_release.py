"""Release: flush, order, crossing, late data, silence, keys wiped."""

from __future__ import annotations

import pytest

from engine_pair import ANSWER, READ, ConnectionPair
from fastsec.association import KeysChanged, Released, ReleaseIndication, Send
from fastsec.errors import Aborted, LocalError, StateError
from fastsec.secpdu.fields import Carrier, SecPduKind
from fastsec.state import State
from forge import replies


def carriers(pair: ConnectionPair) -> list[tuple[str, Carrier]]:
    return [(who, sent.carrier) for who, sent in pair.wire]


@pytest.mark.parametrize("first", ["client", "server"])
def test_orderly_release(first: str) -> None:
    pair = ConnectionPair().open().confirm()
    side, other = getattr(pair, first), pair.other(getattr(pair, first))
    tx = side.association.tx
    side.release()
    pair.move()
    assert side.error is None
    assert other.error is None
    assert [type(output) for output in side.outputs[-3:]] == [Released, KeysChanged, type(side.outputs[-1])]
    assert other.seen(ReleaseIndication)
    assert carriers(pair)[-2:] == [
        (first, Carrier.RELEASE_REQ),
        ("server" if first == "client" else "client", Carrier.RELEASE_RSP),
    ]
    with pytest.raises(LocalError):
        tx.seal(READ, pair.now.utc_ms)  # wiped
    for pdu in replies(pair, first):
        assert getattr(pdu, "appl_data", None) is None or pdu.kind.name.startswith("HANDSHAKE")


def test_data_still_arrive_until_release_rsp_and_the_answering_side_flushes_first() -> None:
    pair = ConnectionPair().open().confirm()
    pair.server.auto = False
    pair.client.release()
    with pytest.raises(StateError):
        pair.client.send(READ)
    pair.server.send(ANSWER)  # before it has the ReleaseReq
    pair.move()
    assert pair.server.association.state is State.ASKED
    pair.server.send(ANSWER)  # flushes its queue
    pair.move()
    assert pair.client.received == [ANSWER, ANSWER, ANSWER]
    pair.server.release_accept()
    pair.move()
    assert pair.client.error is None
    assert pair.server.error is None


def test_data_after_release_req_are_dropped_with_an_event() -> None:
    pair = ConnectionPair().open().confirm()
    pair.server.auto = False
    late = pair.client.association.tx
    pair.client.release()
    pair.move()
    pair.deliver(pair.server, Send(Carrier.DATA, late.seal(READ, pair.now.utc_ms)))
    assert pair.server.received == [READ]
    assert pair.server.events == ["ENCR_DATA_PROT_ERROR_TRF"]
    pair.server.release_accept()
    pair.move()
    assert pair.client.error is None


def test_crossing_releases_the_client_answers_first() -> None:
    pair = ConnectionPair().open().confirm()
    pair.client.release()
    pair.server.release()
    pair.move()
    assert pair.client.error is None
    assert pair.server.error is None
    assert carriers(pair)[-4:] == [
        ("client", Carrier.RELEASE_REQ),
        ("server", Carrier.RELEASE_REQ),
        ("client", Carrier.RELEASE_RSP),
        ("server", Carrier.RELEASE_RSP),
    ]
    assert not pair.client.events
    assert not pair.server.events


def test_crossing_with_slow_signers_keeps_the_order_of_the_times() -> None:
    """The peer's ReleaseReq arrives while the own one is still being signed: it goes out first, then the answer."""
    pair = ConnectionPair().open().confirm()
    pair.client.hold_jobs = True
    pair.client.release()
    pair.server.release()
    pair.move()
    verify = pair.client.jobs.pop()  # the check of the peer's ReleaseReq overtakes the own signature
    verify.run()
    pair.client.association.job_done(verify, pair.now)
    pair.collect(pair.client)
    assert pair.client.association.state is State.CROSSED
    pair.client.hold_jobs = False
    pair.client.run_jobs()
    pair.move()
    assert pair.client.error is None
    assert pair.server.error is None
    times = [pdu.token3.time for pdu in replies(pair, "client") if pdu.kind.name.startswith("RELEASE")]
    assert times == sorted(times)
    assert len(set(times)) == 2


def test_an_answer_before_the_question_is_a_fault() -> None:
    pair = ConnectionPair().open().confirm()
    pair.client.hold_jobs = True
    pair.client.release()
    from forge import control

    rsp = control(pair, "server", SecPduKind.RELEASE_RSP)
    pair.deliver(pair.client, Send(Carrier.RELEASE_RSP, rsp))
    pair.client.hold_jobs = False
    pair.client.run_jobs()
    pair.move()
    assert pair.client.events == ["PROTOCOL_ERR_REL_RSP"]


@pytest.mark.parametrize("silent", ["peer", "application"])
def test_no_answer_in_time_ends_with_appl_abort(silent: str) -> None:
    pair = ConnectionPair().open().confirm()
    pair.server.auto = False
    if silent == "peer":
        pair.on_wire = lambda who, sent: None if sent.carrier is Carrier.RELEASE_REQ else sent
    pair.client.release()
    pair.move()
    pair.elapse(11)
    assert isinstance(pair.client.error, Aborted)
    assert isinstance(pair.server.error, Aborted)
    assert SecPduKind.APPL_ABORT in [pdu.kind for who in ("client", "server") for pdu in replies(pair, who)]


def test_a_key_update_right_before_release() -> None:
    """A carrier, then ReleaseReq: the server derives, then sees the release; data of both sides are delivered."""
    pair = ConnectionPair().open().confirm()
    pair.client.update_keys()
    pair.client.send(READ)
    pair.client.release()
    pair.move()
    assert pair.server.received[-1] == READ
    assert pair.client.error is None
    assert pair.server.error is None
    assert not pair.client.events
    assert not pair.server.events


def test_the_number_is_free_again_after_release_and_the_pair_rests() -> None:
    pair = ConnectionPair().open().confirm()
    n, m = map(int, pair.client.association.asso_id.split(":"))
    pair.client.release()
    pair.move()
    for endpoint, name in zip(pair.endpoints, (pair.server.name, pair.client.name), strict=True):
        numbers = endpoint.numbers(name.oid)
        assert not numbers.live_as_client
        assert not numbers.live_as_server
        assert not numbers.is_live((n, m))
        assert (n, m) in numbers._pairs


def test_the_fast_paths_end_where_the_release_begins() -> None:
    """The adapter seals and opens by itself: not after the own ReleaseReq, not after the peer's."""
    pair = ConnectionPair().open().confirm()
    client, server = pair.client.association, pair.server.association
    server_auto, pair.server.auto = pair.server.auto, False
    pair.client.release()
    assert (client.fast_tx, client.fast_rx) == (False, True)
    pair.move()
    assert (server.fast_tx, server.fast_rx) == (True, False)
    pair.server.auto = server_auto
    pair.server.hold_jobs = True
    pair.server.release_accept()
    assert (server.fast_tx, server.fast_rx) == (False, False)
    pair.server.hold_jobs = False
    pair.server.run_jobs()
    pair.move()
    assert pair.client.error is None


def test_the_fast_paths_end_when_releases_cross() -> None:
    pair = ConnectionPair().open().confirm()
    pair.client.release()
    pair.server.release()
    pair.client.hold_jobs = True
    pair.deliver(*pair.link.popleft())
    pair.deliver(*pair.link.popleft())
    pair.client.run_jobs()  # the server's ReleaseReq verifies
    for side in (pair.client, pair.server):
        assert side.association.state is State.CROSSED
        assert (side.association.fast_tx, side.association.fast_rx) == (False, False)
    pair.client.hold_jobs = False
    pair.client.run_jobs()
    pair.move()
    assert pair.client.error is None
    assert pair.server.error is None
