"""Anchors and CRLs that are loaded anew reach the associations that are open already (62351-4 §7, re-check)."""

from __future__ import annotations

import dataclasses
import gc

import pytest
from world import PDU, World, pair

from fastsec.aio.endpoints import identity_of
from fastsec.aio.setup import SecuredMaker
from fastsec.errors import HandshakeError
from fastsec.pki.path import TrustStore


def maker(config) -> SecuredMaker:
    return SecuredMaker(config, client=False, peer=None, osi=None, initiate=b"")


@pytest.mark.parametrize("reloads", [1, 3])
def test_a_peer_revoked_by_a_reloaded_crl_is_ended_at_the_next_key_update(run, authority, reloads: int) -> None:
    world = World()

    async def main() -> None:
        async with pair(world, authority) as two:
            await two.opened()
            two.client.assoc.write(PDU)
            await two.server.until(lambda: two.server.pdus == [PDU])
            for _ in range(reloads - 1):  # nothing has changed yet
                two.listener.replace(maker=maker(dataclasses.replace(world.der)))
            crl = world.authority.revoke(world.centre.credential.certificate)
            trust = TrustStore([world.authority.root], [crl])
            two.listener.replace(maker=maker(dataclasses.replace(world.der, trust=trust)))
            two.client.assoc.update_keys()
            await two.ended()
        assert isinstance(two.server.error, HandshakeError)
        assert two.server.error.check == "revoked"

    run(main())


def test_the_same_configuration_again_is_no_circle(world) -> None:
    one, two = maker(world.der), maker(dataclasses.replace(world.der))
    one.take_over(one)
    two.take_over(one)
    one.take_over(two)
    assert identity_of(world.der).endpoint(world.der).fresh_trust is world.der.trust


def test_configurations_that_nobody_uses_are_not_kept(world) -> None:
    last = maker(world.der)
    for _ in range(20):
        newer = maker(dataclasses.replace(world.der))
        newer.take_over(last)
        last = newer
        gc.collect()
    assert len(last._replaced) <= 4
