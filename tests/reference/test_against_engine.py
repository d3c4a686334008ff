"""The engine with the independent peer at the other end: handshake, data, key update, release, aborts, rejects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import engine_pair
from engine_pair import ANSWER, CLIENT, INITIATE, READ, RESPONSE, SERVER
from fastsec.association import (
    AssociateIndication,
    Association,
    Ended,
    Established,
    Output,
    Received,
    Released,
    ReleaseIndication,
    Role,
    Run,
    Send,
)
from fastsec.config import Policy
from fastsec.errors import Aborted, PeerError
from fastsec.instant import Instant
from fastsec.peers import Endpoint
from fastsec.secpdu.fields import Carrier
from reference.peer import ReferencePeer
from reference.secpdu import AES, HMAC_SHA256, NULL
from reference.tlv import Fault
from reference.transfer import Suite

GCM_128, GCM_256 = AES["aes128-GCM"], AES["aes256-GCM"]
HMAC = (HMAC_SHA256, 32)
CASES = [
    (Suite(aea=(GCM_128, 16)), 23, "p256", "p256"),
    (Suite(aea=(GCM_256, 12)), 28, "p256", "rsa2048"),
    (Suite(icv=HMAC), 14, "rsa2048", "p256"),
    (Suite(icv=(GCM_128, 12)), 23, "brainpool", "p256"),
    (Suite(icv=(GCM_256, 16)), 28, "p256", "brainpool"),
    (Suite(encr=AES["aes128-CBC"], icv=HMAC), 23, "p256", "p256"),
    (Suite(encr=AES["aes256-CBC"], icv=(GCM_128, 16)), 14, "p256", "p256"),
]
cases = pytest.mark.parametrize(
    ("suite", "group", "engine_key", "peer_key"), CASES, ids=[f"{case[0].mode}-{case[1]}" for case in CASES]
)


def policy_of(suite: Suite, group: int) -> Policy:
    changes: dict[str, Any] = {"groups": (group,), "accept_groups": (group,)}
    if suite.aea:
        return Policy(encryption="required", ae="required", ae_algorithms=(suite.aea,), **changes)
    assert suite.icv is not None
    changes["icv_algorithms"] = (suite.icv,)
    if suite.encr is None:
        return Policy(encryption="forbidden", ae="forbidden", **changes)
    return Policy(encryption="required", ae="forbidden", encr_algorithms=(suite.encr,), **changes)


class Cross:
    """An engine on one side, the reference on the other; ``outputs`` holds what the engine's adapter got to do."""

    def __init__(
        self, role: Role, suite: Suite = CASES[0][0], group: int = 23, engine_key: str = "p256", peer_key: str = "p256"
    ) -> None:
        self.now = Instant(engine_pair.UTC, 1_000_000)
        is_client = role is Role.CLIENT
        own, other = (CLIENT, SERVER) if is_client else (SERVER, CLIENT)
        config = engine_pair.config(own, key=engine_key, policy=policy_of(suite, group))
        endpoint = Endpoint(config, now=Instant(engine_pair.UTC - 3_600_000, 0))
        self.engine = Association(role, endpoint, peer=other if is_client else None)
        self.other = other
        issued = engine_pair._once(
            ("reference", other, peer_key), lambda: engine_pair.authority().issue_e2e("reference", other, key=peer_key)
        )
        certificate = config.credential.certificate
        self.peer = ReferencePeer(not is_client, issued.certificate, issued.key, suite, group, certificate)
        self.outputs: list[Output] = []

    def later(self, seconds: float) -> None:
        self.now = Instant(self.now.utc_ms + int(seconds * 1000), self.now.mono_ms + int(seconds * 1000))

    def do(self, call: str, *facts: Any, **more: Any) -> list[Output]:
        """One call of the engine; returns its outputs, jobs already run."""
        getattr(self.engine, call)(*facts, self.now, **more)
        new = list(self._drain())
        self.outputs += new
        return new

    def _drain(self) -> Iterator[Output]:
        while found := self.engine.outputs():
            for output in found:
                if isinstance(output, Run):
                    output.job.run()
                    self.engine.job_done(output.job, self.now)
                else:
                    yield output

    def give(self, carrier: Carrier, pdu: bytes | None) -> list[Output]:
        """What the peer sends arrives at the engine."""
        return self.do("receive", carrier, pdu, calling=self.other, responding=self.other, disposition="accepted")

    def sent(self, outputs: list[Output], carrier: Carrier) -> bytes:
        """The one PDU among the outputs."""
        (pdu,) = [output.pdu for output in outputs if isinstance(output, Send) and output.carrier is carrier]
        assert pdu is not None
        return pdu

    def to_engine(self, appl_data: bytes) -> list[bytes]:
        return received(self.give(Carrier.DATA, self.peer.send(appl_data, self.now.utc_ms)))

    def to_peer(self, appl_data: bytes) -> bytes | None:
        pdu = self.sent(self.do("send", appl_data), Carrier.DATA)
        return self.peer.receive(pdu, self.now.utc_ms).appl_data

    def open(self) -> Cross:
        if self.peer.client:
            request = self.peer.start(INITIATE, self.now.utc_ms)
            (indication,) = [o for o in self.give(Carrier.ASSOCIATE_REQ, request) if isinstance(o, AssociateIndication)]
            assert indication.appl_data == INITIATE
            answer = self.sent(self.do("accept", RESPONSE), Carrier.ASSOCIATE_RSP)
            assert self.peer.take_handshake(answer, self.now.utc_ms) == RESPONSE
        else:
            request = self.sent(self.do("start", INITIATE), Carrier.ASSOCIATE_REQ)
            assert self.peer.take_handshake(request, self.now.utc_ms) == INITIATE
            self.give(Carrier.ASSOCIATE_RSP, self.peer.accept(RESPONSE, self.now.utc_ms))
        assert [o for o in self.outputs if isinstance(o, Established)], self.outputs
        assert self.engine.asso_id == self.peer.asso_id
        return self

    @property
    def error(self) -> Any:
        (ended,) = [output for output in self.outputs if isinstance(output, Ended)]
        return ended.error


