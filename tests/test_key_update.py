"""Key update: by interval, count, request and call; idle and under load, several in sequence; every misuse."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import event_record
from engine_pair import (
    ANSWER,
    CLIENT,
    READ,
    SERVER,
    ConnectionPair,
    authority,
    config,
    credential,
)
from fastsec import limits
from fastsec._core.pk import Ephemeral
from fastsec.association import Environment, KeysChanged, Send
from fastsec.config import Policy
from fastsec.errors import Aborted, HandshakeError, LimitReached, LocalError
from fastsec.key_update import Phase
from fastsec.pki.path import TrustStore
from fastsec.profile import NULL_APPL_DATA, DtDiag
from fastsec.secpdu.fields import Carrier, SecPduKind
from forge import replies
from test_handshake import MODES

HOUR = 3600


def make(client: Policy | None = None, server: Policy | None = None, **more: Any) -> ConnectionPair:
    return ConnectionPair(config(CLIENT, policy=client), config(SERVER, policy=server), **more).open().confirm()


def flags(pair: ConnectionPair, who: str) -> list[tuple[bool, bool, bool]]:
    """(rekey, reqRekey, changedKey) of each transfer that ``who`` sent."""
    from fastsec._core.guard import scan_transfer

    return [scan_transfer(sent.pdu)[1:] for sender, sent in pair.wire if sender == who and sent.carrier is Carrier.DATA]


CARRIER, ASKS, CHANGED, NOTHING = (True, False, False), (False, True, False), (False, False, True), (False,) * 3


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("group", [14, 23, 28])
def test_one_update_in_every_mode_and_group(mode: str, group: int) -> None:
    policy = replace(MODES[mode], groups=(group,))
    pair = make(policy, replace(policy, encryption=policy.encryption))
    old = [(side.association.tx, side.association.rx) for side in (pair.client, pair.server)]
    pair.client.update_keys()
    pair.move()
    pair.confirm()
    assert flags(pair, "client") == [NOTHING, CARRIER, NOTHING]
    assert flags(pair, "server") == [NOTHING, CHANGED, NOTHING]
    assert [side.association.key_updates for side in (pair.client, pair.server)] == [1, 1]
    for side, (tx, rx) in zip((pair.client, pair.server), old, strict=True):
        assert side.association.tx is not tx
        assert side.association.rx is not rx
        with pytest.raises(LocalError):
            tx.seal(READ, pair.now.utc_ms)
        with pytest.raises(LocalError):
            rx.open(b"\x30\x00", pair.now.utc_ms)
        assert side.association.fast_tx
        assert side.association.fast_rx
    assert pair.client.association._keys.phase is Phase.REST
    assert not pair.client.events
    assert not pair.server.events


def test_idle_associations_update_every_interval_for_days() -> None:
    pair = make()
    pair.elapse(5 * 24 * HOUR)
    assert pair.client.association._keys.count == 5 * 24
    assert pair.server.association._keys.count == 5 * 24
    pair.confirm()
    assert pair.client.received == [ANSWER, ANSWER]  # NULL transfers deliver nothing


def test_many_updates_in_sequence_under_load() -> None:
    pair = make()
    sent = [1, 1]
    for round_ in range(30):
        for _ in range(7):
            pair.client.send(READ)
            pair.server.send(ANSWER)
            sent[0] += 1
            sent[1] += 1
            if len(pair.link) > 3:
                pair.deliver(*pair.link.popleft())
        if round_ % 2:
            pair.server.update_keys()
        else:
            pair.client.update_keys()
        pair.client.send(READ)
        sent[0] += 1
        pair.move()
        pair.elapse(61)
    pair.move()
    assert len(pair.server.received) == sent[0]
    assert len(pair.client.received) == sent[1]
    assert pair.client.association._keys.count == 30
    assert not pair.client.events
    assert not pair.server.events


def test_sending_goes_on_while_the_new_keys_are_derived() -> None:
    pair = make()
    pair.client.hold_jobs = pair.server.hold_jobs = True
    pair.client.update_keys()
    pair.client.send(READ)  # old keys
    pair.client.run_jobs()  # the carrier goes out
    pair.client.send(READ)  # new keys
    pair.move()
    assert pair.server.association.busy  # whatever follows the carrier waits
    assert len(pair.server.received) == 2
    pair.server.send(ANSWER)  # old keys
    pair.server.run_jobs()  # changedKey goes out, the waiting PDU is opened
    assert len(pair.server.received) == 3
    pair.server.send(ANSWER)  # new keys
    pair.client.hold_jobs = pair.server.hold_jobs = False
    pair.move()
    assert len(pair.client.received) == 3
    pair.confirm()
    assert not pair.client.events
    assert not pair.server.events


def test_by_message_count() -> None:
    pair = make(Policy(rekey_messages=10), Policy(rekey_messages=20))
    for _ in range(8):
        pair.client.send(READ)
    assert not pair.client.association.tx.due
    pair.client.send(READ)
    assert pair.client.association.tx.due
    pair.client.tick()
    assert not pair.client.association.tx.due
    pair.move()
    assert pair.client.association._keys.count == 1
    assert not pair.client.association.tx.due
    pair.elapse(61)
    for _ in range(19):
        pair.server.send(ANSWER)
    pair.server.tick()
    pair.move()
    assert flags(pair, "server")[-2:] == [ASKS, CHANGED]
    assert pair.server.association._keys.count == 2


def test_server_asks_on_every_pdu_until_the_rekey_comes() -> None:
    pair = make()
    pair.on_wire = lambda who, sent: None if who == "client" else sent
    pair.client.hold_jobs = True
    pair.server.update_keys()
    pair.server.send(ANSWER)
    pair.server.send(ANSWER)
    assert flags(pair, "server") == [NOTHING, ASKS, ASKS, ASKS]
    pair.on_wire = None
    pair.client.hold_jobs = False
    pair.move()
    pair.client.run_jobs()
    pair.move()
    pair.server.send(ANSWER)
    pair.move()
    assert flags(pair, "server")[-2:] == [CHANGED, NOTHING]
    assert pair.client.association._keys.count == 1


def test_the_server_asks_no_more_once_a_rekey_has_come() -> None:
    pair = make()
    pair.client.hold_jobs = pair.server.hold_jobs = True
    pair.server.update_keys()
    pair.move()
    pair.client.run_jobs()
    pair.move()  # the carrier is there, the new keys are not
    pair.server.send(ANSWER)
    assert flags(pair, "server")[-2:] == [ASKS, NOTHING]
    pair.server.run_jobs()
    pair.server.send(ANSWER)
    assert flags(pair, "server")[-2:] == [CHANGED, NOTHING]


def test_the_client_keeps_its_distance_and_remembers_the_wish() -> None:
    pair = make()
    pair.client.update_keys()
    pair.move()
    pair.elapse(10)
    pair.server.update_keys()
    pair.move()
    pair.client.update_keys()
    pair.move()
    assert pair.client.association._keys.count == 1
    pair.elapse(49)
    assert pair.client.association._keys.count == 1
    pair.elapse(1.5)
    assert pair.client.association._keys.count == 2
    pair.elapse(100)
    assert pair.client.association._keys.count == 2


def test_req_rekey_is_ignored_while_one_is_outstanding() -> None:
    pair = make()
    pair.server.hold_jobs = True
    pair.client.update_keys()
    pair.server.update_keys()  # before the carrier is there
    pair.move()
    pair.server.hold_jobs = False
    pair.server.run_jobs()
    pair.move()
    pair.elapse(200)
    assert pair.client.association._keys.count == 1
    assert not pair.server.association._keys.asking


def test_keys_changed_is_told_whenever_a_guard_changes() -> None:
    pair = make()
    before = {side: len(side.seen(KeysChanged)) for side in (pair.client, pair.server)}
    pair.client.update_keys()
    pair.move()
    assert len(pair.client.seen(KeysChanged)) == before[pair.client] + 2
    assert len(pair.server.seen(KeysChanged)) == before[pair.server] + 2


# --- strict peers -----------------------------------------------------------------------------------------------------


def test_a_strict_peer_gets_no_null_transfer_the_update_rides_on_traffic() -> None:
    strict = Policy(strict_peer=True)
    pair = ConnectionPair(config(CLIENT, policy=strict), config(SERVER, policy=strict)).open()
    pair.elapse(70)
    assert flags(pair, "client") == flags(pair, "server") == []  # no NULL after 2 s, no end after 60 s
    pair.confirm()
    pair.client.update_keys()
    pair.move()
    assert flags(pair, "client") == [NOTHING]
    assert not pair.client.association.fast_tx  # the next PDU must come through the engine
    pair.client.send(READ)
    pair.move()
    assert flags(pair, "client") == [NOTHING, CARRIER]
    assert pair.client.association.fast_tx
    assert flags(pair, "server") == [NOTHING]
    assert not pair.server.association.fast_tx
    pair.client.send(READ)
    pair.server.send(ANSWER)
    pair.move()
    assert flags(pair, "server") == [NOTHING, CHANGED]
    assert pair.server.association.fast_tx
    assert pair.server.received == [READ] * 3
    pair.elapse(100)
    pair.server.update_keys()
    pair.move()
    assert flags(pair, "server") == [NOTHING, CHANGED]
    pair.server.send(ANSWER)
    pair.move()
    pair.client.send(READ)
    pair.move()
    pair.server.send(ANSWER)
    pair.move()
    assert flags(pair, "server") == [NOTHING, CHANGED, ASKS, CHANGED]
    pair.confirm()


def test_a_wish_of_a_strict_server_waits_for_its_changed_key() -> None:
    """reqRekey never goes together with changedKey."""
    strict = Policy(strict_peer=True)
    pair = make(strict, strict)
    pair.client.update_keys()
    pair.client.send(READ)
    pair.move()
    pair.server.update_keys()
    pair.server.send(ANSWER)
    pair.move()
    pair.elapse(1)
    pair.server.send(ANSWER)
    pair.move()
    assert flags(pair, "server") == [NOTHING, CHANGED, ASKS]


# --- misuse -----------------------------------------------------------------------------------------------------------


def rekey_value(group: int = 23) -> tuple[int, bytes]:
    return group, Ephemeral.generate(group).public


def inject(pair: ConnectionPair, who: str, **marks: Any) -> None:
    """``who`` sends a transfer with key fields that its engine would not set."""
    side = getattr(pair, who)
    tx = side.association.tx
    for name, value in marks.items():
        setattr(tx, name, value)
    pair.deliver(pair.other(side), Send(Carrier.DATA, tx.seal(NULL_APPL_DATA, pair.now.utc_ms)))
    for name in marks:
        setattr(tx, name, None if name == "rekey" else False)
    pair.move()


def expect(pair: ConnectionPair, who: str, event: str, diag: DtDiag) -> None:
    """``who`` raised the event and aborted with the diagnostic; the other side learnt it."""
    side = getattr(pair, who)
    assert side.events == [event]
    abort = replies(pair, who)[-1]
    assert abort.kind is SecPduKind.DT_SEC_ABORT
    assert abort.diag == diag
    assert side.error.code == diag
    assert isinstance(pair.other(side).error, Aborted)
    assert pair.other(side).error.code == diag


@pytest.mark.event("IEC62351-4:11.11", "IEC62351-4:6.16")
def test_changed_key_without_an_update() -> None:
    pair = make()
    inject(pair, "server", changed_key=True)
    expect(pair, "client", "ENCR_UNEXP_CHG_KEYS_IND", DtDiag.UNEXPECTED_CHANGED_KEYS)


@pytest.mark.event("IEC62351-4:10.10", "IEC62351-4:6.16")
def test_changed_key_without_an_update_in_an_integrity_mode() -> None:
    integrity = Policy(encryption="forbidden")
    pair = make(integrity, integrity)
    inject(pair, "server", changed_key=True)
    expect(pair, "client", "CLEAR_UNEXP_CHG_KEYS_IND", DtDiag.UNEXPECTED_CHANGED_KEYS)


def test_changed_key_under_the_old_key_is_a_bad_icv() -> None:
    """With an update outstanding changedKey selects the new key, never by trial."""
    pair = make()
    pair.server.hold_jobs = True
    pair.client.update_keys()
    pair.move()
    inject(pair, "server", changed_key=True)
    assert pair.client.events == ["ENCR_BAD_ICV"]


@pytest.mark.parametrize(
    "integrity",
    event_record.marked([False, True], lambda integrity: ["IEC62351-4:10.9" if integrity else "IEC62351-4:11.10"]),
)
def test_second_rekey_before_changed_key(integrity: bool) -> None:
    """The server's changedKey waits for traffic; a second rekey meanwhile is unexpected-dhPublicKey."""
    base = Policy(strict_peer=True, encryption="forbidden" if integrity else "required")
    pair = make(base, base)
    pair.client.update_keys()
    pair.client.send(READ)
    pair.move()
    inject(pair, "client", rekey=rekey_value())
    event = "CLEAR_UNEXP_RE_KEY_REQ" if integrity else "ENCR_UNEXP_RE_KEY_REQ"
    expect(pair, "server", event, DtDiag.UNEXPECTED_DH_PUBLIC_KEY)


