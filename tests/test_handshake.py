"""The handshake: what goes well, and every check of HandshakeReq and HandshakeAcc with a peer that breaks it.

For each wrong peer: the event, the diagnostic on the wire (none for an alarm), what the other side makes of it, and
that both sides end.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

import event_record
from engine_pair import (
    CLIENT,
    INITIATE,
    RESPONSE,
    SERVER,
    UTC,
    ConnectionPair,
    authority,
    config,
    credential,
)
from fastsec import events, profile
from fastsec._core.pk import Ephemeral
from fastsec.association import Association, Established, Role, Send
from fastsec.config import Policy
from fastsec.errors import Aborted, LocalError, PeerError, Rejected
from fastsec.faults import HANDSHAKE_ACC, HANDSHAKE_REQ
from fastsec.instant import Instant
from fastsec.negotiation import APPL_PROTECTED
from fastsec.peers import Endpoint
from fastsec.pki.certificate import Certificate
from fastsec.pki.identity import OsiName
from fastsec.pki.path import TrustStore
from fastsec.profile import HandshakeDiag as Diag
from fastsec.secpdu.der import decode
from fastsec.secpdu.fields import Carrier, SecPduKind
from fastsec.secpdu.model import AeaOffer, AlgorithmId, Control, DhPublic, NonAeaOffer, algorithm_id
from fastsec.secpdu.timestamp import time_text
from fastsec.state import State
from forge import RSA, UNKNOWN_SIGNATURE, flip_last, forge, on_request, on_response, replies
from odd_certificates import attribute_certificate, badly_signed, expired, without_agreement

GCM128 = algorithm_id(profile.AES128_GCM, 16)
GCM256_12 = algorithm_id(profile.AES256_GCM, 12)
CBC = algorithm_id(profile.AES128_CBC)
CBC256 = algorithm_id(profile.AES256_CBC)
HMAC = algorithm_id(profile.HMAC_SHA256)
HMAC_SHA1 = AlgorithmId("1.2.840.113549.2.7")
STRANGER = OsiName("1.1.1.999.3", 1)
SERVER_ONLY_23 = Policy(accept_groups=(23,))
FORBIDS = Policy(encryption="forbidden", ae="allowed")
NO_AE = Policy(ae="forbidden")
AE_ONLY = Policy(ae="required")
CBC_ONLY = Policy(ae="forbidden", encr_algorithms=(profile.AES128_CBC,))
HMAC_ONLY = Policy(ae="forbidden", icv_algorithms=((profile.HMAC_SHA256, 32),))
INTEGRITY = Policy(encryption="forbidden")


# --- success ----------------------------------------------------------------------------------------------------------

MODES = {
    "ae128": Policy(ae_algorithms=((profile.AES128_GCM, 16),)),
    "ae256-12": Policy(ae_algorithms=((profile.AES256_GCM, 12),)),
    "hmac": Policy(encryption="forbidden", icv_algorithms=((profile.HMAC_SHA256, 32),)),
    "gmac": Policy(encryption="forbidden", icv_algorithms=((profile.AES256_GCM, 16),)),
    "cbc-hmac": Policy(ae="forbidden"),
    "cbc-gmac": Policy(ae="forbidden", icv_algorithms=((profile.AES128_GCM, 13),)),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("group", [14, 23, 28])
@pytest.mark.parametrize(("client_key", "server_key"), [("p256", "rsa2048"), ("brainpool", "p256")])
def test_every_mode_group_and_signature(mode: str, group: int, client_key: str, server_key: str) -> None:
    policy = replace(MODES[mode], groups=(group,))
    server_policy = replace(policy, encryption="forbidden" if policy.encryption == "forbidden" else "required")
    pair = ConnectionPair(
        config(CLIENT, key=client_key, policy=policy), config(SERVER, key=server_key, policy=server_policy)
    )
    pair.open().confirm()
    assert pair.client.association.mode == pair.server.association.mode
    assert pair.client.association.asso_id == pair.server.association.asso_id
    assert pair.client.association.peer.names == {SERVER.oid}
    assert pair.server.association.peer.names == {CLIENT.oid}
    assert not pair.client.events
    assert not pair.server.events


def test_established_hands_up_the_response_unconfirmed_and_confirms_on_the_first_transfer() -> None:
    pair = ConnectionPair().open()
    (established,) = pair.client.seen(Established)
    assert established.appl_data == RESPONSE
    assert not established.confirmed
    assert not pair.client.association.confirmed
    assert not pair.client.association.fast_rx
    pair.confirm()
    assert pair.client.association.confirmed
    assert pair.server.association.confirmed
    assert pair.client.association.fast_rx


def test_the_server_sees_the_request_and_may_refuse() -> None:
    pair = ConnectionPair(accept=None)
    pair.client.start(INITIATE)
    pair.move()
    assert pair.server.association.state is State.DECIDING
    refusal = bytes.fromhex("a3020101")[:2] + b"\x01\x01"
    pair.server.reject(refusal, True)
    pair.move()
    assert isinstance(pair.client.error, Rejected)
    assert pair.client.error.appl_data == refusal
    assert pair.client.error.transient
    assert isinstance(pair.server.error, Rejected)
    assert [type(pdu) for pdu in replies(pair, "server")] == [Control]
    assert not pair.client.events


def test_several_groups_offered_the_server_chooses_by_its_own_order() -> None:
    client = config(CLIENT, policy=Policy(groups=(14, 23, 28)))
    server = config(SERVER, policy=Policy(accept_groups=(28, 23)))
    pair = ConnectionPair(client, server).open()
    acceptance = decode(Carrier.ASSOCIATE_RSP, pair.wire[1][1].pdu)
    assert [value.group for value in acceptance.token1.dh_key] == [28]


def test_handshake_data_is_dropped_once_open() -> None:
    pair = ConnectionPair().open()
    for side in (pair.client.association, pair.server.association):
        assert side._made is None
        assert side._taken is None
    assert pair.client.association._keys.own is None


def test_the_path_is_left_out_where_the_environment_has_no_room() -> None:
    from fastsec.association import Environment

    long = replace(credential(CLIENT), cert_path=(authority("one").root,))
    pair = ConnectionPair(config(CLIENT, credential=long))
    pair.open()
    assert decode(Carrier.ASSOCIATE_REQ, pair.wire[0][1].pdu).token1.cert_path
    size = len(pair.wire[0][1].pdu)
    pair = ConnectionPair(config(CLIENT, credential=long), environment=Environment(handshake_max=size - 50)).open()
    assert not decode(Carrier.ASSOCIATE_REQ, pair.wire[0][1].pdu).token1.cert_path


def test_a_client_must_name_its_peer_and_a_server_must_not() -> None:
    endpoint = Endpoint(config(CLIENT), now=Instant(UTC, 0))
    with pytest.raises(LocalError):
        Association(Role.CLIENT, endpoint)
    with pytest.raises(LocalError):
        Association(Role.SERVER, endpoint, peer=SERVER)


# --- HandshakeReq, wrong --------------------------------------------------------------------------------------------


@dataclass
class Wrong:
    """One wrong handshake PDU.

    Attributes:
        event: number in the group.
        diag: on the wire, None for an alarm.
        answer: event number (group 4 or 5) at the side that gets the answer.
        changes: what ``forge`` changes; a function of the decoded PDU where it depends on it.
        by: makes the credential that signs (and whose certificate goes in), or None for the genuine one.
        raw: change of the octets instead.
        client, server: policies.
    """

    event: int
    diag: Diag | None
    answer: int
    changes: Any = field(default_factory=dict)
    by: Any = None
    raw: Any = None
    client: Policy = field(default_factory=Policy)
    server: Policy = field(default_factory=Policy)
    setup: Any = None


def two_groups(token: Any) -> dict[str, Any]:
    return {"dh_key": (*token.dh_key, DhPublic(28, Ephemeral.generate(28).public))}


def acc_two_ae(token: Any) -> dict[str, Any]:
    return {"encr_mode": AeaOffer((GCM128, GCM256_12))}


REQUESTS = {
    "signature algorithm": Wrong(1, Diag.INVALID_SIGNATURE_ALGORITHM, 12, {"sig_alg": UNKNOWN_SIGNATURE}),
    "algorithm mismatch": Wrong(2, None, 11, {"algo": RSA}),
    "signature": Wrong(3, None, 11, {"signature": flip_last}),
    "signature of the wrong kind of key": Wrong(3, None, 11, {"sig_alg": RSA}),
    "protected protocol": Wrong(4, Diag.PROTECTED_PROTOCOL_NOT_SUPPORTED, 13, {"pp": "IEC 61850-8-2"}),
    "unparseable": Wrong(5, Diag.PROTOCOL_ERROR, 14, raw=lambda pdu: pdu[:-1]),
    "n:m": Wrong(5, Diag.PROTOCOL_ERROR, 14, lambda token: {"asso_id": f"{token.asso_id}:1"}),
    "256 octets for group 23": Wrong(
        5, Diag.PROTOCOL_ERROR, 14, {"dh_key": (DhPublic(23, b"\x04" + bytes(254) + b"\x05"),)}
    ),
    "point off the curve": Wrong(
        5, Diag.PROTOCOL_ERROR, 14, lambda token: {"dh_key": (DhPublic(23, flip_last(token.dh_key[0].public)),)}
    ),
    "group 14 value 1": Wrong(5, Diag.PROTOCOL_ERROR, 14, {"dh_key": (DhPublic(14, bytes(255) + b"\x01"),)}),
    "group 14 value p - 1": Wrong(
        5,
        Diag.PROTOCOL_ERROR,
        14,
        lambda token: {"dh_key": (DhPublic(14, modp_p_minus_1()),)},
    ),
    "expired": Wrong(6, Diag.INVALID_PUBLIC_KEY_CERTIFICATE, 14, by=expired),
    "no key agreement": Wrong(6, Diag.INVALID_PUBLIC_KEY_CERTIFICATE, 14, by=without_agreement),
    "unknown authority": Wrong(
        6, Diag.INVALID_CERTIFICATION_PATH, 14, by=lambda name: credential(name, "p256", 0, "two")
    ),
    "attribute certificate": Wrong(6, Diag.INVALID_ATTRIBUTE_CERTIFICATE, 14, {"att_cert": b"\x30\x00"}),
    "expired attribute certificate": Wrong(
        6,
        Diag.INVALID_ATTRIBUTE_CERTIFICATE,
        14,
        lambda token: {"att_cert": attribute_certificate(token.pk_cert, UTC - 9000, UTC - 8000)},
    ),
    "attribute certificate of another": Wrong(
        6,
        Diag.INVALID_ATTRIBUTE_CERTIFICATE,
        14,
        lambda token: {"att_cert": attribute_certificate(token.pk_cert, serial=b"\x01")},
    ),
    "attribute certificate of another authority": Wrong(
        6,
        Diag.INVALID_ATTRIBUTE_CERTIFICATE,
        14,
        lambda token: {
            "att_cert": attribute_certificate(
                credential(CLIENT, "p256", 0, "two").certificate, serial=Certificate(token.pk_cert).serial
            )
        },
    ),
    "certificate signature": Wrong(7, None, 11, by=badly_signed),
    "another identity": Wrong(8, None, 11, by=lambda name: credential(STRANGER)),
    "our own certificate": Wrong(8, None, 11, by=lambda name: credential(SERVER)),
    "our own identity": Wrong(8, None, 11, by=lambda name: credential(SERVER, "p256", 5)),
    "version": Wrong(9, Diag.UNEXPECTED_VERSION, 15, {"version": 0}),
    "version without bit 0": Wrong(9, Diag.UNEXPECTED_VERSION, 15, {"version": 2}),
    "clock ahead": Wrong(10, Diag.INVALID_TIME_VALUE, 16, {"time": time_text(UTC + 600_001)}),
    "clock behind": Wrong(10, Diag.INVALID_TIME_VALUE, 16, {"time": time_text(UTC - 600_001)}),
    "group": Wrong(12, Diag.DH_GROUP_NOT_SUPPORTED, 17, client=Policy(groups=(14,)), server=SERVER_ONLY_23),
    "hmac": Wrong(13, Diag.HMAC_ALGORITHM_NOT_SUPPORTED, 18, {"hmac": HMAC_SHA1}),
    "ae not allowed": Wrong(14, Diag.ENCR_MODE_AEA_NOT_SUPPORTED, 19, server=NO_AE),
    "ae without encryption": Wrong(15, Diag.AEA_SELECT_BUT_ENCRYP_NOT_SUPP, 20, {"conf_params": 0}),
    "ae algorithm": Wrong(
        16, Diag.AEA_ALGORITHMS_NOT_SUPPORTED, 21, server=Policy(ae_algorithms=((profile.AES128_GCM, 14),))
    ),
    "ae required": Wrong(17, Diag.AE_IS_REQUIRED, 22, client=NO_AE, server=AE_ONLY),
    "encryption list not asked for": Wrong(
        18, Diag.ENCRYPTION_NOT_REQUIRED, 23, {"conf_params": 0}, client=NO_AE, server=Policy(encryption="allowed")
    ),
    "encryption list not allowed": Wrong(18, Diag.ENCRYPTION_NOT_REQUIRED, 23, client=NO_AE, server=INTEGRITY),
    "encryption algorithm": Wrong(
        19,
        Diag.ENCRYPT_ALGORITHMS_NOT_SUPPORTED,
        24,
        client=CBC_ONLY,
        server=Policy(encr_algorithms=(profile.AES256_CBC,)),
    ),
    "encryption list with GCM only": Wrong(
        19, Diag.ENCRYPT_ALGORITHMS_NOT_SUPPORTED, 24, {"encr_mode": NonAeaOffer((GCM128,), (HMAC,))}, client=NO_AE
    ),
    "icv algorithms": Wrong(
        20,
        Diag.ICV_ALGORITHMS_NOT_SUPPORTED,
        25,
        client=HMAC_ONLY,
        server=Policy(icv_algorithms=((profile.AES128_GCM, 16),)),
    ),
    "encryption forbidden": Wrong(21, Diag.ENCRYPTION_NOT_REQUIRED, 26, server=FORBIDS),
    "encryption forbidden, no list": Wrong(
        21, Diag.ENCRYPTION_NOT_REQUIRED, 26, {"conf_params": APPL_PROTECTED}, client=INTEGRITY, server=INTEGRITY
    ),
    "encryption required": Wrong(22, Diag.ENCRYPTION_REQUIRED, 27, client=INTEGRITY),
    "encryption asked for without list": Wrong(
        22,
        Diag.ENCRYPTION_REQUIRED,
        27,
        {"conf_params": APPL_PROTECTED},
        client=INTEGRITY,
        server=Policy(encryption="allowed"),
    ),
}


def modp_p_minus_1() -> bytes:
    from reference.keys import P_14

    return (P_14 - 1).to_bytes(256, "big")


def mnemonic(group: int, number: int) -> str:
    return events.CATALOGUE["IEC62351-4", group, number].mnemonic


def changer(wrong: Wrong, carrier: Carrier, name: OsiName) -> Any:
    """The function that makes the wrong PDU of the right one."""

    def change(pdu: bytes) -> bytes:
        if wrong.raw is not None:
            return wrong.raw(pdu)
        changes = wrong.changes
        if callable(changes):
            changes = changes(decode(carrier, pdu).token1)
        by = credential(name)
        if wrong.by is not None:
            by = wrong.by(name)
            changes = changes | {"pk_cert": by.certificate}
        return forge(carrier, pdu, by, **changes)

    return change


def with_events(cases: dict[str, Wrong], group: int, answer: int) -> list[Any]:
    """The cases with the events that both sides raise: of the PDU's own group, and of the answer's."""
    return event_record.marked(
        cases, lambda case: (mnemonic(group, cases[case].event), mnemonic(answer, cases[case].answer))
    )


@pytest.mark.parametrize("case", with_events(REQUESTS, 1, 4))
def test_wrong_request(case: str) -> None:
    wrong = REQUESTS[case]
    pair = ConnectionPair(config(CLIENT, policy=wrong.client), config(SERVER, policy=wrong.server))
    if wrong.changes or wrong.by or wrong.raw:
        on_request(pair, changer(wrong, Carrier.ASSOCIATE_REQ, CLIENT))
    pair.client.start(INITIATE)
    pair.move()
    assert pair.server.events == [mnemonic(1, wrong.event)]
    (reject,) = replies(pair, "server")
    assert reject.kind is SecPduKind.HANDSHAKE_SEC_REJECT
    assert reject.diag == wrong.diag
    assert isinstance(pair.server.error, PeerError)
    assert pair.server.error.code == wrong.diag
    assert pair.client.events == [mnemonic(4, wrong.answer)]
    assert isinstance(pair.client.error, Rejected)
    assert pair.client.error.code == wrong.diag
    assert pair.client.association.may_retry == (wrong.diag == Diag.PROTOCOL_ERROR)
    assert pair.endpoints[1].half_open == 0
    severity = events.CATALOGUE["IEC62351-4", 1, wrong.event].severity
    assert (severity == "alarm") == (wrong.diag is None)


def test_every_check_of_a_request_has_a_wrong_peer() -> None:
    own = {"internal", "replay", "revoked"}  # tested apart
    tested = {wrong.event for wrong in REQUESTS.values()}
    assert tested == {number for check, (number, _) in HANDSHAKE_REQ.items() if check not in own} | {5}


@pytest.mark.event("IEC62351-4:1.7", "IEC62351-4:4.11")
def test_revoked_client() -> None:
    bad = credential(OsiName("1.1.1.999.66", 1))
    root = authority("one")
    crl = root.revoke(bad.certificate)
    server = config(SERVER, trust=TrustStore((root.root,), (crl,)))
    pair = ConnectionPair(config(bad.name, credential=bad), server)
    pair.client.start(INITIATE)
    pair.move()
    assert pair.server.events == ["PKCERT_ALARM_ASS_REQ"]
    assert replies(pair, "server")[0].diag is None
    assert pair.client.events == ["ALARM_RCV_ASS_SEC_REJ"]


@pytest.mark.parametrize("calling", [None, STRANGER, SERVER])
def test_calling_address_must_be_there_and_fit(calling: OsiName | None) -> None:
    pair = ConnectionPair()
    pair.calling = calling
    pair.client.start(INITIATE)
    pair.move()
    assert pair.server.events == ["ADDR_MISMATCH_ASS_REQ"]
    assert replies(pair, "server")[0].diag is None


def test_only_listed_peers_are_let_in() -> None:
    pair = ConnectionPair(server=config(SERVER, peers=(STRANGER,)))
    pair.client.start(INITIATE)
    pair.move()
    assert pair.server.events == ["ADDR_MISMATCH_ASS_REQ"]
    pair = ConnectionPair(server=config(SERVER, peers=(STRANGER, CLIENT)))
    pair.open()


def test_a_good_attribute_certificate_is_taken() -> None:
    pair = ConnectionPair()

    def add(pdu: bytes) -> bytes:
        certificate = credential(CLIENT).certificate
        return forge(Carrier.ASSOCIATE_REQ, pdu, credential(CLIENT), att_cert=attribute_certificate(certificate))

    on_request(pair, add)
    pair.client.start(INITIATE)
    pair.move()
    assert not pair.server.events
    assert pair.server.seen(Established)


def test_signature_is_checked_before_signed_fields_are_judged() -> None:
    """A wrong version under a wrong signature is the signature's fault: nobody learns what we would have said."""
    pair = ConnectionPair()
    on_request(
        pair,
        lambda pdu: forge(Carrier.ASSOCIATE_REQ, pdu, credential(CLIENT), version=0, signature=flip_last),
    )
    pair.client.start(INITIATE)
    pair.move()
    assert pair.server.events == ["INV_SIGNATURE_ASS_REQ"]


