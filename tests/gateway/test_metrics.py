"""The gateway's metrics against what really passed: processes, exact counts, refusals, reloads, every definition."""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path

import pytest
from gateway_pair import (
    CC,
    CONCLUDE_REQUEST,
    DER,
    HEAD,
    INITIATE_REQUEST,
    INITIATE_RESPONSE,
    OTHER,
    Pair,
    authority,
    confirmed,
    echo,
    free_port,
    gateways,
    plain,
    run,
    until,
)
from scraping import Counting, frames, scrape, scraped

import fastsec
from fastsec.aio import tls_renewal
from fastsec.aio.client import connect, plain_connect
from fastsec.aio.endpoints import forget_identities
from fastsec.aio.meter import DEFAULT, LOGS
from fastsec.aio.server import plain_serve
from fastsec.aio.stream import streams
from fastsec.aio.tls import TLSLayer
from fastsec.demo.gateways import Gateway
from fastsec.errors import Aborted
from fastsec.gateway import metrics as own
from fastsec.gateway import settings
from fastsec.gateway.model import SettingsError
from fastsec.metrics import DEFINITIONS

SIZES = (0, 7, 500, 9000)
CLIENTS = 3
LOG = '[log]\nformat = "json"\n'


def table(port: int) -> str:
    return f'[metrics]\nlisten = "127.0.0.1:{port}"\n'


async def talk(near: int, clients: int = CLIENTS) -> tuple[int, int]:
    """So many clients ask and conclude one after the other; PDUs and octets that each direction carried."""
    pdus = octets = 0
    for _ in range(clients):
        async with await plain_connect(f"osi://127.0.0.1:{near}", plain(), initiate=INITIATE_REQUEST) as stream:
            for number, size in enumerate(SIZES):
                pdu = confirmed(number, size)
                await stream.send(pdu)
                assert len(await stream.recv()) == len(pdu)
                pdus, octets = pdus + 1, octets + len(pdu)
            await stream.send(CONCLUDE_REQUEST)
            await stream.recv()
            pdus, octets = pdus + 1, octets + len(CONCLUDE_REQUEST)
    return pdus, octets


def carried(route: str, pdus: int, octets: int) -> dict[str, float]:
    """What a route shows that echoed so much: the same on both sides, in both directions."""
    return {
        f"fastsec_{name}_total{{direction={direction},route={route},side={side}}}": count
        for name, count in (("pdus", pdus), ("pdu_bytes", octets))
        for direction in ("received", "sent")
        for side in ("plain", "secured")
    }


def made(route: str, count: int, **failed: int) -> dict[str, float]:
    """What a route shows of its handshakes, all of them over."""
    shown = {
        f"fastsec_handshakes_started_total{{route={route}}}": count + sum(failed.values()),
        f"fastsec_handshakes_completed_total{{route={route}}}": count,
        f"fastsec_handshakes_under_way{{route={route}}}": 0,
        f"fastsec_handshake_duration_seconds_count{{route={route}}}": count,
        f"fastsec_associations_opened_total{{route={route},side=secured}}": count,
        f"fastsec_associations_open{{route={route},side=secured}}": 0,
        f"fastsec_associations_open{{route={route},side=plain}}": 0,
        f"fastsec_associations_ended_total{{cause=released,route={route},side=secured}}": count,
        f"fastsec_associations_unconfirmed{{route={route}}}": 0,
    }
    shown.update(
        {f"fastsec_handshakes_failed_total{{cause={cause},route={route}}}": each for cause, each in failed.items()}
    )
    return shown


