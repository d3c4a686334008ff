"""``fastsec demo``: secures traffic between real MMS peers and lets an intermediary attack it (``fastsec[demo]``)."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

_NEEDED = {"iec61850": "iec61850", "hat.drivers": "hat-drivers"}


def main(arguments: Sequence[str] | argparse.Namespace | None = None) -> int:
    """Run the demo.

    Arguments:
        arguments: command line without the program's name, or a namespace with ``json``.
    Result:
        exit code: 0 if every step turned out as told, else 1.
    """
    if not isinstance(arguments, argparse.Namespace):
        parser = argparse.ArgumentParser(prog="fastsec demo", description=__doc__)
        add_arguments(parser)
        arguments = parser.parse_args(arguments)
    return _run(bool(arguments.json), getattr(arguments, "insecure_key_log", None))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``fastsec demo``."""
    parser.add_argument(
        "--json", action="store_true", help="end with one line of JSON on stdout; the story goes to stderr"
    )
    parser.add_argument(
        "--insecure-key-log",
        metavar="FILE",
        type=Path,
        help="for development: the gateways write their keys to FILE, for fastsec inspect --keys",
    )


def _run(as_json: bool, key_log: Path | None = None) -> int:
    from fastsec.demo.output import narrator

    out = narrator(sys.stderr if as_json else sys.stdout)
    missing = [package for module, package in _NEEDED.items() if not _installed(module)]
    if missing:
        out.fail(f"the demo needs {' and '.join(missing)}; install them with: pip install 'fastsec[demo]'")
        return _end(as_json, {"demo": "failed", "step": "install"})

    from fastsec.demo.intermediary import Trick
    from fastsec.demo.story import Story

    with tempfile.TemporaryDirectory(prefix="fastsec-demo-") as directory:
        story = Story(out, Path(directory), key_log)
        try:
            asyncio.run(story.run())
        except KeyboardInterrupt:
            out.fail(f"interrupted at step {story.step}")
            return _end(as_json, {"demo": "failed", "step": story.step})
        except Exception as error:
            out.fail(f"step {story.step}: {type(error).__name__}: {error}")
            return _end(as_json, {"demo": "failed", "step": story.step})
    tally = story.tally
    out.end(
        f"Done: {tally.reads} reads, {tally.writes} writes, {tally.rekeys} key updates; the intermediary read nothing, "
        "and each of its three attacks was detected."
    )
    result = {
        "demo": "ok",
        "environment": "osi",
        "reads": tally.reads,
        "writes": tally.writes,
        "rekeys": tally.rekeys,
        "plaintext_seen_by_intermediary": tally.plaintext_seen,
        "tamper_detected": tally.detected[Trick.FLIP],
        "replay_detected": tally.detected[Trick.REPLAY],
        "reorder_detected": tally.detected[Trick.REORDER],
    }
    return _end(as_json, result)


def _end(as_json: bool, result: dict[str, object]) -> int:
    if as_json:
        print(json.dumps(result, separators=(",", ":")), flush=True)
    return 0 if result["demo"] == "ok" else 1


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
