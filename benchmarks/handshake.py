"""A whole association set-up in one process: both engines, both OSI stacks, all public-key work, chain not cached.

Against the sum of the public-key operations themselves (same backend), and against a mutual TLS 1.3 handshake.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import harness
import plain
import tls
from fastsec._core.osidata import OsiChannel
from fastsec._core.pk import Ephemeral, PrivateKey
from fastsec.association import (
    AssociateIndication,
    Association,
    Ended,
    Established,
    Role,
    Run,
    Send,
)
from fastsec.config import Config, Policy
from fastsec.envs.osi import AssociateCnf, AssociateInd, OsiAddress, OsiEndpoint, OsiParams, TransportConnected
from fastsec.envs.osi.names import AeTitle
from fastsec.instant import now
from fastsec.limits import OUR_TSDU_MAX
from fastsec.peers import Endpoint
from fastsec.pki.certificate import Certificate
from fastsec.pki.credential import Credential, SoftwareSigner, make_credential
from fastsec.pki.identity import OsiName
from fastsec.pki.path import TrustStore
from fastsec.pki.trial import TrialAuthority
from fastsec.profile import ECDSA_SHA256, SHA256_RSA
from fastsec.secpdu.fields import Carrier

CLIENT = OsiName("1.1.1.999.1", 12)
SERVER = OsiName("1.1.1.999.2", 12)
INITIATE = plain.PDU["aarq"][-40:]
RESPONSE = plain.PDU["aare"][-40:]


class Side:
    """One end: association, OSI endpoint and channel, jobs run inline."""

    def __init__(self, role: Role, endpoint: Endpoint, params: OsiParams, peer: OsiName | None) -> None:
        self.association = Association(role, endpoint, peer=peer)
        self.channel = OsiChannel(OUR_TSDU_MAX)
        self.osi = OsiEndpoint("initiator" if role is Role.CLIENT else "responder", params, self.channel)
        self.open = False

    def carry_out(self) -> None:
        """Do what the association asks for until it asks for nothing more."""
        association, osi = self.association, self.osi
        while outputs := association.outputs():
            for output in outputs:
                if type(output) is Run:
                    output.job.run()
                    association.job_done(output.job, now())
                elif type(output) is Send:
                    if output.carrier is Carrier.ASSOCIATE_REQ:
                        osi.associate(output.pdu)
                    elif output.carrier is Carrier.ASSOCIATE_RSP and output.disposition == "accepted":
                        osi.accept(output.pdu)
                    else:
                        raise RuntimeError(f"the handshake ended with {output}")
                elif type(output) is AssociateIndication:
                    association.accept(RESPONSE, now())
                elif type(output) is Established:
                    self.open = True
                elif type(output) is Ended:
                    raise RuntimeError(f"the handshake failed: {output.error}")

    def receive(self, data: bytes) -> None:
        self.channel.feed(data, now().utc_ms)
        while (item := self.channel.next()) is not None:
            for indication in self.osi.receive_tpdu(*item):
                if type(indication) is AssociateInd:
                    self.association.receive(
                        Carrier.ASSOCIATE_REQ, indication.user_data, now(), calling=_name(indication.calling)
                    )
                elif type(indication) is AssociateCnf:
                    self.association.receive(
                        Carrier.ASSOCIATE_RSP,
                        indication.user_data,
                        now(),
                        responding=_name(indication.responding),
                        disposition=indication.result,
                    )
                elif type(indication) is TransportConnected:
                    if self.association.role is Role.CLIENT:
                        self.association.start(INITIATE, now())
                else:
                    raise RuntimeError(f"unexpected {indication}")
        self.carry_out()


def _params(own: OsiName, peer: OsiName) -> OsiParams:
    return OsiParams(
        security=True,
        local=OsiAddress(ap_title=own.ap_title, ae_qualifier=own.ae_qualifier),
        remote=OsiAddress(ap_title=peer.ap_title, ae_qualifier=peer.ae_qualifier),
    )


def _name(title: AeTitle) -> OsiName | None:
    if title.ap_title is None or title.ae_qualifier is None:
        return None
    return OsiName(title.ap_title, title.ae_qualifier)


class Setup:
    """Credentials of one kind of key, and a loop of handshakes and of their bare public-key operations."""

    def __init__(self, key: str, group: int) -> None:
        self.group = group
        self.algorithm = SHA256_RSA if key.startswith("rsa") else ECDSA_SHA256
        self.authority = TrialAuthority.in_memory(now().utc_ms - 86_400_000)
        self.credentials = {name: self._credential(name, key) for name in (CLIENT, SERVER)}
        self.keys: dict[OsiName, PrivateKey] = {}
        # strict_peer: no NULL transfer follows when many associations open at once; that is not the handshake.
        self.policy = Policy(groups=(group,), accept_groups=(group,), strict_peer=True)

    def _credential(self, name: OsiName, key: str) -> Credential:
        issued = self.authority.issue_e2e(f"bench-{name.ae_qualifier}-{name.oid[-4:]}", name, key=key)
        self.issued = issued
        return make_credential(issued.certificate, (), SoftwareSigner(PrivateKey.from_pem(issued.key_pem)))

    def _endpoint(self, name: OsiName) -> Endpoint:
        trust = TrustStore((self.authority.root,), (self.authority.crl,))
        return Endpoint(Config(credential=self.credentials[name], trust=trust, policy=self.policy), now=now())

    def handshakes(self) -> Callable[[int], float]:
        client_end, server_end = self._endpoint(CLIENT), self._endpoint(SERVER)
        client_params, server_params = _params(CLIENT, SERVER), _params(SERVER, CLIENT)

        def run(n: int) -> float:
            sides = []
            start = time.perf_counter()
            for _ in range(n):
                client = Side(Role.CLIENT, client_end, client_params, SERVER)
                server = Side(Role.SERVER, server_end, server_params, None)
                sides += [client, server]
                client.osi.connect_transport()
                while not (client.open and server.open):
                    server.receive(client.osi.data_to_send())
                    client.receive(server.osi.data_to_send())
            taken = time.perf_counter() - start
            for side in sides:  # so that the tables of open associations do not fill up
                side.association.connection_lost(now())
            return taken

        return run

    def operations(self) -> Callable[[int], float]:
        """Per handshake and side: key generation, agreement, one signature, and the peer's two verified."""
        root = Certificate(self.authority.root, ca=True).public_key
        sides = []
        for name in (CLIENT, SERVER):
            credential = self.credentials[name]
            certificate = Certificate(credential.certificate)
            sides.append((credential.signer, certificate.public_key, certificate))
        message = bytes(1200)

        def run(n: int) -> float:
            start = time.perf_counter()
            for _ in range(n):
                ephemerals = [Ephemeral.generate(self.group) for _ in sides]
                for index, (signer, public, certificate) in enumerate(sides):
                    signature = signer.sign(message)
                    public.verify(self.algorithm, message, signature)
                    root.verify(certificate.signature_algorithm, certificate.tbs, certificate.signature)
                    ephemerals[index].derive(ephemerals[1 - index].public)
            return time.perf_counter() - start

        return run


def run(report: harness.Report, full: bool) -> None:
    rounds = harness.ROUNDS_FULL if full else harness.ROUNDS
    cases = {"p256": ("p256", 23), "rsa2048-dh14": ("rsa2048", 14)}
    for case, (key, group) in cases.items():
        report.progress(f"handshake {case}")
        setup = Setup(key, group)
        ours, operations = setup.handshakes(), setup.operations()
        harness.compare(report, "handshake", case, None, "public-key-ops", ours, operations, rounds)
        if case == "p256":
            harness.compare(report, "handshake", case, None, "tls13-mutual", ours, tls.Pair().handshakes(), rounds)
