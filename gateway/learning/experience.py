"""What a message adds to a tenant's experience with who sent it. Pure, but for what it hands to `Reputation`.

A message speaks for or against two subjects: the domain that it proved to come from, if it did, and its client's
network. Nothing speaks against a domain that was only named, so nobody can ruin another's name. What people say counts
fully (`gateway.learning.learn`). Of the filter's own verdicts two count, each up to a ceiling: malware that a scanner
knows, since that is no guess of ours, fully; and that a message was delivered, lightly. That it looked like spam counts
nothing: the filter would confirm itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from gateway.policy.verdict import Action, Reason, Verdict
from storage.errors import InvalidInput
from storage.filter.reputation import LIGHT, Reputation, Subject, domain_subject, network_subject
from storage.mime.fields import read_header
from storage.values import Domain

# What stands behind a message, the surest first: the author's domain, a signer's, the envelope sender's.
_PROOFS = tuple(
    re.compile(rf'(?:^|;)\s*{method}=pass\b[^;"]*?\s{name}=([A-Za-z0-9._-]+)(?=[\s;]|$)')
    for method, name in (("dmarc", r"header\.from"), ("dkim", r"header\.d"), ("spf", r"smtp\.mailfrom"))
)
# In parentheses stands what we saw; before them what the client said of itself, without blanks.
_CLIENT = re.compile(r"^from \S+ \(\S+ \[(?:IPv6:)?([0-9A-Fa-f.:]+)\]\)")


def proven_domain(results: Iterable[str]) -> Domain | None:
    """The domain that a message comes from: of its results of authentication, each as Authentication-Results has it."""
    text = ";".join(results)
    for proof in _PROOFS:
        found = proof.search(text)
        if found is not None:
            try:
                return Domain.parse(found[1])
            except InvalidInput:
                continue
    return None


def subjects(results: Iterable[str], client: str) -> tuple[Subject, ...]:
    """Whom a message speaks for or against: its proven domain, and the network of the client's address."""
    domain, network = proven_domain(results), network_subject(client)
    return tuple(
        subject for subject in (domain_subject(domain) if domain is not None else None, network) if subject is not None
    )


def subjects_of(prefix: bytes) -> tuple[Subject, ...]:
    """The same of a message that was delivered, by the fields that we put in front of it then."""
    header = read_header(prefix)
    results = [value.decode("ascii", "replace") for value in header.values(b"authentication-results")]
    received = header.value(b"received") or b""
    client = _CLIENT.match(" ".join(received.decode("ascii", "replace").split()))
    return subjects(results[:1], client[1] if client else "")


def judged(reputation: Reputation, verdict: Verdict, of: Iterable[Subject]) -> None:
    """A message of these subjects was judged so. Never waits."""
    if verdict.reason is Reason.MALWARE:
        reputation.record(of, malware=1.0)
    elif verdict.action is Action.DELIVER:
        reputation.record(of, light=LIGHT)
