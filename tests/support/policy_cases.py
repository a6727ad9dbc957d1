"""Facts about messages in few words: an honest message to a mailbox, of which a test changes what it is about."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gateway.arc.result import Arc, ArcResult, SealedSet
from gateway.arc.results import MethodResult
from gateway.authentication.authorship import Authors
from gateway.authentication.facts import AuthenticationFacts
from gateway.classifier.correction import Score
from gateway.classifier.model import Maturity
from gateway.content_facts import Attachment, ContentFacts, Finding
from gateway.dkim.result import Dkim, DkimResult
from gateway.dmarc.result import Aligned, Dmarc, DmarcResult, Policy
from gateway.facts.values import ClientFacts, Destination, Experience, Facts, Place, Reputation, Standing
from gateway.scanners import MalwareResult
from gateway.spf import Spf, SpfResult
from storage.values import AccountId, Domain, EmailAddress, TenantId

CLIENT = "192.0.2.7"


def authentication(
    author: str = "example.org",
    spf: str = "pass",
    spf_domain: str = "",
    dkim: Iterable[str] = (),
    dmarc: str = "none",
    policy: str = "none",
    aligned: Iterable[tuple[Any, str]] = (),
    sealer: str = "",
) -> AuthenticationFacts:
    """`dkim`: domains whose signatures hold. `sealer`: sealed that DMARC passed at it."""
    sealed = MethodResult("dmarc", "pass", (("header.from", author),))
    chain = ArcResult(Arc.PASS, (SealedSet(1, sealer, (sealed,)),)) if sealer else ArcResult(Arc.NONE)
    pairs = tuple(Aligned(method, domain) for method, domain in aligned)
    return AuthenticationFacts(
        Authors((f"ada@{author}",), (author,), 1),
        SpfResult(Spf(spf), spf_domain or author),
        tuple(DkimResult(Dkim.PASS, domain) for domain in dkim),
        chain,
        DmarcResult(Dmarc(dmarc), author, Policy(policy), author, pairs),
    )


PASSES = {"dmarc": "pass", "dkim": ("example.org",), "aligned": (("dkim", "example.org"),)}
REJECTED = {"spf": "fail", "dmarc": "fail", "policy": "reject"}


def content(*attachments: str, findings: Iterable[Finding] = (), is_list: bool = False, **more: Any) -> ContentFacts:
    """Attachments by their names."""
    named = tuple(Attachment(path, path.rpartition("/")[2]) for path in attachments)
    return ContentFacts(frozenset(findings), named, is_list, **more)


def facts(
    *,
    author: str = "ada@example.org",
    path: str | None = "",
    client: ClientFacts | None = None,
    auth: AuthenticationFacts | None = None,
    body: ContentFacts | None = ContentFacts(),  # noqa: B008 - frozen
    malware: str | None = "",
    **more: Any,
) -> Facts:
    address = EmailAddress.parse(author)
    return Facts(
        client or ClientFacts(CLIENT, "mail.example.org", "mail.example.org"),
        None if path is None else EmailAddress.parse(path or author),
        (address,),
        auth or authentication(address.domain.name, **PASSES),
        body,
        None if malware is None else MalwareResult(malware),
        **more,
    )


def experience(
    score: float | None = -3.0,
    standing: Standing | None = Standing.STRANGER,
    maturity: Maturity = Maturity.TRAINED,
    domain: Reputation = Reputation(),  # noqa: B008 - frozen
    network: Reputation = Reputation(),  # noqa: B008 - frozen
) -> Experience:
    return Experience(standing, domain, network, None if score is None else Score(score, 0.0, 0.0), maturity)


def destination(place: Place = Place.MAILBOX, address: str = "bob@acme.test", role: bool = False) -> Destination:
    parsed = EmailAddress.parse(address)
    account = AccountId(1) if place is Place.MAILBOX else None
    return Destination(TenantId(1), place, parsed, Domain.parse("acme.test"), account, role)


HERE, ROUTED, FORWARDED = (destination(place) for place in Place)
POSTMASTER = destination(address="postmaster@acme.test", role=True)
