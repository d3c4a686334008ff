"""``[roles]``: tokens of a pair of gateways, files that cannot be used, and the own token renewed while it runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from gateway_pair import CC, authority, confirmed, gateways, run

from fastsec.cli.pki import main
from fastsec.errors import Rejected
from fastsec.gateway import material, roles, settings
from fastsec.gateway.model import SettingsError
from fastsec.pki.attribute import AttributeCertificate
from fastsec.pki.credential import load_attribute_certificate


@pytest.fixture
def own_pki(tmp_path: Path) -> Path:
    """A trial authority of its own, with the attribute authority ``ops`` and a token of cc."""
    pki = tmp_path / "pki"
    authority(pki)
    assert main(["init-roles", str(pki), "ops"]) == 0
    issue(pki, "OPERATOR")
    return pki


def issue(pki: Path, role: str, *more: str) -> AttributeCertificate:
    """A new token of cc."""
    assert main(["issue-roles", str(pki), "ops", "cc", "--role", role, *more]) == 0
    return load_attribute_certificate(pki / "cc.roles.pem")[0]


BELIEVES = '[roles]\nauthorities = ["ops.aa.pem"]\nrequired = true\ncertificates = false\n'
HOLDS = '[roles]\ntoken = "cc.roles.pem"\n'


def roles_of(pair: Any) -> list[list[int]]:
    """The roles of the far peers of the gateway next to the device."""
    return [
        [grant.role for grant in end.connection.roles]
        for bridge in pair.der_route.bridges
        for end in (bridge.incoming, bridge.outgoing)
        if end is not None and end.side == "secured" and end.connection is not None
    ]


def test_the_token_of_one_gateway_is_believed_by_the_other(own_pki: Path) -> None:
    async def test() -> None:
        async with gateways(own_pki, cc_head=HOLDS, der_head=BELIEVES) as pair:
            client = await pair.client()
            await pair.open_bridges(1)
            await client.send(confirmed(1))
            await client.recv()
            assert roles_of(pair) == [[1]]
            issue(own_pki, "ENGINEER")
            watch = roles.Watch(own_pki / "cc.roles.pem", pair.cc._token, pair.cc.reload, pair.cc.log)
            await watch.look()
            assert pair.records.about("the role token was replaced")
            await watch.look()
            assert len(pair.records.about("reloaded for new associations")) == 1
            after = await pair.client()
            await pair.open_bridges(2)
            await after.send(confirmed(2))
            await after.recv()
            assert sorted(roles_of(pair)) == [[1], [2]]
            await client.release()
            await after.release()
            await pair.no_bridges()

    run(test())


@pytest.mark.event("IEC62351-9:4.1")
def test_a_token_that_is_revoked(own_pki: Path) -> None:
    trust = 'crls = ["root.crl.pem"]\n'
    assert main(["revoke-roles", str(own_pki), "ops", "cc"]) == 0

    async def test() -> None:
        crls = "[revocation]\nhosts = []\n"
        async with gateways(own_pki, cc_head=HOLDS, der_head=BELIEVES + crls) as pair:
            await (await pair.client()).release()  # the gateway has not been told of the list
        from gateway_pair import HEAD

        assert trust in HEAD
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gateway_pair.HEAD", HEAD.replace(trust, 'crls = ["root.crl.pem", "ops.aa.crl.pem"]\n'))
            async with gateways(own_pki, cc_head=HOLDS, der_head=BELIEVES) as pair:
                with pytest.raises(Rejected):
                    await pair.client()
                assert "CERT_V_REVOKED" in pair.records.events()

    run(test())


def test_no_token_where_one_is_required(own_pki: Path) -> None:
    async def test() -> None:
        async with gateways(own_pki, der_head=BELIEVES) as pair:
            with pytest.raises(Rejected):
                await pair.client()
            assert pair.records.about("attribute certificate is not acceptable")

    run(test())


# --- files ------------------------------------------------------------------------------------------------------------

FILE = (
    '[identity]\ncertificate = "cc.e2e.pem"\nkey = "cc.e2e.key"\n[trust]\nanchors = ["root.pem"]\n{}\n'
    '[[route]]\nrole = "server"\nlisten = "127.0.0.1:3782"\nconnect = "127.0.0.1:102"\npeers = ["1.1.1.999.1:9"]\n'
)


def load(pki: Path, table: str) -> material.Material:
    parsed = settings.parse(FILE.format(table), pki / "gateway.toml")
    return material.load(parsed, lambda route: lambda event: None)


def test_what_the_table_says_reaches_the_configuration(own_pki: Path) -> None:
    loaded = load(
        own_pki,
        '[roles]\ntoken = "cc.roles.pem"\nauthorities = ["ops.aa.pem"]\nissued_authorities = true\nrequired = true\n'
        'areas = ["North"]\ncertificates = false',
    )
    (config,) = loaded.configs
    assert config.credential.name == CC
    assert config.credential.attribute_certificate == load_attribute_certificate(own_pki / "cc.roles.pem")[0]
    assert config.roles.issued_authorities
    assert config.roles.required
    assert not config.roles.certificates
    assert config.roles.areas == ("North",)
    assert len(config.roles.authorities) == 1
    assert any(expiry.what == "an attribute authority's certificate" for expiry in loaded.expiries)
    (usual,) = load(own_pki, "").configs
    assert usual.credential.attribute_certificate is None
    assert usual.roles.certificates
    assert not usual.roles.attribute_certificates


@pytest.mark.parametrize(
    ("table", "line", "words"),
    [
        ('[roles]\ntoken = "nothing.pem"', 7, "No such file"),
        ('[roles]\ntoken = "cc.e2e.pem"', 7, "malformed"),
        ('[roles]\ntoken = "der.roles.pem"', 7, "not for the holder"),
        ('[roles]\nauthorities = ["ops.aa.pem", "nothing.pem"]', 7, "No such file"),
        ('[roles]\nauthorities = ["root.pem"]', 7, "must not be an authority for certificates too"),
        ("[roles]\ncertificates = false\nrequired = true", 8, "no token counts"),
        ('[roles]\nareas = ["' + "a" * 65 + '"]', 7, "at most 64"),
        ("[roles]\nrole = 1", 7, "no key 'role'"),
    ],
)
def test_what_cannot_be_used_is_told_with_its_line(own_pki: Path, table: str, line: int, words: str) -> None:
    assert main(["issue-roles", str(own_pki), "ops", "der", "--role", "VIEWER"]) == 0
    with pytest.raises(SettingsError) as caught:
        load(own_pki, table)
    assert f"line {line}" in str(caught.value)
    assert words in str(caught.value)


# --- renewal ----------------------------------------------------------------------------------------------------------


class Log:
    """What was told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def __getattr__(self, level: str) -> Any:
        return lambda text, **fields: self.lines.append((level, text))


