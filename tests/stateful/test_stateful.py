"""The machines of this folder, run: a bounded, repeatable number of runs here; as long as wished with
``FASTSEC_STATEFUL_MINUTES`` (each machine that long, other runs every time).

That the interesting situations come about is asserted too: a machine that no longer gets there proves nothing.
"""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from stateful.life import REACHED
from stateful.machine import EngineMachine
from stateful.with_reference import ReferenceMachine

MINUTES = float(os.environ.get("FASTSEC_STATEFUL_MINUTES", "0"))
PROFILE = settings(
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink] if MINUTES else [Phase.generate],
    report_multiple_bugs=False,
)

# Situation -> how often it must have come about in the bounded runs (well below what it was when this was written).
ENGINES = {
    "client OPEN": 300,
    "server OPEN": 300,
    "confirmed": 150,
    "sent by the fast path": 400,
    "sent by the slow path": 5,
    "received by the fast path": 30,
    "refused by the fast path": 40,
    "carrier accepted": 20,
    "changedKey accepted": 12,
    "carrier accepted during release": 2,
    "reqRekey sent": 8,
    "crossed release completed": 8,
    "client CROSSED": 3,
    "server CROSSED": 3,
    "client ASKED": 6,
    "server ASKED": 20,
    "released": 250,
    "ended fairly": 40,
    "job out of order": 3,
    "delivered while busy": 12,
    "clock stepped": 100,
    "clock stands": 15,
    "clocks far apart": 15,
    "credential renewed": 50,
    "crowd of unconfirmed": 15,
    "limit OUR_UNCONFIRMED_PER_PEER": 20,
    "limit OUR_UNCONFIRMED_TIMEOUT": 2,
    "exact repeat of a request refused": 6,
    "attack corrupt": 40,
    "attack drop": 40,
    "attack release overtakes data": 10,
    "transfer after ReleaseReq dropped": 10,
    "attack duplicate": 40,
    "attack reorder": 12,
    "attack replay": 40,
    "attack reflect": 40,
    "attack inject": 12,
    "attack replay under an old key": 2,
    "fault foreign": 30,
    "fault icv": 3,
    "fault replay": 8,
    "fault sequence": 30,
    "fault time": 1,
    "fault protocol-error": 2,
    "event alarm": 80,
    "event error": 200,
}
REFERENCE = {
    "reference: engine as client": 60,
    "reference: engine as server": 60,
    "reference: took a carrier": 25,
    "reference: took changedKey": 20,
    "reference: key update begun by the reference": 20,
    "reference: asks for new keys": 10,
    "reference: crossed release": 10,
    "reference: release by the engine": 12,
    "reference: release by the reference": 30,
    "reference: clock stepped": 100,
    "reference: rogue icv": 5,
    "reference: rogue replay": 2,
    "reference: rogue gap": 2,
    "reference: rogue field": 8,
    "reference: abort by the engine": 5,
    "reference: abort by the reference": 2,
    "reference: honest to the end": 40,
}
MACHINES = [(EngineMachine, 220, 50, ENGINES), (ReferenceMachine, 220, 40, REFERENCE)]


@pytest.mark.timeout(1800 + 180 * MINUTES)
@pytest.mark.parametrize(("machine", "runs", "steps", "wanted"), MACHINES, ids=lambda v: getattr(v, "__name__", ""))
def test_the_engine_agrees_with_its_model(
    machine: type[RuleBasedStateMachine], runs: int, steps: int, wanted: dict[str, int]
) -> None:
    REACHED.clear()
    bounded = settings(PROFILE, max_examples=runs, stateful_step_count=steps)
    until = time.monotonic() + 60 * MINUTES
    run_state_machine_as_test(seed(62351)(type("Repeatable", (machine,), {})), settings=bounded)
    while time.monotonic() < until:
        run_state_machine_as_test(machine, settings=bounded)
    print("\n".join(f"{count:8} {name}" for name, count in sorted(REACHED.items())))
    missed = {name: (REACHED[name], least) for name, least in wanted.items() if REACHED[name] < least}
    assert not missed, f"situations that hardly came about, (times, at least): {missed}"
