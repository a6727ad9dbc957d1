"""What `cleanmail filter explain` prints: every fact, or why it is not known, and what follows from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from gateway.arc.result import Arc
from gateway.classifier.model import Maturity
from gateway.content_facts import FORBIDDEN, Attachment, HelloFinding
from gateway.content_facts.findings import sentences
from gateway.dmarc.result import Policy
from gateway.facts.values import Destination, Experience, Facts, Place, Reputation, Standing
from gateway.policy.authorship import author_is_proven
from gateway.policy.evidence import offset
from gateway.policy.lists import ListMatch
from gateway.policy.verdict import Verdict

_ATTACHMENTS = 20  # that are shown to people

_PLACES = {
    Place.MAILBOX: "a mailbox here",
    Place.ROUTED: "the tenant's own server",
    Place.FORWARDED: "forwarded elsewhere",
}
_STANDINGS = {
    Standing.STRANGER: "a stranger: nobody here writes to the author",
    Standing.TENANT: "somebody else of the tenant writes to the author",
    Standing.ACCOUNT: "the recipient writes to the author",
}
_MODELS = {
    Maturity.NONE: "none",
    Maturity.LEARNING: "learning: what looks like spam is only tagged",
    Maturity.TRAINED: "trained",
}


class Judged(Protocol):
    """`hosting.cli.filter_explain.Judgement`."""

    @property
    def destination(self) -> Destination: ...

    @property
    def experience(self) -> Experience: ...

    @property
    def listed(self) -> ListMatch | None: ...

    @property
    def verdict(self) -> Verdict: ...


def blocks(facts: Facts, judged: Sequence[Judged]) -> list[tuple[str, list[str]]]:
    """Headings with their lines, for people."""
    found = [("Facts", _aligned(list(_facts(facts))))]
    for each in judged:
        whose = _whose(each.destination)
        found.append((f"Known {whose}", _aligned(list(_experience(each)))))
        found.append((f"Evidence {whose}", _evidence(each)))
        found.append((f"Verdict {whose}", _aligned(list(_verdict(each.verdict)))))
    return found


def values(facts: Facts, judged: Sequence[Judged]) -> dict[str, Any]:
    """The same, for scripts."""
    return {
        "facts": _fact_values(facts),
        "verdicts": [
            {
                "recipient": None if each.destination.domain.name.endswith(".invalid") else each.destination.address,
                "place": each.destination.place,
                "role": each.destination.role,
                "standing": each.experience.standing,
                "reputation": {"domain": each.experience.domain, "network": each.experience.network},
                "content": each.experience.score,
                "model": each.experience.maturity,
                "listed": each.listed,
                "evidence": each.verdict.evidence,
                "verdict": each.verdict.action,
                "reason": each.verdict.reason,
                "sentence": each.verdict.sentence,
                "counterfactual": each.verdict.counterfactual,
                "score": each.verdict.score,
            }
            for each in judged
        ],
    }


def _fact_values(facts: Facts) -> dict[str, Any]:
    authentication, client, content = facts.authentication, facts.client, facts.content
    return {
        "client": {
            "address": client.address or None,
            "hello": client.hello,
            "name": client.name,
            "hello_findings": sorted(client.hello_findings),
            "listings": client.listings,
            "trusted": client.trusted,
        },
        "sender": facts.reverse_path,
        "authors": facts.authors,
        "author_is_proven": author_is_proven(facts),
        "spf": authentication.spf,
        "dkim": authentication.dkim,
        "arc": authentication.arc,
        "dmarc": authentication.dmarc,
        "content": content
        and {
            "findings": sorted(content.findings),
            "list": content.is_list,
            "bulk": content.is_bulk,
            "automatic": content.is_automatic,
            "incomplete": content.incomplete,
            "attachments": [_attachment_values(each) for each in content.attachments],
        },
        "malware": facts.malware,
        "rspamd": facts.rspamd,
        "size": facts.size,
        "unknown": dict(facts.unknown),
    }


def _attachment_values(attachment: Attachment) -> dict[str, Any]:
    return {
        "path": attachment.path,
        "declared": attachment.declared,
        "detected": attachment.detected,
        "size": attachment.size,
        "groups": sorted(FORBIDDEN.groups(attachment)),
        "traits": sorted(attachment.traits),
        "encrypted": attachment.encrypted,
        "mismatch": attachment.mismatch,
        "incomplete": attachment.incomplete,
    }


# For people


def _whose(destination: Destination) -> str:
    if destination.domain.name.endswith(".invalid"):
        return "by the installation's rules"
    return f"for {destination.address} ({_PLACES[destination.place]})"


def _facts(facts: Facts) -> Iterator[tuple[str, str]]:
    yield from _client(facts)
    yield "sender", f"<{facts.reverse_path or ''}>"
    yield "author", ", ".join(map(str, facts.authors)) or "nobody"
    yield from _authentication(facts)
    yield from _content(facts)
    yield from _scanners(facts)
    yield "size", f"{facts.size} octets"


def _client(facts: Facts) -> Iterator[tuple[str, str]]:
    client = facts.client
    if not client.address:
        yield "client", "not known; name it with --client"
        return
    trusted = ", of a network that filters its mail itself" if client.trusted else ""
    yield "client", client.address + trusted
    yield "client's name", _unknown(facts, "name") if client.name is None else client.name or "none that leads back"
    yield "introduced itself as", client.hello or "nothing"
    for finding in HelloFinding:
        if finding in client.hello_findings:
            yield "", finding.sentence
    if client.listings is None or "dns-lists" in facts.unknown:
        yield "DNS lists", _unknown(facts, "dns-lists")
    else:
        zones = [f"{each.zone} ({'reject' if each.rejects else f'{each.weight:+g}'})" for each in client.listings]
        yield "DNS lists", ", ".join(zones) or "none names it, or none is asked"


def _authentication(facts: Facts) -> Iterator[tuple[str, str]]:
    found = facts.authentication
    spf, dmarc, unknown = found.spf, found.dmarc, facts.unknown
    yield (
        "SPF",
        _unknown(facts, "spf") if spf is None or "spf" in unknown else _joined(spf.result, spf.domain, spf.term),
    )
    if found.dkim is None or "dkim" in unknown:
        yield "DKIM", _unknown(facts, "dkim")
    else:
        for number, signature in enumerate(found.dkim):
            yield "" if number else "DKIM", _joined(signature.result, signature.domain, signature.reason)
        if not found.dkim:
            yield "DKIM", "not signed"
    if found.arc is None or "arc" in unknown:
        yield "ARC", _unknown(facts, "arc")
    else:
        sealers = ", ".join(found.arc.sealers)
        yield (
            "ARC",
            "not sealed" if found.arc.result is Arc.NONE else _joined(found.arc.result, sealers, found.arc.reason),
        )
    if dmarc is None or "dmarc" in unknown:
        yield "DMARC", _unknown(facts, "dmarc")
    else:
        asks = f"asks for {dmarc.policy}" if dmarc.record_domain and dmarc.policy is not Policy.NONE else ""
        yield "DMARC", _joined(dmarc.result, dmarc.domain, asks, dmarc.reason)
    yield "author is proven", "yes" if author_is_proven(facts) else "no"


def _content(facts: Facts) -> Iterator[tuple[str, str]]:
    content = facts.content
    if content is None:
        yield "form", _unknown(facts, "content")
        return
    said = sentences(content.findings)
    if content.incomplete is not None:
        said.append("It could not be looked into as a whole. " + content.incomplete.sentence)
    for number, sentence in enumerate(said or ["nothing remarkable"]):
        yield "" if number else "form", sentence
    kinds = (("of a mailing list", content.is_list), ("to many", content.is_bulk), ("automatic", content.is_automatic))
    yield "says that it is", ", ".join(name for name, holds in kinds if holds) or "nothing special"
    for number, attachment in enumerate(content.attachments[:_ATTACHMENTS]):
        yield "" if number else "attachments", _attachment(attachment)
    if len(content.attachments) > _ATTACHMENTS:
        yield "", f"and {len(content.attachments) - _ATTACHMENTS} more"
    if not content.attachments:
        yield "attachments", "none"


def _attachment(attachment: Attachment) -> str:
    groups = [group.replace("_", " ") for group in sorted(FORBIDDEN.groups(attachment))]
    return _joined(attachment.path or "without a name", attachment.detected, ", ".join(groups))


def _scanners(facts: Facts) -> Iterator[tuple[str, str]]:
    malware, rspamd = facts.malware, facts.rspamd
    if malware is None or malware.unknown:
        yield "malware", _unknown(facts, "malware", "nobody was asked")
    else:
        yield "malware", malware.malware or "none found"
    if rspamd is None or rspamd.unknown:
        yield "Rspamd", _unknown(facts, "rspamd", "nobody was asked")
    else:
        points = f"{rspamd.score:.1f} of {rspamd.required_score:.1f} points"
        yield "Rspamd", _joined(rspamd.action, points, " ".join(rspamd.symbols))


def _experience(judged: Judged) -> Iterator[tuple[str, str]]:
    known = judged.experience
    yield "author", "not known" if known.standing is None else _STANDINGS[known.standing]
    yield "author's domain", _reputation(known.domain)
    yield "client's network", _reputation(known.network)
    yield "list", _listed(judged.listed)
    score = known.score
    if score is None:
        yield "content", "not known: there is no model"
    else:
        yield (
            "content",
            (f"{score.total:+.2f} (model {score.shared:+.2f}, tenant {score.tenant:+.2f}, recipient {score.own:+.2f})"),
        )
    yield "model", _MODELS[known.maturity]


def _reputation(reputation: Reputation) -> str:
    if not reputation.total:
        return "nothing known"
    return f"{reputation.ham:.1f} wanted and {reputation.spam:.1f} unwanted messages"


def _listed(listed: ListMatch | None) -> str:
    if listed is None:
        return "on none"
    unproven = "" if listed.proven else ", but not proven to come from there"
    return f"on the {listed.kind} list as {listed.pattern}{unproven}"


def _evidence(judged: Judged) -> list[str]:
    evidence = judged.verdict.evidence
    if not evidence:
        return ["none beside the content"]
    width = max(len(each.name) for each in evidence)
    lines = [f"{each.offset:+5.2f}  {each.name:<{width}}  {each.sentence}" for each in evidence]
    lines.append(f"{offset(evidence):+5.2f}  {'together':<{width}}")
    return [line.rstrip() for line in lines]


def _verdict(verdict: Verdict) -> Iterator[tuple[str, str]]:
    yield "verdict", verdict.action.value
    yield "reason", verdict.reason.value
    yield "score", "none" if verdict.score is None else f"{verdict.score:.2f}"
    yield "why", verdict.sentence
    if verdict.counterfactual:
        yield "otherwise", verdict.counterfactual


def _unknown(facts: Facts, name: str, otherwise: str = "") -> str:
    if name not in facts.unknown and otherwise:
        return otherwise
    why = facts.unknown.get(name, "it was not asked for")
    return why if why.startswith(("not known", "not asked")) else f"not known: {why}"


def _joined(*parts: Any) -> str:
    return "  ".join(text for part in parts if (text := str(part)))


def _aligned(pairs: list[tuple[str, str]]) -> list[str]:
    width = max(len(name) for name, _ in pairs)
    return [f"{name:<{width}}  {value}" for name, value in pairs]
