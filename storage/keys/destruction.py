"""What is known of a key that was destroyed: the facts that a certificate of erasure states, and its marker.

The facts are kept in the key's marker, so that whoever asks for the same destruction again gets the same facts.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from storage.errors import Corrupt

Sanitization = Literal["purge", "clear"]


@dataclass(frozen=True, slots=True)
class Destroyed:
    """`old_master_destroyed`: nothing that is left anywhere, backups of keys included, opens the key again."""

    key_ids: tuple[str, ...]  # the tenant's key and those of its accounts, or the account's
    at: int  # Unix seconds at which it could not be read any more
    master_before: int  # the generation of the master that had wrapped it, by what is between
    master_after: int | None  # the generation that wraps what is left; None: the old one still does
    master_place: str  # where the master lives, for people
    old_master_destroyed: bool
    sanitization: Sanitization  # the level of NIST SP 800-88 that is reached (docs/decisions/0024-keys.md)
    mirrors: tuple[str, ...]  # mirrors of keys/ that followed
    backups_until: int | None  # until when a dated copy of keys/ could exist that holds the wrapped key; None: no copy

    def fields(self) -> dict[str, Any]:
        """As JSON has them."""
        return asdict(self)

    @classmethod
    def from_fields(cls, fields: Any) -> Destroyed:
        """Raises Corrupt."""
        try:
            sanitization = fields["sanitization"]
            if sanitization not in get_args(Sanitization):
                raise ValueError(sanitization)
            after, until = fields["master_after"], fields["backups_until"]
            return cls(
                key_ids=tuple(str(each) for each in fields["key_ids"]),
                at=int(fields["at"]),
                master_before=int(fields["master_before"]),
                master_after=None if after is None else int(after),
                master_place=str(fields["master_place"]),
                old_master_destroyed=fields["old_master_destroyed"] is True,
                sanitization=sanitization,
                mirrors=tuple(str(each) for each in fields["mirrors"]),
                backups_until=None if until is None else int(until),
            )
        except (KeyError, TypeError, ValueError):
            raise Corrupt(detail="facts of a destroyed key") from None


@dataclass(frozen=True, slots=True)
class Marker:
    """A destroyed key's, as it stands in its file: begun, or with its facts."""

    at: int
    key_ids: tuple[str, ...]
    master: int
    moved: bool  # an account's key that was once wrapped under its tenant's
    facts: Destroyed | None = None

    def encode(self) -> bytes:
        document: dict[str, Any] = {"at": self.at, "key_ids": self.key_ids, "master": self.master, "moved": self.moved}
        if self.facts is not None:
            document["facts"] = self.facts.fields()
        return json.dumps(document, indent=1).encode("ascii") + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> Marker:
        """Of before, a marker is the time alone."""
        text = data.decode("ascii", "replace").strip()
        try:
            if text.isdecimal():
                facts = Destroyed((), int(text), 1, None, "not recorded", False, "clear", (), None)
                return cls(int(text), (), 1, moved=False, facts=facts)
            document: Any = json.loads(text)
            found = document.get("facts")
            return cls(
                int(document["at"]),
                tuple(str(each) for each in document["key_ids"]),
                int(document["master"]),
                document["moved"] is True,
                Destroyed.from_fields(found) if found is not None else None,
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Corrupt(detail="marker of a destroyed key: unreadable file") from None
