"""Routes that speak the A-profile: settings, the relay in both directions of dial, refusals, reload, the log."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from gateway_pair import (
    CONCLUDE_REQUEST,
    INITIATE_REQUEST,
    INITIATE_RESPONSE,
    Records,
    answer_to,
    confirmed,
    echo,
    free_port,
    plain,
    run,
    until,
)

import aprofile_files
from aprofile_world import Authority, AWorld
from fastsec.aio.aprofile import forget_a_profile
from fastsec.aio.client import connect, plain_connect
from fastsec.aio.endpoints import forget_identities
from fastsec.aio.server import plain_serve, serve
from fastsec.aio.stream import AssociationStream, streams
from fastsec.aio.tls import TLSConfig
from fastsec.envs.osi import OsiParams
from fastsec.errors import FastsecError, Rejected
from fastsec.gateway import service, settings
from fastsec.gateway.model import SettingsError
from fastsec.gateway.service import Gateway
from fastsec.instant import now

WORLD = AWorld()
CC, DER = WORLD.authority.holder("cc", 1, serial=51), WORLD.authority.holder("der", 2, serial=52)


@pytest.fixture(autouse=True)
def _fresh_memories(monkeypatch: pytest.MonkeyPatch) -> Any:
    forget_a_profile()
    monkeypatch.setattr("fastsec.aio.aprofile.present", lambda: now()._replace(utc_ms=now().utc_ms - 3_600_000))
    yield
    forget_a_profile()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    aprofile_files.write(tmp_path, WORLD, cc=CC, der=DER)
    return tmp_path


@dataclass
class Two:
    """Two gateways between plain peers."""

    cc: Gateway
    der: Gateway
    near: int
    far: int
    records: Records
    served: list[AssociationStream] = field(default_factory=list)

    async def client(self) -> AssociationStream:
        return await plain_connect(f"osi://127.0.0.1:{self.near}", plain(), initiate=INITIATE_REQUEST)


@contextlib.asynccontextmanager
async def two(files: Path, *, tls: bool = True, reverse: bool = False, **heads: str) -> AsyncIterator[Two]:
    forget_identities()
    near, far, server = free_port(), free_port(), free_port()
    records = Records()
    logger = logging.getLogger("fastsec.gateway")
    logger.addHandler(records)
    logger.setLevel(logging.DEBUG)
    made: dict[str, Gateway] = {}
    served: list[AssociationStream] = []

    async def serve_one(stream: AssociationStream) -> None:
        served.append(stream)
        await echo(stream)

    try:
        async with plain_serve(streams(serve_one, INITIATE_RESPONSE), f"osi://127.0.0.1:{server}", plain()):
            for name, port in (("der", server), ("cc", near)):
                text = aprofile_files.configuration(name, port, far, tls=tls, reverse=reverse, head=heads.get(name, ""))
                made[name], _ = service.prepare(settings.parse(text, files / f"{name}.toml"))
                await made[name].start()
            found = Two(made["cc"], made["der"], near, far, records, served)
            if reverse:
                await until(lambda: found.cc.runners[0].waiting > 0)
            yield found
    finally:
        for gateway in made.values():
            await gateway.end()
        logger.removeHandler(records)
        logger.setLevel(logging.NOTSET)


def client_tls(files: Path, name: str) -> TLSConfig:
    return TLSConfig(files / f"{name}.tls.pem", files / f"{name}.tls.key", [files / "root.pem"])


# --- the relay --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("tls", [True, False], ids=["tls", "tcp"])
@pytest.mark.parametrize("reverse", [False, True], ids=["usual", "reverse"])
def test_plain_mms_through_two_gateways(files: Path, tls: bool, reverse: bool) -> None:
    async def main() -> None:
        async with two(files, tls=tls, reverse=reverse) as pair:
            for _ in range(3):
                stream = await pair.client()
                assert stream.initiate_response == INITIATE_RESPONSE
                for number in range(20):
                    await stream.send(confirmed(number, 500))
                for number in range(20):
                    assert await stream.recv() == answer_to(confirmed(number, 500))
                await stream.send(CONCLUDE_REQUEST)
                await stream.recv()
                await stream.release()
            await until(lambda: not pair.cc.runners[0].bridges)
            events = [name for name in pair.records.events() if not name.startswith("TLS_")]
            assert not events, str(pair.records)
            peers = {entry.get("peer") for entry in pair.records.about("association open")}
            assert peers == {"O=Utility,CN=der", "O=Utility,CN=cc"}
            kinds = [entry.get("security", "") for _, entry in pair.records.lines if "security" in entry]
            below = "TLS below" if tls else "no TLS below"
            assert kinds == [f"A-profile of 2007, authenticates the association only, {below}"] * 2

    run(main())


def test_another_vendor_on_the_far_side(files: Path) -> None:
    """The far side need not be a gateway: here a server and a client of the library, with TLS below."""

    async def main() -> None:
        async with two(files) as pair:
            config = WORLD.config(CC, peers=("subject:O=Utility,CN=der",), without_tls=False)
            address = f"osi://127.0.0.1:{pair.far}"
            async with connect(address, config, initiate=INITIATE_REQUEST, tls=client_tls(files, "cc")) as stream:
                await stream.send(confirmed(1))
                assert await stream.recv() == answer_to(confirmed(1))
            await until(lambda: not pair.der.runners[0].bridges)
            await pair.der.end()
            server = WORLD.config(DER, peers=("any",), without_tls=False)
            async with serve(streams(echo, INITIATE_RESPONSE), address, server, tls=client_tls(files, "der")):
                stream = await pair.client()
                await stream.send(confirmed(2))
                assert await stream.recv() == answer_to(confirmed(2))
                await stream.release()

    run(main())


# --- refusals ---------------------------------------------------------------------------------------------------------
@pytest.mark.event("IEC62351-14:4.4", "IEC62351-4:15.15")
def test_the_far_listener_lets_in_nobody_else(files: Path) -> None:
    stranger = WORLD.authority.holder("stranger", 3)

    async def main() -> None:
        async with two(files) as pair:
            address, tls = f"osi://127.0.0.1:{pair.far}", client_tls(files, "cc")
            with pytest.raises(FastsecError):
                await connect(address, WORLD.config(stranger), initiate=INITIATE_REQUEST, tls=tls)
            with pytest.raises(Rejected, match="name required"):
                await plain_connect(address, OsiParams(security=False), initiate=INITIATE_REQUEST, tls=tls)
            assert pair.served == []
            assert pair.records.events().count("COMM_PEER_AUTHENTICATION_FAIL") == 2
            assert pair.records.events().count("AUTH_MECH_NOT_USED_RQ") == 1

    run(main())


@pytest.mark.event("IEC62351-14:4.4")
def test_the_far_server_must_be_the_one_that_is_meant(files: Path) -> None:
    stranger = WORLD.authority.holder("stranger", 3)

    async def main() -> None:
        async with two(files) as pair:
            await pair.der.end()
            address, tls = f"osi://127.0.0.1:{pair.far}", client_tls(files, "der")
            async with serve(streams(echo, INITIATE_RESPONSE), address, WORLD.config(stranger), tls=tls):
                with pytest.raises(Rejected):
                    await pair.client()
            assert "COMM_PEER_AUTHENTICATION_FAIL" in pair.records.events()

    run(main())


def test_a_native_gateway_does_not_meet_an_a_profile_one(files: Path, pki: Path) -> None:
    """Neither lets the other in, whoever asks, and nobody tries again otherwise."""
    import shutil

    for name in ("cc.e2e.pem", "cc.e2e.key", "root.pem", "root.crl.pem"):
        shutil.copy(pki / name, files / f"native-{name}")

    async def main() -> None:
        async with two(files, tls=False) as pair:
            text = (
                '[identity]\ncertificate = "native-cc.e2e.pem"\nkey = "native-cc.e2e.key"\n'
                '[trust]\nanchors = ["native-root.pem"]\n[[route]]\nrole = "client"\n'
                f'listen = "127.0.0.1:{free_port()}"\nconnect = "127.0.0.1:{pair.far}"\npeer = "1.1.1.999.2:12"\n'
            )
            native, _ = service.prepare(settings.parse(text, files / "native.toml"))
            await native.start()
            port = native.runners[0].addresses[0][1]
            with pytest.raises(Rejected):
                await plain_connect(f"osi://127.0.0.1:{port}", plain(), initiate=INITIATE_REQUEST)
            await native.end()
            assert pair.served == []
            assert "INV_APPL_CNTX_RQ" in pair.records.events()

    run(main())


# --- reload and restart -----------------------------------------------------------------------------------------------
@pytest.mark.event("IEC62351-9:4.1", "IEC62351-14:4.4")
def test_a_reload_ends_who_is_revoked(files: Path) -> None:
    async def main() -> None:
        async with two(files) as pair:
            stream = await pair.client()
            await stream.send(confirmed(1))
            await stream.recv()
            aprofile_files.save_crl(files, WORLD, 51)
            assert pair.der.reload()
            with pytest.raises(FastsecError):
                await stream.recv()
            await until(lambda: not pair.der.runners[0].bridges)
            with pytest.raises(Rejected):
                await pair.client()

    run(main())


@pytest.mark.event("IEC62351-14:4.4")
@pytest.mark.parametrize("who", ["der", "cc"])
def test_a_reload_ends_whom_the_anchors_do_not_vouch_for_any_more(files: Path, who: str) -> None:
    async def main() -> None:
        async with two(files) as pair:
            stream = await pair.client()
            await stream.send(confirmed(1))
            await stream.recv()
            other = Authority("other", 101)
            aprofile_files.save_anchor(files, other.certificate)
            assert getattr(pair, who).reload()
            with pytest.raises(FastsecError):
                await stream.recv()
            await until(lambda: not pair.der.runners[0].bridges)
            assert "COMM_PEER_AUTHENTICATION_FAIL" in pair.records.events()

    run(main())


def test_a_reload_takes_a_renewed_certificate(files: Path) -> None:
    async def main() -> None:
        async with two(files) as pair:
            before = await pair.client()
            renewed = WORLD.authority.holder("der", 2, serial=77)
            aprofile_files.save(files, "der", renewed)
            assert pair.der.reload()
            after = await pair.client()
            for stream in (before, after):
                await stream.send(confirmed(1))
                assert await stream.recv() == answer_to(confirmed(1))
                await stream.release()

    run(main())


def test_the_state_directory_keeps_the_times(files: Path) -> None:
    state = files / "state"
    state.mkdir()

    async def main() -> None:
        head = f'[gateway]\nstate = "{state}"\n'
        for _ in range(2):
            async with two(files, der=head, cc=head) as pair:
                stream = await pair.client()
                await stream.release()
                await until(lambda pair=pair: not pair.der.runners[0].bridges)  # type: ignore[misc]
            forget_a_profile()

    run(main())
    assert [path.name for path in state.iterdir() if re.fullmatch(r"a-profile-[0-9a-f]{32}\.[01]", path.name)]


# --- settings ---------------------------------------------------------------------------------------------------------
def problems(files: Path, text: str) -> str:
    try:
        found = settings.parse(text, files / "x.toml")
        service.prepare(found)
    except SettingsError as error:
        return str(error)
    return ""


GOOD = aprofile_files.configuration("der", 10102, 13782)


def changed(old: str, new: str, text: str = GOOD) -> str:
    assert old in text
    return text.replace(old, new)


def test_a_good_file_needs_no_end_to_end_identity(files: Path) -> None:
    assert problems(files, GOOD) == ""
    assert problems(files, changed('security = "a-profile"\n', "")).count("the file has no table") == 2


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (aprofile_files.TLS.format(name="der"), "", "without TLS below is not secure"),
        (aprofile_files.TLS.format(name="der"), "without_tls = true\n[[no]]\n", "has no key 'no'"),
        ('"127.0.0.1:13782"', '"10.0.0.1:13782"', ""),
        ("[tls]", "without_tls = true\n[tls]", "has no meaning beside [tls]"),
        ('role = "server"', 'role = "server"\npeers = ["1.1.1.999.1:12"]', "peers has no meaning"),
        ('role = "server"', 'role = "server"\npeer = "1.1.1.999.1:12"', "peer has no meaning"),
        ('role = "server"', 'role = "server"\n[route.policy]\nrekey = "1h"', "policy has no meaning"),
        ('security = "a-profile"', 'security = "aprofile"', 'did you mean "a-profile"'),
        ('peers = ["subject:O=Utility,CN=cc"]', "", "lacks peers"),
        ('peers = ["subject:O=Utility,CN=cc"]', "peers = []", "name at least one certificate"),
        ('peers = ["subject:O=Utility,CN=cc"]', 'peers = ["cc"]', "write \"subject:O=Utility"),
        ('"der.mms.key"', '"cc.mms.key"', "does not belong to the certificate"),
        ('"der.mms.pem"', '"der.tls.pem"', "signs with RSA only"),
        ('"der.mms.pem"', '"mms-root.pem"', "not usable for the A-profile"),
        ('"der.mms.pem"', '"none.pem"', "No such file"),
        ('"der.mms.key"', '"pkcs11:object=x"', "has to be a file here"),
        ('["mms-root.pem"]', '["der.mms.pem"]', "is not an authority"),
        ('["mms-root.pem"]', '[]', "anchors: name at least one"),
    ],
)  # fmt: skip
def test_mistakes_are_told(files: Path, old: str, new: str, words: str) -> None:
    found = problems(files, changed(old, new))
    assert words in found
    assert bool(found) is bool(words)


def test_without_tls_on_loopback_only(files: Path) -> None:
    text = aprofile_files.configuration("der", 10102, 13782, tls=False)
    assert problems(files, text) == ""
    found = problems(files, text.replace('listen = "127.0.0.1:13782"', 'listen = "0.0.0.0:13782"'))
    assert "for tests on loopback" in found


def test_a_native_route_with_an_a_profile_table(files: Path) -> None:
    found = problems(files, changed('security = "a-profile"', "[route.a_profile]\nsigned = 'encoding'"))
    assert "belongs to security" in found


def test_a_table_of_the_route_goes_before_the_general_one(files: Path) -> None:
    text = GOOD + '[route.a_profile]\nsigned = "encoding"\ntime = "der"\ncarrier = "other"\npeers = "any"\n'
    (route,) = settings.parse(text, files / "x.toml").routes
    assert route.a_profile is not None
    assert (route.a_profile.signed, route.a_profile.time, route.a_profile.carrier) == ("encoding", "der", "other")
    assert route.a_profile.peers == ("any",)
    assert route.a_profile.certificate == files / "der.mms.pem"


def test_what_check_says(files: Path) -> None:
    doubts, fine = service.check(settings.parse(GOOD, files / "x.toml"))
    assert fine == [
        'route "bay": server; plain MMS at 127.0.0.1:10102; is dialled at 127.0.0.1:13782 with TLS; '
        "A-profile of 2007, authenticates the association only"
    ]
    assert any("expires in" in doubt for doubt in doubts)  # the certificates of this test live for a day


def test_certificates_of_another_authority_are_not_believed(files: Path) -> None:
    other = Authority("other", 101)
    aprofile_files.save(files, "cc", other.holder("cc", 1))

    async def main() -> None:
        async with two(files) as pair:
            with pytest.raises(Rejected):
                await pair.client()
            assert pair.served == []

    run(main())