@pytest.mark.parametrize(
    ("who", "marks"),
    [
        ("server", {"rekey": rekey_value()}),
        ("client", {"req_rekey": True}),
        ("client", {"changed_key": True}),
        ("client", {"rekey": rekey_value(28)}),
        ("client", {"rekey": (23, b"\x04" + bytes(64))}),
        ("client", {"rekey": (23, b"\x04" + bytes(255))}),
    ],
    ids=["rekey to a client", "reqRekey to a server", "changedKey to a server", "group", "off curve", "size"],
)
def test_misuse_that_is_a_protocol_error(who: str, marks: dict[str, Any]) -> None:
    pair = make()
    inject(pair, who, **marks)
    expect(pair, "client" if who == "server" else "server", "ENCR_DATA_PROT_ERROR_TRF", DtDiag.PROTOCOL_ERROR)


@pytest.mark.parametrize("whose", ["client's", "server's", "last update's"])
def test_a_value_that_was_used_before_would_bring_old_keys_back(whose: str) -> None:
    from fastsec.secpdu.der import decode

    pair = make()
    at = 0 if whose == "client's" else 1
    carrier = Carrier.ASSOCIATE_REQ if at == 0 else Carrier.ASSOCIATE_RSP
    value = decode(carrier, pair.wire[at][1].pdu).token1.dh_key[0]
    if whose == "last update's":
        pair.client.hold_jobs = True
        pair.client.update_keys()
        (job,) = pair.client.jobs
        job.run()
        value = job.result.public
        pair.client.hold_jobs = False
        pair.client.run_jobs()
        pair.client.association.job_done(job, pair.now)
        pair.collect(pair.client)
        pair.move()
        pair.elapse(100)
    inject(pair, "client", rekey=(value.group, value.public))
    expect(pair, "server", "ENCR_DATA_PROT_ERROR_TRF", DtDiag.PROTOCOL_ERROR)