def test_processes_count_exactly_what_passed(pki: Path) -> None:
    async def test() -> None:
        authority(pki)
        forget_identities()
        near, far, plant, of_cc, of_der = (free_port() for _ in range(5))
        middle = Counting(far)
        between = await middle.start()
        (pki / "counted-cc.toml").write_text(
            HEAD.format(name="cc")
            + table(of_cc)
            + f'[log]\nformat = "json"\n[[route]]\nname = "north"\nrole = "client"\n'
            f'listen = "127.0.0.1:{near}"\nconnect = "127.0.0.1:{between}"\npeer = "{DER}"\n'
        )
        (pki / "counted-der.toml").write_text(
            HEAD.format(name="der")
            + table(of_der)
            + f'[log]\nformat = "json"\n[[route]]\nname = "plant"\nrole = "server"\n'
            f'listen = "127.0.0.1:{far}"\nconnect = "127.0.0.1:{plant}"\npeers = ["{CC}"]\n'
        )
        started: list[Gateway] = []
        server = await plain_serve(streams(echo, INITIATE_RESPONSE), f"osi://127.0.0.1:{plant}", plain())
        try:
            for name in ("der", "cc"):
                started.append(await Gateway.start(name, pki / f"counted-{name}.toml"))
            await scraped(of_cc, {"fastsec_associations_open{route=north,side=plain}": 0})
            pdus, octets = await talk(near)
            await scraped(of_der, carried("plant", pdus, octets) | made("plant", CLIENTS))
            await scraped(
                of_cc,
                carried("north", pdus, octets)
                | made("north", CLIENTS)
                | {
                    "fastsec_frame_bytes_total{direction=sent,route=north,side=secured}": middle.there,
                    "fastsec_frame_bytes_total{direction=received,route=north,side=secured}": middle.back,
                    "fastsec_connections_accepted_total{route=north,side=plain}": CLIENTS,
                    "fastsec_connections_half_open{route=north,side=plain}": 0,
                },
            )

            # who is not let in: one alarm, one failed handshake
            with pytest.raises(Aborted):
                await connect(
                    f"osi://127.0.0.1:{between}",
                    fastsec.Config(
                        trust=fastsec.load_trust(pki / "root.pem"),
                        credential=fastsec.load_credential(pki / "other.e2e.pem", pki / "other.e2e.key"),
                    ),
                    peer=DER,
                    initiate=INITIATE_REQUEST,
                )
            event = "event=IEC62351-4:1.8,mnemonic=ADDR_MISMATCH_ASS_REQ,route=plant,severity=alarm"
            await scraped(of_der, made("plant", CLIENTS, address=1) | {f"fastsec_events_total{{{event}}}": 1})

            # a recorded handshake, sent again: refused before any public-key work
            recorded = frames(middle.first)
            reader, writer = await asyncio.open_connection("127.0.0.1", between)
            writer.write(recorded[0])
            assert await reader.read(1000)
            writer.write(recorded[1])
            async with asyncio.timeout(30):
                await reader.read()
            writer.close()
            found = await scraped(
                of_der,
                carried("plant", pdus, octets)
                | made("plant", CLIENTS, address=1, replay=1)
                | {
                    "fastsec_refusals_total{reason=repeats}": 1,
                    "fastsec_frame_bytes_total{direction=received,route=plant,side=secured}": middle.there,
                    "fastsec_frame_bytes_total{direction=sent,route=plant,side=secured}": middle.back,
                    "fastsec_connections_accepted_total{route=plant,side=secured}": CLIENTS + 2,
                    "fastsec_connections_unopened_total{reason=other,route=plant,side=secured}": 2,
                    "fastsec_jobs{state=running}": 0,
                },
            )
            assert found["fastsec_job_duration_seconds_count{where=pool}"] >= 2 * CLIENTS + 1
            alarms = [name for name in found if name.startswith("fastsec_events_total") and "severity=alarm" in name]
            assert sum(found[name] for name in alarms) == 2
        finally:
            for gateway in started:
                await gateway.process.stop()
            await server.close(0)
            await middle.close()

    run(test(), 120)


