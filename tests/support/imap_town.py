"""An installation with mail: real keys, databases and files, two accounts of one tenant and one of another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from auth_town import CHEAP

from hosting.auth.local import LocalAuth
from hosting.auth.mailbox_rights import DirectoryRights
from hosting.auth.pool import HashingPool
from hosting.auth.remembered import VerificationCache
from hosting.auth.signin import Principal
from hosting.auth.throttle import Throttle
from hosting.auth.verifier import Verifier
from hosting.imap.counters import Counters
from hosting.imap.limits import Limits
from hosting.imap.registry import Registry
from hosting.imap.rules import RULES
from hosting.imap.searching.threads import Threads
from hosting.imap.session import Services
from hosting.imap.sharing.other_users import SharedMailboxes
from storage.clock import FixedClock
from storage.directory.provisioning import Provisioning
from storage.installation import Installation
from storage.keys.keystore import KeyStore
from storage.keys.master import Master, read_master_file, write_master_file
from storage.keys.source import LocalKeys
from storage.mail.account import Account
from storage.values import AccountId, Domain, EmailAddress, TenantId

PASSWORD = "correct horse"


class MailTown:
    """alice@ and bob@example.test, mallory@other.test; every password is PASSWORD."""

    def __init__(self, data: Path, limits: Limits | None = None) -> None:
        self.data = data
        self.clock = FixedClock()
        write_master_file(data / "master", Master.generate())
        self.keys = LocalKeys(KeyStore.create(data / "keys", read_master_file(data / "master"), self.clock))
        Installation.create(data, self.keys, self.clock)
        self.installation = Installation(data, self.keys, self.clock)
        self.provisioning = Provisioning(self.installation)
        self.pool = HashingPool(1)
        self.verifier = Verifier(
            self.installation,
            CHEAP,
            self.pool,
            Throttle(self.clock),
            VerificationCache(self.clock),
            self.installation.access_log,
            self.clock,
        )
        self.authenticator = LocalAuth(self.keys, self.verifier)
        self.accounts: dict[str, tuple[TenantId, AccountId]] = {}
        for slug, domain, people in (("one", "example.test", ("alice", "bob")), ("two", "other.test", ("mallory",))):
            tenant_id = self.provisioning.create_tenant(slug, slug).tenant_id
            self.installation.control.add_domain(tenant_id, Domain.parse(domain))
            self.installation.control.verify_domain(Domain.parse(domain), None)
            for name in people:
                self.new_account(tenant_id, f"{name}@{domain}")
        self.limits = limits or Limits()
        self.services = Services(
            installation=self.installation,
            authenticator=self.authenticator,
            registry=Registry(self.limits),
            shared=SharedMailboxes(DirectoryRights(self.installation)),
            limits=self.limits,
            counters=Counters(),
            clock=self.clock,
            rules=RULES,
            threads=Threads(),
            plain_allowed=False,
            tls_offered=True,
        )

    def new_account(self, tenant_id: TenantId, address: str) -> None:
        row = self.provisioning.create_account(
            tenant_id, EmailAddress.parse(address), password_hash=CHEAP.hash(PASSWORD)
        )
        self.accounts[address] = (tenant_id, row.account_id)

    @contextmanager
    def account(self, address: str = "alice@example.test") -> Iterator[Account]:
        with self.installation.account(*self.accounts[address]) as account:
            yield account

    def principal(self, address: str = "alice@example.test") -> Principal:
        tenant_id, account_id = self.accounts[address]
        return Principal(tenant_id, account_id, address, "password", 1, 1, 0, 0)

    def close(self) -> None:
        self.installation.close()
        self.pool.close()


@contextmanager
def new_mail_town(data: Path, limits: Limits | None = None) -> Iterator[MailTown]:
    town = MailTown(data, limits)
    try:
        yield town
    finally:
        town.close()


def mail(
    subject: str = "Hello", *, sender: str = "Bob <bob@example.test>", body: str = "Text.\r\n", **fields: str
) -> bytes:
    """A small message; further fields by keyword, "_" for "-"."""
    lines = [f"From: {sender}", "To: alice@example.test", f"Subject: {subject}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    if "Date" not in fields:
        lines.append("Date: Sun, 15 Nov 2026 10:46:34 +0000")
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()
