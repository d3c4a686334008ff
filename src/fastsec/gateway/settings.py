"""Reading the configuration file of the gateway, with complaints an operator can act on.

Reading collects every problem before it fails; each names its line and what to write. The model is
``fastsec.gateway.model``; files that the configuration names are opened in ``fastsec.gateway.material``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, cast

from fastsec import limits, profile
from fastsec.config import Policy
from fastsec.errors import ConfigError
from fastsec.gateway import access, aprofile, events, metrics, pkcs11, revocation, roles, sides, tables, tls_settings
from fastsec.gateway.model import (
    Binding,
    Dial,
    IdentitySettings,
    NearSettings,
    Role,
    Route,
    Settings,
    SettingsError,
    TlsSettings,
    TrustSettings,
)
from fastsec.gateway.positions import Positions
from fastsec.gateway.tables import Address, Problem, Problems, Table, Wrong
from fastsec.pki.identity import OsiName

FILE_MAX: Final = 1 << 20

AE_NAMES: Final = {
    "aes128-gcm": (profile.AES128_GCM, 16),
    "aes256-gcm": (profile.AES256_GCM, 16),
    "aes128-gcm-12": (profile.AES128_GCM, 12),
    "aes256-gcm-12": (profile.AES256_GCM, 12),
}
ENCRYPTION_NAMES: Final = {"aes128-cbc": profile.AES128_CBC, "aes256-cbc": profile.AES256_CBC}
ICV_NAMES: Final = {
    "hmac-sha256": (profile.HMAC_SHA256, profile.HMAC_ICV_LEN),
    "aes128-gmac": (profile.AES128_GCM, 16),
    "aes256-gmac": (profile.AES256_GCM, 16),
    "aes128-gmac-12": (profile.AES128_GCM, 12),
    "aes256-gmac-12": (profile.AES256_GCM, 12),
}


def load(path: Path, *, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the configuration file ``path``.

    Arguments:
        environ: where ``STATE_DIRECTORY`` (systemd) is looked up.
    Errors:
        SettingsError: with every problem found, each with its line.
    """
    try:
        if path.stat().st_size > FILE_MAX:
            raise SettingsError(path, [Problem(None, f"the file is larger than {FILE_MAX} octets")])
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(path, [Problem(None, f"cannot be read: {error.strerror}")]) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SettingsError(path, [Problem(line, "is not UTF-8; save the file in UTF-8")]) from None
    return parse(text, path, environ=environ or {})


def parse(text: str, path: Path, *, environ: Mapping[str, str] | None = None) -> Settings:
    """As ``load``, from a text; ``path`` is the directory that file names start from, and the name in messages."""
    try:
        values = tomllib.loads(text)
        # tomllib has normalized line ends; the index must see the same text
        problems = Problems(Positions(text.replace("\r\n", "\n")))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(path, [_toml_problem(error, text)]) from None
    except ValueError:
        raise SettingsError(path, [Problem(None, "is not TOML: a number with thousands of digits")]) from None
    except RecursionError:
        raise SettingsError(path, [Problem(None, "is nested too deeply")]) from None
    reader = _File(path, problems)
    settings = reader.read(Table(values, (), problems, "the file"), environ or {})
    if problems.errors or settings is None:
        raise SettingsError(path, problems.errors)
    return settings


def _toml_problem(error: tomllib.TOMLDecodeError, text: str) -> Problem:
    message = str(error)
    body, _, tail = message.rpartition(" (at ")
    if tail.startswith("line "):
        return Problem(int(tail[5:].split(",")[0]), f"is not TOML: {body}")
    return Problem(text.count("\n") + 1, f"is not TOML: {body or message}")