@pytest.mark.parametrize("group", [23, 28])
def test_the_mirrored_point_gives_the_same_secret_and_is_refused_too(group: int) -> None:
    """Z is the x-coordinate alone, which a point and its negative share."""
    from fastsec.secpdu.der import decode

    policy = Policy(groups=(group,))
    pair = make(policy, policy)
    point = decode(Carrier.ASSOCIATE_REQ, pair.wire[0][1].pdu).token1.dh_key[0].public
    prime = {
        23: 2**256 - 2**224 + 2**192 + 2**96 - 1,
        28: 0xA9FB57DBA1EEA9BC3E660A909D838D726E3BF623D52620282013481D1F6E5377,
    }[group]
    mirrored = point[:33] + (prime - int.from_bytes(point[33:], "big")).to_bytes(32, "big")
    own = Ephemeral.generate(group)
    assert own.derive(point).reveal() == own.derive(mirrored).reveal()
    inject(pair, "client", rekey=(group, mirrored))
    expect(pair, "server", "ENCR_DATA_PROT_ERROR_TRF", DtDiag.PROTOCOL_ERROR)


@pytest.mark.parametrize(("seconds", "ok"), [(54.9, False), (55.1, True)])
def test_the_server_wants_55_seconds_between_updates(seconds: float, ok: bool) -> None:
    pair = make()
    pair.client.update_keys()
    pair.move()
    pair.elapse(seconds)
    inject(pair, "client", rekey=rekey_value())
    if ok:
        # The client's engine knows nothing of this carrier and cannot open the answer; the server took it.
        assert pair.server.events == ["ALARM_DTSEC_ABT"]
        assert flags(pair, "server")[-1] == CHANGED
    else:
        expect(pair, "server", "ENCR_DATA_PROT_ERROR_TRF", DtDiag.PROTOCOL_ERROR)


