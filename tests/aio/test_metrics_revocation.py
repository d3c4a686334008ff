"""What the metrics say of revocation, against real servers on loopback: fetched, asked, failed, known."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry
from revocation_world import Http, Pki, policy
from world import pair

from fastsec.aio import meter
from fastsec.aio.revocation import RevocationService
from fastsec.aio.runtime import runtime
from fastsec.metrics import Collector

Run = Callable[[Any], Any]


def shown() -> dict[tuple[str, ...], float]:
    """The values of all metrics of revocation, by name and labels."""
    registry = CollectorRegistry()
    Collector(registry)
    return {
        (sample.name.removeprefix("fastsec_revocation_"), *sample.labels.values()): sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name.startswith("fastsec_revocation_")
    }


def grown(before: dict[tuple[str, ...], float], name: str, *labels: str) -> float:
    return shown()[(name, *labels)] - before[(name, *labels)]


async def opens(both: Any) -> None:
    async with pair(None, None, **both.configs) as two:
        await two.opened()


def test_a_list_is_fetched_once_and_known_from_then_on(run: Run) -> None:
    async def main() -> None:
        pki = Pki()
        async with Http().serving() as web:
            web.answers["/crl"] = lambda _: pki.authority.crl
            with RevocationService(policy(ocsp="off")) as service:
                assert service in meter.SERVICES
                both = pki.both(service, points=(f"{web.url}/crl",))
                before = shown()
                await opens(both)
                assert grown(before, "requests_total", "crl", "ok") == 1
                assert grown(before, "lists") == 1
                assert 1 <= grown(before, "judged_total", "asked") <= 2
                again = shown()
                await opens(both)
                assert grown(again, "requests_total", "crl", "ok") == 0
                assert grown(again, "judged_total", "asked") == 0
                assert grown(again, "judged_total", "known") >= 2
                ends = service.known.lists()[0].next_update_ms
                assert shown()[("next_update_timestamp_seconds",)] <= ends / 1000

    run(main())


def test_a_list_that_is_not_to_be_had_is_counted(run: Run) -> None:
    async def main() -> None:
        pki = Pki()
        async with Http().serving() as web:
            with RevocationService(policy(ocsp="off")) as service:
                both = pki.both(service, points=(f"{web.url}/none",))
                before = shown()
                await opens(both)
                assert grown(before, "requests_total", "crl", "failed") == 1
                assert grown(before, "requests_total", "crl", "ok") == 0

    run(main())


def test_questions_to_responders_are_counted_by_whether_they_were_answered(run: Run) -> None:
    async def main() -> None:
        pki = Pki()
        async with Http().serving() as web:
            web.answers["/ocsp"] = pki.answers()
            with RevocationService(policy()) as service:
                both = pki.both(service, responders=(f"{web.url}/ocsp",))
                before = shown()
                await opens(both)
                assert grown(before, "requests_total", "ocsp", "ok") == len(web.hits) == 2
                assert grown(before, "requests_total", "ocsp", "failed") == 0
                jobs = runtime().jobs
                assert sum(jobs.times["revocation"].counts) == 2  # handshakes that waited for an answer
                assert sum(jobs.times["signer"].counts) == 0
                assert jobs.elsewhere == {"signer": 0, "revocation": 0}
        with socket.socket() as dead:
            dead.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{dead.getsockname()[1]}/"
            with RevocationService(policy()) as service:
                both = pki.both(service, responders=(url,))
                before = shown()
                await opens(both)
                assert grown(before, "requests_total", "ocsp", "failed") >= 1
                assert grown(before, "requests_total", "ocsp", "ok") == 0

    run(main())
