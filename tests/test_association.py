"""Signed control PDUs: rejects, aborts and release, right and wrong, in every state where they may come.

Each of the ten checks is broken on each kind of control PDU; what is raised and what, if anything, is answered is
compared with the catalogue. An abort or a reject is never answered.
"""

from __future__ import annotations

from typing import Any

import pytest

import event_record
from engine_pair import ANSWER, CLIENT, INITIATE, READ, SERVER, ConnectionPair, authority, config, credential
from fastsec.association import Ended, Environment, Established, Raised, Send
from fastsec.control import CARRIER_OF, GROUP_OF
from fastsec.errors import Aborted, PeerError, StateError
from fastsec.faults import CONTROL, Group, received
from fastsec.pki.identity import OsiName
from fastsec.pki.path import TrustStore
from fastsec.profile import DtDiag, HandshakeDiag
from fastsec.secpdu.der import decode
from fastsec.secpdu.fields import Carrier, SecPduKind
from fastsec.secpdu.timestamp import time_text
from fastsec.state import State
from forge import RSA, UNKNOWN_SIGNATURE, control, flip_last, forge, on_request, replies
from test_handshake import badly_signed, expired, mnemonic

STRANGER = OsiName("1.1.1.999.3", 1)
K = SecPduKind
XMPP = Environment(abort_is_final=False)

# check -> what is wrong with the PDU; the event number is the check's row in faults.CONTROL
WRONG: dict[str, dict[str, Any]] = {
    "signature-algorithm": {"sig_alg": UNKNOWN_SIGNATURE},
    "signature-mismatch": {"algo": RSA},
    "signature": {"signature": flip_last},
    "protocol-error": {"asso_id": "999:999"},
    "certificate": {"by": expired},
    "path": {"by": lambda name: credential(name, "p256", 0, "two")},
    "certificate-signature": {"by": badly_signed},
    "address": {"by": lambda name: credential(STRANGER)},
    "version": {"version": 3},
    "time": {"time": None},
    "replay": {"time": "seen"},
}
KINDS = {
    K.APPLICATION_REJECT: "server",
    K.HANDSHAKE_SEC_REJECT: "server",
    K.HANDSHAKE_SEC_ABORT: "client",
    K.DT_SEC_ABORT: "server",
    K.APPL_ABORT: "client",
    K.RELEASE_REQ: "client",
    K.RELEASE_RSP: "server",
}


def stage(kind: SecPduKind, environment: Environment | None = None) -> ConnectionPair:
    """A pair in which the PDU of this kind is legal, coming from ``KINDS[kind]``."""
    pair = ConnectionPair(environment=environment, accept=None)
    if kind in (K.APPLICATION_REJECT, K.HANDSHAKE_SEC_REJECT):
        pair.client.start(INITIATE)
        pair.link.clear()
        return pair
    pair.accept = True
    pair.open()
    if kind is not K.HANDSHAKE_SEC_ABORT:
        pair.confirm()
    if kind is K.RELEASE_RSP:
        pair.client.release()
        pair.link.clear()
    return pair


def genuine(pair: ConnectionPair, kind: SecPduKind) -> bytes:
    more = {}
    if kind in (K.APPLICATION_REJECT, K.HANDSHAKE_SEC_REJECT):
        more = {"asso_id": pair.client.association._n, "by": credential(SERVER)}
    diag = 1 if kind in (K.HANDSHAKE_SEC_REJECT, K.HANDSHAKE_SEC_ABORT, K.DT_SEC_ABORT) else None
    return control(pair, KINDS[kind], kind, diag=diag, **more)


