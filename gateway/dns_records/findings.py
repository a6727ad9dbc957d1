"""What is right about a domain in DNS and what is not: facts in, findings out. Pure.

Records that mean the same in other words are right (an SPF record is evaluated, not compared), and a record of others
beside ours is wrong only where it takes mail away or makes ours invalid.

Standards: RFC 5321 §5.1, RFC 2181 §10.3 (an MX host is no alias), RFC 7208 §3.2, RFC 7489 §6.6.3, RFC 8460 §3,
RFC 8461 §3.1 and §4.1, RFC 6186 §3, RFC 6764 §4, RFC 8659 §4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gateway.dkim.publication import Seen, Sighting, published_text
from gateway.dns.answers import Answer, DnsStatus
from gateway.dns_records.facts import Facts, HostFacts
from gateway.dns_records.wanted import Importance, Kind, Offer, Record
from gateway.spf.result import Spf
from gateway.tls_policy.sts_text import policy_id
from storage.directory.dkim_keys import DkimState
from storage.queue.sts import StsMode
from storage.values import Domain


class Standing(StrEnum):
    RIGHT = "right"
    WRONG = "wrong"
    MISSING = "missing"
    UNKNOWN = "unknown"  # DNS gave no answer
    UNUSED = "unused"  # not there, and need not be


@dataclass(frozen=True, slots=True)
class Finding:
    kind: Kind
    name: str
    rdtype: str
    importance: Importance
    standing: Standing
    expected: str
    found: tuple[str, ...] = ()
    note: str = ""


class Verdict(StrEnum):
    RIGHT = "right"
    WRONG = "wrong"
    UNKNOWN = "unknown"


def verdict(findings: Iterable[Finding]) -> Verdict:
    """Of what is required; the rest is advice."""
    standings = {finding.standing for finding in findings if finding.importance is Importance.REQUIRED}
    if standings & {Standing.WRONG, Standing.MISSING}:
        return Verdict.WRONG
    return Verdict.UNKNOWN if Standing.UNKNOWN in standings else Verdict.RIGHT


def judge(domain: Domain, offer: Offer, records: Sequence[Record], facts: Facts) -> list[Finding]:
    """A finding for each of the wanted `records` that belong together, and for our own hosts."""
    by_kind: dict[Kind, list[Record]] = {}
    for record in records:
        by_kind.setdefault(record.kind, []).append(record)
    findings = [_ownership(record, facts) for record in by_kind.get(Kind.OWNERSHIP, ())]
    findings.append(_mx(domain, offer, by_kind[Kind.MX], facts))
    findings += [_address(host, exchanger=host.name in offer.exchangers) for host in facts.hosts]
    findings += [_spf(record, facts) for record in by_kind[Kind.SPF]]
    findings += [_dkim(seen) for seen in facts.keys] or [_no_key(domain)]
    findings += [_dmarc(record, facts) for record in by_kind[Kind.DMARC]]
    findings += [_reverse(host, address) for host in facts.hosts if host.name == offer.host for address in host.names]
    findings += [_alias(record, offer, facts) for record in by_kind.get(Kind.ALIAS, ())]
    findings += [_srv(record, facts) for record in by_kind.get(Kind.SRV, ())]
    findings += [_text(record, facts) for kind in (Kind.PATH, Kind.AGENT) for record in by_kind.get(kind, ())]
    findings += [_tls_rpt(record, facts) for record in by_kind[Kind.TLS_RPT]]
    findings.append(_mta_sts(domain, offer, facts))
    return findings + _caa(domain, offer, facts)


def _about(record: Record, standing: Standing, found: Iterable[str] = (), note: str = "") -> Finding:
    return Finding(
        record.kind, record.name, record.rdtype, record.importance, standing, record.value, tuple(found), note
    )


def _ownership(record: Record, facts: Facts) -> Finding:
    texts = _texts(facts.ownership)
    if facts.ownership.failed:
        return _about(record, Standing.UNKNOWN)
    if record.value in (text.strip() for text in texts):
        return _about(record, Standing.RIGHT, texts, "the domain can be verified: cleanmail domain verify")
    return _about(record, Standing.WRONG if texts else Standing.MISSING, texts)


def _mx(domain: Domain, offer: Offer, records: Sequence[Record], facts: Facts) -> Finding:
    found = [f"{record.preference} {record.host}." for record in facts.mx.records]

    def about(standing: Standing, note: str = "") -> Finding:
        expected = ", ".join(record.value for record in records)
        return Finding(Kind.MX, domain.name, "MX", Importance.REQUIRED, standing, expected, tuple(found), note)

    if facts.mx.failed:
        return about(Standing.UNKNOWN)
    if not facts.mx:
        note = "the domain is not in DNS" if facts.mx.status is DnsStatus.NO_NAME else ""
        return about(Standing.MISSING, note)
    preferences = {record.host: record.preference for record in facts.mx.records}
    if "" in preferences:
        return about(Standing.WRONG, "says that the domain takes no mail (null MX)")
    absent = [host for host in offer.exchangers if host not in preferences]
    if absent:
        return about(Standing.WRONG, f"does not name {', '.join(absent)}")
    ours = max(preferences[host] for host in offer.exchangers)
    others = {host: preference for host, preference in preferences.items() if host not in offer.exchangers}
    if any(preference <= ours for preference in others.values()):
        return about(Standing.WRONG, f"mail goes to {', '.join(sorted(others))} too")
    return about(Standing.RIGHT, f"with {', '.join(sorted(others))} as a reserve" if others else "")


def _address(host: HostFacts, *, exchanger: bool) -> Finding:
    def about(standing: Standing, note: str = "") -> Finding:
        found = host.addresses.records
        return Finding(Kind.ADDRESS, host.name, "A", Importance.REQUIRED, standing, "an address", found, note)

    if host.addresses.failed:
        return about(Standing.UNKNOWN)
    if not host.addresses:
        return about(Standing.MISSING, "the host has no address")
    if exchanger and host.is_alias:
        return about(Standing.WRONG, f"is an alias of {host.addresses.name}; an MX host must not be one")
    return about(Standing.RIGHT)


def _spf(record: Record, facts: Facts) -> Finding:
    texts = [text for text in _texts(facts.texts) if text.lower().split(" ", 1)[0] == "v=spf1"]
    if facts.texts.failed:
        return _about(record, Standing.UNKNOWN)
    if not texts:
        return _about(record, Standing.MISSING)
    if len(texts) > 1:
        return _about(record, Standing.WRONG, texts, "several SPF records are none; make them one")
    for address, result in facts.spf.items():
        if result.result is Spf.PERMERROR:
            return _about(record, Standing.WRONG, texts, f"cannot be read: {result.term}")
        if result.result is Spf.TEMPERROR:
            return _about(record, Standing.UNKNOWN, texts, "DNS did not answer about all that it names")
        if not result.passed:
            return _about(record, Standing.WRONG, texts, f"mail from {address}: {result.result}")
        if result.term.lower().lstrip("+") == "all":
            return _about(record, Standing.WRONG, texts, "lets everybody send as the domain")
    if not facts.spf and texts[0] != record.value:
        return _about(record, Standing.UNKNOWN, texts, "which addresses mail comes from is not known")
    return _about(record, Standing.RIGHT, texts)


_WANTED = {
    Sighting.PUBLISHED: Standing.RIGHT,
    Sighting.ABSENT: Standing.MISSING,
    Sighting.REVOKED: Standing.WRONG,
    Sighting.OTHER: Standing.WRONG,
    Sighting.UNKNOWN: Standing.UNKNOWN,
}
_REVOKED = {**_WANTED, Sighting.PUBLISHED: Standing.WRONG, Sighting.ABSENT: Standing.RIGHT}
_REVOKED[Sighting.REVOKED] = Standing.RIGHT


def _dkim(seen: Seen) -> Finding:
    key, retired = seen.key, seen.key.state is DkimState.RETIRED
    standing = (_REVOKED if retired else _WANTED)[seen.sighting]
    note = f"{key.algorithm} key, {key.state}"
    if standing in (Standing.WRONG, Standing.MISSING):
        if len(seen.texts) > 1:
            note += "; only one TXT record may stand there"
        elif key.state is DkimState.SIGNING:
            note += ": receivers cannot verify the domain's mail"
        elif retired:
            note += ": publish it with an empty p="
    importance = Importance.RECOMMENDED if retired else Importance.REQUIRED
    return Finding(Kind.DKIM, key.name, "TXT", importance, standing, published_text(key), seen.texts, note)


def _no_key(domain: Domain) -> Finding:
    note = f"mail leaves unsigned; make keys with: cleanmail dkim create {domain}"
    return Finding(
        Kind.DKIM, f"_domainkey.{domain}", "TXT", Importance.RECOMMENDED, Standing.MISSING, "a DKIM key", (), note
    )


def _policy_text(
    record: Record, answer: Answer[bytes], version: str, problem: Callable[[dict[str, str]], str], note: str = ""
) -> Finding:
    """One TXT record that is a tag list and begins with its version; two are none."""
    if answer.failed:
        return _about(record, Standing.UNKNOWN)
    texts = [text for text in _texts(answer) if _tags(text).get("v") == version]
    if not texts:
        others = _texts(answer)
        return _about(record, Standing.WRONG if others else Standing.MISSING, others)
    if len(texts) > 1:
        return _about(record, Standing.WRONG, texts, "several records are none")
    wrong = problem(_tags(texts[0]))
    if wrong:
        return _about(record, Standing.WRONG, texts, wrong)
    return _about(record, Standing.RIGHT, texts, note)


def _dmarc(record: Record, facts: Facts) -> Finding:
    def problem(tags: dict[str, str]) -> str:
        return "" if tags.get("p", "").lower() in ("none", "quarantine", "reject") else "names no policy (p=)"

    finding = _policy_text(record, facts.dmarc, "DMARC1", problem)
    if finding.standing is Standing.RIGHT and _tags(finding.found[0]).get("p", "").lower() == "none":
        return _about(record, Standing.RIGHT, finding.found, "p=none only watches; forged mail is delivered")
    return finding


def _tls_rpt(record: Record, facts: Facts) -> Finding:
    def problem(tags: dict[str, str]) -> str:
        return "" if tags.get("rua") else "names nobody to report to (rua=)"

    return _policy_text(record, facts.tls_rpt, "TLSRPTv1", problem)


def _mta_sts(domain: Domain, offer: Offer, facts: Facts) -> Finding:
    policy, texts = facts.policy, _texts(facts.mta_sts)
    name, expected = f"_mta-sts.{domain}", f"v=STSv1; id={policy.id}" if policy.valid else ""

    def about(standing: Standing, note: str = "", importance: Importance = Importance.RECOMMENDED) -> Finding:
        return Finding(Kind.MTA_STS, name, "TXT", importance, standing, expected, tuple(texts), note)

    if facts.mta_sts.failed:
        return about(Standing.UNKNOWN)
    if not policy.valid:
        if not texts:
            return about(Standing.UNUSED, policy.reason, Importance.OPTIONAL)
        return about(Standing.WRONG, f"take it away until the policy host answers: {policy.reason}")
    uncovered = [host for host in offer.exchangers if not policy.covers(host)]
    if texts and uncovered and policy.mode is not StsMode.NONE:
        importance = Importance.REQUIRED if policy.mode is StsMode.ENFORCE else Importance.RECOMMENDED
        return about(Standing.WRONG, f"the policy does not name {', '.join(uncovered)}", importance)
    if not texts:
        return about(Standing.MISSING)
    if policy_id(facts.mta_sts.records) is None:
        return about(Standing.WRONG, "cannot be read, or is not the only one")
    return about(Standing.RIGHT, f"policy: {policy.mode}")


def _srv(record: Record, facts: Facts) -> Finding:
    answer = facts.services[record.name]
    found = [f"{srv.priority} {srv.weight} {srv.port} {srv.target}." for srv in answer.records]
    if answer.failed:
        return _about(record, Standing.UNKNOWN)
    if not answer:
        return _absent(record)
    _, _, port, target = record.value.split(" ")
    ours = any(srv.port == int(port) and srv.target == target.rstrip(".") for srv in answer.records)
    return _about(record, Standing.RIGHT if ours else Standing.WRONG, found)


def _alias(record: Record, offer: Offer, facts: Facts) -> Finding:
    """An alias of our host, or a name with its addresses: some DNS providers make the one of the other."""
    answer = facts.aliases[record.name]
    if answer.failed:
        return _about(record, Standing.UNKNOWN)
    if not answer:
        return _absent(record)
    if answer.name == offer.host:
        return _about(record, Standing.RIGHT, [f"{offer.host}."])
    ours = next(host.addresses for host in facts.hosts if host.name == offer.host)
    if ours.failed:
        return _about(record, Standing.UNKNOWN, answer.records)
    if set(answer.records) <= set(ours.records):
        return _about(record, Standing.RIGHT, answer.records)
    return _about(record, Standing.WRONG, answer.records, "leads to another server")


def _text(record: Record, facts: Facts) -> Finding:
    """A record whose text has to be there as it is; beside it may stand another that is on its way out."""
    answer = facts.more_texts[record.name]
    texts = _texts(answer)
    if answer.failed:
        return _about(record, Standing.UNKNOWN)
    if not texts:
        return _absent(record)
    ours = record.value in (text.strip() for text in texts)
    return _about(record, Standing.RIGHT if ours else Standing.WRONG, texts)


def _absent(record: Record) -> Finding:
    return _about(record, Standing.UNUSED if record.importance is Importance.OPTIONAL else Standing.MISSING)


def _caa(domain: Domain, offer: Offer, facts: Facts) -> list[Finding]:
    if not offer.authorities:
        return []
    found = tuple(f'{record.flags} {record.tag} "{record.value}"' for record in facts.caa.records)
    issuers = [record.value.partition(";")[0].strip().lower() for record in facts.caa.records if record.tag == "issue"]
    note = ""
    if facts.caa.failed:
        standing = Standing.UNKNOWN
    elif not issuers:
        standing, note = Standing.UNUSED, "every authority may issue certificates"
    elif set(issuers) & set(offer.authorities):
        standing = Standing.RIGHT
    else:
        standing, note = Standing.WRONG, "our authority may not issue certificates for names of the domain"
    expected = ", ".join(f'0 issue "{authority}"' for authority in offer.authorities)
    return [Finding(Kind.CAA, domain.name, "CAA", Importance.OPTIONAL, standing, expected, found, note)]


def _reverse(host: HostFacts, address: str) -> Finding:
    """Receivers want the address that mail comes from to have a name that leads back to it."""
    answer = host.names[address]
    if answer.failed:
        standing = Standing.UNKNOWN
    elif not answer:
        standing = Standing.MISSING
    else:
        standing = Standing.RIGHT if host.name in answer.records else Standing.WRONG
    return Finding(Kind.REVERSE, address, "PTR", Importance.RECOMMENDED, standing, f"{host.name}.", answer.records)


def _texts(answer: Answer[bytes]) -> list[str]:
    return [record.decode("utf-8", "replace") for record in answer.records]


def _tags(text: str) -> dict[str, str]:
    """A tag list, leniently."""
    pairs = (part.partition("=") for part in text.split(";"))
    return {name.strip().lower(): value.strip() for name, equals, value in pairs if equals}
