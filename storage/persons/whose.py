"""Tells which account an address belongs to, for records of what happened (`storage.logs.subjects`).

An address belongs to an account if it is its own, with a subaddress too, or an alias that leads to it alone and nowhere
else. A list, a catch-all and an address elsewhere are nobody's. Answers are remembered for a minute, since records are
written each second, mostly of the same accounts. What cannot be looked up now is nobody's.
"""

from __future__ import annotations

import logging
from threading import Lock

from storage.clock import Clock
from storage.directory.resolve import Directory, Route, find
from storage.directory.rows import DomainState
from storage.errors import CleanmailError, Gone, InvalidInput, NotFound
from storage.logs.subjects import Subject
from storage.values import EmailAddress

_log = logging.getLogger("cleanmail.storage")

_REMEMBERED_MAX = 10_000
_REMEMBERED = 60  # seconds
_ALIASES_MAX = 10  # that lead to one another


class Owners:
    """A `Whose`; any thread may use it. It may block."""

    def __init__(self, directory: Directory, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._guard = Lock()
        self._known: dict[str, Subject | None] = {}
        self._since = 0.0
        self._told = False

    def __call__(self, text: str) -> Subject | None:
        with self._guard:
            now = self._clock.now()
            if len(self._known) >= _REMEMBERED_MAX or not 0 <= now - self._since < _REMEMBERED:
                self._known.clear()
                self._since = now
                self._told = False
            elif text in self._known:
                return self._known[text]
        try:
            found = owner(self._directory, EmailAddress.parse(text))
        except (InvalidInput, NotFound, Gone):
            found = None
        except CleanmailError as error:
            if not self._told:
                self._told = True
                _log.warning("whose records are cannot be told now: %s", error.detail or error.public)
            return None
        with self._guard:
            self._known[text] = found
        return found


def owner(directory: Directory, address: EmailAddress) -> Subject | None:
    """Raises NotFound, Gone, Unavailable."""
    for _ in range(_ALIASES_MAX):
        domain = directory.control.find_domain(address.domain)
        if domain is None or domain.state is not DomainState.VERIFIED:
            return None
        found = find(directory.tenant(domain.tenant_id), address)
        if found is None or found.route is Route.CATCH_ALL or len(found.entry.targets) != 1:
            return None
        target = found.entry.targets[0]
        if not isinstance(target, EmailAddress):
            return Subject(int(domain.tenant_id), int(target))
        address = target
    return None