def wrong_one(pair: ConnectionPair, kind: SecPduKind, check: str) -> bytes:
    changes = dict(WRONG[check])
    name = CLIENT if KINDS[kind] == "client" else SERVER
    by = credential(name)
    if "by" in changes:
        by = changes.pop("by")(name)
        changes["pk_cert"] = by.certificate
    if changes.get("time", "") is None:
        changes["time"] = time_text(pair.now.utc_ms + 600_001)
    elif changes.get("time") == "seen":
        receiver = pair.server if KINDS[kind] == "client" else pair.client
        seen = receiver.association._seen
        changes["time"] = f"{seen[-1][:14]}.{seen[-1][14:17]}Z" if seen else time_text(pair.now.utc_ms + 1)
    return forge(CARRIER_OF[kind], genuine(pair, kind), by, **changes)


def bring(pair: ConnectionPair, kind: SecPduKind, pdu: bytes | None, carrier: Carrier | None = None) -> Any:
    """Deliver to the receiver of this kind; returns it."""
    receiver = pair.server if KINDS[kind] == "client" else pair.client
    pair.deliver(receiver, Send(carrier or CARRIER_OF[kind], pdu))
    pair.move()
    return receiver


@pytest.mark.parametrize(
    ("kind", "check"),
    event_record.marked(
        [(kind, check) for kind in KINDS for check in WRONG],
        lambda case: [mnemonic(GROUP_OF[case[0]], CONTROL[case[1]][0])],
    ),
    ids=lambda part: getattr(part, "name", part),
)
def test_every_check_of_every_control_pdu(kind: SecPduKind, check: str) -> None:
    pair = stage(kind)
    if check == "replay" and kind in (K.APPLICATION_REJECT, K.HANDSHAKE_SEC_REJECT):
        # Before there is an association the endpoint's memory knows it.
        pair.endpoints[0].replay.remember(
            SERVER.oid,
            "R",
            time_text(pair.now.utc_ms + 1),
            pair.client.association._n,
            bytes(32),
            pair.now.utc_ms,
        )
    before = len(pair.wire)
    receiver = bring(pair, kind, wrong_one(pair, kind, check))
    number, diag = CONTROL[check]
    assert receiver.events == [mnemonic(GROUP_OF[kind], number)]
    assert receiver.ended
    answers = [sent for _, sent in pair.wire[before:]]
    if kind is K.RELEASE_REQ:
        (answer,) = answers
        assert decode(answer.carrier, answer.pdu).kind is K.DT_SEC_ABORT
        assert decode(answer.carrier, answer.pdu).diag == diag
    else:
        assert not answers
    assert not receiver.association.tx


def test_revoked_meanwhile_and_another_certificate_of_the_same_identity() -> None:
    """A renewed certificate passes with full validation and the same identity; a revoked one is the alarm."""
    pair = stage(K.RELEASE_REQ)
    renewed = credential(CLIENT, "p256", 7)
    pdu = forge(Carrier.RELEASE_REQ, genuine(pair, K.RELEASE_REQ), renewed, pk_cert=renewed.certificate)
    bring(pair, K.RELEASE_REQ, pdu)
    assert pair.server.error is None
    assert not pair.server.events

    revoked = credential(CLIENT, "p256", 8)
    crl = authority("one").revoke(revoked.certificate)
    pair = ConnectionPair(server=config(SERVER, trust=TrustStore((authority("one").root,), (crl,)))).open().confirm()
    pdu = forge(Carrier.RELEASE_REQ, genuine(pair, K.RELEASE_REQ), revoked, pk_cert=revoked.certificate)
    bring(pair, K.RELEASE_REQ, pdu)
    assert pair.server.events == ["PKCERT_ALARM_REL_REQ"]


