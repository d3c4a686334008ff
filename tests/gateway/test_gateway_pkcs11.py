"""``key = "pkcs11:…"`` in a gateway: settings, ``--check``, the relay, reloads, tokens that are away or hang."""

from __future__ import annotations

import asyncio
import gc
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_pair import HEAD, answer_to, authority, confirmed, free_port, gateways, run, until

from fastsec.errors import Rejected
from fastsec.gateway import pkcs11, service, settings
from fastsec.gateway.model import SettingsError
from tokens_world import PIN, Tokens, tokens

KEY = 'key = "{name}.e2e.key"\n'
ROUTE = '[[route]]\nrole = "client"\nlisten = "127.0.0.1:10102"\nconnect = "10.0.0.2:3782"\npeer = "1.1.1.999.2:12"\n'


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates, the key of ``cc`` and that of ``der`` in a token too, the PIN in a file."""
    folder = tmp_path_factory.mktemp("token-gateway")
    authority(folder)
    for number, name in enumerate(("cc", "der"), 0xE0):
        tokens().put("spare", f"gw-{name}", f"{number:02x}", (folder / f"{name}.e2e.key").read_bytes())
    (folder / "pin").write_text(f"{PIN}\n")
    (folder / "pin").chmod(0o600)
    return folder


@pytest.fixture(autouse=True)
def made() -> Iterator[Tokens]:
    tokens().quiet()
    yield tokens()
    tokens().quiet()


def uri(name: str) -> str:
    return tokens().uri("spare", f"gw-{name}")


def head(name: str = "der", more: str = 'pin_file = "pin"\n', key: str = "") -> str:
    """The head of a configuration file with the key in the token."""
    return HEAD.replace(KEY, f'key = "{key or uri(name)}"\n{more}').format(name=name)


def load(pki: Path, text: str, **environ: str) -> settings.Settings:
    return settings.parse(text + ROUTE, pki / "gateway.toml", environ=environ)


def problem(pki: Path, text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        service.check(load(pki, text))
    assert PIN not in str(caught.value)
    return str(caught.value)


# --- settings and --check ---------------------------------------------------------------------------------------------


def test_check_opens_the_token(pki: Path) -> None:
    doubts, fine = service.check(load(pki, head("cc")))
    assert fine[0] == "identity 1.1.1.999.1:12"
    assert "may be read" not in "\n".join(doubts)


@pytest.mark.parametrize("where", ["variable", "uri"])
def test_other_places_of_the_pin(pki: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_PIN", PIN)
    if where == "variable":
        text = head("cc", 'pin_env = "GATEWAY_PIN"\n')
    else:
        text = head("cc", "", f"{uri('cc')}&pin-source=file:{pki}/pin")
    assert service.check(load(pki, text))[1]


def test_a_pin_that_others_may_read_is_doubted(pki: Path) -> None:
    (pki / "open-pin").write_text(PIN)
    (pki / "open-pin").chmod(0o644)
    doubts, _ = service.check(load(pki, head("cc", 'pin_file = "open-pin"\n')))
    assert [doubt for doubt in doubts if "may be read or written by other users; chmod 600" in doubt]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD.format(name="cc").replace("[trust]", 'pin_file = "pin"\n[trust]'), "this belongs to a key in a token"),
        (HEAD.format(name="cc").replace("[trust]", "key_threads = 2\n[trust]"), "this belongs to a key in a token"),
        ("pin_file = 'pin'\npin_env = 'X'\n", "named twice"),
        ("password = 'x'\n", "a token has a PIN"),
        ("pin_file = 'none'\n", "the PIN cannot be read: No such file"),
        ("pin_env = 'FASTSEC_NO_SUCH'\n", "FASTSEC_NO_SUCH for the PIN is not set"),
        ("key_threads = 65\n", "from 1 to 64"),
        ("tls", "a TLS key has to be a file: Python's ssl cannot use keys in tokens"),
        ("no token", "no token fits the PKCS#11 URI"),
        ("other key", "the key does not belong to the certificate"),
    ],
)
def test_what_is_refused(pki: Path, text: str, words: str) -> None:
    if text == "tls":
        text = head("cc") + f'[tls]\ncertificate = "cc.tls.pem"\nkey = "{uri("cc")}"\nanchors = ["root.pem"]\n'
    elif text == "no token":
        text = head("cc", key=uri("cc").replace("spare", "away"))
    elif text == "other key":
        text = head("cc", key=uri("der"))
    elif not text.startswith("[identity]"):
        text = head("cc", text)
    assert words in problem(pki, text)


def test_a_problem_of_the_token_is_told_at_the_line_of_the_key(pki: Path) -> None:
    assert "line 3: no token fits" in problem(pki, head("cc", key=uri("cc").replace("spare", "away")))


def test_the_pin_is_not_in_the_settings(pki: Path) -> None:
    assert PIN not in repr(load(pki, head("cc")))


def test_the_command_checks_a_token(pki: Path) -> None:
    """Another process: its own C_Initialize, its own login."""
    file = pki / "check.toml"
    file.write_text(head("cc") + ROUTE)
    done = subprocess.run(
        [sys.executable, "-m", "fastsec", "gateway", "--check", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "identity 1.1.1.999.1:12" in done.stdout
    (pki / "wrong-pin").write_text("000000")
    (pki / "wrong-pin").chmod(0o600)
    file.write_text(head("cc", 'pin_file = "wrong-pin"\n') + ROUTE)
    done = subprocess.run(
        [sys.executable, "-m", "fastsec", "gateway", "--check", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "the PIN is wrong" in done.stdout + done.stderr
    assert "000000" not in done.stdout + done.stderr
    # a login with the right PIN, so that the token does not remember the wrong one
    file.write_text(head("cc") + ROUTE)
    command = [sys.executable, "-m", "fastsec", "gateway", "--check", str(file)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


# --- at work ----------------------------------------------------------------------------------------------------------


def with_token(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Give gateways of these names their key from the token."""
    real = settings.parse

    def parse(text: str, path: Path, **more: object) -> settings.Settings:
        name = path.stem
        if name in names:
            text = text.replace(KEY.format(name=name), f'key = "{uri(name)}"\npin_file = "pin"\n')
            assert "pkcs11:" in text
        return real(text, path, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(settings, "parse", parse)


def test_relay_reload_and_release(pki: Path, monkeypatch: pytest.MonkeyPatch, made: Tokens) -> None:
    with_token(monkeypatch, "cc", "der")

    async def test() -> None:
        async with gateways(pki) as pair:
            before = await pair.client()
            for gateway in (pair.cc, pair.der):
                gateway.reload_soon()
            await until(lambda: len(pair.records.about("reloaded for new associations")) == 2)
            after = await pair.client()
            for client in (before, after):
                await client.send(confirmed(3))
                assert await client.recv() == answer_to(confirmed(3))
                await client.release()
            await pair.no_bridges()
            assert PIN not in str(pair.records)

    run(test())


def test_a_reload_that_waits_for_the_token_stalls_nobody(
    pki: Path, monkeypatch: pytest.MonkeyPatch, made: Tokens
) -> None:
    with_token(monkeypatch, "der")
    monkeypatch.setattr(pkcs11, "ANSWER", 1.0)

    async def test() -> None:
        async with gateways(pki) as pair:
            client = await pair.client()
            made.set(hang=1)
            pair.der.reload_soon()
            pair.der.reload_soon()  # one at a time
            await until(lambda: made.get("in_sign") == 1)
            for number in range(50):
                await client.send(confirmed(number))
                assert await client.recv() == answer_to(confirmed(number))
            await until(lambda: bool(pair.records.about("the token has not answered within 1 s")))
            made.set(hang=0)
            await until(lambda: made.get("in_sign") == 0)
            pair.der.reload_soon()
            await until(lambda: bool(pair.records.about("reloaded for new associations")))
            await client.release()

    run(test())


def test_a_token_that_is_away_ends_new_associations_alone(
    pki: Path, monkeypatch: pytest.MonkeyPatch, made: Tokens
) -> None:
    with_token(monkeypatch, "der")

    async def test() -> None:
        async with gateways(pki) as pair:
            client = await pair.client()
            made.set(fail_sign=0x32, fail_count=1000, fail_open=0x32)  # CKR_DEVICE_REMOVED
            with pytest.raises(Rejected):
                await pair.client()
            words = (
                "no association: this gateway aborted it on the secured side (signing failed: the token cannot be used"
            )
            await until(lambda: bool(pair.records.about(words)))
            await client.send(confirmed(1))
            assert await client.recv() == answer_to(confirmed(1))
            made.quiet()
            await asyncio.sleep(pkcs11_back_off())
            second = await pair.client()
            await second.release()
            await client.release()
            assert PIN not in str(pair.records)

    run(test())


def pkcs11_back_off() -> float:
    from fastsec.aio import pkcs11 as signer

    return 2 * signer.BACK_OFF + 0.1


def test_fifty_reloads_leave_no_sessions(pki: Path, monkeypatch: pytest.MonkeyPatch, made: Tokens) -> None:
    with_token(monkeypatch, "der")

    async def test() -> None:
        async with gateways(pki) as pair:
            await (await pair.client()).release()
            sessions = made.get("sessions")
            for _ in range(50):
                assert pair.der.reload()
            await (await pair.client()).release()
            await pair.no_bridges()
            end = time.monotonic() + 30
            while made.get("sessions") > sessions + 1 and time.monotonic() < end:
                gc.collect()
                await asyncio.sleep(0.01)
            assert made.get("sessions") <= sessions + 1

    run(test())


@pytest.mark.interop
def test_a_gateway_process_with_a_token(pki: Path, tmp_path: Path) -> None:
    """Start, SIGHUP, SIGTERM of a process; its log has no PIN."""
    file = pki / "process.toml"
    file.write_text(head("cc") + ROUTE.replace("10102", str(free_port())))
    log = tmp_path / "log"
    with log.open("wb") as errors:
        process = subprocess.Popen([sys.executable, "-m", "fastsec", "gateway", str(file)], stderr=errors)
    try:
        wait_for(log, "calls 1.1.1.999.2:12", process)
        process.send_signal(signal.SIGHUP)
        wait_for(log, "reloaded for new associations", process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    assert PIN not in log.read_text()


def wait_for(log: Path, words: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 30
    while words not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.02)
