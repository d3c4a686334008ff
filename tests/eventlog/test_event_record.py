"""Records and their lines, against a reader written from RFC 5424 and the limits of 62351-14, Table 2."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rfc5424 import Malformed, parse

from fastsec import events
from fastsec.eventlog.record import LINE_MAX, SQNUM_MAX, Record, line, record
from fastsec.events import EventType, SecurityEvent, event

NOW = 1_786_521_600_123  # 2026-08-12T08:00:00.123Z


def made(happened: SecurityEvent, **changes: object) -> Record:
    values: dict[str, object] = {"utc_ms": NOW, "sqnum": 42, "source": "host", "app_name": "app", **changes}
    return record(happened, **values)  # type: ignore[arg-type]


def with_text(text: str, **params: str) -> SecurityEvent:
    kind = EventType("IEC62351-3:1.3", "TLS_WEAK_VERSION", "warning", text, "CDV2025")
    return SecurityEvent(kind, "", tuple(params.items()))


def test_the_line_of_the_standard() -> None:
    """Annex C, with our own text."""
    happened = event("IEC62351-9", 1, 5)
    assert line(made(happened)).decode() == (
        "<109>1 2026-08-12T08:00:00.123Z host app - IEC62351-14:1 "
        '[62351-14@41912 ID="IEC62351-9:1.5" MNEMONIC="CRED_ENR_EST_SUCC" '
        f'Text="{happened.text}" SqNum="42"]'
    )


@pytest.mark.parametrize(("severity", "priority"), [("alarm", 105), ("error", 107), ("warning", 108), ("notice", 109)])
def test_severity_is_in_the_priority_alone(severity: str, priority: int) -> None:
    entry = next(entry for entry in events.CATALOGUE.values() if entry.severity == severity)
    message = parse(line(made(SecurityEvent(entry))))
    assert message.priority == priority
    assert "Severity" not in message.params


def test_every_event_of_the_catalogue_has_a_line() -> None:
    for entry in events.CATALOGUE.values():
        message = parse(line(made(SecurityEvent(entry))))
        assert message.params["ID"] == entry.id
        assert message.params["MNEMONIC"] == entry.mnemonic
        assert message.params["Text"] == entry.text
        assert (message.msgid, message.procid, message.elements[0][0]) == ("IEC62351-14:1", "-", "62351-14@41912")


def test_text_is_the_template_and_each_placeholder_has_its_parameter() -> None:
    happened = with_text("version {P.Version} of {P.Peer}", Version="1.0", cipher="x")
    params = parse(line(made(happened, extra={"route": "bay4"}))).params
    assert params["Text"] == "version {P.Version} of {P.Peer}"
    assert params["P.Version"] == "1.0"
    assert params["P.Peer"] == ""
    assert params["X.cipher"] == "x"
    assert params["X.route"] == "bay4"


def test_fields_of_their_own() -> None:
    happened = with_text("x", UsrID="joe", Role="1:0:IEC62351-8", RefEvtID="IEC62351-3:1.3")
    params = parse(line(made(replace(happened, peer="10.0.0.1:3782")))).params
    assert params["UsrID"] == "joe"
    assert params["Role"] == "1:0:IEC62351-8"
    assert params["RefEvtID"] == "IEC62351-3:1.3"
    assert params["PeerInfo"] == "10.0.0.1:3782"
    assert not [name for name in params if name.startswith(("X.", "P."))]


SPECIAL = '"\\]\n\r\0 []=<>\x1b\x7f\x85\u2028\u202e\ud800ü€😀'
hostile = st.text(st.one_of(st.sampled_from(SPECIAL), st.characters()), max_size=300)
names = st.one_of(hostile, st.sampled_from(["UsrID", "Role", "RefEvtID", "a", "V"]))


@given(
    peer=hostile,
    values=st.dictionaries(names, hostile, max_size=8),
    source=hostile,
    app=hostile,
    text=hostile,
    ms=st.integers(0, 253_402_300_799_999),
    number=st.integers(0, SQNUM_MAX),
)
def test_nothing_breaks_a_line_or_forges_a_field(
    peer: str, values: dict[str, str], source: str, app: str, text: str, ms: int, number: int
) -> None:
    kind = EventType("IEC62351-3:1.3", "TLS_WEAK_VERSION", "warning", text + "{P.V}", "CDV2025")
    happened = SecurityEvent(kind, peer, tuple(values.items()))
    raw = line(record(happened, utc_ms=ms, sqnum=number, source=source, app_name=app, extra={"route": text}))
    assert len(raw) <= LINE_MAX
    message = parse(raw)
    assert raw.decode().isprintable()
    assert message.rest == b""
    assert len(message.elements) == 1
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", message.timestamp)
    params = message.params
    assert params["ID"] == kind.id
    assert params["SqNum"] == str(number)
    own = {"ID", "MNEMONIC", "Text", "SqNum", "PeerInfo", "UsrID", "Role", "RefEvtID"}
    for name, value in params.items():
        assert name in own or re.fullmatch(r"[PX]\.[0-9A-Za-z_]{0,30}", name), name
        assert len(value) <= {"PeerInfo": 64, "UsrID": 32, "Role": 29, "RefEvtID": 32}.get(name, 128)
        if name in ("PeerInfo", "UsrID", "Role", "RefEvtID"):
            assert value.isascii()
    assert ("PeerInfo" in params) == bool(peer)


def test_what_does_not_fit_into_a_line_is_left_out_from_the_end() -> None:
    happened = with_text("x", **{f"n{number}": "€" * 128 for number in range(40)})
    raw = line(made(happened))
    assert LINE_MAX - 500 < len(raw) <= LINE_MAX
    names = [name for name in parse(raw).params if name.startswith("X.")]
    assert names == [f"X.n{number}" for number in range(len(names))]


@pytest.mark.parametrize(
    "bad",
    [b'<1>1 a b c - d [x y="]"]', b'<1>1 a b c - d [x y="\\n"]', b"<1>1 a b c - d -", b'<1>1 a b c - d [x y="z]'],
)
def test_the_oracle_refuses(bad: bytes) -> None:
    with pytest.raises(Malformed):
        parse(bad)
