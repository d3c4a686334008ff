"""TLS below an association: mutual certificates, session resumption, small buffers (62351-4 port 3782, RFC 8446).

``TLSLayer`` stands between a transport and a protocol of asyncio: towards the transport it is the protocol, towards
the protocol the transport. asyncio's own TLS takes no session to resume and holds 256 KiB per connection. Here the
octets pass through two memory BIOs in pieces of at most 16 KiB, OpenSSL releases its record buffers when idle, and
what was decrypted is collected in a buffer that all connections of the loop share. The handshake's public-key work
runs in worker threads, so that open associations never wait for it.

This is hop security without the full profile of 62351-3: TLS 1.2 and 1.3, certificates on both sides, revocation
from files, the 24 h limit of resumption.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Final, cast

from fastsec import limits
from fastsec.aio.runtime import SCRATCH, Runtime, runtime
from fastsec.errors import Aborted, ConfigError, FastsecError

PIECE: Final = 16 * 1024
SESSIONS_MAX: Final = 1024
SESSION_LIFE: Final = 24 * 3600  # 62351-3: resumed no later than 24 h after
# 62351-4 tables of suites, as far as OpenSSL has them; those with forward secrecy first. TLS 1.3 suites: its defaults.
SUITES: Final = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:DHE-RSA-AES128-GCM-SHA256:AES128-SHA256"
)

_log = logging.getLogger("fastsec.tls")

StrPath = str | PathLike[str]


class TLSConfig:
    """Certificates and rules of the hop, shared by all connections of the process.

    Arguments:
        certificate: PEM file: own certificate, then its path. Not the one of the end-to-end identity.
        key: PEM file of its private key.
        anchors: PEM files with the trust anchors; at least one.
        crls: PEM or DER files. A revoked peer is refused; a CRL that is missing or expired is a warning (62351-3).
        server_hostname: client: the DNS name or IP address the server's certificate must carry; None accepts any
            certificate the anchors vouch for, the end-to-end handshake proves the identity.
        password: of the private key.
    Errors:
        ConfigError: a file is missing, unreadable or does not fit; says which.
    """

    __slots__ = ("_crls", "_sessions", "client_context", "server_context", "server_hostname")

    def __init__(
        self,
        certificate: StrPath,
        key: StrPath,
        anchors: Sequence[StrPath],
        crls: Sequence[StrPath] = (),
        *,
        server_hostname: str | None = None,
        password: str | bytes | None = None,
    ) -> None:
        if not anchors:
            raise ConfigError("TLS: name at least one file with trust anchors")
        self.server_hostname = server_hostname
        self.client_context = self._context(ssl.PROTOCOL_TLS_CLIENT, certificate, key, anchors, password)
        self.client_context.check_hostname = server_hostname is not None
        self.server_context = self._context(ssl.PROTOCOL_TLS_SERVER, certificate, key, anchors, password)
        self._crls = _Revocation(crls, self.client_context.get_ca_certs(binary_form=True)) if crls else None
        self._sessions: OrderedDict[str, tuple[ssl.SSLSession, float]] = OrderedDict()

    @staticmethod
    def _context(
        side: int,
        certificate: StrPath,
        key: StrPath,
        anchors: Sequence[StrPath],
        password: str | bytes | None,
    ) -> ssl.SSLContext:
        context = ssl.SSLContext(side)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(SUITES)
        context.verify_mode = ssl.CERT_REQUIRED
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN  # an anchor need not be self-signed
        for anchor in anchors:
            try:
                context.load_verify_locations(anchor)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(f"TLS trust anchors {anchor}: {_reason(error)}") from None
        try:
            context.load_cert_chain(certificate, key, password if password is not None else _no_password)
        except (OSError, ssl.SSLError, ValueError) as error:
            raise ConfigError(f"TLS certificate {certificate} with key {key}: {_reason(error)}") from None
        return context

    def session(self, address: str) -> ssl.SSLSession | None:
        """The session of the last connection to ``address`` that may still be resumed."""
        known = self._sessions.get(address)
        if known is None:
            return None
        session, since = known
        if time.monotonic() - since >= SESSION_LIFE:
            del self._sessions[address]
            return None
        return session

    def keep_session(self, address: str, session: ssl.SSLSession | None) -> None:
        """Remember ``session`` for the next connection to ``address``."""
        if session is not None:
            self._sessions[address] = (session, time.monotonic())
            self._sessions.move_to_end(address)
            if len(self._sessions) > SESSIONS_MAX:
                self._sessions.popitem(last=False)

    def check_peer(self, connection: ssl.SSLObject, utc: float) -> list[str]:
        """Check what OpenSSL does not look at, above all not when a session is resumed.

        Arguments:
            utc: now, seconds since 1970.
        Result: warnings.
        Errors:
            CertificateRefused: no certificate, too large, expired or revoked.
        """
        der = connection.getpeercert(binary_form=True)
        if not der:
            raise CertificateRefused("the peer presented no certificate")
        if len(der) > limits.SPEC_CERTIFICATE_MAX:
            raise CertificateRefused(f"the peer's certificate has more than {limits.SPEC_CERTIFICATE_MAX} octets")
        facts = connection.getpeercert() or {}
        not_after = facts.get("notAfter")
        if not isinstance(not_after, str) or ssl.cert_time_to_seconds(not_after) < utc:
            raise CertificateRefused("the peer's certificate has expired")
        return self._crls.check(der, utc) if self._crls is not None else []


class CertificateRefused(FastsecError):
    """The certificate a TLS peer presented is not acceptable."""


class _Revocation:
    """CRLs by issuer. Only those whose signature an anchor verifies count."""

    __slots__ = ("_crls",)

    def __init__(self, files: Iterable[StrPath], anchors: Iterable[bytes]) -> None:
        from cryptography import x509

        issuers = []
        for der in anchors:
            certificate = x509.load_der_x509_certificate(der)
            try:
                issuers.append((certificate.subject.public_bytes(), certificate.public_key()))
            except ValueError:
                continue  # a subject `cryptography` cannot read does not issue TLS certificates
        self._crls: dict[bytes, x509.CertificateRevocationList] = {}
        for file in files:
            for crl in _load_crls(file):
                issuer = crl.issuer.public_bytes()
                if not any(name == issuer and crl.is_signature_valid(key) for name, key in issuers):
                    raise ConfigError(f"TLS CRL {file}: no trust anchor verifies its signature")
                known = self._crls.get(issuer)
                if known is None or known.last_update_utc < crl.last_update_utc:
                    self._crls[issuer] = crl

    def check(self, der: bytes, utc: float) -> list[str]:
        """Warnings about the CRL of the certificate's issuer; CertificateRefused if it names the certificate."""
        from cryptography import x509

        try:
            certificate = x509.load_der_x509_certificate(der)
            crl = self._crls.get(certificate.issuer.public_bytes())
            serial = certificate.serial_number
        except ValueError:
            raise CertificateRefused("the peer's certificate is malformed") from None
        if crl is None:
            return ["no CRL of the issuer of the peer's TLS certificate"]
        if crl.get_revoked_certificate_by_serial_number(serial) is not None:
            raise CertificateRefused("the peer's certificate is revoked")
        if crl.next_update_utc is not None and crl.next_update_utc.timestamp() < utc:
            return ["the CRL of the issuer of the peer's TLS certificate has expired"]
        return []


