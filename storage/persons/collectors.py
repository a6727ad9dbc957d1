"""What is stored about a person, class by class of the data register.

A collector gives items one after another, each with the register's name of where it stands. A class with persons in it
has a collector here, or a reason why it cannot be searched by an address (a test demands one of the two). Nothing that
an order keeps secret is told, nor that there is something.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from storage.database.prepared import prepare
from storage.directory.approvals import Kind
from storage.filter.rules import of_account
from storage.logs.classes import TRANSCRIPTS
from storage.logs.segments import subject_segments
from storage.logs.traces import HORIZON, details_for
from storage.logs.transcript_log import TranscriptQuery
from storage.mail.account import Account
from storage.persons.sought import Sought
from storage.quarantine.store import Quarantine
from storage.quarantine.values import Query
from storage.register import classes
from storage.register.values import DataClass
from storage.schema.account import moving
from storage.schema.tenant import srs

Item = dict[str, Any]
Collector = Callable[[Sought], Iterator[Item]]

_HOUR = 3600
_PAGE = 500
_MOST = 100_000  # requests for a second person, the newest

_SRS = prepare(select(srs.c.address, srs.c.expires))
_MOVING = prepare(select(moving.c.source, moving.c.folder).order_by(moving.c.folder_id))


def moment(time: int | None) -> str | None:
    return None if time is None else datetime.fromtimestamp(time, UTC).isoformat()


@contextmanager
def _opened(sought: Sought) -> Iterator[Account | None]:
    """The person's account, if there is one that opens; what fails is said in the report."""
    with ExitStack() as stack:
        account = None
        if sought.account_id is not None and sought.tenant_id is not None:
            with sought.reading("the mailbox"):
                account = stack.enter_context(sought.installation.account(sought.tenant_id, sought.account_id))
        yield account


def _mail(sought: Sought) -> Iterator[Item]:
    """Folders with their counts; messages only where they are asked for (`storage.persons.report`)."""
    with _opened(sought) as account:
        if account is not None:
            for mailbox in account.mailboxes.list():
                yield {"record": "account.mailbox", "folder": mailbox.name, "messages": mailbox.messages}


def _moving(sought: Sought) -> Iterator[Item]:
    with _opened(sought) as account:
        if account is not None:
            with account.database.reading() as connection:
                rows = _MOVING.rows(connection)
            for source, folder in rows:
                yield {"record": "account.moving", "source": source, "folder": folder}


def _accounts(sought: Sought) -> Iterator[Item]:
    names = sought.namer()
    for row in sought.living():
        with sought.reading(f"accounts of {row.slug}"):
            tenant = sought.installation.tenant(row.tenant_id)
            account = sought.account if row.tenant_id == sought.tenant_id else None
            if account is not None:
                yield {
                    "record": "tenant.account",
                    "tenant": row.slug,
                    "address": str(account.login),
                    "name": account.name,
                    "state": account.state.value,
                    "created": moment(account.created),
                    "quota_bytes": account.quota_bytes,
                    "quota_messages": account.quota_messages,
                    "catch_all_sender": account.catch_all_sender,
                }
                for password in tenant.app_passwords.list(account.account_id):
                    yield {
                        "record": "tenant.app_password",
                        "tenant": row.slug,
                        "name": password.name,
                        "protocols": sorted(password.protocols),
                        "created": moment(password.created),
                        "revoked": moment(password.revoked),
                    }
            for alias in tenant.addresses.aliases():
                leads = account is not None and account.account_id in alias.accounts
                if leads or names(alias.address) or any(names(str(each)) for each in alias.addresses):
                    yield {
                        "record": "tenant.address",
                        "tenant": row.slug,
                        "address": alias.address,
                        "leads_to": [str(account.login)] if leads and account is not None else [],
                        "also_to": [str(each) for each in alias.addresses if names(str(each))],
                    }


