"""For how long messages stay in a folder: what users choose, and what the installation chooses where they don't.

A rule names a folder ("Trash=30", "Newsletters/Old=never"); it fits the folder of that name, and the one that has that
special use (\\Trash) under whatever name. Nothing ever leaves the INBOX by a rule of the installation.

Raises: InvalidInput. Standards: RFC 6154 (special uses).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from storage.errors import InvalidInput

UNSET = 0  # of mailbox.keep_days: the installation's rule holds, if there is one
NEVER = -1  # messages stay
MOST_DAYS = 36_500


@dataclass(frozen=True, slots=True)
class FolderRules:
    """What the installation chooses, by folder in lower case."""

    days: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def parse(cls, rules: Iterable[str]) -> FolderRules:
        days: dict[str, int] = {}
        for rule in rules:
            folder, keep = parse_rule(rule)
            if folder.casefold() == "inbox":
                raise InvalidInput("Only its owner can choose that messages leave the INBOX.")
            days[folder.casefold()] = keep
        return cls(MappingProxyType(days))

    def of(self, name: str, special_use: Collection[str], keep_days: int) -> int:
        """Days after which messages leave the folder; 0: they stay. `keep_days` is what its owner chose."""
        if keep_days != UNSET:
            return max(keep_days, 0)
        if name.casefold() == "inbox":
            return 0
        names = [name.casefold(), *(use.removeprefix("\\").casefold() for use in special_use)]
        chosen = [self.days[each] for each in names if each in self.days]
        return max(chosen[0], 0) if chosen else 0


NO_RULES = FolderRules()


def parse_rule(rule: str) -> tuple[str, int]:
    """The folder and its `keep_days` of "Trash=30" or "Junk=never"; "Junk=default" takes back what was chosen."""
    folder, equals, keep = rule.rpartition("=")
    folder, keep = folder.strip(), keep.strip().casefold()
    if not equals or not folder:
        raise InvalidInput(f"'{rule[:80]}' is no rule for a folder; write it like Trash=30 or Junk=never.")
    if keep == "never":
        return folder, NEVER
    if keep == "default":
        return folder, UNSET
    if not (keep.isascii() and keep.isdecimal() and 1 <= len(keep) <= 6 and 1 <= int(keep) <= MOST_DAYS):
        raise InvalidInput(f"'{rule[:80]}': say after how many days, 1 to {MOST_DAYS}, or never.")
    return folder, int(keep)
