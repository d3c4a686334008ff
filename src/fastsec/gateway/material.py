"""Opening the files a configuration names: credentials, anchors, CRLs; and watching when they run out.

Everything is loaded anew on SIGHUP; associations that are open keep what they began with.
"""

from __future__ import annotations

import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar, cast

from cryptography import x509

from fastsec.aio.tls import TLSConfig
from fastsec.config import Config
from fastsec.errors import ConfigError
from fastsec.gateway import access, aprofile, pkcs11, roles, tls_settings
from fastsec.gateway.model import Route, Settings, SettingsError, TlsSettings
from fastsec.gateway.positions import Path as Where
from fastsec.gateway.revocation import Keeper, ends, list_files
from fastsec.gateway.tables import Problem, Problems
from fastsec.gateway.words import about
from fastsec.pki.credential import load_certificates
from fastsec.pki.path import TrustStore
from fastsec.pki.revocation import Revocations

if TYPE_CHECKING:
    from fastsec.aprofile import AProfileConfig
    from fastsec.events import EventSink
    from fastsec.pki.credential import Credential

T = TypeVar("T")

DAY: Final = 86400.0
WARN_DAYS: Final = (30, 7, 1)
CRL_WARN_DAYS: Final = (1,)  # a CRL often lives a week only; what counts is that its successor comes


@dataclass(frozen=True, slots=True)
class Expiry:
    """Something that runs out.

    Attributes:
        what: for the log, e.g. ``the end-to-end certificate``.
        path: its file.
        at: seconds since 1970.
        days: how many before the end to warn, longest first.
    """

    what: str
    path: Path
    at: float
    days: tuple[int, ...] = WARN_DAYS

    def warning(self, now: float) -> tuple[str, str] | None:
        """Level (``warning`` or ``error``) and sentence if it runs out soon, else None."""
        left = self.at - now
        if left <= 0:
            return "error", f"{self.what} expired {about(-left)} ago; renew {self.path} and reload (SIGHUP)"
        if left <= max(self.days) * DAY:
            level = "error" if left <= DAY and self.days == WARN_DAYS else "warning"
            return level, f"{self.what} expires in {about(left)}; renew {self.path} and reload (SIGHUP)"
        return None


@dataclass(frozen=True, slots=True)
class Material:
    """What the routes run on.

    Attributes:
        credential: own end-to-end credential; None if no route needs one.
        configs: one per route.
        tls: one per route, None where the route has no TLS.
        keeper: what is known about revocation.
        expiries: what runs out, soonest first.
        warnings: doubtful things about the files.
    """

    credential: Credential | None
    configs: tuple[Config | AProfileConfig, ...]
    tls: tuple[TLSConfig | None, ...]
    keeper: Keeper
    expiries: tuple[Expiry, ...]
    warnings: tuple[Problem, ...]

    def expiries_now(self) -> tuple[Expiry, ...]:
        """What runs out; of the CRLs as the files have them by now."""
        return tuple(
            replace(expiry, at=self.keeper.end_of(expiry.path) or expiry.at) if expiry.days == CRL_WARN_DAYS else expiry
            for expiry in self.expiries
        )


def load(
    settings: Settings,
    sinks: Callable[[Route], EventSink],
    key_log: Callable[[str], None] | None = None,
    keeper: Keeper | None = None,
    prepared: Callable[[], Credential] | None = None,
) -> Material:
    """Open all files of ``settings``.

    Arguments:
        sinks: gives each route where its security events go.
        key_log: see ``Config``.
        keeper: of the time before, which goes on with the files as they are now.
        prepared: gives the own credential if its token has been opened already.
    Errors:
        SettingsError: with every problem found, at the line that names the file.
    """
    return _Loader(settings, keeper, prepared).load(sinks, key_log)


