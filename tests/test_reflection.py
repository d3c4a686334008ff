"""An attacker sends back to a side what that side has sent itself (62351-4 §6, address): never a peer, never data."""

from __future__ import annotations

import pytest

from engine_pair import CLIENT, INITIATE, READ, SERVER, UTC, ConnectionPair, config, credential
from fastsec.association import Association, Ended, Role, Run, Send
from fastsec.instant import Instant
from fastsec.peers import Endpoint
from fastsec.secpdu.fields import Carrier, SecPduKind
from forge import control, forge, on_response, replies
from test_handshake import MODES

START = Instant(UTC - 3_600_000, 0)


@pytest.mark.parametrize("number", [0, 5], ids=["own certificate", "another of the own identity"])
def test_own_request_comes_back_to_the_own_listener(number: int) -> None:
    own = config(CLIENT)
    pair = ConnectionPair(endpoints=(Endpoint(own, now=START), Endpoint(own, now=START)))
    pair.client.association = Association(Role.CLIENT, pair.endpoints[0], peer=SERVER)
    pair.calling = CLIENT
    by = credential(CLIENT, "p256", number)
    pair.client.start(INITIATE)
    (_, sent) = pair.link.popleft()
    request = forge(Carrier.ASSOCIATE_REQ, sent.pdu, by, pk_cert=by.certificate)
    pair.deliver(pair.server, Send(Carrier.ASSOCIATE_REQ, request))
    assert pair.server.events == ["ADDR_MISMATCH_ASS_REQ"]
    assert replies(pair, "server")[0].diag is None


def test_a_client_that_calls_its_own_name_takes_nobody_for_it() -> None:
    pair = ConnectionPair()
    pair.client.association = Association(Role.CLIENT, pair.endpoints[0], peer=CLIENT)
    pair.responding = CLIENT
    by = credential(CLIENT, "p256", 5)
    on_response(pair, lambda pdu: forge(Carrier.ASSOCIATE_RSP, pdu, by, pk_cert=by.certificate))
    pair.client.start(INITIATE)
    pair.move()
    assert pair.client.events == ["ADDR_MISMATCH_ASS_ACC"]


@pytest.mark.parametrize("who", ["client", "server"])
@pytest.mark.parametrize("kind", [SecPduKind.RELEASE_REQ, SecPduKind.DT_SEC_ABORT, SecPduKind.APPL_ABORT])
def test_own_control_pdus_come_back(kind: SecPduKind, who: str) -> None:
    pair = ConnectionPair().open().confirm()
    side = getattr(pair, who)
    carrier = Carrier.RELEASE_REQ if kind is SecPduKind.RELEASE_REQ else Carrier.ABORT
    pair.deliver(side, Send(carrier, control(pair, who, kind)))
    assert len(side.events) == 1
    assert side.events[0].startswith("ADDR_MISMATCH")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("who", ["client", "server"])
def test_own_transfers_come_back(mode: str, who: str) -> None:
    policy = MODES[mode]
    pair = ConnectionPair(config(CLIENT, policy=policy), config(SERVER, policy=policy)).open().confirm()
    side = getattr(pair, who)
    before = list(side.received)
    side.send(READ)
    (_, sent) = pair.link.pop()
    pair.deliver(side, sent)
    assert side.error.check == "icv"
    assert side.received == before


def test_own_acceptance_comes_back_as_a_request() -> None:
    """HandshakeAcc has another tag than HandshakeReq over OSI; taken as one it is a protocol error."""
    pair = ConnectionPair().open()
    acceptance = pair.wire[1][1].pdu
    association = Association(Role.SERVER, pair.endpoints[1])
    association.receive(Carrier.ASSOCIATE_REQ, acceptance, pair.now, calling=SERVER)
    outputs = association.outputs()
    while not any(isinstance(output, Ended) for output in outputs):
        for output in outputs:
            if isinstance(output, Run):
                output.job.run()
                association.job_done(output.job, pair.now)
        outputs = association.outputs()
    assert outputs[-1].error.check == "protocol-error"
