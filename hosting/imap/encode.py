"""Values into the octets of responses: names, flags, dates, sets.

Standards: RFC 9051 §4 (strings), §5.1 (names), §9; RFC 3501 §5.1.3 (modified UTF-7 towards IMAP4rev1).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date

from hosting.imap import utf7
from storage.values import ANSWERED, DELETED, DRAFT, FIRST_KEYWORD_BIT, FLAGGED, SEEN, UidSet

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_EPOCH_DAY = date(1970, 1, 1).toordinal()
SYSTEM_FLAGS = (
    (ANSWERED, b"\\Answered"),
    (FLAGGED, b"\\Flagged"),
    (DELETED, b"\\Deleted"),
    (SEEN, b"\\Seen"),
    (DRAFT, b"\\Draft"),
)


def quoted(text: bytes) -> bytes:
    """A string: quoted, or a literal where a quoted string can't hold it."""
    if b"\r" in text or b"\n" in text or b"\0" in text or len(text) > 1000:
        return b"{%d}\r\n%b" % (len(text), text)
    return b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def mailbox(name: str, utf8: bool) -> bytes:
    """A mailbox name: UTF-8 once IMAP4rev2 is enabled, modified UTF-7 before."""
    return quoted((name if utf8 else utf7.encode(name)).encode("utf-8"))


class FlagTexts(dict[int, bytes]):
    """The text of each pattern of flag bits, made once: `texts[bits]` is what stands between the parentheses."""

    __slots__ = ("_keywords", "_recent")

    def __init__(self, keywords: Mapping[int, str], *, recent: bool = False) -> None:
        super().__init__()
        self._keywords = keywords
        self._recent = recent  # RFC 3501 §2.3.2

    def __missing__(self, bits: int) -> bytes:
        words = [text for bit, text in SYSTEM_FLAGS if bits & bit]
        rest, bit = bits >> FIRST_KEYWORD_BIT, FIRST_KEYWORD_BIT
        while rest:
            if rest & 1 and (name := self._keywords.get(bit)) is not None:
                words.append(name.encode("ascii"))
            rest >>= 1
            bit += 1
        if self._recent:
            words.append(b"\\Recent")
        text = b" ".join(words)
        if len(self) < 10_000:
            self[bits] = text
        return text


class DateTexts(dict[int, str]):
    """Day number to "17-Jul-1996": few days, many messages."""

    __slots__ = ()

    def __missing__(self, day: int) -> str:
        moment = date.fromordinal(_EPOCH_DAY + day)
        text = f"{moment.day:2d}-{_MONTHS[moment.month - 1]}-{moment.year:04d}"
        if len(self) < 20_000:
            self[day] = text
        return text


class ZoneTexts(dict[int, str]):
    """Minutes east of UTC to "-0730"."""

    __slots__ = ()

    def __missing__(self, zone: int) -> str:
        hours, minutes = divmod(abs(zone), 60)
        text = self[zone] = f"{'-' if zone < 0 else '+'}{hours:02d}{minutes:02d}"
        return text


_DAYS = DateTexts()
_ZONES = ZoneTexts()
_LAST_DAY = date.max.toordinal() - _EPOCH_DAY


def internal_date(seconds: int, zone: int = 0) -> bytes:
    """A date-time in quotes, `zone` minutes east of UTC (RFC 9051 §9)."""
    day, second = divmod(seconds + zone * 60, 86400)
    if not -_EPOCH_DAY < day <= _LAST_DAY:
        day, second, zone = 0, 0, 0
    minute, second = divmod(second, 60)
    hour, minute = divmod(minute, 60)
    return f'"{_DAYS[day]} {hour:02d}:{minute:02d}:{second:02d} {_ZONES[zone]}"'.encode("ascii")


def uid_set(uids: Iterable[int]) -> bytes:
    return str(UidSet.of(uids)).encode("ascii")


def ordered_set(numbers: Iterable[int]) -> bytes:
    """A set that keeps the order of its numbers: COPYUID pairs source and target by position (RFC 4315 §3)."""
    parts: list[str] = []
    first = last = 0
    for number in numbers:
        if first and number == last + 1:
            last = number
            continue
        if first:
            parts.append(str(first) if first == last else f"{first}:{last}")
        first = last = number
    if first:
        parts.append(str(first) if first == last else f"{first}:{last}")
    return ",".join(parts).encode("ascii")
