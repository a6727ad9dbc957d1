"""The typed values that every layer speaks, made once at the border.

Standards: RFC 5321 §4.1.2 (addresses), RFC 6531 (internationalised ones), RFC 5891 (IDNA), RFC 9051 §2.3 (attributes).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntFlag
from typing import NewType

import idna

from storage.errors import InvalidInput

TenantId = NewType("TenantId", int)  # from a persistent counter: never used again
AccountId = NewType("AccountId", int)  # unique in the installation, never used again
MailboxId = NewType("MailboxId", int)  # unique in the account, never used again
MessageId = NewType("MessageId", int)  # the row of a stored message, unique in the account; not the Message-ID field
Uid = NewType("Uid", int)
ModSeq = NewType("ModSeq", int)

UID_MAX = 0xFFFFFFFF  # RFC 9051 §2.3.1.1: a 32-bit value


class SystemFlag(IntFlag):
    """The system flags as bits of a membership's `flags`; keywords take bits 8 to 61 (RFC 9051 §2.3.2)."""

    SEEN = 1
    ANSWERED = 2
    FLAGGED = 4
    DELETED = 8
    DRAFT = 16


FIRST_KEYWORD_BIT = 8
KEYWORDS_PER_MAILBOX = 54  # bits 8..61: a signed 64-bit integer of SQLite and PostgreSQL holds them

SEEN = int(SystemFlag.SEEN)
ANSWERED = int(SystemFlag.ANSWERED)
FLAGGED = int(SystemFlag.FLAGGED)
DELETED = int(SystemFlag.DELETED)
DRAFT = int(SystemFlag.DRAFT)


@dataclass(frozen=True, slots=True)
class ByteSpan:
    """A half-open range [start, end) of octets of one message."""

    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start

    def of(self, data: bytes) -> bytes:
        return data[self.start : self.end]


# Two or more labels of letters, digits and hyphens (RFC 1123 §2.1), without the "--" that IDNA gives a meaning to.
_PLAIN_NAME = re.compile(
    r"(?:(?!..--)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+(?!..--)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\Z"
)


@dataclass(frozen=True, slots=True, order=True)
class Domain:
    """A mail domain in its canonical form: lower-case A-labels without a trailing dot."""

    name: str

    @classmethod
    def parse(cls, text: str) -> Domain:
        """The domain that `text` names. Raises InvalidInput if it is no domain name (RFC 5891, RFC 1035 §2.3.1)."""
        text = text.strip().rstrip(".")
        if len(text) <= 253 and _PLAIN_NAME.match(text):  # nearly all; IDNA takes 45 us to find nothing to do
            return cls(text.lower())
        try:
            name = idna.encode(text, uts46=True, transitional=False).decode("ascii").lower()
        except (idna.IDNAError, UnicodeError):
            raise InvalidInput(f"'{text[:80]}' is not a domain name.") from None
        if "." not in name or len(name) > 253:
            raise InvalidInput(f"'{text[:80]}' is not a full domain name.")
        return cls(name)

    @property
    def unicode(self) -> str:
        """The name for people, with U-labels."""
        try:
            return idna.decode(self.name)
        except idna.IDNAError:
            return self.name

    def __str__(self) -> str:
        return self.name


_DOT_ATOM = re.compile(r"[^\s\x00-\x1f\x7f()<>\[\]:;@\\,\"]+\Z")


def _is_dot_atom(local: str) -> bool:
    """RFC 5322 §3.2.3: no dot at either end, nor two in a row."""
    return bool(_DOT_ATOM.match(local)) and not (local.startswith(".") or local.endswith(".") or ".." in local)


@dataclass(frozen=True, slots=True)
class EmailAddress:
    """local@domain. `local` is NFC and keeps its case; `key` is what two equal addresses share."""

    local: str
    domain: Domain

    @classmethod
    def parse(cls, text: str) -> EmailAddress:
        """The address in `text` (no display name, no angle brackets). Raises InvalidInput."""
        local, at, domain = text.strip().rpartition("@")
        if not at or not local:
            raise InvalidInput(f"'{text[:120]}' is not an e-mail address.")
        if local.startswith('"') and local.endswith('"') and len(local) >= 2:
            local = re.sub(r"\\(.)", r"\1", local[1:-1])
            if not local or any(ord(c) < 32 or ord(c) == 127 for c in local):
                raise InvalidInput("The address has a control character in it.")
        elif not _is_dot_atom(local):
            raise InvalidInput(f"'{text[:120]}' is not an e-mail address.")
        local = unicodedata.normalize("NFC", local)
        if len(local.encode("utf-8", "surrogatepass")) > 64:  # RFC 5321 §4.5.3.1.1
            raise InvalidInput("The part before the @ is longer than 64 octets.")
        return cls(local, Domain.parse(domain))

    @property
    def key(self) -> str:
        """Equal for equal addresses: local part NFC and caseless, domain in A-labels."""
        return unicodedata.normalize("NFC", self.local.casefold()) + "@" + self.domain.name

    @property
    def base(self) -> EmailAddress:
        """Without the subaddress: user+tag@d gives user@d (RFC 5233)."""
        user, plus, _ = self.local.partition("+")
        return EmailAddress(user, self.domain) if plus and user else self

    @property
    def is_ascii(self) -> bool:
        return self.local.isascii()

    def __str__(self) -> str:
        if _is_dot_atom(self.local):
            return f"{self.local}@{self.domain.name}"
        quoted = self.local.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{quoted}"@{self.domain.name}'


@dataclass(frozen=True, slots=True)
class UidSet:
    """Ascending, disjoint, non-adjacent closed ranges of UIDs or sequence numbers."""

    ranges: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, numbers: Iterable[int]) -> UidSet:
        """From single numbers in any order."""
        ranges: list[tuple[int, int]] = []
        for number in sorted(set(numbers)):
            if ranges and ranges[-1][1] + 1 == number:
                ranges[-1] = (ranges[-1][0], number)
            else:
                ranges.append((number, number))
        return cls(tuple(ranges))

    @classmethod
    def of_ranges(cls, pairs: Iterable[tuple[int, int]]) -> UidSet:
        """From ranges in any order, either end first; they are sorted and merged."""
        merged: list[tuple[int, int]] = []
        for low, high in sorted((a, b) if a <= b else (b, a) for a, b in pairs):
            if merged and low <= merged[-1][1] + 1:
                if high > merged[-1][1]:
                    merged[-1] = (merged[-1][0], high)
            else:
                merged.append((low, high))
        return cls(tuple(merged))

    def __contains__(self, number: int) -> bool:
        low, high = 0, len(self.ranges)
        while low < high:
            middle = (low + high) // 2
            first, last = self.ranges[middle]
            if number < first:
                high = middle
            elif number > last:
                low = middle + 1
            else:
                return True
        return False

    def __iter__(self) -> Iterator[int]:
        for first, last in self.ranges:
            yield from range(first, last + 1)

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self.ranges)

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def __str__(self) -> str:
        return ",".join(str(a) if a == b else f"{a}:{b}" for a, b in self.ranges)
