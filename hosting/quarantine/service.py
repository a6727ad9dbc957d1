"""Withheld mail for people: list, look at the header, release, delete, report. Nobody sees a body here.

Every call says who asks (`Scope`), and reaches nothing outside of it: a message of another tenant or account is not
there. What an administrator or the operator lists, looks at and decides is an audit record, written before it is done;
what an account does with its own mail is an access event. Subjects, authors and header lines are kept from an operator
without a secrecy agreement (`closed`), at each call anew; with one his look at a header is counted as a person's review
(`storage.directory.reviews`). Blocking: for worker threads.

Raises: NotFound, NotPermitted, InvalidInput, Corrupt, Gone, Unavailable.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from gateway.policy.verdict import Reason
from gateway.quarantine.release import Release, Releases
from hosting.quarantine.scope import Scope, in_envelope, without_header
from storage.audit import Entry
from storage.directory.rows import State
from storage.errors import Gone, InvalidInput, NotFound, NotPermitted
from storage.filter.rules import WHOLE_TENANT, ListKind, of_account
from storage.installation import Installation
from storage.logs.access import AccessEvent, AccessResult, AccessType
from storage.logs.trace import TraceEvent, TraceKind
from storage.mime.addresses import parse_addresses
from storage.mime.fields import fields_between
from storage.quarantine.header_object import HeaderObject
from storage.quarantine.store import Quarantine
from storage.quarantine.values import Counts, HeldRecipient, HeldState, Query, Withheld
from storage.values import AccountId, EmailAddress, TenantId

# What a recipient may not let in alone: who opens it is not the only one whom it harms.
RESERVED = frozenset({Reason.MALWARE.value, Reason.FORBIDDEN_ATTACHMENT.value})

_ACCESS = {
    "view": AccessType.QUARANTINE_VIEW,
    "release": AccessType.QUARANTINE_RELEASE,
    "delete": AccessType.QUARANTINE_DELETE,
    "report": AccessType.QUARANTINE_REPORT,
}


@dataclass(frozen=True, slots=True)
class Page:
    messages: tuple[Withheld, ...]
    before: str | None  # where the next page begins; None: this is the last


class QuarantineService:
    """Any thread may use it."""

    def __init__(
        self,
        installation: Installation,
        quarantine: Quarantine,
        releases: Releases,
        *,
        server_users: Collection[str],
    ) -> None:
        """`server_users`: the Unix users whom the server's processes belong to; none of them sees header lines."""
        self._installation = installation
        self._quarantine = quarantine
        self._releases = releases
        self._server_users = frozenset(server_users)

    # Looking

    def closed(self, scope: Scope) -> str:
        """Why subjects, authors and header lines are not for who asks now, in a sentence; empty if they are."""
        agreed = scope.is_operator and self._installation.control.agreements.in_force(scope.actor) is not None
        return scope.closed(agreed=agreed, server_users=self._server_users)

    def list(self, scope: Scope, tenant_id: TenantId, query: Query, *, before: str = "", limit: int = 100) -> Page:
        """The newest messages that are like that, of those below the id `before`.

        To whom header fields are closed, what they say is empty, and not looked into.
        """
        closed, query = self._asked(scope, tenant_id, query)
        found = self._quarantine.of(tenant_id).find(query, before=before, limit=limit + 1)
        more = len(found) > limit
        shown = tuple(without_header(message) if closed else message for message in found[:limit])
        return Page(shown, shown[-1].quarantine_id if more else None)

    def matching(self, scope: Scope, tenant_id: TenantId, query: Query) -> Iterator[Withheld]:
        """All of them that are held, to decide on; a slice is read at a time. Their number tells something, too."""
        closed, query = self._asked(scope, tenant_id, query)
        for message in self._quarantine.of(tenant_id).each(query):
            if message.held:
                yield without_header(message) if closed else message

    def counts(self, scope: Scope, tenant_id: TenantId) -> Counts:
        """What the tenant's quarantine holds; for administrators."""
        scope.check(tenant_id)
        if scope.account_id is not None:
            raise NotPermitted("Only administrators see what is held for everybody.")
        return self._quarantine.of(tenant_id).counts()

    def find(self, scope: Scope, quarantine_id: str) -> TenantId:
        """In whose quarantine the message is, of those in the scope. Raises NotFound."""
        if scope.tenant_id is not None:
            self._quarantine.show(scope.tenant_id, quarantine_id, scope.account_id)
            return scope.tenant_id
        for row in self._installation.control.tenants():
            if row.state is not State.ENDED:
                with suppress(NotFound, Gone):
                    self._quarantine.show(row.tenant_id, quarantine_id)
                    return row.tenant_id
        raise NotFound("There is no such message in the quarantine.")

    def show(self, scope: Scope, tenant_id: TenantId, quarantine_id: str) -> tuple[Withheld, HeaderObject | None]:
        """A message with its header lines, or without them to whom they are closed. Each call is a record."""
        message = self._message(scope, tenant_id, quarantine_id)
        closed = self.closed(scope)
        self._record(scope, "view", tenant_id, quarantine_id, _opened(scope, closed))
        if closed:
            return without_header(message), None
        if scope.is_operator:
            reviews = self._installation.control.reviews
            reviews.see(tenant_id, quarantine_id, received=message.received, reason=message.reason)
        return message, self._quarantine.header(tenant_id, message)

    # Deciding

    def release(self, scope: Scope, tenant_id: TenantId, quarantine_id: str, *, allow: bool = False) -> Release:
        """Lets the message go to those in the scope for whom it is held; with `allow` its author from now on, too.

        Raises NotPermitted if only an administrator may, or if the author, whom the header names, is not for who asks.
        """
        message = self._message(scope, tenant_id, quarantine_id)
        held = [each for each in message.recipients if each.state is HeldState.HELD]
        if scope.account_id is not None and any(each.reason in RESERVED for each in held):
            raise NotPermitted("This message may be harmful: only an administrator can release it.")
        if allow and (closed := self.closed(scope)):
            raise NotPermitted(f"Whom to allow stands in the header. {closed}")
        author = self._author(tenant_id, message) if allow else None
        whose = WHOLE_TENANT if scope.account_id is None else of_account(scope.account_id)
        rules = self._installation.tenant(tenant_id).filter_rules
        if author is not None:
            rules.check(whose, author.key, ListKind.ALLOW)  # before a record says that he was allowed
        if not held:
            return Release(message)
        self._record(scope, "release", tenant_id, quarantine_id, {"allow": "yes"} if allow else {})
        if author is not None:
            rules.add(whose, author.key, ListKind.ALLOW)
        positions = [each.position for each in held]
        return self._releases.release(tenant_id, quarantine_id, positions, scope.released_by)

    def delete(self, scope: Scope, tenant_id: TenantId, quarantine_id: str) -> int:
        """Those in the scope never get it; teaches nothing. For how many it was held."""
        message = self._message(scope, tenant_id, quarantine_id)
        held = [each.position for each in message.recipients if each.state is HeldState.HELD]
        if not held:
            return 0
        self._record(scope, "delete", tenant_id, quarantine_id)
        deleted = self._quarantine.of(tenant_id).delete(quarantine_id, held)
        for each in message.recipients:
            if each.position in deleted:
                details = {"reason": f"deleted by the {scope.released_by}"}
                event = withdrawn(self._installation.clock.now(), tenant_id, message, each, details)
                self._installation.traces.record(event)
        return len(deleted)

    def report(self, scope: Scope, tenant_id: TenantId, quarantine_id: str) -> bool:
        """Says that it was wrongly withheld, and asks for a review of its header; False: somebody has said so before.

        It stays held until it is released, by whoever may, or by the review.
        """
        message = self._message(scope, tenant_id, quarantine_id)
        held = [each.position for each in message.recipients if each.state is HeldState.HELD]
        if not held:
            raise NotFound("The message is not held any more.")
        self._record(scope, "report", tenant_id, quarantine_id)
        new = self._quarantine.of(tenant_id).report(quarantine_id, held)
        # Asked again it is the review that is there: a crash in between is made good by saying it again.
        self._installation.control.reviews.ask(
            tenant_id, quarantine_id, received=message.received, reason=message.reason
        )
        return bool(new)

    # Inside

    def _asked(self, scope: Scope, tenant_id: TenantId, query: Query) -> tuple[str, Query]:
        """Whether header fields are closed to who asks, and what is looked for then; an administrator's is recorded."""
        scope.check(tenant_id)
        closed = self.closed(scope)
        query = in_envelope(scope.narrowed(query), closed)
        if scope.account_id is None:
            asked = {name: str(getattr(query, name)) for name in ("account_id", "reason", "state")}
            details = {name: text for name, text in asked.items() if text not in {"", "None"}}
            self._audit(scope, "list", tenant_id, {**details, **_opened(scope, closed)})
        return closed, query

    def _message(self, scope: Scope, tenant_id: TenantId, quarantine_id: str) -> Withheld:
        scope.check(tenant_id)
        return self._quarantine.show(tenant_id, quarantine_id, scope.account_id)

    def _author(self, tenant_id: TenantId, message: Withheld) -> EmailAddress:
        """Whom the From field names. Raises InvalidInput if that is nobody, or several."""
        header = self._quarantine.header(tenant_id, message).header
        named = [each for value in fields_between(header, 0, len(header)).values(b"from") for each in _addresses(value)]
        if len(set(named)) != 1:
            raise InvalidInput("The From field does not name one sender who could be put on the allow list.")
        return named[0]

    def _record(
        self,
        scope: Scope,
        what: str,
        tenant_id: TenantId,
        quarantine_id: str,
        details: Mapping[str, str] | None = None,
    ) -> None:
        if scope.account_id is None:
            self._audit_all(scope, what, tenant_id, quarantine_id, {"id": quarantine_id, **(details or {})})
            return
        event = AccessEvent(
            self._installation.clock.now(),
            _ACCESS[what],
            AccessResult.SUCCESS,
            scope.protocol,
            tenant_id,
            scope.account_id,
            b"",
            scope.address,
        )
        self._installation.access_log.record(event)

    def _audit_all(
        self, scope: Scope, what: str, tenant_id: TenantId, quarantine_id: str, details: Mapping[str, str]
    ) -> None:
        """Of each account here from which the message is withheld: its owner finds it in his journal."""
        tenant = self._installation.tenant(tenant_id)
        living = {row.account_id for row in tenant.accounts() if row.state is not State.ENDED}
        message = self._quarantine.show(tenant_id, quarantine_id)
        there = {each.onward.account_id for each in message.recipients}
        concerned: list[AccountId | None] = [account_id for account_id in sorted(living) if account_id in there]
        self._installation.audit.append_all(
            [
                Entry(f"quarantine.{what}", scope.actor, tenant_id, account_id, details)
                for account_id in concerned or [None]
            ]
        )

    def _audit(self, scope: Scope, what: str, tenant_id: TenantId, details: Mapping[str, str]) -> None:
        self._installation.audit.append(f"quarantine.{what}", scope.actor, tenant_id, details=details)


def _opened(scope: Scope, closed: str) -> dict[str, str]:
    """For an operator's records: that he saw what header fields say."""
    return {"header": "yes"} if scope.is_operator and not closed else {}


def withdrawn(
    now: int, tenant_id: TenantId, message: Withheld, recipient: HeldRecipient, details: Mapping[str, str]
) -> TraceEvent:
    """That a recipient never gets a message that was withheld."""
    return TraceEvent(
        now,
        message.quarantine_id,
        TraceKind.WITHDRAWN,
        tenant_id,
        recipient.account_id,
        str(message.sender or ""),
        str(recipient.address),
        details,
    )


def _addresses(value: bytes) -> Sequence[EmailAddress]:
    found = []
    for each in parse_addresses(value):
        if each.mailbox and each.host:
            with suppress(InvalidInput, UnicodeDecodeError):
                found.append(EmailAddress.parse(f"{each.mailbox.decode()}@{each.host.decode()}"))
    return found
