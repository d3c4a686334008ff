"""The formal model, a small part of it: the protocol has no attack, and the mutations have one. All: ``make model``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from cases import BROKEN, CASES, HOLDS
from check import Result, run_all

QUICK = [case for case in CASES if case.quick]


@pytest.fixture(scope="module")
def results() -> dict[str, Result]:
    return {f"{case.part}: {case.about}": result for case, result in run_all(QUICK)}


@pytest.mark.timeout(300)  # the first builds the verifier and runs all, on a machine that may be busy
@pytest.mark.parametrize("case", QUICK, ids=lambda case: f"{case.part}: {case.about}")
def test_the_checker_finds_what_it_must_and_nothing_else(case, results: dict[str, Result]) -> None:  # type: ignore[no-untyped-def]
    result = results[f"{case.part}: {case.about}"]
    assert not result.error
    assert result.found == case.must_find, result.trace
    assert bool(result.trace) == result.found


def test_every_part_has_a_case_that_holds_and_a_mutation() -> None:
    parts = {case.part for case in CASES}
    for kind in (HOLDS, BROKEN):
        assert {case.part for case in QUICK if case.kind == kind} == parts
    assert len({(case.part, case.about) for case in CASES}) == len(CASES)
