"""Data transfer of one association: sealing, opening, confirmation, key update, and the timers of the open state."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from fastsec import limits
from fastsec._core.guard import MODE_AE, MODE_CBC_GMAC, MODE_CBC_HMAC, scan_transfer
from fastsec.attribute import recheck, settle
from fastsec.control import GROUP_OF
from fastsec.engine import Engine, Role, internal_fault, present
from fastsec.errors import Aborted, DecodeError, FastsecError, LimitReached, PeerError, ReplayError
from fastsec.faults import Group
from fastsec.instant import Instant
from fastsec.key_update import NewKeys, Phase, Want, make_keys, take_keys
from fastsec.keys import next_guards
from fastsec.outputs import Confirmed, Job, Raised, Received, RolesChanged, Run, Send
from fastsec.profile import NULL_APPL_DATA
from fastsec.secpdu.fields import Carrier, SecPduKind
from fastsec.secpdu.model import DhPublic
from fastsec.state import OVER, Input, State

if TYPE_CHECKING:
    from fastsec._core.guard import Opened, SealGuard
    from fastsec.events import SecurityEvent

_ENCRYPTING = (MODE_AE, MODE_CBC_HMAC, MODE_CBC_GMAC)
RECHECK_SOON: Final = -1  # as _recheck_ms before the association is open


class DataPhase(Engine):
    """The actions of an open association."""

    __slots__ = ()

    # --- sending ---

    def _seal(self, appl_data: bytes, now: Instant) -> None:
        """Protect and send one PDU; it may be the one that announces new keys."""
        keys = present(self._keys)
        if keys.phase is Phase.READY:
            self._announce(appl_data, now)
        else:
            self._emit(appl_data, now)

    def _emit(self, appl_data: bytes, now: Instant) -> bool:
        """Seal under the current key and send; False if the key's limit ended the association."""
        try:
            pdu = present(self.tx).seal(appl_data, now.utc_ms)
        except LimitReached as limit:
            self._end_with(limit, now)
            return False
        self._outputs.append(Send(Carrier.DATA, pdu))
        return True

    def _end_with(self, error: FastsecError, now: Instant) -> None:
        """Where no PDU is named for an end, it is ApplAbort without applData."""
        self._finish(SecPduKind.APPL_ABORT, None, None, error, now)

    # --- receiving ---

    def _transfer_group(self, check: str) -> Group:
        """The event group of a transfer that failed ``check``: the kind agreed on, unless the kind was the fault."""
        encrypted = (present(self._params).mode in _ENCRYPTING) != (check == "wrong-kind")
        return Group.ENCR_TRANSFER if encrypted else Group.CLEAR_TRANSFER

    def _transfer_faulted(self, fault: PeerError, now: Instant) -> None:
        self._fail(self._transfer_group(fault.check), fault, now)

    def _take_transfer(self, pdu: bytes, now: Instant) -> None:
        """Verify, then judge the key-update fields, then deliver. The key is chosen before, never by trial."""
        keys = present(self._keys)
        try:
            changed = scan_transfer(pdu)[3] and keys.phase is Phase.OUTSTANDING
            guard = present(keys.next_rx if changed else self.rx)
            opened = guard.open(pdu, now.utc_ms)
            self._judge_key_fields(opened, changed, now)
        except PeerError as fault:
            self._transfer_faulted(fault, now)
            return
        if changed:
            self._adopt_rx(now)
        if not self.confirmed:
            self._confirm()
        if opened.appl_data is not None:
            self._outputs.append(Received([opened.appl_data]))
        if opened.rekey is not None and keys.exhausted():
            self._end_with(LimitReached("OUR_REKEYS_MAX"), now)
        elif opened.rekey is not None:
            # Legal, as judged. Whatever follows is under the new keys, so reception waits for them.
            self._derive_new_keys(DhPublic(*opened.rekey))
        elif opened.req_rekey and self.state is State.OPEN:
            self._want_new_keys(now)

    def _judge_key_fields(self, opened: Opened, changed: bool, now: Instant) -> None:
        """rekey, reqRekey and changedKey of a verified PDU.

        Arguments:
            changed: it is the first PDU under the new key.
        Errors:
            PeerError with the check that failed.
        """
        keys = present(self._keys)
        if self.role is Role.CLIENT:
            if opened.rekey is not None:
                raise DecodeError("rekey sent to a client", step="ClearToken2.rekey")
            if opened.changed_key and not changed:
                raise ReplayError(
                    "changedKey without an update outstanding",
                    check="unexpected-changed-key",
                    step="ClearToken2.changedKey",
                )
            if keys.overdue and not changed:
                raise DecodeError("no changedKey in time, although the server sends", step="ClearToken2.changedKey")
        else:
            if opened.req_rekey or opened.changed_key:
                raise DecodeError("reqRekey or changedKey sent to a server", step="ClearToken2")
            if opened.rekey is not None:
                keys.check_rekey(DhPublic(*opened.rekey), now.mono_ms)

    def _drop_transfer(self, pdu: bytes, now: Instant) -> None:
        """A transfer after the peer's ReleaseReq: dropped, with an event."""
        self._raise(GROUP_OF[self._transfer_kind(pdu)], 1, reason="transfer after ReleaseReq, dropped")

    def _confirm(self) -> None:
        """The peer's first transfer verified: this proves h2 and with it both certificates."""
        self.confirmed = True
        self._drop_unconfirmed()
        self.fast_rx = True
        self._keys_changed()
        self._outputs.append(Confirmed(present(self.peer)))

    # --- key update: begin ---

    def _want_new_keys(self, now: Instant) -> None:
        """New keys are wanted by interval, message count, reqRekey or call: the client begins, the server asks."""
        keys, tx = present(self._keys), present(self.tx)
        tx.soft_limit = limits.OUR_MESSAGES_PER_KEY  # heard; the next notice is the end of the key
        if keys.asking or keys.want(now.mono_ms) is not Want.NOW:
            return
        if keys.exhausted():
            self._end_with(LimitReached("OUR_REKEYS_MAX"), now)
        elif self.role is Role.SERVER:
            keys.ask(now.mono_ms)
            tx.req_rekey = True
            self._send_null(now)
        else:
            self._derive_new_keys(None)

    def _send_null(self, now: Instant) -> None:
        """A NULL transfer, with whatever key fields are set; never to a strict peer."""
        if not self._policy.strict_peer:
            self._emit(NULL_APPL_DATA, now)

    def _derive_new_keys(self, value: DhPublic | None) -> None:
        """Start the derivation job: with an own fresh value (client), or with the client's (server)."""
        keys, params = present(self._keys), present(self._params)
        group, public, h2 = keys.group, keys.server_public, keys.h2
        if value is None:
            keys.begin()
            self._start(lambda: make_keys(group, public, params, h2), self._keys_made)
        else:
            own = present(keys.own)
            keys.accept(value)
            present(self.tx).req_rekey = False  # answered
            self._receive_job(lambda: take_keys(own, value, params, h2), self._keys_made)

    def _keys_made(self, job: Job, now: Instant) -> None:
        if self.role is Role.SERVER:
            self.busy = False
        if job.error is None and self.state in (State.ENDING, State.ENDED):
            job.result.okm.wipe()
        self._dispatch(Input.KEYS_MADE, job, now)

    # --- key update: the new keys are there ---

    def _use_new_keys(self, job: Job, now: Instant) -> None:
        keys = present(self._keys)
        if job.error is not None:
            self._transfer_faulted(internal_fault(SecPduKind.CLEAR_TRANSFER, job), now)
            return
        made: NewKeys = job.result
        if self.role is Role.CLIENT:
            if self.state is not State.OPEN:
                made.okm.wipe()  # the release came first: nothing more is sent
                return
            keys.derived(made)
        else:
            self._adopt_both(made)
        if self._policy.strict_peer:
            # No NULL transfer: the next PDU of the caller has to announce the new keys, so it must come through us.
            self.fast_tx = False
            self._keys_changed()
        elif self.state in (State.OPEN, State.ASKED):
            self._announce(NULL_APPL_DATA, now)
        self._recheck_peer(now)

    def _adopt_both(self, made: NewKeys) -> None:
        """Server: both directions change; changedKey marks the first PDU under the new key."""
        keys, params, tx, rx = present(self._keys), present(self._params), present(self.tx), present(self.rx)
        self._log_keys(params, made.okm, keys.h2, keys.count)
        self.tx, self.rx = next_guards(params, made.okm, is_client=False, tx=tx, rx=rx)
        self.tx.changed_key = True
        self._set_soft_limit(self.tx)
        tx.wipe()
        rx.wipe()
        keys.keys_in_place()
        self._keys_changed()

    def _announce(self, appl_data: bytes, now: Instant) -> None:
        """Send the PDU that announces the new keys: the client's carrier, or the server's changedKey."""
        keys, params, tx, rx = present(self._keys), present(self._params), present(self.tx), present(self.rx)
        if self.role is Role.SERVER:
            if self._emit(appl_data, now):
                keys.changed(now.mono_ms)
                self._rearm_tx()
            return
        made = present(keys.new)
        tx.rekey = (made.public.group, made.public.public)
        if not self._emit(appl_data, now):
            return
        self._log_keys(params, made.okm, keys.h2, keys.count)
        self.tx, next_rx = next_guards(params, made.okm, is_client=True, tx=tx, rx=rx)
        self._set_soft_limit(self.tx)
        tx.wipe()
        keys.carrier_sent(next_rx, now.mono_ms)
        self._rearm_tx()

    def _rearm_tx(self) -> None:
        self.fast_tx = self.state is State.OPEN or self.state is State.ASKED
        self._keys_changed()

    def _adopt_rx(self, now: Instant) -> None:
        """Client: the PDU with changedKey verified; the old receiving key goes."""
        keys, rx = present(self._keys), present(self.rx)
        self.rx = present(keys.next_rx)
        rx.wipe()
        keys.changed(now.mono_ms)
        self.fast_rx = True
        self._keys_changed()

    def _set_soft_limit(self, tx: SealGuard) -> None:
        wanted = self._policy.rekey_messages
        if wanted is not None:
            tx.soft_limit = min(wanted, limits.OUR_MESSAGES_PER_KEY_SOFT)

    # --- the peer's certificate, again ---

    def _recheck_peer(self, now: Instant) -> None:
        """Expiry and revocation, at every key update, every 24 h and when new lists have come."""
        peer, roles, trust = present(self.peer), self._endpoint.roles, self._endpoint.trust
        self._recheck_ms = self._next_recheck(now)
        self._start(lambda: recheck(peer, roles, trust, now.utc_ms, may_ask=True), self._peer_was_checked)

    def _next_recheck(self, now: Instant) -> int:
        """In 24 h, or when the peer's attribute certificate expires and its roles with it."""
        seconds = float(limits.OUR_RECHECK_INTERVAL)
        token = present(self.peer).token
        if token is not None:
            seconds = min(seconds, max((token.until_ms - now.utc_ms) / 1000, 1))
        return now.mono_ms + int(seconds * 1000)

    def _peer_was_checked(self, job: Job, now: Instant) -> None:
        if self.state in OVER:
            return
        if job.error is not None:
            self._dispatch(Input.PEER_CHECKED, job.error, now)
        elif job.result.questions:
            found, roles, trust = job.result, self._endpoint.roles, self._endpoint.trust
            executor = trust.revocation.place(found.questions)
            work = partial(settle, found, roles, trust, now.utc_ms, establishing=False)
            self._outputs.append(Run(Job(work, self._peer_was_checked, executor)))
        elif self.peer is not None:
            before, self.peer = self.peer, job.result
            if self._called is not None:
                self.peer = self._endpoint.share(self._called, self.peer)
            self._raise_findings(tuple(event for event in self.peer.findings if event not in before.findings))
            if before.roles != self.peer.roles:
                self._outputs.append(RolesChanged())

    def _raise_findings(self, findings: tuple[SecurityEvent, ...]) -> None:
        """What is doubtful about the peer's certificates; told once."""
        for finding in findings:
            self._outputs.append(Raised(replace(finding, peer=self._peer_text)))

    def _peer_checked(self, error: Exception, now: Instant) -> None:
        """The peer's certificate is revoked or expired by now, or could not be checked."""
        if isinstance(error, PeerError):
            self._raise_findings(error.also)
        elif not isinstance(error, FastsecError):
            error = Aborted("local", None, "the peer's certificate could not be checked again")
        self._end_with(error, now)

    # --- timers ---

    def _data_timers(self, now: Instant) -> None:
        """All that an open association does by time; idempotent, called whenever something may be due."""
        keys, tx, mono = present(self._keys), present(self.tx), now.mono_ms
        opened, strict = self._opened_ms, self._policy.strict_peer
        lifetime = self._policy.max_association_lifetime
        if not self.confirmed and not strict and mono >= opened + limits.OUR_UNCONFIRMED_TIMEOUT * 1000:
            self._endpoint.refusals.expired += 1
            self._end_with(LimitReached("OUR_UNCONFIRMED_TIMEOUT", "the peer did not confirm the handshake"), now)
        elif lifetime is not None and mono >= opened + lifetime * 1000:
            self._end_with(LimitReached("max_association_lifetime"), now)
        elif tx.count >= limits.OUR_MESSAGES_PER_KEY:
            self._end_with(LimitReached("OUR_MESSAGES_PER_KEY"), now)
        elif keys.asked_in_vain(mono):
            self._end_with(LimitReached("OUR_REKEY_GRACE", "the peer does not update the keys"), now)
        elif keys.outstanding_too_long(mono):
            self._end_with(LimitReached("OUR_REKEY_OUTSTANDING_MAX", "the peer does not change its key"), now)
        else:
            if self._null_is_due(mono):
                self._send_null(now)
            if keys.note_overdue(mono):
                self.fast_rx = False  # the next PDU of the server has to come through us
                self._keys_changed()
            if mono >= self._recheck_ms:
                self._recheck_peer(now)
            if self.state is State.OPEN and (tx.due or keys.is_wanted(mono)):
                self._want_new_keys(now)

    def _null_is_due(self, mono_ms: int) -> bool:
        """Nothing sent within 2 s of HandshakeAcc: the peer waits for a transfer to confirm the handshake."""
        tx, keys = present(self.tx), present(self._keys)
        return not tx.count and not keys.count and mono_ms >= self._opened_ms + limits.OUR_CONFIRM_DELAY * 1000

    def _data_deadline(self) -> int:
        """When ``_data_timers`` has to run next."""
        keys, tx, opened = present(self._keys), present(self.tx), self._opened_ms
        due = self._recheck_ms
        update = keys.deadline()
        if update is not None and update < due:
            due = update
        if self._policy.max_association_lifetime is not None:
            due = min(due, opened + self._policy.max_association_lifetime * 1000)
        if not self._policy.strict_peer:
            if not tx.count and not keys.count:
                due = min(due, opened + limits.OUR_CONFIRM_DELAY * 1000)
            elif not self.confirmed:
                due = min(due, opened + limits.OUR_UNCONFIRMED_TIMEOUT * 1000)
        return due
