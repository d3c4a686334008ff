"""``fastsec conformance``: what this installation does of the standards, tried out and printed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Print the conformance statement."""
    parser = argparse.ArgumentParser(
        prog="fastsec conformance",
        description="The conformance statement, in the manner of IEC 62351-4, clause 17: environments, modes, "
        "algorithms, SecPDUs, TLS, revocation, roles, events. What can be tried in memory is tried now, the rest read "
        "from the code.",
        epilog="docs/conformance.md is made of it; markdown and json name the test that shows each row.",
    )
    parser.add_argument("--format", choices=("text", "markdown", "json"), default="text")
    options = parser.parse_args(list(arguments))

    from fastsec.conformance import render, statement

    write = {"text": render.text, "markdown": render.markdown, "json": render.as_json}[options.format]
    sys.stdout.write(write(statement()))
    return 0