def test_the_distance_is_monotonic_not_wall_clock() -> None:
    from fastsec.instant import Instant

    pair = make()
    pair.client.update_keys()
    pair.move()
    pair.now = Instant(pair.now.utc_ms + 100_000, pair.now.mono_ms + 1000)
    inject(pair, "client", rekey=rekey_value())
    expect(pair, "server", "ENCR_DATA_PROT_ERROR_TRF", DtDiag.PROTOCOL_ERROR)


# --- answers that do not come -----------------------------------------------------------------------------------------


def silent_server(environment: Environment | None = None) -> ConnectionPair:
    """The carrier is lost on the way to a server that goes on sending under its old keys."""
    pair = make(environment=environment)
    pair.on_wire = lambda who, sent: None if who == "client" and sent.carrier is Carrier.DATA else sent
    pair.client.update_keys()
    pair.on_wire = None
    return pair


@pytest.mark.parametrize("timeout", [limits.OUR_CARRIER, limits.OUR_CARRIER_XMPP])
def test_changed_key_missing_though_the_server_sends(timeout: int) -> None:
    pair = silent_server(Environment(carrier_timeout_s=timeout))
    pair.elapse(timeout - 1)
    pair.server.send(ANSWER)
    pair.move()
    assert not pair.client.ended
    assert pair.client.association.fast_rx
    pair.elapse(2)
    assert not pair.client.association.fast_rx  # the next one is judged by the engine
    pair.server.send(ANSWER)
    pair.move()
    expect(pair, "client", "ENCR_DATA_PROT_ERROR_TRF", DtDiag.PROTOCOL_ERROR)


