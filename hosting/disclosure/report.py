"""The transparency report of a year: how many demands of which authorities on which ground, and what became of them.

Pure. Nothing in it names a person, an authority or a customer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from storage.directory.disclosures import Case, CaseState

_OUTCOMES = {
    CaseState.RECORDED: "pending",
    CaseState.APPROVED: "pending",
    CaseState.CHALLENGED: "challenged",
    CaseState.REFUSED: "refused",
    CaseState.DISCLOSED: "disclosed",
}


@dataclass(frozen=True, slots=True)
class Report:
    year: int
    received: int
    kinds: dict[str, int]
    legal_bases: dict[str, int]
    outcomes: dict[str, int]
    secret: int  # with a secrecy order
    accounts: int  # of which data was handed over, counted for each case

    def values(self) -> dict[str, Any]:
        return {
            "year": self.year,
            "received": self.received,
            "by_authority": self.kinds,
            "by_legal_basis": self.legal_bases,
            "by_outcome": self.outcomes,
            "with_secrecy_order": self.secret,
            "accounts_disclosed": self.accounts,
        }

    def markdown(self) -> str:
        lines = [
            f"# Transparency report {self.year}",
            "",
            f"Demands of authorities for data: {self.received}, {self.secret} of them with an order to keep it secret "
            "for a time.",
            f"Accounts of which data was handed over: {self.accounts}.",
        ]
        for title, counts in (
            ("Authority", self.kinds),
            ("Legal basis", self.legal_bases),
            ("Outcome", self.outcomes),
        ):
            lines += ["", f"| {title} | Demands |", "|---|---|"]
            lines += [f"| {name.replace('|', '/')} | {count} |" for name, count in counts.items()]
        return "\n".join(lines) + "\n"


def report_of(year: int, cases: Sequence[Case]) -> Report:
    """Of the cases that were received in that year."""
    outcomes = Counter(_OUTCOMES[case.state] for case in cases)
    return Report(
        year,
        len(cases),
        _sorted(Counter(case.kind.value for case in cases)),
        _sorted(Counter(case.legal_basis for case in cases)),
        {name: outcomes[name] for name in dict.fromkeys(_OUTCOMES.values())},
        sum(case.secret_until is not None for case in cases),
        sum(case.accounts for case in cases),
    )


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda each: (-each[1], each[0])))
