"""Locks of what lives as long as an account is open, made many at a time so that they lie together.

The system keeps a lock's 32 octets on the heap, where an account's database takes and gives back hundreds of kilobytes
around them; each page that one lock lies in stays for as long as the account does. Ten locks of each of thousands of
accounts kept 4 to 17 KiB of an account that way, more than all its objects take.
"""

from __future__ import annotations

import threading
from typing import Final

_SOME: Final = 256

_locks: list[threading.Lock] = []
_reentrant: list[threading.RLock] = []


def new_lock() -> threading.Lock:
    """As `threading.Lock()`."""
    while True:
        try:
            return _locks.pop()
        except IndexError:  # two threads may both make some
            _locks.extend([threading.Lock() for _ in range(_SOME)])


def new_rlock() -> threading.RLock:
    """As `threading.RLock()`."""
    while True:
        try:
            return _reentrant.pop()
        except IndexError:
            _reentrant.extend([threading.RLock() for _ in range(_SOME)])
