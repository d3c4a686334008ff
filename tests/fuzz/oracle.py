"""The peer of a connection under test, who knows all the keys: it protects and signs whatever an input asks for.

``Scene`` is a pair of configurations of one mode with an association that has been opened once; from it a ``Peer`` and
a fresh copy of one side are made for each input, without any public-key work.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Final

from engine_pair import CLIENT, INITIATE, RESPONSE, SERVER, UTC, credential, trust
from fastsec import handshake_phase, limits, profile
from fastsec._core.crypto import Secret
from fastsec._core.cursor import Reader, tlv
from fastsec._core.guard import MODE_AE, GuardParams
from fastsec._core.osidata import OsiChannel
from fastsec._core.pk import Ephemeral
from fastsec._core.tpkt import dt
from fastsec.aio.setup import secured_params
from fastsec.aio.wiring import OPEN
from fastsec.association import Association, Environment, Role
from fastsec.config import Config, Policy
from fastsec.control import CARRIER_OF, V1, signature_algorithm
from fastsec.envs.osi import OsiEndpoint, OsiParams, acse, presentation, session
from fastsec.errors import DecodeError, PeerError
from fastsec.instant import Instant
from fastsec.key_update import KeyUpdate
from fastsec.keys import derive, first_guards
from fastsec.peers import Endpoint
from fastsec.secpdu.der import assemble, encode_control_tbs
from fastsec.secpdu.fields import Carrier, SecPduKind
from fastsec.secpdu.model import ClearToken3
from fastsec.secpdu.timestamp import time_text
from fuzz.kit import Bits, edited
from fuzz.live import MONO, Bench, Clock, twin
from fuzz.transfers import Sealing, sealed
from odd_certificates import expired

CLOCK: Final = Clock(UTC)
_START: Final = Instant(UTC - 3_600_000, 0)
_CONTROLS: Final = tuple(CARRIER_OF)


def params_of(config: Config, peer: Any) -> OsiParams:
    """OSI addresses of one side."""
    return secured_params(config, peer, None)


@dataclass(frozen=True)
class Opened:
    """What opening told of one side: the engine and the OSI endpoint right after, and what its guards were made of."""

    engine: Association
    osi: OsiEndpoint
    keys: KeyUpdate
    okm: bytes
    own_time: str
    peer_time: str


class Scene:
    """Two identities under one policy, and one association between them.

    Attributes:
        configs: of client and server.
        opened: both sides right after the handshake.
        params: of the guards.
        octets: what the two have sent each other on the way, (from the client, TPKT frames).
    """

    def __init__(self, policy: Policy) -> None:
        self.configs = {
            Role.CLIENT: Config(credential=credential(CLIENT), trust=trust(), policy=policy),
            Role.SERVER: Config(credential=credential(SERVER), trust=trust(), policy=policy),
        }
        self.osi = {
            Role.CLIENT: params_of(self.configs[Role.CLIENT], SERVER),
            Role.SERVER: params_of(self.configs[Role.SERVER], None),
        }
        self.environment = Environment(handshake_max=8000)
        self.octets: list[tuple[bool, bytes]] = []
        self.opened = self._open()
        params = self.opened[Role.CLIENT].engine._params
        assert params is not None
        self.params: GuardParams = params
        # Held as long as the scene: the key pair that the server had in the handshake.
        self.server_key = self.opened[Role.SERVER].keys.own

    def fresh(self, role: Role) -> Bench:
        """A connection under test before TCP stands."""
        CLOCK.reset()
        endpoint = Endpoint(self.configs[role], now=_START)
        peer = SERVER if role is Role.CLIENT else None
        engine = Association(role, endpoint, peer=peer, environment=self.environment)
        client = role is Role.CLIENT
        return Bench(
            CLOCK, engine, self.osi[role], client=client, answer=RESPONSE, initiate=INITIATE if client else b""
        )

    def _open(self) -> dict[Role, Opened]:
        CLOCK.install()
        caught: list[tuple[bytes, dict[str, Any]]] = []

        def first(params: GuardParams, okm: Secret, **more: Any) -> Any:
            caught.append((okm.reveal(), more))
            return first_guards(params, okm, **more)

        genuine, handshake_phase.first_guards = handshake_phase.first_guards, first  # type: ignore[attr-defined]
        try:
            client, server = self.fresh(Role.CLIENT), self.fresh(Role.SERVER)
            server.begin()
            client.begin()
            for _ in range(4):
                for source, target in ((client, server), (server, client)):
                    octets = b"".join(source.wire.out)
                    source.wire.out.clear()
                    if octets:
                        self.octets.append((source is client, octets))
                        target.feed(octets)
        finally:
            handshake_phase.first_guards = genuine  # type: ignore[attr-defined]
        found = {}
        for role, bench in ((Role.CLIENT, client), (Role.SERVER, server)):
            engine, osi = bench.engine, bench.connection._osi
            assert isinstance(engine, Association)
            assert osi is not None
            assert engine._keys is not None
            okm, more = next(each for each in caught if each[1]["is_client"] == (role is Role.CLIENT))
            found[role] = Opened(engine, osi, engine._keys, okm, more["own_time"], more["peer_time"])
        return found

    def open(self, role: Role) -> tuple[Bench, Peer]:
        """A connection of this role that has just opened, unconfirmed, and its peer."""
        model = self.opened[role]
        bench = self.fresh(role)
        endpoint = bench.engine._endpoint  # type: ignore[union-attr]
        engine = twin(model.engine, endpoint)
        okm = Secret.from_bytes(model.okm)
        is_client = role is Role.CLIENT
        engine.tx, engine.rx = first_guards(
            self.params, okm, is_client=is_client, own_time=model.own_time, peer_time=model.peer_time
        )
        keys = object.__new__(KeyUpdate)
        for slot in KeyUpdate.__slots__:
            setattr(keys, slot, getattr(model.keys, slot))
        own = None if is_client else Ephemeral.generate(model.keys.group)
        keys.own = own
        engine._keys = keys
        if not is_client:
            endpoint.admit_unconfirmed(engine, CLIENT.oid, CLOCK.now())
            endpoint._unconfirmed[engine] = MONO
        bench.engine = engine
        connection = bench.connection
        connection._engine = engine
        connection._transport = bench.wire
        engine.wakeup = connection._wakened
        copied_osi(model.osi, connection._osi)
        connection._phase = OPEN
        connection._arm()
        connection._retime()
        bench.handler.opened = 1
        server_key = self.server_key if is_client else own
        assert server_key is not None
        return bench, Peer(self, role, bench, model.okm, model.peer_time, server_key)


_OSI_SLOTS: Final = tuple(s for s in OsiEndpoint.__slots__ if s not in ("channel", "_out", "params", "role", "_answer"))


def copied_osi(model: OsiEndpoint, target: OsiEndpoint | None) -> None:
    """Bring ``target`` into the state of ``model``."""
    assert target is not None
    for slot in _OSI_SLOTS:
        setattr(target, slot, getattr(model, slot))
    target.channel.tpdu_size = model.channel.tpdu_size
    target.channel.tpdu_max = model.channel.tpdu_max


def first_tlv(octets: bytes) -> bytes:
    """What is applData in octets that begin with it."""
    reader = Reader(octets)
    try:
        reader.next()
    except DecodeError:
        return octets
    return reader.raw()


class Keys:
    """The keys of both directions, cut from the OKM."""

    __slots__ = ("from_client", "from_server")

    def __init__(self, params: GuardParams, okm: bytes) -> None:
        ik, ek = params.mac_key_size, params.aes_key_size
        self.from_client = Sealing(params, okm[:ik], okm[2 * ik : 2 * ik + ek])
        self.from_server = Sealing(params, okm[ik : 2 * ik], okm[2 * ik + ek :])


class Peer:
    """The other side of the connection under test. What it protects is noted in ``bench.allowed``."""

    def __init__(self, scene: Scene, role: Role, bench: Bench, okm: bytes, time: str, server_key: Ephemeral) -> None:
        self.scene = scene
        self.role = role  # of the side under test
        self.bench = bench
        self.asso_id = scene.params.asso_id
        self.keys = Keys(scene.params, okm)
        self.time_ms = UTC
        self.seq = -1
        self.signed_ms = UTC
        self.forged = False  # whether the last signed PDU is of somebody whose word counts for nothing
        self.server_key = server_key
        self.frames: deque[bytes] = deque(maxlen=8)
        h2 = scene.opened[role].keys.h2
        self.h2 = h2

    @property
    def sealing(self) -> Sealing:
        """The keys of the direction towards the side under test."""
        return self.keys.from_server if self.role is Role.CLIENT else self.keys.from_client

    # --- transfers --------------------------------------------------------------------------------------------------

    def transfer(self, appl: bytes, extra: bytes = b"", *, bits: Bits | None = None, how: int = 0) -> bytes:
        """The next transfer PDU; with ``bits`` its token is changed before it is sealed, or afterwards (how & 4)."""
        now = CLOCK.utc_ms
        if now > self.time_ms:
            self.time_ms, self.seq = now, -1
        self.seq += 1
        token = self.token(extra)
        if bits is not None and not how & 4:
            token = edited(bits, token)
        pdu = sealed(self.sealing, token, appl, bytes(12), b"", how & 3)
        if bits is not None and how & 4:
            pdu = edited(bits, pdu)
        self.bench.allowed.add(first_tlv(appl))
        return pdu

    def token(self, extra: bytes) -> bytes:
        """The content of token2."""
        sealing = self.sealing
        iv = b""
        if sealing.mode == MODE_AE:
            iv = tlv(0x80, bytes(12))
        elif sealing.encrypting:
            iv = tlv(0x80, bytes(16))
        seq = self.seq.to_bytes(self.seq.bit_length() // 8 + 1, "big")
        head = tlv(0x0C, self.asso_id.encode()) + tlv(0x18, time_text(self.time_ms).encode())
        return head + tlv(0x02, seq) + iv + extra

    def data(self, pdu: bytes) -> bytes:
        """A SecPDU as presentation data, framed."""
        return dt(session.encode_data(presentation.user_data(profile.CONTEXT_E2E, pdu)), 65_531)

    # --- key update -------------------------------------------------------------------------------------------------

    def carrier(self, group: int, spoil: int) -> bytes:
        """As client: a transfer with a fresh public value; what follows is under the new keys if it was legal."""
        own = Ephemeral.generate(23)
        public = own.public
        if spoil:
            public = bytes((public[0] ^ spoil,)) + public[1:]
        extra = tlv(0xA1, tlv(0x02, bytes((group,))) + tlv(0x04, public))
        pdu = self.transfer(b"\x05\x00", extra)
        if not spoil and group == 23:
            self._renew(own.derive(self.server_key.public))
        own.wipe()
        return pdu

    def answer_update(self) -> bytes:
        """As server: find the client's carrier in what it sent, derive, and answer with changedKey."""
        public = self._carrier_of_client()
        if public is None:
            return b""
        try:
            self._renew(self.server_key.derive(public))
        except PeerError:
            return b""
        return self.transfer(b"\x05\x00", tlv(0x83, b"\xff"))

    def _renew(self, z: Secret) -> None:
        okm = derive(self.scene.params, z, self.h2)
        self.keys = Keys(self.scene.params, okm.reveal())
        okm.wipe()

    def _carrier_of_client(self) -> bytes | None:
        """The public value of the last rekey in what the client wrote; it stands in clear in the token."""
        octets = b"".join(self.bench.wire.out)
        at = octets.rfind(b"\x02\x01\x17\x04\x41\x04")
        return octets[at + 5 : at + 70] if at >= 0 else None

    # --- control PDUs -----------------------------------------------------------------------------------------------

    def control(self, bits: Bits, how: int) -> tuple[SecPduKind, bytes]:
        """A reject, abort or release of which the input picks kind, fields, signer, and changes before and after
        signing."""
        kind = _CONTROLS[how % len(_CONTROLS)]
        number = bits.octet() % 5
        self.forged = number in FORGERS
        signer = SIGNERS[self.role is Role.CLIENT][number]
        fields = bits.octet()
        self.signed_ms = max(self.signed_ms + 1, CLOCK.utc_ms)
        ms = self.signed_ms if not fields & 1 else CLOCK.utc_ms + bits.signed() * 10_000
        asso: str | None = self.asso_id
        if fields & 2:
            asso = (None, self.asso_id.partition(":")[0], "999:999", "0")[bits.octet() & 3]
        algorithm = signature_algorithm(signer)
        token = ClearToken3(algorithm, V1, asso, time_text(ms), signer.certificate, ())
        diag = bits.octet() if fields & 4 else None
        appl = tlv(0xA0, bits.chunk()) if fields & 8 else None
        if kind in _WITH_DIAG:
            appl = None
        else:
            diag = None
        tbs = encode_control_tbs(kind, token, diag, appl)
        if fields & 16:
            tbs = edited(bits, tbs)
        pdu = assemble(kind, None, tbs, algorithm, signer.signer.sign(tbs))
        if fields & 32:
            pdu = edited(bits, pdu)
        return kind, pdu

    def carried(self, carrier: Carrier, pdu: bytes | None, how: int = 0) -> bytes:
        """A SecPDU in the APDU that carries it, down to the frames."""
        return dt(tsdu_of(carrier, pdu, self.scene.osi[self.role], how), 65_531)


