"""The collector: every metric that is defined comes out once, with its labels, and what is counted is what is shown."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from fastsec import metrics
from fastsec.aio import meter as counting
from fastsec.aio.meter import Histogram, Meter, cause_of
from fastsec.errors import (
    Aborted,
    ConfigError,
    FastsecError,
    HandshakeError,
    LimitReached,
    Rejected,
)
from fastsec.events import CATALOGUE
from fastsec.metrics import DEFINITIONS, Collector, Definition, exposed

NAME = re.compile(r"fastsec_[a-z0-9_]+")


def full_meter(route: str = "north", side: str = "secured") -> Meter:
    """A meter in which everything is another number."""
    made = Meter(route, side)
    traffic = made.traffic
    traffic.pdus_in, traffic.octets_in, traffic.frames_in = 1, 2, 3
    traffic.pdus_out, traffic.octets_out, traffic.frames_out = 4, 5, 6
    made.open, made.opened, made.started, made.completed = 7, 8, 9, 10
    made.failed, made.ended = {"signature": 11}, {"released": 12}
    made.durations.observe(0.004)
    made.durations.observe(99.0)
    made.key_updates = 13
    made.events = {"IEC62351-4:1.3": 14}
    made.tls, made.tls_failed = [15, 16, 22], {"other": 17}
    seen = made.admissions
    seen.accepted, seen.full, seen.unopened, seen.silent, seen.late = 18, 19, 30, 8, 2
    made.half_open = 21
    return made


def text_of(*meters: Meter) -> str:
    registry = CollectorRegistry()
    Collector(registry, meters=meters)
    return generate_latest(registry).decode()


def values(text: str) -> dict[str, float]:
    """Each line's value by name and labels."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def test_every_definition_comes_out_once_with_its_labels() -> None:
    collector = Collector(meters=[full_meter(), full_meter("north", "plain"), full_meter("south")])
    found = [metric.name for metric in collector.collect()]
    assert sorted(found) == sorted(each.name.removesuffix("_total") for each in DEFINITIONS)
    for family in collector.families():
        assert family.samples or family.definition.name == "fastsec_revocation_next_update_timestamp_seconds"
        for labels, value in family.samples:
            assert len(labels) == len(family.definition.labels), family.definition.name
            assert isinstance(value, Histogram) == (family.definition.kind == "histogram")


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda definition: definition.name)
def test_names_follow_the_convention(definition: Definition) -> None:
    assert NAME.fullmatch(definition.name)
    assert (definition.kind == "counter") == definition.name.endswith("_total")
    assert definition.kind != "histogram" or definition.name.endswith("_seconds")
    assert not {"peer", "source", "address"} & set(definition.labels), "a stranger could fill the memory"
    assert definition.help.endswith(".")


def test_what_a_meter_counted_is_what_is_shown() -> None:
    found = values(text_of(full_meter()))
    wanted = {
        "pdus_total{direction=received,route=north,side=secured}": 1,
        "pdu_bytes_total{direction=received,route=north,side=secured}": 2,
        "frame_bytes_total{direction=received,route=north,side=secured}": 3,
        "pdus_total{direction=sent,route=north,side=secured}": 4,
        "pdu_bytes_total{direction=sent,route=north,side=secured}": 5,
        "frame_bytes_total{direction=sent,route=north,side=secured}": 6,
        "associations_open{route=north,side=secured}": 7,
        "associations_opened_total{route=north,side=secured}": 8,
        "associations_ended_total{cause=released,route=north,side=secured}": 12,
        "associations_unconfirmed{route=north}": 0,
        "handshakes_started_total{route=north}": 9,
        "handshakes_completed_total{route=north}": 10,
        "handshakes_failed_total{cause=signature,route=north}": 11,
        "handshakes_under_way{route=north}": 0,
        "handshake_duration_seconds_count{route=north}": 2,
        "handshake_duration_seconds_sum{route=north}": 99.004,
        "handshake_duration_seconds_bucket{le=0.002,route=north}": 0,
        "handshake_duration_seconds_bucket{le=0.005,route=north}": 1,
        "handshake_duration_seconds_bucket{le=10.0,route=north}": 1,
        "handshake_duration_seconds_bucket{le=+Inf,route=north}": 2,
        "key_updates_total{route=north}": 13,
        "tls_handshakes_total{kind=full,route=north}": 15,
        "tls_handshakes_total{kind=resumed,route=north}": 16,
        "tls_handshakes_total{kind=anew,route=north}": 22,
        "tls_handshakes_failed_total{cause=other,route=north}": 17,
        "connections_accepted_total{route=north,side=secured}": 18,
        "connections_full_total{route=north,side=secured}": 19,
        "connections_unopened_total{reason=silent,route=north,side=secured}": 8,
        "connections_unopened_total{reason=late,route=north,side=secured}": 2,
        "connections_unopened_total{reason=other,route=north,side=secured}": 20,
        "connections_half_open{route=north,side=secured}": 21,
    }
    assert {name: found[f"fastsec_{name}"] for name in wanted} == wanted
    mnemonic = CATALOGUE["IEC62351-4", 1, 3].mnemonic
    labels = f"event=IEC62351-4:1.3,mnemonic={mnemonic},route=north,severity=alarm"
    assert found[f"fastsec_events_total{{{labels}}}"] == 14


