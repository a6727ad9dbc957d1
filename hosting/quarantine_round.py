"""The look of the jobs role at the quarantine: releases that were interrupted go on, and the day's digests are sent.

What a review found to be wrongly withheld is released by `hosting.review_round`; what has expired is removed by
`storage.retention`.

A round may be repeated at any time and after any crash. Blocking: it runs in a thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from hosting.config import Config
from hosting.quarantine.assembly import make_quarantine, make_releases
from hosting.quarantine.digests import Digests
from storage.directory.resolve import Resolver
from storage.directory.rows import State
from storage.errors import CleanmailError, Gone, NotFound
from storage.installation import Installation
from storage.values import TenantId

log = logging.getLogger("quarantine")

EVERY = 300.0  # seconds between two rounds


def quarantine_round(installation: Installation, config: Config) -> None:
    """Every tenant's. A tenant that cannot be opened is logged, and looked at again the next time."""
    resolver = Resolver(installation, config.postmaster)
    quarantine = make_quarantine(installation, config)
    releases = make_releases(installation, config, resolver, quarantine)
    settings = config.filter
    digests = Digests(installation, quarantine, resolver, settings.rules, settings.digest_hour, config.server.name)
    for row in installation.control.tenants():
        if row.state is not State.ENDED:
            _guarded("interrupted releases", row.tenant_id, releases.resume)
        if row.state is State.ACTIVE:
            _guarded("digests", row.tenant_id, digests.send_due)


def _guarded(what: str, tenant_id: TenantId, do: Callable[[TenantId], int]) -> None:
    """One tenant's failure is no other's."""
    try:
        done = do(tenant_id)
    except (NotFound, Gone):  # ended meanwhile
        return
    except CleanmailError as error:
        log.error("%s of tenant %d: %s", what, tenant_id, error.detail or error.public)
        return
    if done:
        log.info("%s of tenant %d: %d", what, tenant_id, done)