def received(outputs: list[Output]) -> list[bytes]:
    return [pdu for output in outputs if isinstance(output, Received) for pdu in output.pdus]


roles = pytest.mark.parametrize("role", list(Role), ids=lambda role: f"engine-{role.value}")


@roles
@cases
def test_handshake_and_data(role: Role, suite: Suite, group: int, engine_key: str, peer_key: str) -> None:
    cross = Cross(role, suite, group, engine_key, peer_key).open()
    for _ in range(2):
        for _ in range(3):
            assert cross.to_engine(READ) == [READ]
            assert cross.to_peer(ANSWER) == ANSWER
        cross.later(1)
    assert cross.to_engine(NULL) == []
    large = b"\xa0\x83\x00\xea\x60" + bytes(60_000)
    assert cross.to_engine(large) == [large]
    assert cross.to_peer(large) == large


@cases
def test_key_update_by_the_reference(suite: Suite, group: int, engine_key: str, peer_key: str) -> None:
    cross = Cross(Role.SERVER, suite, group, engine_key, peer_key).open()
    assert cross.to_engine(READ) == [READ]
    for _ in range(3):
        outputs = cross.give(Carrier.DATA, cross.peer.update_keys(cross.now.utc_ms, appl_data=READ))
        assert received(outputs) == [READ]
        answers = [o.pdu for o in outputs if isinstance(o, Send) and o.carrier is Carrier.DATA and o.pdu]
        if not answers:
            answers = [cross.sent(cross.do("send", ANSWER), Carrier.DATA)]
        assert cross.peer.receive(answers[0], cross.now.utc_ms).changed_key
        assert not cross.peer.update_outstanding
        assert cross.to_engine(READ) == [READ]
        assert cross.to_peer(ANSWER) == ANSWER
        cross.later(61)


@cases
def test_key_update_by_the_engine(suite: Suite, group: int, engine_key: str, peer_key: str) -> None:
    cross = Cross(Role.CLIENT, suite, group, engine_key, peer_key).open()
    assert cross.to_engine(ANSWER) == [ANSWER]
    for _ in range(3):
        outputs = cross.do("update_keys")
        carrier = cross.sent(outputs, Carrier.DATA)
        assert cross.peer.receive(carrier, cross.now.utc_ms).rekey is not None
        assert cross.to_peer(READ) == READ  # under the new keys, before the answer
        assert cross.to_engine(ANSWER) == [ANSWER]  # with changedKey
        assert cross.to_engine(ANSWER) == [ANSWER]
        assert cross.to_peer(READ) == READ
        cross.later(61)


def test_the_reference_asks_for_new_keys() -> None:
    cross = Cross(Role.CLIENT).open()
    cross.peer.req_rekey = True
    outputs = cross.give(Carrier.DATA, cross.peer.send(ANSWER, cross.now.utc_ms))
    carrier = cross.sent(outputs, Carrier.DATA)
    assert cross.peer.receive(carrier, cross.now.utc_ms).rekey is not None
    assert not cross.peer.req_rekey
    assert cross.to_engine(ANSWER) == [ANSWER]
    assert cross.to_peer(READ) == READ


def test_a_public_value_of_an_earlier_update() -> None:
    cross = Cross(Role.SERVER).open()
    secret = 0xABCDEF << 64
    outputs = cross.give(Carrier.DATA, cross.peer.update_keys(cross.now.utc_ms, dh_secret=secret))
    cross.peer.receive(cross.sent(outputs, Carrier.DATA), cross.now.utc_ms)
    cross.later(61)
    outputs = cross.give(Carrier.DATA, cross.peer.update_keys(cross.now.utc_ms, dh_secret=secret))
    abort = cross.peer.take_control("ABRT", cross.sent(outputs, Carrier.ABORT), cross.now.utc_ms)
    assert (abort.name, abort.diag) == ("DtSecAbort", 1)