def test_our_own_failure_says_no_reason_given() -> None:
    """The crypto provider fails while the request is checked: diagnostic 0, no exception, no detail on the wire."""
    pair = ConnectionPair()
    pair.server.hold_jobs = True
    pair.client.start(INITIATE)
    pair.move()
    (job,) = pair.server.jobs
    job._work = lambda: 1 // 0
    pair.server.hold_jobs = False
    pair.server.run_jobs()
    pair.move()
    (reject,) = replies(pair, "server")
    assert reject.diag == Diag.NO_REASON_GIVEN
    assert pair.client.error.code == Diag.NO_REASON_GIVEN


# --- HandshakeAcc, wrong --------------------------------------------------------------------------------------------

ACCEPTANCES = {
    "signature algorithm": Wrong(1, Diag.INVALID_SIGNATURE_ALGORITHM, 12, {"sig_alg": UNKNOWN_SIGNATURE}),
    "algorithm mismatch": Wrong(2, None, 11, {"algo": RSA}),
    "signature": Wrong(3, None, 11, {"signature": flip_last}),
    "unparseable": Wrong(4, Diag.PROTOCOL_ERROR, 13, raw=lambda pdu: pdu[:-1]),
    "other protocol": Wrong(4, Diag.PROTOCOL_ERROR, 13, {"pp": "IEC 61850-8-2"}),
    "n alone": Wrong(4, Diag.PROTOCOL_ERROR, 13, lambda token: {"asso_id": token.asso_id.partition(":")[0]}),
    "not our n": Wrong(
        4, Diag.PROTOCOL_ERROR, 13, lambda token: {"asso_id": f"{(int(token.asso_id.partition(':')[0]) + 1) % 1000}:1"}
    ),
    "point off the curve": Wrong(
        4, Diag.PROTOCOL_ERROR, 13, lambda token: {"dh_key": (DhPublic(23, flip_last(token.dh_key[0].public)),)}
    ),
    "expired": Wrong(5, Diag.INVALID_PUBLIC_KEY_CERTIFICATE, 13, by=expired),
    "unknown authority": Wrong(
        5, Diag.INVALID_CERTIFICATION_PATH, 13, by=lambda name: credential(name, "p256", 0, "two")
    ),
    "attribute certificate": Wrong(5, Diag.INVALID_ATTRIBUTE_CERTIFICATE, 13, {"att_cert": b"\x30\x00"}),
    "certificate signature": Wrong(6, None, 11, by=badly_signed),
    "another identity": Wrong(7, None, 11, by=lambda name: credential(STRANGER)),
    "our own certificate": Wrong(7, None, 11, by=lambda name: credential(CLIENT)),
    "version": Wrong(8, Diag.UNEXPECTED_VERSION, 14, {"version": 3}),
    "clock": Wrong(9, Diag.INVALID_TIME_VALUE, 15, {"time": time_text(UTC - 600_001)}),
    "group not offered": Wrong(
        11,
        Diag.ILLEGAL_DH_GROUP_SELECTED,
        16,
        lambda token: {"dh_key": (DhPublic(28, Ephemeral.generate(28).public),)},
    ),
    "two groups": Wrong(11, Diag.ILLEGAL_DH_GROUP_SELECTED, 16, two_groups),
    "hmac": Wrong(12, Diag.HMAC_ALGORITHM_NOT_SUPPORTED, 17, {"hmac": HMAC_SHA1}),
    "ae not offered": Wrong(
        13, Diag.INVALID_AE_ALGORITHM, 18, {"encr_mode": AeaOffer((algorithm_id(profile.AES128_GCM, 14),))}
    ),
    "ae though not offered at all": Wrong(
        13, Diag.INVALID_AE_ALGORITHM, 18, {"encr_mode": AeaOffer((GCM128,))}, client=NO_AE
    ),
    "two ae": Wrong(14, Diag.SINGLE_AE_ALGORITHM_REQUIRED, 19, acc_two_ae),
    "ae not used": Wrong(15, Diag.AE_NOT_USED, 20, {"encr_mode": NonAeaOffer((CBC,), (HMAC,))}),
    "encryption not offered": Wrong(
        16, Diag.INVALID_ENCRYPTION_ALGORITHM, 21, {"encr_mode": NonAeaOffer((CBC256,), (HMAC,))}, client=CBC_ONLY
    ),
    "two encryption algorithms": Wrong(
        17, Diag.SINGLE_ENCRYPT_ALGO_REQUIRED, 22, {"encr_mode": NonAeaOffer((CBC, CBC256), (HMAC,))}, client=NO_AE
    ),
    "icv not offered": Wrong(
        18,
        Diag.ICV_ALGORITHMS_NOT_SUPPORTED,
        23,
        {"encr_mode": NonAeaOffer((CBC,), (algorithm_id(profile.AES128_GCM, 14),))},
        client=NO_AE,
    ),
    "two icv": Wrong(
        19, Diag.SINGLE_ICV_ALGO_REQUIRED, 24, {"encr_mode": NonAeaOffer((CBC,), (HMAC, GCM128))}, client=NO_AE
    ),
    "encryption unasked": Wrong(
        20,
        Diag.ENCRYPTION_NOT_REQUIRED,
        25,
        {"encr_mode": NonAeaOffer((CBC,), (HMAC,))},
        client=INTEGRITY,
        server=Policy(encryption="allowed"),
    ),
    "encryption missing": Wrong(
        21, Diag.ENCRYPTION_REQUIRED, 25, {"encr_mode": NonAeaOffer(None, (HMAC,))}, client=NO_AE
    ),
}


