"""Every kind of fault at the octets of an association's life, in both directions: in memory, over sockets, over TLS.

Here: every octet for damage and cuts, in AE mode; in every other mode every octet of data for damage; the other faults
at both ends of every field and inside the long ones, thinned out. ``FASTSEC_FAULTS=all`` takes every octet for every
fault. What must come of each stands in ``table.py``, what holds for all of them in ``judge.py``.
"""

from __future__ import annotations

import pytest

from faults.script import ENDS
from faults.sweep import FULL, Plan, Tally, sweep
from faults.table import TABLE
from faults.tap import PER_FRAME, Kind

DAMAGE = (Kind.CORRUPT, Kind.DUPLICATE, Kind.REORDER)
MODES = ("hmac", "gmac", "cbc-hmac", "cbc-gmac")
EVERY = (Kind.CORRUPT, Kind.CUT)
LONG = pytest.mark.timeout(7200 if FULL else 1800)

OTHERS = tuple(kind for kind in Kind if kind not in EVERY)
LASTS = ("FN", "DN", "AB")
MEMORY = [
    Plan("memory", kinds=EVERY, every=EVERY),
    Plan("memory", kinds=OTHERS, thin=4),
    *[Plan("memory", end=end, kinds=(Kind.CORRUPT,), every=EVERY, frames=LASTS) for end in ENDS[1:]],
    *[Plan("memory", end=end, kinds=(Kind.CUT, *OTHERS), frames=LASTS, thin=4) for end in ENDS[1:]],
]
MEMORY_MODES = [
    Plan("memory", mode=mode, kinds=kinds, every=(Kind.CORRUPT,), frames=("DT",), thin=thin)
    for mode in MODES
    for kinds, thin in (((Kind.CORRUPT,), 1), (DAMAGE[1:], 8))
]
SOCKETS = [
    Plan("sockets", kinds=EVERY, every=EVERY),
    Plan("sockets", kinds=OTHERS, thin=8),
    Plan("sockets", dials="server", thin=16),
    Plan("sockets", end=ENDS[1], frames=("FN", "DN"), thin=16),
]
TLS = [
    Plan("tls", kinds=EVERY, thin=4),
    Plan("tls", kinds=OTHERS, thin=16),
    Plan("tls", dials="server", kinds=DAMAGE, thin=16),
]


def judge(tally: Tally, least: int) -> None:
    print(f"{tally.cases} cases, {tally.missed} beyond the end of a shorter PDU")
    for kind in Kind:
        words = {word for (name, _, _, word) in tally.words if name == kind.name}
        count = sum(n for (name, *_), n in tally.words.items() if name == kind.name)
        print(f"{count:7} {kind.name:15} {' '.join(sorted(words))}")
    assert not tally.wrong, "\n".join([f"{len(tally.wrong)} of {tally.cases}", *tally.wrong[:20]])
    assert tally.cases >= least, "not all of them were tried"


@LONG
def test_in_memory() -> None:
    tally = sweep(MEMORY)
    judge(tally, 10_000)
    assert {name for name, *_ in tally.words} == {kind.name for kind in Kind}
    for frame in ("CR", "CC", "CN", "AC", "DT-first", "DT", "DT-carrier", "DT-changedKey", "FN", "DN", "AB"):
        assert {name for name, struck, *_ in tally.words if struck == frame} >= {kind.name for kind in Kind}, frame


@LONG
def test_in_memory_in_every_mode() -> None:
    """The data phase: the integrity of each mode."""
    judge(sweep(MEMORY_MODES), 3000)


@LONG
def test_over_sockets() -> None:
    judge(sweep(SOCKETS), 9000)


@LONG
def test_over_tls() -> None:
    judge(sweep(TLS), 500)


def test_the_table_has_no_row_without_use() -> None:
    """A row that an earlier one hides judges nothing."""
    for rows in TABLE.values():
        seen = set()
        for row in rows:
            assert (row.frames, row.octets) not in seen, row
            seen.add((row.frames, row.octets))
    assert set(TABLE) == set(Kind)
    assert set(Kind) > PER_FRAME
