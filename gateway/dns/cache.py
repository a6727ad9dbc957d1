"""Answers of DNS, remembered as long as their TTLs and some bounds of ours allow.

The number of records is bounded; what was not asked for longest goes first. Answers that say no are remembered too
(RFC 2308), and failures for some seconds, so that a dead name server isn't asked for each of a thousand messages.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from gateway.dns.answers import Answer, DnsStatus
from storage.clock import Clock

# Seconds. A TTL of zero would ask for every recipient anew; an hour is what an operator waits who mended his records.
SHORTEST, LONGEST = 5, 3600
LONGEST_NO = 900  # RFC 2308 §5 allows three hours; a new domain should work sooner
FAILURE = 5  # RFC 2308 §7.1: at most five minutes

OCTETS_PER_RECORD = 200  # a longer TXT counts as several records

Key = tuple[str, int]  # normal name, type


class AnswerCache:
    def __init__(self, records: int, clock: Clock) -> None:
        self._records = records
        self._clock = clock
        self._held = 0
        self._answers: OrderedDict[Key, tuple[float, int, Answer[Any]]] = OrderedDict()

    def get(self, key: Key) -> Answer[Any] | None:
        found = self._answers.get(key)
        if found is None:
            return None
        expires, _, answer = found
        if expires <= self._clock.monotonic():
            self._forget(key)
            return None
        self._answers.move_to_end(key)
        return answer

    def put(self, key: Key, answer: Answer[Any], ttl: int) -> None:
        weight = _weight(answer)
        if weight > self._records:
            return
        self._forget(key)
        self._answers[key] = (self._clock.monotonic() + _bounded(answer.status, ttl), weight, answer)
        self._held += weight
        while self._held > self._records:
            self._forget(next(iter(self._answers)))

    def clear(self) -> None:
        self._answers.clear()
        self._held = 0

    def __len__(self) -> int:
        return len(self._answers)

    def _forget(self, key: Key) -> None:
        found = self._answers.pop(key, None)
        if found is not None:
            self._held -= found[1]


def _bounded(status: DnsStatus, ttl: int) -> int:
    if status is DnsStatus.FAILED:
        return FAILURE
    return min(max(ttl, SHORTEST), LONGEST if status is DnsStatus.FOUND else LONGEST_NO)


def _weight(answer: Answer[Any]) -> int:
    octets = sum(len(record) for record in answer.records if isinstance(record, bytes))
    return max(1, len(answer.records), octets // OCTETS_PER_RECORD)
