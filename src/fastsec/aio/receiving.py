"""The receiving side of the control path: TPDUs the channel does not open itself, and what they mean to the engine."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from functools import lru_cache
from time import time_ns
from typing import TYPE_CHECKING, Any, Final, cast

from fastsec import limits
from fastsec.aio.plain import PlainAssociation
from fastsec.aio.wiring import ASSOCIATING, BUSY, LINGER, OPEN, TRANSPORT, Wiring
from fastsec.envs.osi import (
    AbortInd,
    AeTitle,
    AssociateCnf,
    AssociateInd,
    DataInd,
    EnvFault,
    ProviderAbort,
    ReleaseCnf,
    ReleaseInd,
    TransportConnected,
)
from fastsec.errors import Aborted, DecodeError, LimitReached, LocalError, Rejected
from fastsec.instant import Instant, now
from fastsec.pki.identity import OsiName
from fastsec.secpdu.fields import Carrier

if TYPE_CHECKING:
    from fastsec.aio.connection import Connection

_log = logging.getLogger("fastsec.osi")


class Receiving(Wiring):
    """Adds reception to ``Wiring``."""

    __slots__ = ()

    def _pump(self, frame: tuple[int, bytes] | None) -> None:
        """Handle frames the channel has not opened itself until none is left, a job is under way or all is over."""
        channel, engine = self._channel, self._engine
        try:
            while frame is not None and self._phase < LINGER:
                at = now()
                fault = channel.fault
                if fault is not None:
                    engine.transfer_fault(fault, at)
                elif self._osi is None:
                    raise DecodeError("only DT TPDUs are expected here", step="COTP")
                else:
                    for indication in self._osi.receive_tpdu(*frame):
                        _INDICATED[type(indication)](self, indication, at)
                self._drain()
                if self._phase >= LINGER or self._pause & BUSY:
                    return
                frame = self._go_on()
        except DecodeError as error:
            self._misframed(error)

    def _go_on(self) -> tuple[int, bytes] | None:
        pdus = self._channel.feed(b"", time_ns() // 1_000_000)
        if pdus:
            try:
                self._handler.pdus_received(cast("Connection", self), pdus)
            except Exception as error:
                self._handler_failed(error)
            if self._phase >= LINGER:
                return None
        return self._channel.next()

    def _misframed(self, error: DecodeError) -> None:
        _log.info("%s: %s", self.peer_address, error)
        if self._phase < LINGER:
            self._reason = self._reason or error
            self._engine.environment_fault("OSI_ENV_PROT_ERR", now(), reason=str(error), source=self._source)
            self._drain()
            self._over(error)

    def _let_go(self, why: int) -> None:
        if not self._pause & why:
            return
        self._pause &= ~why
        if why == BUSY and self._phase < LINGER:
            try:
                self._pump(self._go_on())
            except DecodeError as error:
                self._misframed(error)
        if not self._pause and self._transport is not None and self._phase < LINGER:
            self._transport.resume_reading()

    @property
    def _source(self) -> str:
        """Host of the TCP peer; interned, because the engine keeps it and it is often the same."""
        return sys.intern(self.peer_address.rpartition(":")[0])

    def _transport_connected(self, indication: TransportConnected, at: Instant) -> None:
        if self.client:
            self._phase = ASSOCIATING
            self._due = None
            self._meter.begin_association(cast("Connection", self))
            try:
                self._engine.start(self.own_initiate, at)
            except (LocalError, LimitReached) as error:
                self._over(error)
        elif self._due is None:
            self._set_due(limits.OUR_ACCEPT_TO_AARQ)  # who dialled waits long for a CR, but then the AARQ has to follow

    def _associate_ind(self, indication: AssociateInd, at: Instant) -> None:
        self._phase = ASSOCIATING
        self._due = None
        self.request = indication
        self._meter.begin_association(cast("Connection", self))
        if indication.proof is not None and isinstance(self._engine, PlainAssociation):
            self._engine.prove(indication.proof, self._source)
        self._engine.receive(
            Carrier.ASSOCIATE_REQ,
            indication.user_data,
            at,
            calling=_name_of(indication.calling),
            source=self._source,
        )

    def _associate_cnf(self, indication: AssociateCnf, at: Instant) -> None:
        engine, user_data = self._engine, indication.user_data
        if indication.result != "accepted":
            transient = indication.result == "rejected-transient"
            if isinstance(engine, PlainAssociation):
                engine.refused(user_data, transient, indication.text)
                return
            if user_data is None and self._reason is None:
                self._reason = Rejected("peer", None, indication.text, None, transient)
        if indication.proof is not None and isinstance(engine, PlainAssociation):
            engine.prove(indication.proof, self._source)
        responding = _name_of(indication.responding)
        engine.receive(Carrier.ASSOCIATE_RSP, user_data, at, responding=responding, disposition=indication.result)

    def _data_ind(self, indication: DataInd, at: Instant) -> None:
        self._engine.receive(Carrier.DATA, indication.pdu, at)

    def _release_ind(self, indication: ReleaseInd, at: Instant) -> None:
        self._engine.receive(Carrier.RELEASE_REQ, indication.user_data, at)

    def _release_cnf(self, indication: ReleaseCnf, at: Instant) -> None:
        self._linger = False
        self._engine.receive(Carrier.RELEASE_RSP, indication.user_data, at)

    def _abort_ind(self, indication: AbortInd, at: Instant) -> None:
        self._linger = False
        self._engine.receive(Carrier.ABORT, indication.user_data, at)

    def _provider_abort(self, indication: ProviderAbort, at: Instant) -> None:
        self._linger = False
        if self._reason is None and self._phase < OPEN:
            self._reason = Aborted("provider", None, indication.reason)
        if self._phase == TRANSPORT:
            self._over(self._reason)
        else:
            self._engine.receive(Carrier.ABORT, None, at)

    def _env_fault(self, indication: EnvFault, at: Instant) -> None:
        _log.info("%s: %s: %s", self.peer_address, indication.mnemonic, indication.text)
        self._linger = True
        self._reason = self._reason or Aborted("local", None, f"fault of the OSI environment: {indication.text}")
        self._engine.environment_fault(indication.mnemonic, at, reason=indication.text, source=self._source)


def _name_of(title: AeTitle) -> OsiName | None:
    if isinstance(title.ap_title, str) and isinstance(title.ae_qualifier, int):
        return _shared_name(title.ap_title, title.ae_qualifier)
    return None


@lru_cache(maxsize=1024)
def _shared_name(ap_title: str, ae_qualifier: int) -> OsiName | None:
    """One object for all associations of a peer: the engine keeps it as long as the association lives."""
    return OsiName.of(ap_title, ae_qualifier)


_INDICATED: Final[dict[type, Callable[[Receiving, Any, Instant], None]]] = {
    TransportConnected: Receiving._transport_connected,
    AssociateInd: Receiving._associate_ind,
    AssociateCnf: Receiving._associate_cnf,
    DataInd: Receiving._data_ind,
    ReleaseInd: Receiving._release_ind,
    ReleaseCnf: Receiving._release_cnf,
    AbortInd: Receiving._abort_ind,
    ProviderAbort: Receiving._provider_abort,
    EnvFault: Receiving._env_fault,
}
