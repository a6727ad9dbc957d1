"""Facts and verdicts in short words: for traces, and for those who look at what was withheld. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.authentication.facts import AuthenticationFacts
from gateway.facts.values import Facts
from gateway.policy.verdict import Verdict

_MOST = 200  # characters of one text
_NAMED = 6  # findings, attachments


def of_verdict(verdict: Verdict) -> dict[str, str]:
    """The details of a VERDICT event."""
    words = {"verdict": verdict.action.value, "reason": verdict.reason.value, "why": verdict.sentence}
    if verdict.counterfactual:
        words["otherwise"] = verdict.counterfactual
    if verdict.score is not None:
        words["score"] = f"{verdict.score:.1f}"
    if verdict.evidence:
        words["evidence"] = _listed([f"{each.name} {each.offset:+.1f}" for each in verdict.evidence])
    return {name: text[:_MOST] for name, text in words.items()}


def of_facts(facts: Facts) -> dict[str, str]:
    """What was found about a message, the unknown too; without words of its content."""
    client, content = facts.client, facts.content
    words = {"client": client.address, "name": client.name or "", "hello": client.hello, **of_authentication(facts)}
    if client.trusted:
        words["trusted"] = "yes"
    if client.listings:
        words["listed"] = _listed(list(dict.fromkeys(listing.zone for listing in client.listings)))
    if content is not None and content.findings:
        words["form"] = _listed(sorted(str(finding) for finding in content.findings))
    if content is not None and content.attachments:
        words["attachments"] = str(len(content.attachments))
    if facts.malware is not None and facts.malware.malware:
        words["malware"] = facts.malware.malware
    if facts.rspamd is not None and not facts.rspamd.unknown:
        words["rspamd"] = f"{facts.rspamd.action} {facts.rspamd.score:.1f}"
    unknown = sorted(facts.unknown)
    if unknown:
        words["unknown"] = _listed([f"{name}: {facts.unknown[name]}" for name in unknown])
    return {name: text[:_MOST] for name, text in words.items() if text}


def of_authentication(facts: Facts) -> Mapping[str, str]:
    """The results' words; of several signatures that of the best."""
    found: AuthenticationFacts = facts.authentication
    words: dict[str, str] = {}
    if found.spf is not None:
        words["spf"] = found.spf.result.value
    if found.dkim is not None:
        results = [signature.result.value for signature in found.dkim]
        words["dkim"] = "pass" if "pass" in results else results[0] if results else "none"
    if found.dmarc is not None:
        words["dmarc"] = found.dmarc.result.value
    if found.arc is not None:
        words["arc"] = found.arc.result.value
    return words


def _listed(texts: list[str]) -> str:
    more = len(texts) - _NAMED
    return ", ".join(texts[:_NAMED]) + (f" and {more} more" if more > 0 else "")
