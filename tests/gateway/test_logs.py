"""Words for every event, and lines that nothing a peer sends can break."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import shlex
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsec import events, faults
from fastsec.control import check_time
from fastsec.errors import HandshakeError
from fastsec.gateway import logs, words
from fastsec.gateway.logs import JsonFormatter, Log, TextFormatter
from fastsec.secpdu.fields import SecPduKind


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    out = io.StringIO()
    handler = logs.setup("text", "info", out)
    yield out
    root = logging.getLogger("fastsec")
    root.removeHandler(handler)
    root.setLevel(logging.NOTSET)
    root.propagate = True


def fields_of(line: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in shlex.split(line))


def test_every_check_has_a_sentence() -> None:
    for group, checks in faults.CHECKS.items():
        for number, _ in checks.values():
            event = events.event("IEC62351-4", int(group), number)
            assert words.describe(event) != event.text
    for group, received in faults.RECEIVED.items():
        assert words.describe(events.event("IEC62351-4", int(group), received[None]))


@pytest.mark.parametrize(
    ("params", "text"),
    [
        (
            {"check": "time", "reason": "the peer's clock is 14 min ahead"},
            "the peer's clock is 14 min ahead of ours; at",
        ),
        (
            {"check": "time", "reason": "the peer's clock is 300 min behind"},
            "the peer's clock is 300 min behind ours; a",
        ),
        ({"check": "time", "reason": "time before our start"}, "this request is older than our start"),
        ({"check": "path", "reason": "no trusted issuer"}, "the peer's certificate does not lead to an authority"),
        ({"check": "address", "reason": "this peer is not let in"}, "this identity is not among the route's peers"),
        ({"check": "unheard-of"}, "the peer's clock and ours are more than 10 min apart"),
        ({}, "the peer's clock and ours are more than 10 min apart"),
    ],
)
def test_parameters_say_more(params: dict[str, str], text: str) -> None:
    assert words.describe(events.named("INV_TIME_ASS_REQ", **params)).startswith(text)


@pytest.mark.parametrize(
    ("ahead_ms", "told"),
    [
        (14 * 60_000 + 5, "14 min behind"),
        (14 * 60_000 - 5, "14 min behind"),  # the message was under way for a moment
        (-14 * 60_000 + 5, "14 min ahead of"),
        (10 * 60_000 + 1, "11 min behind"),  # not the number that is allowed
    ],
)
def test_the_engines_clock_words_are_understood(ahead_ms: int, told: str) -> None:
    with pytest.raises(HandshakeError) as caught:
        check_time("20260101120000.000Z", 1767268800_000 + ahead_ms, SecPduKind.HANDSHAKE_REQ)
    event = events.named("INV_TIME_ASS_REQ", check="time", reason=caught.value)
    assert words.describe(event) == f"the peer's clock is {told} ours; at most 10 min are allowed"


def test_a_message_out_of_time_within_an_association() -> None:
    assert "delayed" in words.describe(events.named("ENCR_DATA_INV_TIME_TRF"))
    assert "delayed" in words.describe(events.named("ENCR_DATA_INV_TIME_TRF", check="time"))


@pytest.mark.parametrize(
    ("mnemonic", "diag", "text"),
    [
        ("INV_TIME_SEC_REJ_DIA", 10, "the peer says our clock is more than 10 min off"),
        ("PROTOCOL_ERR_SEC_REJ_DIA", 9, "the peer does not trust the authority of our certificate"),
        ("ALARM_RCV_ASS_SEC_REJ", "none", "the peer refused us without a reason"),
        ("ALARM_DTSEC_ABT", "none", "the peer ended the association because a message of ours did not verify"),
        ("PROT_ERR_DTSEC_ABT_DIA", 99, "the peer says a message of ours broke the rules"),
    ],
)
def test_what_the_peer_told_us(mnemonic: str, diag: object, text: str) -> None:
    assert words.describe(events.named(mnemonic, diag=diag)).startswith(text)


def test_environment_and_other_events_keep_their_text() -> None:
    event = events.named("OSI_INV_PCI")
    assert words.describe(event).startswith(event.text)
    assert "plain MMS peer" in words.describe(events.named("INV_APPL_CNTX_RQ"))
    other = events.named("XMPP_IQ_MISSING")
    assert words.describe(other) == other.text


def test_a_line_has_the_event_the_route_and_the_words(stream: io.StringIO) -> None:
    Log(route="north").having(assoc=7).event(events.named("REPLAY_DETEC_ASS_REQ", peer="1.2:3", number=5))
    fields = fields_of(stream.getvalue().strip())
    assert fields["level"] == "alarm"
    assert fields["event"] == "IEC62351-4:1.11"
    assert fields["mnemonic"] == "REPLAY_DETEC_ASS_REQ"
    assert fields["route"] == "north"
    assert fields["assoc"] == "7"
    assert fields["peer"] == "1.2:3"
    assert fields["p_number"] == "5"
    assert "recorded" in fields["msg"]
    assert fields["time"].endswith("Z")


def test_levels(stream: io.StringIO) -> None:
    log = Log()
    log.debug("not shown")
    log.info("one")
    log.warning("two")
    log.error("three", reason=None, empty="")
    lines = [fields_of(line) for line in stream.getvalue().splitlines()]
    assert [(line["level"], line["msg"]) for line in lines] == [("info", "one"), ("warning", "two"), ("error", "three")]
    assert "reason" not in lines[2]
    assert "empty" not in lines[2]


def test_records_of_other_modules_name_their_logger(stream: io.StringIO) -> None:
    logging.getLogger("fastsec.tls").warning("CRL expired")
    assert fields_of(stream.getvalue().strip())["logger"] == "fastsec.tls"


def _record(message: str, **fields: object) -> logging.LogRecord:
    record = logging.LogRecord("fastsec.gateway", logging.INFO, "", 0, message, None, None)
    record.fields = fields
    return record


_PAIR = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|[^ "]+)(?: |$)')


@given(st.text(max_size=60), st.text(max_size=60))
def test_nothing_breaks_a_line_or_forges_a_field(message: str, value: str) -> None:
    message = message.replace("%", "")
    line = TextFormatter().format(_record(message, peer=value))
    assert line.isprintable()
    pairs = _PAIR.findall(line)
    assert "".join(f"{name}={text} " for name, text in pairs) == line + " "
    found = {name: json.loads(text) if text[0] == '"' else text for name, text in pairs}
    expected = {"msg": message, "peer": value} if value else {"msg": message}
    assert {name: text for name, text in found.items() if name not in ("time", "level")} == expected
    parsed = json.loads(JsonFormatter().format(_record(message, peer=value)))
    assert {name: text for name, text in parsed.items() if name not in ("time", "level")} == expected


def test_long_values_are_cut() -> None:
    line = TextFormatter().format(_record("x" * 5000, peer="y" * 5000))
    assert len(line) < 1000


def test_journal_priority() -> None:
    assert TextFormatter(journal=True).format(_record("hello")).startswith("<6>time=")


def test_json_setup() -> None:
    out = io.StringIO()
    handler = logs.setup("json", "info", out)
    try:
        Log(route="a").info("hello", count=3)
        assert json.loads(out.getvalue())["count"] == 3
    finally:
        logging.getLogger("fastsec").removeHandler(handler)
        logging.getLogger("fastsec").propagate = True


def test_lines_gather_while_a_loop_runs_and_keep_their_order() -> None:
    out = io.StringIO()
    handler = logs.setup("text", "info", out)
    log = Log(route="a")

    def seen() -> list[str]:
        return [fields_of(line)["msg"] for line in out.getvalue().splitlines()]

    async def main() -> None:
        log.info("before")
        handler.gather(asyncio.get_running_loop())
        log.info("first")
        log.info("second")
        assert seen() == ["before"]
        log.warning("third")
        assert seen() == ["before", "first", "second", "third"]
        log.info("fourth")
        await asyncio.to_thread(log.info, "fifth")  # not of the loop's thread: at once
        assert seen()[4:] == ["fourth", "fifth"]
        log.info("sixth")
        handler.flush()  # as at the end of the process
        assert seen()[6:] == ["sixth"]
        log.info("seventh")
        assert len(seen()) == 7
        handler.gather(None)
        log.info("eighth")
        assert seen()[7:] == ["seventh", "eighth"]

    try:
        asyncio.run(main())
    finally:
        logging.getLogger("fastsec").removeHandler(handler)
        logging.getLogger("fastsec").propagate = True


def test_gathered_lines_come_by_themselves() -> None:
    written = asyncio.Event()

    class Out(io.StringIO):
        def write(self, text: str) -> int:
            written.set()
            return super().write(text)

    out = Out()
    handler = logs.setup("text", "info", out)

    async def main() -> None:
        handler.gather(asyncio.get_running_loop())
        Log().info("hello")
        assert not out.getvalue()
        await asyncio.wait_for(written.wait(), 10)
        assert "hello" in out.getvalue()

    try:
        asyncio.run(main())
    finally:
        handler.gather(None)
        logging.getLogger("fastsec").removeHandler(handler)
        logging.getLogger("fastsec").propagate = True
