"""The rules of key update (§4.2 of our specification), for both sides of one association.

One message, no extra round trip: the client puts a fresh Diffie-Hellman value into a transfer (the *carrier*) and sends
under the new keys from the next PDU on; the server answers under the new keys with a PDU that has changedKey.
``KeyUpdate`` decides what is due and what is legal; it seals nothing and knows no association. Phases::

    client  REST -make_keys-> DERIVING -job-> READY -carrier sent-> OUTSTANDING -changedKey verified-> REST
    server  REST -rekey verified-> DERIVING -job-> READY -changedKey sent-> REST
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from fastsec import limits, profile
from fastsec._core.crypto import Secret, sha256
from fastsec._core.guard import GuardParams, OpenGuard
from fastsec._core.pk import Ephemeral
from fastsec.errors import DecodeError, ReplayError
from fastsec.keys import derive
from fastsec.secpdu.model import DhPublic

if TYPE_CHECKING:
    from fastsec.config import Policy


class Phase(Enum):
    """Where a key update stands."""

    REST = "no update under way"
    DERIVING = "the new keys are being derived"
    READY = "the PDU that announces the new keys is due"
    OUTSTANDING = "client: carrier sent, changedKey not yet seen"


class Want(Enum):
    """What became of the wish for new keys."""

    NOW = "start"
    LATER = "remembered until the distance to the last update is over"
    NO = "one is under way"


@dataclass(frozen=True, slots=True)
class NewKeys:
    """What the derivation job gives.

    Attributes:
        public: the client's fresh public value.
        okm: the new keys.
    """

    public: DhPublic
    okm: Secret


def make_keys(group: int, server_public: bytes, params: GuardParams, h2: bytes) -> NewKeys:
    """Client, in a worker: fresh key pair, Z with the server's handshake value, new keys. The private key is wiped."""
    own = Ephemeral.generate(group)
    try:
        return NewKeys(DhPublic(group, own.public), derive(params, own.derive(server_public), h2))
    finally:
        own.wipe()


def take_keys(own: Ephemeral, value: DhPublic, params: GuardParams, h2: bytes) -> NewKeys:
    """Server, in a worker: Z of the client's fresh value with the own handshake key, new keys.

    Errors:
        HandshakeError "protocol-error": the value is not a good one of its group.
    """
    return NewKeys(value, derive(params, own.derive(value.public), h2))


_MS: Final = 1000
_POINT: Final = 65  # octets of an uncompressed point on a curve of 256 bits
_MODP: Final = 256  # octets of a value of group 14
_DIGEST: Final = 16  # octets kept of each SHA-256; side by side, because an association has many of them


def _digest(value: bytes) -> bytes:
    """What a public value is remembered by, the same for its negative: that gives the same Z. Of a point it is the
    x-coordinate; of a MODP value v the smaller of v and p - v, which give the same Z if the private key is even."""
    if len(value) == _POINT:
        value = value[1:33]
    elif len(value) == _MODP:
        v = int.from_bytes(value, "big")
        value = min(v, abs(profile.MODP_2048_PRIME - v)).to_bytes(_MODP, "big")
    return sha256(value)[:_DIGEST]


