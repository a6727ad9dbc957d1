"""An installation that knows two persons in every way it can: who has an account, and who writes to two customers."""

from __future__ import annotations

from pathlib import Path

from ending_town import EndingTown

from storage.directory.disclosures import Authority, Scope, What
from storage.filter.rules import WHOLE_TENANT, ListKind
from storage.logs.access import AccessEvent
from storage.logs.trace import TraceEvent, TraceKind
from storage.logs.transcripts import Direction, TranscriptRecord
from storage.quarantine.store import Quarantine
from storage.quarantine.values import NewWithheld, Onward, Way, WithheldFor
from storage.queue.entries import EnvelopeParameters, NewEntry, NewRecipient, Origin, new_queue_id
from storage.values import AccountId, EmailAddress, TenantId

ADA, BO, CY = (EmailAddress.parse(text) for text in ("ada-q7x@acme.test", "bo@acme.test", "cy@other.test"))
STRANGER = EmailAddress.parse("nadia-k3v@far.test")
CLIENT = "203.0.113.77"  # ada's
ALIAS = "nickname-z5w@acme.test"


class PersonTown(EndingTown):
    acme: TenantId
    other: TenantId
    ada: AccountId
    bo: AccountId
    cy: AccountId

    @classmethod
    def made(cls, data: Path) -> PersonTown:
        town = cls(data)
        town.acme = town.tenant("acme", "acme.test")
        town.other = town.tenant("other", "other.test")
        create = town.provisioning.create_account
        town.ada = create(town.acme, ADA, name="Ada of q7x").account_id
        town.bo = create(town.acme, BO, name="Bo").account_id
        town.cy = create(town.other, CY, name="Cy").account_id
        town._settings()
        town._records()
        for tenant_id, account_id, to in ((town.acme, town.bo, BO), (town.other, town.cy, CY)):
            town._withhold(tenant_id, account_id, to)
        town._queue()
        return town

    @classmethod
    def again(cls, data: Path) -> PersonTown:
        """The same, by another process."""
        town = cls(data, anew=False)
        by_slug = {row.slug: row.tenant_id for row in town.installation.control.tenants()}
        town.acme, town.other = by_slug["acme"], by_slug["other"]
        town.ada, town.bo, town.cy = AccountId(1), AccountId(2), AccountId(3)
        return town

    def _settings(self) -> None:
        installation = self.installation
        self.provisioning.add_alias(self.acme, EmailAddress.parse(ALIAS), [ADA])
        self.provisioning.add_alias(self.acme, EmailAddress.parse("list@acme.test"), [BO, STRANGER])
        self.provisioning.add_alias(self.other, EmailAddress.parse("away@other.test"), [STRANGER])
        self.provisioning.create_app_password(self.acme, self.ada, "ada's telephone")
        for tenant_id, account_id in ((self.acme, self.bo), (self.other, self.cy)):
            tenant = installation.tenant(tenant_id)
            tenant.filter_rules.add(WHOLE_TENANT, str(STRANGER), ListKind.DENY)
            tenant.srs.token(STRANGER)
            tenant.correspondents.record(account_id, [STRANGER])
            tenant.correspondents.flush()
        installation.control.contracts.set_contact(self.other, STRANGER)
        scope = Scope(frozenset({What.ACCESS}), 0, 100)
        for until in (None, self.clock.now() + 86_400):
            installation.control.disclosures.record(
                installation.control.disclosures.new_id(),
                Authority.COURT,
                "District court" if until is None else "Secret court k1",
                "a law",
                b"d" * 32,
                scope,
                "root",
                self.acme,
                self.ada,
                secret_until=until,
            )

    def _records(self) -> None:
        installation, now = self.installation, self.clock.now()
        for account_id, tenant_id, client in (
            (self.ada, self.acme, CLIENT),
            (self.bo, self.acme, "192.0.2.2"),
            (self.cy, self.other, "192.0.2.3"),
        ):
            event = AccessEvent(now, "sign_in", "success", "imap", tenant_id, account_id, b"", client)
            installation.access_log.record(event)
        for number, (sender, recipient, tenant_id) in enumerate(
            ((STRANGER, ADA, self.acme), (ADA, STRANGER, self.acme), (BO, ADA, self.acme), (STRANGER, CY, self.other))
        ):
            installation.traces.record(
                TraceEvent(now, f"q{number}", TraceKind.RECEIVED, tenant_id, None, str(sender), str(recipient))
            )
        text = f"0.1 < EHLO x\n0.2 < AUTH PLAIN ...\n0.3 < MAIL FROM:<{ADA}>\n0.4 < RCPT TO:<{BO}>"
        record = TranscriptRecord(now, Direction.IN, "s1", CLIENT, ("q2",), (int(self.acme),), text)
        installation.transcripts.record(record)
        installation.audit.append("account.show", "root", self.acme, self.ada, {"account": str(ADA)})
        installation.flush_logs()

    def _withhold(self, tenant_id: TenantId, account_id: AccountId, to: EmailAddress) -> None:
        data = f"From: Nadia <{STRANGER}>\r\nTo: {to}\r\nSubject: hello\r\n\r\nbody\r\n".encode()
        held = WithheldFor(to, Onward(Way.MAILBOX, account_id), "spam", "It is spam.")
        new = NewWithheld(
            new_queue_id(self.clock), STRANGER, EnvelopeParameters(), (held,), self.clock.now() + 86_400, b"", data
        )
        Quarantine(self.installation).keep(tenant_id, new)

    def _queue(self) -> None:
        entry = NewEntry(
            new_queue_id(self.clock),
            self.acme,
            self.bo,
            Origin.SUBMISSION,
            BO,
            EnvelopeParameters(),
            (NewRecipient(STRANGER), NewRecipient(EmailAddress.parse("third@far.test"))),
            self.clock.now() + 86_400,
            b"Subject: x\r\n\r\nx\r\n",
        )
        self.installation.queue.enqueue([entry])
