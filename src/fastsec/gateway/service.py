"""The gateway as a service: starting, signals, reloading, draining, watching certificates.

SIGHUP reads certificates, keys, anchors and CRLs again, for new associations; open ones go on. SIGTERM and SIGINT take
nothing new, release what is open and end when it is gone or the time is over; a second one ends at once.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fastsec.aio.pauses import ShortPauses
from fastsec.errors import ConfigError
from fastsec.gateway import aprofile, events, logs, material, pkcs11, roles
from fastsec.gateway.events import Events
from fastsec.gateway.logs import Log
from fastsec.gateway.metrics import server_of
from fastsec.gateway.model import IdentitySettings, Settings, SettingsError
from fastsec.gateway.notify import Notifier
from fastsec.gateway.runner import Runner

if TYPE_CHECKING:
    from fastsec.gateway.material import Expiry, Material
    from fastsec.pki.attribute import AttributeCertificate
    from fastsec.pki.credential import Credential

DAILY: Final = 24 * 3600.0
LAST_WORDS: Final = 2.0
FILES_BESIDES: Final = 64  # open files that are no associations: listeners, certificates being read, the log


class Gateway:
    """All routes of one configuration file.

    Arguments:
        settings: the file.
        loaded: the files it names.
        notifier: the service manager.
        key_log: see ``Config``.
        recorded: where the events of ``loaded`` go.
    Attributes:
        events: likewise.
        runners: one per route, in the order of the file.
        metrics: serves them, or None.
        reloads: how many could be used (True) and could not (False).
        since: when it was made, seconds since 1970.
    """

    def __init__(
        self,
        settings: Settings,
        loaded: Material,
        notifier: Notifier | None = None,
        key_log: Callable[[str], None] | None = None,
        recorded: Events | None = None,
    ) -> None:
        self.settings = settings
        self.events = recorded or Events(settings)
        self._key_log = key_log
        self.log = Log()
        self._loaded = loaded
        self._notifier = notifier or Notifier({})
        self._stopping: asyncio.Future[None] | None = None
        self._ending: asyncio.Future[None] | None = None
        self.runners = [
            Runner(route, config, tls, Log(route=route.name), self.events.meters[route.name])
            for route, config, tls in zip(settings.routes, loaded.configs, loaded.tls, strict=True)
        ]
        for runner in self.runners:
            runner.watch = self.events.watch(runner.route)
        self.since = time.time()
        self.reloads = {True: 0, False: 0}
        self._opening: asyncio.Task[None] | None = None
        self.metrics = server_of(self, settings.metrics) if settings.metrics is not None else None

    @property
    def expiries(self) -> tuple[Expiry, ...]:
        """What runs out of the files in use."""
        return self._loaded.expiries_now()

    async def start(self) -> None:
        """Listen and dial on every route.

        Errors:
            ConfigError: an address cannot be had; nothing is left listening.
        """
        credential, identity = self._loaded.credential, self.settings.identity
        if credential is not None and identity is not None:
            self.log.info(f"this gateway is {credential.name}", certificate=identity.certificate or "in the token")
        if self.settings.state is None:
            self.log.info(
                "no [gateway] state directory: requests from before this start are refused instead of remembered"
            )
        self._warn_expiry()
        self.events.start()
        try:
            for runner in self.runners:
                try:
                    await runner.start()
                except ConfigError as error:
                    line = self.settings.positions.line(runner.route.where)
                    raise ConfigError(f'route "{runner.route.name}": {error}', line) from None
                self._introduce(runner)
            self._loaded.keeper.service.listeners.append(self._revocation_changed)
            self._loaded.keeper.start()
            await self._start_metrics()
        except BaseException:
            await self.end()
            raise

    def _revocation_changed(self) -> None:
        """In the thread of the revocation service: TLS looks again at the peers of open connections too."""
        for tls in self._loaded.tls:
            if tls is not None:
                tls.revocation_changed()

    async def _start_metrics(self) -> None:
        where = self.settings.metrics
        if self.metrics is None or where is None:
            return
        try:
            await self.metrics.listen(where.listen)
        except ConfigError as error:
            raise ConfigError(str(error), self.settings.positions.line(where.where)) from None
        at = ", ".join(f"{host}:{port}" for host, port in self.metrics.addresses)
        self.log.info("metrics are served", listens=at)

    def _introduce(self, runner: Runner) -> None:
        route = runner.route
        protection = "TLS below" if route.tls is not None else "no TLS below"
        kind = "end-to-end" if route.a_profile is None else aprofile.WORDS
        who = aprofile.who(route)
        if route.role == "client":
            far = f"calls {who} at {route.far}" if route.dial == "out" else f"waits for {who} to dial in"
        else:
            far = f"lets in {who}" if route.dial == "in" else f"dials {route.far} and lets in {who}"
        at = ", ".join(f"{host}:{port}" for host, port in runner.addresses) or "nowhere"
        near = "plain clients" if route.role == "client" else f"the plain server {route.near}"
        runner.log.info(f"for {near}: {far}", listens=at, security=f"{kind}, {protection}")

    def reload_soon(self) -> None:
        """As ``reload``; if the key is in a token, it is opened in a thread before."""
        identity = self.settings.identity
        if identity is None or not pkcs11.in_token(identity):
            self.reload()
        elif self._opening is None or self._opening.done():
            self._opening = asyncio.get_running_loop().create_task(self._reload_with_token(identity))

    async def _reload_with_token(self, identity: IdentitySettings) -> None:
        self.reload(await pkcs11.prepare(identity))

    def reload(self, prepared: Callable[[], Credential] | None = None) -> bool:
        """Read certificates, keys, anchors and CRLs again, for new associations; False if they are not usable."""
        self._notifier.reloading()
        try:
            loaded = material.load(self.settings, self.events.sink, self._key_log, self._loaded.keeper, prepared)
            new, old = loaded.credential, self._loaded.credential
            if new is not None and old is not None and new.name != old.name:
                raise ConfigError(
                    f"the new certificate is for {new.name}, not {old.name}; another identity needs a restart"
                )
            collector = self.events.load_tls()
        except ConfigError as error:
            self.events.not_reloaded(error)
            for line in str(error).splitlines():
                self.log.error(f"not reloaded, going on with what was loaded before: {line}")
            self.reloads[False] += 1
            self._notifier.ready(self.status())
            return False
        self._loaded = loaded
        self.events.reloaded(collector)
        self.reloads[True] += 1
        for runner, config, tls in zip(self.runners, loaded.configs, loaded.tls, strict=True):
            runner.renew(config, tls)
        self.log.info("certificates, anchors and CRLs reloaded for new associations")
        for problem in loaded.warnings:
            self.log.warning(str(problem))
        self._warn_expiry()
        self._notifier.ready(self.status())
        return True

    async def stop(self, within: float) -> None:
        """Drain: take nothing new, release what is open, end what is left after ``within`` seconds."""
        count = sum(runner.associations for runner in self.runners)
        self.log.info(f"going down: associations to release: {count}, for at most {within:g} s")
        self._notifier.stopping("draining")
        try:
            async with asyncio.timeout(within):
                await asyncio.gather(*(runner.stop() for runner in self.runners))
                await asyncio.gather(*(runner.quiet() for runner in self.runners))
        except TimeoutError:
            left = sum(len(runner.bridges) for runner in self.runners)
            self.log.warning(f"associations not released in time: {left}; ending them")
        await self.end()

    async def end(self) -> None:
        """End everything now."""
        await asyncio.gather(*(runner.stop() for runner in self.runners))
        await asyncio.gather(*(runner.end() for runner in self.runners))
        if self.metrics is not None:
            await self.metrics.close()
        await asyncio.get_running_loop().run_in_executor(None, self.events.close)
        await self._loaded.keeper.end()

    def status(self) -> str:
        """A line for ``systemctl status``."""
        open_now = sum(runner.associations for runner in self.runners)
        return f"{len(self.runners)} routes, {open_now} associations open"

    def _token(self) -> AttributeCertificate | None:
        """The role token in use."""
        credential = self._loaded.credential
        return None if credential is None else credential.attribute_certificate

    def _warn_expiry(self) -> None:
        for level, sentence in material.expiring(self.expiries):
            (self.log.error if level == "error" else self.log.warning)(sentence)

    # --- as a process ------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Start, then serve until a signal ends it.

        Errors:
            ConfigError: an address cannot be had.
        """
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._unexpected)
        self._stopping, self._ending = loop.create_future(), loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop_asked)
        loop.add_signal_handler(signal.SIGHUP, self.reload_soon)
        tasks: list[asyncio.Task[None]] = []
        pauses: ShortPauses | None = None
        try:
            await self.start()
            tasks = [loop.create_task(self._daily())]
            if self.settings.roles.token is not None:
                watch = roles.Watch(self.settings.roles.token, self._token, self.reload_soon, self.log)
                tasks.append(loop.create_task(watch.run()))
            if self._notifier.watchdog is not None:
                tasks.append(loop.create_task(self._watchdog(self._notifier.watchdog)))
            self._notifier.ready(self.status())
            pauses = ShortPauses()
            await self._stopping
            draining = loop.create_task(self.stop(self.settings.drain))
            await asyncio.wait((draining, self._ending), return_when=asyncio.FIRST_COMPLETED)
            if not draining.done():
                self.log.warning("asked again: ending at once")
                draining.cancel()
                await asyncio.wait((loop.create_task(self.end()),), timeout=LAST_WORDS)
            else:
                draining.result()
            self.log.info("ended")
        finally:
            if pauses is not None:
                pauses.stop()
            for task in tasks:
                task.cancel()
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)

    def _stop_asked(self) -> None:
        if self._stopping is not None and not self._stopping.done():
            self._stopping.set_result(None)
        elif self._ending is not None and not self._ending.done():
            self._ending.set_result(None)

    async def _daily(self) -> None:
        while True:
            await asyncio.sleep(DAILY)
            self._warn_expiry()

    async def _watchdog(self, every: float) -> None:
        while True:
            self._notifier.alive(self.status())
            await asyncio.sleep(every)

    def _unexpected(self, loop: asyncio.AbstractEventLoop, context: Mapping[str, object]) -> None:
        """A fault of ours in one association; the others go on."""
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            self.log.error("too many open files: connections cannot be accepted for now; raise LimitNOFILE (ulimit -n)")
            return
        self.log.error(
            f"internal error, please report it: {context.get('message', '')}", error=repr(error) if error else None
        )


