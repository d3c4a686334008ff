"""Events in the gateway's log: standing warnings once a day, floods cut short and counted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest

from fastsec.eventlog.limiter import Limiter
from fastsec.events import named
from fastsec.gateway import telling
from fastsec.gateway.logs import LOGGER, Log
from fastsec.gateway.telling import Telling


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.fields: list[dict[str, object]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.fields.append(record.fields)  # type: ignore[attr-defined]

    def of(self, mnemonic: str) -> list[dict[str, object]]:
        return [fields for fields in self.fields if fields.get("mnemonic") == mnemonic]


@pytest.fixture
def kept() -> Iterator[Kept]:
    handler, logger = Kept(), logging.getLogger(LOGGER)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(telling, "time", found)
    return found


def test_a_standing_warning_is_told_once_a_day_for_each_peer(kept: Kept, clock: Clock) -> None:
    tell = Telling(Limiter()).through(Log(route="a"))
    for port in range(5):
        tell(named("TLS_NO_CRL", peer=f"10.0.0.1:{port}"))
        tell(named("TLS_NO_CRL", peer=f"10.0.0.2:{port}"))
    assert [fields["peer"] for fields in kept.of("TLS_NO_CRL")] == ["10.0.0.1:0", "10.0.0.2:0"]
    assert kept.fields[0]["route"] == "a"
    clock.now += telling.DAY - 1
    tell(named("TLS_NO_CRL", peer="10.0.0.1:9"))
    assert len(kept.of("TLS_NO_CRL")) == 2
    clock.now += 2
    tell(named("TLS_NO_CRL", peer="10.0.0.1:9"))
    assert len(kept.of("TLS_NO_CRL")) == 3


def test_what_is_remembered_is_bounded(kept: Kept, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "TOLD_MAX", 3)
    told = Telling()
    for number in range(9):
        told.tell(named("TLS_NO_CRL", peer=f"peer{number}"), Log())
    assert len(told._told) == 3
    assert len(kept.fields) == 9


def test_a_flood_is_cut_short_and_counted(kept: Kept, clock: Clock) -> None:
    told = Telling(Limiter(rate=1, burst=20))
    for port in range(500):
        told.tell(named("INV_SIGNATURE_ASS_REQ", peer=f"10.0.0.9:{port}"), Log())
    told.tell(named("CLEAR_BAD_ICV", peer="1.1.1.999.1:12"), Log())
    assert len(kept.of("INV_SIGNATURE_ASS_REQ")) == 20
    assert len(kept.of("CLEAR_BAD_ICV")) == 1
    clock.now += telling.SUMMARY
    told.tell(named("CLEAR_BAD_ICV", peer="1.1.1.999.1:12"), Log())
    last = kept.of("INV_SIGNATURE_ASS_REQ")[-1]
    assert (last["count"], last["peer"]) == (480, "10.0.0.9")
    assert len(kept.of("INV_SIGNATURE_ASS_REQ")) == 21


def test_what_was_suppressed_is_told_though_nothing_follows(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "SUMMARY", 0.01)

    async def flood() -> None:
        told = Telling(Limiter(burst=1))
        for _ in range(3):
            told.tell(named("CLEAR_BAD_ICV", peer="x"), Log())
        for _ in range(3000):
            if sum(int(str(each.get("count", 1))) for each in kept.of("CLEAR_BAD_ICV")) == 3:
                return
            await asyncio.sleep(0.01)

    asyncio.run(flood())
    assert sum(int(str(each.get("count", 1))) for each in kept.of("CLEAR_BAD_ICV")) == 3


def test_at_the_end_the_rest_is_told(kept: Kept, clock: Clock) -> None:
    told = Telling(Limiter(burst=2))
    for _ in range(5):
        told.tell(named("CLEAR_BAD_ICV", peer="x"), Log())
    told.sum_up()
    assert [each.get("count") for each in kept.of("CLEAR_BAD_ICV")] == [None, None, 3]
