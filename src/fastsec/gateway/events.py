"""The gateway's event log: the table ``[events]``, and what is made of it: file, collector, limits.

Without the table security events go to the log only, in words, behind the usual limits. With it they become records of
62351-14; the log has them too unless ``log = false``, behind the same limits.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastsec.aio import event_file, event_spool
from fastsec.aio.event_file import Counter, EventFile
from fastsec.aio.event_log import EventLog
from fastsec.aio.event_spool import Spool
from fastsec.aio.event_syslog import SyslogOutput
from fastsec.aio.meter import OWN, Meter
from fastsec.errors import Aborted, ConfigError
from fastsec.eventlog.limiter import ORDER, Limiter
from fastsec.eventlog.record import APP_NAME_MAX, SOURCE_MAX, ascii_text
from fastsec.events import named
from fastsec.gateway import tables, tls_settings
from fastsec.gateway.logs import Log
from fastsec.gateway.model import SettingsError
from fastsec.gateway.positions import Path as Where
from fastsec.gateway.tables import Address, Problem, Problems, Table, Wrong
from fastsec.gateway.telling import Telling
from fastsec.pki.identity import OsiName

if TYPE_CHECKING:
    from fastsec.aio.connection import Connection
    from fastsec.aio.tls import TLSConfig
    from fastsec.errors import FastsecError
    from fastsec.eventlog.record import Record
    from fastsec.events import EventSink
    from fastsec.gateway.model import Route, Settings, TlsSettings

KEY_MIN: Final = 32
BURST_FACTOR: Final = 10  # of the total rate, at once


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSettings:
    """``[events]``.

    Attributes:
        file: the chained event file, or None.
        file_size: octets above which it is rotated.
        file_count: older files kept.
        chain_key: file with the key of the chain, or None.
        collector: address of the syslog collector, or None.
        tls: for the collector; there if ``collector`` is.
        spool: octets that wait for it.
        level: least severity that is recorded.
        rate, burst: of one event from one peer, per second and at once.
        total_rate: of all, per second.
        source: names this machine in the records.
        app_name: names this program there.
        generic: also the generic events beside those of the parts.
        log: the log has the events too.
        where: for messages.
    """

    file: Path | None = None
    file_size: int = event_file.SIZE
    file_count: int = event_file.COUNT
    chain_key: Path | None = None
    collector: Address | None = None
    tls: TlsSettings | None = None
    spool: int = event_spool.LIMIT
    level: str = "notice"
    rate: int = 1
    burst: int = 20
    total_rate: int = 100
    source: str = ""
    app_name: str = "fastsec"
    generic: bool = False
    log: bool = True
    where: Where = ("events",)


def read(
    top: Table,
    problems: Problems,
    file: Callable[[Any], Path],
    read_tls: Callable[[Table | None], TlsSettings | None],
    general: Table | None,
) -> EventSettings | None:
    """Read the table, None if the file has none.

    Arguments:
        file: reads a file name.
        read_tls: reads a TLS table over the general one.
        general: ``[tls]``.
    """
    table = top.table("events", "[events]")
    if table is None:
        return None
    path = table.get("file", file, None)
    given: dict[str, Any] = {
        "file_size": table.get("file_size", tables.integer(65536, 1 << 30), event_file.SIZE),
        "file_count": table.get("file_count", tables.integer(1, 1000), event_file.COUNT),
        "chain_key": table.get("chain_key", file, None),
        "spool": table.get("spool", tables.integer(65536, 1 << 30), event_spool.LIMIT),
        "level": table.get("level", tables.choice(*ORDER), "notice"),
        "rate": table.get("rate", tables.integer(1, 1000), 1),
        "burst": table.get("burst", tables.integer(1, 10_000), 20),
        "total_rate": table.get("total_rate", tables.integer(1, 10_000), 100),
        "source": table.get("source", _word(SOURCE_MAX), ""),
        "app_name": table.get("app_name", _word(APP_NAME_MAX), "fastsec"),
        "generic": table.get("generic", tables.boolean, False),
        "log": table.get("log", tables.boolean, True),
    }
    collector = table.get("collector", tables.address, None)
    own = table.table("tls", "[events.tls]")
    tls = None
    if collector is None:
        if own is not None:
            read_tls(own)
            table.warn("tls", "tls: there is no collector to speak TLS with; write collector, or leave this out")
        if "spool" in table:
            table.warn("spool", "spool: there is no collector to wait for; write collector, or leave this out")
    else:
        tls = read_tls(own or general)
        if own is None and general is None:
            table.error("collector", "collector: syslog goes over TLS only (62351-14); write [events.tls] or [tls]")
        if tls is not None and (own is None or "server_name" not in own):
            tls = dataclasses.replace(tls, server_name=collector.host, where=(own or table).where)
    for key in ("file_size", "file_count", "chain_key"):
        if key in table and path is None:
            table.warn(key, f"{key}: there is no file; write file, or leave this out")
    table.done()
    return EventSettings(file=path, collector=collector, tls=tls, where=table.where, **given)


def _word(maximum: int) -> Callable[[Any], str]:
    def read_word(value: Any) -> str:
        text = tables.string(value)
        if text != ascii_text(text, maximum):
            raise Wrong(f"write at most {maximum} visible ASCII characters, without spaces")
        return text

    return read_word


def check(settings: Settings) -> tuple[Problem, ...]:
    """Look at the places that ``[events]`` names, without opening anything to be written; what is doubtful.

    Errors:
        SettingsError: a place cannot be used.
    """
    problems = Problems(settings.positions)
    if settings.events is not None:
        _check(settings, settings.events, problems)
        _tls(settings, lambda event: None, problems)
    if problems.errors:
        raise SettingsError(settings.path, problems.errors)
    return tuple(problems.warnings)


def _tls(settings: Settings, sink: EventSink, problems: Problems) -> TLSConfig | None:
    """The TLS of the collector, if there is one; problems are noted."""
    own = settings.events.tls if settings.events is not None else None
    if own is None:
        return None
    files = tls_settings.files_of(own)
    missing = [(path, line) for path, line in files if not path.is_file()]
    for path, line in missing:
        problems.error(line, f"{path}: there is no such file")
    if missing:
        return None
    try:
        return tls_settings.open_tls(own, sink, rehandshake=False)
    except ConfigError as error:
        text = str(error)
        problems.error(next((line for path, line in files if str(path) in text), own.where), text)
        return None


def _check(settings: Settings, own: EventSettings, problems: Problems) -> None:
    if own.file is not None and not own.file.parent.is_dir():
        problems.error((*own.where, "file"), f"file: {own.file.parent} is no directory; make it")
    elif own.file is not None and not os.access(own.file.parent, os.W_OK):
        problems.error((*own.where, "file"), f"file: {own.file.parent} cannot be written by this user")
    if own.chain_key is not None:
        try:
            _key(own.chain_key)
        except ConfigError as error:
            problems.error((*own.where, "chain_key"), str(error))
        else:
            if own.chain_key.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
                problems.warn(
                    (*own.where, "chain_key"),
                    f"{own.chain_key} may be read by other users; chmod 600 {own.chain_key}",
                )
    if _counter_path(settings, own) is None:
        problems.warn(
            own.where, "records have no number (SqNum 0): it needs a [gateway] state directory, or a file here"
        )
    if own.collector is not None and _spool_path(settings, own) is None:
        problems.warn(
            (*own.where, "collector"),
            "what the collector has not taken is lost at a restart: it needs a [gateway] state directory, or a file",
        )


def _key(path: Path) -> bytes:
    try:
        key = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"chain_key: {path}: {error.strerror}") from None
    if len(key) < KEY_MIN:
        raise ConfigError(f"chain_key: {path} has {len(key)} octets; at least {KEY_MIN} random ones are needed")
    return key


def _counter_path(settings: Settings, own: EventSettings) -> Path | None:
    if settings.state is not None:
        return settings.state / "events.number"
    return None if own.file is None else Path(f"{own.file}.number")


def _spool_path(settings: Settings, own: EventSettings) -> Path | None:
    if settings.state is not None:
        return settings.state / "events.spool"
    return None if own.file is None else Path(f"{own.file}.spool")


class Events:
    """Where the security events of a gateway go.

    Arguments:
        settings: with ``[events]`` or without.
    Attributes:
        warnings: doubtful things about ``[events]``.
        meters: count the events of each route, by its name; ``meter`` those of none.
    Errors:
        ConfigError: a file cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.meters = {route.name: Meter(route.name) for route in settings.routes}
        self.meter = Meter("", OWN)
        own = settings.events
        self._telling = Telling(Limiter() if own is None else None)  # with [events] the limits are in front of it
        self._log: EventLog | None = None
        self._syslog: SyslogOutput | None = None
        self._started = False
        self.warnings = check(settings)
        if own is None:
            return
        with contextlib.ExitStack() as undo:
            counter = Counter(_counter_path(settings, own))
            undo.callback(counter.close)
            self._log = log = EventLog(
                source=own.source or socket.gethostname(),
                app_name=own.app_name,
                counter=counter,
                limiter=Limiter(own.rate, own.burst, own.total_rate, BURST_FACTOR * own.total_rate),
                level=own.level,
                with_generic=own.generic,
            )
            if own.log:
                log.add(_Words(self._telling))
            if own.file is not None:
                key = None if own.chain_key is None else _key(own.chain_key)
                file = EventFile(own.file, size=own.file_size, count=own.file_count, key=key, report=self._tampered)
                undo.callback(file.close)
                log.add(file)
            self._connect(own, self.load_tls())
            undo.pop_all()

    # --- sinks -------------------------------------------------------------------------------------------------------
    def sink(self, route: Route) -> EventSink:
        """Where the events of a route go."""
        log = self._log
        sink = self._telling.through(Log(route=route.name)) if log is None else log.tagged(route=route.name)
        return self.meters[route.name].counting(sink)

    @property
    def own(self) -> EventSink:
        """Where events go that are of no route."""
        return self.meter.counting(self._telling.through(Log()) if self._log is None else self._log)

    def raise_own(self, mnemonic: str, **params: str) -> None:
        """An event of the gateway itself, for the record only: the log has words of its own for it."""
        if self._log is not None:
            self.own(named(mnemonic, **params))

    def watch(self, route: Route) -> Callable[[Connection, bool, FastsecError | None], None] | None:
        """What a ``Bridge`` of ``route`` tells; None without ``[events]``."""
        if self._log is None:
            return None
        sink = self.sink(route)

        def told(assoc: Connection, confirmed: bool, error: FastsecError | None) -> None:
            # What the peer did wrong has an event of its own; this one is for what was lost or not to be had.
            if confirmed:
                sink(named("COMM_SUCCESS", peer=_who(assoc)))
            elif isinstance(error, Aborted) and error.side == "provider":
                sink(named("COMM_FAIL", peer=_who(assoc) or str(route.far), reason=error))

        return told

    def _tampered(self, what: str) -> None:
        self.own(named("CYBSECEV_LOG_HASH_INVALID", reason=what))

    # --- life --------------------------------------------------------------------------------------------------------
    def load_tls(self) -> TLSConfig | None:
        """Read the certificates for the collector; None without one.

        Errors:
            SettingsError: they cannot be used.
        """
        problems = Problems(self._settings.positions)
        tls = _tls(self._settings, self.own, problems)
        if problems.errors:
            raise SettingsError(self._settings.path, problems.errors)
        return tls

    def _connect(self, own: EventSettings, tls: TLSConfig | None) -> None:
        if self._log is None or own.collector is None or tls is None:
            return
        where = _spool_path(self._settings, own)
        try:
            spool = Spool(own.spool, where)
        except OSError as error:
            raise ConfigError(f"the spool {where}: {error.strerror}") from None
        self._syslog = SyslogOutput(own.collector.host, own.collector.port, tls, spool, self._collector)
        self._log.add(self._syslog)

    def start(self) -> None:
        """Begin to write and to send."""
        if self._log is not None and not self._started:
            self._started = True
            if self._syslog is not None:
                self._syslog.start()
            self._log.start()
            self.raise_own("CONFIG_FILE_IMPORT", file=str(self._settings.path))

    def reloaded(self, tls: TLSConfig | None) -> None:
        """Files were read again, also those of the collector; what has come so far is written out."""
        if self._syslog is not None and tls is not None:
            self._syslog.renew(tls)
        self.raise_own("CONFIG_CHANGE", reason="certificates, keys, anchors and CRLs were read again")
        self._flush()

    def not_reloaded(self, problem: ConfigError) -> None:
        """Files could not be used."""
        self.raise_own("INVALID_CONFIG_OR_FW", reason=str(problem).splitlines()[0])
        self._flush()

    def _flush(self) -> None:
        if self._log is not None and self._started:
            self._log.mark()

    def close(self) -> None:
        """Write and send what is left, for some seconds. Not in the event loop's thread."""
        log, self._log = self._log, None
        if log is not None:
            log.close()
        self._telling.sum_up()

    def refused(self, problem: ConfigError) -> None:
        """The gateway does not start because of ``problem``: record that, and close."""
        self.raise_own("INVALID_CONFIG_OR_FW", reason=str(problem).splitlines()[0])
        if self._log is not None:
            self._log.start()
        self.close()

    def _collector(self, reached: bool, why: str) -> None:
        address = self._settings.events.collector if self._settings.events is not None else ""
        if not reached or why:
            self.own(named("COMM_LOG_SUBSCRIBER_FAIL", peer=str(address), reason=why))
        if reached:
            Log().info("the collector of security events is reached again", collector=address)


def _who(assoc: Connection) -> str:
    peer = assoc.peer
    return "" if peer is None else str(min(map(str, map(OsiName.from_oid, peer.names)), default=""))


class _Words:
    """Hands records to the log, in words."""

    def __init__(self, telling: Telling) -> None:
        self._telling = telling

    def write(self, records: list[tuple[Record, bytes]]) -> None:
        for entry, _ in records:
            self._telling.tell(entry.event, Log(route=dict(entry.extras).get("X.route")))
        records.clear()

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass
