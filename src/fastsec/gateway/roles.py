"""The table ``[roles]``: whose roles are believed, and the gateway's own role token, which is renewed while it runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastsec.errors import ConfigError
from fastsec.gateway import tables
from fastsec.gateway.positions import Path as Where
from fastsec.gateway.tables import Table, Wrong
from fastsec.gateway.words import about
from fastsec.pki.attribute import attribute_authority
from fastsec.pki.credential import load_attribute_certificate, load_certificates, with_attribute_certificate
from fastsec.pki.roles import RoleTrust

if TYPE_CHECKING:
    from fastsec.gateway.logs import Log
    from fastsec.pki.attribute import AttributeCertificate
    from fastsec.pki.credential import Credential

EVERY: Final = 60.0  # seconds between looks at the token's file
_AREA_MAX: Final = 64
_WHERE: Final = ("roles",)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleSettings:
    """``[roles]``.

    Attributes:
        token: file of the own attribute certificate, or None.
        certificates: whether roles in certificates count.
        authorities: files of attribute authorities.
        issued_authorities: whether those count too that an anchor has issued with sOAIdentifier.
        required: whether a peer without a token is refused.
        areas: the areas of responsibility this gateway is in.
    """

    token: Path | None = None
    certificates: bool = True
    authorities: tuple[Path, ...] = ()
    issued_authorities: bool = False
    required: bool = False
    areas: tuple[str, ...] = ()


def _area(value: Any) -> str:
    text = tables.string(value)
    if len(text) > _AREA_MAX:
        raise Wrong(f"write at most {_AREA_MAX} characters")
    return text


def read(top: Table, file: Callable[[Any], Path]) -> RoleSettings:
    """The table, or its defaults.

    Arguments:
        file: reads a file name.
    """
    table = top.table("roles", "[roles]")
    if table is None:
        return RoleSettings()
    found = RoleSettings(
        token=table.get("token", file, None),
        certificates=table.get("certificates", tables.boolean, True),
        authorities=table.each("authorities", file),
        issued_authorities=table.get("issued_authorities", tables.boolean, False),
        required=table.get("required", tables.boolean, False),
        areas=table.each("areas", _area),
    )
    if found.required and not (found.certificates or found.authorities or found.issued_authorities):
        table.error("required", "required: no token counts, so nobody could come in; name authorities")
    table.done()
    return found


class Opener:
    """Opens the files of ``[roles]`` with what the loader of the gateway's files offers.

    Arguments:
        attempt: ``_Loader._try``.
        watch: ``_Loader._watch``.
    """

    def __init__(self, attempt: Callable[..., Any], watch: Callable[[str, Path, Sequence[bytes]], None]) -> None:
        self._try = attempt
        self._watch = watch

    def trust(self, own: RoleSettings) -> RoleTrust:
        """Whose roles count."""
        ders: list[bytes] = []
        for index, path in enumerate(own.authorities):
            line: Where = (*_WHERE, "authorities", index)
            loaded = self._try(lambda path=path: _authorities(path), line)
            if loaded is not None:
                ders += loaded
                self._watch("an attribute authority's certificate", path, loaded)
        return RoleTrust(
            certificates=own.certificates,
            authorities=tuple(dict.fromkeys(ders)),
            issued_authorities=own.issued_authorities,
            required=own.required and (own.certificates or own.issued_authorities or bool(ders)),
            areas=own.areas,
        )

    def token(self, own: RoleSettings, credential: Credential | None) -> Credential | None:
        """``credential`` with the own token."""
        path = own.token
        if path is None or credential is None:
            return credential
        made = self._try(lambda: with_attribute_certificate(credential, path), (*_WHERE, "token"))
        return credential if made is None else made


def _authorities(path: Path) -> tuple[bytes, ...]:
    ders = load_certificates(path)
    try:
        for der in ders:
            attribute_authority(der)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return ders


class Watch:
    """Keeps the own token fresh: its file is read again when it was replaced, and it is told when that is overdue.

    Arguments:
        path: the file.
        current: the token in use.
        reload: reads all files again.
        log: where to tell.
    """

    def __init__(
        self, path: Path, current: Callable[[], AttributeCertificate | None], reload: Callable[[], object], log: Log
    ) -> None:
        self._path = path
        self._current = current
        self._reload = reload
        self._log = log
        self._told = ""
        self._seen: tuple[int, int, int] | None = None

    async def run(self) -> None:
        """Look every minute, until cancelled."""
        self.tell(time.time())
        while True:
            await asyncio.sleep(EVERY)
            await self.look()

    async def look(self) -> None:
        """Look now."""
        found = await asyncio.to_thread(_state, self._path)
        if found is not None and found != self._seen:
            self._seen = found
            token = self._current()
            try:
                fresh, _ = await asyncio.to_thread(load_attribute_certificate, self._path)
            except ConfigError as error:
                self._log.error(f"the role token was replaced by something that cannot be used: {error}")
            else:
                if token is None or fresh != token:
                    self._log.info("the role token was replaced", file=str(self._path))
                    self._reload()
        self.tell(time.time())

    def tell(self, now: float) -> None:
        """Say once of each token that it runs out (a quarter of its time is left), and once that it has."""
        token = self._current()
        if token is None:
            return
        ends, begins = token.not_after_ms / 1000 + 1, token.not_before_ms / 1000
        left = ends - now
        state = "over" if left <= 0 else "soon" if left <= (ends - begins) / 4 else ""
        said = f"{state} {token.serial.hex()}" if state else ""
        if said == self._told:
            return
        self._told = said
        if state == "over":
            self._log.error(
                f"the role token expired {about(-left)} ago and is not sent any more: peers grant none of its roles; "
                f"replace {self._path}"
            )
        elif state:
            self._log.warning(f"the role token expires in {about(left)}; replace {self._path}")


def _state(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is replaced; None while it cannot be looked at."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
