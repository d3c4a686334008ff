"""Runs the formal model: ``python tests/model/check.py [--quick]`` prints one line per case, and a trace per attack.

Maude (rewriting with an attacker who composes what it can) judges the handshake, the replay memory, control PDUs and
leaks; Spin judges the open association, whose transitions are made from ``fastsec.state``. docs/design.md, section 8,
says what is modelled, within which bounds, and what came out.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

from cases import BROKEN, CASES, Case

from fastsec.state import DATA_STATES, OVER, TABLE, Fault, Input, Rule, State

HERE: Final = Path(__file__).parent
LIMIT_S: Final = 600

# The inputs of an open association that the Promela model has; the others stand for time and the environment, or are
# the same as one of these (DtSecAbort and ApplAbort, the two ways a connection ends).
NAMES: Final = (
    *("SEND", "UPDATE_KEYS", "RELEASE", "RELEASE_ACCEPT", "ABORT", "TRANSFER"),
    *("RELEASE_REQ", "RELEASE_RSP", "APPL_ABORT", "LOST", "KEYS_MADE", "CONTROL_MADE"),
)
INPUTS: Final = tuple(Input[name] for name in NAMES)
STATES: Final = tuple(state for state in State if state in DATA_STATES | OVER)
# Mutations of the table: what a switch makes of (state, input).
MUTATIONS: Final = {
    (State.RELEASING, Input.KEYS_MADE): ("KEYS_DROPPED_WHEN_RELEASING", "DROP"),
    (State.RELEASING, Input.SEND): ("SENDS_WHEN_RELEASING", "SEAL"),
    (State.RELEASING, Input.TRANSFER): ("TRANSFERS_DROPPED_WHEN_RELEASING", "DROP_TRANSFER"),
}
ACTION_OF: Final = {Fault.CALLER: "CALLER", Fault.DT_ABORT: "DT_ABORT", Fault.IGNORE: "DROP", Fault.DROP: "DROP"}


class Result(NamedTuple):
    """What came out of one case.

    Attributes:
        found: whether a violation (or what was to be reached) was found.
        states: how many were looked at.
        seconds: how long it took.
        trace: how it comes about, a line per step.
        error: why there is no result; empty if there is one.
    """

    found: bool
    states: int
    seconds: float
    trace: tuple[str, ...] = ()
    error: str = ""


# A sanitizer preloaded for the Python of a checked build is not meant for these tools.
ENVIRONMENT: Final = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


# --- Maude ------------------------------------------------------------------------------------------------------------


def switches_of(part: str) -> list[str]:
    """All switches that a model asks for."""
    text = (HERE / "terms.maude").read_text() + (HERE / f"{part}.maude").read_text()
    return sorted(set(re.findall(r"\bon\((\w+)\)", text)) - {"W"})


def maude(case: Case) -> Result:
    """Search the whole state space, or until the goal is found."""
    begun = time.monotonic()
    unknown = set(case.broken) - set(switches_of(case.part))
    if unknown:
        return Result(False, 0, 0, error=f"no such switch: {unknown}")
    prelude = (
        "fmod BROKEN is sorts Switch Switches . subsort Switch < Switches . op none : -> Switches [ctor] .\n"
        "op __ : Switches Switches -> Switches [ctor assoc comm id: none] .\n"
        f"ops {' '.join(switches_of(case.part))} : -> Switch [ctor] . op broken : -> Switches .\n"
        f"eq broken = {' '.join(case.broken) or 'none'} . endfm\n"
    )
    parts = [prelude, (HERE / "terms.maude").read_text(), (HERE / f"{case.part}.maude").read_text()]
    search = f"search [1] {case.start} =>* X:State such that {case.goal.replace('X', 'X:State')} .\n"
    text = _run_maude("".join([*parts, search]))
    match = re.search(r"states: (\d+)", text)
    if "Warning" in text or match is None:
        return Result(False, 0, time.monotonic() - begun, error=text[-2000:])
    solution = re.search(r"Solution 1 \(state (\d+)\)", text)
    if solution is None and "No solution." not in text:
        return Result(False, 0, time.monotonic() - begun, error=text[-2000:])
    trace: tuple[str, ...] = ()
    if solution is not None:
        trace = _maude_trace(_run_maude("".join([*parts, search, f"show path {solution[1]} .\n"])))
    return Result(solution is not None, int(match[1]), time.monotonic() - begun, trace)


def _run_maude(text: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.maude"
        file.write_text(text)
        done = subprocess.run(
            ["maude", "-no-banner", "-no-ansi-color", "-no-wrap", "-batch", str(file)],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S, check=False, env=ENVIRONMENT,
        )  # fmt: skip
    return done.stdout + done.stderr


def _maude_trace(text: str) -> tuple[str, ...]:
    """Per step its rule, and what it added to the state."""
    lines: list[str] = []
    before: list[str] = []
    label = ""
    for line in text[text.rindex("state 0,") :].splitlines():
        rule = re.search(r"\[label ([\w-]+)\]", line)
        if rule:
            label = rule[1]
        state = re.match(r"state \d+, State: \{(.*)\}$", line)
        if state:
            things = [thing.strip() for part in state[1].split(" | ") for thing in part.split(" ; ")]
            added = [thing for thing in things if thing not in before and not re.fullmatch(r"[\d, -]+", thing)]
            if label:
                lines.append(f"{label}: {', '.join(map(_readable, added))}")
            before = things
    return tuple(lines)


def _readable(term: str) -> str:
    term = re.sub(r"\b([xuz])\((?:(\d+), )?(strong|weak)\)", lambda m: f"{m[1]}{m[2] or ''}", term)
    return re.sub(r"(strong|weak) \^ ", lambda m: {"strong": "g^", "weak": "w^"}[m[1]], term)


# --- Spin -------------------------------------------------------------------------------------------------------------


def rows() -> Iterable[tuple[State, Input, str, str, str]]:
    """(state, input, condition, action, next state) of the open association, from the engine's own table."""
    for state in STATES:
        for given in INPUTS:
            entry = TABLE[state, given]
            if isinstance(entry, Rule):
                target = f"S_{entry.next.name}" if entry.next else "S_STAY"
                row = (state, given, entry.when, entry.action.upper(), target)
                if entry.when:
                    yield state, given, f"!{entry.when}", "DT_ABORT", "S_STAY"
            else:
                row = (state, given, "", ACTION_OF[entry], "S_STAY")
            if (state, given) in MUTATIONS:
                switch, action = MUTATIONS[state, given]
                yield state, given, f"broken == {switch}", action, "S_STAY"
                row = (*row[:2], f"broken != {switch}", *row[3:])
            yield row


