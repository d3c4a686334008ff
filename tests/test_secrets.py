"""However an association ends, no key of it is left: private values, Z, OKM and the guards of old and new keys.

Each secret is noted when it is made. Owners are only looked at, never dropped, so that a wipe by the garbage collector
does not count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from engine_pair import ANSWER, CLIENT, INITIATE, READ, SERVER, ConnectionPair, Side, config, credential
from fastsec import handshake, key_update, keys
from fastsec._core.crypto import Secret
from fastsec._core.guard import OpenGuard, SealGuard
from fastsec._core.pk import Ephemeral
from fastsec.association import Send
from fastsec.config import Policy
from fastsec.errors import LocalError
from fastsec.pki.path import TrustStore
from fastsec.pki.revocation import RevocationPolicy, Revocations
from fastsec.secpdu.fields import Carrier
from fastsec.state import State
from forge import flip_last, forge, on_response


class Noted:
    """All secrets made since the fixture began."""

    def __init__(self) -> None:
        self.private: list[Ephemeral] = []
        self.shared: list[Secret] = []
        self.guards: list[SealGuard | OpenGuard] = []

    def left(self) -> list[object]:
        """Those that could still be used."""
        found: list[object] = [secret for secret in self.shared if len(secret)]
        for key in self.private:
            try:
                found.append((key, key.derive(Ephemeral.generate(key.group).public)))
            except LocalError:
                continue
        for guard in self.guards:
            try:
                guard.seal(READ, 0) if isinstance(guard, SealGuard) else guard.open(b"\x30\x00", 0)
            except LocalError as error:
                if "wiped" in str(error):
                    continue
                found.append(guard)
            except Exception:
                found.append(guard)
            else:
                found.append(guard)
        return found


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> Noted:
    noted = Noted()

    class Keys:
        @staticmethod
        def generate(group: int) -> Ephemeral:
            noted.private.append(Ephemeral.generate(group))
            return noted.private[-1]

    def derive(params: Any, z: Secret, h2: bytes) -> Secret:
        noted.shared.append(z)
        noted.shared.append(keys.derive(params, z, h2))
        return noted.shared[-1]

    def guards(make: Callable[..., Any]) -> Callable[..., Any]:
        def made(*facts: Any, **more: Any) -> Any:
            pair = make(*facts, **more)
            noted.guards += pair
            return pair

        return made

    for module in (handshake, key_update):
        monkeypatch.setattr(module, "Ephemeral", Keys)
        monkeypatch.setattr(module, "derive", derive)
    monkeypatch.setattr("fastsec.handshake_phase.first_guards", guards(keys.first_guards))
    monkeypatch.setattr("fastsec.data_phase.next_guards", guards(keys.next_guards))
    return noted


def finish(pair: ConnectionPair) -> None:
    for side in (pair.client, pair.server):
        side.hold_jobs = False
        side.run_jobs()
    pair.move()


def released(pair: ConnectionPair) -> None:
    pair.open().confirm()
    pair.client.update_keys()
    pair.move()
    pair.confirm()
    pair.elapse(61)
    pair.server.update_keys()
    pair.move()
    pair.server.release()


def aborted(pair: ConnectionPair) -> None:
    pair.open().confirm()
    pair.client.abort(None)


def lost(pair: ConnectionPair) -> None:
    pair.open()
    pair.client.connection_lost()
    pair.server.connection_lost()


def damaged(pair: ConnectionPair) -> None:
    pair.open().confirm()
    pair.client.send(READ)
    to, sent = pair.link.popleft()
    pair.deliver(to, Send(sent.carrier, flip_last(sent.pdu)))


def nobody_answers(pair: ConnectionPair) -> None:
    pair.on_wire = lambda who, sent: None
    pair.client.start(INITIATE)
    pair.elapse(31)
    pair.server.connection_lost()


def left_while_the_request_is_made(pair: ConnectionPair) -> None:
    pair.client.hold_jobs = True
    pair.client.start(INITIATE)
    pair.client.abort(None)
    pair.server.connection_lost()


def left_while_the_acceptance_is_judged(pair: ConnectionPair) -> None:
    pair.client.hold_jobs = True
    pair.client.start(INITIATE)
    pair.client.run_jobs()
    pair.move()
    assert pair.client.association.state is State.JUDGING
    pair.client.abort(None)
    pair.server.connection_lost()


def left_after_the_acceptance_was_judged(pair: ConnectionPair) -> None:
    pair.client.hold_jobs = True
    pair.client.start(INITIATE)
    pair.client.run_jobs()
    pair.move()
    (job,) = pair.client.jobs
    job.run()
    pair.client.abort(None)
    pair.server.connection_lost()


def left_while_a_responder_is_asked(pair: ConnectionPair) -> None:
    """The client has the keys already, and waits for word about the server's certificate."""
    trust = pair.endpoints[0].config.trust
    known = Revocations((), RevocationPolicy(ocsp="always", responders=("http://127.0.0.1/",)))
    known.executor = lambda questions: None
    store = TrustStore([anchor.der for anchor in trust.anchors], revocation=known)
    pair.endpoints[0].config = replace(pair.endpoints[0].config, trust=store)
    pair.client.hold_jobs = True
    pair.client.start(INITIATE)
    pair.client.run_jobs()
    pair.move()
    _first_job(pair)
    assert pair.client.association.state is State.JUDGING
    assert pair.client.jobs
    okm = pair.client.association._taken.okm
    assert len(okm)
    pair.client.abort(None)
    assert not len(okm)  # at once, not when the responder answers
    pair.server.connection_lost()


