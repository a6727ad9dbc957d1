"""A data directory with two tenants, their accounts and a quarantine, on real databases and files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.mx.recipients import Recipients
from gateway.quarantine.release import Releases, Teach
from hosting.quarantine.service import QuarantineService
from storage.clock import FixedClock
from storage.directory.provisioning import Provisioning
from storage.directory.resolve import Resolver
from storage.installation import Installation
from storage.keys.keystore import KeyStore
from storage.keys.master import Master
from storage.keys.source import LocalKeys
from storage.quarantine.rows import QuarantineRows
from storage.quarantine.store import Quarantine
from storage.quarantine.values import Limits, NewWithheld, Onward, Way, WithheldFor
from storage.queue.entries import EnvelopeParameters, new_queue_id
from storage.values import UID_MAX, AccountId, Domain, EmailAddress, TenantId

ONE, TWO = TenantId(1), TenantId(2)
ALICE, BOB, MALLORY = AccountId(1), AccountId(2), AccountId(3)
ADDRESSES = {ALICE: "alice@one.test", BOB: "bob@one.test", MALLORY: "mallory@two.test"}
STRANGER = EmailAddress.parse("stranger@far.example")
PREFIX = b"Received: from mx.far.example by mail.test;\r\n\tnow\r\nX-Cleanmail-Verdict: quarantine; reason=spam\r\n"
DAY = 86_400
SERVER_USER = "cleanmail"


def mail(token: str = "token", size: int = 3000) -> bytes:
    head = f"From: A Stranger <stranger@far.example>\r\nTo: alice@one.test\r\nSubject: subject {token}\r\n\r\n"
    return (head + f"body {token}\r\n" * (size // (len(token) + 7))).encode()


def to_mailbox(account_id: AccountId = ALICE, address: str = "", **onward: Any) -> WithheldFor:
    return WithheldFor(
        EmailAddress.parse(address or ADDRESSES[account_id]),
        Onward(Way.MAILBOX, account_id, **onward),
        "spam",
        "Its content is that of spam.",
        "would have passed from a sender that you write to",
    )


def forwarded(address: str = "away@one.test", to: str = "far@elsewhere.example", **onward: Any) -> WithheldFor:
    where = Onward(Way.FORWARDED, to=EmailAddress.parse(to), **onward)
    return WithheldFor(EmailAddress.parse(address), where, "spam", "Its content is that of spam.")


def routed(address: str = "carol@one.test") -> WithheldFor:
    parsed = EmailAddress.parse(address)
    return WithheldFor(parsed, Onward(Way.ROUTED, to=parsed, domain=parsed.domain), "spam", "It is spam.")


class Place:
    """`taught` is what releases have taught the filter."""

    def __init__(self, data: Path, limits: Limits | None = None) -> None:
        self.data = data
        self.clock = FixedClock()
        self.keys = LocalKeys(KeyStore.create(data / "keys", Master.generate(), self.clock))
        Installation.create(data, self.keys, self.clock)
        self.limits = limits or Limits()
        self.taught: list[tuple[TenantId, AccountId | None, bytes]] = []
        self._open()
        provisioning = Provisioning(self.installation)
        for slug in ("one", "two"):
            tenant_id = provisioning.create_tenant(slug, slug).tenant_id
            self.installation.control.add_domain(tenant_id, Domain(f"{slug}.test"))
            self.installation.control.verify_domain(Domain(f"{slug}.test"), None)
            for account_id, address in ADDRESSES.items():
                if address.endswith(f"@{slug}.test"):
                    row = provisioning.create_account(tenant_id, EmailAddress.parse(address))
                    assert row.account_id == account_id

    def _open(self) -> None:
        self.installation = Installation(self.data, self.keys, self.clock)
        self.resolver = Resolver(self.installation)
        self.quarantine = Quarantine(self.installation, self.limits)
        self.releases = self.make_releases(self._learn)
        self.service = QuarantineService(self.installation, self.quarantine, self.releases, server_users={SERVER_USER})

    def make_releases(self, teach: Teach | None) -> Releases:
        recipients = Recipients(self.installation, self.resolver)
        return Releases(self.installation, self.quarantine, recipients, teach=teach)

    def _learn(self, tenant_id: TenantId, account_id: AccountId | None, prefix: bytes, message: bytes) -> None:
        assert prefix == PREFIX
        self.taught.append((tenant_id, account_id, message))

    def close(self) -> None:
        self.installation.close()

    def reopen(self) -> None:
        """As another process that starts after the first has ended."""
        self.close()
        self._open()

    @contextmanager
    def another_process(self) -> Iterator[Quarantine]:
        installation = Installation(self.data, self.keys, self.clock)
        try:
            yield Quarantine(installation, self.limits)
        finally:
            installation.close()

    def rows(self, tenant_id: TenantId = ONE) -> QuarantineRows:
        return self.quarantine.of(tenant_id)

    def new(self, token: str = "token", *recipients: WithheldFor, **changes: Any) -> NewWithheld:
        new = NewWithheld(
            new_queue_id(self.clock),
            STRANGER,
            EnvelopeParameters(authentic=False),
            recipients or (to_mailbox(),),
            self.clock.now() + 30 * DAY,
            PREFIX,
            mail(token),
            4.2,
            {"client": "192.0.2.1", "spf": "none"},
        )
        return replace(new, **changes)

    def held(self, token: str = "token", *recipients: WithheldFor, tenant_id: TenantId = ONE, **changes: Any) -> str:
        """The id of a message that is withheld."""
        return self.quarantine.keep(tenant_id, self.new(token, *recipients, **changes))

    def files(self, tenant_id: TenantId = ONE) -> list[Path]:
        return sorted((self.data / "tenants" / str(tenant_id) / "quarantine").glob("*"))

    def inbox(self, account_id: AccountId = ALICE, tenant_id: TenantId = ONE) -> list[bytes]:
        with self.installation.account(tenant_id, account_id) as account:
            inbox = account.mailboxes.find("INBOX")
            ids = account.messages.fetch_rows(inbox.id, 1, UID_MAX, ("message_id",))
            return [account.messages.read_message(message_id) for (message_id,) in ids]