@roles
def test_release_by_the_reference(role: Role) -> None:
    cross = Cross(role).open()
    outputs = cross.give(Carrier.RELEASE_REQ, cross.peer.control("ReleaseReq", cross.now.utc_ms))
    assert [output for output in outputs if isinstance(output, ReleaseIndication)]
    outputs = cross.do("release_accept")
    answer = cross.sent(outputs, Carrier.RELEASE_RSP)
    assert cross.peer.take_control("RLRE", answer, cross.now.utc_ms).name == "ReleaseRsp"
    assert cross.error is None


@roles
def test_release_by_the_engine(role: Role) -> None:
    cross = Cross(role).open()
    request = cross.sent(cross.do("release"), Carrier.RELEASE_REQ)
    assert cross.peer.take_control("RLRQ", request, cross.now.utc_ms).name == "ReleaseReq"
    outputs = cross.give(Carrier.RELEASE_RSP, cross.peer.control("ReleaseRsp", cross.now.utc_ms))
    assert [output for output in outputs if isinstance(output, Released)]
    assert cross.error is None


@roles
@pytest.mark.parametrize(("name", "diag"), [("DtSecAbort", 6), ("DtSecAbort", None), ("ApplAbort", None)])
def test_aborts_by_the_reference(role: Role, name: str, diag: int | None) -> None:
    cross = Cross(role).open()
    outputs = cross.give(Carrier.ABORT, cross.peer.control(name, cross.now.utc_ms, diag))
    assert not [output for output in outputs if isinstance(output, Send)]  # an abort is never answered
    assert isinstance(cross.error, Aborted)
    assert cross.error.code == diag


@roles
def test_abort_by_the_engine(role: Role) -> None:
    cross = Cross(role).open()
    outputs = cross.do("abort", b"\xa4\x03\x80\x01\x01")
    abort = cross.peer.take_control("ABRT", cross.sent(outputs, Carrier.ABORT), cross.now.utc_ms)
    assert (abort.name, abort.appl_data) == ("ApplAbort", b"\xa4\x03\x80\x01\x01")


@roles
@cases
def test_a_damaged_transfer(role: Role, suite: Suite, group: int, engine_key: str, peer_key: str) -> None:
    cross = Cross(role, suite, group, engine_key, peer_key).open()
    octets = cross.peer.send(READ, cross.now.utc_ms)
    outputs = cross.give(Carrier.DATA, octets[:-1] + bytes([octets[-1] ^ 1]))
    assert not received(outputs)
    abort = cross.peer.take_control("ABRT", cross.sent(outputs, Carrier.ABORT), cross.now.utc_ms)
    assert (abort.name, abort.diag) == ("DtSecAbort", None)  # an alarm goes without a diagnostic
    assert isinstance(cross.error, PeerError | Aborted)


def test_reject_by_the_reference() -> None:
    for name, diag in (("HandshakeSecReject", 11), ("HandshakeSecReject", None), ("ApplicationReject", None)):
        cross = Cross(Role.CLIENT)
        cross.peer.take_handshake(cross.sent(cross.do("start", INITIATE), Carrier.ASSOCIATE_REQ), cross.now.utc_ms)
        reject = cross.peer.control(name, cross.now.utc_ms, diag)
        cross.do("receive", Carrier.ASSOCIATE_RSP, reject, responding=cross.other, disposition="rejected-permanent")
        assert isinstance(cross.error, Aborted)
        assert cross.error.code == diag


@pytest.mark.parametrize(
    ("spoil", "diag"),
    [
        ({"pp": "IEC 61850-8-2"}, 2),
        ({"suite": Suite(aea=(GCM_128, 12))}, 15),
        ({"suite": Suite(icv=HMAC)}, 18),
        ({"group": 28}, 11),
    ],
)
def test_requests_that_the_engine_rejects(spoil: dict[str, Any], diag: int) -> None:
    cross = Cross(Role.SERVER)
    peer = cross.peer
    values = {"suite": peer.suite, "group": peer.group, "pp": peer.pp} | spoil
    cross.peer = ReferencePeer(
        True, peer.certificate, peer.key, peer_certificate=peer.peer_certificate, number="17", **values
    )
    outputs = cross.give(Carrier.ASSOCIATE_REQ, cross.peer.start(INITIATE, cross.now.utc_ms))
    reject = cross.peer.take_control("AARE", cross.sent(outputs, Carrier.ASSOCIATE_RSP), cross.now.utc_ms)
    assert (reject.name, reject.diag) == ("HandshakeSecReject", diag)
    assert reject.token["assoID"] == "17"


def test_the_reference_refuses_what_others_signed() -> None:
    """The engine's certificate is pinned in the reference; another one of the same authority does not do."""
    cross = Cross(Role.CLIENT)
    stranger = engine_pair.credential(CLIENT, number=99).certificate
    assert cross.peer.peer_certificate != stranger
    cross.peer.peer_certificate = stranger
    request = cross.sent(cross.do("start", INITIATE), Carrier.ASSOCIATE_REQ)
    with pytest.raises(Fault, match="certificate"):
        cross.peer.take_handshake(request, cross.now.utc_ms)
