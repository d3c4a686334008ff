"""What is known about revocation, and what follows from it: lists, answers of responders, failures (62351-9 §3).

``Revocations`` has no clock and no socket. Files, HTTP and waiting are ``fastsec.aio.revocation``'s work, which puts in
here what it got; ``judge`` looks up and never waits. Where it would need an answer that is not there it returns a
``Question``, if the caller may have it asked. Threads of handshakes read without a lock; who writes replaces whole
tuples, under the lock that the service brings.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit

from fastsec import limits
from fastsec.errors import ConfigError, HandshakeError, PeerError
from fastsec.events import SecurityEvent
from fastsec.pki import oids
from fastsec.pki.certificate import Certificate, name_text
from fastsec.pki.crl import Revocable, RevocationList
from fastsec.pki.findings import Cert, Revocation, certificate_event, revocation_event

GIVEN: Final = ""  # the source of lists that came with a TrustStore
REASONS: Final = {
    0: "unspecified",
    1: "keyCompromise",
    2: "cACompromise",
    3: "affiliationChanged",
    4: "superseded",
    5: "cessationOfOperation",
    6: "certificateHold",
    8: "removeFromCRL",
    9: "privilegeWithdrawn",
    10: "aACompromise",
    11: "weakAlgorithmOrKey",
}
_OCSP: Final = ("off", "needed", "always")
_NONCE: Final = ("required", "wanted", "off")


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationPolicy:
    """Where to ask, and what to do if nobody answers.

    Attributes:
        hard_fail: refuse a handshake if nobody says that a certificate is not revoked; else warn. Open associations
            are warned about only (62351-4: availability).
        unknown: ``warn`` or ``refuse`` a certificate that a responder does not know.
        ocsp: ``off``; ``needed``: asked where no current list says that a certificate is in order; ``always``: asked
            also where one does, and both have to agree.
        responders: URLs of OCSP responders, instead of those that certificates name.
        lists: URLs of CRLs that are kept up to date from the start.
        hosts: hosts that URLs of certificates may name, ``host`` or ``host:port``; ``*.example.org`` for all below a
            domain, ``*`` for any but this machine and link-local addresses. Empty: such URLs are not used. What is
            configured here as a URL needs no entry.
        nonce: ``required``; ``wanted``: sent, and if the answer has one it must be the same; ``off``.
        cert_id: hash that identifies the issuer in a request: ``sha1``, which every responder knows, or ``sha256``.
            Nothing is protected by it.
        timeout: seconds that a handshake waits for answers, at most.
    """

    hard_fail: bool = False
    unknown: Literal["warn", "refuse"] = "warn"
    ocsp: Literal["off", "needed", "always"] = "off"
    responders: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    nonce: Literal["required", "wanted", "off"] = "wanted"
    cert_id: Literal["sha1", "sha256"] = "sha1"
    timeout: float = limits.OUR_REVOCATION_TIMEOUT

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("unknown", self.unknown, ("warn", "refuse")),
            ("ocsp", self.ocsp, _OCSP),
            ("nonce", self.nonce, _NONCE),
            ("cert_id", self.cert_id, ("sha1", "sha256")),
        ):
            if value not in allowed:
                raise ConfigError(f"revocation {name} must be one of {', '.join(allowed)}")
        for url in (*self.responders, *self.lists):
            if web_address(url) is None:
                raise ConfigError(f"revocation: {url} is not an http URL")
        if not 0.1 <= self.timeout <= limits.OUR_REVOCATION_TIMEOUT_MAX:
            raise ConfigError(f"revocation timeout is 0.1 to {limits.OUR_REVOCATION_TIMEOUT_MAX} s")

    def allows(self, url: str) -> bool:
        """Whether a URL that a certificate names may be used."""
        if url in self.responders or url in self.lists:
            return True
        address = web_address(url)
        if address is None:
            return False
        host, port = address
        return any(_fits(entry.lower(), host, port) for entry in self.hosts)


def web_address(url: str) -> tuple[str, int] | None:
    """Host and port of an http URL; None for every other. Responses are signed, so there is no need for TLS, and
    checking its certificate would be the next question."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme != "http" or not parts.hostname or parts.username is not None or parts.password is not None:
        return None
    if not url.isascii() or any(c <= " " for c in url) or port == 0:
        return None
    return parts.hostname, port or 80


