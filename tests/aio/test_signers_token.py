"""Keys in tokens: SoftHSM, through a module in between that counts sessions, hangs and fails as told."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from world import DER, INITIATE, Recorder, World, until

from fastsec._core.pk import PrivateKey
from fastsec.aio import pkcs11 as pkcs11_module
from fastsec.aio.client import connect_handler
from fastsec.aio.endpoints import forget_identities
from fastsec.aio.pkcs11 import Pkcs11Signer, load_pkcs11_credential
from fastsec.aio.server import serve
from fastsec.config import Config
from fastsec.errors import ConfigError, SignerError
from fastsec.instant import now
from fastsec.pki.credential import make_credential
from fastsec.pki.path import TrustStore
from fastsec.pki.pkcs11 import PinSource
from fastsec.pki.trial import TrialAuthority
from tokens_world import PIN, Tokens, new_key, tokens

KINDS = ("secp256r1", "brainpoolP256r1", "rsa2048", "rsa4096")
PIN_INCORRECT, PIN_LOCKED, DEVICE_ERROR, DEVICE_REMOVED, SESSION_HANDLE_INVALID = 0xA0, 0xA4, 0x30, 0x32, 0xB3
USER_NOT_LOGGED_IN, FUNCTION_REJECTED, GENERAL_ERROR = 0x101, 0x200, 0x05
COUNT_LOW, FINAL_TRY, LOCKED = 0x10000, 0x20000, 0x40000
_numbers = iter(range(16, 256))


@pytest.fixture(scope="module")
def made() -> Tokens:
    """The tokens, with a key of each kind in the first."""
    all_ = tokens()
    for number, kind in enumerate((*KINDS, "secp384r1"), 1):
        all_.put("one", f"{kind}", f"{number:02x}", new_key(kind))
    return all_


@pytest.fixture(autouse=True)
def _quiet(made: Tokens, monkeypatch: pytest.MonkeyPatch):
    """No fault set, the PIN in the environment; and afterwards every session given back."""
    made.quiet()
    monkeypatch.setenv("FASTSEC_PIN", PIN)
    before = made.get("sessions")
    yield
    made.quiet()
    forget_identities()
    given_back(made, before)


PIN_ENV = PinSource(variable="FASTSEC_PIN")


def given_back(made: Tokens, count: int) -> None:
    """Wait until so many sessions are left; signers that nobody has any more close theirs in their threads."""
    end = time.monotonic() + 30
    while made.get("sessions") > count and time.monotonic() < end:
        gc.collect()
        time.sleep(0.01)
    assert made.get("sessions") <= count


def own_key(made: Tokens, kind: str = "secp256r1", token: str = "one") -> tuple[str, PrivateKey]:
    """Another key in a token: its label, and the same key here."""
    pem, number = new_key(kind), next(_numbers)
    made.put(token, f"key{number}", f"{number:02x}", pem)
    return f"key{number}", PrivateKey.from_pem(pem, None)


# --- signing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_signatures_verify(made: Tokens, kind: str) -> None:
    label, key = own_key(made, kind)
    signer = Pkcs11Signer(made.uri("one", label), PIN_ENV)
    assert signer.kind == key.kind
    for data in (b"", b"x", bytes(5000)):
        key.public_key.verify(signer.algorithm, data, signer.sign(data))


def test_rsa_where_the_token_does_not_hash(made: Tokens) -> None:
    label, key = own_key(made, "rsa2048")
    signer = Pkcs11Signer(made.uri("one", label), PIN_ENV)
    both = signer._keyring.mechanisms
    assert [hashes for _, hashes in both] == [True, False]
    signer._keyring.mechanisms = both[1:]
    key.public_key.verify(signer.algorithm, b"data", signer.sign(b"data"))
    # a token that lists a mechanism and then refuses it
    signer._keyring.mechanisms = both
    made.set(fail_sign=0x70, fail_count=1)  # CKR_MECHANISM_INVALID
    key.public_key.verify(signer.algorithm, b"data", signer.sign(b"data"))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"token": "nope"}, 'no token fits the PKCS#11 URI; present: "'),
        ({"label": "nope"}, "no private key in the token fits"),
        ({"more": ";id=%fe"}, "no private key in the token fits"),
        ({"label": "secp384r1"}, "on another curve than P-256 and brainpoolP256r1"),
        ({"more": ";serial=nope"}, "no token fits"),
        ({"more": ";slot-id=1"}, "no token fits"),
        ({}, 'private keys fit the PKCS#11 URI; choose by object= or id=: "'),
    ],
)
def test_a_choice_that_does_not_name_one_key(made: Tokens, more: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Pkcs11Signer(made.uri(**{"token": "one", **more}), PIN_ENV)
    assert words in str(caught.value)
    assert PIN not in str(caught.value)


def test_two_keys_of_one_label_are_told_apart_by_id(made: Tokens) -> None:
    for identifier in ("f0", "f1"):
        made.put("two", "twin", identifier, new_key("secp256r1"))
    with pytest.raises(ConfigError, match=r'2 private keys fit .* "twin" \(id=%f\d\), "twin" \(id=%f\d\)'):
        Pkcs11Signer(made.uri("two", "twin"), PIN_ENV)
    assert Pkcs11Signer(made.uri("two", "twin", more=";id=%f1"), PIN_ENV).sign(b"x")


def test_several_tokens_fit(made: Tokens) -> None:
    with pytest.raises(ConfigError, match="3 tokens fit the PKCS#11 URI; name one by token= or serial="):
        Pkcs11Signer(f"pkcs11:object=twin?module-path={made.path}", PIN_ENV)


@pytest.mark.parametrize("what", ["missing", "text", "library"])
def test_a_module_that_is_none(tmp_path: Path, what: str) -> None:
    module = tmp_path / "module.so"
    if what == "text":
        module.write_text("no library")
    elif what == "library":
        source = tmp_path / "x.c"
        source.write_text("int x;")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", str(module), str(source)], check=True)
    with pytest.raises(ConfigError, match="cannot be loaded, or is no PKCS#11 module"):
        Pkcs11Signer(f"pkcs11:token=one?module-path={module}", PIN_ENV)


def test_without_python_pkcs11_it_says_what_to_install(made: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pkcs11._pkcs11", None)
    with pytest.raises(ConfigError, match=r'pip install "fastsec\[pkcs11\]"'):
        Pkcs11Signer(made.uri("one", "secp256r1"), PIN_ENV)


def test_certificate_from_the_token(made: Tokens) -> None:
    authority = TrialAuthority.in_memory(now().utc_ms)
    issued = authority.issue_e2e("der", DER)
    made.put("one", "with-certificate", "c0", issued.key_pem)
    uri = made.uri("one", "with-certificate")
    with pytest.raises(ConfigError, match="0 certificates in the token have the key's id"):
        load_pkcs11_credential(None, uri, pin_env="FASTSEC_PIN")
    made.put_certificate("one", "c0", issued.certificate)
    credential = load_pkcs11_credential(None, uri, pin_env="FASTSEC_PIN")
    assert (credential.certificate, credential.name) == (issued.certificate, DER)


def test_a_certificate_of_another_key(made: Tokens, tmp_path: Path) -> None:
    issued = TrialAuthority.in_memory(now().utc_ms).issue_e2e("der", DER)
    (tmp_path / "der.pem").write_bytes(issued.certificate_pem)
    with pytest.raises(ConfigError, match="the key does not belong to the certificate"):
        load_pkcs11_credential(tmp_path / "der.pem", made.uri("one", "secp256r1"), pin_env="FASTSEC_PIN")


# --- PIN --------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def logged_out(made: Tokens):
    """No login of an earlier signer, which would make the PIN unnecessary."""
    given_back(made, 0)
    yield made.get("logins")


def test_the_pin_is_in_no_text(made: Tokens, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    file = tmp_path / "pin"
    file.write_text(f"{PIN}\n")
    with logged_out(made):
        label, _ = own_key(made)
        credential_signer = Pkcs11Signer(made.uri("one", label, query=f"&pin-source=file:{file}"))
        shown = [repr(credential_signer), repr(credential_signer.uri), str(credential_signer.uri)]
        shown += [repr(vars(credential_signer)), repr(vars(credential_signer._keyring)), caplog.text]
        assert not [text for text in shown if PIN in text]
        credential_signer.sign(b"x")


def test_the_pin_is_wiped_after_the_login(made: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[bytearray] = []

    class Watched(pkcs11_module._Pin):
        def encode(self, encoding: str) -> bytearray:
            given.append(self.octets)
            assert bytes(self.octets) == PIN.encode()
            return self.octets

    monkeypatch.setattr(pkcs11_module, "_Pin", Watched)
    with logged_out(made):
        Pkcs11Signer(made.uri("one", "secp256r1"), PIN_ENV)
        assert given == [bytearray(len(PIN))]


def test_a_wrong_pin_is_tried_once(made: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    with logged_out(made) as before:
        monkeypatch.setenv("FASTSEC_PIN", "000000")
        with pytest.raises(ConfigError, match=r"the PIN is wrong .FASTSEC_PIN.; no PIN is tried again") as caught:
            Pkcs11Signer(made.uri("one", "secp256r1"), PIN_ENV)
        assert "000000" not in str(caught.value)
        assert made.get("logins") == before + 1
        monkeypatch.setenv("FASTSEC_PIN", PIN)
        Pkcs11Signer(made.uri("one", "secp256r1"), PIN_ENV).sign(b"x")
    made.set(sessions=made.get("sessions") - 1)  # python-pkcs11 leaves the session in which the login failed


@pytest.mark.parametrize(
    ("values", "words", "tries"),
    [
        ({"more_flags": FINAL_TRY}, "allows one PIN more before it locks", 0),
        ({"more_flags": LOCKED}, "the token's PIN is locked", 0),
        ({"fail_login": PIN_LOCKED}, "its PIN is locked", 1),
        ({"fail_login": 0xA3}, "its PIN has expired", 1),
        ({"fail_login": 0x102}, "no PIN has been set", 1),
        ({"fail_login": 0x101}, "UserNotLoggedIn", 1),
    ],
)
def test_what_a_token_says_about_its_pin(made: Tokens, values: dict[str, int], words: str, tries: int) -> None:
    with logged_out(made) as before:
        made.set(**values)
        with pytest.raises(ConfigError, match=words):
            Pkcs11Signer(made.uri("one", "secp256r1"), PIN_ENV)
        assert made.get("logins") == before + tries
        made.set(sessions=made.get("sessions") - tries)


def test_a_token_that_wants_a_pin_and_gets_none(made: Tokens) -> None:
    with logged_out(made) as before:
        with pytest.raises(ConfigError, match="give pin_file or pin_env"):
            Pkcs11Signer(made.uri("one", "secp256r1"))
        assert made.get("logins") == before


def test_the_pin_is_named_once(made: Tokens) -> None:
    with pytest.raises(ConfigError, match="named twice"):
        Pkcs11Signer(made.uri("one", "secp256r1", query="&pin-source=file:/x"), PIN_ENV)
    with pytest.raises(ConfigError, match="not both"):
        load_pkcs11_credential(None, made.uri("one"), pin_env="X", pin_file="y")


# --- a token that is away ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code", [SESSION_HANDLE_INVALID, DEVICE_ERROR, DEVICE_REMOVED, USER_NOT_LOGGED_IN, GENERAL_ERROR, 0x60, 0xE0, 0x190]
)
def test_a_lost_session_is_opened_once_more(made: Tokens, code: int) -> None:
    label, key = own_key(made)
    signer = Pkcs11Signer(made.uri("one", label), PIN_ENV)
    made.set(fail_sign=code, fail_count=1)
    key.public_key.verify(signer.algorithm, b"x", signer.sign(b"x"))
    made.set(fail_sign=code, fail_count=100)
    with pytest.raises(SignerError, match="the token did not sign: "):
        signer.sign(b"x")
    assert made.get("fail_count") == 98
    made.set(fail_count=0)
    key.public_key.verify(signer.algorithm, b"x", signer.sign(b"x"))


def test_another_failure_is_not_tried_again(made: Tokens) -> None:
    signer = Pkcs11Signer(made.uri("one", "secp256r1"), PIN_ENV)
    made.set(fail_sign=0x68, fail_count=1)  # CKR_KEY_FUNCTION_NOT_PERMITTED
    with pytest.raises(SignerError, match="the token did not sign: 0x68"):
        signer.sign(b"x")
    assert signer.sign(b"x")


def test_a_token_that_stays_away_is_left_alone_for_longer_each_time(
    made: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(pkcs11_module.time, "monotonic", lambda: clock[0])
    signer = Pkcs11Signer(made.uri("one", "secp256r1"), PIN_ENV)
    made.set(fail_sign=DEVICE_REMOVED, fail_count=1, fail_open=DEVICE_REMOVED)
    waits = []
    for _ in range(9):
        with pytest.raises(SignerError, match="the token cannot be used: DeviceRemoved"):
            signer.sign(b"x")
        with pytest.raises(SignerError, match="tried again in") as caught:
            signer.sign(b"x")
        waits.append(float(str(caught.value).rsplit(" ", 2)[1]))
        clock[0] += waits[-1] + 0.01
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    made.quiet()
    assert signer.sign(b"x")
    assert signer.sign(b"x")


def test_a_pin_changed_while_the_token_was_away_is_tried_once(made: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    signer = Pkcs11Signer(made.uri("one", "secp256r1"), PIN_ENV)
    given_back(made, 2)
    before = made.get("logins")
    made.set(fail_sign=DEVICE_REMOVED, fail_count=1, fail_login=PIN_INCORRECT)
    for _ in range(5):
        with pytest.raises(SignerError, match="the PIN is wrong"):
            signer.sign(b"x")
    assert made.get("logins") == before + 1
    made.set(sessions=made.get("sessions") - 1)


def test_a_forked_process_opens_its_own(made: Tokens) -> None:
    signer = Pkcs11Signer(made.uri("one", "secp256r1"), PIN_ENV)
    before = made.get("inits")
    child = os.fork()
    if not child:
        try:
            ok = bool(signer.sign(b"x") and signer.executor.submit(signer.sign, b"y").result(30))
        except BaseException:
            ok = False
        os._exit(0 if ok and made.get("inits") == before + 1 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert signer.sign(b"x")


# --- threads ----------------------------------------------------------------------------------------------------------


def test_the_module_is_told_that_several_threads_call_it(made: Tokens) -> None:
    Pkcs11Signer(made.uri("one", "secp256r1"), PIN_ENV)
    assert made.get("init_flags") == 2  # CKF_OS_LOCKING_OK


def test_several_threads_have_a_session_each(made: Tokens) -> None:
    label, key = own_key(made)
    signer = Pkcs11Signer(made.uri("one", label), PIN_ENV, threads=4)
    before = made.get("sessions")
    made.set(hang=1)
    futures = [signer.executor.submit(signer.sign, bytes((number,))) for number in range(12)]
    end = time.monotonic() + 30
    while made.get("in_sign") < 4 and time.monotonic() < end:
        time.sleep(0.001)
    assert made.get("in_sign") == 4
    made.set(hang=0)
    for number, future in enumerate(futures):
        key.public_key.verify(signer.algorithm, bytes((number,)), future.result(30))
    assert made.get("sessions") == before + 3


def test_nothing_is_left_of_signatures_and_reloads(made: Tokens) -> None:
    """1,000 signatures and 50 reloads: sessions are counted where the token opens and closes them."""
    label, _ = own_key(made)
    signer = Pkcs11Signer(made.uri("one", label), PIN_ENV, threads=2)
    for _ in range(10):
        signer.sign(b"x")
    gc.collect()
    sessions, logins, objects = made.get("sessions"), made.get("logins"), len(gc.get_objects())
    threads = threading.active_count()
    for turn in range(50):
        newer = Pkcs11Signer(made.uri("one", label), PIN_ENV, threads=2)
        for future in [newer.executor.submit(newer.sign, b"x") for _ in range(20)]:
            assert future.result(30)
        signer = newer
        if turn % 10 == 9:
            del newer, future
            given_back(made, sessions + 1)
    end = time.monotonic() + 30
    while threading.active_count() > threads + 2 and time.monotonic() < end:
        time.sleep(0.01)
    gc.collect()
    assert made.get("logins") == logins  # one login of the process serves all
    assert threading.active_count() <= threads + 2
    assert len(gc.get_objects()) - objects < 500


# --- associations -----------------------------------------------------------------------------------------------------


def token_config(made: Tokens, world: World, name=DER) -> Config:
    """A configuration as ``world.config`` makes one, with the key in a token."""
    issued = world.authority.issue_e2e(f"token{next(_numbers)}", name)
    number = next(_numbers)
    made.put("one", f"asso{number}", f"{number:02x}", issued.key_pem)
    signer = Pkcs11Signer(made.uri("one", f"asso{number}"), PIN_ENV)
    trust = TrustStore([world.authority.root], [world.authority.crl])
    return Config(credential=make_credential(issued.certificate, (), signer), trust=trust)


def test_an_association_with_the_key_in_a_token(run, world, made: Tokens) -> None:
    config = token_config(made, world)

    async def main() -> None:
        listener = await serve(lambda: Recorder(echo=True), "osi://127.0.0.1:0", config)
        host, port = listener.addresses[0]
        client = Recorder()
        await connect_handler(client, f"osi://{host}:{port}", world.centre, peer=DER, initiate=INITIATE)
        await client.wait("associated")
        # the token hangs, without the interpreter lock: this association goes on, and another one's request waits
        made.set(hang=1)
        other = Recorder()
        await connect_handler(other, f"osi://{host}:{port}", world.centre, peer=DER, initiate=INITIATE)
        await until(lambda: made.get("in_sign") == 1, 15)
        for number in range(100):
            client.assoc.write(b"\xa0\x03\x02\x01\x01")
            await client.until(lambda number=number: len(client.pdus) > number)
        assert "associated" not in other.calls
        made.set(hang=0)
        await other.wait("associated")
        other.assoc.release()
        await other.wait("released")
        # the token is away: this handshake ends, the next one succeeds
        made.set(fail_sign=DEVICE_REMOVED, fail_count=2)
        third = Recorder()
        await connect_handler(third, f"osi://{host}:{port}", world.centre, peer=DER, initiate=INITIATE)
        await third.wait("ended")
        assert "temporary congestion" in str(third.error)
        made.quiet()
        fourth = Recorder()
        await connect_handler(fourth, f"osi://{host}:{port}", world.centre, peer=DER, initiate=INITIATE)
        await fourth.wait("associated")
        await listener.close(0)
        await asyncio.sleep(0)

    run(main())
