"""``[revocation]`` at work in a gateway pair: OCSP and CRLs over HTTP, files that change, reloads."""

from __future__ import annotations

from pathlib import Path

import pytest
from gateway_pair import HEAD, authority, gateways, run, until

from fastsec.errors import FastsecError
from fastsec.gateway import settings
from fastsec.gateway.model import SettingsError
from fastsec.instant import now
from fastsec.pki.credential import load_certificates
from fastsec.pki.revocation import RevocationPolicy
from responders import Http, OpenSsl, pem


@pytest.fixture
def own_pki(tmp_path: Path) -> Path:
    """An authority of this test's own: it revokes."""
    authority(tmp_path / "pki")
    return tmp_path / "pki"


def without_files(text: str) -> str:
    return text.replace('crls = ["root.crl.pem"]', "crls = []")


@pytest.mark.event("IEC62351-9:4.1", "IEC62351-4:1.7")
def test_a_responder_revokes(own_pki: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_pair.HEAD", without_files(HEAD))
    made = authority(own_pki)

    async def test() -> None:
        async with Http().serving() as web:
            responder = web.answers["/ocsp"] = OpenSsl(tmp_path / "ocsp", made)
            (cc,), (der,) = (load_certificates(own_pki / f"{name}.e2e.pem") for name in ("cc", "der"))
            responder.knows(cc)
            responder.knows(der)
            table = f'[revocation]\nocsp = "needed"\nresponders = ["{web.url}/ocsp"]\nhard_fail = true\n'
            async with gateways(own_pki, cc_head=table, der_head=table) as pair:
                await (await pair.client()).release()
                await pair.no_bridges()
                assert len(web.hits) == 2
                assert not pair.records.events()
            responder.knows(cc, "R", "superseded")
            async with gateways(own_pki, cc_head=table, der_head=table) as pair:
                with pytest.raises(FastsecError):
                    await pair.client()
                await until(lambda: "CERT_V_REVOKED" in pair.records.events())
                (fields,) = [found for _, found in pair.records.lines if found.get("mnemonic") == "CERT_V_REVOKED"]
                assert fields["p_CRLReason"] == "superseded"

    run(test())


@pytest.mark.event("IEC62351-9:4.1")
def test_a_list_over_http_ends_what_is_open(own_pki: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_pair.HEAD", without_files(HEAD))
    made = authority(own_pki)

    async def test() -> None:
        async with Http().serving() as web:
            web.answers["/crl"] = lambda _: made.crl
            table = f'[revocation]\nlists = ["{web.url}/crl"]\n'
            async with gateways(own_pki, cc_head=table, der_head=table) as pair:
                services = [gateway._loaded.keeper.service for gateway in (pair.cc, pair.der)]
                await until(lambda: all(service.known.lists() for service in services))
                client = await pair.client()
                await pair.open_bridges(1)
                made.utc_ms = now().utc_ms + 1000
                made.revoke(*load_certificates(own_pki / "cc.e2e.pem"))
                services[1].refresh()
                await client.wait_ended()
                assert "CERT_V_REVOKED" in pair.records.events()
                assert pair.der.reload()  # files, trust stores: what is known stays
                with pytest.raises(FastsecError):
                    await pair.client()

    run(test())


def test_a_file_that_changes_counts_without_a_reload(own_pki: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastsec.gateway.revocation.RevocationService.__init__.__kwdefaults__", {"watch": 0.05})
    made = authority(own_pki)

    async def test() -> None:
        async with gateways(own_pki) as pair:
            client = await pair.client()
            await pair.open_bridges(1)
            made.utc_ms = now().utc_ms + 1000
            made.revoke(*load_certificates(own_pki / "der.e2e.pem"))  # writes the file
            await client.wait_ended()
            assert "CERT_V_REVOKED" in pair.records.events()

    run(test())


def test_a_reload_with_a_damaged_list_changes_nothing(own_pki: Path) -> None:
    async def test() -> None:
        async with gateways(own_pki) as pair:
            good = (own_pki / "root.crl.pem").read_bytes()
            (own_pki / "root.crl.pem").write_bytes(pem("X509 CRL", b"\x30\x03\x02\x01\x01"))
            assert not pair.der.reload()
            assert pair.records.about("not reloaded")
            await (await pair.client()).release()
            (own_pki / "root.crl.pem").write_bytes(good)
            assert pair.der.reload()
            assert not [name for name in pair.records.events() if name.startswith("CERT_V")]

    run(test())


def test_a_dead_responder_holds_nothing_up_for_long(own_pki: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_pair.HEAD", without_files(HEAD))

    async def test() -> None:
        table = '[revocation]\nocsp = "needed"\nresponders = ["http://127.0.0.1:9/"]\ntimeout = "500ms"\n'
        async with gateways(own_pki, cc_head=table, der_head=table) as pair:
            for _ in range(3):
                await (await pair.client()).release()
            assert "CERT_V_R_NR_OCSP" in pair.records.events()

    run(test())


# --- the table --------------------------------------------------------------------------------------------------------
def parsed(lines: str) -> settings.Settings:
    route = '[[route]]\nrole = "server"\nlisten = "127.0.0.1:1"\nconnect = "127.0.0.1:2"\npeers = ["1.1.1.999.1:12"]\n'
    text = HEAD.format(name="der") + f"[revocation]\n{lines}\n{route}"
    return settings.parse(text, Path("x.toml"))


def test_the_table() -> None:
    lines = 'lists = ["http://a/x.crl"]\nhosts = ["*.b", "c:81"]\nocsp = "always"\nresponders = ["http://d:8080/o?p"]\n'
    lines += 'nonce = "required"\ncert_id = "sha256"\ntimeout = "2s"\nhard_fail = true\nunknown = "refuse"'
    assert parsed(lines).revocation == RevocationPolicy(
        lists=("http://a/x.crl",),
        hosts=("*.b", "c:81"),
        ocsp="always",
        responders=("http://d:8080/o?p",),
        nonce="required",
        cert_id="sha256",
        timeout=2.0,
        hard_fail=True,
        unknown="refuse",
    )
    assert parsed("").revocation == RevocationPolicy()


@pytest.mark.parametrize(
    "lines",
    [
        'lists = ["https://a/"]', 'lists = ["ftp://a/"]', 'lists = ["http://u:p@a/"]', 'lists = ["http:///x"]',
        'lists = ["http://a:99999/"]', 'lists = ["http://a/ b"]', 'hosts = ["http://a"]', 'hosts = ["a/b"]',
        'hosts = ["a:0"]', 'hosts = ["a:b"]', 'hosts = ["**"]', 'timeout = "60s"', 'ocsp = "yes"', "hard_fail = 1",
    ],
)  # fmt: skip
def test_mistakes_have_their_line(lines: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parsed(lines)
    assert [problem.line for problem in caught.value.problems] == [10]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('ocsp = "needed"', "nobody can be asked"),
        ('responders = ["http://a/"]', "not asked"),
        ('hosts = ["*"]', "open a connection there"),
    ],
)
def test_doubts(lines: str, words: str) -> None:
    assert any(words in str(problem) and problem.line == 10 for problem in parsed(lines).warnings)
