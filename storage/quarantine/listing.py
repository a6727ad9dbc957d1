"""What a tenant's quarantine holds, page by page, the newest first.

A page is a range of an index: of one account's, of one address's, of a state's, or of all. Texts are compared with the
rows of the range, a slice at a time, since the databases that this runs on fold letters each in their own way.

Raises: Corrupt.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from sqlalchemy import bindparam, func, select

from storage.database.database import Database
from storage.database.prepared import Connection, Prepared, Row, prepare
from storage.errors import NotFound
from storage.mime.casemap import casemap
from storage.quarantine.values import (
    Counts,
    HeldRecipient,
    HeldState,
    Onward,
    Query,
    ReleasedBy,
    Withheld,
    decode_details,
    id_at,
)
from storage.schema.tenant import quarantine, quarantine_recipient
from storage.values import AccountId, EmailAddress

SLICE = 200  # messages that are read together
_LAST = "w"  # above every id: they are written in 0-9 and a-v

_message, _recipient = quarantine, quarantine_recipient
_COLUMNS = (
    _message.c.quarantine_id,
    _message.c.received,
    _message.c.expires,
    _message.c.size,
    _message.c.sender,
    _message.c.author,
    _message.c.subject,
    _message.c.reason,
    _message.c.score,
    _message.c.details,
    _message.c.file,
)
_RECIPIENT_COLUMNS = (
    _recipient.c.quarantine_id,
    _recipient.c.position,
    _recipient.c.address,
    _recipient.c.account_id,
    _recipient.c.destination,
    _recipient.c.reason,
    _recipient.c.sentence,
    _recipient.c.counterfactual,
    _recipient.c.state,
    _recipient.c.reported,
    _recipient.c.changed,
    _recipient.c.release_id,
    _recipient.c.released_by,
    _recipient.c.releaser,
)
_ids = select(func.json_each(bindparam("ids")).table_valued("value").c.value)


def _page(column: Any, *conditions: Any) -> Prepared:
    """Ids in the range, the newest first; the same id may come once for each of its recipients."""
    within = (column < bindparam("before"), column >= bindparam("first"))
    return prepare(select(column).where(*conditions, *within).order_by(column.desc()).limit(bindparam("most")))


_ALL = _page(_message.c.quarantine_id)
_OF_ACCOUNT = _page(_recipient.c.quarantine_id, _recipient.c.account_id == bindparam("account"))
_OF_ADDRESS = _page(_recipient.c.quarantine_id, _recipient.c.address_key == bindparam("address"))
_IN_STATE = _page(_recipient.c.quarantine_id, _recipient.c.state == bindparam("state"))
_MESSAGES = prepare(
    select(*_COLUMNS).where(_message.c.quarantine_id.in_(_ids)).order_by(_message.c.quarantine_id.desc())
)
_RECIPIENTS = prepare(
    select(*_RECIPIENT_COLUMNS)
    .where(_recipient.c.quarantine_id.in_(_ids))
    .order_by(_recipient.c.quarantine_id, _recipient.c.position)
)
_COUNTS = prepare(select(_message.c.reason, func.count(), func.sum(_message.c.size)).group_by(_message.c.reason))
_OLDEST = prepare(select(_message.c.received).order_by(_message.c.quarantine_id).limit(1))
_REPORTED = prepare(select(_recipient.c.quarantine_id).where(_recipient.c.reported >= 0))


class Listing:
    """A part of `storage.quarantine.rows.QuarantineRows`."""

    _database: Database

    def show(self, quarantine_id: str, account_id: AccountId | None = None) -> Withheld:
        """One message; with `account_id` only if it is for that account, and with its recipients alone.

        Raises NotFound.
        """
        with self._database.snapshot() as connection:
            found = _read(connection, [quarantine_id])
        shown = _seen_by(found[0], account_id) if found else None
        if shown is None:
            raise NotFound("There is no such message in the quarantine.")
        return shown

    def find(self, query: Query, *, before: str = "", limit: int = 100) -> list[Withheld]:
        """The newest messages that are like that, of those below the id `before`."""
        found: list[Withheld] = []
        for message in self.each(query, before=before):
            found.append(message)
            if len(found) >= limit:
                break
        return found

    def each(self, query: Query, *, before: str = "") -> Iterator[Withheld]:
        """All of them, a slice at a time: what changes meanwhile may be in them or not."""
        statement, by = _range(query)
        first = "" if query.since is None else id_at(query.since)
        upper = before or _LAST
        if query.until is not None:
            upper = min(upper, id_at(query.until))
        wanted = _Wanted(query)
        while True:
            with self._database.snapshot() as connection:
                rows = statement.rows(connection, before=upper, first=first, most=SLICE, **by)
                messages = _read(connection, [row[0] for row in rows])
            for message in messages:
                shown = _seen_by(message, query.account_id)
                if shown is not None and wanted.holds(shown):
                    yield shown
            if len(rows) < SLICE:
                return
            upper = rows[-1][0]

    def counts(self) -> Counts:
        """How much there is: from an index of all messages, without reading them."""
        with self._database.snapshot() as connection:
            rows = _COUNTS.rows(connection)
            oldest, reported = _OLDEST.one(connection), _REPORTED.rows(connection)
        return Counts(
            sum(row[1] for row in rows),
            sum(row[2] for row in rows),
            None if oldest is None else oldest[0],
            len({row[0] for row in reported}),
            {row[0]: row[1] for row in rows},
        )


def _range(query: Query) -> tuple[Prepared, dict[str, Any]]:
    """The narrowest index for the query."""
    if query.account_id is not None:
        return _OF_ACCOUNT, {"account": query.account_id}
    if query.recipient and not query.recipient.startswith("@"):
        return _OF_ADDRESS, {"address": EmailAddress.parse(query.recipient).key}
    if query.state not in {None, HeldState.HELD}:
        return _IN_STATE, {"state": query.state}
    return _ALL, {}


class _Wanted:
    """A query, made ready to be compared with many messages."""

    def __init__(self, query: Query) -> None:
        self._query = query
        self._sender, self._subject, self._text = casemap(query.sender), casemap(query.subject), casemap(query.text)
        self._recipient = query.recipient
        if query.recipient and not query.recipient.startswith("@"):
            self._recipient = EmailAddress.parse(query.recipient).key

    def holds(self, message: Withheld) -> bool:
        query = self._query
        if query.reason and query.reason != message.reason:
            return False
        author, subject = ("", "") if query.envelope_only else (message.author, casemap(message.subject))
        sender = casemap(f"{message.sender or '<>'}\n{author}")
        if self._sender not in sender or self._subject not in subject:
            return False
        if self._text and not (
            self._text in sender
            or self._text in subject
            or any(self._text in casemap(str(each.address)) for each in message.recipients)
        ):
            return False
        return any(self._is_for(recipient) for recipient in message.recipients)

    def _is_for(self, recipient: HeldRecipient) -> bool:
        query = self._query
        key = recipient.address.key
        if self._recipient and not (
            key.endswith(self._recipient.casefold()) if self._recipient.startswith("@") else key == self._recipient
        ):
            return False
        if query.state is not None and recipient.state is not query.state:
            return False
        return query.reported is None or query.reported is (recipient.reported is not None)


def _seen_by(message: Withheld, account_id: AccountId | None) -> Withheld | None:
    if account_id is None:
        return message
    own = tuple(recipient for recipient in message.recipients if recipient.account_id == account_id)
    return replace(message, recipients=own) if own else None


def _read(connection: Connection, ids: list[str]) -> list[Withheld]:
    """The messages with these ids, each once, the newest first."""
    if not ids:
        return []
    wanted = json.dumps(list(dict.fromkeys(ids)))
    recipients: dict[str, list[HeldRecipient]] = {}
    for row in _RECIPIENTS.rows(connection, ids=wanted):
        recipients.setdefault(row[0], []).append(_recipient_of(row))
    return [_message_of(row, recipients.get(row[0], [])) for row in _MESSAGES.rows(connection, ids=wanted)]


def _message_of(row: Row, recipients: list[HeldRecipient]) -> Withheld:
    id_, received, expires, size, sender, author, subject, reason, score, details, file = row
    parameters, facts = decode_details(details)
    return Withheld(
        id_,
        received,
        expires,
        size,
        EmailAddress.parse(sender) if sender else None,
        author,
        subject,
        reason,
        score,
        parameters,
        facts,
        file,
        tuple(recipients),
    )


def _recipient_of(row: Row) -> HeldRecipient:
    _, position, address, account_id, destination, reason, sentence, counterfactual, state, *rest = row
    reported, changed, release_id, released_by, releaser = rest
    return HeldRecipient(
        position,
        EmailAddress.parse(address),
        Onward.decode(destination, None if account_id is None else AccountId(account_id)),
        reason,
        sentence,
        counterfactual,
        HeldState(state),
        reported,
        changed,
        release_id,
        None if released_by is None else ReleasedBy(released_by),
        releaser,
    )
