"""The gateway's metrics: the table ``[metrics]``, what is known of routes and files, and serving it all by HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fastsec.errors import ConfigError
from fastsec.gateway import tables
from fastsec.gateway.positions import Path as Where
from fastsec.gateway.scrape import ScrapeServer
from fastsec.gateway.tables import Address, Network, Problems, Table
from fastsec.metrics import Collector, Definition, Family, Sample, library

if TYPE_CHECKING:
    from fastsec.gateway.admission import Admission
    from fastsec.gateway.service import Gateway

USUAL: Final = Address("127.0.0.1", 9464)

ROUTES: Final = Definition(
    "fastsec_gateway_route_info",
    "gauge",
    "1; the labels say what the route is.",
    ("route", "role", "dial", "security", "tls"),
)
BRIDGES: Final = Definition(
    "fastsec_gateway_bridges", "gauge", "Associations carried through, or being opened.", ("route",)
)
MOST: Final = Definition("fastsec_gateway_max_associations", "gauge", "The route's max_associations.", ("route",))
WAITING: Final = Definition(
    "fastsec_gateway_waiting_connections", "gauge", "Connections kept ready where TCP is reversed.", ("route",)
)
REFUSED: Final = Definition(
    "fastsec_gateway_connections_refused_total",
    "counter",
    "TCP connections closed at once: address not allowed, accept_rate, max_associations.",
    ("route", "side", "reason"),
)
DENIED: Final = Definition(
    "fastsec_gateway_denied_requests_total",
    "counter",
    "MMS requests that the route's access policy denied.",
    ("route",),
)
EXPIRY: Final = Definition(
    "fastsec_gateway_expiry_timestamp_seconds",
    "gauge",
    "When a certificate or CRL of the own files runs out, seconds since 1970.",
    ("what", "file"),
)
RELOADS: Final = Definition(
    "fastsec_gateway_reloads_total", "counter", "Reloads (SIGHUP), by whether the files could be used.", ("result",)
)
STARTED: Final = Definition(
    "fastsec_gateway_start_timestamp_seconds", "gauge", "When this process began to serve, seconds since 1970."
)
DEFINITIONS: Final = (ROUTES, BRIDGES, MOST, WAITING, REFUSED, DENIED, EXPIRY, RELOADS, STARTED)


# --- the table --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsSettings:
    """``[metrics]``: where metrics are served.

    Attributes:
        listen: address of the HTTP server.
        allow: source addresses that may ask; empty: all, which is only possible on loopback.
    """

    listen: Address
    allow: tuple[Network, ...] = ()
    where: Where = ("metrics",)


def read(top: Table, problems: Problems) -> MetricsSettings | None:
    """The table ``[metrics]`` of the file; None if it has none."""
    table = top.table("metrics", "[metrics]")
    if table is None:
        return None
    listen = table.get("listen", tables.address, USUAL)
    allow = table.each("allow", tables.network)
    if "allow" in table and not table.values["allow"]:
        table.error("allow", "allow: an empty list lets nobody in; name at least one range")
    if not listen.loopback and "allow" not in table:
        table.error(
            "listen",
            f"listen: {listen} is open to the network, without TLS or password; say who may ask, for example "
            'allow = ["192.168.1.7"], or listen at 127.0.0.1',
        )
    for index, entry in enumerate(allow):
        if entry.prefixlen == 0:
            problems.warn(
                (*table.where, "allow", index), f"allow: {entry} lets everyone read the metrics; name who may"
            )
    table.done()
    try:
        library()
    except ConfigError as error:
        problems.error(table.where, str(error))
    return MetricsSettings(listen=listen, allow=allow, where=table.where)


# --- what the gateway knows -------------------------------------------------------------------------------------------
def families(gateway: Gateway) -> Iterator[Family]:
    """Routes, doors, files."""
    runners = gateway.runners
    kinds: list[Sample] = []
    for route in (runner.route for runner in runners):
        security, tls = "a-profile" if route.a_profile is not None else "native", str(route.tls is not None).lower()
        kinds.append(((route.name, route.role, route.dial, security, tls), 1))
    yield Family(ROUTES, kinds)
    yield Family(BRIDGES, [((runner.route.name,), len(runner.bridges)) for runner in runners])
    yield Family(MOST, [((runner.route.name,), runner.route.max_associations) for runner in runners])
    yield Family(WAITING, [((runner.route.name,), runner.waiting) for runner in runners if runner.route.reversed])
    refused: list[Sample] = []
    for runner in runners:
        for side, door in runner.doors:
            refused += [((runner.route.name, side, reason), count) for reason, count in counted(door)]
    yield Family(REFUSED, refused)
    denied = [(runner.route.name, runner.denied) for runner in runners]
    yield Family(DENIED, [((name,), count) for name, count in denied if count is not None])
    yield Family(EXPIRY, [((each.what, str(each.path)), each.at) for each in gateway.expiries])
    yield Family(RELOADS, [(("used",), gateway.reloads[True]), (("refused",), gateway.reloads[False])])
    yield Family(STARTED, [((), gateway.since)])


def counted(door: Admission) -> list[tuple[str, int]]:
    """How many connections a door has refused, by reason."""
    return list(door.refusals.items())


# --- serving ----------------------------------------------------------------------------------------------------------
def server_of(gateway: Gateway, settings: MetricsSettings, clock: Callable[[], float] = time.monotonic) -> ScrapeServer:
    """The HTTP server of a gateway, not yet listening."""
    meters = [meter for runner in gateway.runners for meter in runner.meters] + [gateway.events.meter]
    collector = Collector(meters=meters, more=[lambda: families(gateway)])
    return ScrapeServer(collector, settings.allow, gateway.log, clock)