def _settings(sought: Sought) -> Iterator[Item]:
    names = sought.namer()
    for row in sought.living():
        with sought.reading(f"settings of {row.slug}"):
            tenant = sought.installation.tenant(row.tenant_id)
            own = of_account(sought.account_id) if sought.account_id and row.tenant_id == sought.tenant_id else None
            for scope, name, text in tenant.filter_rules.all_rules():
                if scope == own:
                    yield {"record": "tenant.filter_setting", "tenant": row.slug, "rule": name, "value": text}
            for entry in tenant.filter_rules.entries():
                if entry.scope == own or names(entry.pattern):
                    yield {
                        "record": "tenant.filter_list",
                        "tenant": row.slug,
                        "list": entry.kind.value,
                        "pattern": entry.pattern,
                        "created": moment(entry.created),
                        "of_this_account": entry.scope == own,
                    }
            for name, value in tenant.settings("").items():
                if names(value):
                    yield {"record": "tenant.setting", "tenant": row.slug, "setting": name, "value": value}


def _stopped(sought: Sought) -> Iterator[Item]:
    if sought.account_id is not None and sought.tenant_id is not None:
        found = sought.installation.tenant(sought.tenant_id).frozen.find(sought.account_id)
        if found is not None:
            yield {"record": "tenant.frozen", "since": moment(found.since), "reason": found.reason}


def _forwarded(sought: Sought) -> Iterator[Item]:
    names = sought.namer()
    for row in sought.living():
        with sought.reading(f"forwarded senders of {row.slug}"):
            with sought.installation.tenant(row.tenant_id).database.reading() as connection:
                rows = _SRS.rows(connection)
            for address, expires in rows:
                if names(address):
                    yield {"record": "tenant.srs", "tenant": row.slug, "address": address, "until": moment(expires)}


def _withheld(sought: Sought) -> Iterator[Item]:
    names = sought.namer()
    quarantine = Quarantine(sought.installation)
    for row in sought.living():
        with sought.reading(f"withheld mail of {row.slug}"):
            for message in quarantine.of(row.tenant_id).each(Query()):
                wrote = names(str(message.sender or "")) or names(message.author)
                mine = [
                    each
                    for each in message.recipients
                    if names(str(each.address)) or sought.account_id in {each.onward.account_id} - {None}
                ]
                if wrote or mine:
                    yield {
                        "record": "tenant.quarantine",
                        "tenant": row.slug,
                        "id": message.quarantine_id,
                        "received": moment(message.received),
                        "until": moment(message.expires),
                        "sender": str(message.sender or ""),
                        "author": message.author,
                        "subject": message.subject,
                        "size": message.size,
                        # Who else would have got it is nobody's business but theirs.
                        "recipients": [str(each.address) for each in mine],
                        "reason": message.reason,
                    }


def _experience(sought: Sought) -> Iterator[Item]:
    for row in sought.living():
        with sought.reading(f"experience of {row.slug}"):
            tenant = sought.installation.tenant(row.tenant_id)
            tenant.correspondents.flush()
            for address in sought.addresses:
                accounts = tenant.correspondents.knowing(address)
                if accounts:
                    yield {
                        "record": "tenant.correspondent",
                        "tenant": row.slug,
                        "address": str(address),
                        "accounts_that_wrote_to_it": accounts,
                        "kept_as": "a keyed hash of the address",
                    }


def _corrections(sought: Sought) -> Iterator[Item]:
    if sought.account_id is not None and sought.tenant_id is not None:
        revisions = sought.installation.tenant(sought.tenant_id).corrections.revisions(sought.account_id)
        if revisions.own:
            yield {"record": "tenant.correction", "what": "weights of words that this account's lessons add up to"}


def _directory(sought: Sought) -> Iterator[Item]:
    control = sought.installation.control
    for address in sought.addresses:
        login = control.find_login(control.login_hash(str(address)))
        if login is not None and sought.in_scope(login.tenant_id):
            yield {
                "record": "control.login",
                "kept_as": "a keyed hash of the address",
                "tenant_number": int(login.tenant_id),
                "account_number": int(login.account_id),
            }


