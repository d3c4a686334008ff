"""Roles of open associations: tokens that expire or are revoked, issuers too, and what a reload changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine_pair import CLIENT, SERVER, UTC, ConnectionPair, authority, config
from fastsec.association import RolesChanged
from fastsec.pki import builder
from fastsec.pki.attribute import AttributeCertificate
from fastsec.pki.identity import OsiName
from fastsec.pki.path import TrustStore
from fastsec.pki.roles import RoleTrust, UserRoleInfo
from fastsec.state import State
from role_world import (
    GRANT,
    HOUR,
    ISSUED,
    OPERATOR,
    POINTS,
    WEEK,
    attribute_authority,
    authority_certificate,
    believing,
    holding,
    open_with,
    own_crl,
    revoked_authority,
    root,
    token,
    trust_with,
    with_roles,
)


@pytest.mark.event("IEC62351-9:3.8", "IEC62351-8:1.3")
@pytest.mark.parametrize("holder", [CLIENT, SERVER])
def test_roles_end_with_the_token_and_the_association_goes_on(holder: OsiName) -> None:
    own = config(holder, credential=holding(holder, token(holder)))
    judge = config(SERVER if holder == CLIENT else CLIENT, roles=believing())
    pair = ConnectionPair(client=own if holder == CLIENT else judge, server=judge if holder == CLIENT else own)
    pair.open().confirm()
    side = pair.server if holder == CLIENT else pair.client
    pair.elapse(3599)
    assert side.association.roles == (GRANT,)
    assert not side.seen(RolesChanged)
    pair.elapse(3)
    assert side.association.roles == ()
    assert len(side.seen(RolesChanged)) == 1
    assert side.details == ["IEC62351-9:3.8", "IEC62351-8:1.3"]
    assert side.association.state is State.OPEN
    pair.confirm()
    pair.elapse(2 * 86400)
    assert len(side.details) == 2  # told once
    assert side.association.state is State.OPEN


@pytest.mark.event("IEC62351-9:4.1")
def test_roles_end_when_the_token_is_revoked_at_the_next_key_update() -> None:
    pair = open_with(token(CLIENT, extensions=(POINTS,), not_after_ms=UTC + WEEK), None, own_crl())
    assert pair.server.association.roles == (GRANT,)
    pair.endpoints[1].fresh_trust = trust_with(own_crl(77))
    pair.elapse(30)
    assert pair.server.association.roles == (GRANT,)
    pair.client.update_keys()
    pair.move()
    assert pair.server.association.roles == ()
    assert pair.server.details == ["IEC62351-9:4.1"]
    assert pair.server.association.state is State.OPEN


@pytest.mark.event("IEC62351-8:2.5")
def test_roles_end_when_the_issuer_is_revoked() -> None:
    judge = config(SERVER, roles=believing("revoked"), trust=trust_with())
    der = token(CLIENT, by="revoked", not_after_ms=UTC + 20 * HOUR)
    pair = ConnectionPair(config(CLIENT, credential=holding(CLIENT, der)), judge).open().confirm()
    assert pair.server.association.roles == (GRANT,)
    pair.endpoints[1].fresh_trust = trust_with(*revoked_authority())
    pair.client.update_keys()
    pair.move()
    assert pair.server.association.roles == ()
    assert pair.server.details == ["IEC62351-9:3.6", "IEC62351-9:4.1", "IEC62351-8:2.5"]
    assert pair.server.association.state is State.OPEN


def test_who_is_not_believed_any_more_after_a_reload_grants_nothing() -> None:
    pair = open_with(token(CLIENT))
    pair.endpoints[1].fresh_roles = believing("other")
    pair.client.update_keys()
    pair.move()
    assert pair.server.association.roles == ()
    assert pair.server.details == ["IEC62351-9:3.6", "IEC62351-8:2.4"]
    pair = open_with(token(CLIENT))
    pair.endpoints[1].fresh_roles = RoleTrust(required=True)  # a demand on handshakes
    pair.client.update_keys()
    pair.move()
    assert pair.server.association.roles == ()
    assert not pair.server.raised
    assert pair.server.association.state is State.OPEN


def test_an_issued_authority_is_looked_at_again() -> None:
    """By path at the handshake; later its validity, its revocation, and whether the anchor is still one."""
    der = token(CLIENT, by="revoked", not_after_ms=UTC + 20 * HOUR)
    path = [attribute_authority("revoked").certificate]

    def opened() -> ConnectionPair:
        return open_with(der, ISSUED, path=path)

    def updated(pair: ConnectionPair) -> tuple[int, list[str]]:
        pair.client.update_keys()
        pair.move()
        assert pair.server.association.state is State.OPEN
        return len(pair.server.association.roles), pair.server.details

    assert updated(opened()) == (1, [])
    pair = opened()
    pair.endpoints[1].fresh_trust = trust_with(*revoked_authority())
    assert updated(pair) == (0, ["IEC62351-9:3.7", "IEC62351-9:4.1", "IEC62351-8:2.5"])
    pair = opened()
    pair.endpoints[1].fresh_roles = believing("other")
    assert updated(pair) == (0, ["IEC62351-9:3.6", "IEC62351-8:2.4"])


def test_an_issued_authority_whose_anchor_is_one_no_more_or_that_expires() -> None:
    other = authority("two")
    path = [authority_certificate(issuer=other._issuer, key=other._key)]  # lives for an hour
    der = token(CLIENT, not_after_ms=UTC + 20 * HOUR)
    judge = config(SERVER, roles=ISSUED, trust=TrustStore((root().root, other.root), (root().crl, other.crl)))

    def opened() -> ConnectionPair:
        return ConnectionPair(config(CLIENT, credential=holding(CLIENT, der, path)), judge).open().confirm()

    pair = opened()
    assert pair.server.association.roles == (GRANT,)
    pair.endpoints[1].fresh_trust = trust_with()
    pair.client.update_keys()
    pair.move()
    assert pair.server.association.roles == ()
    assert pair.server.details[-1] == "IEC62351-8:2.4"
    assert pair.server.association.state is State.OPEN
    pair = opened()
    pair.elapse(3602)
    assert pair.server.association.roles == ()
    assert pair.server.details[-3:] == ["IEC62351-9:3.7", "IEC62351-9:2.6", "IEC62351-8:2.4"]


def test_a_configured_authority_needs_no_path_and_gets_none_by_a_reload() -> None:
    """A certificate that names an anchor as its issuer is not that anchor's work for that."""
    forged = authority_certificate(key=builder.generate_key("p256"))
    pair = open_with(token(CLIENT), RoleTrust(authorities=(forged,)))
    assert pair.server.association.roles == (GRANT,)
    pair.endpoints[1].fresh_roles = ISSUED
    pair.client.update_keys()
    pair.move()
    assert pair.server.association.roles == ()
    assert pair.server.details == ["IEC62351-9:3.7", "IEC62351-8:2.4"]


