"""What a destination and its tenant know of a message's sender and content. Blocking: for worker threads.

What cannot be read is not known, and the operational log says so: a table that is damaged stops no mail. A tenant that
cannot be opened at all does: nothing could be delivered to it either.

Raises: Unavailable and others of `Installation.tenant`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from gateway.authentication.facts import authentication_results
from gateway.classifier.correction import Score
from gateway.classifier.features import Features, features_of
from gateway.facts.reading import Reading
from gateway.facts.values import Destination, Experience, Facts, Reputation, Standing
from gateway.learning.corrections import NOTHING, Corrections
from gateway.learning.experience import proven_domain
from storage.directory.tenant import Tenant
from storage.errors import CleanmailError
from storage.filter.reputation import Counts
from storage.installation import Installation
from storage.values import AccountId, TenantId

T = TypeVar("T")

_log = logging.getLogger(__name__)


class MessageExperience:
    """About one message, for one destination after the other; what they share is looked up once."""

    def __init__(
        self, installation: Installation, corrections: Corrections, facts: Facts, reading: Reading, data: bytes
    ) -> None:
        self._installation = installation
        self._corrections = corrections
        self._facts = facts
        self._reading = reading
        self._data = data
        self._domain = proven_domain(authentication_results(facts.authentication))
        self._features: Features | None = reading.features
        self._reputations: dict[TenantId, tuple[Reputation, Reputation]] = {}

    def of(self, destination: Destination) -> Experience:
        tenant = self._installation.tenant(destination.tenant_id)
        domain, network = self._reputation(tenant)
        return Experience(
            _known(tenant, "correspondents", lambda: self._standing(tenant, destination.account_id)),
            domain,
            network,
            _known(tenant, "correction", lambda: self._score(tenant, destination.account_id)) or self._shared_score(),
            self._reading.maturity,
        )

    def _standing(self, tenant: Tenant, account_id: AccountId | None) -> Standing:
        """That of the least known author: whoever names several may be any of them."""
        found = [Standing(tenant.correspondents.standing(author, account_id).value) for author in self._facts.authors]
        return min(found, key=_RANK.index, default=Standing.STRANGER)

    def _reputation(self, tenant: Tenant) -> tuple[Reputation, Reputation]:
        found = self._reputations.get(tenant.tenant_id)
        if found is None:
            counts = _known(
                tenant, "reputation", lambda: tenant.reputation.look(self._domain, self._facts.client.address)
            )
            found = (_reputation(counts[0]), _reputation(counts[1])) if counts else (Reputation(), Reputation())
            self._reputations[tenant.tenant_id] = found
        return found

    def _score(self, tenant: Tenant, account_id: AccountId | None) -> Score | None:
        correction = self._corrections.look(tenant, account_id)
        if correction is NOTHING:
            return None
        if self._features is None:
            self._features = features_of(self._data)
        return correction.score(self._reading.shared or 0.0, self._features)

    def _shared_score(self) -> Score | None:
        shared = self._reading.shared
        return None if shared is None else Score(shared, 0.0, 0.0)


_RANK = (Standing.STRANGER, Standing.TENANT, Standing.ACCOUNT)


def _reputation(counts: Counts) -> Reputation:
    return Reputation(counts.ham, counts.spam)


def _known(tenant: Tenant, what: str, look: Callable[[], T]) -> T | None:
    try:
        return look()
    except CleanmailError as error:
        _log.error("tenant %d: its %s cannot be read: %s", tenant.tenant_id, what, error.detail or error.public)
        return None
