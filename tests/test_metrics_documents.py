"""docs/metrics.md and the dashboard against the metrics that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from fastsec.cli import main
from fastsec.cli.metrics import dashboard, definitions, markdown
from fastsec.metrics import Definition

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
BOARD: dict[str, Any] = json.loads(dashboard())
BY_NAME = {each.name: each for each in definitions()}
FUNCTIONS = {"rate", "increase"}
LABELS_OF_PROMETHEUS = {"job", "instance", "le"}


def panels() -> list[dict[str, Any]]:
    return [panel for panel in BOARD["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    found = [target["expr"] for panel in panels() for target in panel["targets"]]
    return found + [variable["definition"] for variable in BOARD["templating"]["list"] if "definition" in variable]


def used(text: str) -> set[str]:
    return set(re.findall(r"\bfastsec_\w+", text))


def base(name: str) -> Definition:
    """The definition behind a name in an expression; a histogram has three."""
    for suffix in ("", "_bucket", "_sum", "_count"):
        found = BY_NAME.get(name.removesuffix(suffix) if suffix else name)
        if found is not None and name.endswith(suffix) and (not suffix or found.kind == "histogram"):
            return found
    raise AssertionError(f"no metric {name}")


def test_the_table_of_the_document_is_the_list_of_the_code() -> None:
    begin, end = "<!-- begin: fastsec metrics list --format markdown -->\n", "<!-- end -->"
    table = TEXT[TEXT.index(begin) + len(begin) : TEXT.index(end)]
    assert table == markdown(), "write anew what stands between the marks: fastsec metrics list --format markdown"


def test_the_document_names_no_other_metric() -> None:
    for name in used(TEXT):
        base(name)


def test_names_are_given_once() -> None:
    assert len(BY_NAME) == len(definitions())


# --- the dashboard ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("expression", expressions())
def test_expressions_use_what_there_is(expression: str) -> None:
    names = used(expression)
    assert names
    for name in names:
        base(name)
    for name, labels in re.findall(r"(fastsec_\w+)\{(.*?)\}", expression):
        for label in re.findall(r"(\w+)\s*=~?\"", labels):
            assert label in {*base(name).labels, *LABELS_OF_PROMETHEUS}, f"{name} has no label {label}"
    # A label that is summed by is one of a metric in the expression.
    known = {label for name in names for label in base(name).labels} | LABELS_OF_PROMETHEUS
    for labels in re.findall(r"\bby \((.*?)\)", expression):
        assert set(re.split(r",\s*", labels)) <= known
    # A counter is looked at by its growth, and nothing else is.
    for function, name in re.findall(r"(\w+)\((fastsec_\w+)", expression):
        if function in FUNCTIONS:
            assert base(name).kind != "gauge", f"{function} of {name}"
    for name in names:
        if base(name).kind != "gauge":
            assert re.search(rf"(rate|increase)\({name}\b", expression), f"{name} without rate or increase"
    assert expression.count("(") == expression.count(")")
    assert expression.count("{") == expression.count("}")


def test_all_metrics_are_on_it() -> None:
    assert {base(name).name for expression in expressions() for name in used(expression)} == set(BY_NAME)


def test_it_is_a_dashboard_of_grafana_10() -> None:
    assert BOARD["schemaVersion"] >= 38
    assert BOARD["id"] is None
    assert BOARD["uid"]
    assert BOARD["title"] == "fastsec"
    assert {"name", "type", "query"} <= set(BOARD["templating"]["list"][0])
    assert BOARD["templating"]["list"][0]["type"] == "datasource"
    names = {variable["name"] for variable in BOARD["templating"]["list"]}
    for expression in expressions():
        assert set(re.findall(r"\$\{?(\w+)", expression)) - {"__rate_interval", "__range"} <= names
    kinds = {required["id"] for required in BOARD["__requires"]}
    for panel in panels():
        assert panel["type"] in kinds
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["title"]
        assert [target["refId"] for target in panel["targets"]] == [chr(65 + n) for n in range(len(panel["targets"]))]


def test_its_panels_have_their_places() -> None:
    numbers = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        squares = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not squares & taken, f"{panel['title']} lies on another"
        taken |= squares


# --- the command ------------------------------------------------------------------------------------------------------
def test_the_command_prints_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics", "dashboard"]) == 0
    assert json.loads(capsys.readouterr().out) == BOARD
    assert main(["metrics", "list"]) == 0
    out = capsys.readouterr().out
    for each in definitions():
        assert f"{each.name}{{{','.join(each.labels)}}}\n" in out or f"{each.name}\n" in out
    assert main(["metrics", "list", "--format", "markdown"]) == 0
    assert capsys.readouterr().out == markdown()
