"""Erases a person, with the exceptions that the law makes, and says what was erased and what stays, why and until when.

    logs            keys of the account in segments of access events, traces and transcripts: only with a legal reason
                    and a second person, since they are kept for purposes that go on after a contract
    correspondence  withheld messages from the address, entries of lists, targets of aliases, senders of forwarded mail,
                    who knows the address
    account         ends as every account does (`storage.ending`), with its certificate: what the caller does last

Every step may be repeated; killed in between, the same call goes on. A legal hold on an account stops all of it; one
on a customer keeps what lies there as it is, and the answer says so. Audit records, certificates, contracts and cases
stay.

Raises: Conflict (a legal hold), NotPermitted (no second person agreed), InvalidInput, Unavailable, StorageFull.
Standards: GDPR Art. 17 (1) and (3), revFADP Art. 32 (2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from sqlalchemy import bindparam, delete, exists, select

from storage.database.database import Transaction
from storage.database.prepared import prepare
from storage.directory.addresses import ACCOUNT
from storage.directory.approvals import Approval, ApprovalState, Kind, scope_of
from storage.directory.rows import TenantRow
from storage.errors import CleanmailError, InvalidInput, NotFound, NotPermitted
from storage.filter.rules import of_account
from storage.installation import Installation
from storage.logs.classes import CLASSES
from storage.logs.segments import erase_subject, subject_segments
from storage.persons import requests
from storage.persons.sought import Sought
from storage.quarantine.store import Quarantine
from storage.quarantine.values import Query
from storage.register import classes, words
from storage.register.values import DataClass
from storage.schema.tenant import address as address_table
from storage.schema.tenant import srs, target
from storage.values import AccountId, EmailAddress, TenantId

LOGS = "logs"  # what a scope of an approval names

_SRS = prepare(select(srs.c.token, srs.c.address))
_DELETE_SRS = prepare(delete(srs).where(srs.c.token == bindparam("which")))
_TARGETS = prepare(
    select(target.c.address_key, target.c.position, target.c.target_address).where(target.c.target_address.is_not(None))
)
_DELETE_TARGET = prepare(
    delete(target).where(target.c.address_key == bindparam("key"), target.c.position == bindparam("place"))
)
_DELETE_EMPTY = prepare(
    delete(address_table).where(
        address_table.c.kind != ACCOUNT,
        ~exists().where(target.c.address_key == address_table.c.address_key),
    )
)


@dataclass(frozen=True, slots=True)
class Stays:
    """What is not erased."""

    of: DataClass
    why: str
    until: str


@dataclass
class Erased:
    """What was erased, by class and how many, and what stays."""

    counts: dict[str, int] = field(default_factory=dict)
    stays: list[Stays] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def add(self, of: DataClass, number: int) -> None:
        self.counts[of.name] = self.counts.get(of.name, 0) + number


Step = Callable[[str], None]
"""Called with the name of each step before it; what it raises stops the work there."""


def _nobody_looks(_: str) -> None:
    return


def logs_scope(sought: Sought, tenant_id: TenantId, account_id: AccountId) -> dict[str, str]:
    """Of the approval by which logs are erased; it does not end with the account."""
    return scope_of(tenant_id, account_id, erase=LOGS, **{requests.PERSON: sought.mark})


def ask_for_logs(sought: Sought, reason: str, by: str, *, unix: str = "", days: int = 7) -> Approval:
    """One person asks; another has to approve it before `erase` with `logs`."""
    tenant_id, account_id = _of_logs(sought, None)
    scope = logs_scope(sought, tenant_id, account_id)
    approvals = sought.installation.control.approvals
    return approvals.ask(Kind.EARLY_ERASURE, scope, reason, by, tenant_id, unix=unix, days=days)


def may_erase_logs(sought: Sought, by: str) -> bool:
    """Whether another person approved what `by` asked for, or that was begun and not finished."""
    return _approval(sought, by) is not None


def erase(
    sought: Sought, by: str, reason: str, *, logs: bool = False, step: Step = _nobody_looks, end: bool = True
) -> Erased:
    """All but the ending of an account, which `end` says will follow; records are written first."""
    installation, erased = sought.installation, Erased()
    if not reason.strip():
        raise InvalidInput("A reason is needed: it is what the audit records will say.")
    if sought.account is not None and sought.account.login.key != sought.address.key:
        raise InvalidInput(
            f"{sought.address} is an alias of the account {sought.account.login}: erase the account, or remove the"
            " alias (cleanmail alias remove)."
        )
    if sought.account_id is not None and sought.tenant_id is not None:
        installation.control.holds.check(sought.tenant_id, sought.account_id)
    of_logs = None
    if logs:
        approval = _approval(sought, by)
        if approval is None:
            raise NotPermitted("Records are erased only where a second person agreed.")
        of_logs = _of_logs(sought, approval)
        installation.control.holds.check(*of_logs)
        _use(sought, approval, by)
    requests.record(sought, requests.ERASE, by, {"reason": reason, "logs": "yes" if logs else "no"})
    if of_logs is not None:
        step("logs")
        erase_logs(sought, of_logs[1], erased)
    for row in sought.living():
        if installation.control.holds.in_force(row.tenant_id):
            erased.stays.append(
                Stays(classes.HOLDS, f"a legal hold is on data of {row.slug}", "until the hold is over")
            )
            continue
        try:
            _erase_in(sought, row, erased, step)
        except CleanmailError as error:
            erased.failed.append(f"{row.slug}: {error.public}")
    _say_what_stays(sought, erased, logs=of_logs is not None, account=end and sought.account is not None)
    step("done")
    counts = {name: str(number) for name, number in erased.counts.items() if number}
    requests.record(sought, requests.DONE, by, counts | {"failed": str(len(erased.failed))})
    return erased


def erase_logs(sought: Sought, account_id: AccountId, erased: Erased) -> None:
    """The account's texts in records end, whatever is there now; `erase_last_logs` follows the account's end."""
    installation = sought.installation
    installation.flush_logs()
    for kind in CLASSES:
        erased.add(kind.of, erase_subject(installation.data, kind, account_id))


def erase_last_logs(sought: Sought, account_id: AccountId, erased: Erased, written: Callable[[], None]) -> None:
    """What the account's last sessions left, when `written` returns: other processes have it in memory till then."""
    written()
    erase_logs(sought, account_id, erased)


