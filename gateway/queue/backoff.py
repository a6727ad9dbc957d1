"""When something that failed for now is tried again: soon at first, then after ever longer pauses. Pure.

Pauses double up to a cap and vary by a quarter either way, so that what failed together is not tried together. The
first pause of mail to other servers is five minutes: long enough for greylisting, short enough for a restart there.

Standards: RFC 5321 §4.5.4.1 (retries; the give-up time is the entry's `expires`).
"""

from __future__ import annotations

from dataclasses import dataclass

JITTER = 0.25  # of a pause, in either direction


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses in seconds: `first`, doubled after each failure, never above `cap`."""

    first: int
    cap: int

    def pause(self, failures: int, chance: float) -> int:
        """How long to wait after so many failures (1 is the first); `chance` is in [0, 1), evenly."""
        doublings = min(max(failures - 1, 0), 32)
        pause = min(self.first << doublings, self.cap)
        return max(1, min(self.cap, round(pause * (1 - JITTER + 2 * JITTER * chance))))

    def next_attempt(self, now: int, failures: int, chance: float, expires: int) -> int:
        """When the next attempt is due; once more just before `expires` where the pause would lead beyond it."""
        following = now + self.pause(failures, chance)
        last = expires - LAST_ATTEMPT
        return last if now < last < following else following


LAST_ATTEMPT = 60  # seconds before an entry expires: nobody gives up on mail that was not tried for hours

ELSEWHERE = Backoff(300, 4 * 3600)  # recipients at other servers, and other servers as a whole
HERE = Backoff(60, 3600)  # mailboxes here: over quota, or a part of ours that does not answer