def _fits(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    if entry in (host, f"{host}:{port}", f"[{host}]", f"[{host}]:{port}"):
        return True
    return entry.startswith("*.") and host.endswith(entry[1:])


def is_public(address: str) -> bool:
    """Whether an IP address may be connected to under ``hosts = ["*"]``: not this machine's own, not link-local."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)
    ip = mapped or ip
    return not (ip.is_loopback or ip.is_link_local or ip.is_unspecified or ip.is_multicast)


class Answer(NamedTuple):
    """What a responder said of one certificate.

    Attributes:
        reason: None if it is in order, else the CRLReason of its revocation.
        at_ms: when it was revoked, 0 if it is not.
        this_update_ms: from when this is.
        until_ms: until when it may be used.
    """

    reason: int | None
    at_ms: int
    this_update_ms: int
    until_ms: int


class Failure(NamedTuple):
    """A question without a usable answer: the event's number (``Revocation``), why, until when not to ask again, and
    the number of a further event (``Cert``) or 0."""

    number: int
    reason: str
    until_ms: int
    also: int = 0


class Question(NamedTuple):
    """Somebody has to be asked before more can be said of ``subject``, which ``issuer`` issued (verified).

    Attributes:
        kind: ``ocsp`` or ``crl``.
        urls: where, in order of preference.
    """

    kind: Literal["ocsp", "crl"]
    subject: Revocable
    issuer: Certificate
    urls: tuple[str, ...]

    @property
    def key(self) -> tuple[bytes, bytes]:
        """Of the certificate."""
        return self.issuer.authority_tag, self.subject.serial


class Verdict(NamedTuple):
    """What is known of certificates that are not revoked.

    Attributes:
        findings: warnings of the domain IEC62351-9, empty if all is known.
        questions: what to ask before these warnings are due.
    """

    findings: tuple[SecurityEvent, ...] = ()
    questions: tuple[Question, ...] = ()


class Revocations:
    """All that is known. May be shared by trust stores, threads and loops.

    Arguments:
        crls: DER CRLs to begin with.
        policy: see there.
    Raises: ConfigError for a CRL that cannot be used.

    Attributes:
        policy: as given; a reload may replace it.
        lock: around every change; the service puts a real one there.
        executor: gives a place to have questions answered in (``fastsec.aio.revocation``), or None: nobody asks.
        judged, asked: paths judged so far; those of them for which somebody had to be asked.
    """

    __slots__ = (
        "_answers",
        "_failures",
        "_issuers",
        "_lists",
        "_resting",
        "_sources",
        "asked",
        "executor",
        "judged",
        "lock",
        "policy",
    )

    def __init__(self, crls: Iterable[bytes] = (), policy: RevocationPolicy | None = None) -> None:
        self.policy = policy or RevocationPolicy()
        self.executor: Callable[[Sequence[Question]], Any] | None = None
        self.lock: AbstractContextManager[object] = nullcontext()
        self.judged = self.asked = 0
        self._lists: dict[bytes, tuple[RevocationList, ...]] = {}
        self._sources: dict[str, tuple[RevocationList, ...]] = {}
        self._issuers: OrderedDict[bytes, Certificate] = OrderedDict()
        self._answers: OrderedDict[tuple[bytes, bytes], Answer] = OrderedDict()
        self._failures: OrderedDict[tuple[bytes, bytes], Failure] = OrderedDict()
        self._resting: OrderedDict[str, tuple[int, int]] = OrderedDict()
        if crls:
            self.give(crls)

    # --- what comes in ----------------------------------------------------------------------------------------------

    def give(self, crls: Iterable[bytes]) -> None:
        """Add DER CRLs of no source that is watched; ConfigError for one that cannot be used."""
        lists = list(self._sources.get(GIVEN, ()))
        for der in dict.fromkeys(crls):
            try:
                lists.append(RevocationList(der))
            except PeerError as error:
                raise ConfigError(f"a CRL is not usable: {error}") from error
        with self.lock:
            self._sources[GIVEN] = tuple(lists)
            self._index()

    def know(self, issuer: Certificate) -> None:
        """An authority whose path is verified: lists that come in are checked with its key."""
        if issuer.authority_tag in self._issuers:
            return
        with self.lock:
            self._issuers[issuer.authority_tag] = issuer
            if len(self._issuers) > limits.OUR_REVOCATION_ISSUERS:
                self._issuers.popitem(last=False)

    def issuers(self, name: bytes) -> tuple[Certificate, ...]:
        """The known authorities of this name."""
        return tuple(issuer for issuer in tuple(self._issuers.values()) if issuer.subject == name)

    def replace(self, source: str, fresh: Sequence[RevocationList], *, only_genuine: bool = False) -> bool:
        """What a file or URL holds now, instead of what it held before; whether anything is new.

        Lists are verified here if their issuer is known, so this belongs into a worker thread. A genuine list is never
        replaced by an older one, nor by one whose signature does not verify (yet).

        Arguments:
            only_genuine: drop what does not verify.
        """
        for crl in fresh:
            for issuer in self.issuers(crl.issuer):
                crl.is_genuine(issuer)
        with self.lock:
            before = self._sources.get(source, ())
            after: list[RevocationList] = []
            for crl in fresh:
                if only_genuine and not crl.was_genuine:
                    continue
                rivals = [old for old in before if old.was_genuine and _same_kind(old, crl)]
                if any(old.age > crl.age for old in rivals):
                    after += rivals
                    continue
                same = next((old for old in before if old.same_as(crl)), None)
                after.append(same or crl)
                if not crl.was_genuine:
                    after += [old for old in rivals if old is not same]
            if only_genuine:  # a URL that suddenly holds nothing usable does not make us forget
                after += [old for old in before if old not in after and not any(_same_kind(old, new) for new in after)]
            found = tuple(dict.fromkeys(after))
            if found == before:
                return False
            self._sources[source] = found
            self._index()
            return True

    def drop(self, source: str) -> None:
        """The source is not used any more."""
        with self.lock:
            if self._sources.pop(source, None) is not None:
                self._index()

    def _index(self) -> None:
        lists: dict[bytes, list[RevocationList]] = {}
        for crl in dict.fromkeys(crl for found in self._sources.values() for crl in found):
            lists.setdefault(crl.issuer, []).append(crl)
        self._lists = {
            name: tuple(sorted(found, key=lambda crl: crl.age, reverse=True)) for name, found in lists.items()
        }

    def answered(self, key: tuple[bytes, bytes], answer: Answer) -> bool:
        """A responder's verified answer; whether it says that a certificate is revoked that was not before."""
        with self.lock:
            self._failures.pop(key, None)
            known = self._answers.get(key)
            if known is not None and known.this_update_ms > answer.this_update_ms:
                return False  # a newer one is there already
            self._answers[key] = answer
            self._answers.move_to_end(key)
            if len(self._answers) > limits.OUR_OCSP_CACHE:
                self._answers.popitem(last=False)
            return answer.reason is not None and (known is None or known.reason is None)

    def failed(self, key: tuple[bytes, bytes], failure: Failure) -> None:
        """A question got no usable answer."""
        with self.lock:
            self._failures[key] = failure
            self._failures.move_to_end(key)
            if len(self._failures) > limits.OUR_OCSP_CACHE:
                self._failures.popitem(last=False)

    def rest(self, url: str, utc_ms: int, jitter: float = 1.0) -> int:
        """A server did not answer: leave it alone, each time twice as long. How long, in ms."""
        with self.lock:
            _, times = self._resting.get(url, (0, 0))
            base = min(limits.OUR_REVOCATION_REST * 2 ** min(times, 20), limits.OUR_REVOCATION_REST_MAX)
            pause = int(base * 1000 * jitter)
            self._resting[url] = (utc_ms + pause, times + 1)
            self._resting.move_to_end(url)
            if len(self._resting) > limits.OUR_REVOCATION_SERVERS:
                self._resting.popitem(last=False)
            return pause

    def has_failed(self, url: str) -> bool:
        """Whether the last thing heard of a server is that it did not answer."""
        return url in self._resting

    def awake(self, url: str) -> None:
        """A server has answered."""
        if url in self._resting:
            with self.lock:
                self._resting.pop(url, None)

    def is_resting(self, url: str, utc_ms: int) -> bool:
        """Whether to leave a server alone; not beyond the longest rest, should the clock have been set back."""
        until, _ = self._resting.get(url, (0, 0))
        return utc_ms < until <= utc_ms + 2000 * limits.OUR_REVOCATION_REST_MAX

    # --- what is known ----------------------------------------------------------------------------------------------

    def judge(
        self,
        leaf: Revocable,
        chain: Sequence[Certificate],
        utc_ms: int,
        *,
        may_ask: bool = False,
        establishing: bool = True,
    ) -> Verdict:
        """Whether a verified path is free of revoked certificates. Never waits.

        Arguments:
            leaf, chain: as in ``VerifiedPeer``: the issuer of ``leaf`` first, the anchor last.
            may_ask: whether the caller will see to ``Verdict.questions``; what they are about is then not warned of.
            establishing: of a handshake, which ``hard_fail`` may refuse; False for an open association.
        Raises: HandshakeError with check ``revoked`` (alarm); ``certificate`` or ``path`` by the policy.
        """
        findings: tuple[SecurityEvent, ...] = ()
        questions: tuple[Question, ...] = ()
        may_ask = may_ask and self.executor is not None
        subject = leaf
        for issuer in chain:
            found = self._judge_one(subject, issuer, utc_ms, may_ask, establishing, subject is leaf)
            if found is not _GOOD:
                findings += found.findings
                questions += found.questions
            subject = issuer
        self.judged += 1
        if questions:
            self.asked += 1
        return Verdict(findings, questions) if findings or questions else _GOOD

    def place(self, questions: Sequence[Question]) -> Any:
        """An executor (``concurrent.futures``) whose jobs begin when the questions have been answered, or have failed,
        or the time for them is over; None where nobody asks any more."""
        executor = self.executor
        return None if executor is None else executor(questions)

    def _judge_one(
        self, subject: Revocable, issuer: Certificate, utc_ms: int, may_ask: bool, establishing: bool, is_leaf: bool
    ) -> Verdict:
        listed, current, number = self._look_up(subject, issuer, utc_ms)
        policy = self.policy
        answer = self._answers.get((issuer.authority_tag, subject.serial)) if self._answers else None
        if answer is not None and answer.reason is not None:
            # It counts beyond its time, as an overdue list does, until a newer list or answer says otherwise.
            if utc_ms < answer.until_ms or current is None or current.this_update_ms <= answer.this_update_ms:
                raise _revoked(subject, answer.reason, answer.at_ms, "OCSP")
            answer = None
        if current is not None and policy.ocsp != "always":
            return _GOOD
        answered = answer is not None and utc_ms < answer.until_ms
        if answered:
            return _GOOD
        findings: tuple[SecurityEvent, ...] = ()
        facts = {"serial": subject.serial.hex(), "issuer": name_text(issuer.subject)}
        if current is None:
            self.know(issuer)
            findings += (revocation_event(number, reason=_LIST_FAULTS[number], **facts),)
            if number == Revocation.CRL_SIGNATURE and not issuer.has_usage(oids.KU_CRL_SIGN):
                findings += (certificate_event(Cert.CRL_SIGN, **facts),)
        failure: Failure | None = None
        if policy.ocsp != "off":
            urls = policy.responders or tuple(url for url in subject.ocsp_urls if policy.allows(url))
            if not urls:
                if current is None and not subject.ocsp_urls:
                    findings += (certificate_event(Cert.NO_OCSP, **facts),)
            else:
                failure = self._failure(subject, issuer, utc_ms)
                awake = tuple(url for url in urls if not self.is_resting(url, utc_ms))
                if may_ask and failure is None and awake:
                    return Verdict((), (Question("ocsp", subject, issuer, awake),))
                if failure is None:
                    failure = Failure(Revocation.NO_OCSP, "the responder was not reached lately", 0)
                findings += (revocation_event(failure.number, reason=failure.reason, **facts),)
                if failure.also:
                    findings += (certificate_event(failure.also, reason=failure.reason, **facts),)
        if current is None and policy.hosts and listed is None:
            points = tuple(url for url in subject.crl_urls if policy.allows(url))
            awake = tuple(url for url in points if url not in self._sources and not self.is_resting(url, utc_ms))
            if may_ask and awake:
                return Verdict((), (Question("crl", subject, issuer, awake),))
            if not subject.crl_urls and failure is None:
                findings += (certificate_event(Cert.NO_CRL_POINT, **facts),)
        unknown = failure is not None and failure.number == Revocation.OCSP_UNKNOWN and policy.unknown == "refuse"
        if establishing and (unknown or (policy.hard_fail and current is None)):
            raise HandshakeError(
                "nobody says that the certificate is not revoked",
                check="certificate" if is_leaf else "path",
                step="revocation",
                also=findings,
            )
        return Verdict(findings)

    def _look_up(
        self, subject: Revocable, issuer: Certificate, utc_ms: int
    ) -> tuple[RevocationList | None, RevocationList | None, int]:
        """(the newest genuine list for this certificate, the same if it is current, else what is wrong).
        HandshakeError if the certificate is on one; a revocation counts even on a list that is overdue."""
        number: int = Revocation.NO_CRL
        for crl in self._lists.get(issuer.subject, ()):
            if not crl.is_genuine(issuer):
                # Another key of the same authority has its own list.
                if may_match(crl.authority_key_id, issuer.subject_key_id):
                    number = Revocation.CRL_SIGNATURE
                continue
            entry = crl.entries.find(subject.serial)
            if entry is not None:
                raise _revoked(subject, *entry, "CRL")
            if not crl.covers(subject):
                continue
            if crl.next_update_ms is not None and utc_ms >= crl.next_update_ms + 1000:
                return crl, None, Revocation.CRL_EXPIRED
            if utc_ms < crl.this_update_ms - limits.SPEC_CLOCK_SKEW * 1000:
                return crl, None, Revocation.NO_CRL
            return crl, crl, 0
        return None, None, number

    def _failure(self, subject: Revocable, issuer: Certificate, utc_ms: int) -> Failure | None:
        """Why there is no answer, if it was asked for just now."""
        failure = self._failures.get((issuer.authority_tag, subject.serial)) if self._failures else None
        if failure is None or not utc_ms < failure.until_ms <= utc_ms + 2000 * limits.OUR_REVOCATION_REST_MAX:
            return None
        return failure

    def is_listed(self, subject: Certificate, issuer: Certificate, utc_ms: int) -> bool:
        """Whether a list says that ``subject`` is revoked."""
        try:
            self._look_up(subject, issuer, utc_ms)
        except HandshakeError:
            return True
        return False

    def lists(self) -> tuple[RevocationList, ...]:
        """All lists that are used."""
        return tuple(crl for found in self._lists.values() for crl in found)

    def source(self, name: str) -> tuple[RevocationList, ...]:
        """The lists of one source."""
        return self._sources.get(name, ())


_GOOD: Final = Verdict()
_LIST_FAULTS: Final = {
    int(Revocation.NO_CRL): "there is no list",
    int(Revocation.CRL_EXPIRED): "the list is out of date",
    int(Revocation.CRL_SIGNATURE): "the signature of the list does not verify",
}


def may_match(child: bytes | None, issuer: bytes | None) -> bool:
    """Whether key identifiers speak for one key: hints, which may be missing."""
    return child is None or issuer is None or child == issuer


def _same_kind(one: RevocationList, other: RevocationList) -> bool:
    return (
        one.issuer == other.issuer
        and one.scope == other.scope
        and may_match(one.authority_key_id, other.authority_key_id)
    )


def _revoked(subject: Revocable, reason: int, at_ms: int, source: str) -> HandshakeError:
    word = REASONS.get(reason, str(reason))
    return HandshakeError(
        f"certificate {subject.serial.hex()} is revoked: {word}",
        check="revoked",
        step=source,
        also=(
            revocation_event(
                Revocation.REVOKED, CRLReason=word, serial=subject.serial.hex(), since=at_ms // 1000, by=source
            ),
        ),
    )