def left_in_logs(installation: Installation, account_id: AccountId) -> dict[str, int]:
    """In how many segments of each class something is sealed under a key of the account."""
    return {kind.name: subject_segments(installation.data, kind, account_id) for kind in CLASSES}


# Records


def _of_logs(sought: Sought, approval: Approval | None) -> tuple[TenantId, AccountId]:
    """Whose records: of who has the address, or had it when the erasure was approved."""
    if sought.account_id is not None and sought.tenant_id is not None:
        return sought.tenant_id, sought.account_id
    scope = (approval.scope if approval is not None else None) or {}
    if "tenant" in scope and "account" in scope:
        return TenantId(int(scope["tenant"])), AccountId(int(scope["account"]))
    raise NotFound(
        f"Nobody here has the address {sought.address}: records name strangers only until their day is over, and are"
        " not sealed under keys of theirs."
    )


def _approval(sought: Sought, by: str) -> Approval | None:
    """An approval that can be used, or (of an erasure that was interrupted) that was."""
    now = sought.installation.clock.now()
    for found in sought.installation.control.approvals.all():
        scope = found.scope or {}
        if (
            found.kind is Kind.EARLY_ERASURE
            and found.asked_by == by
            and scope.get("erase") == LOGS
            and scope.get(requests.PERSON) == sought.mark
            and _is_same_account(sought, scope)
            and sought.in_scope(found.tenant_id)
            and found.expires > now
            and found.state in {ApprovalState.APPROVED, ApprovalState.USED}
        ):
            return found
    return None


def _is_same_account(sought: Sought, scope: Mapping[str, str]) -> bool:
    """Somebody else may have the address by now."""
    tenant_id, account_id = sought.tenant_id, sought.account_id
    return tenant_id is None or account_id is None or dict(scope) == logs_scope(sought, tenant_id, account_id)


def _use(sought: Sought, approval: Approval, by: str) -> None:
    if approval.state is ApprovalState.APPROVED and approval.scope is not None:
        sought.installation.control.approvals.use(Kind.EARLY_ERASURE, approval.scope, by)


# What lies with one customer