class _Loader:
    def __init__(
        self, settings: Settings, keeper: Keeper | None, prepared: Callable[[], Credential] | None = None
    ) -> None:
        self.settings = settings
        self.prepared = prepared
        self.keeper = keeper
        self.problems = Problems(settings.positions)
        self.expiries: dict[tuple[str, Path], Expiry] = {}
        self.tls_made: dict[TlsSettings, TLSConfig | None] = {}

    def load(self, sinks: Callable[[Route], EventSink], key_log: Callable[[str], None] | None) -> Material:
        settings = self.settings
        believed = roles.Opener(self._try, self._watch)
        credential = believed.token(settings.roles, self._credential())
        believing = believed.trust(settings.roles)
        self.keeper = keeper = self._kept()
        trust = self._trust(keeper.service.known)
        profiles = self._a_profiles(sinks, keeper.service.known)
        tls = tuple(self._tls(route, credential, sinks(route)) for route in settings.routes)
        if credential is not None:
            self._check_names(credential)
        replay = self._state(f"replay-{credential.name.oid}") if credential is not None else None
        native = any(route.a_profile is None for route in settings.routes)
        if self.problems.errors or (native and (credential is None or trust is None)):
            raise SettingsError(settings.path, self.problems.errors)
        configs = tuple(
            own
            or Config(
                credential=cast("Credential", credential),
                trust=cast(TrustStore, trust),
                policy=route.policy,
                peers=route.peers,
                sink=sinks(route),
                replay_file=replay,
                tls_protected=route.tls is not None,
                key_log=key_log,
                roles=access.believed(believing, route.access),
            )
            for route, own in zip(settings.routes, profiles, strict=True)
        )
        expiries = tuple(sorted(self.expiries.values(), key=lambda expiry: expiry.at))
        return Material(credential, configs, tls, keeper, expiries, tuple(self.problems.warnings))

    # --- one try each ------------------------------------------------------------------------------------------------
    def _try(self, make: Callable[[], T], where: Where, files: Sequence[tuple[Path, Where]] = ()) -> T | None:
        """``make()``; its ConfigError is noted at the line of the file it is about, or at ``where``."""
        try:
            return make()
        except ConfigError as error:
            text = str(error)
            for path, line in files:
                if str(path) in text:
                    where = line
                    break
            self.problems.error(where, text)
            return None

    def _credential(self) -> Credential | None:
        own = self.settings.identity
        if own is None:
            return None
        certificate, key = (*own.where, "certificate"), (*own.where, "key")
        files = [] if own.certificate is None else [(own.certificate, certificate)]
        if isinstance(own.key, Path):
            files.append((own.key, key))
            self._guarded(own.key, key)
        elif own.token is not None and own.token.pin is not None and (doubt := own.token.pin.doubt()):
            self.problems.warn(key, doubt)
        make = self.prepared or partial(pkcs11.load, own)
        credential = self._try(make, certificate if isinstance(own.key, Path) else key, files)
        if credential is not None:
            source = own.certificate or Path("the token")
            self._watch("the end-to-end certificate", source, [credential.certificate])
            self._watch("a certificate of the end-to-end path", source, credential.cert_path)
            if own.name is not None and own.name != credential.name:
                self.problems.error(
                    (*own.where, "name"),
                    f"name: the certificate is for {credential.name}, not {own.name}; correct one of them",
                )
        return credential

    def _kept(self) -> Keeper:
        """The service of revocation, with the CRL files of all; those that cannot be used are problems."""
        keeper = self.keeper or Keeper(self.settings.revocation)
        good: list[Path] = []
        for path, where, what in list_files(self.settings):
            lists = self._try(lambda path=path: keeper.service.lists_of(path), where)  # type: ignore[misc]  # bound per turn
            if lists:
                good.append(path)
                at = ends(lists)
                if at is not None:
                    self.expiries[what, path] = Expiry(what, path, at, CRL_WARN_DAYS)
        if not self.problems.errors:
            keeper.service.configure(self.settings.revocation, good)
        return keeper

    def _trust(self, known: Revocations) -> TrustStore | None:
        trust = self.settings.trust
        if trust is None:
            return None
        before = len(self.problems.errors)
        anchors = self._all(trust.anchors, ("trust", "anchors"), load_certificates, "a trust anchor", crl=False)
        if len(self.problems.errors) > before:
            return None
        return self._try(lambda: TrustStore(anchors, (), trust.binding, revocation=known), ("trust",))

    def _a_profiles(self, sinks: Callable[[Route], EventSink], known: Revocations) -> tuple[AProfileConfig | None, ...]:
        opener = aprofile.Opener(self._try, self._all, self._watch, self._guarded, known, self._state)
        return tuple(
            None if route.a_profile is None else aprofile.load(route.a_profile, opener, sinks(route))
            for route in self.settings.routes
        )

    def _all(
        self, paths: Sequence[Path], where: Where, read: Callable[[Path], tuple[bytes, ...]], what: str, *, crl: bool
    ) -> list[bytes]:
        found: list[bytes] = []
        for index, path in enumerate(paths):
            loaded = self._try(lambda path=path: read(path), (*where, index))  # type: ignore[misc]  # bound per turn
            if loaded is not None:
                found.extend(loaded)
                self._watch(what, path, loaded, crl=crl)
        return found

    def _tls(self, route: Route, credential: Credential | None, sink: EventSink) -> TLSConfig | None:
        """Each route has its own, because of its sink; problems are told once."""
        own = route.tls
        if own is None or self.tls_made.get(own, True) is None:
            return None
        files = tls_settings.files_of(own)
        for path, line in (missing := [(path, line) for path, line in files if not path.is_file()]):
            self.problems.error(line, f"{path}: there is no such file")
        known = self.keeper.service.known if self.keeper is not None else None
        made = None if missing else self._try(lambda: tls_settings.open_tls(own, sink, known), own.where, files)
        if own not in self.tls_made and not missing:
            self._guarded(own.key, (*own.where, "key"))
            if made is not None:
                self._watch_tls(own, made, credential)
        self.tls_made[own] = made
        return made

    def _watch_tls(self, own: TlsSettings, made: TLSConfig, credential: Credential | None) -> None:
        self._watch("the TLS certificate", own.certificate, load_certificates(own.certificate))
        for path in own.anchors:
            self._watch("a TLS trust anchor", path, load_certificates(path))
        for pin in own.pinned:
            if isinstance(pin, Path):
                self._watch("a pinned TLS certificate", pin, load_certificates(pin))
        if credential is not None and tls_settings.is_end_to_end(made.certificate, credential.certificate):
            self.problems.error(
                (*own.where, "certificate"),
                "certificate: this is the end-to-end certificate, or has its key; 62351-4 (Annex G) wants two: "
                "issue one for TLS with a key of its own",
            )

    # --- what the files say ------------------------------------------------------------------------------------------
    def _check_names(self, credential: Credential) -> None:
        for route in self.settings.routes:
            if route.peer == credential.name or credential.name in route.peers:
                key = "peer" if route.peer == credential.name else "peers"
                self.problems.error(
                    (*route.where, key),
                    f"{key}: {credential.name} is this gateway itself (by its certificate); "
                    "a peer with our own identity is refused",
                )

    def _state(self, name: str) -> str | None:
        """A file of this name in the state directory; None without one."""
        state = self.settings.state
        if state is None:
            return None
        if not state.is_dir():
            self.problems.error(
                ("gateway", "state"), f"state: {state} is no directory; make it, writable for the gateway alone"
            )
            return None
        return str(state / name)

    def _guarded(self, key: Path, where: Where) -> None:
        """Doubt a private key that other users may read."""
        try:
            mode = key.stat().st_mode
        except OSError:
            return
        if mode & (stat.S_IRWXG | stat.S_IRWXO) & ~stat.S_IXGRP & ~stat.S_IXOTH:
            self.problems.warn(where, f"{key} may be read by other users; chmod 600 {key}")

    def _watch(self, what: str, path: Path, ders: Sequence[bytes], *, crl: bool = False) -> None:
        for der in ders:
            at = _end_of(der, crl)
            known = self.expiries.get((what, path))
            if at is not None and (known is None or at < known.at):
                self.expiries[what, path] = Expiry(what, path, at, CRL_WARN_DAYS if crl else WARN_DAYS)


def _end_of(der: bytes, crl: bool) -> float | None:
    """When a certificate or CRL runs out, seconds since 1970; None if it does not say, or cannot be read."""
    try:
        if crl:
            end = x509.load_der_x509_crl(der).next_update_utc
        else:
            end = x509.load_der_x509_certificate(der).not_valid_after_utc
    except ValueError:
        return None
    return None if end is None else end.timestamp()


def expiring(expiries: Sequence[Expiry], now: float | None = None) -> list[tuple[str, str]]:
    """Level and sentence for all that run out soon or have already."""
    at = time.time() if now is None else now
    return [found for expiry in expiries if (found := expiry.warning(at)) is not None]
