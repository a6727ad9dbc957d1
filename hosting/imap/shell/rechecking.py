"""Ends sessions whose credential was changed or withdrawn, or whose account may no longer be used."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

from hosting.auth.signin import Principal, SaslAuthenticator
from hosting.imap.effects import Work
from hosting.imap.shell.connection import Connection
from hosting.imap.shell.workers import Done

_log = logging.getLogger(__name__)


def end_invalid(
    connections: Iterable[Connection],
    concerned: Callable[[Principal], bool],
    authenticator: SaslAuthenticator,
    run: Callable[[Work, Done], None],
) -> None:
    """Asks once for each principal that is concerned, in a thread; ends the sessions of those that are not valid."""
    by_principal: dict[Principal, list[Connection]] = {}
    for connection in connections:
        session = connection.session
        if session is not None and session.principal is not None and concerned(session.principal):
            by_principal.setdefault(session.principal, []).append(connection)
    for principal, theirs in by_principal.items():
        _recheck_one(principal, theirs, authenticator, run)


def _recheck_one(
    principal: Principal,
    connections: list[Connection],
    authenticator: SaslAuthenticator,
    run: Callable[[Work, Done], None],
) -> None:
    def done(valid: Any, error: BaseException | None) -> None:
        if error is not None:
            _log.warning("account %d could not be rechecked: %s", principal.account_id, type(error).__name__)
            return
        if not valid:
            for connection in connections:
                connection.end(b"[AUTHORIZATIONFAILED] The sign-in is no longer valid.")

    run(Work(lambda: authenticator.still_valid(principal)), done)