def test_open_associations_and_key_updates_are_counted_while_they_last(pki: Path) -> None:
    async def test() -> None:
        port = free_port()
        async with gateways(pki, cc_head=table(port)) as pair:
            clients = [await pair.client() for _ in range(2)]
            await pair.open_bridges(2)
            for client in clients:
                await client.send(confirmed(1))
                await client.recv()
            shown = {
                "fastsec_associations_open{route=north,side=plain}": 2,
                "fastsec_associations_open{route=north,side=secured}": 2,
                "fastsec_associations_unconfirmed{route=north}": 0,
                "fastsec_gateway_bridges{route=north}": 2,
                "fastsec_key_updates_total{route=north}": 0,
            }
            await scraped(port, shown)
            bridge = next(iter(pair.cc_route.bridges))
            assert bridge.outgoing is not None
            assert bridge.outgoing.connection is not None
            bridge.outgoing.connection.update_keys()
            await scraped(port, shown | {"fastsec_key_updates_total{route=north}": 1})
            for client in clients:
                client.abort()
            await pair.no_bridges()
            await scraped(
                port,
                {
                    "fastsec_associations_open{route=north,side=plain}": 0,
                    "fastsec_associations_open{route=north,side=secured}": 0,
                    "fastsec_key_updates_total{route=north}": 1,
                    "fastsec_associations_ended_total{cause=aborted-peer,route=north,side=plain}": 2,
                    "fastsec_associations_ended_total{cause=aborted-local,route=north,side=secured}": 2,
                },
            )

    run(test())


def test_unconfirmed_ones_are_shown_until_they_are_confirmed(pki: Path) -> None:
    async def test() -> None:
        port = free_port()
        async with gateways(pki, cc_head=table(port)) as pair:
            client = await pair.client()
            await pair.open_bridges(1)
            meter = pair.cc_route.meters[1]
            assert meter.unconfirmed == 1  # nothing was sent yet
            await client.send(confirmed(1))
            await client.recv()
            assert meter.unconfirmed == 0
            client.abort()

    run(test())


def test_events_of_the_route_and_of_the_gateway_are_counted_once(pki: Path, tmp_path: Path) -> None:
    """Also those that do not come from an association: TLS, and the log itself."""

    async def test() -> None:
        port = free_port()
        log = f'[events]\nfile = "{tmp_path / "events.log"}"\n'
        async with gateways(pki, tls=True, der_head=table(port) + log) as pair:
            reader, writer = await asyncio.open_connection("127.0.0.1", pair.der_route.addresses[0][1])
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            async with asyncio.timeout(30):
                await reader.read()
            writer.close()
            pair.der.events.raise_own("CYBSECEV_LOG_HASH_INVALID", reason="test")
            await until(lambda: bool(pair.der.events.meter.events))
            client = await pair.client()
            await client.send(confirmed(1))
            await client.recv()
            await client.release()
            await pair.no_bridges()
            others = [log for log in LOGS if log is not pair.der.events._log]  # of tests before
            for _ in range(30):  # until nothing of the associations' end comes in between
                assert await asyncio.get_running_loop().run_in_executor(None, pair.der.events._log.flush)  # type: ignore[union-attr]
                found = await scrape(port)
                shown = {name: value for name, value in found.items() if name.startswith("fastsec_events_total")}
                records = (tmp_path / "events.log").read_text(encoding="utf-8").count(" MNEMONIC=")
                if sum(shown.values()) == records:
                    break
                await asyncio.sleep(1)
        of_none = {name: value for name, value in shown.items() if "route=," in name}
        assert [value for name, value in of_none.items() if "CYBSECEV_LOG_HASH_INVALID" in name] == [1]
        assert (
            sum(shown.values())
            == records
            == found["fastsec_event_records_total{}"] - sum(log.records for log in others)
        )
        assert found["fastsec_event_suppressed_total{reason=rate}"] == sum(log.limited for log in others)

    run(test())


def test_tls_handshakes_and_resumptions(pki: Path) -> None:
    async def test() -> None:
        port = free_port()
        async with gateways(pki, tls=True, der_head=table(port)) as pair:
            for _ in range(2):
                client = await pair.client()
                await pair.open_bridges(1)
                await client.send(confirmed(1))
                await client.recv()
                await client.release()
                await pair.no_bridges()
            reader, writer = await asyncio.open_connection("127.0.0.1", pair.der_route.addresses[0][1])
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            async with asyncio.timeout(30):
                await reader.read()
            writer.close()
            await until(lambda: bool(pair.der_route.meters[1].tls_failed))
            found = await scrape(port)
            full, resumed = (
                found[f"fastsec_tls_handshakes_total{{kind={word},route=plant}}"] for word in ("full", "resumed")
            )
            assert (full, resumed) == (1, 1)
            failed = {name: value for name, value in found.items() if name.startswith("fastsec_tls_handshakes_failed")}
            assert list(failed.values()) == [1]

    run(test())