def test_another_certificate_is_looked_up_in_crls_that_were_loaded_meanwhile() -> None:
    pair = stage(K.RELEASE_REQ)
    revoked = credential(CLIENT, "p256", 9)
    crl = authority("one").revoke(revoked.certificate)
    pair.endpoints[1].fresh_trust = TrustStore((authority("one").root,), (crl,))
    pdu = forge(Carrier.RELEASE_REQ, genuine(pair, K.RELEASE_REQ), revoked, pk_cert=revoked.certificate)
    bring(pair, K.RELEASE_REQ, pdu)
    assert pair.server.events == ["PKCERT_ALARM_REL_REQ"]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_unparseable_control_pdu(kind: SecPduKind) -> None:
    pair = stage(kind)
    before = len(pair.wire)
    receiver = bring(pair, kind, genuine(pair, kind)[:-1])
    assert receiver.events == [mnemonic(GROUP_OF[kind], 4)]
    assert receiver.ended
    assert len(pair.wire) - before == (1 if kind is K.RELEASE_REQ else 0)


def test_time_before_the_token_of_the_handshake() -> None:
    pair = stage(K.APPL_ABORT)
    early = time_text(pair.now.utc_ms - 5000)
    pdu = forge(Carrier.ABORT, genuine(pair, K.APPL_ABORT), credential(CLIENT), time=early)
    assert bring(pair, K.APPL_ABORT, pdu).events == ["INV_TIME_APPL_ABT"]


@pytest.mark.parametrize("kind", [K.HANDSHAKE_SEC_REJECT, K.APPLICATION_REJECT], ids=lambda kind: kind.name)
def test_a_reject_may_lack_the_number(kind: SecPduKind) -> None:
    pair = stage(kind)
    receiver = bring(pair, kind, control(pair, "server", kind, asso_id=None))
    assert isinstance(receiver.error, Aborted)
    assert receiver.events == (["ALARM_RCV_ASS_SEC_REJ"] if kind is K.HANDSHAKE_SEC_REJECT else [])


# --- what a verified abort or reject tells ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "diag",
    event_record.marked([None, *DtDiag, 77], lambda diag: [mnemonic(6, received(Group.DT_SEC_ABORT, diag))]),
)
def test_event_for_each_diagnostic_of_a_dt_sec_abort(diag: int | None) -> None:
    pair = stage(K.DT_SEC_ABORT)
    receiver = bring(pair, K.DT_SEC_ABORT, control(pair, "server", K.DT_SEC_ABORT, diag=diag))
    assert receiver.events == [mnemonic(6, received(Group.DT_SEC_ABORT, diag))]
    assert isinstance(receiver.error, Aborted)
    assert receiver.error.side == "peer"
    assert receiver.error.code == diag
    assert len(pair.wire) == 4


@pytest.mark.parametrize(
    ("kind", "diag"),
    event_record.marked(
        [
            (kind, diag)
            for kind in (K.HANDSHAKE_SEC_REJECT, K.HANDSHAKE_SEC_ABORT)
            for diag in (None, *HandshakeDiag, 77)
        ],
        lambda case: [mnemonic(GROUP_OF[case[0]], received(GROUP_OF[case[0]], case[1]))],
    ),
    ids=lambda part: part.name if isinstance(part, SecPduKind) else str(part),
)
def test_event_for_each_diagnostic_of_the_handshake(kind: SecPduKind, diag: int | None) -> None:
    pair = stage(kind)
    more = {"asso_id": pair.client.association._n} if kind is K.HANDSHAKE_SEC_REJECT else {}
    receiver = bring(pair, kind, control(pair, KINDS[kind], kind, diag=diag, **more))
    group = GROUP_OF[kind]
    assert receiver.events == [mnemonic(group, received(group, diag))]
    assert receiver.error.code == diag
    (raised,) = receiver.seen(Raised)
    assert dict(raised.event.params)["diag"] == ("none" if diag is None else str(int(diag)))


def test_appl_abort_carries_data_to_the_wire_and_ends_both() -> None:
    pair = stage(K.APPL_ABORT)
    pair.client.abort(b"\xa0\x01\x00")
    pair.move()
    (abort,) = [pdu for pdu in replies(pair, "client") if getattr(pdu, "kind", None) is K.APPL_ABORT]
    assert abort.appl_data == b"\xa0\x01\x00"
    assert pair.client.error.side == "local"
    assert pair.server.error.side == "peer"
    assert not pair.server.events
    pair.client.abort(None)  # harmless


