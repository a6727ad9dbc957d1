"""Writes the owners' access journals: what others did and read is told in a mailbox of the person concerned.

Follows the audit chain, a page of records at a time. An entry is stored once however often a round is repeated, by the
number of its record; only then does the position in the chain move on. An account that cannot be written now (its
database does not open) keeps a position of its own, and stops nobody else. Accounts that are gone are passed over, and
so are records that are older than access events may be. What a secrecy order covered is told when it is over
(`storage.directory.disclosures`). The head of the chain is signed in the same round. Blocking.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from itertools import chain, islice

from hosting.journal_records import of_accounts
from hosting.journal_words import entry_of, is_told, told_from
from storage.audit import AuditRecord
from storage.directory.rows import AccountRow, State
from storage.errors import CleanmailError, Gone, NotFound
from storage.installation import Installation
from storage.mail import journal
from storage.register.values import Kept
from storage.values import AccountId, TenantId

log = logging.getLogger("journal")

EVERY = 60.0  # seconds between two rounds
SIGN_EVERY = 3600  # seconds between two signatures, if something was appended
POSITION = "journal"  # how far it has come in the chain
_BEHIND = "journal of "  # … for accounts that could not be written, by number

_AT_ONCE = 1000  # records in memory


class JournalRound:
    def __init__(self, installation: Installation, hostname: str) -> None:
        self._installation = installation
        self._hostname = hostname
        self._stopping = False

    def stop(self) -> None:
        """The round that is under way ends at a whole step; the next goes on."""
        self._stopping = True

    def run(self) -> None:
        self._follow_up()
        self._follow()
        self._tell_what_was_secret()
        self._sign()

    def _follow(self) -> None:
        audit = self._installation.audit
        position = audit.positions.of(POSITION)
        while not self._stopping:
            records = list(islice(audit.read(after=position), _AT_ONCE))
            if not records:
                return
            self._write(records)
            position = records[-1].number
            audit.positions.set(POSITION, position)

    def _follow_up(self) -> None:
        """Accounts whose journals could not be written before."""
        audit = self._installation.audit
        for account, position in audit.positions.under(_BEHIND).items():
            if self._stopping:
                return
            if self._write(audit.read(after=position), AccountId(int(account))):
                audit.positions.set(_BEHIND + account, None)

    def _write(self, records: Iterable[AuditRecord], only: AccountId | None = None) -> bool:
        """False if some could not be written now: where these begin is noted, and they are written later.

        `only` to the journal of this account.
        """
        now, oldest = self._installation.clock.now(), self._oldest
        accounts: dict[tuple[TenantId, AccountId], list[AuditRecord]] = {}
        concerned = chain.from_iterable(
            of_accounts(self._installation, each) for each in records if told_from(each) >= oldest
        )
        damaged: dict[AccountId, int] = {}
        for record in concerned:
            tenant_id, account_id = record.tenant_id, record.account_id
            if record.unreadable and account_id and only in {None, account_id}:
                damaged.setdefault(account_id, record.number - 1)
            elif tenant_id and account_id and only in {None, account_id} and is_told(record, now):
                accounts.setdefault((tenant_id, account_id), []).append(record)
        behind = dict(damaged)
        for (tenant_id, account_id), told in accounts.items():
            if not self._write_to(tenant_id, account_id, told):
                behind[account_id] = min(told[0].number - 1, behind.get(account_id, told[0].number))
        for account_id, before in behind.items():
            audit = self._installation.audit
            if account_id in damaged:
                log.error("records of account %d cannot be read: they, or its key, are damaged", account_id)
            known = audit.positions.under(_BEHIND).get(str(account_id), before)
            audit.positions.set(f"{_BEHIND}{account_id}", min(known, before))
        return not behind

    def _write_to(self, tenant_id: TenantId, account_id: AccountId, records: Iterable[AuditRecord]) -> bool:
        try:
            row = self._account(tenant_id, account_id)
            if row is None:
                return True
            entries = [entry_of(record, str(row.login), self._hostname) for record in records]
            with self._installation.account(tenant_id, account_id) as account:
                journal.write(account, entries)
        except Gone:
            return True
        except CleanmailError as error:
            log.error("the journal of account %d cannot be written: %s", account_id, error.detail or error.public)
            return False
        return True

    def _account(self, tenant_id: TenantId, account_id: AccountId) -> AccountRow | None:
        """None if it is deleted, so that nobody reads it any more."""
        try:
            row = self._installation.tenant(tenant_id).account(account_id)
        except NotFound:
            return None
        return None if row.state is State.ENDED else row

    @property
    def _oldest(self) -> int:
        return self._installation.periods.of(Kept.ACCESS).cut_off(self._installation.clock.now())

    def _tell_what_was_secret(self) -> None:
        """Disclosures whose secrecy is over; what was written already is not written again."""
        control, audit = self._installation.control, self._installation.audit
        for case in control.disclosures.to_tell():
            if self._stopping:
                return
            records = [
                record
                for record in audit.read(since=case.received, action="disclosure", tenant_id=case.tenant_id)
                if record.details is not None and record.details.get("case") == case.case_id
            ]
            if self._write(records):
                control.disclosures.told(case.case_id)

    def _sign(self) -> None:
        audit = self._installation.audit
        signed = audit.checkpoints()[-1:]
        last = signed[0] if signed else None
        head = audit.head()
        now = self._installation.clock.now()
        if not head.number or (last is not None and (last.number == head.number or now - last.time < SIGN_EVERY)):
            return
        try:
            audit.checkpoint()
        except CleanmailError as error:
            log.error("the audit chain was not signed: %s", error.detail or error.public)