def _load_crls(file: StrPath) -> list[Any]:
    from cryptography import x509

    try:
        data = Path(file).read_bytes()
        mark = b"-----BEGIN X509 CRL-----"
        if mark not in data:
            return [x509.load_der_x509_crl(data)]
        return [x509.load_pem_x509_crl(mark + part) for part in data.split(mark)[1:]]
    except (OSError, ValueError) as error:
        raise ConfigError(f"TLS CRL {file}: {_reason(error)}") from None


def _no_password() -> str:
    raise ValueError("the private key is encrypted; give its password")  # OpenSSL would ask on the terminal


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).lower().replace("_", " ")
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)


_NEW: Final = 0
_HANDSHAKE: Final = 1
_OPEN: Final = 2
_CLOSED: Final = 3


class _Step:
    """One step of the handshake, run in a worker thread."""

    __slots__ = ("_config", "_connection", "warnings")

    def __init__(self, connection: ssl.SSLObject, config: TLSConfig) -> None:
        self._connection = connection
        self._config = config
        self.warnings: list[str] = []

    def run(self) -> None:
        self._connection.do_handshake()
        self.warnings = self._config.check_peer(self._connection, time.time())


class TLSLayer(asyncio.Protocol, asyncio.Transport):
    """TLS between a transport (below) and a protocol (above).

    The protocol sees ``connection_made`` when the handshake is over, and ``connection_lost`` exactly once, also
    when the handshake fails, then with an ``Aborted`` that says why.

    Arguments:
        upper: the protocol above.
        config: certificates and rules.
        server_side: the side that accepted the TCP connection.
        address: client: names the server, for session resumption.
    """

    __slots__ = (
        "_address", "_below", "_config", "_ended", "_error", "_held", "_incoming", "_outgoing", "_paused", "_runtime",
        "_server_side", "_ssl", "_state", "_told", "_upper", "resumed",
    )  # fmt: skip

    def __init__(self, upper: asyncio.Protocol, config: TLSConfig, *, server_side: bool, address: str = "") -> None:
        self._upper = upper
        self._config = config
        self._server_side = server_side
        self._address = address
        self._state = _NEW
        self._paused = False
        self._ended = False  # close_notify came while the protocol above was paused
        self._told = False  # the protocol above has had connection_lost
        self._held = b""
        self._error: Exception | None = None
        self.resumed = False
        self._below: asyncio.Transport
        self._runtime: Runtime
        self._incoming: ssl.MemoryBIO
        self._outgoing: ssl.MemoryBIO
        self._ssl: ssl.SSLObject

    # --- as the protocol of the transport below ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The TCP connection stands; a client begins the handshake."""
        self._below = cast("asyncio.Transport", transport)
        if self._state == _CLOSED:  # given up in between
            self._below.abort()
            return
        self._runtime = runtime()
        self._state = _HANDSHAKE
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        config = self._config
        if self._server_side:
            self._ssl = config.server_context.wrap_bio(self._incoming, self._outgoing, server_side=True)
            return
        self._ssl = config.client_context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_hostname=config.server_hostname,
            session=config.session(self._address) if self._address else None,
        )
        self._step()

    def data_received(self, data: bytes) -> None:
        """Octets of the connection below."""
        if self._state == _OPEN:
            if self._address or len(data) > PIECE:
                self._take(data)
            else:
                self._take_few(data)
        elif self._state == _HANDSHAKE:
            self._incoming.write(data)
            self._step()

    def eof_received(self) -> None:
        """The peer has closed its direction; the connection ends."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection below is gone."""
        if self._state == _HANDSHAKE and self._error is None:
            self._error = Aborted("provider", None, "the connection was closed during the TLS handshake")
        self._state = _CLOSED
        self._tell(self._error or exc)

    def pause_writing(self) -> None:
        """The transport below is full."""
        self._upper.pause_writing()

    def resume_writing(self) -> None:
        """The transport below has room again."""
        self._upper.resume_writing()

    # --- handshake --------------------------------------------------------------------------------------------------

    def _step(self) -> None:
        # Nothing is received while a thread uses the SSL object.
        self._below.pause_reading()
        self._runtime.jobs.submit(_Step(self._ssl, self._config), self._stepped)

    def _stepped(self, step: _Step, error: BaseException | None) -> None:
        if self._state != _HANDSHAKE:
            return
        if self._outgoing.pending:
            self._below.write(self._outgoing.read())
        if isinstance(error, ssl.SSLWantReadError):
            self._below.resume_reading()
            return
        if error is not None:
            self._fail(error)
            return
        for warning in step.warnings:
            _log.warning("%s: %s", self._peer(), warning)
        self._state = _OPEN
        self.resumed = bool(self._ssl.session_reused)
        self._upper.connection_made(self)
        self._proceed()

    def _peer(self) -> str:
        peer = self._below.get_extra_info("peername")
        return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else self._address or "peer"

    def _fail(self, error: BaseException) -> None:
        """Send the alert that OpenSSL has left in the BIO, close, say why."""
        self._state = _CLOSED
        self._error = Aborted("provider", None, f"TLS: {_reason(error)}")
        _log.info("%s: TLS: %s", self._peer(), _reason(error))
        if self._outgoing.pending:
            self._below.write(self._outgoing.read())
        if self._below.get_write_buffer_size() > PIECE:
            self._below.abort()  # the peer does not read; it will not read the alert either
        else:
            self._below.close()
            # The protocol above hears of the end now, so nobody else watches that the rest is taken.
            self._runtime.loop.call_later(limits.OUR_ABORT_LINGER, self._below.abort)
        self._tell(self._error)

    def _tell(self, error: Exception | None) -> None:
        if not self._told:
            self._told = True
            self._upper.connection_lost(error)

    # --- data -------------------------------------------------------------------------------------------------------

    def _proceed(self) -> None:
        """Go on reading: what the BIO and ``_held`` still have, then the transport."""
        if self._state == _OPEN and not self._paused:
            if self._ended:
                self.close()
                return
            held, self._held = self._held, b""
            self._take(held)
            if self._state == _OPEN and not self._paused:
                self._below.resume_reading()

    def _take_few(self, data: bytes) -> None:
        """As ``_take``, for what usually comes: one record, whole. No more than ``PIECE`` octets."""
        incoming, size = self._incoming, len(data)
        try:
            incoming.write(data)
            octets = self._ssl.read(size)  # more than what they decrypt to
        except ssl.SSLWantReadError:
            octets = b""
        except ssl.SSLError as error:
            self._fail(error)
            return
        else:
            if not octets:
                self._notified()
                return
            self._upper.data_received(octets)
        if self._state == _OPEN:
            if (incoming.pending or len(octets) == size) and not self._paused:
                self._take(b"")
            elif self._outgoing.pending:
                self._below.write(self._outgoing.read())

    def _take(self, data: bytes) -> None:
        """Decrypt ``data`` and hand it up, in as few calls as the scratch buffer allows."""
        incoming, connection, scratch = self._incoming, self._ssl, self._runtime.scratch
        filled = position = 0
        try:
            while True:
                while incoming.pending or connection.pending():
                    count = cast("int", connection.read(SCRATCH, scratch[filled:]))
                    if not count:  # close_notify
                        raise EOFError
                    filled += count
                    if filled > SCRATCH - PIECE:
                        octets, filled = bytes(scratch[:filled]), 0
                        self._upper.data_received(octets)
                        if self._paused or self._state != _OPEN:
                            self._held = data[position:]
                            return
                if position >= len(data):
                    break
                # In pieces: a memory BIO never gives back what it once grew to.
                incoming.write(data[position : position + PIECE] if len(data) > PIECE else data)
                position += PIECE
        except ssl.SSLWantReadError:
            # The rest of a record is missing: go on with the next piece, if there is one.
            if position < len(data):
                self._hand_up(filled)
                if self._paused or self._state != _OPEN:
                    self._held = data[position:]
                else:
                    self._take(data[position:])
                return
        except EOFError:
            self._hand_up(filled)
            self._notified()
            return
        except ssl.SSLError as error:
            self._hand_up(filled)
            if self._state == _OPEN:
                self._fail(error)
            return
        self._hand_up(filled)
        if filled and self._address and self._state == _OPEN:
            # TLS 1.3 tickets come after the handshake, ahead of the first data.
            self._config.keep_session(self._address, self._ssl.session)
            self._address = ""
        if self._outgoing.pending and self._state == _OPEN:  # an answer of TLS itself, e.g. KeyUpdate
            self._below.write(self._outgoing.read())

    def _notified(self) -> None:
        """close_notify has come."""
        if self._paused and self._state == _OPEN:
            self._ended = True  # the protocol above hears of the end when it is ready for it
        else:
            self.close()

    def _hand_up(self, filled: int) -> None:
        if filled:
            self._upper.data_received(bytes(self._runtime.scratch[:filled]))

    # --- as the transport of the protocol above ---------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send. Without effect once closed."""
        if self._state != _OPEN or not data:
            return
        try:
            if len(data) <= PIECE:
                self._ssl.write(data)
                self._below.write(self._outgoing.read())
                return
            view = memoryview(data)
            blocks = []
            for start in range(0, len(view), PIECE):
                self._ssl.write(view[start : start + PIECE])
                blocks.append(self._outgoing.read())
        except ssl.SSLError as error:
            self._runtime.loop.call_soon(self._broken, error)
            return
        self._below.write(b"".join(blocks))

    def _broken(self, error: ssl.SSLError) -> None:
        # Not from within write(): the protocol above does not expect connection_lost there.
        if self._state == _OPEN:
            self._fail(error)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Encrypt and send several pieces."""
        for data in list_of_data:
            self.write(data)

    def close(self) -> None:
        """Send close_notify and what is queued, then close."""
        if self._state in (_NEW, _HANDSHAKE):
            self.abort()
        else:
            self._notify()
            self._below.close()

    def write_eof(self) -> None:
        """Send close_notify and what is queued, and close this direction; what still comes is dropped."""
        if self._state == _OPEN:
            self._notify()
            if not self._below.is_closing():
                self._below.write_eof()
            if self._paused:
                self._below.resume_reading()

    def _notify(self) -> None:
        if self._state == _OPEN:
            self._state = _CLOSED
            with contextlib.suppress(ssl.SSLError):  # want-read: the peer's close_notify is not waited for
                self._ssl.unwrap()
            if self._outgoing.pending:
                self._below.write(self._outgoing.read())

    def can_write_eof(self) -> bool:
        """Yes."""
        return True

    def abort(self) -> None:
        """Close at once; what is queued is lost."""
        new = self._state == _NEW
        if self._state == _HANDSHAKE and self._error is None:
            self._error = Aborted("local", None, "given up during the TLS handshake")
        self._state = _CLOSED
        if not new:
            self._below.abort()

    def is_closing(self) -> bool:
        """Closed, or about to be."""
        return self._state == _CLOSED

    def pause_reading(self) -> None:
        """Hand up nothing more until ``resume_reading``."""
        if not self._paused:
            self._paused = True
            if self._state == _OPEN:
                self._below.pause_reading()

    def resume_reading(self) -> None:
        """Go on, in the next iteration of the loop."""
        if self._paused:
            self._paused = False
            if self._state == _OPEN:
                self._runtime.loop.call_soon(self._proceed)

    def get_write_buffer_size(self) -> int:
        """Octets queued below."""
        return self._below.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Limits of the transport below."""
        self._below.set_write_buffer_limits(high, low)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``ssl_object``, ``peercert``, or what the transport below knows."""
        if name == "ssl_object":
            return self._ssl
        if name == "peercert":
            return self._ssl.getpeercert()
        return self._below.get_extra_info(name, default)