def test_a_hop_that_is_authenticated_anew_is_counted(pki: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_renewal, "SPREAD", 0.01)

    async def test() -> None:
        port = free_port()
        async with gateways(pki, tls=True, cc_head=table(port)) as pair:
            client = await pair.client()
            await pair.open_bridges(1)
            bridge = next(iter(pair.cc_route.bridges))
            assert bridge.outgoing is not None
            assert bridge.outgoing.connection is not None
            hop = bridge.outgoing.connection.transport
            assert isinstance(hop, TLSLayer)
            hop.look_again(anew=True, within=0.0)
            await until(lambda: hop.renewals == 1, 30)
            await client.send(confirmed(1))
            await client.recv()
            await scraped(
                port,
                {
                    "fastsec_tls_handshakes_total{kind=full,route=north}": 1,
                    "fastsec_tls_handshakes_total{kind=anew,route=north}": 1,
                },
            )
            client.abort()

    run(test())


def test_denied_requests_are_counted(pki: Path) -> None:
    async def test() -> None:
        port = free_port()
        async with gateways(pki, der_head=table(port), der_extra="access = true\n") as pair:
            client = await pair.client()
            await pair.open_bridges(1)
            for number in range(5):  # the client has no role, so it may do nothing
                await client.send(confirmed(number))
                assert (await client.recv())[:1] != b"\xa1"
            await scraped(
                port,
                {
                    "fastsec_gateway_denied_requests_total{route=plant}": 5,
                    "fastsec_pdus_total{direction=received,route=plant,side=secured}": 5,
                    "fastsec_pdus_total{direction=sent,route=plant,side=secured}": 5,
                    "fastsec_pdus_total{direction=sent,route=plant,side=plain}": 0,
                },
            )
            client.abort()

    run(test())


def test_waiting_connections_where_tcp_is_reversed(pki: Path) -> None:
    async def test() -> None:
        of_cc, of_der = free_port(), free_port()
        async with gateways(pki, reverse=True, cc_head=table(of_cc), der_head=table(of_der), der_extra="spare = 3\n"):
            await scraped(of_cc, {"fastsec_gateway_waiting_connections{route=north}": 3})
            await scraped(of_der, {"fastsec_gateway_waiting_connections{route=plant}": 3})

    run(test())


def test_the_door_counts_whom_it_refuses(pki: Path) -> None:
    async def test() -> None:
        port = free_port()
        async with gateways(pki, cc_head=table(port), cc_extra="max_associations = 1\n") as pair:
            client = await pair.client()
            await pair.open_bridges(1)
            for _ in range(3):
                reader, writer = await asyncio.open_connection("127.0.0.1", pair.near)
                with contextlib.suppress(ConnectionError):
                    assert not await reader.read()
                writer.close()
            found = await scraped(
                port, {"fastsec_gateway_connections_refused_total{reason=full,route=north,side=plain}": 3}
            )
            for reason in ("address", "rate"):
                assert (
                    found[f"fastsec_gateway_connections_refused_total{{reason={reason},route=north,side=plain}}"] == 0
                )
            assert found["fastsec_gateway_max_associations{route=north}"] == 1
            assert found["fastsec_gateway_route_info{dial=out,role=client,route=north,security=native,tls=false}"] == 1
            client.abort()

    run(test())


def test_reloads_and_expiries(pki: Path) -> None:
    async def test() -> None:
        port = free_port()
        async with gateways(pki, cc_head=table(port)) as pair:
            assert pair.cc.reload()
            key = pki / "cc.e2e.key"
            text = key.read_bytes()
            key.write_bytes(b"no key")
            try:
                assert not pair.cc.reload()
            finally:
                key.write_bytes(text)
            found = await scraped(
                port,
                {"fastsec_gateway_reloads_total{result=used}": 1, "fastsec_gateway_reloads_total{result=refused}": 1},
            )
            expiries = {name: value for name, value in found.items() if name.startswith("fastsec_gateway_expiry")}
            assert len(expiries) == len(pair.cc.expiries) >= 3
            assert min(expiries.values()) == pair.cc.expiries[0].at

    run(test())


