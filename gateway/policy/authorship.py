"""Whether a message's author is who From says, strictly enough to trust the message for it. Pure.

DMARC alone is not: a forwarder's reverse-path (SRS) is of the forwarder's own domain, so SPF passes for it and is
aligned with an author of that domain, whoever wrote the message. Behind a rewritten path only signatures count.
"""

from __future__ import annotations

from dataclasses import replace

from gateway.authentication.facts import AuthenticationFacts, author_is_authentic
from gateway.dmarc.result import Dmarc, DmarcResult
from gateway.facts.values import Destination, Facts
from gateway.mx.srs import is_rewritten


def author_is_proven(facts: Facts) -> bool:
    """`author_is_authentic`, and not by the word of a forwarder."""
    path = facts.reverse_path
    if path is not None and is_rewritten(path):
        return author_is_authentic(_by_signatures(facts.authentication))
    return author_is_authentic(facts.authentication)


def claims_own_domain(facts: Facts, destination: Destination) -> bool:
    """Whether an author is said to be of the recipient's domain, or of one that DMARC takes for the same."""
    own = destination.domain.name
    dmarc = facts.authentication.dmarc
    organization = dmarc.organizational_domain if dmarc is not None else ""
    shared = bool(organization) and _is_within(own, organization)
    return any(
        _is_within(author, own) or _is_within(own, author) or (shared and _is_within(author, organization))
        for author in facts.authentication.authors.domains
    )


def _by_signatures(facts: AuthenticationFacts) -> AuthenticationFacts:
    return replace(facts, spf=None, dmarc=_signed(facts.dmarc) if facts.dmarc is not None else None)


def _signed(dmarc: DmarcResult) -> DmarcResult:
    if not dmarc.passed or any(each.method == "dkim" for each in dmarc.aligned):
        return dmarc
    return replace(dmarc, result=Dmarc.FAIL, aligned=())


def _is_within(name: str, domain: str) -> bool:
    return name == domain or name.endswith("." + domain)
