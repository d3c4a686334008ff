"""``[tls]`` and ``[route.tls]``: the security of the hop in the configuration file, and what is made of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastsec.aio.tls import TLSConfig
from fastsec.aio.tls_checks import public_key_of
from fastsec.aio.tls_profile import DAY, SUITES, TLSRules
from fastsec.errors import ConfigError
from fastsec.gateway import tables
from fastsec.gateway.model import IdentitySettings, TlsSettings
from fastsec.gateway.pkcs11 import file_only
from fastsec.gateway.tables import Table, Wrong
from fastsec.pki.credential import load_certificates

if TYPE_CHECKING:
    from fastsec.events import EventSink
    from fastsec.gateway.tables import Problems
    from fastsec.pki.revocation import Revocations

LEAST: Final = 60.0  # seconds; below, connections would be busy with themselves
RSA_BITS_MOST: Final = 8192
_FINGERPRINT: Final = "sha256:"


def read_tls(
    own: Table | None,
    general: Table | None,
    problems: Problems,
    file: Callable[[Any], Path],
    password: Callable[[Table], bytes | None],
    identity: IdentitySettings | None,
) -> TlsSettings | None:
    """The TLS table of a route over the general one: keys of its own win, the others are inherited.

    Arguments:
        file: reads a file name.
        password: reads ``password`` or ``password_file``.
        identity: of the gateway, whose certificate must be another one.
    """
    if own is None:
        return None
    table = Table(own.values, own.where, problems, own.title, general)
    certificate = table.get("certificate", file, None, required='"gateway.tls.pem"')
    key = table.get("key", file_only(file), None, required='"gateway.tls.key"')
    pinned = table.each("pinned", _pin(file), maximum=10_000)
    if "pinned" in table and not table.values["pinned"]:
        table.error("pinned", "pinned: an empty list lets nobody in; name certificates, or leave the key out")
    alone = bool(pinned) and all(isinstance(pin, Path) for pin in pinned)
    anchors = table.each("anchors", file, required="" if alone else '["root.pem"]')
    if "anchors" in table and not table.values["anchors"] and not alone:
        table.error("anchors", "anchors: name at least one file, or no TLS peer can be trusted")
    crls = table.each("crls", file)
    server_name = table.get("server_name", tables.string, None)
    secret = password(table)
    rules = _rules(table)
    table.done()
    if certificate is None or key is None:
        return None
    if identity is not None and certificate == identity.certificate:
        table.error(
            "certificate",
            "certificate: TLS and the end-to-end identity need separate certificates (62351-4, Annex G); "
            "issue one for TLS",
        )
    return TlsSettings(
        certificate=certificate, key=key, anchors=anchors, crls=crls, server_name=server_name, password=secret,
        rules=rules, pinned=pinned, where=own.where,
    )  # fmt: skip


def _rules(table: Table) -> TLSRules:
    given: dict[str, Any] = {
        "versions": table.each("versions", tables.choice("1.2", "1.3")) or None,
        "suites": table.each("suites", tables.choice(*(suite.name for suite in SUITES if suite.chosen))) or None,
        "rsa_bits_min": table.get("rsa_bits", tables.integer(1024, RSA_BITS_MOST), None),
        "strict_usage": table.get("strict_usage", tables.boolean, None),
        "resumption": table.get("resumption", tables.duration(LEAST, DAY), None),
        "renewal": table.get("renewal", tables.duration(LEAST, DAY), None),
        "limit": table.get("limit", tables.duration(LEAST, DAY), None),
        "at_limit": table.get("at_limit", tables.choice("end", "keep"), None),
        "recheck": table.get("recheck", tables.duration(LEAST, DAY), None),
        "rehandshake": table.get("rehandshake", tables.boolean, None),
    }
    for key in ("versions", "suites"):
        if table.values.get(key) == []:
            table.error(key, f"{key}: name at least one, or leave the key out for the usual ones")
    usual = TLSRules()
    rules = {key: value for key, value in given.items() if value is not None}
    # Where one of them is given the others give way: resumption <= renewal <= limit (62351-3).
    limit = rules.setdefault("limit", usual.limit)
    if "renewal" not in rules:
        rules["renewal"] = min(max(usual.renewal, rules.get("resumption", 0)), limit)
    rules.setdefault("resumption", min(usual.resumption, rules["renewal"]))
    for key, other in (("resumption", "renewal"), ("renewal", "limit")):
        if rules[key] > rules[other]:
            where = key if key in table else other
            table.error(where, f"{where}: resumption, renewal and limit have to be in this order, none above the next")
            return usual
    try:
        return TLSRules(**rules)
    except ConfigError as error:
        table.error("rsa_bits", f"rsa_bits: {error}")
        return usual


def _pin(file: Callable[[Any], Path]) -> Callable[[Any], Path | bytes]:
    """A certificate file, or "sha256:" and the fingerprint."""

    def read(value: Any) -> Path | bytes:
        if not isinstance(value, str) or not value.startswith(_FINGERPRINT):
            return file(value)
        try:
            digest = bytes.fromhex(value.removeprefix(_FINGERPRINT).replace(":", ""))
        except ValueError:
            digest = b""
        if len(digest) != 32:
            raise Wrong('write a file name, or "sha256:" and 64 hexadecimal digits')
        return digest

    return read


def files_of(settings: TlsSettings) -> list[tuple[Path, tuple[str | int, ...]]]:
    """All files, each with where it stands in the configuration."""
    where = settings.where
    return [
        (settings.certificate, (*where, "certificate")),
        (settings.key, (*where, "key")),
        *((path, (*where, "anchors", index)) for index, path in enumerate(settings.anchors)),
        *((path, (*where, "crls", index)) for index, path in enumerate(settings.crls)),
        *((path, (*where, "pinned", index)) for index, path in enumerate(settings.pinned) if isinstance(path, Path)),
    ]


def open_tls(
    settings: TlsSettings, sink: EventSink, known: Revocations | None = None, *, rehandshake: bool = True
) -> TLSConfig:
    """What connections need.

    Arguments:
        known: about revocation, that of the CRL files included; None: what they say now.
        rehandshake: False: the peer is never a fastsec one.
    Errors:
        ConfigError: a file cannot be used.
    """
    pins: list[bytes] = []
    for pin in settings.pinned:
        pins += [pin] if isinstance(pin, bytes) else load_certificates(pin)
    rules = settings.rules if rehandshake else dataclasses.replace(settings.rules, rehandshake=False)
    if pins:
        rules = dataclasses.replace(rules, trust="pinned", pinned=tuple(dict.fromkeys(pins)))
    return TLSConfig(
        settings.certificate,
        settings.key,
        settings.anchors,
        settings.crls if known is None else (),
        server_hostname=settings.server_name,
        password=settings.password,
        rules=rules,
        sink=sink,
        revocation=known,
    )


def is_end_to_end(tls: bytes, identity: bytes) -> bool:
    """Whether two certificates (DER) are one, or have one key: 62351-4 Annex G wants two."""
    return tls == identity or public_key_of(tls) == public_key_of(identity) != b""
