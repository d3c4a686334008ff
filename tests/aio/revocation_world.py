"""Authorities, certificates that name responders, and the responders: real and hostile ones, all on loopback."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from world import CENTRE, DER

from fastsec._core.pk import PrivateKey
from fastsec.aio.revocation import RevocationService
from fastsec.config import Config
from fastsec.instant import now
from fastsec.pki import builder, oids
from fastsec.pki.certificate import Certificate
from fastsec.pki.credential import SoftwareSigner, make_credential
from fastsec.pki.identity import OsiName
from fastsec.pki.ocsp import cert_id
from fastsec.pki.path import TrustStore
from fastsec.pki.revocation import RevocationPolicy
from fastsec.pki.trial import TrialAuthority
from ocsp_forge import Responder, single
from responders import Http, OpenSsl, http, pem

__all__ = ["Both", "Http", "OpenSsl", "Pki", "http", "pem", "policy"]
HOUR = 3_600_000


class Pki:
    """A trial authority whose certificates name responders and distribution points."""

    def __init__(self, key: str = "p256") -> None:
        self.authority = TrialAuthority.in_memory(now().utc_ms, key=key)
        self.issuer = Certificate(self.authority.root, ca=True)
        self.serial = 0

    def config(
        self,
        name: OsiName,
        service: RevocationService | None = None,
        *,
        responders: tuple[str, ...] = (),
        points: tuple[str, ...] = (),
        key: str = "p256",
        **more: Any,
    ) -> tuple[Config, list[str]]:
        """A configuration, and the events it raises: IDs, with the parameters of a few."""
        self.serial += 1
        extensions = [
            builder.key_usage(oids.KU_DIGITAL_SIGNATURE, oids.KU_KEY_AGREEMENT),
            builder.alternative_names(osi=name),
        ]
        if responders:
            extensions.append(builder.authority_info_access(*responders))
        if points:
            extensions.append(builder.crl_distribution_points(*points))
        issued = self.authority.issue(f"x{self.serial}.e2e", builder.osi_subject(name), extensions, key, 30)
        credential = make_credential(issued.certificate, (), SoftwareSigner(PrivateKey.from_pem(issued.key_pem, None)))
        trust = TrustStore([self.authority.root], revocation=service.known if service else None)
        events: list[str] = []
        config = Config(credential=credential, trust=trust, **more)
        return dataclasses.replace(config, sink=lambda event: events.append(event.id)), events

    def both(self, service: RevocationService, **more: Any) -> Both:
        """A client and a server that use one service."""
        client, client_events = self.config(CENTRE, service, **more)
        server, server_events = self.config(DER, service, **more)
        return Both(client, server, client_events, server_events)

    def answers(self, *, delta_ms: int = 0, life_ms: int | None = HOUR, **how: Any) -> Callable[[bytes], bytes]:
        """A responder of our own, of the authority's key.

        Arguments:
            delta_ms: how much later (than now) its answers say they are.
            life_ms: until the next answer.
            how: ``status`` (DER), ``key``, ``nonce`` (None: as asked).
        """
        responder = how.get("responder") or Responder(self.issuer.subject, how.get("key") or self.authority._key)

        def answer(request: bytes) -> bytes:
            from cryptography import x509
            from cryptography.x509 import ocsp

            asked = ocsp.load_der_ocsp_request(request)
            size = (asked.serial_number.bit_length() // 8) + 1
            wanted = cert_id(asked.serial_number.to_bytes(size, "big"), self.issuer, asked.hash_algorithm.name)
            try:
                nonce = asked.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce
            except x509.ExtensionNotFound:
                nonce = None
            this = now().utc_ms // 1000 * 1000 + delta_ms
            following = None if life_ms is None else this + life_ms
            status = how.get("status", b"\x80\x00")
            if "about" in how:
                wanted = wanted._replace(serial=how["about"])
            return responder.answer(
                single(wanted, status, this, following),
                nonce=how.get("nonce", nonce),
            )

        return answer


@dataclasses.dataclass
class Both:
    """Two configurations and what they raise."""

    client: Config
    server: Config
    client_events: list[str]
    server_events: list[str]

    @property
    def configs(self) -> dict[str, Config]:
        """For ``world.pair``."""
        return {"client_config": self.client, "server_config": self.server}


def policy(**more: Any) -> RevocationPolicy:
    """OCSP where needed, to loopback."""
    return RevocationPolicy(**{"ocsp": "needed", "hosts": ("127.0.0.1",), "timeout": 5.0, **more})