_WITH_DIAG: Final = (SecPduKind.HANDSHAKE_SEC_REJECT, SecPduKind.HANDSHAKE_SEC_ABORT, SecPduKind.DT_SEC_ABORT)
_PSEL: Final = b"\0\0\0\1"


def tsdu_of(carrier: Carrier, pdu: bytes | None, params: OsiParams, how: int) -> bytes:
    """A TSDU with the APDU that carries ``pdu``."""
    inside = None if pdu is None else (profile.CONTEXT_E2E, pdu)
    acse_id = profile.CONTEXT_ACSE
    match carrier:
        case Carrier.RELEASE_REQ:
            return session.encode_finish(presentation.user_data(acse_id, acse.encode_release(acse.TAG_RLRQ, inside)))
        case Carrier.RELEASE_RSP:
            apdu = acse.encode_release(acse.TAG_RLRE, inside)
            return session.encode_disconnect(presentation.user_data(acse_id, apdu))
        case Carrier.ABORT:
            return session.encode_abort(presentation.encode_abort(acse_id, acse.encode_abort(how & 1, inside)))
        case Carrier.ASSOCIATE_RSP:
            accepted = how & 1
            outcome = acse.OUTCOME_ACCEPTED if accepted else (1 + (how >> 1 & 1), acse.SOURCE_USER, how >> 2 & 15)
            fields = acse.aare_fields(profile.OID_E2E_MMS_AC, params.remote.title, outcome)
            apdu = acse.encode_aare(fields, inside)
            if accepted:
                return session.encode_accept(b"\0\1", presentation.encode_accept(_PSEL, (0, 0, 0), acse_id, apdu))
            return session.encode_refuse(2, presentation.encode_refuse(_PSEL, (0, 0, 0), (acse_id, apdu)))
        case Carrier.ASSOCIATE_REQ:
            fields = acse.aarq_fields(profile.OID_E2E_MMS_AC, params.local.title, PEER_TITLE, None)
            apdu = acse.encode_aarq(fields, profile.CONTEXT_E2E, pdu or b"\x30\0")
            ppdu = presentation.encode_connect(CLIENT_PARAMS.cp_header, acse_id, apdu)
            return session.encode_connect(CLIENT_PARAMS.cn_header, ppdu[: limits.SPEC_CONNECT_USER_DATA_MAX])
    return session.encode_data(presentation.user_data(profile.CONTEXT_E2E, pdu or b"\x30\0"))


