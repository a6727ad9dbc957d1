"""The register in plain words: whose, on which ground, for how long, how it is erased, who reads it. English."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from storage.register.periods import Period, Periods
from storage.register.values import Basis, DataClass, Erasure, Kept, Reader, Whose

WHOSE: Mapping[Whose, str] = MappingProxyType(
    {
        Whose.USER: "users (owners of mailboxes)",
        Whose.CORRESPONDENT: "people who write to users or are written to",
        Whose.CUSTOMER: "contact persons of customers",
        Whose.STAFF: "people who work for the provider",
        Whose.NOBODY: "nobody",
    }
)

BASIS: Mapping[Basis, str] = MappingProxyType(
    {
        Basis.CONTRACT: "contract: needed for what was agreed (GDPR Art. 6(1)(b); revFADP Art. 31(2)(a))",
        Basis.LAW: "law: a law demands it (GDPR Art. 6(1)(c); revFADP Art. 31(1))",
        Basis.INTEREST: "legitimate interest: a safe and working service (GDPR Art. 6(1)(f); revFADP Art. 31(1))",
        Basis.CONSENT: "consent (GDPR Art. 6(1)(a); revFADP Art. 31(1))",
    }
)

READERS: Mapping[Reader, str] = MappingProxyType(
    {
        Reader.OWNER: "the owner of the mailbox",
        Reader.TENANT_ADMINISTRATOR: "the customer's own administrators",
        Reader.OPERATOR: "operators",
        Reader.SUPPORT: "support",
        Reader.REVIEWER: "technical reviewers who promised secrecy in writing, header lines only",
        Reader.AUDITOR: "log auditors, each reading recorded",
        Reader.BILLING: "billing",
        Reader.PROGRAMS: "no person; programs only, for their work",
    }
)

ERASURE: Mapping[Erasure, str] = MappingProxyType(
    {
        Erasure.ACCOUNT_KEY: "the account's key is destroyed, so nobody can read it again, then its files are removed",
        Erasure.TENANT_KEY: "the customer's key is destroyed, so nobody can read it again, then its files are removed",
        Erasure.SEGMENT_KEY: "the keys of the day are destroyed, then its files are removed",
        Erasure.ROW: "it is deleted from the database and overwritten there",
        Erasure.FILE: "its file is removed",
        Erasure.CHAIN: "its personal parts lose their key; the record that something was done stays",
        Erasure.NEVER: "it holds nothing about a person",
    }
)

_LONG: Mapping[Kept, str] = MappingProxyType(
    {
        Kept.ACCOUNT: "as long as the account; its owner decides what goes earlier",
        Kept.CONTRACT: "as long as the customer's contract",
        Kept.STAFF: "as long as the person works here, and at most {most} after that",
        Kept.WORK: "until its work is done: minutes to days",
        Kept.QUEUE: "until it is delivered or goes back to its sender, at most {most}",
        Kept.QUARANTINE: "as long as the customer's rules say, at most {most}",
        Kept.AUDIT: "at most {most}; its personal parts as long as the account or the contract",
        Kept.BUSINESS: "at most {most} after the end of the matter",
        Kept.BACKUPS: "until it is replaced, at most {most}",
        Kept.KEY_BACKUPS: "until it is replaced, at most {most}",
        Kept.INSTALLATION: "as long as the installation",
    }
)

_MONTHS = {31: "one month", 92: "3 months", 185: "6 months", 365: "12 months", 366: "12 months"}


def how_long(of: DataClass, periods: Periods) -> str:
    period = periods.of(of.kept)
    return _LONG.get(of.kept, "at most {most}").format(most=span(period))


def span(period: Period) -> str:
    """The ceiling of a period; empty if it has none."""
    days = period.ceiling_days
    if days is None:
        return ""
    if days in _MONTHS:
        return f"{_MONTHS[days]} ({days} days)"
    if days >= 2 * 365:
        return f"{days / 365.25:.0f} years ({days} days)"
    return f"{days} days"


def whose(of: DataClass) -> list[str]:
    return [WHOSE[each] for each in Whose if each in of.whose]


def readers(of: DataClass) -> list[str]:
    return [READERS[each] for each in Reader if each in of.readers]
