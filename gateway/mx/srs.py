"""The sender rewriting scheme: the reverse-path of mail that an alias forwards outside, and the way back from it.

The next hop would find that we may not send for the original sender's domain (SPF); so the path becomes one of the
alias's domain, with the original inside, signed with the tenant's key, and good for three weeks. Whoever forwards what
was forwarded already keeps the first forwarder's path (SRS1), so that paths don't grow and bounces take two steps. What
does not fit into 64 octets is kept by the tenant under a token, which takes the place of domain and local part.

Pure but for the tokens. Raises: nothing; a path that is forged, expired or no SRS path has no way back.
Standards: SRS (Shevek 2004) as Mail::SRS and postsrsd speak it; RFC 5321 §4.5.3.1.1 (64 octets).
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from hmac import compare_digest
from typing import Protocol

from storage.errors import InvalidInput
from storage.keys.sealing import keyed_hash
from storage.values import Domain, EmailAddress

GOOD_FOR = 21  # days
_DAYS = 1024  # after which days have the same two characters again
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_LOCAL_MAX = 64

_SRS0 = re.compile(
    r"SRS0[=+-](?P<hash>[a-z2-7]{8})=(?P<day>[a-z2-7]{2})=(?P<domain>[^=]*)=(?P<local>.+)\Z", re.I | re.S | re.A
)
_SRS1 = re.compile(r"SRS1[=+-](?P<hash>[a-z2-7]{8})=(?P<host>[^=]+)=(?P<rest>[=+-].+)\Z", re.I | re.S | re.A)
_ANY_SRS0 = re.compile(r"SRS0([=+-].+)\Z", re.I | re.S)
_ANY_SRS1 = re.compile(r"SRS1[=+-][^=]*=(?P<host>[^=]+)=(?P<rest>[=+-].+)\Z", re.I | re.S)


class Tokens(Protocol):
    """`storage.directory.srs.Srs`."""

    def token(self, address: EmailAddress) -> str: ...

    def address(self, token: str) -> EmailAddress | None: ...


@dataclass(frozen=True, slots=True)
class Rewriting:
    """Of one tenant, on one day (counted from 1970)."""

    key: bytes
    tokens: Tokens
    day: int

    def forward(self, original: EmailAddress, domain: Domain) -> EmailAddress:
        """The reverse-path under `domain`, an alias's, that leads back to `original`."""
        local = self._again(original, domain) or self._first(original.domain.name, original.local, domain)
        if len(local.encode()) > _LOCAL_MAX:
            local = self._first("", self.tokens.token(original), domain)
        return EmailAddress(local, domain)

    def _first(self, name: str, local: str, domain: Domain) -> str:
        day = _day_text(self.day)
        return f"SRS0={self._hash(day, name, local, domain.name)}={day}={name}={local}"

    def _again(self, original: EmailAddress, domain: Domain) -> str | None:
        """Forwarded by somebody before us: his path stays, whoever forwarded in between is left out."""
        first, second = _ANY_SRS0.match(original.local), _ANY_SRS1.match(original.local)
        if first is not None:
            host, rest = original.domain.name, first[1]
        elif second is not None:
            host, rest = second["host"], second["rest"]
        else:
            return None
        return f"SRS1={self._hash(host, rest, domain.name)}={host}={rest}"

    def back(self, path: EmailAddress) -> EmailAddress | None:
        """Whom a rewritten path stands for; None if we did not make it, or too long ago."""
        try:
            first, second = _SRS0.match(path.local), _SRS1.match(path.local)
            if first is not None:
                return self._back_from_first(first, path.domain)
            if second is not None and self._is_ours(second["hash"], second["host"], second["rest"], path.domain.name):
                return EmailAddress.parse(f"{_quoted('SRS0' + second['rest'])}@{second['host']}")
        except InvalidInput:
            pass
        return None

    def _back_from_first(self, match: re.Match[str], domain: Domain) -> EmailAddress | None:
        day, name, local = match["day"], match["domain"], match["local"]
        if not self._is_ours(match["hash"], day.lower(), name, local, domain.name):
            return None
        if (self.day - _day_number(day)) % _DAYS > GOOD_FOR:
            return None
        return EmailAddress.parse(f"{_quoted(local)}@{name}") if name else self.tokens.address(local)

    def _is_ours(self, given: str, *words: str) -> bool:
        return compare_digest(given.lower(), self._hash(*words))

    def _hash(self, *words: str) -> str:
        """40 bits, in lower case; mail systems on the way back may have changed the case of anything."""
        digest = keyed_hash(self.key, "\0".join(words).casefold().encode("utf-8", "surrogatepass"))
        return base64.b32encode(digest[:5]).decode().lower()


def is_rewritten(address: EmailAddress) -> bool:
    """Whether it looks like a path of SRS, of whomever."""
    return address.local[:4].upper() in {"SRS0", "SRS1"} and address.local[4:5] in {"=", "+", "-"}


def _quoted(local: str) -> str:
    """As `EmailAddress.parse` takes any local part."""
    escaped = local.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _day_text(day: int) -> str:
    day %= _DAYS
    return _ALPHABET[day >> 5] + _ALPHABET[day & 31]


def _day_number(text: str) -> int:
    high, low = map(_ALPHABET.index, text.lower())
    return high << 5 | low
