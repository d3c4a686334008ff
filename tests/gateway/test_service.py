"""The service: reloading without dropping anything, draining, signals, replay memory over a restart, expiry."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_pair import (
    CC,
    DER,
    HEAD,
    INITIATE_REQUEST,
    INITIATE_RESPONSE,
    answer_to,
    authority,
    confirmed,
    free_port,
    gateways,
    plain,
    run,
    until,
)

from fastsec.aio.client import plain_connect
from fastsec.aio.server import plain_serve
from fastsec.aio.stream import AssociationStream, streams
from fastsec.errors import ConfigError, Rejected
from fastsec.gateway import material, service, settings
from fastsec.gateway.material import DAY, Expiry
from fastsec.gateway.model import SettingsError
from fastsec.pki.credential import load_credential
from fastsec.pki.trial import TrialAuthority


@pytest.fixture
def own_pki(tmp_path: Path) -> Path:
    """A directory of its own, for tests that change certificates."""
    authority(tmp_path / "pki")
    return tmp_path / "pki"


def reissue(pki: Path, name: str) -> None:
    """Another key and certificate in the files of ``name``."""
    for suffix in ("pem", "key"):
        (pki / f"{name}.e2e.{suffix}").unlink()
    osi = {"cc": CC, "der": DER}[name]
    TrialAuthority.open(pki, time.time_ns() // 1_000_000).issue_e2e(name, osi)


# --- reload -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("reverse", [False, True], ids=["cc-dials", "der-dials"])
@pytest.mark.parametrize("name", ["cc", "der"])
def test_reload_takes_new_certificates_and_keeps_associations(own_pki: Path, name: str, reverse: bool) -> None:
    async def test() -> None:
        async with gateways(own_pki, reverse=reverse) as pair:
            before = await pair.client()
            await pair.open_bridges(1)
            old = load_credential(own_pki / f"{name}.e2e.pem", own_pki / f"{name}.e2e.key").certificate
            reissue(own_pki, name)
            assert (pair.cc if name == "cc" else pair.der).reload()
            assert pair.records.about("reloaded for new associations")
            after = await pair.client()
            await pair.open_bridges(2)
            for client in (before, after):
                await client.send(confirmed(3))
                assert await client.recv() == answer_to(confirmed(3))
            runner = pair.der_route if name == "cc" else pair.cc_route
            seen = []
            for bridge in runner.bridges:
                for end in (bridge.incoming, bridge.outgoing):
                    if end is not None and end.side == "secured" and end.connection is not None and bridge.both_open:
                        assert end.connection.peer is not None
                        seen.append(end.connection.peer.certificate.der)
            assert len(set(seen)) == 2
            assert old in seen
            await before.release()
            await after.release()
            await pair.no_bridges()

    run(test())


def test_reload_of_a_crl_shuts_out_the_revoked(own_pki: Path) -> None:
    async def test() -> None:
        async with gateways(own_pki) as pair:
            await (await pair.client()).release()
            TrialAuthority.open(own_pki, time.time_ns() // 1_000_000).revoke_name("cc")
            await (await pair.client()).release()  # the old CRL still counts
            assert pair.der.reload()
            with pytest.raises(Rejected):
                await pair.client()
            assert pair.records.about("has been revoked")

    run(test())


@pytest.mark.parametrize("damage", ["missing", "garbage", "other identity", "wrong key"])
def test_a_reload_that_fails_changes_nothing(own_pki: Path, damage: str) -> None:
    async def test() -> None:
        async with gateways(own_pki) as pair:
            certificate, key = own_pki / "der.e2e.pem", own_pki / "der.e2e.key"
            if damage == "missing":
                certificate.unlink()
            elif damage == "garbage":
                certificate.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
            elif damage == "wrong key":
                shutil.copy(own_pki / "other.e2e.key", key)
            else:
                shutil.copy(own_pki / "other.e2e.pem", certificate)
                shutil.copy(own_pki / "other.e2e.key", key)
            assert not pair.der.reload()
            assert pair.records.about("not reloaded, going on with what was loaded before")
            await (await pair.client()).release()

    run(test())


def test_what_could_not_be_checked_about_the_peer_is_told_once_a_day(own_pki: Path) -> None:
    async def test() -> None:
        async with gateways(own_pki) as pair:
            for _ in range(2):
                await (await pair.client()).release()
            await pair.no_bridges()
            assert not [fields for _, fields in pair.records.lines if str(fields.get("mnemonic")).startswith("CERT_V")]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gateway_pair.HEAD", HEAD.replace('crls = ["root.crl.pem"]', "crls = []"))
            async with gateways(own_pki) as pair:
                for _ in range(2):
                    await (await pair.client()).release()
                await pair.no_bridges()
                told = [fields for _, fields in pair.records.lines if fields.get("mnemonic") == "CERT_V_R_NR_CRL"]
                assert len(told) == 2, pair.records  # by each side
                assert {fields["peer"] for fields in told} == {str(CC), str(DER)}

    run(test())


# --- drain ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("which", ["cc", "der"])
def test_drain_releases_what_is_open(pki: Path, which: str) -> None:
    async def test() -> None:
        async with gateways(pki) as pair:
            clients = [await pair.client() for _ in range(3)]
            await pair.open_bridges(3)
            await (pair.cc if which == "cc" else pair.der).stop(5.0)
            for client in clients:
                assert await client.wait_ended() is None
            for server in pair.served:
                assert await server.wait_ended() is None
            await pair.no_bridges()
            assert not pair.records.about("not released in time")

    run(test())


def test_drain_ends_what_does_not_release(pki: Path) -> None:
    async def test() -> None:
        async def deaf(stream: AssociationStream) -> None:
            stream.connection.pause_reading()
            await asyncio.sleep(30)

        async with gateways(pki, serve=deaf) as pair:
            client = await pair.client()
            await pair.open_bridges(1)
            await until(lambda: bool(pair.served))
            await pair.der.stop(0.3)
            assert pair.records.about("associations not released in time: 1")
            assert not pair.der_route.bridges
            await client.wait_ended()

    run(test())


@pytest.mark.parametrize("tls", [False, True], ids=["notls", "tls"])
def test_drain_does_not_wait_for_what_is_no_association_yet(pki: Path, tls: bool) -> None:
    async def test() -> None:
        async with gateways(pki, tls=tls) as pair:
            client = await pair.client()
            await pair.open_bridges(1)
            near = await asyncio.open_connection("127.0.0.1", pair.near)
            far = await asyncio.open_connection("127.0.0.1", pair.der_route.addresses[0][1])
            await until(lambda: len(pair.cc_route.bridges) == 2 and len(pair.der_route.bridges) == 2)
            await asyncio.gather(pair.cc.stop(4.0), pair.der.stop(4.0))
            assert await client.wait_ended() is None
            assert not pair.records.about("not released in time")
            for _, writer in (near, far):
                writer.close()

    run(test())


def test_a_drained_gateway_takes_nothing_new(pki: Path) -> None:
    async def test() -> None:
        async with gateways(pki) as pair:
            await pair.cc.stop(1.0)
            with pytest.raises(OSError):
                await pair.client()

    run(test())


def test_an_address_in_use_is_a_configuration_error_with_its_line(pki: Path) -> None:
    async def test() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            text = HEAD.format(name="cc") + "".join(
                f'[[route]]\nrole = "client"\nlisten = "127.0.0.1:{number}"\nconnect = "127.0.0.1:1"\npeer = "{DER}"\n'
                for number in (free_port(), port)
            )
            gateway, _ = service.prepare(settings.parse(text, pki / "cc.toml"))
            with pytest.raises(ConfigError, match=r"line 14: route .route2.: cannot listen .*another program"):
                await gateway.start()
            with socket.socket() as free:  # the first route's port is free again
                free.bind(("127.0.0.1", gateway.runners[0].route.near.port))

    run(test())


# --- files ------------------------------------------------------------------------------------------------------------
def problems_of(text: str, pki: Path) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        material.load(settings.parse(text, pki / "cc.toml"), lambda route: lambda event: None)
    return [str(problem) for problem in caught.value.problems]


ROUTE = '[[route]]\nrole = "client"\nlisten = "127.0.0.1:1102"\nconnect = "127.0.0.1:3782"\npeer = "1.1.1.999.2:12"\n'


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("cc.e2e.pem", "nowhere.pem", 2, "No such file"),
        ("cc.e2e.pem", "root.crl.pem", 2, "holds no certificate"),
        ("cc.e2e.key", "nowhere.key", 3, "No such file"),
        ("cc.e2e.key", "der.e2e.key", 2, "does not belong"),
        ("cc.e2e.pem", "cc.tls.pem", 2, ""),
        ('["root.pem"]', '["root.pem", "gone.pem"]', 5, "No such file"),
        ('["root.crl.pem"]', '["root.pem"]', 6, "holds no CRL"),
        ("1.1.1.999.2:12", "1.1.1.999.1:12", 13, "this gateway itself"),
        ('drain = "5s"', 'state = "nowhere"', 8, "no directory"),
    ],
)
def test_unusable_files_are_told_with_their_line(pki: Path, old: str, new: str, line: int, words: str) -> None:
    text = HEAD.format(name="cc") + ROUTE
    found = problems_of(text.replace(old, new, 1), pki)
    assert any(problem.startswith(f"line {line}: ") and words in problem for problem in found), found


def test_unusable_tls_files(pki: Path) -> None:
    text = HEAD.format(name="cc") + '[tls]\ncertificate = "a.pem"\nkey = "b.key"\nanchors = ["root.pem"]\n' + ROUTE
    found = problems_of(text, pki)
    assert any(problem.startswith("line 10: ") and "a.pem" in problem for problem in found)
    assert any(problem.startswith("line 11: ") and "b.key" in problem for problem in found)
    text = text.replace('"a.pem"', '"cc.tls.pem"').replace('"b.key"', '"der.tls.key"')
    assert any("TLS certificate" in problem for problem in problems_of(text, pki))


def test_a_key_that_others_may_read_is_doubted(own_pki: Path) -> None:
    (own_pki / "cc.e2e.key").chmod(0o640)
    parsed = settings.parse(HEAD.format(name="cc") + ROUTE, own_pki / "cc.toml")
    doubts, _ = service.check(parsed)
    assert any("chmod 600" in doubt and "line 3" in doubt for doubt in doubts)


@pytest.mark.parametrize(
    ("left", "level", "words"),
    [
        (31 * DAY, None, ""),
        (29 * DAY, "warning", "expires in 29 d"),
        (6.5 * DAY, "warning", "expires in 6 d"),
        (0.9 * DAY, "error", "expires in 22 h"),
        (-3 * DAY, "error", "expired 3 d ago"),
    ],
)
def test_expiry(left: float, level: str | None, words: str) -> None:
    found = Expiry("the end-to-end certificate", Path("a.pem"), 1e9 + left).warning(1e9)
    if level is None:
        assert found is None
    else:
        assert found is not None
        assert found[0] == level
        assert words in found[1]
        assert "a.pem" in found[1]


def test_expiry_of_all_files_is_watched(pki: Path) -> None:
    text = (
        HEAD.format(name="cc")
        + '[tls]\ncertificate = "cc.tls.pem"\nkey = "cc.tls.key"\nanchors = ["root.pem"]\ncrls = ["root.crl.pem"]\n'
        + ROUTE
    )
    loaded = material.load(settings.parse(text, pki / "cc.toml"), lambda route: lambda event: None)
    assert {expiry.what for expiry in loaded.expiries} == {
        "the end-to-end certificate", "a trust anchor", "a CRL", "the TLS certificate", "a TLS trust anchor",
        "a TLS CRL",
    }  # fmt: skip
    assert [expiry.at for expiry in loaded.expiries] == sorted(expiry.at for expiry in loaded.expiries)
    assert not material.expiring(loaded.expiries)
    far = material.expiring(loaded.expiries, time.time() + 20 * 365 * DAY)
    assert len(far) == 6


def test_a_certificate_about_to_expire_is_told_at_the_start(tmp_path: Path) -> None:
    made = TrialAuthority.create(tmp_path / "pki", time.time_ns() // 1_000_000)
    made.issue_e2e("cc", CC, days=5)
    parsed = settings.parse(HEAD.format(name="cc") + ROUTE, tmp_path / "pki" / "cc.toml")
    doubts, _ = service.check(parsed)
    assert any("the end-to-end certificate expires in 5 d" in doubt for doubt in doubts)


def test_replay_memory_is_kept(own_pki: Path) -> None:
    (own_pki / "state").mkdir()
    head = 'state = "state"\n'

    def requests() -> int:
        return sum(file.read_text().count(" Q") for file in (own_pki / "state").glob(f"replay-{DER.oid}.[01]"))

    async def test() -> None:
        async with gateways(own_pki, der_head=head) as pair:
            await (await pair.client()).release()
            assert requests() == 1
        async with gateways(own_pki, der_head=head) as pair:
            await (await pair.client()).release()
            assert not pair.records.events()
            assert requests() == 2

    run(test())


def test_open_files_for_all_associations(pki: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    route = (
        '[[route]]\nrole = "client"\nlisten = "127.0.0.1:1{0}"\nconnect = "127.0.0.1:2{0}"\npeer = "1.1.1.999.2:12"\n'
        "max_associations = 1000\n"
    )
    text = HEAD.format(name="cc") + route.format(1) + route.format(2)
    needed = service.files_needed(settings.parse(text, pki / "cc.toml"))
    assert needed == 4000 + service.FILES_BESIDES
    granted: list[tuple[int, int]] = []
    monkeypatch.setattr(service.resource, "setrlimit", lambda what, limit: granted.append(limit))
    for soft, hard, asked, told in (
        (1024, 65536, [(needed, 65536)], False),
        (1024, 2048, [(2048, 2048)], True),
        (65536, 65536, [], False),
        (1024, service.resource.RLIM_INFINITY, [(needed, service.resource.RLIM_INFINITY)], False),
    ):
        granted.clear()
        monkeypatch.setattr(service.resource, "getrlimit", lambda what, limit=(soft, hard): limit)
        doubt = service.allow_files(needed)
        assert granted == asked
        assert ("LimitNOFILE" in doubt) is told


def test_running_out_of_files_is_told_in_words(pki: Path) -> None:
    async def test() -> None:
        async with gateways(pki) as pair:
            error = OSError(24, "Too many open files")
            pair.cc._unexpected(asyncio.get_running_loop(), {"message": "socket.accept()", "exception": error})
            assert pair.records.about("too many open files")
            assert not pair.records.about("internal error")

    run(test())


# --- the process ------------------------------------------------------------------------------------------------------
@pytest.fixture
def process(pki: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int, int, int]]:
    """A client-role gateway as a process; its listening port, the far port, and a notify socket's descriptor."""
    near, far = free_port(), free_port()
    (pki / "process.toml").write_text(
        HEAD.format(name="cc").replace("5s", "3s")
        + f'[[route]]\nrole = "client"\nlisten = "127.0.0.1:{near}"\nconnect = "127.0.0.1:{far}"\npeer = "{DER}"\n'
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        path = str(tmp_path / "notify")
        notify.bind(path)
        notify.settimeout(20)
        child = subprocess.Popen(
            [sys.executable, "-m", "fastsec", "gateway", str(pki / "process.toml")],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "NOTIFY_SOCKET": path},
        )
        try:
            assert notify.recv(200).startswith(b"READY=1")
            yield child, near, far, notify.fileno()
        finally:
            child.kill()
            child.communicate()