def _queue(sought: Sought) -> Iterator[Item]:
    names = sought.namer()
    queue = sought.installation.queue
    slugs = {row.tenant_id: row.slug for row in sought.tenants}
    after = ""
    while True:
        page = queue.entries(tenant=sought.only, after=after, limit=_PAGE)
        for entry in page:
            with sought.reading(f"queue entry {entry.queue_id}"):
                shown = queue.show(entry.queue_id)
                mine = [each for each in shown.recipients if names(str(each.address))]
                if mine or names(str(shown.reverse_path or "")):
                    yield {
                        "record": "queue.entry",
                        "tenant": slugs.get(entry.tenant_id),
                        "id": entry.queue_id,
                        "arrived": moment(entry.arrived),
                        "until": moment(entry.expires),
                        "size": entry.size,
                        "sender": str(shown.reverse_path or ""),
                        "recipients": [str(each.address) for each in mine],
                    }
        if len(page) < _PAGE:
            return
        after = page[-1].queue_id


def _sending(sought: Sought) -> Iterator[Item]:
    if sought.account_id is not None and sought.tenant_id is not None:
        hours = sought.installation.queue.sent_by_account(sought.tenant_id, sought.account_id, 0)
        for hour, recipients in sorted(hours.items()):
            yield {"record": "queue.sent", "hour": moment(hour * _HOUR), "recipients": recipients}


def _access(sought: Sought) -> Iterator[Item]:
    control = sought.installation.control
    hashes = {control.login_hash(str(address)) for address in sought.addresses} if sought.only is None else set()
    until = sought.installation.clock.now() + 1
    for event in sought.installation.access_log.read(0, until, tenant=sought.only):
        own = sought.account_id is not None and event.account_id == sought.account_id
        if own or (event.login_hash and event.login_hash in hashes):
            yield {
                "record": "logs.access",
                "time": moment(event.time),
                "type": event.type,
                "result": event.result,
                "protocol": event.protocol,
                "client_address": event.address,
            }


def _transcripts(sought: Sought) -> Iterator[Item]:
    installation = sought.installation
    if sought.transcripts_key is None:
        if sought.account_id is not None:
            days = subject_segments(installation.data, TRANSCRIPTS, sought.account_id)
            yield {"record": "logs.transcripts", "segments_that_name_the_account": days, "released_by": _AUDITORS}
        else:
            yield {"record": "logs.transcripts", "whether_there_are_any": "not looked at", "released_by": _AUDITORS}
        return
    names = sought.namer()
    until = installation.clock.now() + 1
    seen: set[tuple[str, int]] = set()
    for address in sought.addresses:
        query = TranscriptQuery(address=str(address))
        for record in installation.transcripts.read(sought.transcripts_key, 0, until, query):
            if (record.id, record.time) in seen or not (sought.only is None or int(sought.only) in record.tenants):
                continue
            seen.add((record.id, record.time))
            yield {
                "record": "logs.transcripts",
                "time": moment(record.time),
                "direction": record.direction.value,
                "id": record.id,
                "queue_ids": list(record.queue_ids),
                # What was said of others in the same dialogue is theirs.
                "lines": [line for line in record.text.split("\n") if "@" not in line or names(line)],
            }


_AUDITORS = "log auditors: run the report as one, with --transcripts REASON"


def _traces(sought: Sought) -> Iterator[Item]:
    names = sought.namer()
    slugs = {int(row.tenant_id): row.slug for row in sought.tenants}
    since = sought.installation.clock.now() - HORIZON
    for event in sought.installation.traces.read(since):
        if not sought.in_scope(event.tenant_id):
            continue
        sent, received = names(event.sender), names(event.recipient)
        told = any(names(text) for text in event.details.values())
        if sent or received or told:
            details = details_for(event, sought.account_id)
            yield {
                "record": "logs.traces",
                "time": moment(event.time),
                "id": event.id,
                "kind": event.kind.value,
                "tenant": slugs.get(int(event.tenant_id)) if event.tenant_id is not None else None,
                "sender": event.sender,
                "recipient": event.recipient if sent or received else "",
                "details": {name: text for name, text in details.items() if "@" not in text or names(text)},
            }


