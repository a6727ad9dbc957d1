"""DKIM keys on their way into DNS: made under a new selector, looked for, and let sign once they were seen.

Raises: Conflict, AlreadyExists and the database's errors from the key store; nothing for what DNS says.
Standards: RFC 6376 §3.6.2 (where a record stands; more than one TXT there means nothing).
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from gateway.dkim.keys import generate, read_record, record_text
from gateway.dns.answers import Answer, Dns
from storage.clock import Clock
from storage.directory.dkim_keys import UNUSED, DkimAlgorithm, DkimKey, DkimKeys, DkimState
from storage.errors import Conflict
from storage.values import Domain


class Sighting(StrEnum):
    """What stands in DNS where a key's record belongs."""

    PUBLISHED = "published"  # this key
    REVOKED = "revoked"  # an empty p=
    OTHER = "other"  # another key, several records, or no record of a key
    ABSENT = "absent"
    UNKNOWN = "unknown"  # DNS gave no answer


@dataclass(frozen=True, slots=True)
class Seen:
    key: DkimKey
    sighting: Sighting
    texts: tuple[str, ...] = ()  # the TXT records that were found


def published_text(key: DkimKey) -> str:
    """The TXT record that belongs into DNS for a key in its state."""
    return record_text(key.algorithm, b"" if key.state is DkimState.RETIRED else key.public_key)


def make(keys: DkimKeys, domain: Domain, algorithms: Sequence[DkimAlgorithm], clock: Clock) -> list[DkimKey]:
    """New keys under selectors that were never used. Conflict, before any is made, if one of a kind waits already."""
    for key in keys.find(domain):
        if key.algorithm in algorithms and key.state in UNUSED:
            raise Conflict(
                f"The {key.algorithm} key {key.selector} of {domain} has never signed; publish it, or retire it first."
            )
    made: list[DkimKey] = []
    for algorithm in algorithms:
        pair = generate(algorithm)
        selector = _selector(algorithm, clock)
        made.append(keys.add(domain, selector, algorithm, private_key=pair.private_key, public_key=pair.public_key))
    return made


async def look(dns: Dns, keys: Iterable[DkimKey]) -> list[Seen]:
    """What DNS has for each of the keys, asked at once."""
    keys = list(keys)
    answers = await asyncio.gather(*(dns.txt(key.name) for key in keys))
    return [_sighting(key, answer) for key, answer in zip(keys, answers, strict=True)]


def progress(keys: DkimKeys, seen: Iterable[Seen]) -> list[DkimKey]:
    """Tell the store what was seen, and let time do its part. The keys that changed their state, as they are now."""
    moved = [
        keys.saw(found.key.domain, found.key.selector)
        for found in seen
        if found.key.state is DkimState.MADE and found.sighting is Sighting.PUBLISHED
    ]
    return moved + keys.progress()


def _sighting(key: DkimKey, answer: Answer[bytes]) -> Seen:
    if answer.failed:
        return Seen(key, Sighting.UNKNOWN)
    texts = tuple(record.decode("utf-8", "replace") for record in answer.records)
    if not texts:
        return Seen(key, Sighting.ABSENT)
    published = read_record(texts[0]) if len(texts) == 1 else None
    if published is None or published.public_key is None:
        return Seen(key, Sighting.OTHER, texts)
    if not published.public_key:
        return Seen(key, Sighting.REVOKED, texts)
    same = published.algorithm == key.algorithm and published.public_key == key.public_key
    return Seen(key, Sighting.PUBLISHED if same else Sighting.OTHER, texts)


def _selector(algorithm: DkimAlgorithm, clock: Clock) -> str:
    """Says the day to people; the random part makes it one that nobody has seen in DNS before."""
    day = datetime.fromtimestamp(clock.now(), UTC).strftime("%Y%m%d")
    return f"{algorithm[0]}{day}{base64.b32encode(os.urandom(5))[:4].decode('ascii').lower()}"
