"""What was sent and what was recorded about a person: the queue, access events, transcripts, traces, audit records.

What the same record says of others is theirs, and is left out, but for who opened a mailbox that the person shares.
Audit records of a secret case are not told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from storage.directory.approvals import Kind
from storage.errors import CleanmailError
from storage.logs.access import AccessEvent
from storage.logs.classes import TRANSCRIPTS
from storage.logs.segments import subject_segments
from storage.logs.traces import HORIZON, details_for
from storage.logs.transcript_log import TranscriptQuery
from storage.persons.item import Item, moment
from storage.persons.of_control import secret_cases
from storage.persons.sought import Sought

_HOUR = 3600
_PAGE = 500
_AUDITORS = "log auditors: run the report as one, with --transcripts REASON"


def queue(sought: Sought) -> Iterator[Item]:
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


def sending(sought: Sought) -> Iterator[Item]:
    if sought.account_id is not None and sought.tenant_id is not None:
        hours = sought.installation.queue.sent_by_account(sought.tenant_id, sought.account_id, 0)
        for hour, recipients in sorted(hours.items()):
            yield {"record": "queue.sent", "hour": moment(hour * _HOUR), "recipients": recipients}


def access(sought: Sought) -> Iterator[Item]:
    control = sought.installation.control
    hashes = {control.login_hash(str(address)) for address in sought.addresses} if sought.only is None else set()
    until = sought.installation.clock.now() + 1
    for event in sought.installation.access_log.read(0, until, tenant=sought.only):
        own = sought.account_id is not None and event.account_id == sought.account_id
        if sought.account_id is not None and event.by_account == sought.account_id:  # whose it was is that one's
            yield {"record": "logs.access", "time": moment(event.time), "type": event.type, "of": "another account"}
        if own or (event.login_hash and event.login_hash in hashes):
            yield {
                "record": "logs.access",
                "time": moment(event.time),
                "type": event.type,
                "result": event.result,
                "protocol": event.protocol,
                "client_address": event.address,
            } | _opened_by(sought, event)


def _opened_by(sought: Sought, event: AccessEvent) -> dict[str, Any]:
    """Who opened what the account shares, which its owner may know."""
    if event.by_account is None or event.tenant_id is None:
        return {}
    try:
        return {"by": str(sought.installation.tenant(event.tenant_id).account(event.by_account).login)}
    except CleanmailError:
        return {"by": "an account that is gone"}


def transcripts(sought: Sought) -> Iterator[Item]:
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


def traces(sought: Sought) -> Iterator[Item]:
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


def audit_records(sought: Sought) -> Iterator[Item]:
    """Who acted is told by his role, as in the access journal; by his name to himself alone."""
    names = sought.namer()
    cases = {case.case_id: case.tenant_id for case in secret_cases(sought)}
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
