"""Whether a message's author, or its envelope's sender, is who he says, strictly enough to trust the message for it.

DMARC alone is not: a forwarder's reverse-path is of the forwarder's own domain, so SPF passes for it and is aligned
with an author of that domain, whoever wrote the message. Behind such a path only signatures count.

Pure. Forwarders' paths are told by their form: SRS (Shevek 2004), what Microsoft 365 makes of it, and Gmail's.
"""

from __future__ import annotations

import re
from dataclasses import replace

from gateway.authentication.facts import AuthenticationFacts, author_is_authentic, path_is_authentic
from gateway.dmarc.result import Dmarc, DmarcResult
from gateway.facts.values import Destination, Facts
from gateway.mx.srs import is_rewritten
from storage.values import EmailAddress

_FORWARDED = re.compile(r"[^+]*\+(?:SRS=|caf_=)", re.IGNORECASE)


def author_is_proven(facts: Facts) -> bool:
    """`author_is_authentic`, and not by the word of a forwarder."""
    if _is_forwarders(facts.reverse_path):
        return author_is_authentic(_by_signatures(facts.authentication))
    return author_is_authentic(facts.authentication)


def path_is_proven(facts: Facts) -> bool:
    """`path_is_authentic`, and the sender's own, not one that a forwarder gives to whatever he forwards."""
    return path_is_authentic(facts.authentication) and not _is_forwarders(facts.reverse_path)


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


def _is_forwarders(path: EmailAddress | None) -> bool:
    return path is not None and (is_rewritten(path) or _FORWARDED.match(path.local) is not None)


def _by_signatures(facts: AuthenticationFacts) -> AuthenticationFacts:
    return replace(facts, spf=None, dmarc=_signed(facts.dmarc) if facts.dmarc is not None else None)


def _signed(dmarc: DmarcResult) -> DmarcResult:
    if not dmarc.passed or any(each.method == "dkim" for each in dmarc.aligned):
        return dmarc
    return replace(dmarc, result=Dmarc.FAIL, aligned=())


def _is_within(name: str, domain: str) -> bool:
    return name == domain or name.endswith("." + domain)