def test_the_certificates_roles_stay_when_the_attribute_certificate_ends() -> None:
    by_name = token(CLIENT, [UserRoleInfo((4,))], holder=builder.holder_named(builder.registered_id(CLIENT)))
    own = replace(with_roles(CLIENT, OPERATOR), attribute_certificate=AttributeCertificate(by_name))
    pair = ConnectionPair(config(CLIENT, credential=own), config(SERVER, roles=believing())).open().confirm()
    assert [grant.role for grant in pair.server.association.roles] == [1, 4]
    pair.elapse(3602)
    assert [grant.role for grant in pair.server.association.roles] == [1]


def test_associations_of_one_peer_with_different_tokens_keep_apart() -> None:
    endpoints = None
    pairs = []
    for hours in (1, 3):
        pair = ConnectionPair(
            config(CLIENT, credential=holding(CLIENT, token(CLIENT, not_after_ms=UTC + hours * HOUR))),
            config(SERVER, roles=believing()),
            endpoints=endpoints,
        )
        if endpoints is None:
            endpoints = pair.endpoints
        else:
            pair.endpoints[0].config = replace(
                pair.endpoints[0].config,
                credential=holding(CLIENT, token(CLIENT, not_after_ms=UTC + hours * HOUR)),
            )
        pairs.append(pair.open().confirm())
    for pair in pairs:
        pair.elapse(7200)
    assert pairs[0].server.association.roles == ()
    assert pairs[1].server.association.roles == (GRANT,)
