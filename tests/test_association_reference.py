"""Our association against the independent reference peer, in both roles: handshake, data, key update, release."""

from __future__ import annotations

from typing import Any

import pytest

from engine_pair import ANSWER, CLIENT, INITIATE, READ, RESPONSE, SERVER, ConnectionPair, Side, config, credential
from fastsec import profile
from fastsec.association import Confirmed, Established, Send
from fastsec.config import Policy
from fastsec.pki.identity import OsiName
from fastsec.secpdu.fields import Carrier
from reference.peer import ReferencePeer
from reference.transfer import Suite

GCM128, GCM256, HMAC = profile.AES128_GCM, profile.AES256_GCM, profile.HMAC_SHA256
NO_ENCRYPTION = {"encryption": "forbidden"}
CBC = {"ae": "forbidden"}
MODES: dict[str, tuple[Suite, dict[str, Any]]] = {
    "AE 128/16": (Suite(aea=(GCM128, 16)), {"ae_algorithms": ((GCM128, 16),)}),
    "AE 256/12": (Suite(aea=(GCM256, 12)), {"ae_algorithms": ((GCM256, 12),)}),
    "HMAC": (Suite(icv=(HMAC, 32)), NO_ENCRYPTION | {"icv_algorithms": ((HMAC, 32),)}),
    "GMAC 128/13": (Suite(icv=(GCM128, 13)), NO_ENCRYPTION | {"icv_algorithms": ((GCM128, 13),)}),
    "GMAC 256/16": (Suite(icv=(GCM256, 16)), NO_ENCRYPTION | {"icv_algorithms": ((GCM256, 16),)}),
    "CBC 128 HMAC": (
        Suite(encr=profile.AES128_CBC, icv=(HMAC, 32)),
        CBC | {"encr_algorithms": (profile.AES128_CBC,), "icv_algorithms": ((HMAC, 32),)},
    ),
    "CBC 256 GMAC 256/12": (
        Suite(encr=profile.AES256_CBC, icv=(GCM256, 12)),
        CBC | {"encr_algorithms": (profile.AES256_CBC,), "icv_algorithms": ((GCM256, 12),)},
    ),
}


def reference_key(name: OsiName, key: str) -> Any:
    """The private key of a trial credential, as ``cryptography`` has it."""
    from engine_pair import _made, authority
    from fastsec._core.pk import PrivateKey
    from fastsec.pki.credential import SoftwareSigner, make_credential

    if (name, key, 0, "one", "private") not in _made:
        issued = authority("one").issue_e2e("r", name, key=key)
        own = make_credential(issued.certificate, (), SoftwareSigner(PrivateKey.from_pem(issued.key_pem)))
        _made[name, key, 0, "one"] = own
        _made[name, key, 0, "one", "private"] = issued.key
    return _made[name, key, 0, "one", "private"]


class Half:
    """One of our sides, the other end of the link being the reference."""

    def __init__(self, role: str, mode: str, group: int, ours: str, theirs: str) -> None:
        suite, policy = MODES[mode]
        own_name, other = (CLIENT, SERVER) if role == "client" else (SERVER, CLIENT)
        key = reference_key(other, theirs)
        general = Policy(groups=(group,), accept_groups=(group,), **policy)
        configs = [config(name, key=ours if name is own_name else theirs, policy=general) for name in (CLIENT, SERVER)]
        self.pair = ConnectionPair(*configs)
        self.side: Side = getattr(self.pair, role)
        self.peer = ReferencePeer(
            role == "server",
            credential(other, theirs).certificate,
            key,
            suite,
            group,
            credential(own_name, ours).certificate,
        )

    @property
    def ms(self) -> int:
        return self.pair.now.utc_ms

    def take(self) -> list[Send]:
        sent = [send for _, send in self.pair.link]
        self.pair.link.clear()
        return sent

    def give(self, carrier: Carrier, pdu: bytes, disposition: Any = "") -> None:
        self.pair.deliver(self.side, Send(carrier, pdu, disposition))

    def open(self) -> None:
        if self.side is self.pair.client:
            self.side.start(INITIATE)
            (request,) = self.take()
            assert self.peer.take_handshake(request.pdu, self.ms) == INITIATE
            self.give(Carrier.ASSOCIATE_RSP, self.peer.accept(RESPONSE, self.ms), "accepted")
        else:
            self.give(Carrier.ASSOCIATE_REQ, self.peer.start(INITIATE, self.ms))
            (answer,) = self.take()
            assert self.peer.take_handshake(answer.pdu, self.ms) == RESPONSE
        assert self.side.seen(Established)

    def exchange(self) -> None:
        self.give(Carrier.DATA, self.peer.send(ANSWER, self.ms))
        assert self.side.received.pop() == ANSWER
        self.side.send(READ)
        (sent,) = self.take()
        assert self.peer.receive(sent.pdu, self.ms).appl_data == READ