class KeyUpdate:
    """The key updates of one association.

    Arguments:
        policy: interval and message count.
        group: the handshake's group.
        own: server: the handshake key pair, kept as long as the association; client: None.
        server_public: client: the server's handshake value; server: empty.
        used: the public values of the handshake, which may not come back.
        h2: the running hash.
        carrier_timeout: seconds after which a missing changedKey is a fault if the server sends.
        mono_ms: now.

    Attributes:
        phase: see ``Phase``.
        asking: server: reqRekey is being set.
        overdue: client: the carrier's time is over; the next server PDU without changedKey is a fault.
        next_rx: client: opens the PDU with changedKey.
        count: updates begun.
    """

    __slots__ = (
        "_asked_ms",
        "_carrier_ms",
        "_carrier_timeout",
        "_changed_ms",
        "_fresh_ms",
        "_interval_ms",
        "_used",
        "_wanted",
        "asking",
        "count",
        "group",
        "h2",
        "new",
        "next_rx",
        "overdue",
        "own",
        "phase",
        "server_public",
    )

    def __init__(
        self,
        policy: Policy,
        group: int,
        *,
        own: Ephemeral | None,
        server_public: bytes,
        used: tuple[bytes, ...],
        h2: bytes,
        carrier_timeout: int,
        mono_ms: int,
    ) -> None:
        self.group = group
        self.own = own
        self.server_public = server_public
        self.h2 = h2
        self.phase = Phase.REST
        self.asking = False
        self.overdue = False
        self.next_rx: OpenGuard | None = None
        self.new: NewKeys | None = None
        self.count = 0
        self._used = b"".join(map(_digest, used))
        self._interval_ms = policy.rekey_interval * _MS
        self._carrier_timeout = carrier_timeout * _MS
        self._fresh_ms = mono_ms
        self._changed_ms: int | None = None
        self._carrier_ms = 0
        self._asked_ms = 0
        self._wanted = False

    @property
    def is_client(self) -> bool:
        """The client offers fresh values, the server answers."""
        return self.own is None

    # --- when ---

    def want(self, mono_ms: int) -> Want:
        """New keys are wanted: by interval, message count, reqRekey or call."""
        if self.phase is not Phase.REST:
            if not self.is_client and self.phase is Phase.READY:
                self._wanted = True  # reqRekey never goes together with changedKey
            return Want.NO
        if self.is_client and self._changed_ms is not None:
            self._wanted = mono_ms < self._changed_ms + limits.OUR_REKEY_DISTANCE_CLIENT * _MS
            if self._wanted:
                return Want.LATER
        self._wanted = False
        return Want.NOW

    def is_wanted(self, mono_ms: int) -> bool:
        """Whether an update has to be begun by time: the interval is over, or a wish was put off long enough."""
        due = self._next_begin()
        return due is not None and mono_ms >= due

    def _next_begin(self) -> int | None:
        if self.phase is not Phase.REST or self.asking:
            return None
        if self._wanted:
            if self._changed_ms is None or not self.is_client:
                return self._fresh_ms
            return self._changed_ms + limits.OUR_REKEY_DISTANCE_CLIENT * _MS
        return self._fresh_ms + self._interval_ms

    def deadline(self) -> int | None:
        """When something is due next, in monotonic ms."""
        if self.asking:
            return self._asked_ms + self._interval_ms + limits.OUR_REKEY_GRACE * _MS
        if self.phase is Phase.OUTSTANDING:
            if not self.overdue:
                return self._carrier_ms + self._carrier_timeout
            return self._carrier_ms + limits.OUR_REKEY_OUTSTANDING_MAX * _MS
        return self._next_begin()

    def asked_in_vain(self, mono_ms: int) -> bool:
        """Server: it has asked for interval + 15 min."""
        return self.asking and mono_ms >= self._asked_ms + self._interval_ms + limits.OUR_REKEY_GRACE * _MS

    def outstanding_too_long(self, mono_ms: int) -> bool:
        """Client: no changedKey for 24 h."""
        begun = self._carrier_ms + limits.OUR_REKEY_OUTSTANDING_MAX * _MS
        return self.phase is Phase.OUTSTANDING and mono_ms >= begun

    def note_overdue(self, mono_ms: int) -> bool:
        """Client: whether changedKey has just become overdue; from now on ``overdue`` is set."""
        if self.phase is not Phase.OUTSTANDING or self.overdue or mono_ms < self._carrier_ms + self._carrier_timeout:
            return False
        self.overdue = True
        return True

    @property
    def completed(self) -> int:
        """Updates whose changedKey has come or gone."""
        return self.count - (self.phase is not Phase.REST)

    def exhausted(self) -> bool:
        """Whether the number of updates of one association is used up."""
        return self.count >= limits.OUR_REKEYS_MAX

    # --- client ---

    def begin(self) -> None:
        """The derivation job starts."""
        self.phase = Phase.DERIVING
        self.count += 1

    def derived(self, new: NewKeys) -> None:
        """The derivation job is done."""
        self.new = new
        self._remember(new.public)
        self.phase = Phase.READY

    def carrier_sent(self, next_rx: OpenGuard, mono_ms: int) -> None:
        """The carrier went out; the client sends under the new keys."""
        self.next_rx = next_rx
        self.new = None
        self._carrier_ms = mono_ms
        self.phase = Phase.OUTSTANDING

    def changed(self, mono_ms: int) -> None:
        """Client: changedKey verified under the new key. Server: changedKey was sent."""
        self.next_rx = None
        self.overdue = False
        self._changed_ms = self._fresh_ms = mono_ms
        self.phase = Phase.REST

    # --- server ---

    def ask(self, mono_ms: int) -> None:
        """reqRekey is set from the next PDU on."""
        self.asking = True
        self._asked_ms = mono_ms

    def check_rekey(self, value: DhPublic, mono_ms: int) -> None:
        """Judge a verified carrier's value.

        Errors:
            ReplayError "unexpected-rekey": the changedKey of the last one has not been sent.
            DecodeError "protocol-error": other group, value used before, too early.
        """
        step = "ClearToken2.rekey"
        if self.phase is not Phase.REST:
            raise ReplayError("second rekey before changedKey", check="unexpected-rekey", step=step)
        if value.group != self.group:
            raise DecodeError("rekey of another group than the handshake's", step=step)
        if self._was_used(value):
            raise DecodeError("public value used before", step=step)
        if self._changed_ms is not None and mono_ms < self._changed_ms + limits.OUR_REKEY_DISTANCE_SERVER * _MS:
            raise DecodeError("rekey too early after the last", step=step)

    def accept(self, value: DhPublic) -> None:
        """A legal carrier: derivation starts, asking is over."""
        self._remember(value)
        self.asking = False
        self.begin()

    def keys_in_place(self) -> None:
        """The new keys are derived; changedKey is due."""
        self.phase = Phase.READY

    def _remember(self, value: DhPublic) -> None:
        self._used += _digest(value.public)

    def _was_used(self, value: DhPublic) -> bool:
        digest, used = _digest(value.public), self._used
        return any(used[at : at + _DIGEST] == digest for at in range(0, len(used), _DIGEST))

    def wipe(self) -> None:
        """Forget all keys."""
        if self.own is not None:
            self.own.wipe()
        if self.new is not None:
            self.new.okm.wipe()
        if self.next_rx is not None:
            self.next_rx.wipe()
        self.next_rx = self.new = None