def test_a_silent_server_is_no_fault_but_after_a_day_the_client_ends() -> None:
    pair = silent_server()
    pair.on_wire = lambda who, sent: None if who == "server" else sent
    pair.elapse(23 * HOUR)
    assert not pair.client.ended
    assert pair.client.association._keys.count == 1  # the interval waits
    pair.elapse(1.1 * HOUR)
    assert isinstance(pair.client.error, LimitReached)


def test_a_server_that_asks_in_vain_ends_after_interval_and_grace() -> None:
    pair = make(None, Policy(rekey_interval=limits.SPEC_REKEY_INTERVAL_MIN))
    pair.client.association._policy = Policy(rekey_interval=86_400)
    pair.on_wire = lambda who, sent: None if who == "server" and sent.carrier is Carrier.DATA else sent
    pair.elapse(limits.SPEC_REKEY_INTERVAL_MIN + 1)
    assert pair.server.association._keys.asking
    pair.elapse(limits.SPEC_REKEY_INTERVAL_MIN + limits.OUR_REKEY_GRACE - 5)
    assert not pair.server.ended
    pair.elapse(10)
    assert isinstance(pair.server.error, LimitReached)
    assert replies(pair, "server")[-1].kind is SecPduKind.APPL_ABORT


@pytest.mark.parametrize("who", ["client", "server"])
def test_at_most_4096_updates(who: str) -> None:
    pair = make()
    getattr(pair, who).association._keys.count = limits.OUR_REKEYS_MAX
    if who == "client":
        pair.client.update_keys()
    else:
        inject(pair, "client", rekey=rekey_value())
    pair.move()
    assert isinstance(getattr(pair, who).error, LimitReached)
    assert getattr(pair, who).error.limit == "OUR_REKEYS_MAX"


def test_the_last_message_of_a_key_ends_the_association(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard refuses to seal beyond its limit: nothing more is sent, ApplAbort, LimitReached."""

    class Spent:
        count = limits.OUR_MESSAGES_PER_KEY
        soft_limit = limits.OUR_MESSAGES_PER_KEY
        due = True

        def seal(self, appl_data: bytes, utc_ms: int) -> bytes:
            raise LimitReached("OUR_MESSAGES_PER_KEY")

        def wipe(self) -> None: ...

    for call in ("send", "tick"):
        pair = make()
        pair.client.association.tx = Spent()
        if call == "send":
            pair.client.send(READ)
        else:
            pair.client.tick()
        pair.move()
        assert isinstance(pair.client.error, LimitReached)
        assert pair.client.error.limit == "OUR_MESSAGES_PER_KEY"
        assert isinstance(pair.server.error, Aborted)


# --- certificates again -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["key update", "24 h"])
def test_a_certificate_revoked_meanwhile_ends_the_association(how: str) -> None:
    pair = make(Policy(rekey_interval=86_400), Policy(rekey_interval=86_400))
    pair.confirm()
    root = authority("one")
    before = root.crl
    crl = root.revoke(credential(SERVER).certificate)
    root.crl = before  # the authority is shared by all tests
    trust = TrustStore((root.root,), (crl,))
    pair.endpoints[0].fresh_trust = trust  # the CRL was loaded anew
    if how == "key update":
        pair.client.update_keys()
        pair.move()
    else:
        pair.elapse(24 * HOUR + 5)
    assert isinstance(pair.client.error, HandshakeError)
    assert pair.client.error.check == "revoked"
    assert SecPduKind.APPL_ABORT in [pdu.kind for pdu in replies(pair, "client")]


def test_an_expired_certificate_ends_the_association_at_the_next_check() -> None:
    pair = make()
    left = pair.client.association.peer.not_after_ms - pair.now.utc_ms
    days = left // 86_400_000
    from fastsec.instant import Instant

    pair.now = Instant(pair.now.utc_ms + (days + 1) * 86_400_000, pair.now.mono_ms + 1000)
    pair.client.update_keys()
    pair.move()
    assert isinstance(pair.client.error or pair.server.error, HandshakeError)


def test_max_association_lifetime() -> None:
    pair = make(Policy(max_association_lifetime=7200))
    pair.elapse(7199)
    assert not pair.client.ended
    pair.elapse(2)
    assert isinstance(pair.client.error, LimitReached)
    assert pair.client.error.limit == "max_association_lifetime"
    assert isinstance(pair.server.error, Aborted)
