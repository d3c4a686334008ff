"""Roles over real sockets: who has which, from when to when; refused handshakes; a reload while it is open."""

from __future__ import annotations

import dataclasses

import pytest
from world import PDU, Recorder, World, pair

from fastsec.aio.setup import SecuredMaker
from fastsec.errors import Rejected
from fastsec.pki.attribute import AttributeCertificate
from fastsec.pki.roles import RoleTrust, UserRoleInfo
from fastsec.pki.trial_roles import TrialAttributeAuthority

OPERATOR = (UserRoleInfo((1,)),)


class Noting(Recorder):
    """Notes also the roles it sees at each step."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, list[int]]] = []

    def note(self, name: str, assoc) -> None:
        if name in ("association_requested", "associated", "confirmed", "roles_changed", "ended"):
            self.seen.append((name, [grant.role for grant in assoc.roles]))
        super().note(name, assoc)

    def roles_changed(self, assoc) -> None:
        self.note("roles_changed", assoc)


def with_token(config, authority: TrialAttributeAuthority, roles=OPERATOR):
    token = AttributeCertificate(authority.issue(config.credential.certificate, roles))
    return dataclasses.replace(config, credential=dataclasses.replace(config.credential, attribute_certificate=token))


@pytest.fixture
def made() -> tuple[World, TrialAttributeAuthority]:
    world = World()
    return world, TrialAttributeAuthority.create(world.authority, "aa")


@pytest.mark.parametrize("dials", ["client", "server"])
@pytest.mark.parametrize("kind", ["secured", "secured-tls"])
def test_both_sides_have_the_others_roles_between_confirmation_and_end(run, authority, made, kind, dials) -> None:
    world, aa = made
    believing = RoleTrust(authorities=(aa.certificate,))
    centre = dataclasses.replace(with_token(world.centre, aa), roles=believing)
    der = dataclasses.replace(with_token(world.der, aa, (UserRoleInfo((0, 5)),)), roles=believing)

    async def main() -> None:
        two = pair(
            world, authority, kind, dials, client=Noting(), server=Noting(), client_config=centre, server_config=der
        )
        async with two as ends:
            await ends.opened()
            ends.client.assoc.write(PDU)
            await ends.server.wait("confirmed")
            ends.server.assoc.write(PDU)
            await ends.client.wait("confirmed")
            ends.client.assoc.release()
            await ends.ended()
        assert ends.server.seen == [
            ("association_requested", []),
            ("associated", []),
            ("confirmed", [1]),
            ("ended", []),
        ]
        assert ends.client.seen == [("associated", []), ("confirmed", [0, 5]), ("ended", [])]
        assert ends.client.assoc.roles == ()

    run(main())


def test_a_reload_reaches_open_associations_and_the_handler_is_told(run, authority, made) -> None:
    world, aa = made
    centre = with_token(world.centre, aa)
    der = dataclasses.replace(world.der, roles=RoleTrust(authorities=(aa.certificate,)))

    async def main() -> None:
        async with pair(world, authority, server=Noting(), client_config=centre, server_config=der) as two:
            await two.opened()
            two.client.assoc.write(PDU)
            await two.server.wait("confirmed")
            assert [grant.role for grant in two.server.assoc.roles] == [1]
            other = dataclasses.replace(der, roles=RoleTrust())
            two.listener.replace(maker=SecuredMaker(other, client=False, peer=None, osi=None, initiate=b""))
            two.client.assoc.update_keys()
            await two.server.wait("roles_changed")
            assert two.server.assoc.roles == ()
            two.client.assoc.write(PDU)  # the association goes on
            await two.server.until(lambda: len(two.server.pdus) == 2)
        assert ("roles_changed", []) in two.server.seen

    run(main())


@pytest.mark.event("IEC62351-8:1.2")
def test_a_peer_without_the_token_that_is_required(run, authority, made) -> None:
    world, aa = made
    der, noted = world.events(world.der)
    der = dataclasses.replace(der, roles=RoleTrust(authorities=(aa.certificate,), certificates=False, required=True))

    async def main() -> None:
        with pytest.raises(Rejected) as caught:
            async with pair(world, authority, server_config=der) as two:
                await two.opened()
        assert caught.value.code == 16
        assert noted == ["AT_NOT_AVAIL", "PKCERT_ERROR_ASS_REQ"]
        async with pair(world, authority, client_config=with_token(world.centre, aa), server_config=der) as two:
            await two.opened()

    run(main())


@pytest.mark.event("IEC62351-8:2.1", "IEC62351-9:3.4")
def test_a_token_of_somebody_else(run, authority, made) -> None:
    """Taken from another peer and sent as one's own."""
    world, aa = made
    stolen = with_token(world.der, aa).credential.attribute_certificate
    credential = dataclasses.replace(world.centre.credential, attribute_certificate=stolen)
    thief = dataclasses.replace(world.centre, credential=credential)
    der, noted = world.events(dataclasses.replace(world.der, roles=RoleTrust(authorities=(aa.certificate,))))

    async def main() -> None:
        with pytest.raises(Rejected) as caught:
            async with pair(world, authority, client_config=thief, server_config=der) as two:
                await two.opened()
        assert caught.value.code == 16
        assert noted == ["CERT_V_AC_HOLDER_PK", "AT_SUB_AUTH_FAIL", "PKCERT_ERROR_ASS_REQ"]

    run(main())


def test_without_security_nobody_has_roles(run, authority, world) -> None:
    async def main() -> None:
        async with pair(world, authority, "plain") as two:
            await two.opened()
            assert two.client.assoc.roles == two.server.assoc.roles == ()

    run(main())