def prepare(settings: Settings, key_log: Callable[[str], None] | None = None) -> tuple[Gateway, list[str]]:
    """A gateway for ``settings``, not yet started, and what is doubtful about its files.

    Arguments:
        key_log: see ``Config``.
    Errors:
        SettingsError: a file it names cannot be used.
    """
    recorded = Events(settings)
    try:
        loaded = material.load(settings, recorded.sink, key_log)
    except ConfigError as error:
        recorded.refused(error)
        raise
    warnings = (*settings.warnings, *loaded.warnings, *recorded.warnings)
    doubts = [f"{settings.path}: {problem}" for problem in warnings]
    return Gateway(settings, loaded, Notifier(), key_log, recorded), doubts


def serve(
    settings: Settings, *, ready: Callable[[Gateway], None] | None = None, insecure_key_log: Path | None = None
) -> int:
    """Run the gateway until a signal ends it.

    Arguments:
        ready: called with the gateway before it starts.
        insecure_key_log: a file that gets the keys of all associations (``fastsec.aio.keylog``); for development.
    Result: 0 after an orderly end, 2 if configuration or addresses cannot be used.
    """
    from fastsec.aio.keylog import KeyLogFile
    from fastsec.aio.loop import run

    os.umask(0o077)
    journal = bool(os.environ.get("JOURNAL_STREAM")) and settings.log_format == "text"
    handler = logs.setup(settings.log_format, settings.log_level, sys.stderr, journal=journal)
    log = Log()
    try:
        key_log = KeyLogFile(insecure_key_log) if insecure_key_log is not None else None
        gateway, doubts = prepare(settings, key_log)
        for doubt in doubts:
            log.warning(doubt)
        if doubt := allow_files(files_needed(settings)):
            log.warning(doubt)
        if ready is not None:
            ready(gateway)
        run(_gathering(gateway, handler))
    except SettingsError as error:
        for line in str(error).splitlines():
            log.error(line)
        return 2
    except ConfigError as error:
        log.error(f"{settings.path}: {error}")
        return 2
    return 0


