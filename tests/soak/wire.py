"""One TCP connection of an attacker, with a whole OSI stack on it: SecPDUs go in and out as they are."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import time
from collections import deque

from fastsec import limits
from fastsec._core.osidata import OsiChannel
from fastsec.envs.osi import (
    AbortInd,
    AssociateCnf,
    EnvFault,
    OsiAddress,
    OsiEndpoint,
    OsiParams,
    ProviderAbort,
    ReleaseInd,
    TransportConnected,
)
from fastsec.envs.osi.indications import Indication
from fastsec.envs.osi.states import State
from fastsec.errors import DecodeError
from fastsec.pki.identity import OsiName

FIRST_PORT = 20_000
PATIENCE = 90.0  # seconds for anything to come; a loaded machine is no fault


_ports: dict[str, itertools.cycle[int]] = {}


class TurnedAway(Exception):
    """The connection was closed before it had brought a single octet."""


def utc_ms() -> int:
    return time.time_ns() // 1_000_000


def params(local: OsiName, remote: OsiName | None = None) -> OsiParams:
    """OSI addresses of a secured association."""
    return OsiParams(
        security=True,
        local=OsiAddress(ap_title=local.ap_title, ae_qualifier=local.ae_qualifier),
        remote=OsiAddress(ap_title=remote.ap_title, ae_qualifier=remote.ae_qualifier) if remote else OsiAddress(),
    )


class Line:
    """One connection.

    Attributes:
        osi: its stack; the attacker may set its state and send what it likes.
        at: own address as the other side sees it.
        heard: whether an octet came.
        ending: how the other side ended it: ``reject`` or ``abort`` with a SecPDU, ``plain`` without, or "".
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, role: str, settings: OsiParams
    ) -> None:
        self.channel = OsiChannel(limits.OUR_TSDU_MAX)
        self.osi = OsiEndpoint(role, settings, self.channel)
        self.at = "{}:{}".format(*writer.get_extra_info("sockname")[:2])
        self.heard = False
        self.ending = ""
        self._reader = reader
        self._writer = writer
        self._found: deque[Indication] = deque()

    @classmethod
    async def dial(cls, port: int, source: str, settings: OsiParams) -> Line:
        """Connect to 127.0.0.1 from ``source``, each time from another port: an address stands for one attempt."""
        ports = _ports.setdefault(source, itertools.cycle(range(FIRST_PORT, 65_000)))
        while True:
            try:
                async with asyncio.timeout(PATIENCE):
                    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, next(ports)))
                return cls(reader, writer, "initiator", settings)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise

    # --- sending ---

    def raw(self, octets: bytes) -> None:
        """Put octets on the wire as they are; none where it is closed."""
        with contextlib.suppress(OSError, RuntimeError):
            self._writer.write(octets)

    def tsdu(self, octets: bytes) -> None:
        """Send a TSDU as it is."""
        self.raw(self.channel.frame(octets))

    def flush(self) -> None:
        octets = self.osi.data_to_send()
        if octets:
            self.raw(octets)

    def associate(self, pdu: bytes) -> None:
        self.osi.associate(pdu)
        self.flush()

    def accept(self, pdu: bytes) -> None:
        self.osi.accept(pdu)
        self.flush()

    def reject(self, pdu: bytes | None, permanent: bool = True) -> None:
        self.osi.reject(pdu, permanent=permanent)
        self.flush()

    def data(self, pdu: bytes) -> None:
        if self.osi.state in (State.OPEN, State.RELEASE_RECEIVED):
            self.osi.data(pdu)
            self.flush()

    def release(self, pdu: bytes | None) -> None:
        if self.osi.state in (State.OPEN, State.RELEASE_RECEIVED):
            self.osi.release(pdu)
            self.flush()

    def release_response(self, pdu: bytes | None) -> None:
        self.osi.release_response(pdu)
        self.flush()

    def abort(self, pdu: bytes | None) -> None:
        self.osi.abort(pdu)
        self.flush()

    def end(self) -> None:
        """Nothing more will be written."""
        with contextlib.suppress(OSError, RuntimeError):
            if self._writer.can_write_eof():
                self._writer.write_eof()

    def close(self) -> None:
        self._writer.close()

    # --- receiving ---

    async def take(self) -> Indication | None:
        """The next indication; None when the other side has closed."""
        while not self._found:
            try:
                async with asyncio.timeout(PATIENCE):
                    octets = await self._reader.read(65_536)
            except OSError:
                return None
            if not octets:
                return None
            self.heard = True
            self._split(octets)
        found = self._found.popleft()
        match found:
            case AssociateCnf(result="rejected-permanent" | "rejected-transient", user_data=pdu):
                self.ending = "plain" if pdu is None else "reject"
            case AbortInd(user_data=pdu):
                self.ending = "plain" if pdu is None else "abort"
            case ProviderAbort():
                self.ending = "plain"
        return found

    def _split(self, octets: bytes) -> None:
        channel = self.channel
        try:
            channel.feed(octets, utc_ms())
            while (frame := channel.next()) is not None:
                self._found.extend(self.osi.receive_tpdu(*frame))
                channel.feed(b"", utc_ms())
        except DecodeError as error:
            self._found.append(EnvFault("OSI_ENV_PROT_ERR", str(error)))
        self.flush()

    async def transport(self) -> None:
        """Initiator: CR and CC. TurnedAway if the other side does not want the connection."""
        self.osi.connect_transport()
        self.flush()
        if not isinstance(await self.take(), TransportConnected):
            raise TurnedAway

    async def call(self, pdu: bytes) -> Indication | None:
        """Initiator: everything up to the answer to the association request."""
        await self.transport()
        self.associate(pdu)
        return await self.take()

    async def until_closed(self) -> None:
        """Read until the other side closes, then close."""
        while await self.take() is not None:
            pass
        self.close()


async def release_in_order(line: Line, answer: bytes) -> None:
    """Wait for a ReleaseInd and answer it."""
    while not isinstance(found := await line.take(), ReleaseInd):
        if found is None:
            return
    line.release_response(answer)
