"""A key update and a release that meet, and limits that come again under new keys."""

from __future__ import annotations

import pytest

from engine_pair import ANSWER, READ, ConnectionPair
from fastsec._core.pk import Ephemeral
from fastsec.config import Policy
from fastsec.errors import Aborted, HandshakeError
from fastsec.key_update import Phase
from fastsec.profile import DtDiag, HandshakeDiag
from fastsec.secpdu.fields import Carrier, SecPduKind
from forge import replies
from test_key_update import CARRIER, CHANGED, NOTHING, flags, make


def carriers(pair: ConnectionPair, who: str) -> list[Carrier]:
    return [sent.carrier for sender, sent in pair.wire if sender == who]


def test_a_client_that_has_asked_for_release_sends_no_carrier() -> None:
    pair = make()
    pair.client.hold_jobs = True
    pair.client.update_keys()
    pair.client.release()
    pair.client.run_jobs()
    pair.client.hold_jobs = False
    pair.move()
    assert carriers(pair, "client")[-1] is Carrier.RELEASE_REQ
    assert flags(pair, "client") == [NOTHING]
    assert pair.client.error is None
    assert pair.server.error is None


def test_a_server_that_has_asked_for_release_takes_new_keys_and_announces_none() -> None:
    pair = make()
    pair.client.update_keys()
    pair.client.send(READ)  # under the new keys
    pair.server.release()
    pair.move()
    assert pair.server.received == [READ, READ]
    assert flags(pair, "client") == [NOTHING, CARRIER, NOTHING]
    assert flags(pair, "server") == [NOTHING]
    assert pair.client.error is None
    assert pair.server.error is None
    assert not pair.server.events


def test_a_server_that_was_asked_for_release_still_announces_while_it_flushes() -> None:
    pair = make()
    pair.server.auto = False
    pair.server.hold_jobs = True
    pair.client.update_keys()
    pair.move()
    pair.client.release()
    pair.move()
    pair.server.run_jobs()  # new keys, then ReleaseReq
    pair.server.send(ANSWER)
    pair.server.hold_jobs = False
    pair.server.release_accept()
    pair.move()
    assert flags(pair, "server") == [NOTHING, CHANGED, NOTHING]
    assert pair.client.received == [ANSWER, ANSWER]
    assert pair.client.error is None


def test_the_message_count_begins_again_under_every_key() -> None:
    pair = make(Policy(rekey_messages=10))
    for count in (1, 2, 3):
        while not pair.client.association.tx.due:
            pair.client.send(READ)
            assert pair.client.association.tx.count <= 10
        pair.client.tick()
        pair.move()
        assert pair.client.association._keys.count == count
        pair.elapse(61)


def test_a_wish_by_count_is_heard_once() -> None:
    pair = make(Policy(rekey_messages=3))
    pair.client.update_keys()
    pair.move()
    for _ in range(3):
        pair.client.send(READ)
    assert pair.client.association.tx.due
    pair.client.tick()  # too early after the last
    assert not pair.client.association.tx.due
    pair.move()
    pair.elapse(61)
    assert pair.client.association._keys.count == 2
    assert pair.client.association._keys.phase is Phase.REST


def test_a_silent_server_that_answers_late_is_forgiven() -> None:
    """The carrier's time is over only for a server that goes on under the old key."""
    pair = make()
    pair.server.hold_jobs = True
    pair.client.update_keys()
    pair.move()
    pair.elapse(70)
    assert pair.client.association._keys.overdue
    pair.server.hold_jobs = False
    pair.server.run_jobs()
    pair.move()
    assert pair.client.association._keys.phase is Phase.REST
    pair.confirm()
    pair.confirm()


# --- faults that only a job can find ----------------------------------------------------------------------------------


def test_a_degenerate_secret_of_the_handshake_is_a_protocol_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Degenerate:
        @staticmethod
        def generate(group: int) -> Degenerate:
            return Degenerate()

        def derive(self, public: bytes) -> None:
            raise HandshakeError("the shared secret is degenerate", step="public value")

        def wipe(self) -> None:
            pass

    pair = ConnectionPair(accept=None)
    pair.client.start(ANSWER)
    pair.move()
    monkeypatch.setattr("fastsec.handshake.Ephemeral", Degenerate)
    pair.server.accept(ANSWER)
    monkeypatch.setattr("fastsec.handshake.Ephemeral", Ephemeral)
    pair.move()
    (reject,) = replies(pair, "server")
    assert reject.kind is SecPduKind.HANDSHAKE_SEC_REJECT
    assert reject.diag == HandshakeDiag.PROTOCOL_ERROR
    assert pair.server.events == ["PROTOCOL_ERR_ASS_REQ"]


@pytest.mark.parametrize("what", ["new keys", "release"])
def test_an_own_failure_while_a_pdu_is_judged_says_no_reason_given(what: str) -> None:
    pair = make()
    pair.server.hold_jobs = True
    if what == "release":
        pair.client.release()
    else:
        pair.client.update_keys()
    pair.move()
    pair.server.jobs[0]._work = lambda: 1 // 0
    pair.server.hold_jobs = False
    pair.server.run_jobs()
    pair.move()
    abort = replies(pair, "server")[-1]
    assert abort.kind is SecPduKind.DT_SEC_ABORT
    assert abort.diag == DtDiag.NO_REASON_GIVEN
    assert pair.client.error.code == DtDiag.NO_REASON_GIVEN


def test_a_certificate_that_cannot_be_checked_again_ends_the_association() -> None:
    class Broken:
        def recheck(self, peer: object, utc_ms: int) -> None:
            raise RuntimeError("out of order")

    pair = make()
    pair.endpoints[0].fresh_trust = Broken()
    pair.client.update_keys()
    pair.move()
    assert isinstance(pair.client.error, Aborted)
    assert "out of order" not in str(pair.client.error)
    assert replies(pair, "client")[-1].kind is SecPduKind.APPL_ABORT
