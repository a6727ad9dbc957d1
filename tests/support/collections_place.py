"""An account for tests of its collections, with what they put into them."""

from __future__ import annotations

from itertools import count

from accounts import AccountPlace

from storage.collections.values import Collection, Content, Kind, NewCollection, Times
from storage.mail.account import Account

HOUR = 3600
_numbers = count(1)


def event(uid: str | None, data: bytes = b"event", *, at: int = 0, scheduling: bool = False) -> Content:
    """A body as a check of iCalendar would leave it; it lasts an hour."""
    times = Times(at, at + HOUR, floating=False, known_until=1 << 62)
    return Content(data, "text/calendar; charset=utf-8", uid, "VEVENT", times, scheduling)


def file(data: bytes = b"file") -> Content:
    return Content(data, "text/plain")


def large(token: str = "large", size: int = 100_000) -> bytes:
    """More than stands in a row."""
    return (token.encode() * (size // len(token) + 1))[:size]


def calendar(account: Account, **options: object) -> Collection:
    """A new one."""
    return account.collections.create(NewCollection(Kind.CALENDAR, f"calendar{next(_numbers)}", **options))  # type: ignore[arg-type]


def folder(account: Account, parent_id: int = 0, name: str = "") -> Collection:
    return account.collections.create(NewCollection(Kind.FOLDER, name or f"folder{next(_numbers)}", parent_id))


__all__ = ["AccountPlace", "calendar", "event", "file", "folder", "large"]
