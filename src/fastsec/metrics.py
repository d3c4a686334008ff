"""Metrics for Prometheus: a collector that reads what ``fastsec.aio.meter`` has counted (extra ``[metrics]``).

Nothing is measured here and nothing walks through associations: a collection copies a few numbers per route, however
many associations there are. All names, types and labels stand in ``DEFINITIONS``; docs/metrics.md is made of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from fastsec.aio import meter as counting
from fastsec.aio.meter import Histogram, Meter
from fastsec.errors import ConfigError
from fastsec.events import CATALOGUE

if TYPE_CHECKING:
    from prometheus_client.core import Metric
    from prometheus_client.registry import CollectorRegistry

__all__ = ["DEFINITIONS", "Collector", "Definition", "Family", "Histogram", "Meter", "library"]

EVENT_TYPES: Final = {entry.id: entry for entry in CATALOGUE.values()}


@dataclass(frozen=True, slots=True)
class Definition:
    """One metric.

    Attributes:
        name: as it is exposed.
        kind: ``counter``, ``gauge`` or ``histogram``.
        help: one sentence.
        labels: their names, in order.
    """

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()


Sample = tuple[tuple[str, ...], "float | Histogram"]


@dataclass(frozen=True, slots=True)
class Family:
    """A metric with present values. Several in a row may be of one metric.

    Attributes:
        samples: (label values, value or histogram).
    """

    definition: Definition
    samples: list[Sample]


_ROUTE: Final = ("route",)
_BOTH: Final = ("route", "side")

# --- what each meter gives: (definition, its samples without route and side, whether the plain side has it too) -------

_Rows = list[Sample]
_PerMeter = tuple[Definition, Callable[[Meter], _Rows]]


def _counter(name: str, text: str, labels: tuple[str, ...], read: Callable[[Meter], _Rows]) -> _PerMeter:
    return Definition(name, "counter", text, labels), read


def _gauge(name: str, text: str, labels: tuple[str, ...], read: Callable[[Meter], _Rows]) -> _PerMeter:
    return Definition(name, "gauge", text, labels), read


def _one(value: float) -> _Rows:
    return [((), value)]


def _each(table: dict[str, int]) -> _Rows:
    return [((name,), count) for name, count in sorted(table.items())]


def _events(meter: Meter) -> _Rows:
    rows: _Rows = []
    for name, count in sorted(meter.events.items()):
        entry = EVENT_TYPES[name]
        rows.append(((name, entry.mnemonic, entry.severity), count))
    return rows


def _unopened(meter: Meter) -> _Rows:
    seen = meter.admissions
    rest = seen.unopened - seen.silent - seen.late
    return [(("silent",), seen.silent), (("late",), seen.late), (("other",), max(rest, 0))]


_TLS_KINDS: Final = ("full", "resumed", "anew")
_PER_METER: Final[tuple[_PerMeter, ...]] = (
    _counter("fastsec_pdus_total", "PDUs of the protected protocol, verified and delivered, or protected and sent.",
             (*_BOTH, "direction"),
             lambda m: [(("received",), m.traffic.pdus_in), (("sent",), m.traffic.pdus_out)]),
    _counter("fastsec_pdu_bytes_total", "Octets of these PDUs.", (*_BOTH, "direction"),
             lambda m: [(("received",), m.traffic.octets_in), (("sent",), m.traffic.octets_out)]),
    _counter("fastsec_frame_bytes_total", "Octets of TPKT frames, protection and control PDUs included.",
             (*_BOTH, "direction"),
             lambda m: [(("received",), m.traffic.frames_in), (("sent",), m.traffic.frames_out)]),
    _gauge("fastsec_associations_open", "Associations open now.", _BOTH, lambda m: _one(m.open)),
    _gauge("fastsec_associations_unconfirmed", "Of these, those whose peer has not confirmed the handshake.",
           _ROUTE, lambda m: _one(m.unconfirmed)),
    _counter("fastsec_associations_opened_total", "Associations opened.", _BOTH, lambda m: _one(m.opened)),
    _counter("fastsec_associations_ended_total", "Associations ended that were open, by cause.", (*_BOTH, "cause"),
             lambda m: _each(m.ended)),
    _counter("fastsec_handshakes_started_total", "Handshakes begun.", _ROUTE, lambda m: _one(m.started)),
    _counter("fastsec_handshakes_completed_total", "Handshakes after which the association was open.", _ROUTE,
             lambda m: _one(m.completed)),
    _counter("fastsec_handshakes_failed_total", "Handshakes that failed, by cause: the check, or who gave up.",
             (*_ROUTE, "cause"), lambda m: _each(m.failed)),
    _gauge("fastsec_handshakes_under_way", "Handshakes begun and not over.", _ROUTE, lambda m: _one(m.under_way)),
    (Definition("fastsec_handshake_duration_seconds", "histogram",
                "From the request to the open association, the time that the other side of a gateway takes included.",
                _ROUTE), lambda m: [((), m.durations)]),
    _counter("fastsec_key_updates_total", "Key updates completed.", _ROUTE, lambda m: _one(m.key_updates)),
    _counter("fastsec_events_total", "Security events of IEC 62351-14 raised here.",
             (*_ROUTE, "event", "mnemonic", "severity"), _events),
    _counter("fastsec_tls_handshakes_total",
             "TLS handshakes completed below associations: full, resumed, or anew on an open connection.",
             (*_ROUTE, "kind"), lambda m: [((kind,), count) for kind, count in zip(_TLS_KINDS, m.tls, strict=True)]),
    _counter("fastsec_tls_handshakes_failed_total", "TLS handshakes that failed, by cause.", (*_ROUTE, "cause"),
             lambda m: _each(m.tls_failed)),
    _counter("fastsec_connections_accepted_total", "TCP connections accepted.", _BOTH,
             lambda m: _one(m.admissions.accepted)),
    _counter("fastsec_connections_full_total", "TCP connections closed at once because too many were there.", _BOTH,
             lambda m: _one(m.admissions.full)),
    _counter("fastsec_connections_unopened_total",
             "TCP connections that ended without an association: silent (its place was wanted), late, other.",
             (*_BOTH, "reason"), _unopened),
    _gauge("fastsec_connections_half_open", "TCP connections accepted that have no association yet.", _BOTH,
           lambda m: _one(m.half_open)),
)  # fmt: skip


def of_meters(meters: Sequence[Meter]) -> Iterator[Family]:
    """Of each metric one family per meter that has it."""
    for definition, read in _PER_METER:
        both = definition.labels[:2] == _BOTH
        for meter in meters:
            if meter.side == counting.OWN and definition.name != "fastsec_events_total":
                continue
            if both:
                base: tuple[str, ...] = (meter.route, meter.side)
            elif meter.side != counting.PLAIN:
                base = (meter.route,)
            else:
                continue
            yield Family(definition, [((*base, *labels), value) for labels, value in read(meter)])


# --- what the process has once ----------------------------------------------------------------------------------------
_INFO: Final = Definition("fastsec_build_info", "gauge", "1; the label says which version runs.", ("version",))
_REFUSALS: Final = Definition(
    "fastsec_refusals_total", "counter", "What the flood rules of the own identities refused or cut short.", ("reason",)
)
_JOBS: Final = Definition(
    "fastsec_jobs",
    "gauge",
    "Public-key jobs: running, waiting, at a signer of its own, waiting for an answer about revocation.",
    ("state",),
)
_JOB_SECONDS: Final = Definition(
    "fastsec_job_duration_seconds", "histogram", "From handing a job over to its end, waiting included.", ("where",)
)
_JUDGED: Final = Definition(
    "fastsec_revocation_judged_total",
    "counter",
    "Certificate paths looked up for revocation: by what was known, or after somebody was asked.",
    ("by",),
)
_ASKED: Final = Definition(
    "fastsec_revocation_requests_total",
    "counter",
    "CRLs fetched and OCSP questions asked, by HTTP.",
    ("kind", "result"),
)
_LISTS: Final = Definition("fastsec_revocation_lists", "gauge", "CRLs in use.")
_NEXT_LIST: Final = Definition(
    "fastsec_revocation_next_update_timestamp_seconds", "gauge", "When the first CRL in use is due for its successor."
)
_RECORDS: Final = Definition("fastsec_event_records_total", "counter", "Records made by the event log.")
_UNWRITTEN: Final = Definition(
    "fastsec_event_suppressed_total",
    "counter",
    "Events without a record of their own: too many (rate), no room in the queue, or in the spool of a collector.",
    ("reason",),
)
_UNSENT: Final = Definition(
    "fastsec_event_waiting", "gauge", "Events waiting to be written, records waiting for a collector.", ("place",)
)
_UNREACHABLE: Final = Definition(
    "fastsec_event_collectors_unreachable", "gauge", "Collectors (syslog) that are not to be reached now."
)
_COLLECTED: Final = Definition(
    "fastsec_collected_timestamp_seconds", "gauge", "When this collection began, seconds since 1970, by this machine."
)


def of_process() -> Iterator[Family]:
    """Versions, refusals, jobs."""
    import fastsec
    from fastsec.aio.endpoints import refusals
    from fastsec.aio.runtime import runtimes
    from fastsec.peers import Refusals

    yield Family(_INFO, [((fastsec.__version__,), 1)])
    yield Family(_COLLECTED, [((), time.time())])
    counted = refusals()
    names = [field.name for field in fields(Refusals)]
    yield Family(_REFUSALS, [((name,), sum(getattr(each, name) for each in counted)) for name in names])
    jobs = [runtime.jobs for runtime in runtimes()]
    places = ("signer", "revocation")
    states = {"running": sum(each.running for each in jobs), "waiting": sum(each.waiting for each in jobs)}
    states.update({place: sum(each.elsewhere[place] for each in jobs) for place in places})
    yield from _of_revocation()
    yield from _of_event_logs()
    yield Family(_JOBS, [((state,), count) for state, count in states.items()])
    yield Family(
        _JOB_SECONDS, [((place,), merged([each.times[place] for each in jobs])) for place in ("pool", *places)]
    )


def _of_revocation() -> Iterator[Family]:
    services, counts = list(counting.SERVICES), counting.REVOCATION
    known = [service.known for service in services]
    judged, asked = sum(each.judged for each in known), sum(each.asked for each in known)
    yield Family(_JUDGED, [(("known",), judged - asked), (("asked",), asked)])
    yield Family(
        _ASKED,
        [
            (("crl", "ok"), counts.lists_fetched),
            (("crl", "failed"), counts.lists_failed),
            (("ocsp", "ok"), counts.answers),
            (("ocsp", "failed"), counts.answers_failed),
        ],
    )
    lists = [crl for each in known for crl in each.lists()]
    yield Family(_LISTS, [((), len(lists))])
    ends = [crl.next_update_ms for crl in lists if crl.next_update_ms is not None]
    yield Family(_NEXT_LIST, [((), min(ends) / 1000)] if ends else [])


def _of_event_logs() -> Iterator[Family]:
    from fastsec.aio.event_syslog import SyslogOutput

    logs = list(counting.LOGS)
    collectors = [output for log in logs for output in log.outputs if isinstance(output, SyslogOutput)]
    yield Family(_RECORDS, [((), sum(log.records for log in logs))])
    yield Family(
        _UNWRITTEN,
        [
            (("rate",), sum(log.limited for log in logs)),
            (("queue",), sum(log.dropped for log in logs)),
            (("spool",), sum(each.refused for each in collectors)),
        ],
    )
    waiting = {"queue": sum(log.waiting for log in logs), "spool": sum(each.waiting for each in collectors)}
    yield Family(_UNSENT, [((place,), count) for place, count in waiting.items()])
    yield Family(_UNREACHABLE, [((), sum(not each.reachable for each in collectors))])


def merged(histograms: Sequence[Histogram]) -> Histogram:
    """One histogram of several with the same bounds."""
    result = Histogram(counting.JOB_SECONDS)
    for each in histograms:
        result.counts = [a + b for a, b in zip(result.counts, each.counts, strict=True)]
        result.total += each.total
    return result


DEFINITIONS: Final[tuple[Definition, ...]] = (
    _INFO,
    _COLLECTED,
    *(definition for definition, _ in _PER_METER),
    _REFUSALS,
    _JUDGED,
    _ASKED,
    _LISTS,
    _NEXT_LIST,
    _RECORDS,
    _UNWRITTEN,
    _UNSENT,
    _UNREACHABLE,
    _JOBS,
    _JOB_SECONDS,
)


# --- for prometheus_client --------------------------------------------------------------------------------------------
def library() -> Any:
    """The module ``prometheus_client``.

    Errors:
        ConfigError: it is not installed.
    """
    try:
        import prometheus_client
    except ImportError:
        raise ConfigError("metrics need prometheus_client: pip install 'fastsec[metrics]'") from None
    return prometheus_client


Source = Callable[[], Iterable[Family]]


class Collector:
    """A collector of prometheus_client for the associations of this process.

    Arguments:
        registry: where it registers itself: ``prometheus_client.REGISTRY`` for example. None: nowhere.
        meters: those to be read; by default the one of all associations that were given none.
        more: further families, asked for at each collection.
    Errors:
        ConfigError: prometheus_client is not installed.
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        meters: Sequence[Meter] | None = None,
        more: Sequence[Source] = (),
    ) -> None:
        library()
        self._meters = (counting.DEFAULT,) if meters is None else tuple(meters)
        self._sources: tuple[Source, ...] = (lambda: of_meters(self._meters), of_process, *more)
        if registry is not None:
            registry.register(self)

    def families(self) -> Iterator[Family]:
        """What is there now; each family is read when it is asked for."""
        for source in self._sources:
            yield from source()

    def describe(self) -> list[Metric]:
        """Nothing: names are not looked for twice when the collector is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """For prometheus_client."""
        for definition, found in groupby(self.families(), lambda family: family.definition):
            yield exposed(definition, [sample for family in found for sample in family.samples])


def exposed(definition: Definition, samples: Sequence[Sample]) -> Metric:
    """A family, or a part of one, as prometheus_client has it."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    name, text, labels = definition.name, definition.help, definition.labels
    if definition.kind == "histogram":
        made = HistogramMetricFamily(name, text, labels=labels)
        for values, value in samples:
            if not isinstance(value, Histogram):
                raise TypeError(f"{name} needs histograms")
            made.add_metric(values, _buckets(value), value.total)
        return made
    kind = CounterMetricFamily if definition.kind == "counter" else GaugeMetricFamily
    other = kind(name, text, labels=labels)
    for values, value in samples:
        if isinstance(value, Histogram):
            raise TypeError(f"{name} takes no histograms")
        other.add_metric(values, value)
    return other


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    result: list[tuple[str, float]] = []
    count = 0
    for bound, each in zip((*map(str, histogram.bounds), "+Inf"), histogram.counts, strict=True):
        count += each
        result.append((bound, count))
    return result
