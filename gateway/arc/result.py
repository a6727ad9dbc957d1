"""What the validation of a message's ARC chain came to, and what its sealers said of the message.

A valid chain says who handled the message, not that they are honest: anybody can seal a lie. `ArcResult.trusted` is the
only way to what sealers saw, and asks for the sealers that the operator believes.

Standards: RFC 8617 §4.4 (status), §5.2 (oldest-pass), §7.2 (whom to believe); RFC 8601 for Authentication-Results.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from gateway.arc.results import MethodResult


class Arc(StrEnum):
    NONE = "none"  # there is no chain
    PASS = "pass"  # noqa: S105 - the RFC's word
    FAIL = "fail"  # §5.2.1: every failure is permanent, one of DNS too


@dataclass(frozen=True, slots=True)
class SealedResults:
    """What a trusted sealer found when the message arrived at it."""

    sealer: str
    instance: int
    spf: str = ""  # the result's word; empty: not said
    spf_domain: str = ""
    dkim: tuple[tuple[str, str], ...] = ()  # result and domain of each signature
    dmarc: str = ""
    author_domain: str = ""  # of dmarc: header.from

    def vouches_for(self, author_domain: str) -> bool:
        """Whether DMARC passed there, for this author domain."""
        return self.dmarc == "pass" and self.author_domain == author_domain


@dataclass(frozen=True, slots=True)
class SealedSet:
    """One ARC set of a chain: who sealed, and the results in its ARC-Authentication-Results."""

    instance: int
    sealer: str  # d= of its ARC-Seal, in lower-case A-labels
    results: tuple[MethodResult, ...] = ()


@dataclass(frozen=True, slots=True)
class ArcResult:
    result: Arc
    sets: tuple[SealedSet, ...] = ()  # the newest first; empty unless the chain passes
    oldest_pass: int | None = None  # of a chain that passes: since which set the message is unchanged; 0: since all
    reason: str = ""  # why it fails, in short words of ours; ASCII without quotes

    @property
    def passed(self) -> bool:
        return self.result is Arc.PASS

    @property
    def sealers(self) -> tuple[str, ...]:
        """Their domains, the newest first."""
        return tuple(each.sealer for each in self.sets)

    def trusted(self, sealers: Collection[str]) -> SealedResults | None:
        """What the nearest sealers say, if the chain passes and all of them from the newest on are among `sealers`
        (domains in lower-case A-labels).

        Of several trusted ones that stand one behind the other it is the newest for which DMARC passed; the others
        saw what the trusted ones before them changed. Without such a one it is the newest.
        """
        if not self.passed:
            return None
        believed: list[SealedResults] = []
        for each in self.sets:
            if each.sealer not in sealers:
                break
            believed.append(_summary(each))
        return next((results for results in believed if results.dmarc == "pass"), believed[0] if believed else None)

    @property
    def authentication_result(self) -> str:
        """For an Authentication-Results field: `arc=pass header.oldest-pass=0` (RFC 8617 §10.2)."""
        words = [f"arc={self.result.value}"]
        if self.reason:
            words.append(f'reason="{self.reason}"')
        if self.oldest_pass is not None:
            words.append(f"header.oldest-pass={self.oldest_pass}")
        return " ".join(words)


def _summary(sealed: SealedSet) -> SealedResults:
    dkim: list[tuple[str, str]] = []
    single = {"spf": ("", ""), "dmarc": ("", "")}
    for each in sealed.results:
        if each.method == "dkim":
            dkim.append((each.result, each.property("header.d") or _domain(each.property("header.i"))))
        elif each.method in single and not single[each.method][0]:
            domain = each.property("header.from" if each.method == "dmarc" else "smtp.mailfrom")
            single[each.method] = (each.result, _domain(domain))
    spf, dmarc = single["spf"], single["dmarc"]
    return SealedResults(sealed.sealer, sealed.instance, spf[0], spf[1], tuple(dkim), dmarc[0], dmarc[1])


def _domain(value: str) -> str:
    return value.rpartition("@")[2]
