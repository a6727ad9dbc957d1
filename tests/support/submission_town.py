"""An installation with mail and a submission service over it: real keys, databases, files, sockets and TLS."""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from auth_town import CHEAP
from certificates import write_certificate
from loop_thread import LoopThread

from gateway.smtp.limits import Limits
from gateway.smtp.session import BoundSocket
from gateway.smtp.tls import ServerCertificate
from hosting.auth.local import LocalAuth
from hosting.auth.pool import HashingPool
from hosting.auth.remembered import VerificationCache
from hosting.auth.signin import Principal, SignIn
from hosting.auth.throttle import Throttle
from hosting.auth.verifier import Verifier
from hosting.submission.acceptance import Acceptance
from hosting.submission.service import SubmissionService, SubmissionSettings
from storage.changes import Subscriber
from storage.clock import FixedClock
from storage.directory.provisioning import Provisioning
from storage.directory.resolve import Resolver
from storage.installation import Installation
from storage.keys.keystore import KeyStore
from storage.keys.master import Master, read_master_file, write_master_file
from storage.keys.source import LocalKeys
from storage.values import AccountId, Domain, EmailAddress, TenantId

PASSWORD = "correct horse"
HOSTNAME = "mail.example.test"


class SubmissionTown:
    """alice@ and bob@example.test with the alias team@ for both and sales@ for alice; mallory@other.test."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.clock = FixedClock()
        write_master_file(data / "master", Master.generate())
        self.keys = LocalKeys(KeyStore.create(data / "keys", read_master_file(data / "master"), self.clock))
        Installation.create(data, self.keys, self.clock)
        self.installation = Installation(data, self.keys, self.clock)
        self.provisioning = Provisioning(self.installation)
        self.resolver = Resolver(self.installation)
        self.pool = HashingPool(1)
        throttle, cache = Throttle(self.clock), VerificationCache(self.clock)
        access_log = self.installation.access_log
        verifier = Verifier(self.installation, CHEAP, self.pool, throttle, cache, access_log, self.clock)
        self.authenticator = LocalAuth(self.keys, verifier)
        self.accounts: dict[str, tuple[TenantId, AccountId]] = {}
        for slug, domain, people in (("one", "example.test", ("alice", "bob")), ("two", "other.test", ("mallory",))):
            tenant_id = self.provisioning.create_tenant(slug, slug).tenant_id
            self.installation.control.add_domain(tenant_id, Domain.parse(domain))
            self.installation.control.verify_domain(Domain.parse(domain), None)
            for name in people:
                address = EmailAddress.parse(f"{name}@{domain}")
                row = self.provisioning.create_account(tenant_id, address, password_hash=CHEAP.hash(PASSWORD))
                self.accounts[name] = (tenant_id, row.account_id)
        alice, bob = (EmailAddress.parse(f"{name}@example.test") for name in ("alice", "bob"))
        one = self.accounts["alice"][0]
        self.provisioning.add_alias(one, EmailAddress.parse("team@example.test"), [alice, bob])
        self.provisioning.add_alias(one, EmailAddress.parse("sales@example.test"), [alice])

    def close(self) -> None:
        self.pool.close()
        self.installation.close()

    def acceptance(self) -> Acceptance:
        return Acceptance(self.installation, self.resolver, self.clock, HOSTNAME)

    def principal(self, name: str) -> Principal:
        domain = "other.test" if name == "mallory" else "example.test"
        return self.authenticator.verify(SignIn("submission", f"{name}@{domain}", PASSWORD, "192.0.2.1"))

    def inbox(self, name: str) -> list[bytes]:
        """The messages in somebody's INBOX, whole."""
        with self.installation.account(*self.accounts[name]) as account:
            inbox = account.mailboxes.find("INBOX")
            rows = account.messages.fetch_rows(inbox.id, 1, 2**32 - 1, ("message_id",))
            return [account.messages.read_message(row[0]) for row in rows]


class RunningService(LoopThread):
    """The service on a loop of its own in a thread of its own."""

    def __init__(self, town: SubmissionTown, **settings: Any) -> None:
        super().__init__()
        self.town = town
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        self.port, self.tls_port = (sock.getsockname()[1] for sock in sockets)
        bound = [BoundSocket(sockets[0], implicit_tls=False), BoundSocket(sockets[1], implicit_tls=True)]
        certificate = ServerCertificate(*write_certificate(town.data / "tls"))
        subscriber = Subscriber(town.data, town.clock)
        self.service: SubmissionService = self.on_loop(
            lambda: SubmissionService(
                town.installation,
                town.authenticator,
                town.resolver,
                town.clock,
                SubmissionSettings(HOSTNAME, **{"limits": Limits(), "stop_within": 5.0, **settings}),
                bound,
                certificate,
                subscriber,
            )
        )
        self.on_loop(self.service.startService)
        self.settled(lambda: self.service.listening)

    def stop_sessions(self) -> None:
        """Ends all sessions, and waits until they are over."""
        if self.service.running:
            self.settled(self.service.stopService)

    def stop(self) -> None:
        self.stop_sessions()
        super().stop()

    @contextmanager
    def client(self, name: str = "alice", password: str = PASSWORD, *, tls: bool = True) -> Iterator[smtplib.SMTP]:
        """Somebody who is signed in."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        client: smtplib.SMTP
        if tls:
            client = smtplib.SMTP_SSL("127.0.0.1", self.tls_port, context=context, timeout=20)
        else:
            client = smtplib.SMTP("127.0.0.1", self.port, timeout=20)
            client.starttls(context=context)
        try:
            domain = "other.test" if name == "mallory" else "example.test"
            client.login(f"{name}@{domain}", password)
            yield client
        finally:
            client.close()
