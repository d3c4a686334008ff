"""A pair of gateways against a pair of stunnels, between the same plain client and the same plain server.

stunnel secures the hop with TLS 1.3 and mutual certificates; the gateways secure end to end, with and without TLS
below. Every association is a full handshake on both sides of the comparison (stunnel's session resumption is off).
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import harness
import plain
import processes
import tls
from fastsec.pki.identity import OsiName
from fastsec.pki.trial import TrialAuthority

SLICE = 0.8  # seconds; all slices of all rounds together stay below 50 s
SLICE_FULL = 2.0
ROUNDS = 7
MANY = 50

CLIENT = OsiName("1.1.1.999.1", 12)
SERVER = OsiName("1.1.1.999.2", 12)

CONFIG = """[identity]
certificate = "{folder}/pki/{name}.e2e.pem"
key = "{folder}/pki/{name}.e2e.key"
[trust]
anchors = ["{folder}/pki/root.pem"]
{tls}
[[route]]
role = "{role}"
listen = "127.0.0.1:{listen}"
connect = "127.0.0.1:{connect}"
accept_rate = 10000
{peer}
"""
TLS = """[tls]
certificate = "{folder}/pki/{name}.tls.pem"
key = "{folder}/pki/{name}.tls.key"
anchors = ["{folder}/pki/root.pem"]
"""


@contextlib.contextmanager
def gateway_pair(folder: Path, server_port: int, secure_hop: bool) -> Iterator[int]:
    """Two ``fastsec gateway`` processes; gives the port of the plain side."""
    near, far = processes.free_port(), processes.free_port()
    sides = {
        "der": ("server", far, server_port, f'peers = ["{CLIENT}"]'),
        "cc": ("client", near, far, f'peer = "{SERVER}"'),
    }
    with contextlib.ExitStack() as stack:
        for name, (role, listen, connect, peer) in sides.items():
            file = folder / f"{name}-{'tls' if secure_hop else 'notls'}.toml"
            hop = TLS.format(folder=folder, name=name) if secure_hop else ""
            file.write_text(
                CONFIG.format(folder=folder, name=name, tls=hop, role=role, listen=listen, connect=connect, peer=peer)
            )
            argv = [sys.executable, "-m", "fastsec", "gateway", str(file)]
            stack.enter_context(processes.child(argv, log=file.with_suffix(".log")))
            processes.wait_for(listen)
        yield near


def run(report: harness.Report, full: bool) -> None:
    seconds = SLICE_FULL if full else SLICE
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fastsec-bench-")))
        authority = TrialAuthority.create(folder / "pki", time.time_ns() // 1_000_000)
        for name, identity in (("cc", CLIENT), ("der", SERVER)):
            authority.issue_e2e(name, identity)
            authority.issue_tls(name, ["127.0.0.1", "localhost"])
        server = stack.enter_context(processes.plain_server(folder))
        ports = {
            "notls": stack.enter_context(gateway_pair(folder, server, False)),
            "tls": stack.enter_context(gateway_pair(folder, server, True)),
        }
        try:
            pair = tls.Pair()
            ports["stunnel"] = stack.enter_context(processes.stunnel_pair(pair.folder, server))
        except (RuntimeError, OSError) as error:
            for case in ("reads.notls", "reads.tls", "reads50.notls", "reads50.tls", "associations.notls"):
                report.failed("gateway", case, None, "stunnel", str(error))
            return
        clients = {key: plain.PlainClient(port) for key, port in ports.items()}
        measure(report, "reads", {k: lambda c=c: plain.reads(c, seconds) for k, c in clients.items()})
        for client in clients.values():
            client.close()
        many = {key: [plain.PlainClient(port) for _ in range(MANY)] for key, port in ports.items()}
        measure(report, "reads50", {k: lambda c=c: plain.reads_many(c, seconds) for k, c in many.items()})
        for group in many.values():
            for client in group:
                client.close()
        both = ("notls", "stunnel")
        measure(report, "associations", {k: lambda k=k: plain.associations(ports[k], seconds) for k in both})


def measure(report: harness.Report, name: str, ways: dict[str, Callable[[], float]]) -> None:
    """Run every way once per round, in changing order, and add a row per way against stunnel's slice of the round."""
    results: dict[str, list[float]] = {key: [] for key in ways}
    for round_number in range(ROUNDS):
        report.progress(f"gateway {name} round {round_number + 1} of {ROUNDS}")
        order = list(ways) if round_number % 2 else list(reversed(ways))
        for key in order:
            results[key].append(ways[key]())
    peer = results.pop("stunnel")
    for key, mine in results.items():
        ratios = [a / b for a, b in zip(mine, peer, strict=True)]
        report.add(
            harness.Row(
                bench="gateway",
                case=f"{name}.{key}",
                size=None,
                against="stunnel",
                value=statistics.median(mine),
                unit="1/s",
                peer_value=statistics.median(peer),
                ratio=statistics.median(ratios),
                rounds=ROUNDS,
                spread=harness.spread_of(ratios),
            )
        )
