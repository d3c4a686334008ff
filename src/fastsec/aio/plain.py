"""Associations without security, with the face of ``fastsec.association.Association``.

``PlainAssociation`` is MMS over the OSI stack as unmodified peers speak it; the gateway uses it on its near side.
``BareAssociation`` has no association at all: user data in TPKT and COTP DT frames, the baseline of the echo bench.
Both let ``Connection`` run the very same path for secured and unsecured traffic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastsec import limits
from fastsec.errors import Aborted, FastsecError, Rejected, StateError
from fastsec.instant import Instant
from fastsec.outputs import (
    AssociateIndication,
    Disposition,
    Ended,
    Established,
    Output,
    Received,
    Released,
    ReleaseIndication,
    Send,
)
from fastsec.pki.identity import OsiName
from fastsec.secpdu.fields import Carrier

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastsec.outputs import Job
    from fastsec.pki.path import VerifiedPeer

READY: Final = "ready"
WAITING: Final = "waiting"
DECIDING: Final = "deciding"
OPEN: Final = "open"
ASKED: Final = "asked"
RELEASING: Final = "releasing"
ENDED: Final = "ended"


class PlainAssociation:
    """An unsecured association (61850-8-1 over ACSE); sans-I/O, inputs and outputs as the secured one's.

    Arguments:
        client: the initiator of the association.
    """

    __slots__ = ("_crossed", "_outputs", "_state", "client", "deadline")

    tx: Final = None
    rx: Final = None
    peer: VerifiedPeer | None = None
    roles: Final = ()
    busy: bool = False
    confirmed: Final = True

    def __init__(self, client: bool) -> None:
        self.client = client
        self.deadline: int | None = None
        self._state = READY
        self._crossed = False
        self._outputs: list[Output] = []

    @property
    def fast_tx(self) -> bool:
        """The channel may frame data itself."""
        return self._state in (OPEN, ASKED)

    @property
    def fast_rx(self) -> bool:
        """The channel may unpack data itself."""
        return self._state in (OPEN, RELEASING)

    def outputs(self) -> list[Output]:
        """What is to be done, in order; each output is handed out once."""
        outputs, self._outputs = self._outputs, []
        return outputs

    # --- calls ------------------------------------------------------------------------------------------------------

    def start(self, appl_data: bytes, now: Instant) -> None:
        """Client: ask for the association."""
        self._need(READY)
        self._state = WAITING
        self.deadline = now.mono_ms + limits.OUR_AARQ_TO_AARE * 1000
        self._outputs.append(Send(Carrier.ASSOCIATE_REQ, appl_data))

    def accept(self, appl_data: bytes, now: Instant) -> None:
        """Server: accept."""
        self._need(DECIDING)
        self._outputs.append(Send(Carrier.ASSOCIATE_RSP, appl_data, "accepted"))
        self._open(b"")

    def reject(self, appl_data: bytes | None, transient: bool, now: Instant) -> None:
        """Server: refuse."""
        self._need(DECIDING)
        self._outputs.append(
            Send(Carrier.ASSOCIATE_RSP, appl_data, "rejected-transient" if transient else "rejected-permanent")
        )
        self._end(Rejected("local", None, "refused by the application", transient=transient))

    def send(self, appl_data: bytes, now: Instant) -> None:
        """Send one PDU on the slow path."""
        if not self.fast_tx:
            raise StateError("no data can be sent: the association is not open")
        self._outputs.append(Send(Carrier.DATA, appl_data))

    def release(self, now: Instant) -> None:
        """Ask the peer for release."""
        self._need(OPEN)
        self._state = RELEASING
        self.deadline = now.mono_ms + limits.OUR_RELEASE * 1000
        self._outputs.append(Send(Carrier.RELEASE_REQ, None))

    def release_accept(self, now: Instant) -> None:
        """Answer the peer's request."""
        self._need(ASKED)
        self._outputs.append(Send(Carrier.RELEASE_RSP, None))
        self._outputs.append(Released())
        self._end(None)

    def abort(self, appl_data: bytes | None, now: Instant) -> None:
        """End at once."""
        if self._state != ENDED:
            self._outputs.append(Send(Carrier.ABORT, appl_data))
            self._end(Aborted("local", None, "ended by the application"))

    def update_keys(self, now: Instant) -> None:
        """There are no keys: StateError."""
        raise StateError("an association without security has no keys")

    # --- what the peer and the environment do -----------------------------------------------------------------------

    def receive(
        self,
        carrier: Carrier,
        pdu: bytes | None,
        now: Instant,
        *,
        calling: OsiName | None = None,
        responding: OsiName | None = None,
        source: str = "",
        disposition: Disposition = "",
    ) -> None:
        """A PDU of the environment; what does not fit the state ends the association."""
        state = self._state
        if state == ENDED:
            return
        if carrier is Carrier.ABORT:
            self._end(Aborted("peer", None, "ended by the peer"))
        elif carrier is Carrier.ASSOCIATE_REQ and state == READY and not self.client:
            self._state = DECIDING
            self.deadline = now.mono_ms + limits.OUR_AARQ_TO_AARE * 1000
            self._outputs.append(AssociateIndication(pdu or b"", None))
        elif carrier is Carrier.ASSOCIATE_RSP and state == WAITING:
            self._open(pdu or b"")
        elif carrier is Carrier.DATA and state in (OPEN, RELEASING):
            self._outputs.append(Received([pdu or b""]))
        elif carrier is Carrier.RELEASE_REQ and state == OPEN:
            self._state = ASKED
            self.deadline = now.mono_ms + limits.OUR_RELEASE * 1000
            self._outputs.append(ReleaseIndication())
        elif carrier is Carrier.RELEASE_REQ and state == RELEASING and not self._crossed:
            self._crossed = True  # X.227: the initiator of the association answers first
            if self.client:
                self._outputs.append(Send(Carrier.RELEASE_RSP, None))
        elif carrier is Carrier.RELEASE_RSP and state == RELEASING:
            if self._crossed and not self.client:
                self._outputs.append(Send(Carrier.RELEASE_RSP, None))
            self._outputs.append(Released())
            self._end(None)
        elif carrier is not Carrier.DATA:
            self.environment_fault("ACSE_PROT_ERR", now)

    def refused(self, appl_data: bytes | None, transient: bool, reason: str) -> None:
        """Client: the server or a provider refused the association."""
        if self._state != ENDED:
            self._end(Rejected("peer", None, reason, appl_data, transient))

    def transfer_fault(self, fault: FastsecError, now: Instant) -> None:
        """A data PDU was malformed."""
        if self._state != ENDED:
            self._outputs.append(Send(Carrier.ABORT, None))
            self._end(fault)

    def environment_fault(self, mnemonic: str, now: Instant, *, reason: str = "", source: str = "") -> None:
        """The peer broke a rule of the OSI stack."""
        if self._state != ENDED:
            self._outputs.append(Send(Carrier.ABORT, None))
            self._end(Aborted("local", None, f"the peer broke a rule of the OSI stack ({mnemonic})"))

    def connection_lost(self, now: Instant) -> None:
        """The connection is gone."""
        self._end(Aborted("provider", None, "the connection was lost"))

    def on_wakeup(self, wakeup: Callable[[], None]) -> None:
        """What to call when outputs wait that no call of the adapter has caused; here there are none."""

    def prove(self, proof: bytes, source: str) -> None:
        """The authentication-value of the PDU that ``receive`` gets next, and its source; not looked at here."""

    def job_done(self, job: Job, now: Instant) -> None:
        """There are no jobs here."""

    def tick(self, now: Instant) -> None:
        """The deadline may have come."""
        if self.deadline is None or now.mono_ms < self.deadline:
            return
        if self._state == DECIDING:
            self.reject(None, True, now)
        elif self._state != ENDED:
            waited = "release" if self._state in (RELEASING, ASKED) else "the association"
            self._outputs.append(Send(Carrier.ABORT, None))
            self._end(Aborted("local", None, f"no answer to the request for {waited} in time"))

    # --- inside -----------------------------------------------------------------------------------------------------

    def _need(self, state: str) -> None:
        if self._state != state:
            raise StateError(f"not possible now: the association is {self._state}, it would have to be {state}")

    def _open(self, appl_data: bytes) -> None:
        self._state = OPEN
        self.deadline = None
        self._outputs.append(Established(appl_data, None, True))

    def _end(self, error: FastsecError | None) -> None:
        if self._state != ENDED:
            self._state = ENDED
            self.deadline = None
            self._outputs.append(Ended(error))


class BareAssociation(PlainAssociation):
    """No association: open as soon as the TCP connection stands. For measurements only."""

    __slots__ = ()

    def start(self, appl_data: bytes, now: Instant) -> None:
        """Open."""
        self._open(b"")

    def release(self, now: Instant) -> None:
        """There is nothing to release: over."""
        self._outputs.append(Released())
        self._end(None)
