"""The conformance statement: computed, complete, each row with a test that exists, and in docs/conformance.md."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fastsec import limits, negotiation, profile
from fastsec._core.guard import MODE_AE
from fastsec.cli import main
from fastsec.conformance import Row, Statement, Table, proof, render, security, statement
from fastsec.conformance.choices import CHOICES
from fastsec.errors import HandshakeError
from fastsec.faults import Group
from fastsec.negotiation import MODE_NAMES
from fastsec.profile import DtDiag, HandshakeDiag, wire_name
from fastsec.secpdu import fields
from fastsec.secpdu.fields import Mark, SecPduKind

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- begin: fastsec conformance --format markdown -->\n", "<!-- end -->"

# What is not implemented, and nothing else. Whoever breaks a feature sees it here.
NOT_IMPLEMENTED = {
    "XMPP (61850-8-2)",
    "fallback to a weaker mode",
    "XER",
    # TLS: what OpenSSL, or Python's ssl, does not have
    "TLS_AES_128_CCM_SHA256 (0x1304)",
    "TLS_AES_128_CCM_8_SHA256 (0x1305)",
    "TLS_DH_RSA_WITH_AES_128_GCM_SHA256 (0x00A0)",
    "TLS_DH_RSA_WITH_AES_128_CBC_SHA256 (0x003F)",
    "TLS_DH_RSA_WITH_AES_256_GCM_SHA384 (0x00A1)",
    "TLS_DH_DSS_WITH_AES_256_CBC_SHA (0x0036)",
    "SSL 3.0, TLS 1.0, TLS 1.1",
    "renegotiation on the same connection (RFC 5746)",
    "OCSP stapling (RFC 6066)",
    "delta CRL, indirect CRL",
    "enrolment (SCEP, EST), group keys (GDOI)",
    "software tokens (JWT), RADIUS, LDAP",
    "domain IEC62351-5",
    "domain IEC62351-6",
    "domain IEC62351-11",
}


@cache
def found() -> Statement:
    return statement()


def rows() -> Iterator[tuple[Table, Row]]:
    for table in found().tables:
        for row in table.rows:
            yield table, row


def items(title: str) -> list[str]:
    (table,) = (table for table in found().tables if table.title == title)
    return [row.item for row in table.rows]


@cache
def functions_of(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


# --- each row ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("table", "row"), list(rows()), ids=lambda value: getattr(value, "item", None))
def test_each_row_has_a_test_that_exists(table: Table, row: Row) -> None:
    path, _, name = row.test.partition("::")
    assert name.startswith("test_"), f"{table.title}: {row.item} names no test"
    assert name in functions_of(path), f"{row.test} does not exist"


def test_what_is_not_supported_is_known_and_says_why() -> None:
    absent = [row for _, row in rows() if not row.supported]
    assert {row.item for row in absent} == NOT_IMPLEMENTED
    assert all(row.note for row in absent)


def test_items_are_told_apart() -> None:
    for table in found().tables:
        names = [row.item for row in table.rows]
        assert len(set(names)) == len(names), table.title


# --- complete ---------------------------------------------------------------------------------------------------------
def test_what_the_registries_hold_has_its_row() -> None:
    assert items("Encryption modes") == list(MODE_NAMES.values())
    assert items("SecPDUs") == [kind.standard_name for kind in SecPduKind]
    assert items("HandshakeDiagnostics") == [f"{int(diag)} {wire_name(diag)}" for diag in HandshakeDiag]
    assert items("DtDiagnostics") == [f"{int(diag)} {wire_name(diag)}" for diag in DtDiag]
    algorithms = "\n".join(items("Algorithms"))
    for group in profile.Group:
        assert f"group {int(group)}," in algorithms
    limited = "\n".join(items("Limits and timers"))
    for name in vars(limits):
        assert not name.startswith("SPEC_") or name.startswith("SPEC_PORT") or f"{name}:" in limited


def test_every_field_with_a_tag_of_ours_is_among_the_choices() -> None:
    text = "\n".join(choice.text for choice in CHOICES)
    for components in (fields.CLEAR_TOKEN_2, fields.CLEAR_TOKEN_3, fields.AUTHENTICATOR):
        for component in components:
            assert component.mark is Mark.S or component.name in text


# --- computed: what breaks is "no" ------------------------------------------------------------------------------------
@pytest.fixture
def afresh() -> Iterator[None]:
    def forget() -> None:
        for cached in (proof.authority, proof.credential, security.policy_of, security.agreed, security._senders):
            cached.cache_clear()

    forget()
    yield
    forget()


def refuse(*_: Any, **__: Any) -> Any:
    raise HandshakeError("broken on purpose")


def now_absent(title: str) -> set[str]:
    (table,) = (table for table in security.tables() if table.title == title)
    return {row.item for row in table.rows if not row.supported}


@pytest.mark.usefixtures("afresh")
@pytest.mark.parametrize(
    ("place", "title", "items_"),
    [
        ("fastsec.handshake_phase.take_request", "Modes of operation", {"native mode (end-to-end security)"}),
        ("fastsec.negotiation.ae_suite", "Encryption modes", {MODE_NAMES[MODE_AE]}),
        ("fastsec.data_phase.take_keys", "Key update", None),
        ("fastsec.association.Association._answer_release", "SecPDUs", {"ReleaseRsp"}),
        ("fastsec.association.Association._ask_release", "SecPDUs", {"ReleaseReq", "ReleaseRsp"}),
    ],
)
def test_a_broken_feature_is_a_no(
    monkeypatch: pytest.MonkeyPatch, place: str, title: str, items_: set[str] | None
) -> None:
    before = now_absent(title)
    for cached in (proof.credential, security.agreed, security._senders):
        cached.cache_clear()
    monkeypatch.setattr(place, refuse)
    absent = now_absent(title) - before
    assert absent
    assert items_ is None or items_ <= absent


@pytest.mark.usefixtures("afresh")
def test_an_algorithm_that_is_not_taken_any_more_is_a_no(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = negotiation.icv_suite

    def without_aes128(encr: Any, icv: Any) -> Any:
        return refuse() if encr is not None and encr.oid == profile.AES128_CBC else usual(encr, icv)

    monkeypatch.setattr(negotiation, "icv_suite", without_aes128)
    assert now_absent("Algorithms") == {"encryption AES-128-CBC"}


@pytest.mark.usefixtures("afresh")
def test_a_diagnostic_that_nothing_sends_is_a_no(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = dict(security.CHECKS)
    for group in (Group.HANDSHAKE_REQ, Group.HANDSHAKE_ACC):
        checks[group] = {name: (number, diag) for name, (number, diag) in checks[group].items() if diag != 4}
    monkeypatch.setattr(security, "CHECKS", checks)
    assert now_absent("HandshakeDiagnostics") == {"4 unexpected-version"}


@pytest.mark.usefixtures("afresh")
def test_a_module_that_is_gone_is_a_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(security, "find_spec", lambda name: None)
    assert {"OSI on TCP (RFC 1006)", "XMPP (61850-8-2)"} <= now_absent("Environments and protected protocols")


# --- choices ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: choice.topic)
def test_each_choice_says_where_it_is_set(choice: Any) -> None:
    assert choice.text
    for part in choice.where.replace(", src", "; src").replace(", docs", "; docs").split("; "):
        path, _, names = part.partition(": ")
        text = (ROOT / path).read_text(encoding="utf-8")
        for name in filter(None, names.split(", ")):
            assert name.rstrip("*") in text, f"{path} has no {name}"


# --- printed ----------------------------------------------------------------------------------------------------------
def test_the_document_is_the_statement() -> None:
    text = (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")
    part = text[text.index(BEGIN) + len(BEGIN) : text.index(END)]
    assert part == render.markdown(found()), (
        "write anew what stands between the marks in docs/conformance.md: fastsec conformance --format markdown"
    )


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conformance"]) == 0
    text = capsys.readouterr().out
    assert main(["conformance", "--format", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert main(["conformance", "--format", "markdown"]) == 0
    assert capsys.readouterr().out == render.markdown(found())
    assert [table["title"] for table in data["tables"]] == [table.title for table in found().tables]
    assert [choice["topic"] for choice in data["choices"]] == [choice.topic for choice in CHOICES]
    for _, row in rows():
        assert row.item in text


def test_a_bar_does_not_break_a_table() -> None:
    table = Table("t", "r", (Row("a|b", True, test="x"),))
    assert "a\\|b" in render.markdown(Statement((table,), ()))
