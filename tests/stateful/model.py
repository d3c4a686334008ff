"""What should happen, in a few lines and from the specification alone; the engine is compared with it step by step.

Transfers are read with the reference implementation's TLV code, never with fastsec's.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fastsec.state import State
from reference import secpdu
from reference.tlv import Components, boolean, only, read, read_integer
from reference.transfer import SKEW_MS, digits_ms, time_digits

S = State

# Section 3 of docs/design.md, as drawn there. Every state that is not over may also go to ENDING (a fault, an abort or
# a limit: the last PDU is being signed) and to ENDED (the connection is lost, or nothing signed can be sent).
DIAGRAM: dict[State, set[State]] = {
    S.READY: {S.REQUESTING},
    S.REQUESTING: {S.WAITING},
    S.WAITING: {S.JUDGING},
    S.JUDGING: {S.OPEN},
    S.LISTENING: {S.EXAMINING},
    S.EXAMINING: {S.DECIDING},
    S.DECIDING: {S.ACCEPTING},
    S.ACCEPTING: {S.OPEN},
    S.OPEN: {S.RELEASING, S.ASKED},
    S.RELEASING: {S.ENDED, S.CROSSED},
    S.CROSSED: {S.ENDED, S.ANSWERING},
    S.ASKED: {S.ANSWERING},
    S.ANSWERING: {S.ENDED},
    S.ENDING: {S.ENDED},
    S.ENDED: set(),
}
IN_DATA = {S.OPEN, S.RELEASING, S.ASKED, S.ANSWERING, S.CROSSED}
DROPPING = {S.ASKED, S.ANSWERING, S.CROSSED}  # after the peer's ReleaseReq: transfers are dropped with an event


def drawn(old: State, new: State) -> bool:
    """Whether the diagram has this step."""
    return old is new or new in DIAGRAM[old] or (old not in (S.ENDING, S.ENDED) and new in (S.ENDING, S.ENDED))


@dataclass(eq=False)
class Transfer:
    """A transfer PDU as its sender made it.

    Attributes:
        flow: association and direction.
        epoch: number of key updates before it, as far as its key is concerned.
        time, seq: of its token.
        rekey, changed, asks: its key-update fields.
        data: the PDU of the protected protocol, None for a NULL transfer.
    """

    flow: Flow
    epoch: int
    time: str
    seq: int
    rekey: bool
    changed: bool
    asks: bool
    data: bytes | None


def fields(pdu: bytes) -> tuple[str, int, bool, bool, bool]:
    """(time, seq, rekey, changedKey, reqRekey) of a transfer."""
    token = Components(read(read(only(pdu).content).content).content)
    token.take(0x0C)
    time = time_digits(token.take(0x18).content.decode())
    seq = read_integer(token.take(0x02), 0, 2**31 - 1)
    token.maybe(0x80)
    rekey = token.maybe(0xA1) is not None
    asks = token.maybe(0x82)
    changed = token.maybe(0x83)
    return time, seq, rekey, changed is not None and boolean(changed), asks is not None and boolean(asks)


@dataclass(eq=False)
class Flow:
    """One direction of one association.

    Attributes:
        to_server: whose direction.
        tx_epoch, rx_epoch: key of the next PDU at the sender, at the receiver.
        last: (time, seq) last accepted.
        sent, delivered: what the applications gave and got.
        last_changed_ms: server: monotonic time of its last changedKey.
    """

    to_server: bool
    tx_epoch: int = 0
    rx_epoch: int = 0
    last: tuple[str, int] = ("", -1)
    sent: list[bytes] = field(default_factory=list)
    delivered: list[bytes] = field(default_factory=list)
    made: int = 0

    def begin(self, carrier: str, handshake: bytes) -> None:
        """Order begins at the time of the sender's ClearToken1."""
        self.last = (time_digits(secpdu.decode(carrier, handshake).token["time"]), -1)

    def make(self, pdu: bytes, data: bytes | None) -> Transfer:
        """The sender made a PDU: which key protects it follows from the fields alone."""
        time, seq, rekey, changed, asks = fields(pdu)
        if changed:
            self.tx_epoch += 1  # the first under the new key
        made = Transfer(self, self.tx_epoch, time, seq, rekey, changed, asks, data)
        if rekey:
            self.tx_epoch += 1  # the last under the old one
        self.made += 1
        return made

    def judge(self, pdu: Transfer, utc_ms: int, *, outstanding: bool, overdue: bool) -> str:
        """The check that must fail on this genuine PDU when it arrives now, or "" if it must be accepted.

        Arguments:
            outstanding: client: its carrier is out and changedKey has not come.
            overdue: client: and it should have.
        """
        if pdu.flow is not self:
            return "foreign"
        if pdu.epoch != self.rx_epoch + (pdu.changed and outstanding):
            return "icv"
        time, seq = self.last
        if abs(digits_ms(pdu.time) - utc_ms) > SKEW_MS or pdu.time < time:
            return "time"
        if pdu.time == time and pdu.seq <= seq:
            return "replay"
        if pdu.seq != (seq + 1 if pdu.time == time else 0):
            return "sequence"
        if overdue and not pdu.changed:
            return "protocol-error"
        return ""

    def accept(self, pdu: Transfer) -> None:
        """It was accepted."""
        self.last = (pdu.time, pdu.seq)
        self.rx_epoch += pdu.rekey or pdu.changed
        if pdu.data is not None:
            self.delivered.append(pdu.data)