def files_needed(settings: Settings) -> int:
    """Open files for all the associations the routes may have: each has two connections, each waiting one another."""
    each = (2 * route.max_associations + (route.spare if route.reversed else 0) for route in settings.routes)
    return FILES_BESIDES + sum(each)


def allow_files(needed: int) -> str:
    """Raise the process's own limit of open files to ``needed``; what is to be told if it may not go so far."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return ""
    granted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (granted, hard))
    if granted == needed:
        return ""
    return (
        f"only {granted} files may be open, {needed} are needed for the max_associations of all routes: beyond, "
        "connections are not accepted; raise LimitNOFILE of the systemd unit (ulimit -n), or lower max_associations"
    )


async def _gathering(gateway: Gateway, handler: logs.LineHandler) -> None:
    """Run the gateway with its log off the way of its associations."""
    handler.gather(asyncio.get_running_loop())
    try:
        await gateway.run()
    finally:
        handler.gather(None)


def check(settings: Settings, now: float | None = None) -> tuple[list[str], list[str]]:
    """Open all files of ``settings`` without starting anything.

    Result: what is doubtful, and what is fine, as lines.
    Errors:
        SettingsError: a file cannot be used.
    """
    loaded = material.load(settings, lambda route: Log(route=route.name).event)
    warnings = (*settings.warnings, *loaded.warnings, *events.check(settings))
    doubts = [f"{settings.path}: {problem}" for problem in warnings]
    doubts += [
        f"{settings.path}: {sentence}"
        for _, sentence in material.expiring(loaded.expiries, time.time() if now is None else now)
    ]
    fine = [f"identity {loaded.credential.name}"] if loaded.credential is not None else []
    for route in settings.routes:
        near = f"plain MMS at {route.near}"
        tls = "with TLS" if route.tls is not None else "without TLS"
        far = f"{'dials' if route.dial == 'out' else 'is dialled at'} {route.far} {tls}"
        how = f"encryption {route.policy.encryption}" if route.a_profile is None else aprofile.WORDS
        fine.append(f'route "{route.name}": {route.role}; {near}; {far}; {how}')
        if route.access is not None:
            fine += [f"  {line}" for line in route.access.matrix()]
    return doubts, fine