def test_signals(process: tuple[subprocess.Popen[str], int, int, int]) -> None:
    child, near, _, descriptor = process
    socket.create_connection(("127.0.0.1", near), 5).close()
    notify = socket.socket(fileno=os.dup(descriptor))
    notify.settimeout(20)
    child.send_signal(signal.SIGHUP)
    assert notify.recv(200).startswith(b"RELOADING=1")
    assert notify.recv(200).startswith(b"READY=1")
    child.send_signal(signal.SIGTERM)
    assert notify.recv(200).startswith(b"STOPPING=1")
    notify.close()
    _, err = child.communicate(timeout=20)
    assert child.returncode == 0, err
    assert "reloaded for new associations" in err
    assert "ended" in err.splitlines()[-1]
    assert all(line.startswith("time=") for line in err.splitlines()), err


def test_second_sigterm_ends_at_once(pki: Path, process: tuple[subprocess.Popen[str], int, int, int]) -> None:
    child, near, far, _ = process

    async def test() -> None:
        async def hang(stream: AssociationStream) -> None:
            stream.connection.pause_reading()
            await asyncio.sleep(60)

        plain_port = free_port()
        text = (
            HEAD.format(name="der")
            + f'[[route]]\nrole = "server"\nlisten = "127.0.0.1:{far}"\nconnect = "127.0.0.1:{plain_port}"\n'
            + f'peers = ["{CC}"]\n'
        )
        gateway, _ = service.prepare(settings.parse(text, pki / "der.toml"))
        await gateway.start()
        server = await plain_serve(streams(hang, INITIATE_RESPONSE), f"osi://127.0.0.1:{plain_port}", plain())
        try:
            client = await plain_connect(f"osi://127.0.0.1:{near}", plain(), initiate=INITIATE_REQUEST)
            client.connection.pause_reading()
            child.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.3)
            assert child.poll() is None, "it waits for the release"
            child.send_signal(signal.SIGTERM)
            await until(lambda: child.poll() is not None, 10)
            assert child.returncode == 0
            client.abort()
        finally:
            await gateway.end()
            await server.close(0)

    run(test())
    _, err = child.communicate(timeout=20)
    assert "asked again: ending at once" in err


def test_command_line_check(pki: Path) -> None:
    (pki / "good.toml").write_text(HEAD.format(name="cc") + ROUTE)
    done = subprocess.run(
        [sys.executable, "-m", "fastsec", "gateway", "--check", str(pki / "good.toml")],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "identity 1.1.1.999.1:12" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("good.toml: fine")
    (pki / "bad.toml").write_text(HEAD.format(name="nobody") + ROUTE.replace("peer", "pear"))
    for extra in (["--check"], []):
        done = subprocess.run(
            [sys.executable, "-m", "fastsec", "gateway", *extra, str(pki / "bad.toml")],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 2
        assert f"{pki}/bad.toml: line 13: [[route]] has no key 'pear'; did you mean peer?" in done.stderr
        assert "Traceback" not in done.stderr
