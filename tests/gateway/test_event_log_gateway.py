"""``[events]`` in a gateway pair: what peers do becomes records in the file and at the collector."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from gateway_pair import HEAD, Pair, confirmed, free_port, gateways, run, until
from test_security import Intermediary

from fastsec.cli import events as command
from fastsec.errors import Aborted, ConfigError, Rejected
from fastsec.gateway import service, settings
from fastsec.gateway.model import SettingsError

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "eventlog"))
from collector import Collector
from rfc5424 import Message, parse

ROUTE = '[[route]]\nrole = "client"\nlisten = "127.0.0.1:1102"\nconnect = "127.0.0.1:3782"\npeer = "1.1.1.999.2:12"\n'


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "chain.key"
    path.write_bytes(bytes(range(40)))
    return path


def head(path: Path, more: str = "") -> str:
    """The table for a gateway that writes to ``path``."""
    return f'[events]\nfile = "{path}"\nsource = "gw"\n{more}\n'


def records(path: Path) -> list[Message]:
    """What stands in an event file."""
    return [parse(line[65:]) for line in path.read_bytes().splitlines()[1:]]


def ids(path: Path) -> list[str]:
    return [message.params["ID"] for message in records(path)]


async def recorded(pair: Pair) -> None:
    """Wait until both gateways have written what happened so far."""
    for gateway in (pair.cc, pair.der):
        log = gateway.events._log
        if log is not None:
            done = log.mark()
            await until(done.is_set, 30)


@pytest.mark.event("IEC62351-14:4.1", "IEC62351-14:6.8", "IEC62351-14:6.10")
def test_an_association_and_a_reload_are_recorded(
    pki: Path, tmp_path: Path, key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = {name: tmp_path / f"{name}.log" for name in ("cc", "der")}

    async def test() -> None:
        more = f'chain_key = "{key}"'
        async with gateways(pki, cc_head=head(logs["cc"], more), der_head=head(logs["der"], more)) as pair:
            client = await pair.client()
            await client.send(confirmed(1))
            await client.recv()
            await pair.open_bridges(1)
            assert pair.cc.reload()
            await client.release()
            await pair.no_bridges()
            await recorded(pair)
            # The lines of the log are as without [events], but for being made elsewhere.
            assert not pair.records.events().count("COMM_SUCCESS") < 2

    run(test())
    for name, peer, route in (("cc", "1.1.1.999.2:12", "north"), ("der", "1.1.1.999.1:12", "plant")):
        found = records(logs[name])
        start, *others = found
        assert start.params["MNEMONIC"] == "CONFIG_FILE_IMPORT"
        assert start.params["X.file"].endswith(f"{name}.toml")
        (success,) = [message for message in others if message.params["MNEMONIC"] == "COMM_SUCCESS"]
        assert (success.params["PeerInfo"], success.params["X.route"]) == (peer, route)
        assert [int(message.params["SqNum"]) for message in found] == list(range(1, len(found) + 1))
        assert {message.hostname for message in found} == {"gw"}
    assert "IEC62351-14:6.10" in ids(logs["cc"])
    everything = [str(path) for path in tmp_path.glob("cc.log*")]
    assert command.main(["verify", "--key", str(key), *everything]) == 0
    assert "whole and in order" in capsys.readouterr().out
    text = logs["cc"].read_bytes()
    logs["cc"].write_bytes(text.replace(b"COMM_SUCCESS", b"COMM_SUCCES5"))
    assert command.main(["verify", "--key", str(key), *everything]) == 1
    assert "cc.log:" in capsys.readouterr().out


@pytest.mark.event("IEC62351-4:11.5", "IEC62351-4:6.11", "IEC62351-14:4.5")
def test_tampering_on_the_way_is_recorded_with_its_generic_event(pki: Path, tmp_path: Path) -> None:
    log = tmp_path / "der.log"

    async def test() -> None:
        async with gateways(pki, der_head=head(log, "generic = true")) as pair:
            proxy = Intermediary(pair.der_route.addresses[0][1])
            port = await proxy.start()
            route = pair.cc_route.route
            object.__setattr__(route, "far", type(route.far)("127.0.0.1", port))
            client = await pair.client()
            await pair.open_bridges(1)
            proxy.flip = True
            await client.send(confirmed(1))
            await client.wait_ended()
            await pair.no_bridges()
            await recorded(pair)

    run(test())
    found = {message.params["ID"]: message.params for message in records(log)}
    assert found["IEC62351-4:11.5"]["PeerInfo"] == "1.1.1.999.1:12"
    assert found["IEC62351-4:11.5"]["X.check"] == "icv"
    assert found["IEC62351-14:4.5"]["RefEvtID"] == "IEC62351-4:11.5"


@pytest.mark.event("IEC62351-14:4.2")
def test_a_far_gateway_that_is_not_there_is_recorded(pki: Path, tmp_path: Path) -> None:
    log = tmp_path / "cc.log"

    async def test() -> None:
        async with gateways(pki, cc_head=head(log)) as pair:
            proxy = Intermediary(pair.der_route.addresses[0][1])
            port = await proxy.start()
            route = pair.cc_route.route
            object.__setattr__(route, "far", type(route.far)("127.0.0.1", port))
            client = await pair.client()
            await pair.open_bridges(1)
            for writer in proxy.writers:
                writer.transport.abort()
            assert isinstance(await client.wait_ended(), Aborted)
            await pair.no_bridges()
            await recorded(pair)

    run(test())
    (failed,) = [message.params for message in records(log) if message.params["ID"] == "IEC62351-14:4.2"]
    assert failed["PeerInfo"] == "1.1.1.999.2:12"


@pytest.mark.event("IEC62351-14:6.12")
def test_files_that_cannot_be_used_are_recorded(pki: Path, tmp_path: Path) -> None:
    log = tmp_path / "cc.log"
    text = HEAD.format(name="cc") + head(log) + ROUTE

    async def test() -> None:
        gateway, _ = service.prepare(settings.parse(text, pki / "cc.toml"))
        await gateway.start()
        mine = gateway.settings.identity
        assert mine is not None
        object.__setattr__(mine, "certificate", pki / "der.e2e.pem")
        assert not gateway.reload()
        await gateway.end()
        with pytest.raises(ConfigError):
            service.prepare(settings.parse(text.replace("cc.e2e.key", "der.e2e.key"), pki / "cc.toml"))

    run(test())
    found = [message.params for message in records(log) if message.params["ID"] == "IEC62351-14:6.12"]
    assert ["does not belong" in params["X.reason"] for params in found] == [True, True]


@pytest.mark.event("IEC62351-14:9.3")
def test_an_event_file_that_was_tampered_with_is_told_at_the_start(pki: Path, tmp_path: Path) -> None:
    log = tmp_path / "cc.log"
    text = HEAD.format(name="cc") + head(log) + ROUTE

    async def once() -> None:
        gateway, _ = service.prepare(settings.parse(text, pki / "cc.toml"))
        await gateway.start()
        await gateway.end()

    run(once())
    assert ids(log) == ["IEC62351-14:6.8"]
    log.write_bytes(log.read_bytes().replace(b'SqNum="1"', b'SqNum="7"'))
    run(once())
    first, *_ = records(log)
    assert first.params["ID"] == "IEC62351-14:9.3"
    assert first.priority == 105
    assert "cc.log:2: " in first.params["X.reason"]
    assert b'SqNum="7"' in Path(f"{log}.1").read_bytes()


@pytest.fixture
def context(pki: Path) -> Callable[[], ssl.SSLContext]:
    """TLS of a collector. Made late: the pair of gateways makes the certificates."""

    def make() -> ssl.SSLContext:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(pki / "other.tls.pem", pki / "other.tls.key")
        made.load_verify_locations(pki / "root.pem")
        made.verify_mode = ssl.CERT_REQUIRED
        return made

    return make


def collecting(port: int, more: str = "") -> str:
    return f"""\