class _File:
    """Reads one file, table by table."""

    def __init__(self, path: Path, problems: Problems) -> None:
        self.path = path
        self.problems = problems
        self.file = tables.file_in(path.parent)
        self.policies: access.Policies = {}

    def read(self, top: Table, environ: Mapping[str, str]) -> Settings | None:
        # Who speaks the A-profile alone needs no end-to-end identity.
        native = aprofile.any_native(top.values)
        identity = self._identity(top) if native or "identity" in top else None
        trust = self._trust(top) if native or "trust" in top else None
        log = top.table("log", "[log]") or Table({}, ("log",), self.problems, "[log]")
        log_format = log.get("format", tables.choice("text", "json"), "text")
        log_level = log.get("level", tables.choice("debug", "info", "warning", "error"), "info")
        log.done()
        own = top.table("gateway", "[gateway]") or Table({}, ("gateway",), self.problems, "[gateway]")
        drain = own.get("drain", tables.duration(0, 3600), 30.0)
        given = environ.get("STATE_DIRECTORY", "").split(":")[0]
        state = own.get("state", self.file, Path(given) if given else None)
        own.done()
        measured = metrics.read(top, self.problems)
        asked = revocation.read(top, self.problems)
        believed = roles.read(top, self.file)
        self.a_profile = top.table("a_profile", "[a_profile]")
        aprofile.check_general(self.a_profile, self.file, self._password)
        tls = top.table("tls", "[tls]")
        recorded = events.read(top, self.problems, self.file, lambda own: self._tls(own, tls, identity), tls)
        policy = top.table("policy", "[policy]")
        self._policy(policy, None)
        self._tls(tls, None, identity)
        self.policies = access.read_policies(top, self.problems)
        routes = self._routes(top, tls, policy, identity)
        if measured is not None:
            self._check_metrics(measured, routes)
        top.done()
        if native and (identity is None or trust is None):
            return None
        return Settings(
            path=self.path,
            identity=identity,
            trust=trust,
            routes=routes,
            log_format=log_format,
            log_level=log_level,
            drain=drain,
            state=state,
            metrics=measured,
            events=recorded,
            revocation=asked,
            roles=believed,
            warnings=tuple(self.problems.warnings),
            positions=self.problems.positions,
        )

    # --- identity, trust, tls ----------------------------------------------------------------------------------------
    def _identity(self, top: Table) -> IdentitySettings | None:
        table = self._required(top, "identity", "certificate and key of this gateway")
        if table is None:
            return None
        key = table.get("key", pkcs11.key_or_file(self.file), None, required='"gateway.e2e.key"')
        token = pkcs11.read_token(table, key, self.file)
        certificate = table.get("certificate", self.file, None, required="" if token else '"gateway.e2e.pem"')
        password = self._password(table)
        name = table.get("name", osi_name, None)
        table.done()
        if key is None or (certificate is None and token is None):
            return None
        return IdentitySettings(certificate=certificate, key=key, password=password, token=token, name=name)

    def _trust(self, top: Table) -> TrustSettings | None:
        table = self._required(top, "trust", "the anchors that vouch for far gateways")
        if table is None:
            return None
        anchors = table.each("anchors", self.file, required='["root.pem"]')
        if "anchors" in table and not table.values["anchors"]:
            table.error("anchors", "anchors: name at least one file, or nobody can be trusted")
        crls = table.each("crls", self.file)
        binding = table.get("binding", tables.choice("subject", "registered-id", "either"), "either")
        table.done()
        return TrustSettings(anchors=anchors, crls=crls, binding=cast(Binding, binding))

    def _required(self, top: Table, key: str, what: str) -> Table | None:
        if key not in top:
            top.get(key, lambda value: value, None)
            self.problems.error((), f"the file has no table [{key}]: {what}")
            return None
        return top.table(key, f"[{key}]")

    def _password(self, table: Table) -> bytes | None:
        """``password``, or ``password_file`` whose first line it is."""
        secret = table.get("password", tables.secret, None)
        file = table.get("password_file", self.file, None)
        if secret is not None and file is not None:
            table.error("password_file", "write either password or password_file, not both")
        if file is None:
            return secret
        try:
            return file.read_bytes().split(b"\n", 1)[0].rstrip(b"\r")
        except OSError as error:
            table.error("password_file", f"{file} cannot be read: {error.strerror}")
            return None

    def _tls(self, own: Table | None, general: Table | None, identity: IdentitySettings | None) -> TlsSettings | None:
        return tls_settings.read_tls(own, general, self.problems, self.file, self._password, identity)

    # --- policy ------------------------------------------------------------------------------------------------------
    def _policy(self, own: Table | None, general: Table | None) -> Policy:
        own = own or general or Table({}, ("policy",), self.problems, "[policy]")
        table = Table(own.values, own.where, self.problems, own.title, general)
        demand = tables.choice("required", "allowed", "forbidden")
        given: dict[str, Any] = {
            "encryption": table.get("encryption", demand, None),
            "ae": table.get("ae", demand, None),
            "groups": table.each("groups", _group, maximum=3) or None,
            "accept_groups": table.each("accept_groups", _group, maximum=3) or None,
            "ae_algorithms": table.each("ae_algorithms", _named(AE_NAMES)) or None,
            "encr_algorithms": table.each("encryption_algorithms", _named(ENCRYPTION_NAMES)) or None,
            "icv_algorithms": table.each("icv_algorithms", _named(ICV_NAMES)) or None,
            "rekey_interval": table.get(
                "rekey", tables.duration(limits.SPEC_REKEY_INTERVAL_MIN, limits.SPEC_REKEY_INTERVAL_MAX), None
            ),
            "rekey_messages": table.get("rekey_messages", tables.integer(1, limits.OUR_MESSAGES_PER_KEY_SOFT), None),
            "strict_peer": table.get("strict_peer", tables.boolean, None),
            "max_association_lifetime": table.get("max_lifetime", tables.duration(60, 365 * 86400), None),
        }
        for key in ("groups", "accept_groups", "ae_algorithms", "encryption_algorithms", "icv_algorithms"):
            if table.values.get(key) == []:
                table.error(key, f"{key}: name at least one, or leave the key out for the usual ones")
        table.done()
        for key in ("rekey_interval", "max_association_lifetime"):
            if given[key] is not None:
                given[key] = int(given[key])
        try:
            return Policy(**{key: value for key, value in given.items() if value is not None})
        except ConfigError as error:
            table.error("ae" if "ae" in table else "encryption", str(error))
            return Policy()

    # --- routes ------------------------------------------------------------------------------------------------------
    def _routes(
        self, top: Table, tls: Table | None, policy: Table | None, identity: IdentitySettings | None
    ) -> tuple[Route, ...]:
        def tables_only(value: Any) -> list[Mapping[str, Any]]:
            if not isinstance(value, list) or not all(isinstance(entry, Mapping) for entry in value):
                raise Wrong("write each route as [[route]], with two brackets")
            return value

        entries: list[Mapping[str, Any]] = top.get("route", tables_only, [])
        if not top.values.get("route"):
            self.problems.error((), "the file has no [[route]]; write at least one")
        routes: list[Route] = []
        for index, entry in enumerate(entries):
            table = Table(entry, ("route", index), self.problems, "[[route]]")
            route = self._route(table, index, tls, policy, identity)
            if route is not None:
                self._check_neighbours(route, routes)
                routes.append(route)
        return tuple(routes)

    def _route(
        self,
        table: Table,
        index: int,
        tls: Table | None,
        policy: Table | None,
        identity: IdentitySettings | None,
    ) -> Route | None:
        name = table.get("name", tables.string, f"route{index + 1}")
        role = table.get("role", tables.choice("client", "server"), None, required='"client" or "server"')
        dial = table.get("dial", tables.choice("out", "in"), "in" if role == "server" else "out")
        near, far = self._addresses(table, role, dial)
        peer, peers = self._peers(table, role, identity)
        allow = table.each("allow", tables.network)
        far_allow = table.each("far_allow", tables.network)
        osi = self._near(table)
        own_tls: TlsSettings | None
        if table.values.get("tls") is False:
            table.get("tls", tables.boolean, False)
            own_tls = None
        else:
            below = table.table("tls", "[route.tls]")
            own_tls = self._tls(below or tls, tls, identity)
        own_policy = self._policy(table.table("policy", "[route.policy]"), policy)
        own_a_profile = aprofile.read(
            table, self.a_profile, self.file, self._password,
            tls=own_tls is not None, loopback=far is not None and far.loopback,
        )  # fmt: skip
        allowed = access.of_route(table, role, self.policies)
        route_limits = {
            "max_associations": table.get("max_associations", tables.integer(1, 100_000), 200),
            "accept_rate": float(table.get("accept_rate", tables.integer(1, 10_000), 50)),
            "spare": table.get("spare", tables.integer(1, 1000), 2 if role == "server" else 64),
            "connect_timeout": table.get("connect_timeout", tables.duration(0.1, 25), 10.0),
        }
        table.done()
        if role is None or near is None or far is None:
            return None
        route = Route(
            name=name, role=cast(Role, role), dial=cast(Dial, dial), near=near, far=far, peer=peer, peers=peers,
            allow=allow, far_allow=far_allow, osi=osi, tls=own_tls, policy=own_policy, access=allowed,
            a_profile=own_a_profile, where=table.where, **cast(Any, route_limits),
        )  # fmt: skip
        self._check_exposure(table, route)
        return route

    def _addresses(self, table: Table, role: str | None, dial: str) -> tuple[Address | None, Address | None]:
        """Near and far TCP address: ``listen``/``connect`` in the usual directions, ``far_*`` where TCP is reversed."""
        listen = table.get("listen", tables.address, None)
        connect = table.get("connect", tables.address, None)
        far_listen = table.get("far_listen", tables.address, None)
        far_connect = table.get("far_connect", tables.address, None)
        if role is None:
            return None, None
        given = {"listen": listen, "connect": connect, "far_listen": far_listen, "far_connect": far_connect}
        usual = (role == "client") == (dial == "out")
        near_key = "listen" if role == "client" else "connect"
        if usual:
            far_key = "connect" if role == "client" else "listen"
        else:
            far_key = "far_listen" if dial == "in" else "far_connect"
        meaning = {
            near_key: "where plain MMS clients connect" if role == "client" else "the plain MMS server",
            far_key: "where the far gateway dials in" if dial == "in" else "the far gateway",
        }
        for key in (near_key, far_key):
            if key not in table:
                table.error("", f'a route with role = "{role}" and dial = "{dial}" lacks {key}: {meaning[key]}')
        for key in given:
            if key in table and key not in (near_key, far_key):
                table.error(
                    key,
                    f'{key} has no meaning with role = "{role}" and dial = "{dial}"; '
                    f"the keys are {near_key} ({meaning[near_key]}) and {far_key} ({meaning[far_key]})",
                )
        return given[near_key], given[far_key]

    def _peers(
        self, table: Table, role: str | None, identity: IdentitySettings | None
    ) -> tuple[OsiName | None, tuple[OsiName, ...]]:
        if not aprofile.is_native(table.values):
            for key in ("peer", "peers"):  # complained about elsewhere
                table.get(key, lambda value: value, None)
            return None, ()
        peer = table.get("peer", osi_name, None)
        everyone = table.values.get("peers") == "any"
        if everyone:
            table.get("peers", tables.string, "any")
            peers: tuple[OsiName, ...] = ()
        else:
            peers = table.each("peers", osi_name, maximum=10_000)
        if role == "client":
            if "peers" in table:
                table.error("peers", 'peers belongs to role = "server"; a client calls one: peer = "1.1.1.999.2:12"')
            if "peer" not in table:
                table.error("", 'a route with role = "client" lacks peer: the identity to call, e.g. "1.1.1.999.2:12"')
        elif role == "server":
            if "peer" in table:
                table.error("peer", 'peer belongs to role = "client"; write peers = ["1.1.1.999.1:12"]')
            if "peers" not in table or table.values["peers"] == []:
                table.error(
                    "peers" if "peers" in table else "",
                    'a route with role = "server" lacks peers: the identities let in, e.g. ["1.1.1.999.1:12"], '
                    'or peers = "any" for all that the anchors vouch for',
                )
        own = identity.name if identity is not None else None
        if own is not None and (peer == own or own in peers):
            key = "peer" if peer == own else "peers"
            table.error(key, f"{key}: {own} is this gateway itself; a peer with our own identity is refused")
        return peer, peers

    def _near(self, table: Table) -> NearSettings:
        below = table.table("near", "[route.near]")
        if below is None:
            return NearSettings()
        local, remote = sides.read(below, "route.near")
        password = self._password(below)
        if password is not None and not 1 <= len(password) <= 128:
            below.error("password", "password: write 1 to 128 octets")
        context = below.get("application_context", tables.oid, profile.OID_MMS_AC)
        below.done()
        return NearSettings(local=local, remote=remote, password=password, application_context=context)

    # --- what does not go together -----------------------------------------------------------------------------------
    def _check_exposure(self, table: Table, route: Route) -> None:
        if route.role == "client":
            if not route.near.loopback and "allow" not in table:
                table.error(
                    "listen",
                    f"listen: {route.near} is open to the network for plain MMS; say who may use it, for example "
                    'allow = ["192.168.1.0/24"], or listen at 127.0.0.1',
                )
            if "allow" in table and not table.values["allow"]:
                table.error("allow", "allow: an empty list lets nobody in; name at least one range")
            for index, entry in enumerate(route.allow):
                if entry.prefixlen == 0:
                    self.problems.warn(
                        (*table.where, "allow", index), f"allow: {entry} lets everyone use plain MMS; name the clients"
                    )
        else:
            if "allow" in table:
                table.error("allow", 'allow belongs to plain listeners (role = "client"); here write far_allow')
            if not route.near.loopback:
                table.warn("connect", f"connect: MMS travels unprotected between this gateway and {route.near}")
        if "far_allow" in table and route.dial == "out":
            table.error("far_allow", 'far_allow has no meaning with dial = "out": nobody dials in')
        if "spare" in table and not route.reversed:
            table.error("spare", "spare has no meaning here: only a dialled connection that has to wait is kept ready")
        if (route.tls is None and route.far.port == limits.SPEC_PORT_TLS and not route.far.loopback) or (
            route.tls is not None and route.far.port == limits.SPEC_PORT_PLAIN
        ):
            usual, port = ("without", 102) if route.tls is None else ("with", 3782)
            table.warn("", f"{route.far} is used {usual} TLS; 62351-4 gives port {port} to that")
        if route.reversed and route.tls is None:
            table.warn("", "without TLS anybody who reaches the TCP port can occupy the waiting connections")

    def _check_metrics(self, measured: metrics.MetricsSettings, routes: tuple[Route, ...]) -> None:
        for route in routes:
            for address in route.listens:
                if _collide(address, measured.listen):
                    self.problems.error(
                        measured.where, f'listens at {measured.listen}, as route "{route.name}" does; choose a port'
                    )

    def _check_neighbours(self, route: Route, others: list[Route]) -> None:
        names = [other.name for other in others]
        if route.name in names:
            self.problems.error((*route.where, "name"), f'name: "{route.name}" is taken by another route')
        taken = [(address, other.name) for other in others for address in other.listens]
        for address in route.listens:
            for known, name in taken:
                if _collide(address, known):
                    self.problems.error(
                        route.where, f'listens at {address}, which route "{name}" already does ({known}); choose a port'
                    )
        if len(route.listens) == 2 and _collide(*route.listens):
            self.problems.error(route.where, f"listen and far_listen are both {route.far}; choose another port")


def _collide(one: Address, other: Address) -> bool:
    same = one.host == other.host or one.everywhere or other.everywhere
    return one.port == other.port and same


def osi_name(value: Any) -> OsiName:
    """An identity as AP-title and AE-qualifier, "1.1.1.999.2:12"."""
    example = 'write AP-title and AE-qualifier, e.g. "1.1.1.999.2:12"'
    if not isinstance(value, str):
        raise Wrong(example)
    title, colon, qualifier = value.rpartition(":")
    if not colon or not qualifier.isascii() or not qualifier.isdigit() or len(qualifier) > 10:
        raise Wrong(f'{example} (not "{value}")')
    tables.oid(title)
    try:
        return OsiName.parse(value)
    except ConfigError as error:
        raise Wrong(f"{error}; {example}") from None


def _group(value: Any) -> int:
    known = [int(group) for group in profile.Group]
    if isinstance(value, bool) or value not in known:
        raise Wrong(f"write Diffie-Hellman groups by number: {', '.join(map(str, known))} (not {value!r})")
    return int(value)


def _named(names: Mapping[str, Any]) -> Callable[[Any], Any]:
    read = tables.choice(*names)
    return lambda value: names[read(value)]