def promela_table() -> str:
    """The transitions as Promela: ``lookup`` sets ``act`` and ``next``."""
    table = list(rows())
    lines = ["#define S_STAY 0"]
    lines += [f"#define S_{state.name} {number}" for number, state in enumerate(STATES, 1)]
    lines += [f"#define I_{given.name} {number}" for number, given in enumerate(INPUTS, 1)]
    lines += [f"#define A_{action} {number}" for number, action in enumerate(sorted({row[3] for row in table}), 1)]
    sends = [
        (state, condition) for state, given, condition, action, _ in table if given is Input.SEND and action == "SEAL"
    ]
    terms = [f"(x == S_{state.name}{f' && {condition}' if condition else ''})" for state, condition in sends]
    lines += [f"#define CAN_SEND(x) ({' || '.join(terms)})", "inline lookup(in_state, in_given) {", "  if"]
    for state, given, condition, action, target in table:
        guard = f"in_state == S_{state.name} && in_given == I_{given.name}{f' && {condition}' if condition else ''}"
        lines.append(f"  :: {guard} -> act = A_{action}; next = {target}")
    return "\n".join([*lines, "  fi", "}", ""])


def build_spin(folder: Path) -> str:
    """Make the verifier in ``folder``; what went wrong, or nothing."""
    (folder / "table.pml").write_text(promela_table())
    (folder / "phases.pml").write_text((HERE / "phases.pml").read_text())
    for command in (
        ["spin", "-a", "phases.pml"],
        ["cc", "-O1", "-w", "-DSAFETY", "-DCOLLAPSE", "-DMEMLIM=1500", "-o", "pan", "pan.c"],
    ):
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=LIMIT_S, check=False, env=ENVIRONMENT
        )
        if done.returncode or "error" in done.stdout.lower():
            return f"{command[0]}: {done.stdout[-1500:]}{done.stderr[-1500:]}"
    return ""


def spin_switches() -> dict[str, int]:
    """The switches of the Promela model and their numbers."""
    text = (HERE / "phases.pml").read_text()
    part = text[text.index("#define OLD_KEY_TRIED") : text.index("c_decl")]
    return {name: int(number) for name, number in re.findall(r"#define (\w+) (\d+)", part)}


