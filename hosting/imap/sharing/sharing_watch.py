"""What the change feed says of shared mailboxes: it counts at once, also for sessions that have one selected.

Whatever may matter has the worker forget what it remembers of the tenant. Then those of its sessions that have
another's mailbox selected are asked about anew, and end with BYE if it may no longer be read; the others learn with
their next command what has changed. When an owner's account ends, whoever has it open lets go of it.

Standards: RFC 4314 §5.1.1.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Any, Final

from hosting.imap.effects import Work
from hosting.imap.sharing.other_users import Shared, SharedMailboxes
from hosting.imap.shell.connection import Connection
from storage.changes import AccountChanged, AccountEnded, Gap, RightsChanged, TenantChanged
from storage.values import AccountId, TenantId

_log = logging.getLogger(__name__)
_FAREWELL: Final = b"[NOPERM] The selected mailbox is no longer shared with you."

Run = Callable[[Work, Callable[[Any, BaseException | None], None]], None]


class SharingWatch:
    """Confined to the event loop."""

    def __init__(self, shared: SharedMailboxes, connections: Collection[Connection], run: Run) -> None:
        """`connections` are the service's own, whatever they are at the moment."""
        self._shared = shared
        self._connections = connections
        self._run = run

    def changed(self, change: object) -> None:
        match change:
            case AccountEnded(tenant_id, account_id):
                self._shared.forget(tenant_id)
                for connection in self._with_others(tenant_id):
                    if _owner_of(connection) == account_id:
                        _end(connection)
            case RightsChanged(tenant_id) | AccountChanged(tenant_id) | TenantChanged(tenant_id):
                self._shared.forget(tenant_id)
                self._ask_anew(tenant_id)
            case Gap():
                self._shared.forget()
                self._ask_anew(None)

    def _with_others(self, tenant_id: TenantId | None) -> list[Connection]:
        """Those that have another's mailbox selected."""
        found = []
        for connection in self._connections:
            session = connection.session
            if session is None or session.principal is None or session.selected is None:
                continue
            if session.selected.account is not session.account and tenant_id in (None, session.principal.tenant_id):
                found.append(connection)
        return found

    def _ask_anew(self, tenant_id: TenantId | None) -> None:
        by_user: dict[tuple[TenantId, AccountId], list[Connection]] = {}
        for connection in self._with_others(tenant_id):
            assert connection.session is not None
            user = connection.session.user
            by_user.setdefault((user.tenant_id, user.account_id), []).append(connection)
        for (tenant, account), connections in by_user.items():
            self._ask(tenant, account, connections)

    def _ask(self, tenant_id: TenantId, account_id: AccountId, connections: list[Connection]) -> None:
        def done(found: Any, error: BaseException | None) -> None:
            if error is not None:  # their next command asks again
                _log.warning("what account %d shares could not be asked: %s", account_id, type(error).__name__)
                return
            for connection in connections:
                if not _may_read(connection, found):
                    _end(connection)

        self._run(Work(lambda: self._shared.load(tenant_id, account_id)), done)


def _end(connection: Connection) -> None:
    """The owner's account is let go of at once, however long the client takes to hang up."""
    connection.end(_FAREWELL)
    if connection.session is not None and not connection.busy:
        connection.session.close()


def _may_read(connection: Connection, shared: Shared) -> bool:
    session = connection.session
    if session is None or session.selected is None or session.selected.account is session.account:
        return True
    return "r" in shared.rights(session.selected.account.account_id, session.selected.mailbox_id)


def _owner_of(connection: Connection) -> AccountId | None:
    selected = connection.session.selected if connection.session is not None else None
    return selected.account.account_id if selected is not None else None