def test_a_token_that_runs_out_is_told_once_before_and_once_after(own_pki: Path) -> None:
    token = issue(own_pki, "VIEWER", "--hours", "4")
    log = Log()
    watch = roles.Watch(own_pki / "cc.roles.pem", lambda: token, lambda: None, log)  # type: ignore[arg-type]
    ends = token.not_after_ms / 1000
    for before in (3 * 3600, 1.2 * 3600, 3600, 1800, -5, -600):
        watch.tell(ends - before)
    assert [level for level, _ in log.lines] == ["warning", "error"]
    assert "expires in" in log.lines[0][1]
    assert "not sent any more" in log.lines[1][1]


def test_a_token_replaced_by_garbage_is_told_and_the_old_one_stays(own_pki: Path) -> None:
    token = load_attribute_certificate(own_pki / "cc.roles.pem")[0]
    log, reloads = Log(), []
    path = own_pki / "cc.roles.pem"
    watch = roles.Watch(path, lambda: token, lambda: reloads.append(1), log)  # type: ignore[arg-type, func-returns-value]

    async def test() -> None:
        await watch.look()
        assert not log.lines
        path.write_text("nothing")
        await watch.look()
        await watch.look()
        assert [level for level, _ in log.lines] == ["error"]
        path.unlink()
        await watch.look()
        issue(own_pki, "VIEWER")
        await watch.look()

    run(test())
    assert len(reloads) == 1
    assert os.fspath(path) in log.lines[0][1]