def _audit(sought: Sought) -> Iterator[Item]:
    """Who acted is told by his role, as in the access journal; by his name to himself alone."""
    names = sought.namer()
    cases = {case.case_id: case.tenant_id for case in _secret_cases(sought)}
    for record in sought.installation.audit.read(tenant_id=sought.only):
        details = record.details or {}
        about = sought.account_id is not None and record.account_id == sought.account_id
        by = bool(sought.staff) and record.actor == sought.staff
        if not (about or by or any(names(text) for text in details.values())):
            continue
        until = details.get("secret_until", "")  # as storage.directory.disclosures has it
        if (until.isdecimal() and int(until) > sought.secrecy_at) or any(text in cases for text in details.values()):
            continue
        if _is_of_hold(record.action, details) and record.tenant_id in cases.values():
            continue
        yield {
            "record": "audit.record",
            "number": record.number,
            "time": moment(record.time),
            "action": record.action,
            "by": record.actor if by else None,
            "role": record.role,
            "details": dict(details) if about or by else {k: v for k, v in details.items() if names(v)},
        }


def _is_of_hold(action: str, details: Mapping[str, str]) -> bool:
    return action.startswith("hold.") or details.get("kind") == Kind.HOLD


def _contracts(sought: Sought) -> Iterator[Item]:
    names = sought.namer()
    control = sought.installation.control
    for row in sought.living():
        with sought.reading(f"the contract of {row.slug}"):
            contact = control.contracts.contact(row.tenant_id)
            if contact is not None and names(str(contact)):
                yield {"record": "control.contract", "tenant": row.slug, "contact": str(contact)}
            ended_by = control.contracts.of(row.tenant_id).ended_by
            if sought.staff and ended_by == sought.staff:
                yield {"record": "control.contract", "tenant": row.slug, "ended_by": ended_by}


def _erasures(sought: Sought) -> Iterator[Item]:
    for row in sought.installation.control.endings.all():
        about = sought.account_id is not None and row.account_id == sought.account_id
        if sought.in_scope(row.tenant_id) and (about or (sought.staff and row.ordered_by == sought.staff)):
            yield {"record": "control.ending", "id": row.ending_id, "begun": moment(row.begun), "step": row.step.value}


def _holds(sought: Sought) -> Iterator[Item]:
    """But none while a case is secret that it may be for."""
    secret = {case.tenant_id for case in _secret_cases(sought)}
    for hold in sought.installation.control.holds.all():
        if hold.tenant_id in secret:
            continue
        about = sought.account_id is not None and hold.account_id == sought.account_id
        by = sought.staff and sought.staff in {hold.asked_by, hold.approved_by, hold.lifted_by}
        if sought.in_scope(hold.tenant_id) and (about or by):
            yield {
                "record": "control.legal_hold",
                "id": hold.hold_id,
                "since": moment(hold.begun),
                "until": moment(hold.ends),
            }


def _secret_cases(sought: Sought) -> list[Any]:
    return [case for case in sought.installation.control.disclosures.all() if case.is_secret(sought.secrecy_at)]


def _disclosures(sought: Sought) -> Iterator[Item]:
    for case in sought.installation.control.disclosures.all():
        about = sought.account_id is not None and case.account_id == sought.account_id
        whole = sought.account_id is not None and case.account_id is None and case.tenant_id == sought.tenant_id
        by = bool(sought.staff) and case.recorded_by == sought.staff
        if case.is_secret(sought.secrecy_at) or not sought.in_scope(case.tenant_id) or not (about or whole or by):
            continue
        yield {
            "record": "control.disclosure",
            "id": case.case_id,
            "received": moment(case.received),
            "authority": case.authority,
            "legal_basis": case.legal_basis,
            "state": case.state.value,
            "disclosed": moment(case.disclosed),
        }