@pytest.mark.parametrize("case", with_events(ACCEPTANCES, 2, 5))
def test_wrong_acceptance(case: str) -> None:
    wrong = ACCEPTANCES[case]
    pair = ConnectionPair(config(CLIENT, policy=wrong.client), config(SERVER, policy=wrong.server))
    on_response(pair, changer(wrong, Carrier.ASSOCIATE_RSP, SERVER))
    pair.client.start(INITIATE)
    pair.move()
    assert pair.client.events == [mnemonic(2, wrong.event)]
    _, abort = replies(pair, "client")
    assert abort.kind is SecPduKind.HANDSHAKE_SEC_ABORT
    assert abort.diag == wrong.diag
    assert not pair.client.seen(Established)
    assert pair.client.error.code == wrong.diag
    assert pair.server.events == [mnemonic(5, wrong.answer)]
    assert isinstance(pair.server.error, Aborted)
    assert pair.server.error.code == wrong.diag
    severity = events.CATALOGUE["IEC62351-4", 2, wrong.event].severity
    assert (severity == "alarm") == (wrong.diag is None)


def test_every_check_of_an_acceptance_has_a_wrong_peer() -> None:
    own = {"internal", "replay", "revoked"}  # tested apart
    tested = {wrong.event for wrong in ACCEPTANCES.values()}
    assert tested == {number for check, (number, _) in HANDSHAKE_ACC.items() if check not in own} | {4}


