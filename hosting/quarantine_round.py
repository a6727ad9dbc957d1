"""The look of the jobs role at the quarantine: releases that were interrupted go on, what a review found to be wrongly
withheld is released, and the day's digests are sent. What has expired is removed by `storage.retention`.

A round may be repeated at any time and after any crash. Blocking: it runs in a thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from gateway.quarantine.release import Releases
from hosting.config import Config
from hosting.quarantine.assembly import make_quarantine, make_releases
from hosting.quarantine.digests import Digests
from storage.directory.resolve import Resolver
from storage.directory.reviews import Review, ReviewState
from storage.directory.rows import State
from storage.errors import CleanmailError, Gone, NotFound
from storage.installation import Installation
from storage.quarantine.store import Quarantine
from storage.quarantine.values import HeldState, ReleasedBy
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
    for review in installation.control.reviews.in_state(ReviewState.WRONG):
        release_reviewed(installation, quarantine, releases, review)


def release_reviewed(installation: Installation, quarantine: Quarantine, releases: Releases, review: Review) -> None:
    """What a review found to be wrongly withheld goes to everybody for whom it is held still."""
    reviews, tenant_id, quarantine_id = installation.control.reviews, review.tenant_id, review.quarantine_id
    try:
        message = quarantine.show(tenant_id, quarantine_id)
        held = [each.position for each in message.recipients if each.state is HeldState.HELD]
        if releases.release(tenant_id, quarantine_id, held, ReleasedBy.REVIEW).failed:
            log.warning("message %s was found to be wrongly withheld, and cannot be released yet", quarantine_id)
            return
        reviews.released(tenant_id, quarantine_id)
    except (NotFound, Gone):
        reviews.gone(tenant_id, quarantine_id)
    except CleanmailError as error:
        log.error("message %s was not released: %s", quarantine_id, error.detail or error.public)


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