def spin(case: Case, folder: Path) -> Result:
    """Search all states, or, where something must be found, ever deeper until it is: so the trace stays short."""
    begun = time.monotonic()
    settings = {"DATA": 1, "UPDATES": 1, "ABORTS": 0, "TRICKS": 0, "STRICT": 0} | dict(case.settings)
    settings["BROKEN"] = sum(spin_switches()[name] for name in case.broken)
    environment = ENVIRONMENT | {name: str(value) for name, value in settings.items()}
    # Where PDUs are lost only timers end an association, and the model has none.
    options = ["-E"] if settings["TRICKS"] else []
    text, found, complete = "", False, False
    with tempfile.TemporaryDirectory() as place:
        pan = folder / "pan"
        for depth in (*range(60, 420, 40), 1_000_000) if case.must_find else (1_000_000,):
            done = subprocess.run(
                [pan, *options, f"-m{depth}"],
                cwd=place, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False,
            )  # fmt: skip
            text = done.stdout
            found = "errors: 1" in text
            complete = "errors: 0" in text and "Search not completed" not in text and "max search depth" not in text
            if found:
                break
        states = re.search(r"(\d+) states, stored", text)
        if states is None or not (found or complete):
            return Result(False, 0, time.monotonic() - begun, error=text[-2000:] or "no result")
        trace: tuple[str, ...] = ()
        if found:
            (trail,) = Path(place).glob("*.trail")
            done = subprocess.run(
                [pan, *options, "-r", trail], cwd=place, env=environment, capture_output=True, text=True,
                timeout=LIMIT_S, check=False,
            )  # fmt: skip
            what = re.search(r"pan:1: (.*?) \(at depth", text)
            trace = (*_spin_trace(done.stdout), _said(what[1] if what else ""))
    return Result(found, int(states[1]), time.monotonic() - begun, trace)


def _said(text: str) -> str:
    """An assertion of the Promela model in words."""
    words = {
        "tampered": "one honest side found a fault in the other",
        "released": "an end without release",
        "left": "released with data still to be sent",
        "got": "data that was sent is not delivered",
        "newest": "a PDU under a key that was left is accepted",
        "last": "a PDU is accepted twice or out of order",
        "invalid end": "nothing more can happen, but the association is not over",
    }
    return next((f"-> {meaning}" for word, meaning in words.items() if word in text), f"-> {text}")


TRICKS: Final = ("", "deletes", "retags", "swaps", "repeats", "sends under a left key", "cuts")


def _spin_trace(text: str) -> list[str]:
    lines = []
    for who, state, given, pdu in re.findall(r"^ *(\d) (\d+) (\d+) (\d+)$", text, re.M):
        if who == "9":
            lines.append(f"intermediary {TRICKS[int(state)]}")
            continue
        fields = int(pdu)
        words = [f" epoch {fields // 16}"] if fields & 8 else []
        words += [word for bit, word in ((4, "changedKey"), (2, "rekey"), (1, "data")) if fields & bit]
        side = ("client", "server")[int(who)]
        lines.append(f"{side} {STATES[int(state) - 1].name}: {INPUTS[int(given) - 1].name}{' '.join(words)}")
    return lines


# --- all --------------------------------------------------------------------------------------------------------------


def run_all(cases: Iterable[Case], *, workers: int = 2) -> Iterable[tuple[Case, Result]]:
    """Each case with its result, in order."""
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(workers) as pool:
        folder = Path(place)
        built = pool.submit(build_spin, folder)

        def one(case: Case) -> Result:
            if case.part != "phases":
                return maude(case)
            error = built.result()
            return Result(False, 0, 0, error=error) if error else spin(case, folder)

        cases = list(cases)
        yield from zip(cases, pool.map(one, cases), strict=True)


def main(arguments: list[str]) -> int:
    """Print the table; 1 if a case came out otherwise than it must."""
    quick = "--quick" in arguments
    wrong = 0
    begun = time.monotonic()
    said = {True: "found", False: "none"}
    for case, result in run_all(case for case in CASES if case.quick or not quick):
        good = not result.error and result.found == case.must_find
        wrong += not good
        mark = "ok   " if good else "WRONG"
        figures = f"{said[result.found]:<6}{result.states:>8} states {result.seconds:6.1f} s"
        print(f"{mark} {case.kind:<8}{case.part:<10}{figures}  {case.about}", flush=True)
        if result.error:
            print(f"      {result.error}")
        if result.found and (case.kind != "reached" or not good):
            for line in result.trace:
                print(f"        {line}")
    total = time.monotonic() - begun
    attacks = sum(case.kind == BROKEN for case in CASES)
    print(
        f"{wrong} of {len(CASES) if not quick else 'the quick'} cases wrong, {attacks} mutations in all, {total:.0f} s"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
