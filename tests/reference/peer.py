"""A small peer that speaks the whole protocol: handshake, transfers, key update, release, aborts. Sans-I/O.

Every method that sends returns the SecPDU; every method that receives raises ``Fault`` where it would abort. It pins
the peer's certificate instead of validating it, and follows one association from start to end.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from . import keys, secpdu
from .keys import DhKey, Private
from .secpdu import HMAC_SHA256, NULL, SignedPdu, Token, algorithm, meaning
from .tlv import Components, Fault, bad, boolean, only, read
from .transfer import SKEW_MS, Opened, Receiver, Sender, Suite, Window, time_digits, time_ms, time_text

MMS_OSI = "IEC 61850-8-1"


@dataclass
class ReferencePeer:
    """One side of one association.

    Arguments:
        client: the role.
        certificate, key: own certificate as DER and its private key.
        suite: what the client offers and the server insists on.
        group: Diffie-Hellman group, likewise.
        peer_certificate: the only one that is accepted; None accepts any.
        cert_path: own path as DER, issuer first.
        number: own association number as text.
        pp: protected protocol.
        dh_secret, deterministic: fix the Diffie-Hellman value and the nonces of ECDSA, for test vectors.

    Attributes:
        peer: the decoded HandshakeReq or HandshakeAcc of the other side.
        asso_id: ``n:m`` once there is an association.
        tx, rx: the two directions.
    """

    client: bool
    certificate: bytes
    key: Private
    suite: Suite
    group: int = 23
    peer_certificate: bytes | None = None
    cert_path: tuple[bytes, ...] = ()
    number: str = field(default_factory=lambda: str(secrets.randbelow(1000)))
    pp: str = MMS_OSI
    dh_secret: int | None = None
    deterministic: bool = False

    peer: SignedPdu | None = None
    asso_id: str = ""
    req_rekey: bool = False

    def __post_init__(self) -> None:
        self._dh = DhKey(self.group, self.dh_secret)
        self._h1 = b""
        self._h2 = b""
        self._time = 0
        self._peer_times: list[str] = []
        self._pending: tuple[Sender, Receiver] | None = None  # of a key update that is under way
        self._used = {self._dh.public}
        self._changed_key = False
        self.tx: Sender
        self.rx: Receiver

    # --- handshake --------------------------------------------------------------------------------------------------

    def start(self, appl_data: bytes | None, now_ms: int) -> bytes:
        """HandshakeReq of a client."""
        self.asso_id = self.number
        return self._handshake("HandshakeReq", appl_data, now_ms)

    def accept(self, appl_data: bytes | None, now_ms: int) -> bytes:
        """HandshakeAcc of a server that has taken a HandshakeReq."""
        assert self.peer is not None
        self.asso_id = f"{self.peer.token['assoID']}:{self.number}"
        secpdu_octets = self._handshake("HandshakeAcc", appl_data, now_ms)
        self._open_association()
        return secpdu_octets

    def take_handshake(self, data: bytes, now_ms: int) -> bytes | None:
        """HandshakeReq at a server, HandshakeAcc at a client. Returns applData."""
        pdu = secpdu.decode("AARE" if self.client else "AARQ", data)
        if pdu.name != ("HandshakeAcc" if self.client else "HandshakeReq"):
            raise Fault("unexpected", pdu.name)
        token = pdu.token
        self._check_signature(pdu)
        if pdu.pp != self.pp:
            raise Fault("pp")
        if self.peer_certificate not in (None, token["pkCert"]):
            raise Fault("certificate")
        if token["version"] != {0} and (self.client or 0 not in token["version"]):
            raise Fault("version")
        self._check_time(token["time"], now_ms)
        own, _, theirs = token["assoID"].partition(":")
        if (own != self.number or not theirs) if self.client else bool(theirs):
            raise bad("assoID")
        groups = dict(token["dhKey"])
        if self.group not in groups or (self.client and len(groups) > 1):
            raise Fault("group")
        if meaning(token["hmac"])[0] != HMAC_SHA256:
            raise Fault("hmac")
        self._check_mode(token)
        self.peer = pdu
        self._peer_dh = groups[self.group]
        if self.client:
            self.asso_id = token["assoID"]
            self._h2 = keys.h2(pdu.tbs, self._h1)
            self._open_association()
        else:
            self._h1 = keys.h1(pdu.tbs)
        return pdu.appl_data

    def _handshake(self, name: str, appl_data: bytes | None, now_ms: int) -> bytes:
        suite = self.suite
        if suite.aea:
            mode = ("aea", [algorithm(*suite.aea)])
        else:
            assert suite.icv is not None
            mode = ("non-aea", [algorithm(suite.encr)] if suite.encr else None, [algorithm(*suite.icv)])
        token: Token = {
            "sigAlg": algorithm(keys.algorithm_of(self.key)),
            "pkCert": self.certificate,
            "certPath": list(self.cert_path),
            "version": {0},
            "assoID": self.asso_id,
            "dhKey": [(self.group, self._dh.public)],
            "hmac": algorithm(HMAC_SHA256),
            "time": self._next_time(now_ms),
            "encr-mode": mode,
            "confParams": {1} if suite.aea or suite.encr else set(),
        }
        tbs = secpdu.encode_tbs(name, token, appl_data=appl_data)
        if self.client:
            self._h1 = keys.h1(tbs)
        else:
            self._h2 = keys.h2(tbs, self._h1)
        self._start_time = token["time"]
        return self._signed(name, self.pp, tbs)

    def _check_mode(self, token: Token) -> None:
        mode, suite = token["encr-mode"], self.suite
        lists = [mode[1]] if mode[0] == "aea" else [mode[1] or [], mode[2]]
        wanted = [suite.aea] if suite.aea else [suite.encr and (suite.encr, 0), suite.icv]
        if len(lists) != len(wanted):
            raise Fault("mode")
        for offered, own in zip(lists, wanted, strict=True):
            pairs = [meaning(one)[:2] for one in offered]
            if (own not in pairs if own else bool(pairs)) or (self.client and len(pairs) > 1):
                raise Fault("mode")

    def _cut(self, z: bytes) -> dict[str, bytes]:
        return keys.cut(z, self._h2, self.suite.mac_size, self.suite.aes_size)

    def _names(self) -> tuple[str, str]:
        return ("client", "server") if self.client else ("server", "client")

    def _open_association(self) -> None:
        assert self.peer is not None
        okm = self._cut(self._dh.shared(self._peer_dh))
        own, other = self._names()
        suite = self.suite
        self.tx = Sender(suite, self.asso_id, okm[f"IK_{own}"], okm[f"EK_{own}"], self._start_time)
        window = Window(self.peer.token["time"])
        self.rx = Receiver(suite, self.asso_id, okm[f"IK_{other}"], okm[f"EK_{other}"], window)

    # --- data transfer ----------------------------------------------------------------------------------------------

    def send(self, appl_data: bytes, now_ms: int) -> bytes:
        changed_key, self._changed_key = self._changed_key, False
        return self.tx.seal(appl_data, now_ms, changed_key=changed_key, req_rekey=self.req_rekey and not changed_key)

    def update_keys(self, now_ms: int, appl_data: bytes = NULL, dh_secret: int | None = None) -> bytes:
        """The carrier of a client's key update; from the next PDU on it sends under the new keys."""
        assert self.client
        assert self._pending is None
        fresh = DhKey(self.group, dh_secret)
        carrier = self.tx.seal(appl_data, now_ms, rekey=(self.group, fresh.public))
        tx, self._pending = self._new_keys(fresh.shared(self._peer_dh))
        self.tx = tx
        return carrier

    def _new_keys(self, z: bytes) -> tuple[Sender, tuple[Sender, Receiver]]:
        okm = self._cut(z)
        own, other = self._names()
        tx = Sender(self.suite, self.asso_id, okm[f"IK_{own}"], okm[f"EK_{own}"], "", self.tx)
        rx = Receiver(self.suite, self.asso_id, okm[f"IK_{other}"], okm[f"EK_{other}"], self.rx.window)
        return tx, (tx, rx)

    def receive(self, data: bytes, now_ms: int) -> Opened:
        """A transfer; key updates happen on the way."""
        if self.client and _says_changed_key(data):
            if self._pending is None:
                self.rx.open(data, now_ms)
                raise Fault("changed-key")
            opened = self._pending[1].open(data, now_ms)
            self.rx, self._pending = self._pending[1], None
        else:
            opened = self.rx.open(data, now_ms)
        if opened.rekey is not None:
            if self.client or opened.rekey[0] != self.group or opened.rekey[1] in self._used:
                raise bad("rekey")
            if self._changed_key:
                raise Fault("rekey")
            self._used.add(opened.rekey[1])
            self.tx, (_, self.rx) = self._new_keys(self._dh.shared(opened.rekey[1]))
            self._changed_key = True
            self.req_rekey = False
        elif not self.client and (opened.req_rekey or opened.changed_key):
            raise bad("field of a server")
        return opened

    @property
    def update_outstanding(self) -> bool:
        """A client's own key update that the server has not answered, or a server's answer that is due."""
        return self._pending is not None or self._changed_key

    # --- control PDUs -----------------------------------------------------------------------------------------------

    def control(self, name: str, now_ms: int, diag: int | None = None, appl_data: bytes | None = None) -> bytes:
        """Any of the signed SecPDUs with ClearToken3."""
        token: Token = {
            "sigAlg": algorithm(keys.algorithm_of(self.key)),
            "version": {0},
            "time": self._next_time(now_ms),
            "pkCert": self.certificate,
            "certPath": list(self.cert_path),
        }
        asso_id = self.asso_id or (self.peer.token["assoID"] if self.peer else "")
        if asso_id:
            token["assoID"] = asso_id
        return self._signed(name, None, secpdu.encode_tbs(name, token, diag, appl_data))

    def take_control(self, carrier: str, data: bytes, now_ms: int) -> SignedPdu:
        """A reject, abort or release; carrier is AARE, ABRT, RLRQ or RLRE."""
        pdu = secpdu.decode(carrier, data)
        token = pdu.token
        if "dhKey" in token:
            raise Fault("unexpected", pdu.name)
        self._check_signature(pdu)
        pinned = self.peer.token["pkCert"] if self.peer else self.peer_certificate
        if pinned not in (None, token["pkCert"]):
            raise Fault("certificate")
        if 0 not in token["version"]:
            raise Fault("version")
        if token.get("assoID", self.asso_id if self.peer is None else None) != self.asso_id:
            raise bad("assoID")
        self._check_time(token["time"], now_ms)
        return pdu

    # --- helpers ----------------------------------------------------------------------------------------------------

    def _next_time(self, now_ms: int) -> str:
        """Strictly later than every time signed before."""
        self._time = max(now_ms, self._time + 1)
        return time_text(self._time)

    def _signed(self, name: str, pp: str | None, tbs: bytes) -> bytes:
        algo = algorithm(keys.algorithm_of(self.key))
        return secpdu.assemble(name, pp, tbs, algo, keys.sign(self.key, tbs, self.deterministic))

    def _check_signature(self, pdu: SignedPdu) -> None:
        sig_alg = meaning(pdu.token["sigAlg"])
        if sig_alg[0] not in (secpdu.RSA_SHA256, secpdu.ECDSA_SHA256):
            raise Fault("sig-alg")
        if sig_alg != meaning(pdu.algo):
            raise Fault("sig-mismatch")
        keys.verify(pdu.token["pkCert"], sig_alg[0], pdu.tbs, pdu.signature)

    def _check_time(self, text: str, now_ms: int) -> None:
        if abs(time_ms(text) - now_ms) > SKEW_MS:
            raise Fault("time")
        digits = time_digits(text)
        if self._peer_times and digits < self._peer_times[0]:
            raise Fault("time")
        if digits in self._peer_times:
            raise Fault("replay")
        self._peer_times.append(digits)


def _says_changed_key(data: bytes) -> bool:
    """changedKey of a transfer that is not verified yet: it selects the key."""
    tbp = read(only(data).content, indefinite=True)
    parts = Components(read(tbp.content, indefinite=True).content)
    flag = next((item for item in parts.left if item.tag == 0x83), None)
    return flag is not None and boolean(flag)