# --- out of state -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("environment", [None, XMPP], ids=["osi", "xmpp"])
@pytest.mark.parametrize("kind", [K.APPLICATION_REJECT, K.HANDSHAKE_SEC_REJECT], ids=lambda kind: kind.name)
def test_a_reject_in_an_open_association_is_ignored_with_an_event(kind: SecPduKind, environment: Any) -> None:
    pair = stage(K.DT_SEC_ABORT, environment)
    pdu = control(pair, "server", kind)
    bring(pair, kind, pdu)
    assert pair.client.events == [mnemonic(GROUP_OF[kind], 4)]
    assert not pair.client.ended
    pair.confirm()


def test_handshake_sec_abort_after_confirmation_is_ignored_where_aborts_are_judged() -> None:
    pair = stage(K.DT_SEC_ABORT, XMPP)
    bring(pair, K.HANDSHAKE_SEC_ABORT, control(pair, "client", K.HANDSHAKE_SEC_ABORT, diag=1))
    assert pair.server.events == ["PROTOCOL_ERR_ASS_SEC_ABT"]
    pair.confirm()


def test_handshake_sec_abort_at_a_client_is_out_of_direction() -> None:
    pair = stage(K.HANDSHAKE_SEC_ABORT, XMPP)
    pair.deliver(pair.client, Send(Carrier.ABORT, control(pair, "server", K.HANDSHAKE_SEC_ABORT, diag=1)))
    assert pair.client.events == ["PROTOCOL_ERR_ASS_SEC_ABT"]
    assert not pair.client.ended


def test_a_forged_abort_ends_nothing_where_aborts_are_judged() -> None:
    pair = stage(K.DT_SEC_ABORT, XMPP)
    for kind in (K.DT_SEC_ABORT,):
        bring(pair, kind, wrong_one(pair, kind, "signature"))
    assert pair.client.events == ["INV_SIG_DTSEC_ABT"]
    pair.confirm()


def test_a_forged_release_ends_nothing_over_xmpp() -> None:
    pair = stage(K.RELEASE_REQ, XMPP)
    bring(pair, K.RELEASE_REQ, wrong_one(pair, K.RELEASE_REQ, "signature"))
    assert pair.server.events == ["INV_SIG_REL_REQ"]
    pair.confirm()


def test_release_rsp_without_release_req() -> None:
    pair = stage(K.RELEASE_REQ)
    pair.deliver(pair.client, Send(Carrier.RELEASE_RSP, control(pair, "server", K.RELEASE_RSP)))
    pair.move()
    assert pair.client.events == ["PROTOCOL_ERR_REL_RSP"]
    assert pair.server.events == ["PROT_ERR_DTSEC_ABT_DIA"]
    assert pair.server.error.code == DtDiag.PROTOCOL_ERROR


def test_a_transfer_before_the_acceptance() -> None:
    pair = ConnectionPair(accept=None)
    donor = ConnectionPair().open()
    donor.client.send(READ)
    pair.client.start(INITIATE)
    pair.move()
    pair.deliver(pair.server, Send(Carrier.DATA, donor.wire[-1][1].pdu))
    pair.move()
    assert pair.server.events == ["ENCR_DATA_PROT_ERROR_TRF"]
    assert replies(pair, "server")[0].diag == HandshakeDiag.PROTOCOL_ERROR
    assert pair.client.events == ["PROTOCOL_ERR_SEC_REJ_DIA"]


def test_a_transfer_instead_of_the_acceptance() -> None:
    pair = ConnectionPair(accept=None)
    donor = ConnectionPair().open()
    donor.client.send(READ)
    pair.client.start(INITIATE)
    pair.link.clear()
    pair.deliver(pair.client, Send(Carrier.DATA, donor.wire[-1][1].pdu))
    assert pair.client.events == ["ENCR_DATA_PROT_ERROR_TRF"]
    abort = replies(pair, "client")[-1]
    assert (abort.kind, abort.diag) == (K.HANDSHAKE_SEC_ABORT, HandshakeDiag.PROTOCOL_ERROR)