def _erase_in(sought: Sought, row: TenantRow, erased: Erased, step: Step) -> None:
    keys = {address.key for address in sought.addresses}
    step(f"quarantine {row.slug}")
    erased.add(classes.WITHHELD, _withheld(sought, row, keys))
    step(f"lists {row.slug}")
    erased.add(classes.SETTINGS, _lists(sought, row, keys))
    step(f"aliases {row.slug}")
    erased.add(classes.ACCOUNTS, _aliases(sought, row, keys))
    step(f"forwarding {row.slug}")
    erased.add(classes.FORWARDED_SENDERS, _forwarded(sought, row, keys))
    step(f"correspondents {row.slug}")
    correspondents = sought.installation.tenant(row.tenant_id).correspondents
    erased.add(classes.EXPERIENCE, sum(correspondents.remove_address(each) for each in sought.addresses))


def _withheld(sought: Sought, row: TenantRow, keys: set[str]) -> int:
    """Messages that the person wrote; those that are being released go to whom they are released for."""
    rows = Quarantine(sought.installation).of(row.tenant_id)
    names = sought.namer()
    removed = 0
    for message in rows.each(Query()):
        if (message.sender is not None and message.sender.key in keys) or names(message.author):
            removed += bool(rows.delete(message.quarantine_id, [each.position for each in message.recipients]))
    return removed


def _lists(sought: Sought, row: TenantRow, keys: set[str]) -> int:
    rules = sought.installation.tenant(row.tenant_id).filter_rules
    own = of_account(sought.account_id) if sought.account_id is not None else None
    removed = 0
    for entry in rules.entries():
        if entry.scope != own and entry.pattern.casefold() in keys:
            with suppress(NotFound):  # somebody else removed it meanwhile
                rules.remove(entry.scope, entry.pattern, entry.kind)
                removed += 1
    return removed


def _aliases(sought: Sought, row: TenantRow, keys: set[str]) -> int:
    """Aliases lead there no more; one that would lead nowhere goes. An account's own place goes with the account."""

    def work(transaction: Transaction) -> int:
        removed = 0
        for key, position, text in _TARGETS.rows(transaction):
            if EmailAddress.parse(text).key in keys:
                removed += _DELETE_TARGET.run(transaction, key=key, place=position)
        if removed:
            _DELETE_EMPTY.run(transaction)
        return removed

    return sought.installation.tenant(row.tenant_id).database.write(work)


def _forwarded(sought: Sought, row: TenantRow, keys: set[str]) -> int:
    def work(transaction: Transaction) -> int:
        tokens = [token for token, text in _SRS.rows(transaction) if EmailAddress.parse(text).key in keys]
        return sum(_DELETE_SRS.run(transaction, which=token) for token in tokens)

    return sought.installation.tenant(row.tenant_id).database.write(work)


# What stays


_STAYS: tuple[tuple[DataClass, str], ...] = (
    (classes.AUDIT, "records that something was done have to be kept; what is personal in them ends with the account"),
    (classes.ERASURES, "certificates prove the erasure itself"),
    (classes.CONTRACTS, "business records have to be kept by law"),
    (classes.APPROVALS, "what two persons decided has to be provable"),
    (classes.DISCLOSURES, "what was handed to authorities has to be provable"),
    (classes.QUEUE, "mail under way is delivered, as its sender wants"),
)
_LOG_REASONS: tuple[tuple[DataClass, str], ...] = (
    (classes.ACCESS_EVENTS, "who used an account is needed against abuse"),
    (classes.TRANSCRIPTS, "sender, recipient and time have to be reconstructed"),
    (classes.TRACES, "where a message is has to be answered"),
)


def _say_what_stays(sought: Sought, erased: Erased, *, logs: bool, account: bool) -> None:
    periods = sought.installation.periods
    if not logs:
        erased.stays += [Stays(of, why, words.how_long(of, periods)) for of, why in _LOG_REASONS]
    else:
        why = "what names this person beside his account, or was written by an earlier version, has no key of his"
        erased.stays += [Stays(of, why, words.how_long(of, periods)) for of in (classes.TRANSCRIPTS, classes.TRACES)]
    erased.stays += [Stays(of, why, words.how_long(of, periods)) for of, why in _STAYS]
    why = "messages that others have from this person, or wrote to him, are theirs"
    erased.stays.append(Stays(classes.MAIL, why, words.how_long(classes.MAIL, periods)))
    why = "entries of others' calendars and address books that name this person are theirs"
    erased.stays.append(Stays(classes.COLLECTIONS, why, words.how_long(classes.COLLECTIONS, periods)))
    why = "copies of data are kept for so long" + (", without the account's key" if account else "")
    erased.stays.append(Stays(classes.BACKUPS, why, words.how_long(classes.BACKUPS, periods)))
