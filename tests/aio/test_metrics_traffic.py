"""A meter beside real associations: what each side sent and got, and that nothing is left when all is over."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
from world import DER, INITIATE, KINDS, PDU, Recorder, pair, until

from fastsec import Rejected, connect, serve
from fastsec.aio.handler import AssociationHandler, Reject
from fastsec.aio.meter import DEFAULT, Meter
from fastsec.config import Policy
from fastsec.errors import FastsecError


def state() -> tuple[int, ...]:
    """What the default meter shows of the present."""
    return (DEFAULT.open, DEFAULT.unconfirmed, DEFAULT.under_way, DEFAULT.half_open)


def traffic() -> tuple[int, ...]:
    found = DEFAULT.traffic
    return (found.pdus_in, found.octets_in, found.pdus_out, found.octets_out)


def balanced(meter: Meter) -> bool:
    """All that was begun is over, one way or the other."""
    over = meter.completed + sum(meter.failed.values()) == meter.started
    ended = meter.opened == sum(meter.ended.values()) and not meter.open
    return over and ended and not (meter.unconfirmed or meter.under_way or meter.half_open)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dials", ["client", "server"])
def test_every_kind_of_association(run, world, authority, kind: str, dials: str) -> None:
    async def main() -> None:
        before, at_rest = traffic(), state()
        opened = DEFAULT.opened
        async with pair(world, authority, kind, dials, server=Recorder(echo=True)) as two:
            await two.opened()
            assert DEFAULT.opened - opened == 2  # both sides count here
            two.client.assoc.write(PDU)
            two.client.assoc.write_many([PDU] * 6)
            await two.client.until(lambda: len(two.client.pdus) == 7)
            count, octets = 14, 14 * len(PDU)
            grown = tuple(now - then for now, then in zip(traffic(), before, strict=True))
            assert grown == (count, octets, count, octets)
            assert DEFAULT.open - at_rest[0] == 2
        await until(lambda: state() == at_rest)

    run(main())


def test_the_slow_way_of_sending_counts_too(run, world, authority) -> None:
    """Towards a strict peer the PDU that carries an update goes through the engine."""
    strict = Policy(strict_peer=True)

    async def main() -> None:
        configs = {
            "client_config": dataclasses.replace(world.centre, policy=strict),
            "server_config": dataclasses.replace(world.der, policy=strict),
        }
        before, updates = traffic(), DEFAULT.key_updates
        async with pair(world, authority, server=Recorder(echo=True), **configs) as two:
            await two.opened()
            two.client.assoc.write(PDU)
            await two.client.until(lambda: len(two.client.pdus) == 1)
            two.client.assoc.update_keys()
            await until(lambda: not two.client.assoc._fast_tx)
            two.client.assoc.write_many([PDU] * 3)
            await two.client.until(lambda: len(two.client.pdus) == 4)
            grown = tuple(now - then for now, then in zip(traffic(), before, strict=True))
            assert grown == (8, 8 * len(PDU), 8, 8 * len(PDU))
            assert DEFAULT.key_updates - updates == 2  # both sides

    run(main())


class Refusing(AssociationHandler):
    def association_requested(self, assoc, appl_data):
        return Reject()


class Failing(AssociationHandler):
    def association_requested(self, assoc, appl_data):
        raise RuntimeError("x")


@pytest.mark.parametrize(
    ("factory", "cause"), [(Refusing, "rejected-peer"), (Failing, "rejected-peer")], ids=["refuses", "fails"]
)
def test_whatever_ends_it_nothing_is_left(run, world, factory, cause: str) -> None:
    async def main() -> None:
        here, there = Meter("client"), Meter("server")
        async with serve(factory, "osi://127.0.0.1:0", world.der, meter=there) as listener:
            port = listener.addresses[0][1]
            with pytest.raises(Rejected):
                await connect(f"osi://127.0.0.1:{port}", world.centre, peer=DER, initiate=INITIATE, meter=here)
            await until(lambda: balanced(there) and balanced(here))
        assert here.failed == {cause: 1}
        assert sum(there.failed.values()) == 1
        assert (here.opened, there.opened) == (0, 0)
        assert there.admissions == listener.admissions

    run(main(), quiet=True)


@pytest.mark.parametrize("octets", [0, 4, 19, 30, 500])
def test_connections_that_are_cut_at_any_time(run, world, octets: int) -> None:
    """A client whose connection is cut after so many octets to the server, and one that never asks."""

    async def main() -> None:
        here, there = Meter("client"), Meter("server")
        async with serve(Recorder, "osi://127.0.0.1:0", world.der, initiate=b"\xa9\x00", meter=there) as listener:

            async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", listener.addresses[0][1])

                async def back() -> None:
                    while data := await far_reader.read(1000):
                        writer.write(data)

                task = asyncio.ensure_future(back())
                left = octets
                while left and (data := await reader.read(left)):
                    far_writer.write(data)
                    left -= len(data)
                await asyncio.sleep(0.01)
                far_writer.transport.abort()
                writer.transport.abort()
                task.cancel()

            proxy = await asyncio.start_server(cut, "127.0.0.1", 0)
            port = proxy.sockets[0].getsockname()[1]
            with pytest.raises((FastsecError, OSError)):
                await connect(f"osi://127.0.0.1:{port}", world.centre, peer=DER, initiate=INITIATE, meter=here)
            await until(lambda: balanced(there) and balanced(here))
            assert there.admissions.accepted == there.admissions.unopened == 1
            proxy.close()

    run(main(), quiet=True)