def test_the_plain_side_has_no_handshakes() -> None:
    text = text_of(full_meter("north", "plain"))
    assert 'fastsec_pdus_total{direction="received",route="north",side="plain"}' in text
    assert not re.search(r"^fastsec_(handshake|key_updates|events|tls).*north", text, re.M)


def test_sums_of_two_meters_stand_side_by_side() -> None:
    found = values(text_of(full_meter("a"), full_meter("b")))
    assert {found[f"fastsec_key_updates_total{{route={name}}}"] for name in "ab"} == {13}


def test_a_route_may_have_any_name() -> None:
    odd = 'x"y\\z\nü{}'
    found = [f for f in text_string_to_metric_families(text_of(full_meter(odd))) if f.name == "fastsec_key_updates"]
    assert found[0].samples[0].labels == {"route": odd}


def test_by_default_the_meter_of_all_is_read() -> None:
    registry = CollectorRegistry()
    Collector(registry)
    assert 'route="default"' in generate_latest(registry).decode()
    assert counting.meter_or_default(None) is counting.DEFAULT


def test_two_registries_are_fed_alike() -> None:
    first, second = CollectorRegistry(), CollectorRegistry()
    meter = full_meter()
    for registry in (first, second):
        Collector(registry, meters=[meter])

    def lines(registry: CollectorRegistry) -> list[str]:
        return [line for line in generate_latest(registry).decode().splitlines() if "timestamp" not in line]

    assert lines(first) == lines(second)


def test_a_histogram_is_not_shown_as_a_number() -> None:
    with pytest.raises(TypeError):
        exposed(DEFINITIONS[0], [(("x",), Histogram((1.0,)))])
    histogram = next(definition for definition in DEFINITIONS if definition.kind == "histogram")
    with pytest.raises(TypeError):
        exposed(histogram, [(("x",), 1.0)])


def test_bounds_belong_to_their_bucket() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 2.5):
        histogram.observe(value)
    assert histogram.counts == [2, 2, 1]
    assert histogram.total == 7.5


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (None, "released"),
        (HandshakeError("who knows what the peer wrote", check="signature"), "signature"),
        (Rejected("peer", 3, "x"), "rejected-peer"),
        (Aborted("provider", None, "x"), "aborted-provider"),
        (Aborted("local", None, "x"), "aborted-local"),
        (LimitReached("OUR_UNCONFIRMED_TIMEOUT", "x"), "OUR_UNCONFIRMED_TIMEOUT"),
        (FastsecError("x"), "other"),
    ],
)
def test_causes_are_words_of_the_code(error: FastsecError | None, cause: str) -> None:
    assert cause_of(error) == cause


def test_without_prometheus_client_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigError, match=r"pip install 'fastsec\[metrics\]'"):
        Collector()
    with pytest.raises(ConfigError, match="prometheus_client"):
        metrics.library()


def test_the_package_itself_does_not_need_it() -> None:
    code = (
        "import sys; sys.modules['prometheus_client'] = None; import fastsec, fastsec.metrics, fastsec.gateway.service"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env={"PYTHONPATH": ":".join(sys.path)})
