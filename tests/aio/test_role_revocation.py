"""Revocation of attribute certificates by responders and distribution points on loopback (62351-9 §3, §4)."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from cryptography.x509 import ocsp
from revocation_world import HOUR, Http, Pki, policy
from world import CENTRE, DER, PDU, Recorder, pair

from fastsec.aio.revocation import RevocationService
from fastsec.errors import Rejected
from fastsec.instant import now
from fastsec.pki import builder, oids
from fastsec.pki.attribute import AttributeCertificate
from fastsec.pki.certificate import Certificate
from fastsec.pki.ocsp import cert_id
from fastsec.pki.roles import RoleTrust, UserRoleInfo, write_user_roles
from fastsec.pki.trial_roles import TrialAttributeAuthority
from ocsp_forge import UNKNOWN, revoked

SERIAL = 4711


class World:
    """Who has roles (the centre), and who judges them (the device)."""

    def __init__(self) -> None:
        self.pki = Pki()
        self.authority = TrialAttributeAuthority.create(self.pki.authority, "aa")
        self.certificate = Certificate(self.authority.certificate)
        self.answers_of = Pki.__new__(Pki)  # a responder of the attribute authority
        self.answers_of.authority = self.pki.authority
        self.answers_of.issuer = self.certificate

    def answers(self, **how: Any) -> Any:
        return self.answers_of.answers(key=self.authority._key, **how)

    def configs(self, service: RevocationService, *extensions: builder.Extension) -> tuple[dict[str, Any], list[str]]:
        """Both configurations, and the events of the one that judges."""
        centre, _ = self.pki.config(CENTRE)
        roles = RoleTrust(authorities=(self.authority.certificate,))
        der, events = self.pki.config(DER, service, roles=roles)
        token = builder.attribute_certificate(
            serial=SERIAL,
            holder=builder.holder_of(Certificate(centre.credential.certificate)),
            issuer=self.certificate.subject,
            not_before_ms=now().utc_ms - HOUR,
            not_after_ms=now().utc_ms + 100 * HOUR,
            attributes=((oids.IEC_USER_ROLES, write_user_roles([UserRoleInfo((1,))])),),
            extensions=extensions,
            key=self.authority._key,
        )
        credential = dataclasses.replace(centre.credential, attribute_certificate=AttributeCertificate(token))
        configs = {"client_config": dataclasses.replace(centre, credential=credential), "server_config": der}
        return configs, events


def about_the_token(events: list[str]) -> list[str]:
    """Without what is said of the public-key certificates, which nobody has a list of here."""
    return [event for event in events if event not in ("IEC62351-9:4.2", "IEC62351-9:2.27", "IEC62351-9:2.26")]


async def roles_after_the_handshake(configs: dict[str, Any]) -> list[int]:
    async with pair(None, None, **configs) as two:
        await two.opened()
        two.client.assoc.write(PDU)
        await two.server.wait("confirmed")
        return [grant.role for grant in two.server.assoc.roles]


async def refused(configs: dict[str, Any]) -> None:
    async with pair(None, None, **configs) as two:
        with pytest.raises(Rejected) as caught:
            await two.opened()
        assert caught.value.code == 16


def test_a_responder_says_good(run) -> None:
    async def main() -> None:
        world = World()
        async with Http().serving() as web:
            web.answers["/ocsp"] = world.answers()
            with RevocationService(policy()) as service:
                configs, events = world.configs(service, builder.authority_info_access(f"{web.url}/ocsp"))
                assert await roles_after_the_handshake(configs) == [1]
                assert web.hits == ["/ocsp"]
                assert about_the_token(events) == []
                assert await roles_after_the_handshake(configs) == [1]
                assert web.hits == ["/ocsp"]  # the answer is kept

    run(main())


@pytest.mark.event("IEC62351-9:4.1")
def test_a_responder_says_revoked(run) -> None:
    async def main() -> None:
        world = World()
        async with Http().serving() as web:
            web.answers["/ocsp"] = world.answers(status=revoked(now().utc_ms - HOUR, 9))
            with RevocationService(policy()) as service:
                configs, events = world.configs(service, builder.authority_info_access(f"{web.url}/ocsp"))
                await refused(configs)
                assert about_the_token(events) == ["IEC62351-9:4.1", "IEC62351-4:1.6"]

    run(main())


@pytest.mark.event("IEC62351-9:4.7")
@pytest.mark.parametrize("unknown", ["warn", "refuse"])
def test_a_responder_does_not_know(run, unknown: str) -> None:
    async def main() -> None:
        world = World()
        async with Http().serving() as web:
            web.answers["/ocsp"] = world.answers(status=UNKNOWN)
            with RevocationService(policy(unknown=unknown)) as service:
                configs, events = world.configs(service, builder.authority_info_access(f"{web.url}/ocsp"))
                if unknown == "warn":
                    assert await roles_after_the_handshake(configs) == [1]
                    assert about_the_token(events) == ["IEC62351-9:4.7"]
                else:
                    await refused(configs)
                    assert about_the_token(events) == ["IEC62351-9:4.7", "IEC62351-4:1.6"]

    run(main())


class Noting(Recorder):
    """Notes that roles have changed."""

    def roles_changed(self, assoc) -> None:
        self.note("roles_changed", assoc)


@pytest.mark.event("IEC62351-9:4.1")
def test_a_new_list_takes_the_roles_and_leaves_the_association(run) -> None:
    async def main() -> None:
        world = World()
        async with Http().serving() as web:
            web.answers["/aa.crl"] = lambda _: world.authority.crl
            with RevocationService(policy(ocsp="off")) as service:
                configs, events = world.configs(service, builder.crl_distribution_points(f"{web.url}/aa.crl"))
                async with pair(None, None, server=Noting(), **configs) as two:
                    await two.opened()
                    two.client.assoc.write(PDU)
                    await two.server.wait("confirmed")
                    assert [grant.role for grant in two.server.assoc.roles] == [1]
                    assert web.hits == ["/aa.crl"]
                    assert about_the_token(events) == []
                    world.authority.utc_ms = now().utc_ms + 1000
                    world.authority.revoke(SERIAL)
                    service.refresh()
                    await two.server.wait("roles_changed")
                    assert two.server.assoc.roles == ()
                    assert about_the_token(events) == ["IEC62351-9:4.1"]
                    two.client.assoc.write(PDU)
                    await two.server.until(lambda: len(two.server.pdus) == 2)

    run(main(), seconds=60)


@pytest.mark.parametrize("revoked_issuer", [False, pytest.param(True, marks=pytest.mark.event("IEC62351-8:2.5"))])
def test_with_hard_fail_the_issuers_responder_is_asked_too(run, revoked_issuer: bool) -> None:
    """Three questions: about the peer, its attribute authority, and the token. Nobody has a list."""

    async def main() -> None:
        world = World()
        asked: list[str] = []
        status = {"status": revoked(now().utc_ms - HOUR, 10)} if revoked_issuer else {}

        def answer(request: bytes) -> bytes:
            seen = ocsp.load_der_ocsp_request(request)
            own = cert_id(b"\0", world.certificate, seen.hash_algorithm.name)
            if seen.issuer_key_hash == own.key_hash:
                asked.append("token")
                return world.answers()(request)
            issuer = seen.serial_number == int.from_bytes(world.certificate.serial, "big")
            asked.append("issuer" if issuer else "peer")
            return world.pki.answers(**(status if issuer else {}))(request)

        async with Http().serving() as web:
            web.answers["/ocsp"] = answer
            strict = policy(hard_fail=True, hosts=(), responders=(f"{web.url}/ocsp",))
            with RevocationService(strict) as service:
                configs, events = world.configs(service, builder.authority_info_access(f"{web.url}/ocsp"))
                if revoked_issuer:
                    await refused(configs)
                    assert about_the_token(events) == [
                        "IEC62351-9:3.6", "IEC62351-9:4.1", "IEC62351-8:2.5", "IEC62351-4:1.6",
                    ]  # fmt: skip
                else:
                    assert await roles_after_the_handshake(configs) == [1]
                    assert about_the_token(events) == []
                    assert sorted(asked) == ["issuer", "peer", "token"]

    run(main())
