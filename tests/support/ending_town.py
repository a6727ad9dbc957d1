"""An installation in which contracts and accounts end: two customers with mail, queued messages and withheld ones."""

from __future__ import annotations

from pathlib import Path

from storage.certificates.certificate import Certificate
from storage.clock import FixedClock
from storage.delivery import Delivery, deliver
from storage.directory.provisioning import Provisioning
from storage.ending.ending import Progress, carry_out
from storage.ending.orders import order_account, order_tenant
from storage.ending.processes import Nobody, Processes
from storage.installation import Installation
from storage.keys.keystore import KeyStore
from storage.keys.master import Master, read_master_file, write_master_file
from storage.keys.source import LocalKeys
from storage.queue.entries import EnvelopeParameters, NewEntry, NewRecipient, Origin, new_queue_id
from storage.values import AccountId, Domain, EmailAddress, TenantId

TOKEN = "zebrafink-4711"


class EndingTown:
    def __init__(self, data: Path, *, anew: bool = True) -> None:
        self.data = data
        self.clock = FixedClock()
        master = data / "keys" / "master"
        if anew:
            master.parent.mkdir(parents=True)
            write_master_file(master, Master.generate())
            KeyStore.create(data / "keys", read_master_file(master), self.clock)
        self.keys = LocalKeys(KeyStore(data / "keys", read_master_file(master), self.clock))
        if anew:
            Installation.create(data, self.keys, self.clock)
        self.installation = Installation(data, self.keys, self.clock)
        self.provisioning = Provisioning(self.installation)

    def close(self) -> None:
        self.installation.close()

    def another(self) -> Installation:
        """As another process has it."""
        return Installation(self.data, self.keys, self.clock)

    def tenant(self, slug: str = TOKEN, domain: str = f"{TOKEN}.test") -> TenantId:
        tenant_id = self.provisioning.create_tenant(slug, f"{slug} and Sons").tenant_id
        self.installation.control.add_domain(tenant_id, Domain.parse(domain))
        self.installation.control.verify_domain(Domain.parse(domain), None)
        return tenant_id

    def account(self, tenant_id: TenantId, name: str = "anna", domain: str = f"{TOKEN}.test") -> AccountId:
        address = EmailAddress.parse(f"{name}@{domain}")
        account_id = self.provisioning.create_account(tenant_id, address, name=f"{name} of {TOKEN}").account_id
        self.deliver(tenant_id, account_id)
        return account_id

    def deliver(
        self, tenant_id: TenantId, account_id: AccountId, delivery: str = "first", *, by: Installation | None = None
    ) -> bool:
        data = f"From: {TOKEN}@elsewhere.test\r\nSubject: {TOKEN}\r\n\r\n{TOKEN}\r\n".encode()
        [outcome] = deliver(by or self.installation, tenant_id, [Delivery(account_id)], data, b"", delivery)
        return outcome.delivered

    def queued(self, tenant_id: TenantId, account_id: AccountId, *, by: Installation | None = None) -> str:
        """A message that the account sent, and that waits."""
        recipient = NewRecipient(EmailAddress.parse(f"{TOKEN}@elsewhere.test"))
        entry = NewEntry(
            new_queue_id(self.clock),
            tenant_id,
            account_id,
            Origin.SUBMISSION,
            EmailAddress.parse(f"anna@{TOKEN}.test"),
            EnvelopeParameters(),
            (recipient,),
            self.clock.now() + 86_400,
            f"Subject: {TOKEN}\r\n\r\n{TOKEN}\r\n".encode(),
        )
        (by or self.installation).queue.enqueue([entry])
        return entry.queue_id

    def end(self, tenant_id: TenantId, account_id: AccountId | None = None, **how: object) -> Certificate:
        return self.carry_out(self.order(tenant_id, account_id), **how)  # type: ignore[arg-type]

    def order(self, tenant_id: TenantId, account_id: AccountId | None = None) -> str:
        if account_id is None:
            return order_tenant(self.installation, tenant_id, "root", "gave notice")
        return order_account(self.installation, tenant_id, account_id, "root", "left")

    def carry_out(
        self, ending_id: str, people: Processes | None = None, progress: Progress | None = None
    ) -> Certificate:
        return carry_out(self.installation, ending_id, people=people or Nobody(), progress=progress)