def test_a_second_request_in_an_open_association() -> None:
    pair = ConnectionPair().open()
    pair.deliver(pair.server, Send(Carrier.ASSOCIATE_REQ, pair.wire[0][1].pdu))
    pair.move()
    assert pair.server.events == ["PROTOCOL_ERR_ASS_REQ"]
    assert pair.client.error.code == DtDiag.PROTOCOL_ERROR


def test_osi_diagnostics_in_an_abort_are_opaque() -> None:
    pair = ConnectionPair().open()
    pair.deliver(pair.client, Send(Carrier.ABORT, b"\xa3\x03\x0a\x01\x00"))
    assert pair.client.error.side == "provider"
    assert not pair.client.events


def test_plain_abort_and_loss_and_environment_fault() -> None:
    for how in ("abort", "lost", "fault"):
        pair = ConnectionPair().open()
        if how == "abort":
            pair.deliver(pair.client, Send(Carrier.ABORT, None))
        elif how == "lost":
            pair.client.connection_lost()
        else:
            pair.client.environment_fault("OSI_INV_PCI")
            assert pair.client.events == ["OSI_INV_PCI"]
            assert pair.wire[-1][1] == Send(Carrier.ABORT, None)
        assert isinstance(pair.client.error, Aborted)
        assert pair.client.association.tx is None


def test_an_abort_while_the_own_last_pdu_is_signed() -> None:
    pair = ConnectionPair().open()
    pair.client.hold_jobs = True
    pair.client.abort(None)
    assert pair.client.association.state is State.ENDING
    with pytest.raises(StateError):
        pair.client.send(READ)
    pair.client.abort(None)
    pair.deliver(pair.client, Send(Carrier.ABORT, None))
    assert pair.client.error.side == "local"
    pair.client.run_jobs()
    assert not [sent for _, sent in pair.wire if sent.carrier is Carrier.ABORT]


def test_a_signer_that_fails_or_hangs_ends_with_a_plain_abort() -> None:
    pair = ConnectionPair().open()
    pair.client.hold_jobs = True
    pair.client.abort(None)
    (job,) = pair.client.jobs
    job._work = lambda: 1 // 0
    pair.client.run_jobs()
    assert pair.wire[-1][1] == Send(Carrier.ABORT, None)
    assert pair.client.ended
    pair = ConnectionPair().open()
    pair.client.hold_jobs = True
    pair.client.abort(None)
    pair.elapse(11)
    assert pair.wire[-1][1] == Send(Carrier.ABORT, None)
    assert pair.client.ended


def test_pdus_that_come_while_one_is_being_checked_wait_in_order() -> None:
    pair = ConnectionPair()
    pair.client.hold_jobs = True
    pair.client.start(INITIATE)
    pair.client.run_jobs()
    pair.move()  # the acceptance is being judged
    assert pair.client.association.busy
    pair.server.send(ANSWER)
    pair.server.send(READ)
    pair.move()
    assert not pair.client.received
    pair.client.run_jobs()
    assert pair.client.seen(Established)
    assert pair.client.received == [ANSWER, READ]


def test_calls_in_the_wrong_state_raise_and_change_nothing() -> None:
    pair = ConnectionPair()
    for call in (lambda: pair.client.send(READ), lambda: pair.client.release(), lambda: pair.client.accept(b"")):
        with pytest.raises(StateError):
            call()
    pair.open()
    with pytest.raises(StateError):
        pair.client.start(INITIATE)
    with pytest.raises(StateError):
        pair.client.release_accept()
    pair.confirm()


