"""data/raised.csv: made from source and markers, current, and without a gap in the domain of end-to-end security."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from fastsec.events import CATALOGUE, DOMAIN_E2E

ROOT = Path(__file__).resolve().parents[1]
ROWS = list(csv.DictReader((ROOT / "src/fastsec/data/raised.csv").read_text(encoding="utf-8").splitlines()))


@pytest.mark.timeout(300)
def test_it_is_current() -> None:
    script = ROOT / "scripts" / "events_table.py"
    done = subprocess.run(
        [sys.executable, str(script), "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_event_has_one_row_that_says_something() -> None:
    assert [row["id"] for row in ROWS] == [entry.id for entry in CATALOGUE.values()]
    for row in ROWS:
        assert bool(row["where"] or row["test"]) != bool(row["reason"]), row


def test_every_event_of_domain_4_is_brought_about_by_a_test() -> None:
    for row in ROWS:
        if row["id"].startswith(f"{DOMAIN_E2E}:") and not row["id"].startswith(f"{DOMAIN_E2E}:18."):
            assert row["where"], row
            assert row["test"], row
