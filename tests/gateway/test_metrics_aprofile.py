"""A route that speaks the A-profile is counted like any other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import test_aprofile_route as routes
from gateway_pair import CONCLUDE_REQUEST, confirmed, free_port, run, until
from scraping import scraped

import aprofile_files
from fastsec.aio.aprofile import forget_a_profile
from fastsec.errors import Rejected
from fastsec.instant import now


@pytest.fixture(autouse=True)
def _fresh_memories(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    forget_a_profile()
    monkeypatch.setattr("fastsec.aio.aprofile.present", lambda: now()._replace(utc_ms=now().utc_ms - 3_600_000))
    yield
    forget_a_profile()


def test_traffic_associations_and_refusals(tmp_path: Path) -> None:
    aprofile_files.write(tmp_path, routes.WORLD, cc=routes.CC, der=routes.DER)

    async def main() -> None:
        port = free_port()
        async with routes.two(tmp_path, der=f'[metrics]\nlisten = "127.0.0.1:{port}"\n') as pair:
            stream = await pair.client()
            for number in range(20):
                await stream.send(confirmed(number, 500))
                await stream.recv()
            await stream.send(CONCLUDE_REQUEST)
            await stream.recv()
            await stream.release()
            await until(lambda: not pair.cc.runners[0].bridges)
            name = pair.der.runners[0].route.name
            octets = 20 * len(confirmed(0, 500)) + len(CONCLUDE_REQUEST)
            await scraped(
                port,
                {
                    f"fastsec_pdus_total{{direction=received,route={name},side=secured}}": 21,
                    f"fastsec_pdu_bytes_total{{direction=received,route={name},side=secured}}": octets,
                    f"fastsec_handshakes_started_total{{route={name}}}": 1,
                    f"fastsec_handshakes_completed_total{{route={name}}}": 1,
                    f"fastsec_associations_unconfirmed{{route={name}}}": 0,
                    f"fastsec_associations_ended_total{{cause=released,route={name},side=secured}}": 1,
                    f"fastsec_tls_handshakes_total{{kind=full,route={name}}}": 1,
                },
            )
            assert pair.cc.runners[0].meters[1].completed == 1

    run(main())


def test_a_peer_that_is_not_meant_is_a_failed_handshake(tmp_path: Path) -> None:
    aprofile_files.write(tmp_path, routes.WORLD, cc=routes.CC, der=routes.CC)

    async def main() -> None:
        async with routes.two(tmp_path) as pair:
            with pytest.raises(Rejected):
                await pair.client()
            meter = pair.cc.runners[0].meters[1]
            await until(lambda: sum(meter.failed.values()) == meter.started >= 1 and not meter.under_way)
            assert meter.completed == 0

    run(main())
