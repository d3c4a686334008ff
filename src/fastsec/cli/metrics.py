"""``fastsec metrics``: the list of metrics, and the dashboard that comes with them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fastsec.metrics import Definition

DASHBOARD: Final = "data/grafana-dashboard.json"


def definitions() -> tuple[Definition, ...]:
    """All metrics: those of every process, then those of a gateway."""
    from fastsec import metrics
    from fastsec.gateway import metrics as of_gateway

    return (*metrics.DEFINITIONS, *of_gateway.DEFINITIONS)


def markdown() -> str:
    """The metrics as a table."""
    lines = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for each in definitions():
        labels = ", ".join(f"`{label}`" for label in each.labels)
        lines.append(f"| `{each.name}` | {each.kind} | {labels} | {each.help} |")
    return "\n".join(lines) + "\n"


def text() -> str:
    """The metrics for people."""
    lines = []
    for each in definitions():
        labels = f"{{{','.join(each.labels)}}}" if each.labels else ""
        lines += [f"{each.name}{labels}", f"    {each.kind}: {each.help}"]
    return "\n".join(lines) + "\n"


def dashboard() -> str:
    """A dashboard for Grafana 10 or newer, as JSON."""
    return resources.files("fastsec").joinpath(DASHBOARD).read_text(encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    """Print the list of metrics, or the dashboard."""
    parser = argparse.ArgumentParser(
        prog="fastsec metrics",
        description="Metrics for Prometheus: what there is, and a dashboard for Grafana.",
        epilog="A gateway serves them with the table [metrics] in its file; docs/metrics.md.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="list|dashboard")
    listing = commands.add_parser("list", help="print all metrics")
    listing.add_argument("--format", choices=("text", "markdown"), default="text")
    commands.add_parser("dashboard", help="print the dashboard: import it into Grafana (JSON)")
    options = parser.parse_args(list(arguments))
    if options.command == "dashboard":
        sys.stdout.write(dashboard())
    else:
        sys.stdout.write(markdown() if options.format == "markdown" else text())
    return 0
