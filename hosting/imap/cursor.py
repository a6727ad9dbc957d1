"""Reads the tokens of one frame from left to right.

Every method either returns a typed value and moves on, or raises `Malformed` with a sentence for the client; a tagged
BAD answers it. No method looks further than the frame, and none recurses.

Standards: RFC 9051 §9 (tokens), RFC 3516 §4 (literal8).
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, date, datetime, timedelta, timezone

from hosting.imap import utf7
from hosting.imap.commands import STAR, Flags, SequenceSet
from hosting.imap.decoder import Frame
from storage.errors import InvalidInput
from storage.values import ANSWERED, DELETED, DRAFT, FLAGGED, SEEN, UID_MAX

_ATOM = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\\]]+')
_ASTRING = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\]+')
_PATTERN = re.compile(rb'[^\x00-\x20\x7f(){"\\]+')  # list-mailbox; UTF-8 is let through for clients that send it bare
_QUOTED = re.compile(rb'"((?:[^"\\\r\n\x00]|\\["\\])*)"')
_LITERAL = re.compile(rb"(~?)\{(\d+)\+?\}\r\n")
_NUMBER = re.compile(rb"\d{1,20}")
_SET = re.compile(rb"[\d*:,]+")
_FLAG = re.compile(rb'\\?[^\x00-\x20\x7f-\xff(){%*"\\\]]+')
_DATE = re.compile(rb"(\d{1,2})-([A-Za-z]{3})-(\d{4})")
_DATE_TIME = re.compile(rb"([ \d]\d)-([A-Za-z]{3})-(\d{4}) (\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)")
_MONTHS = {name: number for number, name in enumerate(b"jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)}
_SYSTEM = {b"\\SEEN": SEEN, b"\\ANSWERED": ANSWERED, b"\\FLAGGED": FLAGGED, b"\\DELETED": DELETED, b"\\DRAFT": DRAFT}
_EPOCH_DAY = date(1970, 1, 1).toordinal()
KEYWORD_LENGTH = 100


class Malformed(Exception):  # noqa: N818  (the word of the protocol's BAD; it is not an error of ours)
    """The command does not follow the grammar; its text is for the client."""


class Cursor:
    """A position in a frame."""

    __slots__ = ("_literals", "_taken", "at", "charset", "max_ranges", "text")

    def __init__(self, frame: Frame, max_ranges: int) -> None:
        self.text = frame.text
        self.at = 0
        self.max_ranges = max_ranges
        self.charset = "utf-8"  # of strings; a search may name another
        self._literals = frame.literals
        self._taken = 0

    # --- punctuation ---

    def accept(self, octets: bytes) -> bool:
        """Moves over `octets` if they come next."""
        if self.text.startswith(octets, self.at):
            self.at += len(octets)
            return True
        return False

    def expect(self, octets: bytes) -> None:
        if not self.accept(octets):
            shown = "a space" if octets == b" " else f"'{octets.decode()}'"
            raise Malformed(f"Expected {shown}.")

    def space(self) -> None:
        at = self.at
        if self.text[at : at + 1] != b" ":
            raise Malformed("Expected a space.")
        self.at = at + 1

    def peek(self) -> bytes:
        """The next octet; empty at the end."""
        return self.text[self.at : self.at + 1]

    def end(self) -> None:
        """The command must end here; spaces before its end are forgiven."""
        if self.text[self.at :].strip(b" "):
            raise Malformed("Unexpected arguments.")

    def at_end(self) -> bool:
        return self.at >= len(self.text)

    # --- words, numbers, strings ---

    def _match(self, pattern: re.Pattern[bytes], what: str) -> re.Match[bytes]:
        match = pattern.match(self.text, self.at)
        if match is None:
            raise Malformed(f"Expected {what}.")
        self.at = match.end()
        return match

    def word(self) -> str:
        """An atom, in capitals: a keyword of the grammar."""
        return self._match(_ATOM, "a word")[0].decode("ascii").upper()

    def atom(self) -> str:
        return self._match(_ATOM, "an atom")[0].decode("ascii")

    def number(self, largest: int = UID_MAX) -> int:
        value = int(self._match(_NUMBER, "a number")[0])
        if value > largest:
            raise Malformed("The number is too large.")
        return value

    def string(self) -> bytes:
        """A quoted string or a literal."""
        if self.peek() == b'"':
            quoted = self._match(_QUOTED, "a quoted string")[1]
            return re.sub(rb"\\(.)", rb"\1", quoted) if b"\\" in quoted else quoted
        return self.literal()

    def literal(self, *, octets: bool = False) -> bytes:
        """A literal; NUL only where `octets` says that it holds a message (RFC 9051 §4.3)."""
        match = self._match(_LITERAL, "a string")
        if self._taken >= len(self._literals):
            raise Malformed("Expected a literal.")
        if match[1] and not octets:
            raise Malformed("A binary literal is not taken here.")
        value = self._literals[self._taken]
        self._taken += 1
        if not octets and b"\0" in value:
            raise Malformed("A string has a NUL in it.")
        return value

    def astring(self) -> bytes:
        if self.peek() in (b'"', b"{", b"~"):
            return self.string()
        return self._match(_ASTRING, "a string")[0]

    def text_of(self, octets: bytes) -> str:
        try:
            return octets.decode(self.charset)
        except UnicodeDecodeError:
            raise Malformed("A string is not in the charset that it should be in.") from None

    # --- mailboxes ---

    def mailbox(self, utf8: bool) -> str:
        return self.mailbox_name(self.astring(), utf8)

    def mailbox_name(self, octets: bytes, utf8: bool) -> str:
        """The canonical name: NFC, INBOX in capitals (RFC 9051 §5.1). `utf8`: IMAP4rev2 is enabled, no UTF-7."""
        name = self.text_of(octets)
        if not utf8:
            try:
                name = utf7.decode(name)
            except InvalidInput as error:
                raise Malformed(error.public) from None
        name = unicodedata.normalize("NFC", name)
        head, slash, rest = name.partition("/")
        return "INBOX" + slash + rest if head.upper() == "INBOX" else name

    def pattern(self, utf8: bool) -> str:
        octets = self.string() if self.peek() in (b'"', b"{") else self._match(_PATTERN, "a mailbox pattern")[0]
        name = self.text_of(octets)
        if not utf8:
            try:
                name = utf7.decode(name)
            except InvalidInput:
                return name  # matches nothing that exists: "silently ignored" (RFC 9051 §6.3.9)
        return unicodedata.normalize("NFC", name)

    # --- sets, flags, dates ---

    def sequence_set(self) -> SequenceSet:
        if self.accept(b"$"):
            return SequenceSet(saved=True)
        text = self._match(_SET, "a message set")[0]
        if text.isdigit():  # most are one number
            only = _set_number(text)
            return SequenceSet(((only, only),))
        parts = text.split(b",")
        if len(parts) > self.max_ranges:
            raise Malformed("The message set has too many ranges.")
        ranges = []
        for part in parts:
            first, colon, last = part.partition(b":")
            low = _set_number(first)
            ranges.append((low, _set_number(last) if colon else low))
        return SequenceSet(tuple(ranges))

    def flag(self) -> bytes:
        return self._match(_FLAG, "a flag")[0]

    def flags(self) -> Flags:
        """A flag list in parentheses, or bare flags up to the end as STORE allows."""
        found: list[bytes] = []
        if self.accept(b"("):
            while not self.accept(b")"):
                if found:
                    self.space()
                found.append(self.flag())
        else:
            found.append(self.flag())
            while self.accept(b" "):
                found.append(self.flag())
        system = 0
        keywords: list[str] = []
        for flag in found:
            if not flag.startswith(b"\\"):
                if len(flag) > KEYWORD_LENGTH:
                    raise Malformed("A keyword is too long.")
                keywords.append(flag.decode("ascii"))
            elif (bit := _SYSTEM.get(flag.upper())) is not None:
                system |= bit
            elif flag.upper() != b"\\RECENT":  # clients copy it from what they fetched; it can't be set
                raise Malformed("There is no such system flag.")
        return Flags(system, tuple(dict.fromkeys(keywords)))

    def date(self) -> int:
        """A date as days since 1 January 1970."""
        quoted = self.accept(b'"')
        match = self._match(_DATE, "a date")
        if quoted:
            self.expect(b'"')
        try:
            return date(int(match[3]), _month(match[2]), int(match[1])).toordinal() - _EPOCH_DAY
        except ValueError:
            raise Malformed("There is no such date.") from None

    def date_time(self) -> tuple[int, int]:
        """A date-time in quotes as Unix seconds, and its zone in minutes east of UTC."""
        self.expect(b'"')
        match = self._match(_DATE_TIME, "a date and time")
        self.expect(b'"')
        day, month, year, hour, minute, second, sign, zone_hours, zone_minutes = match.groups()
        zone = (int(zone_hours) * 60 + int(zone_minutes)) * (1 if sign == b"+" else -1)
        try:
            moment = datetime(
                int(year), _month(month), int(day), int(hour), int(minute), min(int(second), 59),
                tzinfo=timezone(timedelta(minutes=zone)),
            )  # fmt: skip
            return int(moment.astimezone(UTC).timestamp()), zone
        except (ValueError, OverflowError):
            raise Malformed("There is no such date.") from None


def _set_number(text: bytes) -> int:
    if text == b"*":
        return STAR
    if not text.isdigit() or len(text) > 10:
        raise Malformed("The message set is not valid.")
    value = int(text)
    if not 0 < value <= UID_MAX:
        raise Malformed("The message set is not valid.")
    return value


def _month(name: bytes) -> int:
    number = _MONTHS.get(name.lower())
    if number is None:
        raise Malformed("There is no such month.")
    return number
