"""What the formal model found in the implementation: each as a test of the engine that failed before it was mended."""

from __future__ import annotations

import pytest

from engine_pair import ANSWER, CLIENT, INITIATE, READ, SERVER, UTC, ConnectionPair, config
from fastsec import limits, profile
from fastsec._core.pk import Ephemeral
from fastsec.association import Confirmed, Established, Released, ReleaseIndication
from fastsec.config import Policy
from fastsec.errors import DecodeError
from fastsec.instant import Instant
from fastsec.key_update import KeyUpdate, Phase
from fastsec.outputs import Send
from fastsec.peers import Endpoint
from fastsec.pki.identity import OsiName
from fastsec.secpdu.fields import Carrier
from fastsec.secpdu.model import DhPublic

OTHER = OsiName("1.1.1.999.3", 13)
START = Instant(UTC - 3_600_000, 1_000_000)


def same_numbers(octets: int) -> bytes:
    """A source of random numbers that gives every endpoint the same ones: what a patient attacker arranges."""
    return bytes(octets)


def endpoint(name: OsiName) -> Endpoint:
    return Endpoint(config(name), now=START, random=same_numbers)


def test_a_release_of_another_association_of_the_same_peer_does_not_fit() -> None:
    """The server answers the release of one client; that answer must not release another client's association.

    Control PDUs name their association by n:m alone, and tbs has no type tag, so a ReleaseRsp is a ReleaseReq as well.
    """
    server = endpoint(SERVER)
    victim = ConnectionPair(endpoints=(endpoint(CLIENT), server)).open().confirm()
    attacker = ConnectionPair(endpoints=(endpoint(OTHER), server)).open().confirm()
    attacker.now = victim.now = Instant(attacker.now.utc_ms + 1000, attacker.now.mono_ms + 1000)
    attacker.client.release()
    attacker.move()
    assert attacker.client.seen(Released)
    (answer,) = [sent.pdu for who, sent in attacker.wire if who == "server" and sent.carrier is Carrier.RELEASE_RSP]
    assert answer is not None
    victim.deliver(victim.client, Send(Carrier.RELEASE_REQ, answer))
    assert not victim.client.seen(ReleaseIndication)


def test_numbers_are_different_though_the_clients_chose_the_same() -> None:
    server = endpoint(SERVER)
    pairs = [ConnectionPair(endpoints=(endpoint(name), server)).open() for name in (CLIENT, OTHER)]
    numbers = [pair.server.association.asso_id for pair in pairs]
    assert numbers[0].partition(":")[0] == numbers[1].partition(":")[0]
    assert len(set(numbers)) == 2


def test_a_client_refuses_a_pair_of_numbers_that_it_uses_with_another_server() -> None:
    """And may try again: the server has made no mistake."""
    client = endpoint(CLIENT)
    first = ConnectionPair(endpoints=(client, endpoint(SERVER))).open()
    second = ConnectionPair(endpoints=(client, endpoint(OTHER)))
    second.client.start(INITIATE)
    second.move()
    assert not second.client.seen(Established)
    assert second.client.error.limit == "OUR_ASSO_NUMBERS"
    assert second.client.may_retry
    assert second.server.ended
    third = ConnectionPair(endpoints=(client, second.endpoints[1])).open()
    assert third.client.asso_id != first.client.asso_id


def test_a_pair_of_numbers_is_free_again_for_another_peer_after_the_end() -> None:
    server = endpoint(SERVER)
    first = ConnectionPair(endpoints=(endpoint(CLIENT), server)).open()
    number = first.server.association.asso_id
    first.client.abort(None)
    first.move()
    assert first.server.ended
    assert ConnectionPair(endpoints=(endpoint(OTHER), server)).open().server.association.asso_id == number


def test_the_negative_of_a_modp_value_is_refused_too() -> None:
    """(p - v)^y is v^y if y is even: it would bring old keys back, as the mirrored point would on a curve."""
    group = int(profile.Group.MODP_2048)
    v = Ephemeral.generate(group).public
    negative = (profile.MODP_2048_PRIME - int.from_bytes(v, "big")).to_bytes(256, "big")
    gives = {
        own.derive(v).reveal() == own.derive(negative).reveal()
        for own in (Ephemeral.generate(group) for _ in range(40))
    }
    assert gives == {True, False}
    keys = KeyUpdate(
        Policy(), group, own=Ephemeral.generate(group), server_public=b"", used=(v,), h2=bytes(32),
        carrier_timeout=limits.OUR_CARRIER, mono_ms=0,
    )  # fmt: skip
    assert keys.phase is Phase.REST
    with pytest.raises(DecodeError, match="used before"):
        keys.check_rekey(DhPublic(group, negative), 1)
    keys.check_rekey(DhPublic(group, Ephemeral.generate(group).public), 1)


# --- limits that the model shows, played on the engine ----------------------------------------------------------------


def relayed() -> tuple[ConnectionPair, ConnectionPair]:
    """The attacker, a peer of the server's under its own name, hands the server's answer on to the client."""
    client, server = endpoint(CLIENT), endpoint(SERVER)
    attacker = ConnectionPair(endpoints=(endpoint(OTHER), server)).open()
    victim = ConnectionPair(endpoints=(client, server))
    victim.client.start(INITIATE)
    victim.link.clear()
    (answer,) = [sent for who, sent in attacker.wire if sent.carrier is Carrier.ASSOCIATE_RSP]
    victim.deliver(victim.client, answer)
    return victim, attacker


def test_before_confirmation_the_server_may_have_answered_somebody_else() -> None:
    """HandshakeAcc signs nothing of the request; but no transfer of the server's will ever verify."""
    victim, attacker = relayed()
    assert victim.client.seen(Established)
    assert not victim.client.confirmed
    attacker.server.send(ANSWER)
    sent = attacker.wire[-1][1]
    assert sent.carrier is Carrier.DATA
    victim.deliver(victim.client, sent)
    assert not victim.client.received
    assert not victim.client.seen(Confirmed)
    assert victim.client.events == ["ENCR_BAD_ICV"]


def test_a_release_before_confirmation_proves_nothing() -> None:
    """The server's answer to the attacker's release fits, since both associations have the same n:m."""
    victim, attacker = relayed()
    victim.client.send(READ)
    victim.client.release()
    later = Instant(attacker.now.utc_ms + 1000, attacker.now.mono_ms + 1000)
    attacker.now = victim.now = later
    attacker.client.release()
    attacker.move()
    (answer,) = [sent for who, sent in attacker.wire if who == "server" and sent.carrier is Carrier.RELEASE_RSP]
    victim.deliver(victim.client, answer)
    assert victim.client.seen(Released)
    assert not victim.client.confirmed
