"""The table ``[revocation]``, and the one service that keeps CRLs and OCSP answers for all routes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from fastsec import limits
from fastsec.aio.revocation import RevocationService
from fastsec.gateway import tables
from fastsec.gateway.tables import Problems, Table, Wrong
from fastsec.pki.revocation import RevocationPolicy, web_address

if TYPE_CHECKING:
    from fastsec.gateway.model import Settings
    from fastsec.gateway.positions import Path as Where
    from fastsec.pki.crl import RevocationList

_LABEL: Final = "abcdefghijklmnopqrstuvwxyz0123456789-_."


def url(value: Any) -> str:
    """An http URL."""
    text = tables.string(value)
    if web_address(text) is None:
        raise Wrong(f'write an http URL, for example "http://pki.example.org/root.crl", not "{text}"; CRLs and OCSP '
                    "answers are signed, so https is not needed and not spoken")  # fmt: skip
    return text


def host(value: Any) -> str:
    """A host, a host and port, a domain with ``*.``, or ``*``."""
    text = tables.string(value).lower()
    name, colon, port = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon or (":" in name and not name.startswith("[")):
        name, port = text, "1"
    bare = name.removeprefix("*.").strip("[]")
    good = name == "*" or (bare and all(c in _LABEL + ":" for c in bare))
    if not good or "/" in text or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise Wrong(f'write a host, "pki.example.org" or "pki.example.org:8080", "*.example.org" or "*", not "{text}"')
    return text


def read(top: Table, problems: Problems) -> RevocationPolicy:
    """The policy of the table; without one nothing is fetched, and files alone are looked at."""
    table = top.table("revocation", "[revocation]")
    if table is None:
        return RevocationPolicy()
    policy = RevocationPolicy(
        lists=table.each("lists", url),
        hosts=table.each("hosts", host),
        ocsp=cast(Literal["off"], table.get("ocsp", tables.choice("off", "needed", "always"), "off")),
        responders=table.each("responders", url),
        nonce=cast(Literal["off"], table.get("nonce", tables.choice("required", "wanted", "off"), "wanted")),
        cert_id=cast(Literal["sha1"], table.get("cert_id", tables.choice("sha1", "sha256"), "sha1")),
        timeout=table.get(
            "timeout",
            tables.duration(0.1, limits.OUR_REVOCATION_TIMEOUT_MAX),
            float(limits.OUR_REVOCATION_TIMEOUT),
        ),
        hard_fail=table.get("hard_fail", tables.boolean, False),
        unknown=cast(Literal["warn"], table.get("unknown", tables.choice("warn", "refuse"), "warn")),
    )
    if policy.ocsp != "off" and not policy.responders and not policy.hosts:
        problems.warn(
            (*table.where, "ocsp"),
            f'ocsp = "{policy.ocsp}", but nobody can be asked: name responders, or hosts that certificates may name',
        )
    if policy.ocsp == "off" and policy.responders:
        problems.warn(
            (*table.where, "responders"), 'responders: not asked, because ocsp = "off"; write ocsp = "needed"'
        )
    if "*" in policy.hosts:
        problems.warn(
            (*table.where, "hosts"),
            'hosts: "*" lets every URL that a trusted authority signs make this gateway open a connection there',
        )
    table.done()
    return policy


def list_files(settings: Settings) -> list[tuple[Path, Where, str]]:
    """The CRL files that trust, A-profile and TLS name: each with where it stands in the configuration and what it is
    called. What TLS misses is told with its other files."""
    found: dict[tuple[Path, str], tuple[Path, Where, str]] = {}
    for index, path in enumerate(settings.trust.crls if settings.trust is not None else ()):
        found.setdefault((path, ""), (path, ("trust", "crls", index), "a CRL"))
    for route in settings.routes:
        if route.a_profile is not None:
            for index, path in enumerate(route.a_profile.crls):
                found.setdefault((path, "A"), (path, (*route.a_profile.where, "crls", index), "an A-profile CRL"))
        if route.tls is not None:
            for index, path in enumerate(route.tls.crls):
                if path.is_file():
                    found.setdefault((path, "TLS"), (path, (*route.tls.where, "crls", index), "a TLS CRL"))
    return list(found.values())


def ends(lists: Iterable[RevocationList]) -> float | None:
    """When the first of these lists runs out, seconds since 1970; None if none says."""
    found = [crl.next_update_ms for crl in lists if crl.next_update_ms is not None]
    return min(found) / 1000 if found else None


class Keeper:
    """The service of one gateway, over its reloads.

    Attributes:
        service: not started before ``start``.
    """

    def __init__(self, policy: RevocationPolicy, files: Iterable[Path] = ()) -> None:
        self.service = RevocationService(policy, files)

    def end_of(self, path: Path) -> float | None:
        """When the lists run out that a file has by now, seconds since 1970."""
        return ends(self.service.known.source(str(path)))

    def start(self) -> None:
        """Begin to fetch, ask and watch."""
        self.service.start()

    async def end(self) -> None:
        """End; what waits goes on without an answer."""
        await asyncio.to_thread(self.service.close)