def _approvals(sought: Sought) -> Iterator[Item]:
    secret = {case.case_id: case.tenant_id for case in _secret_cases(sought)}
    for approval in sought.installation.control.approvals.all(_MOST):
        if not sought.in_scope(approval.tenant_id) or secret.keys() & set((approval.scope or {}).values()):
            continue
        if approval.kind is Kind.HOLD and approval.tenant_id in secret.values():
            continue
        about = sought.account_id is not None and approval.account_id == sought.account_id
        by = bool(sought.staff) and sought.staff in {approval.asked_by, approval.decided_by}
        if about or by or sought.mark in (approval.scope or {}).values():
            yield {
                "record": "control.approval",
                "id": approval.approval_id,
                "kind": approval.kind.value,
                "asked": moment(approval.asked),
                "state": approval.state.value,
            }


def _agreements(sought: Sought) -> Iterator[Item]:
    for each in sought.installation.control.agreements.all() if sought.staff and sought.only is None else ():
        if each.person == sought.staff:
            yield {"record": "control.secrecy_agreement", "signed": moment(each.signed), "ended": moment(each.ended)}


def _staff(sought: Sought) -> Iterator[Item]:
    member = sought.installation.control.staff.look_up(sought.staff) if sought.staff else None
    if member is not None and (sought.only is None or member.tenant_id == sought.only):
        yield {
            "record": "control.staff",
            "name": member.name,
            "roles": list(member.roles),
            "created": moment(member.created),
            "ended": moment(member.ended),
        }


COLLECTORS: Mapping[DataClass, Collector] = {
    classes.MAIL: _mail,
    classes.MOVING: _moving,
    classes.ACCOUNTS: _accounts,
    classes.SETTINGS: _settings,
    classes.STOPPED_SENDERS: _stopped,
    classes.FORWARDED_SENDERS: _forwarded,
    classes.WITHHELD: _withheld,
    classes.EXPERIENCE: _experience,
    classes.CORRECTIONS: _corrections,
    classes.DIRECTORY: _directory,
    classes.QUEUE: _queue,
    classes.SENDING: _sending,
    classes.ACCESS_EVENTS: _access,
    classes.TRANSCRIPTS: _transcripts,
    classes.TRACES: _traces,
    classes.AUDIT: _audit,
    classes.CONTRACTS: _contracts,
    classes.ERASURES: _erasures,
    classes.HOLDS: _holds,
    classes.DISCLOSURES: _disclosures,
    classes.APPROVALS: _approvals,
    classes.AGREEMENTS: _agreements,
    classes.STAFF: _staff,
}

# Classes with persons that no address finds anything in: why.
NOT_SEARCHED: Mapping[DataClass, str] = {
    classes.SEARCH_INDEX: "It holds parts of words of the mailbox's own messages, and nothing that is not in these.",
    classes.OPINIONS: "It holds numbers of messages, for minutes, and no address.",
    classes.OTHER_SERVERS: "It holds names of mail servers and domains, and no address of a person.",
    classes.STRANGERS: "It holds keyed hashes of a network, a sender and a recipient together, for weeks at most;"
    " from an address alone none of them can be told.",
    classes.REVIEWS: "It holds numbers of withheld messages, which are told as withheld mail, and who decided.",
    classes.ERASURE_SEARCH: "It is sealed under a key that no person is given, and ends with the erasure.",
    classes.BACKUPS: "They hold what is told here as it was at another time, encrypted, and are read to restore alone.",
    classes.STAFF_SESSIONS: "It holds hashes of tokens for hours; the person's record says who works here.",
}