def test_own_signed_times_are_strictly_later() -> None:
    """Two signed PDUs within one millisecond: the second is stamped a millisecond later."""
    pair = ConnectionPair().open()
    pair.client.release()
    pair.move()
    token1 = decode(Carrier.ASSOCIATE_REQ, pair.wire[0][1].pdu).token1
    token3 = next(pdu for pdu in replies(pair, "client") if getattr(pdu, "kind", None) is K.RELEASE_REQ).token3
    assert token3.time > token1.time
    assert pair.server.error is None


def test_nothing_is_received_after_the_end() -> None:
    pair = ConnectionPair().open().confirm()
    pair.server.send(ANSWER)
    pair.client.abort(None)
    count = len(pair.client.outputs)
    pair.move()
    assert pair.client.received == [ANSWER]
    assert len(pair.client.outputs) == count


@pytest.mark.parametrize("kind", [K.RELEASE_REQ, K.DT_SEC_ABORT, K.APPL_ABORT])
@pytest.mark.parametrize("good", [True, False])
def test_a_pdu_whose_check_ends_after_the_association_changes_nothing(kind: SecPduKind, good: bool) -> None:
    pair = ConnectionPair(environment=XMPP).open().confirm()
    side = pair.server if KINDS[kind] == "client" else pair.client
    side.hold_jobs = True
    pdu = genuine(pair, kind)
    pair.deliver(side, Send(CARRIER_OF[kind], pdu if good else flip_last(pdu)))
    assert side.association.busy
    side.connection_lost()
    assert isinstance(side.outputs[-1], Ended)
    count = len(side.outputs)
    side.run_jobs()
    assert len(side.outputs) == count
    assert side.association.state is State.ENDED


def test_a_control_pdu_that_was_overtaken_by_an_abort_is_not_sent() -> None:
    pair = ConnectionPair().open().confirm()
    pair.client.hold_jobs = True
    pair.client.release()
    pair.client.abort(None)
    before = len(pair.wire)
    late, last = pair.client.jobs
    pair.client.jobs.clear()
    for job in (late, last):
        job.run()
        pair.client.association.job_done(job, pair.now)
        pair.collect(pair.client)
    assert [sent.carrier for _, sent in pair.wire[before:]] == [Carrier.ABORT]
    pair.move()
    assert not pair.server.events
    assert pair.server.error.side == "peer"


@pytest.mark.parametrize("known", [True, False])
def test_the_reject_of_what_does_not_decode_names_the_client_number_if_it_can(known: bool) -> None:
    pair = ConnectionPair()
    number: list[str] = []

    def change(pdu: bytes) -> bytes:
        token = decode(Carrier.ASSOCIATE_REQ, pdu).token1
        number.append(token.asso_id)
        return pdu.replace(token.time.encode(), token.time.encode()[:-1] + b"X") if known else pdu[:200]

    on_request(pair, change)
    pair.client.start(INITIATE)
    pair.move()
    (reject,) = replies(pair, "server")
    assert reject.diag == HandshakeDiag.PROTOCOL_ERROR
    assert reject.token3.asso_id == (number[0] if known else None)
    assert pair.client.error.code == HandshakeDiag.PROTOCOL_ERROR


def test_data_without_a_secpdu_is_a_protocol_error() -> None:
    pair = ConnectionPair().open().confirm()
    pair.deliver(pair.server, Send(Carrier.DATA, None))
    pair.move()
    assert pair.server.error.check == "protocol-error"
    assert pair.client.error.code == DtDiag.PROTOCOL_ERROR


def test_error_of_a_peer_fault_names_check_and_step() -> None:
    pair = ConnectionPair().open().confirm()
    pair.deliver(pair.server, Send(Carrier.DATA, b"\x30\x00"))
    assert isinstance(pair.server.error, PeerError)
    assert pair.server.error.check == "protocol-error"
    assert pair.server.error.code == DtDiag.PROTOCOL_ERROR
    assert repr(pair.server.association).startswith("<Association server")
