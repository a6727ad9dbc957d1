"""How long the queue's database remembers what is no message: counts, policies, results, destinations."""

from __future__ import annotations

from storage.queue.destinations import forget_stale_destinations
from storage.queue.sent import HOUR, SentCounts
from storage.queue.tls_results import DAY

SENT_DAYS = 8  # limits look back a week
TLS_DAYS = 7  # RFC 8460 §4.1: a day is reported when it is over; some more for an operator who looks


class Retention(SentCounts):
    """A part of Queue."""

    def expire(self) -> int:
        """Removes what is remembered for longer than it is needed; how many rows. To be repeated every hour."""
        now = self._clock.now()
        removed = self.forget_sent((now - SENT_DAYS * DAY) // HOUR)
        removed += self.sts.forget_expired(now)
        removed += self.tls_results.forget(now // DAY - TLS_DAYS)
        removed += self._database.write(lambda transaction: forget_stale_destinations(transaction, now), durable=False)
        return removed