[events]
collector = "127.0.0.1:{port}"
{more}
[events.tls]
certificate = "cc.tls.pem"
key = "cc.tls.key"
anchors = ["root.pem"]
"""


@pytest.mark.event("IEC62351-14:9.5", "IEC62351-4:15.11")
def test_a_collector_gets_all_records_also_those_from_before_it_was_there(
    pki: Path, tmp_path: Path, context: Callable[[], ssl.SSLContext]
) -> None:
    port = free_port()
    made: list[Collector] = []

    async def test() -> None:
        async with gateways(pki, der_name="other", cc_head=collecting(port)) as pair:
            with pytest.raises(Rejected):
                await pair.client()  # the far gateway has another identity
            await until(lambda: pair.records.events().count("COMM_LOG_SUBSCRIBER_FAIL"), 30)
            made.append(Collector(context(), port))
            await until(lambda: len(made[0].lines) >= 3, 30)

    run(test())
    names = [message.params["MNEMONIC"] for message in made[0].messages]
    made[0].close()
    assert {"CONFIG_FILE_IMPORT", "COMM_LOG_SUBSCRIBER_FAIL"} <= set(names)


def test_a_flood_of_bad_peers_is_counted_and_the_pair_goes_on(pki: Path, tmp_path: Path) -> None:
    log = tmp_path / "der.log"

    async def test() -> None:
        async with gateways(pki, der_head=head(log, "burst = 5"), der_extra="accept_rate = 10000\n") as pair:
            client = await pair.client()
            host, port = pair.der_route.addresses[0]

            async def bad() -> None:
                reader, writer = await asyncio.open_connection(host, port)
                writer.write(b"\x16\x03\x01 no TPKT at all")
                await reader.read()
                writer.close()

            for _ in range(20):
                await asyncio.gather(*(bad() for _ in range(10)))
            await client.send(confirmed(7))
            assert await client.recv()
            assert pair.records.events().count("OSI_ENV_PROT_ERR") <= 6

    run(test())
    found = [message.params for message in records(log) if message.params["ID"] == "IEC62351-4:15.1"]
    written = [params for params in found if "X.Suppressed" not in params]
    assert 5 <= len(written) < 20
    assert sum(int(params.get("X.Suppressed", "1")) for params in found) == 200


# --- checking ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("table", "line", "words"),
    [
        ('file = "nowhere/events.log"', 10, "is no directory; make it"),
        ('file = "cc.log"\nchain_key = "nowhere"', 11, "No such file"),
        ('file = "cc.log"\nchain_key = "short.key"', 11, "has 5 octets; at least 32"),
        ('collector = "127.0.0.1:6514"', 10, "syslog goes over TLS only"),
        ('collector = "127.0.0.1:6514"\n[events.tls]\ncertificate = "gone.pem"\nkey = "cc.tls.key"\n'
         'anchors = ["root.pem"]', 12, "there is no such file"),
        ('source = "two words"', 10, "visible ASCII"),
        ('level = "debug"', 10, "write one of"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_line_and_nothing_is_made(pki: Path, table: str, line: int, words: str) -> None:
    (pki / "short.key").write_bytes(b"short")
    text = HEAD.format(name="cc") + f"[events]\n{table}\n" + ROUTE
    with pytest.raises(SettingsError) as caught:
        service.check(settings.parse(text, pki / "cc.toml"))
    found = [str(problem) for problem in caught.value.problems]
    assert any(each.startswith(f"line {line}: ") and words in each for each in found), found
    assert not list(pki.glob("cc.log*"))


def test_what_is_doubtful_is_told(pki: Path) -> None:
    text = HEAD.format(name="cc") + collecting(6514, "file_count = 3\n") + ROUTE
    doubts, _ = service.check(settings.parse(text, pki / "cc.toml"))
    told = "\n".join(doubts)
    assert "file_count: there is no file" in told
    assert "records have no number (SqNum 0)" in told
    assert "is lost at a restart" in told
    (pki / "wide.key").write_bytes(bytes(32))
    (pki / "wide.key").chmod(0o644)
    text = HEAD.format(name="cc") + '[events]\nfile = "cc.log"\nchain_key = "wide.key"\n' + ROUTE
    doubts, _ = service.check(settings.parse(text, pki / "cc.toml"))
    assert any("line 11: " in doubt and "may be read by other users" in doubt for doubt in doubts)


def test_without_the_table_events_go_to_the_log_alone(pki: Path, caplog: pytest.LogCaptureFixture) -> None:
    parsed = settings.parse(HEAD.format(name="cc") + ROUTE, pki / "cc.toml")
    assert parsed.events is None

    async def test() -> None:
        async with gateways(pki) as pair:
            assert pair.cc_route.watch is None
            client = await pair.client()
            await client.release()
            assert not pair.records.events()

    run(test())
