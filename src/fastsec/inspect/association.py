"""What follows from one SecPDU to the next: who is who, (time, seq), key updates, keys; and what our checks would say.

Every check that needs no local policy is made, in the order of the specification, and all that fail are reported, not
only the first. Nothing ends an association here: it goes on with what comes next.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final, NamedTuple

from fastsec import limits
from fastsec._core.crypto import sha256
from fastsec.control import GROUP_OF
from fastsec.errors import DecodeError, PeerError
from fastsec.faults import Group
from fastsec.inspect import secpdu, transfer, words
from fastsec.inspect.keylog import Epochs, KeyLog
from fastsec.inspect.transfer import Transfer
from fastsec.keys import LOGGED_MODES, hash_acceptance, hash_request
from fastsec.negotiation import HMAC_SHA256, V1, Suite, judge_group, judge_mode
from fastsec.pki.certificate import Certificate
from fastsec.pki.identity import OsiName
from fastsec.secpdu.der import decode, is_osi_diagnostics, kind_of
from fastsec.secpdu.fields import Carrier, SecPduKind
from fastsec.secpdu.model import AlgorithmId, Control, Handshake, NonAeaOffer
from fastsec.secpdu.timestamp import time_key, time_utc_ms

REPLAYS_MAX: Final = 20_000
TRIALS_MAX: Final = 256
HEX_MAX: Final = 1 << 17
_SENDERS: Final = {
    SecPduKind.HANDSHAKE_REQ: "client",
    SecPduKind.HANDSHAKE_ACC: "server",
    SecPduKind.APPLICATION_REJECT: "server",
    SecPduKind.HANDSHAKE_SEC_REJECT: "server",
    SecPduKind.HANDSHAKE_SEC_ABORT: "client",
}
_USUAL: Final = {
    Carrier.ASSOCIATE_REQ: SecPduKind.HANDSHAKE_REQ,
    Carrier.ASSOCIATE_RSP: SecPduKind.HANDSHAKE_ACC,
    Carrier.ABORT: SecPduKind.DT_SEC_ABORT,
    Carrier.RELEASE_REQ: SecPduKind.RELEASE_REQ,
    Carrier.RELEASE_RSP: SecPduKind.RELEASE_RSP,
}


class Seen(NamedTuple):
    """Circumstances of one SecPDU.

    Attributes:
        carrier: what brought it.
        side: ``client``, ``server`` or None where nothing tells.
        at_ms: when it was captured, ms since 1970 UTC, or None.
        address: identity that the environment gives for its sender, or None.
        needs_address: whether the environment should give one.
        full: show octets of applData.
    """

    carrier: Carrier
    side: str | None = None
    at_ms: int | None = None
    address: OsiName | None = None
    needs_address: bool = False
    full: bool = False


class Replays:
    """(time, assoID) pairs of handshakes seen in the file, the oldest forgotten first."""

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def is_known(self, who: bytes, what: str) -> bool:
        """Whether it came before; now it has."""
        digest = sha256(who + what.encode())
        if digest in self._seen:
            return True
        self._seen[digest] = None
        if len(self._seen) > REPLAYS_MAX:
            self._seen.popitem(last=False)
        return False


class _Direction:
    """(time, seq) and key of one sending side."""

    def __init__(self) -> None:
        self.last: str | None = None  # time key
        self.seq = -1
        self.epoch: int | None = None
        self.keys: Epochs | None = None
        self.trials = 0
        self.outstanding = False  # client: sent rekey, changedKey not seen
        self.early = False  # the capture held the server's changedKey before the client's rekey


class Association:
    """One association.

    Arguments:
        keys: the key log, perhaps empty.
        replays: handshakes of the whole file.
    Attributes:
        releasing: a ReleaseReq was seen.
    """

    def __init__(self, keys: KeyLog, replays: Replays) -> None:
        self._log = keys
        self._gap = False
        self._replays = replays
        self._forget()

    def _forget(self) -> None:
        self._request: Handshake | None = None
        self._acceptance: Handshake | None = None
        self._asso_id: str | None = None
        self._suite: Suite | None = None
        self._keys: Epochs | None = None
        self._sides: dict[str | None, _Direction] = {}
        self._times: dict[str, list[str]] = {}
        self._rekeys: set[bytes] = set()
        self.releasing = False

    def lost(self) -> None:
        """SecPDUs may be missing from here on, among them a rekey or a changedKey."""
        self._gap = True

    def take(self, data: bytes, seen: Seen) -> dict[str, Any]:
        """One SecPDU: what it is, and under ``anomalies`` what our checks would say."""
        if seen.carrier is Carrier.DATA:
            return self._take_transfer(data, seen)
        if seen.carrier is Carrier.ABORT and is_osi_diagnostics(data):
            return {"kind": "OsiDiagnostics", "octets": len(data), "anomalies": []}
        try:
            pdu = decode(seen.carrier, data)
        except DecodeError as error:
            try:
                kind = kind_of(seen.carrier, data[:1] + b"\0")
            except DecodeError:
                kind = _USUAL[seen.carrier]
            fault = words.anomaly(GROUP_OF[kind], error.check, str(error), error.step)
            return {"kind": kind.standard_name, "octets": len(data), "malformed": True, "anomalies": [fault]}
        about, certificate, fault_found = secpdu.describe(pdu)
        about["octets"] = len(data)
        found: list[dict[str, Any]] = []
        group = GROUP_OF[pdu.kind]
        if fault_found is not None:
            found.append(words.anomaly(group, fault_found.check, str(fault_found), fault_found.step))
        if isinstance(pdu, Handshake):
            self._take_handshake(pdu, certificate, seen, found)
        else:
            self._take_control(pdu, seen, found)
        if pdu.appl_data is not None:
            about["applData"] = _shown(pdu.appl_data, seen.full)
        about["anomalies"] = found
        return about

    # --- handshake ---

    def _take_handshake(
        self, pdu: Handshake, certificate: Certificate | None, seen: Seen, found: list[dict[str, Any]]
    ) -> None:
        group, token = GROUP_OF[pdu.kind], pdu.token1
        is_request = pdu.kind is SecPduKind.HANDSHAKE_REQ

        def say(check: str, text: str) -> None:
            found.append(words.anomaly(group, check, text))

        if is_request:
            self._forget()
        elif self._request is not None and pdu.pp != self._request.pp:
            say("pp", "another protected protocol than in HandshakeReq")
        if certificate is not None:
            self._check_leaf(certificate, token.time, say)
            names = {certificate.subject_oid, *certificate.registered_ids}
            if seen.needs_address and (seen.address is None or seen.address.oid not in names):
                say("address", f"the certificate does not belong to the address {seen.address or '(none)'}")
        if not token.version & V1 or (not is_request and token.version != V1):
            say("version", "version is not v1")
        _check_clock(token.time, seen.at_ms, say)
        if self._replays.is_known(sha256(token.pk_cert), f"{pdu.kind.value} {time_key(token.time)} {token.asso_id}"):
            say("replay", "time and assoID of an earlier handshake in this file")
        client, colon, _ = token.asso_id.partition(":")
        if is_request:
            if colon:
                say("protocol-error", "assoID is not the client's number alone")
            self._request = pdu
            self._note("client", token.time)
        else:
            if not colon or (self._request is not None and client != self._request.token1.asso_id):
                say("protocol-error", "assoID does not answer the client's number")
            self._judge(pdu, say)
        if token.hmac != HMAC_SHA256:
            say("hmac", "hmac is not hmacWithSHA256")

    @staticmethod
    def _check_leaf(certificate: Certificate, time: str, say: Any) -> None:
        try:
            certificate.check_leaf()
            certificate.check_valid(time_utc_ms(time))
        except PeerError as error:
            say(error.check, str(error))

    def _judge(self, pdu: Handshake, say: Any) -> None:
        """A HandshakeAcc against its request; from here the association is known."""
        token, request = pdu.token1, self._request
        self._acceptance, self._asso_id = pdu, token.asso_id
        self._sides = {}
        self._note("server", token.time)
        if request is None:
            return
        if token.pk_cert == request.token1.pk_cert:
            say("address", "the client's own certificate came back")
        try:
            value = judge_group(token.dh_key, tuple(key.group for key in request.token1.dh_key))
            self._rekeys = {sha256(value.public), *(sha256(key.public) for key in request.token1.dh_key)}
        except PeerError as error:
            say(error.check, str(error))
        try:
            self._suite = judge_mode(token.encr_mode, request.token1.encr_mode)
        except PeerError as error:
            say(error.check, str(error))
        self._keys = self._log.of_handshake(hash_acceptance(pdu.tbs, hash_request(request.tbs)))
        for side, first in (("client", request), ("server", pdu)):
            direction = self._sides.setdefault(side, _Direction())
            direction.last = time_key(first.token1.time)
            direction.keys, direction.epoch = self._keys, 0

    def _note(self, side: str, time: str) -> None:
        times = self._times.setdefault(side, [])
        times.append(time_key(time))
        del times[:-16]

    # --- control PDUs ---

    def _side_of(self, pdu: Control, seen: Seen) -> str | None:
        """Who sent it: by the direction, else by its certificate."""
        if seen.side is not None:
            return seen.side
        for side, other in (("client", self._request), ("server", self._acceptance)):
            if other is not None and other.token1.pk_cert == pdu.token3.pk_cert:
                return side
        return _SENDERS.get(pdu.kind)

    def _take_control(self, pdu: Control, seen: Seen, found: list[dict[str, Any]]) -> None:
        group, token = GROUP_OF[pdu.kind], pdu.token3

        def say(check: str, text: str) -> None:
            found.append(words.anomaly(group, check, text))

        self.releasing = self.releasing or pdu.kind is SecPduKind.RELEASE_REQ
        side = self._side_of(pdu, seen)
        handshake = {"client": self._request, "server": self._acceptance}.get(side or "")
        if handshake is not None and handshake.token1.pk_cert != token.pk_cert:
            say("address", "another certificate than in the handshake")
        if token.version != V1:
            say("version", "version is not v1")
        if not self._is_our_number(pdu):
            say("protocol-error", "not the number of this association")
        _check_clock(token.time, seen.at_ms, say)
        if side is not None:
            key, times = time_key(token.time), self._times.get(side, [])
            if key in times:
                say("replay", "time of an earlier signed PDU of this side")
            elif times and key < times[-1]:
                say("time", "time before that of an earlier signed PDU of this side")
            else:
                self._note(side, token.time)

    def _is_our_number(self, pdu: Control) -> bool:
        wanted: tuple[str | None, ...]
        client = None if self._request is None else self._request.token1.asso_id
        if pdu.kind in (SecPduKind.APPLICATION_REJECT, SecPduKind.HANDSHAKE_SEC_REJECT):
            wanted = () if client is None else (client, None)
        else:
            wanted = () if self._asso_id is None else (self._asso_id,)
            if pdu.kind is SecPduKind.HANDSHAKE_SEC_ABORT and wanted:
                wanted += (client,)
        return not wanted or pdu.token3.asso_id in wanted

    # --- transfers ---

    def _take_transfer(self, data: bytes, seen: Seen) -> dict[str, Any]:
        try:
            pdu = transfer.parse(data)
        except DecodeError as error:
            group = Group.ENCR_TRANSFER if self._suite is not None and self._suite.encrypting else Group.CLEAR_TRANSFER
            fault = words.anomaly(group, error.check, str(error), error.step)
            return {"kind": "transfer", "octets": len(data), "malformed": True, "anomalies": [fault]}
        kind = SecPduKind.ENCR_TRANSFER if pdu.encrypted else SecPduKind.CLEAR_TRANSFER
        found: list[dict[str, Any]] = []
        group = GROUP_OF[kind]

        def say(check: str, text: str) -> None:
            found.append(words.anomaly(group, check, text))

        about: dict[str, Any] = {"kind": kind.standard_name, "octets": len(data)}
        if self._suite is not None:
            about["mode"] = LOGGED_MODES[self._suite.mode]
        about["token2"] = transfer.describe(pdu)
        self._check_form(pdu, say)
        plain, opened, wrong = self._open(pdu, seen.side)
        if wrong is not None and wrong.check not in (one["check"] for one in found):
            say(wrong.check, str(wrong))
        if opened is not None:
            about["opened"] = opened
        side = seen.side or (opened or {}).get("from")
        _check_clock(pdu.time, seen.at_ms, say)
        if side is not None:
            self._check_order(pdu, self._sides.setdefault(side, _Direction()), say)
            self._follow_keys(pdu, side, say)
        if plain is not None:
            about["applData"] = _shown(plain, seen.full)
        elif not pdu.encrypted:
            about["applData"] = _shown(pdu.data, seen.full)
        about["anomalies"] = found
        return about

    def _check_form(self, pdu: Transfer, say: Any) -> None:
        """Kind, assoID, algorithm, nonce and IV against the handshake; what the keys tell comes after."""
        suite = self._suite
        if self._asso_id is not None and pdu.asso_id != self._asso_id:
            say("asso-id", "assoID of another association")
        if suite is None:
            return
        mode = LOGGED_MODES[suite.mode]
        if pdu.encrypted != suite.encrypting:
            say("wrong-kind", "the other kind of transfer was agreed")
            return
        if mode == "ae":
            if pdu.followed or pdu.auth is not None:
                say("protocol-error", "octets after applData of an authenticated encryption")
            if pdu.iv is None or len(pdu.iv) != 12:
                say("ae-iv-missing", "AE needs an IV of 12 octets")
            return
        auth = pdu.auth
        if auth is None:
            say("protocol-error", "auth missing")
        elif auth.algorithm is None or auth.algorithm != _agreed_icv(suite):
            say("icv-algorithm", "algorithm differs from the agreed one")
        elif mode.endswith("gmac") and (auth.nonce is None or len(auth.nonce) != 12):
            say("nonce-missing", "GMAC needs a nonce of 12 octets")
        if pdu.encrypted and (pdu.iv is None or len(pdu.iv) != 16):
            say("iv-missing", "CBC needs an IV of 16 octets")

    def _open(self, pdu: Transfer, side: str | None) -> tuple[bytes | None, dict[str, Any] | None, PeerError | None]:
        """(plaintext, what is said of it, what our checks would say); nothing without a key log."""
        if not self._log:
            return None, None, None
        fault: PeerError | None = None
        lacking = ""
        for keys, who, epoch in self._keys_for(pdu, side):
            key = keys.get((who, epoch))
            if key is None:
                lacking = lacking or f"the key log lacks the key of the {who}'s epoch {epoch}"
                continue
            try:
                plain = transfer.open_with(pdu, key)
            except PeerError as error:
                fault = error
                continue
            moved = self._hold(who, keys, epoch)
            client = self._sides.setdefault("client", _Direction())
            if moved and who == "client":
                client.outstanding = True  # its rekey was lost
            elif moved and not self._expects_change():
                client.early = not self._gap
            opened = {"icv": "verified", "from": who, "epoch": epoch, "mode": key.mode, "octets": len(plain)}
            return plain, opened, None
        if fault is None or lacking:
            problem = lacking or "the key log has no key for this association"
            return None, {"icv": None, "problem": problem}, None
        if self._keys is None:
            return None, {"icv": None, "problem": "no key of the key log fits"}, None
        return None, {"icv": "wrong" if fault.check == "icv" else None, "problem": str(fault)}, fault

    def _keys_for(self, pdu: Transfer, side: str | None) -> list[tuple[Epochs, str, int]]:
        """The keys that may be right, by what is known; more than one only where the handshake was not seen."""
        sides = (side,) if side is not None else ("client", "server")
        found: list[tuple[Epochs, str, int]] = []
        for who in sides:
            direction = self._sides.setdefault(who, _Direction())
            if direction.keys is not None and direction.epoch is not None:
                found.append((direction.keys, who, direction.epoch))
                following = (direction.keys, who, direction.epoch + 1)
                if who == "server" and pdu.changed_key:
                    # Usually the first under the next key; without an update outstanding it is not.
                    found.insert(len(found) - self._expects_change(), following)
                elif self._gap and following[1:] in direction.keys:
                    found.append(following)
                continue
            if self._acceptance is not None and self._request is not None:
                continue  # the handshake was seen, its keys are not in the log
            if direction.trials >= TRIALS_MAX:
                continue
            for keys in self._log.of_number(pdu.asso_id):
                for other, epoch in keys:
                    if direction.trials >= TRIALS_MAX:
                        break
                    if other == who:
                        direction.trials += 1
                        found.append((keys, who, epoch))
        return found

    def _expects_change(self) -> bool:
        client = self._sides.get("client")
        return client is None or client.outstanding or client.last is None

    def _hold(self, who: str, keys: Epochs, epoch: int) -> bool:
        """This key is the right one; whether it is the next after a known one."""
        direction = self._sides.setdefault(who, _Direction())
        moved = direction.epoch is not None and epoch > direction.epoch
        direction.keys, direction.epoch, direction.trials = keys, epoch, 0
        return moved

    @staticmethod
    def _check_order(pdu: Transfer, direction: _Direction, say: Any) -> None:
        """(time, seq) of 62351-4; what comes out of order moves nothing back."""
        key = time_key(pdu.time)
        if direction.last is not None:
            if key < direction.last:
                say("time", "time goes backwards")
                return
            if key > direction.last:
                if pdu.seq != 0:
                    say("sequence", f"seq {pdu.seq} at a new time, where 0 is due")
            elif pdu.seq <= direction.seq:
                say("replay", f"seq {pdu.seq} of this time was there before")
                return
            elif pdu.seq != direction.seq + 1:
                say("sequence", f"seq {pdu.seq} follows {direction.seq}")
        direction.last, direction.seq = key, pdu.seq

    def _follow_keys(self, pdu: Transfer, side: str, say: Any) -> None:
        """The key-update fields: who may send which, and under which key the next PDU is."""
        client = self._sides.setdefault("client", _Direction())
        if side == "client":
            if pdu.req_rekey or pdu.changed_key:
                say("protocol-error", "reqRekey or changedKey sent to a server")
            if pdu.rekey is None:
                return
            digest = sha256(pdu.rekey[1])
            if client.outstanding:
                say("unexpected-rekey", "second rekey before changedKey")
            elif self._request is not None and self._rekeys and digest in self._rekeys:
                say("protocol-error", "public value used before")
            if len(self._rekeys) < limits.OUR_REKEYS_MAX:
                self._rekeys.add(digest)
            client.outstanding, client.early = not client.early, False
            if client.epoch is not None:
                client.epoch += 1
            return
        if pdu.rekey is not None:
            say("protocol-error", "rekey sent to a client")
        if pdu.changed_key:
            if self._acceptance is not None and not (client.outstanding or client.early or self._gap):
                say("unexpected-changed-key", "changedKey without an update outstanding")
            client.outstanding = False


def _agreed_icv(suite: Suite) -> AlgorithmId | None:
    mode = suite.encr_mode
    return mode.icv[0] if isinstance(mode, NonAeaOffer) else None


def _check_clock(time: str, at_ms: int | None, say: Any) -> None:
    if at_ms is None:
        return
    ahead = time_utc_ms(time) - at_ms
    if abs(ahead) > limits.SPEC_CLOCK_SKEW * 1000:
        say("time", f"time is {abs(ahead) // 1000} s {'after' if ahead > 0 else 'before'} the moment of the capture")


def _shown(appl_data: bytes, full: bool) -> dict[str, Any]:
    about: dict[str, Any] = {"mms": words.mms_kind(appl_data), "octets": len(appl_data)}
    if full:
        about["hex"] = appl_data[:HEX_MAX].hex()
    return about