CLIENT_PARAMS: Final = params_of(Config(credential=credential(CLIENT), trust=trust()), SERVER)
PEER_TITLE: Final = CLIENT_PARAMS.local.title
FORGERS: Final = (1, 3, 4)
# Who signs, by whether the side under test is the client: the peer, itself (reflection), the peer with another key,
# the peer by another authority, the peer expired.
SIGNERS: Final = {
    is_client: [
        credential(other),
        credential(own),
        credential(other, number=1),
        credential(other, by="two"),
        expired(other),
    ]
    for is_client, own, other in ((True, CLIENT, SERVER), (False, SERVER, CLIENT))
}


def frames_of(octets: bytes) -> list[tuple[int, bytes]]:
    """(code, TSDU or TPDU) of what a side wrote."""
    line = OsiChannel(limits.OUR_TSDU_MAX)
    line.feed(octets, 0)
    found = []
    while (frame := line.next()) is not None:
        found.append(frame)
        line.feed(b"", 0)
    return found


POLICIES: Final = (
    Policy(),
    Policy(encryption="forbidden", ae="forbidden"),
    Policy(encryption="required", ae="forbidden"),
    Policy(
        encryption="forbidden", ae="forbidden", icv_algorithms=((profile.AES128_GCM, 12),), rekey_messages=3,
        max_association_lifetime=4000,
    ),
)  # fmt: skip