def test_a_route_keeps_its_counts_over_a_reload(pki: Path) -> None:
    async def test() -> None:
        port = free_port()
        async with gateways(pki, cc_head=table(port)) as pair:
            pdus, octets = await talk(pair.near, 1)
            await pair.no_bridges()
            assert pair.cc.reload()
            more = await talk(pair.near, 1)
            await scraped(port, carried("north", pdus + more[0], octets + more[1]) | made("north", 2))

    run(test())


async def everything(pair: Pair, port: int) -> set[str]:
    await talk(pair.near, 1)
    await pair.no_bridges()
    return {re.sub(r"(_bucket|_sum|_count|_created)?\{.*", "", name) for name in await scrape(port)}


def test_every_definition_is_served(pki: Path) -> None:
    async def test() -> None:
        port = free_port()
        async with gateways(pki, reverse=True, tls=True, cc_head=table(port)) as pair:
            for table_ in (pair.cc_route.meters[1].failed, pair.cc_route.meters[1].tls_failed):
                table_["other"] = 1
            pair.cc_route.meters[1].events["IEC62351-4:1.8"] = 1
            served = await everything(pair, port)
            elsewhere = {"fastsec_gateway_denied_requests_total", "fastsec_revocation_next_update_timestamp_seconds"}
            assert served | elsewhere == {definition.name for definition in (*DEFINITIONS, *own.DEFINITIONS)}

    run(test())


def test_without_the_table_nothing_listens(pki: Path) -> None:
    async def test() -> None:
        async with gateways(pki) as pair:
            assert pair.cc.metrics is None

    run(test())


def test_who_names_no_meter_counts_in_the_default_one(pki: Path) -> None:
    async def test() -> None:
        async with gateways(pki) as pair:
            before = DEFAULT.traffic.pdus_out
            client = await pair.client()
            await client.send(confirmed(1))
            await client.recv()
            await until(lambda: DEFAULT.traffic.pdus_out == before + 2)  # the client's, and the plain server's
            client.abort()

    run(test())


# --- the file ---------------------------------------------------------------------------------------------------------
ROUTE = f'[[route]]\nrole = "client"\nlisten = "127.0.0.1:10102"\nconnect = "127.0.0.1:1"\npeer = "{OTHER}"\n'


def complaint(lines: str) -> str:
    try:
        settings.parse(HEAD.format(name="cc") + f"[metrics]\n{lines}\n{ROUTE}", Path("x.toml"))
    except SettingsError as error:
        return str(error)
    return ""


def test_the_empty_table_is_loopback() -> None:
    made = settings.parse(HEAD.format(name="cc") + "[metrics]\n" + ROUTE, Path("x.toml"))
    assert made.metrics is not None
    assert str(made.metrics.listen) == "127.0.0.1:9464"


@pytest.mark.parametrize("address", ["0.0.0.0:9464", "[::]:9464", "192.168.1.1:9464", "gateway.example:9464"])
def test_beyond_loopback_only_with_allow(address: str) -> None:
    assert "line 10" in complaint(f'listen = "{address}"')
    assert "allow = " in complaint(f'listen = "{address}"')
    assert not complaint(f'listen = "{address}"\nallow = ["192.168.1.7"]')
    assert "lets nobody in" in complaint(f'listen = "{address}"\nallow = []')


def test_an_allow_for_everyone_is_doubted() -> None:
    text = HEAD.format(name="cc") + f'[metrics]\nlisten = "0.0.0.0:1"\nallow = ["0.0.0.0/0"]\n{ROUTE}'
    warnings = settings.parse(text, Path("x.toml")).warnings
    assert any("lets everyone" in str(warning) for warning in warnings)


def test_not_where_a_route_listens() -> None:
    assert "choose a port" in complaint('listen = "127.0.0.1:10102"')


def test_without_prometheus_client_the_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    message = complaint("")
    assert "pip install 'fastsec[metrics]'" in message
    assert "line 9" in message


def test_an_address_that_is_taken_ends_the_start(pki: Path) -> None:
    async def test() -> None:
        taken = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
        port = taken.sockets[0].getsockname()[1]
        with pytest.raises(fastsec.ConfigError, match="metrics: cannot listen"):
            async with gateways(pki, cc_head=table(port)):
                pass
        taken.close()

    run(test())