def _first_job(pair: ConnectionPair) -> None:
    """Run one job of the client, and leave those that follow from it."""
    job = pair.client.jobs.popleft()
    job.run()
    pair.client.association.job_done(job, pair.now)
    pair.collect(pair.client)


def left_while_the_acceptance_is_made(pair: ConnectionPair) -> None:
    pair.accept = None
    pair.client.start(INITIATE)
    pair.move()
    pair.server.hold_jobs = True
    pair.server.accept(ANSWER)
    assert pair.server.association.state is State.ACCEPTING
    pair.server.abort(None)


def refused(pair: ConnectionPair) -> None:
    pair.accept = False
    pair.client.start(INITIATE)


def wrong_number_in_the_acceptance(pair: ConnectionPair) -> None:
    on_response(pair, lambda pdu: forge(Carrier.ASSOCIATE_RSP, pdu, credential(SERVER), asso_id="1"))
    pair.client.start(INITIATE)


def _deriving(pair: ConnectionPair, side: Side) -> None:
    pair.open().confirm()
    side.hold_jobs = True
    pair.client.update_keys()
    pair.move()
    assert side.jobs


def lost_while_the_client_derives(pair: ConnectionPair) -> None:
    _deriving(pair, pair.client)
    lost_both(pair)


def lost_while_the_server_derives(pair: ConnectionPair) -> None:
    _deriving(pair, pair.server)
    lost_both(pair)


def lost_both(pair: ConnectionPair) -> None:
    pair.client.connection_lost()
    pair.server.connection_lost()


def released_while_the_client_derives(pair: ConnectionPair) -> None:
    _deriving(pair, pair.client)
    job = pair.client.jobs.popleft()
    job.run()
    pair.client.hold_jobs = False
    pair.client.release()
    pair.client.association.job_done(job, pair.now)
    pair.collect(pair.client)


def lost_with_an_update_outstanding(pair: ConnectionPair) -> None:
    pair.open().confirm()
    pair.on_wire = lambda who, sent: None if who == "server" else sent
    pair.client.update_keys()
    pair.move()
    lost_both(pair)


def lost_while_a_strict_client_waits_for_traffic(pair: ConnectionPair) -> None:
    pair.open().confirm()
    pair.client.association._policy = Policy(strict_peer=True)
    pair.client.update_keys()
    lost_both(pair)


ENDS = (
    released,
    aborted,
    lost,
    damaged,
    nobody_answers,
    left_while_the_request_is_made,
    left_while_the_acceptance_is_judged,
    left_after_the_acceptance_was_judged,
    left_while_a_responder_is_asked,
    left_while_the_acceptance_is_made,
    refused,
    wrong_number_in_the_acceptance,
    lost_while_the_client_derives,
    lost_while_the_server_derives,
    released_while_the_client_derives,
    lost_with_an_update_outstanding,
    lost_while_a_strict_client_waits_for_traffic,
)


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_nothing_is_left(end: Callable[[ConnectionPair], None], noted: Noted) -> None:
    policy = Policy(groups=(23, 28))
    pair = ConnectionPair(config(CLIENT, policy=policy), config(SERVER))
    end(pair)
    finish(pair)
    assert pair.client.ended
    assert pair.server.ended
    assert len(noted.private) >= 2
    assert not noted.left()


@pytest.mark.parametrize("who", ["client", "server"])
def test_nothing_is_left_when_the_signer_fails(who: str, noted: Noted) -> None:
    class Broken:
        algorithm = credential(CLIENT).signer.algorithm
        kind = credential(CLIENT).signer.kind

        def sign(self, data: bytes) -> bytes:
            raise OSError("the card was drawn")

    def broken(name: Any) -> Any:
        return config(name, credential=replace(credential(name), signer=Broken()))

    pair = ConnectionPair(
        broken(CLIENT) if who == "client" else config(CLIENT), broken(SERVER) if who == "server" else config(SERVER)
    )
    pair.client.start(INITIATE)
    pair.move()
    assert pair.client.ended
    if who == "client":
        assert not pair.wire
    else:
        assert pair.wire[-1][1] == Send(Carrier.ABORT, None)
        assert "card" not in str(pair.server.error)
    assert noted.private
    assert not noted.left()


def test_while_it_lives_only_what_is_needed_is_kept(noted: Noted) -> None:
    """The server's private value and one guard per direction and side."""
    pair = ConnectionPair(config(CLIENT, policy=Policy(groups=(14, 23, 28))), config(SERVER)).open().confirm()
    pair.client.update_keys()
    pair.move()
    pair.confirm()
    left = noted.left()
    assert len([one for one in left if isinstance(one, tuple)]) == 1
    assert len([one for one in left if isinstance(one, (SealGuard, OpenGuard))]) == 4
    assert not [one for one in left if isinstance(one, Secret)]
