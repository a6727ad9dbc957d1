"""Who stands behind a message, as far as SPF, DKIM, ARC and DMARC could tell.

Each part may be unknown: `None`, with the reason in `unknown`. What is unknown speaks for nobody. All pure.

Standards: RFC 9989 §4.10.2 (alignment), RFC 8601 §2 (how results are written down).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from gateway.arc.result import Arc, ArcResult
from gateway.authentication.authorship import Authors
from gateway.dkim.result import DkimResult
from gateway.dmarc.result import Dmarc, DmarcResult
from gateway.spf import SpfResult

Method = Literal["spf", "dkim", "arc", "dmarc"]


@dataclass(frozen=True, slots=True)
class Unknown:
    """A part without a result, and why, in short words of ours; ASCII without quotes."""

    method: Method
    reason: str


@dataclass(frozen=True, slots=True)
class AuthenticationFacts:
    authors: Authors
    spf: SpfResult | None
    dkim: tuple[DkimResult, ...] | None  # in the order of the header; empty: not signed
    arc: ArcResult | None
    dmarc: DmarcResult | None
    not_looked_at: int = 0  # DKIM signatures beyond the ones that are checked
    unknown: tuple[Unknown, ...] = ()

    def why_unknown(self, method: Method) -> str:
        """Why there is no result of this method; empty if there is one."""
        return next((each.reason for each in self.unknown if each.method == method), "")


def authenticated_domains(facts: AuthenticationFacts) -> frozenset[str]:
    """The domains that authenticated this message, in lower case: SPF's where it passed, d= of signatures that hold."""
    domains = {signature.domain for signature in facts.dkim or () if signature.passed}
    if facts.spf is not None and facts.spf.passed:
        domains.add(facts.spf.domain.lower().removesuffix("."))
    domains.discard("")
    return frozenset(domains)


def path_is_authentic(facts: AuthenticationFacts) -> bool:
    """Whether the reverse-path is the sender's own: SPF passed for its domain. Never for the null reverse-path."""
    return facts.spf is not None and facts.spf.passed and facts.spf.identity == "mailfrom"


def author_is_authentic(facts: AuthenticationFacts) -> bool:
    """Whether every address in From is of a domain that stands behind this message.

    DMARC decides where the author's domain takes part in it. Where it does not, its own domain or one above it has to
    have authenticated the message: who owns a domain owns what is below it. The other way round would let each customer
    of a provider of subdomains write for the provider. While DNS does not say which of both it is, only its own will
    do.
    """
    if not facts.authors.are_clear:
        return False
    dmarc = facts.dmarc
    if dmarc is not None and dmarc.passed:
        return True
    if dmarc is not None and dmarc.result not in (Dmarc.NONE, Dmarc.TEMPERROR):
        return False
    domains = authenticated_domains(facts)
    inherits = dmarc is not None and dmarc.result is Dmarc.NONE
    return all(_stands_behind(domain, domains, inherits=inherits) for domain in facts.authors.domains)


def authentication_results(facts: AuthenticationFacts, disposition: str = "") -> tuple[str, ...]:
    """What `gateway.mx.header.authentication_results` puts down, one text for each result.

    `disposition`: what is done with the message, for DMARC's comment ("none", "quarantine", "reject").
    """
    texts: list[str] = []
    if facts.spf is not None:
        texts.append(facts.spf.authentication_result)
    if facts.dkim is not None:
        texts += [result.authentication_result for result in facts.dkim] or ["dkim=none"]
    if facts.not_looked_at:
        texts.append(f'dkim=policy reason="{facts.not_looked_at} more signatures were not looked at"')
    if facts.arc is not None and facts.arc.result is not Arc.NONE:
        texts.append(facts.arc.authentication_result)
    if facts.dmarc is not None:
        texts.append(facts.dmarc.authentication_result(disposition))
    # RFC 8617 §10.2 gives ARC no word for it.
    texts += [f'{each.method}=temperror reason="{each.reason}"' for each in facts.unknown if each.method != "arc"]
    return tuple(texts)


def _stands_behind(author: str, authenticated: Iterable[str], *, inherits: bool) -> bool:
    return any(
        author == domain or (inherits and "." in domain and author.endswith("." + domain)) for domain in authenticated
    )
