"""Making a ``Connection`` for each kind of association."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal
from weakref import ref

from fastsec import limits
from fastsec.aio.aprofile import AProfileMaker
from fastsec.aio.connection import Connection
from fastsec.aio.events import default_sink
from fastsec.aio.meter import Meter, meter_or_default
from fastsec.aio.plain import BareAssociation, PlainAssociation
from fastsec.aprofile import AProfileConfig
from fastsec.envs.osi import OsiAddress, OsiParams, connect_room
from fastsec.errors import ConfigError

if TYPE_CHECKING:
    from fastsec.aio.handler import AssociationHandler
    from fastsec.aio.runtime import Runtime
    from fastsec.aio.wiring import Keeper
    from fastsec.config import Config
    from fastsec.peers import Endpoint, Refusals
    from fastsec.pki.identity import OsiName

Role = Literal["client", "server"]


def check_role(role: str) -> bool:
    """Whether ``role`` is the association's client; ConfigError if it is neither."""
    if role not in ("client", "server"):
        raise ConfigError('role must be "client" or "server"')
    return role == "client"


def secured_params(config: Config, peer: OsiName | None, osi: OsiParams | None) -> OsiParams:
    """The OSI addresses of a secured association: names from credential and peer, selectors from ``osi`` if given."""
    if osi is not None:
        if not osi.security:
            raise ConfigError("these OsiParams are for plain MMS; a secured association needs security=True")
        return osi
    own = config.credential.name
    return OsiParams(
        security=True,
        local=OsiAddress(ap_title=own.ap_title, ae_qualifier=own.ae_qualifier),
        remote=OsiAddress(ap_title=peer.ap_title, ae_qualifier=peer.ae_qualifier) if peer else OsiAddress(),
    )


class SecuredMaker:
    """Makes secured connections of one identity.

    Arguments:
        client: association role.
        peer: client: whom to call.
        tls: whether there is TLS below; the peer is told (confParams).
        meter: counts what the connections do.
    Errors:
        ConfigError: a client without peer, unusable parameters or replay file.
    """

    def __init__(
        self,
        config: Config,
        *,
        client: bool,
        peer: OsiName | None,
        osi: OsiParams | None,
        initiate: bytes,
        tls: bool = False,
        meter: Meter | None = None,
    ) -> None:
        from fastsec.aio.endpoints import identity_of
        from fastsec.association import Association, Environment, Role

        if client and peer is None:
            raise ConfigError("the association's client must name the peer it calls")
        if not client and peer is not None:
            raise ConfigError("peer is whom a client calls; a server lets in who stands in config.peers")
        self._association = Association
        self._role = Role.CLIENT if client else Role.SERVER
        self._params = secured_params(config, peer, osi)
        self._environment = Environment(
            handshake_timeout_s=limits.OUR_AARQ_TO_AARE,
            release_timeout_s=limits.OUR_RELEASE,
            handshake_max=connect_room(self._params),
        )
        self.meter = meter_or_default(meter)
        self._client = client
        self._peer = peer
        self._initiate = initiate
        self._identity = identity_of(config)
        self._endpoint = self._identity.endpoint(config, tls=tls)
        self._sink = self.meter.counting(config.sink or default_sink)
        self._keep = self._identity.keep
        self._replaced: list[ref[Endpoint]] = []

    def __call__(self, runtime: Runtime, handler: AssociationHandler, keeper: Keeper | None) -> Connection:
        """A new connection."""
        self._identity.watch(runtime.loop)
        engine = self._association(self._role, self._endpoint, peer=self._peer, environment=self._environment)
        return Connection(
            runtime,
            handler,
            engine,
            self._params,
            client=self._client,
            initiate=self._initiate,
            sink=self._sink,
            keep=self._keep,
            keeper=keeper,
            meter=self.meter,
        )

    @property
    def refusals(self) -> Refusals:
        """What the flood rules of this identity have refused so far."""
        return self._endpoint.refusals

    def take_over(self, older: SecuredMaker) -> None:
        """Let associations that ``older`` made be re-checked against the anchors and CRLs of this one (62351-4 §7)."""
        if older._endpoint is self._endpoint:
            return
        self._replaced = [found for found in (*older._replaced, ref(older._endpoint)) if found() is not None]
        for found in self._replaced:
            endpoint = found()
            if endpoint is not None and endpoint is not self._endpoint:
                endpoint.fresh_trust = self._endpoint.config.trust
                endpoint.fresh_roles = self._endpoint.config.roles


class PlainMaker:
    """Makes plain connections, or bare ones if ``params`` is None."""

    def __init__(self, params: OsiParams | None, *, client: bool, initiate: bytes, meter: Meter | None = None) -> None:
        if params is not None and params.security:
            raise ConfigError("these OsiParams are for secured associations; plain MMS needs security=False")
        self.meter = meter_or_default(meter)
        self._params = params
        self._client = client
        self._initiate = initiate

    def __call__(self, runtime: Runtime, handler: AssociationHandler, keeper: Keeper | None) -> Connection:
        """A new connection."""
        engine = PlainAssociation(self._client) if self._params is not None else BareAssociation(self._client)
        return Connection(
            runtime, handler, engine, self._params, client=self._client, initiate=self._initiate, keeper=keeper,
            meter=self.meter,
        )  # fmt: skip


Maker = SecuredMaker | PlainMaker | AProfileMaker


def maker_for(
    config: Config | AProfileConfig,
    *,
    client: bool,
    peer: OsiName | None,
    osi: OsiParams | None,
    initiate: bytes,
    tls: bool,
    meter: Meter | None = None,
) -> SecuredMaker | AProfileMaker:
    """The maker of the kind that ``config`` is for. ConfigError as theirs."""
    if not isinstance(config, AProfileConfig):
        return SecuredMaker(config, client=client, peer=peer, osi=osi, initiate=initiate, tls=tls, meter=meter)
    if peer is not None:
        raise ConfigError("the A-profile knows no OSI identities; name the peer's certificate in config.peers")
    return AProfileMaker(config, client=client, osi=osi, initiate=initiate, tls=tls, meter=meter)


def take_over(newer: Maker, older: Maker) -> None:
    """Let associations that ``older`` made be re-checked against the anchors and CRLs of ``newer``."""
    if isinstance(newer, AProfileMaker):
        if isinstance(older, AProfileMaker):
            newer.take_over(older)
    elif isinstance(newer, SecuredMaker) and isinstance(older, SecuredMaker):
        newer.take_over(older)