@pytest.mark.parametrize("responding", [None, STRANGER])
def test_responding_address_must_be_there_and_equal(responding: OsiName | None) -> None:
    pair = ConnectionPair()
    pair.responding = responding
    pair.client.start(INITIATE)
    pair.move()
    assert pair.client.events == ["ADDR_MISMATCH_ASS_ACC"]
    assert replies(pair, "client")[1].diag is None


def test_revoked_server() -> None:
    bad = credential(OsiName("1.1.1.999.67", 1))
    root = authority("one")
    crl = root.revoke(bad.certificate)
    client = config(CLIENT, trust=TrustStore((root.root,), (crl,)))
    pair = ConnectionPair(client, config(bad.name, credential=bad))
    pair.client.start(INITIATE)
    pair.move()
    assert pair.client.events == ["PKCERT_ALARM_ASS_ACC"]
    assert pair.server.events == ["ALARM_RCV_ASS_SEC_ABT"]


@pytest.mark.event("IEC62351-4:2.10")
def test_replayed_acceptance() -> None:
    """The same server time and numbers again: the alarm of group 2."""
    pair = ConnectionPair().open()
    acceptance = pair.wire[1][1].pdu
    endpoints = pair.endpoints
    n = int(pair.client.association.asso_id.partition(":")[0])
    pair.client.abort(None)
    pair.move()
    again = ConnectionPair(endpoints=endpoints, now=Instant(pair.now.utc_ms + 5, pair.now.mono_ms + 5))
    numbers = endpoints[0].numbers(SERVER.oid)
    numbers._next_n = n
    on_response(again, lambda pdu: acceptance)
    again.client.start(INITIATE)
    again.move()
    assert again.client.events == ["REPLAY_DETEC_ASS_ACC"]
    assert replies(again, "client")[1].diag is None


def test_an_acceptance_for_another_request_is_never_confirmed() -> None:
    """HandshakeAcc signs nothing of the request; that it was altered shows at the first transfer, on both sides."""
    pair = ConnectionPair()
    on_request(pair, lambda pdu: forge(Carrier.ASSOCIATE_REQ, pdu, credential(CLIENT), conf_params=APPL_PROTECTED | 4))
    pair.client.start(INITIATE)
    pair.move()
    assert pair.client.seen(Established)
    pair.client.send(INITIATE)
    pair.move()
    assert pair.server.events == ["ENCR_BAD_ICV"]
    assert not pair.server.received


def test_a_good_acceptance_inside_a_refusal_is_a_protocol_error() -> None:
    pair = ConnectionPair()
    pair.on_wire = lambda who, sent: (
        Send(sent.carrier, sent.pdu, "rejected-permanent") if sent.carrier is Carrier.ASSOCIATE_RSP else sent
    )
    pair.client.start(INITIATE)
    pair.move()
    assert pair.client.events == ["PROTOCOL_ERR_ASS_ACC"]
