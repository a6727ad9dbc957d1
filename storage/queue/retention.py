"""How long the queue's database remembers what is no message: counts, policies, results, destinations."""

from __future__ import annotations

from collections.abc import Collection

from storage.database.database import Database
from storage.queue.destinations import forget_stale_destinations
from storage.queue.sent import HOUR, SentCounts
from storage.queue.tls_results import DAY
from storage.values import TenantId

SENT_DAYS = 8  # limits look back a week
TLS_DAYS = 7  # RFC 8460 §4.1: a day is reported when it is over; some more for an operator who looks


class Retention(SentCounts):
    """A part of Queue."""

    @property
    def database(self) -> Database:
        """For retention, which looks at the age of rows."""
        return self._database

    def expire(self) -> int:
        """Removes what is remembered for longer than it is needed; how many rows. To be repeated every hour."""
        return self.expire_sending() + self.expire_servers()

    def expire_sending(self, held: Collection[TenantId] = ()) -> int:
        """How much was sent, but by tenants that a legal hold covers, and how TLS went."""
        now = self._clock.now()
        return self.forget_sent((now - SENT_DAYS * DAY) // HOUR, held) + self.tls_results.forget(now // DAY - TLS_DAYS)

    def expire_servers(self, before: int = 0) -> int:
        """What is known of other servers: what is over, and policies that were fetched before that time."""
        now = self._clock.now()
        removed = self._database.write(lambda transaction: forget_stale_destinations(transaction, now), durable=False)
        return self.sts.forget_expired(now, before) + removed