@pytest.mark.parametrize("group", [14, 23, 28])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("role", ["client", "server"])
def test_handshake_data_key_updates_and_release(role: str, mode: str, group: int) -> None:
    half = Half(role, mode, group, "p256", "p256")
    half.open()
    for _ in range(3):
        half.exchange()
    assert half.side.seen(Confirmed)
    for _ in range(3):
        half.pair.now = type(half.pair.now)(half.ms + 61_000, half.pair.now.mono_ms + 61_000)
        if role == "client":
            half.side.update_keys()
            (carrier,) = half.take()
            assert half.peer.receive(carrier.pdu, half.ms).rekey is not None
        else:
            half.give(Carrier.DATA, half.peer.update_keys(half.ms))
            (answer,) = half.take()
            assert half.peer.receive(answer.pdu, half.ms).changed_key
        for _ in range(3):
            half.exchange()
        assert not half.peer.update_outstanding
    half.side.release()
    (request,) = half.take()
    assert half.peer.take_control("RLRQ", request.pdu, half.ms).name == "ReleaseReq"
    half.give(Carrier.RELEASE_RSP, half.peer.control("ReleaseRsp", half.ms))
    assert half.side.error is None
    assert not half.side.events


@pytest.mark.parametrize("theirs", ["p256", "brainpool", "rsa2048"])
@pytest.mark.parametrize("ours", ["p256", "brainpool", "rsa3072"])
@pytest.mark.parametrize("role", ["client", "server"])
def test_every_pair_of_signatures_and_their_release(role: str, ours: str, theirs: str) -> None:
    half = Half(role, "AE 128/16", 23, ours, theirs)
    half.open()
    half.exchange()
    half.give(Carrier.RELEASE_REQ, half.peer.control("ReleaseReq", half.ms))
    (answer,) = half.take()
    assert half.peer.take_control("RLRE", answer.pdu, half.ms).name == "ReleaseRsp"
    assert half.side.error is None


def test_the_reference_server_asks_for_new_keys() -> None:
    half = Half("client", "AE 128/16", 23, "p256", "p256")
    half.open()
    half.exchange()
    half.peer.req_rekey = True
    half.give(Carrier.DATA, half.peer.send(ANSWER, half.ms))
    (carrier,) = half.take()
    assert half.peer.receive(carrier.pdu, half.ms).rekey is not None
    half.side.received.clear()
    half.exchange()


@pytest.mark.parametrize("role", ["client", "server"])
def test_aborts_of_the_reference(role: str) -> None:
    for name, diag in (("DtSecAbort", 6), ("DtSecAbort", None), ("ApplAbort", None)):
        half = Half(role, "HMAC", 23, "p256", "p256")
        half.open()
        half.exchange()
        half.give(Carrier.ABORT, half.peer.control(name, half.ms, diag))
        assert half.side.error.side == "peer"
        assert half.side.error.code == diag
        assert not half.take()
        half = Half(role, "HMAC", 23, "p256", "p256")
        half.open()
        half.exchange()
        half.side.abort(None)
        (abort,) = half.take()
        assert half.peer.take_control("ABRT", abort.pdu, half.ms).name == "ApplAbort"


def test_rejects_of_the_reference_and_of_ours() -> None:
    half = Half("client", "AE 128/16", 23, "p256", "p256")
    half.side.start(INITIATE)
    (request,) = half.take()
    half.peer.take_handshake(request.pdu, half.ms)
    half.peer.asso_id = half.peer.peer.token["assoID"]
    half.give(Carrier.ASSOCIATE_RSP, half.peer.control("HandshakeSecReject", half.ms, 18), "rejected-permanent")
    assert half.side.error.code == 18
    assert half.side.events == ["AE_IS_REQUIRED_SEC_REJ_DIA"]
    half = Half("server", "AE 128/16", 23, "p256", "p256")
    half.pair.accept = False
    half.give(Carrier.ASSOCIATE_REQ, half.peer.start(INITIATE, half.ms))
    (answer,) = half.take()
    assert half.peer.take_control("AARE", answer.pdu, half.ms).name == "ApplicationReject"
