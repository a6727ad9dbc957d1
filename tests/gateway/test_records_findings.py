"""What is found right and wrong about a domain, with a real name server behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from authorities import authority
from dns_server import DnsServer, Lie
from policy_host import PolicyHost, http

from gateway.dkim.keys import generate
from gateway.dns.resolver import Resolver
from gateway.dns.settings import DnsSettings
from gateway.dns_records.facts import Facts, look_up
from gateway.dns_records.findings import Finding, Standing, Verdict, judge, verdict
from gateway.dns_records.policy import PolicyAnswer
from gateway.dns_records.wanted import Importance, Kind, Offer, wanted
from gateway.networks import Reachable, networks
from gateway.tls_policy.sts_fetch import StsFetcher
from storage.directory.dkim_keys import DkimAlgorithm, DkimKey, DkimState
from storage.queue.sts import StsMode
from storage.values import Domain

DOMAIN = Domain.parse("example.org")
HOST = "mail.example.net"
OFFER = Offer(HOST, (HOST,), authorities=("letsencrypt.org",), agent="v=UAAC1; a=sha256; d=AAAA=")
ROOT = authority()
POLICY = b"version: STSv1\r\nmode: enforce\r\nmx: *.example.net\r\nmax_age: 604800\r\n"
PUBLIC = {algorithm: generate(algorithm).public_key for algorithm in DkimAlgorithm}
RIGHT, WRONG, MISSING, UNKNOWN, UNUSED = Standing


def key(selector: str, state: DkimState, algorithm: DkimAlgorithm = DkimAlgorithm.RSA) -> DkimKey:
    return DkimKey(DOMAIN, selector, algorithm, PUBLIC[algorithm], state, 0, 0)


KEYS = [
    key("r1", DkimState.SIGNING),
    key("e1", DkimState.SIGNING, DkimAlgorithm.ED25519),
    key("r0", DkimState.RETIRED),
    key("r2", DkimState.MADE),
]


def publish(server: DnsServer, offer: Offer = OFFER, keys: list[DkimKey] = KEYS) -> None:
    """All that the domain should have, and the hosts."""
    for record in wanted(DOMAIN, offer, keys):
        records = server.zone.setdefault(record.name, {})
        records[record.rdtype] = [*records.get(record.rdtype, ()), record.value]
    for name in {offer.host, *offer.exchangers}:
        server.put(name, A="192.0.2.1")
    server.put("1.2.0.192.in-addr.arpa", PTR=f"{offer.host}.")


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with DnsServer() as server:
        publish(server)
        yield server


def ask(
    server: DnsServer, offer: Offer = OFFER, keys: list[DkimKey] = KEYS, policy_host: PolicyHost | None = None
) -> Facts:
    async def asking() -> Facts:
        dns = Resolver(DnsSettings(nameservers=("127.0.0.1",), port=server.port, timeout=5.0))
        reachable, port = Reachable(networks(["127.0.0.0/8"])), policy_host.port if policy_host else 443
        fetcher = StsFetcher(dns, reachable, ROOT.client_context(), port=port, limit=5.0)
        return await look_up(dns, DOMAIN, offer, keys, wanted(DOMAIN, offer), fetcher)

    return asyncio.run(asking())


def findings(server: DnsServer, offer: Offer = OFFER, keys: list[DkimKey] = KEYS) -> list[Finding]:
    facts = ask(server, offer, keys)
    return judge(DOMAIN, offer, wanted(DOMAIN, offer, keys), facts)


def test_what_was_published_as_it_was_printed_is_right(server: DnsServer) -> None:
    found = findings(server)
    assert {finding.standing for finding in found if finding.kind is not Kind.MTA_STS} == {RIGHT}
    assert verdict(found) is Verdict.RIGHT
    [sts] = [finding for finding in found if finding.kind is Kind.MTA_STS]
    assert (sts.standing, sts.importance) == (UNUSED, Importance.OPTIONAL) and sts.note


def test_without_dns_nothing_is_called_wrong() -> None:
    with DnsServer() as server:
        server.lie("*", Lie(rcode="SERVFAIL"))
        found = findings(server)
    assert {finding.standing for finding in found} == {UNKNOWN}
    assert verdict(found) is Verdict.UNKNOWN


def test_of_an_empty_zone_all_is_missing() -> None:
    with DnsServer() as server:
        found = findings(server)
    retired = {"r0._domainkey.example.org"}
    assert {f.standing for f in found if f.name not in retired and f.importance is Importance.REQUIRED} == {MISSING}
    assert verdict(found) is Verdict.WRONG


Change = Callable[[DnsServer], None]


def put(name: str, **records: str | list[str]) -> Change:
    return lambda server: server.put(name, **records)


def lie(name: str, rdtype: str) -> Change:
    return lambda server: server.lie(name, Lie(rcode="SERVFAIL"), rdtype)


def make_alias(server: DnsServer, name: str, target: str) -> None:
    server.remove(name)
    server.put(name, CNAME=f"{target}.")
    server.put(target, A="192.0.2.1")


def point(server: DnsServer, name: str, address: str) -> None:
    server.remove(name)
    server.put(name, A=address)


IMAPS = "_imaps._tcp.example.org"
CALDAVS = "_caldavs._tcp.example.org"
AUTOCONFIG = "autoconfig.example.org"
AGENT = "_ua-auto-config.example.org"
SELECTOR = "r1._domainkey.example.org"


@pytest.mark.parametrize(
    ("change", "kind", "name", "standing", "note"),
    [
        # RFC 5321 §5.1
        (put("example.org", MX=[f"10 {HOST}.", "20 backup.example.com."]), Kind.MX, "", RIGHT, "reserve"),
        (put("example.org", MX=[f"10 {HOST}.", "10 old.example.com."]), Kind.MX, "", WRONG, "old.example.com"),
        (put("example.org", MX=[f"10 {HOST}.", "5 old.example.com."]), Kind.MX, "", WRONG, "too"),
        (put("example.org", MX=["10 old.example.com."]), Kind.MX, "", WRONG, "does not name mail.example.net"),
        (put("example.org", MX=["0 ."]), Kind.MX, "", WRONG, "null MX"),
        (put("example.org", MX=[f"77 {HOST.upper()}."]), Kind.MX, "", RIGHT, ""),
        (lie("example.org", "MX"), Kind.MX, "", UNKNOWN, ""),
        # RFC 2181 §10.3
        (lambda s: s.remove(HOST), Kind.ADDRESS, "", MISSING, "no address"),
        (lambda s: make_alias(s, HOST, "o.test"), Kind.ADDRESS, "", WRONG, "alias of o.test"),
        (lie(HOST, "A"), Kind.ADDRESS, "", UNKNOWN, ""),
        # SPF is evaluated
        (put("example.org", TXT="v=spf1 ip4:192.0.2.0/24 -all"), Kind.SPF, "", RIGHT, ""),
        (put("example.org", TXT=["site-verification=1", "v=spf1 a:mail.example.net -all"]), Kind.SPF, "", RIGHT, ""),
        (put("example.org", TXT="v=spf1 ip4:198.51.100.0/24 -all"), Kind.SPF, "", WRONG, "mail from 192.0.2.1: fail"),
        (put("example.org", TXT="v=spf1 ~all"), Kind.SPF, "", WRONG, "softfail"),
        (put("example.org", TXT="v=spf1 +all"), Kind.SPF, "", WRONG, "everybody"),
        (put("example.org", TXT="v=spf1 all"), Kind.SPF, "", WRONG, "everybody"),
        (put("example.org", TXT=["v=spf1 mx -all", "v=spf1 a -all"]), Kind.SPF, "", WRONG, "several"),
        (put("example.org", TXT="v=spf1 mx ip4:nonsense -all"), Kind.SPF, "", WRONG, "cannot be read"),
        (put("example.org", TXT="v=spf10 mx"), Kind.SPF, "", MISSING, ""),
        (lie("example.org", "TXT"), Kind.SPF, "", UNKNOWN, ""),
        # DKIM
        (put(SELECTOR, TXT="v=DKIM1; k=rsa; p=AAAA"), Kind.DKIM, SELECTOR, WRONG, "cannot verify"),
        (put(SELECTOR, TXT="v=DKIM1; p="), Kind.DKIM, SELECTOR, WRONG, "cannot verify"),
        (put(SELECTOR, TXT=["v=DKIM1; p=AAAA", "text"]), Kind.DKIM, SELECTOR, WRONG, "only one"),
        (lambda s: s.remove(SELECTOR), Kind.DKIM, SELECTOR, MISSING, "rsa key, signing"),
        (lie(SELECTOR, ""), Kind.DKIM, SELECTOR, UNKNOWN, "rsa key"),
        (lambda s: s.remove("r0._domainkey.example.org"), Kind.DKIM, "r0._domainkey.example.org", RIGHT, "retired"),
        (put("r0._domainkey.example.org", TXT="p=AAAA"), Kind.DKIM, "r0._domainkey.example.org", WRONG, "empty p="),
        # DMARC
        (put("_dmarc.example.org", TXT="v=DMARC1; p=reject"), Kind.DMARC, "", RIGHT, ""),
        (put("_dmarc.example.org", TXT="v=DMARC1;p=none"), Kind.DMARC, "", RIGHT, "only watches"),
        (put("_dmarc.example.org", TXT="v=DMARC1; p=maybe"), Kind.DMARC, "", WRONG, "no policy"),
        (put("_dmarc.example.org", TXT="v=DMARC1; rua=mailto:a@b.test"), Kind.DMARC, "", WRONG, "no policy"),
        (put("_dmarc.example.org", TXT=["v=DMARC1; p=none", "v=DMARC1; p=reject"]), Kind.DMARC, "", WRONG, "several"),
        (put("_dmarc.example.org", TXT="something"), Kind.DMARC, "", WRONG, ""),
        (lambda s: s.remove("_dmarc.example.org"), Kind.DMARC, "", MISSING, ""),
        (put("_smtp._tls.example.org", TXT="v=TLSRPTv1"), Kind.TLS_RPT, "", WRONG, "nobody"),
        # RFC 6186
        (put(IMAPS, SRV="5 5 993 mail.example.net."), Kind.SRV, IMAPS, RIGHT, ""),
        (put(IMAPS, SRV="0 1 993 other.test."), Kind.SRV, IMAPS, WRONG, ""),
        (put(IMAPS, SRV="0 0 0 ."), Kind.SRV, IMAPS, WRONG, ""),
        (lambda s: s.remove(IMAPS), Kind.SRV, IMAPS, MISSING, ""),
        (lambda s: s.remove("_imap._tcp.example.org"), Kind.SRV, "_imap._tcp.example.org", UNUSED, ""),
        # RFC 6764
        (put(CALDAVS, SRV="0 1 8443 mail.example.net."), Kind.SRV, CALDAVS, WRONG, ""),
        (put(CALDAVS, TXT=["path=/dav/", "x"]), Kind.PATH, CALDAVS, RIGHT, ""),
        (put(CALDAVS, TXT="path=/caldav"), Kind.PATH, CALDAVS, WRONG, ""),
        (lambda s: s.zone[CALDAVS].pop("TXT"), Kind.PATH, CALDAVS, UNUSED, ""),
        (lie(CALDAVS, "TXT"), Kind.PATH, CALDAVS, UNKNOWN, ""),
        # names that programs look for
        (lambda s: make_alias(s, AUTOCONFIG, "o.test"), Kind.ALIAS, AUTOCONFIG, RIGHT, ""),  # of the same address
        (lambda s: point(s, AUTOCONFIG, "192.0.2.1"), Kind.ALIAS, AUTOCONFIG, RIGHT, ""),
        (lambda s: point(s, AUTOCONFIG, "192.0.2.9"), Kind.ALIAS, AUTOCONFIG, WRONG, "another server"),
        (lambda s: s.remove(AUTOCONFIG), Kind.ALIAS, AUTOCONFIG, MISSING, ""),
        (lambda s: s.remove("mta-sts.example.org"), Kind.ALIAS, "mta-sts.example.org", UNUSED, ""),
        (lie(AUTOCONFIG, "A"), Kind.ALIAS, AUTOCONFIG, UNKNOWN, ""),
        (put(AGENT, TXT="v=UAAC1; a=sha256; d=BBBB="), Kind.AGENT, AGENT, WRONG, ""),
        (put(AGENT, TXT=["v=UAAC1; a=sha256; d=BBBB=", OFFER.agent]), Kind.AGENT, AGENT, RIGHT, ""),
        # RFC 8659
        (put("example.org", CAA='0 issue "ca.example; account=1"'), Kind.CAA, "", WRONG, "may not"),
        (put("example.org", CAA=['0 issue "ca.example"', '0 issue "letsencrypt.org; x=1"']), Kind.CAA, "", RIGHT, ""),
        (put("example.org", CAA='0 iodef "mailto:a@b.test"'), Kind.CAA, "", UNUSED, "every authority"),
        # the name of the address
        (put("1.2.0.192.in-addr.arpa", PTR="generic.isp.test."), Kind.REVERSE, "192.0.2.1", WRONG, ""),
        (lambda s: s.remove("1.2.0.192.in-addr.arpa"), Kind.REVERSE, "192.0.2.1", MISSING, ""),
        # MTA-STS without a policy host
        (put("_mta-sts.example.org", TXT="v=STSv1; id=1"), Kind.MTA_STS, "", WRONG, "take it away"),
    ],
)  # fmt: skip
def test_findings(server: DnsServer, change: Change, kind: Kind, name: str, standing: Standing, note: str) -> None:
    change(server)
    [found] = [finding for finding in findings(server) if finding.kind is kind and name in ("", finding.name)]
    assert found.standing is standing, found
    assert note in found.note


@pytest.mark.parametrize(
    ("policy", "texts", "standing", "importance", "note"),
    [
        (StsMode.ENFORCE, [b"v=STSv1; id=1;"], RIGHT, Importance.RECOMMENDED, "enforce"),
        (StsMode.ENFORCE, [], MISSING, Importance.RECOMMENDED, ""),
        (StsMode.ENFORCE, [b"v=STSv1; id=1", b"v=STSv1; id=2"], WRONG, Importance.RECOMMENDED, "only one"),
        (StsMode.ENFORCE, [b"v=STSv1; id=a b"], WRONG, Importance.RECOMMENDED, ""),
        (StsMode.NONE, [b"v=STSv1; id=1"], RIGHT, Importance.RECOMMENDED, "none"),
    ],
)
def test_mta_sts_with_a_policy_host(
    server: DnsServer, policy: StsMode, texts: list[bytes], standing: Standing, importance: Importance, note: str
) -> None:
    facts = ask(server)
    answer = replace(facts.mta_sts, records=tuple(texts))
    facts = replace(facts, mta_sts=answer, policy=PolicyAnswer(True, "", "text", policy, ("*.example.net",)))
    [found] = [f for f in judge(DOMAIN, OFFER, wanted(DOMAIN, OFFER, KEYS), facts) if f.kind is Kind.MTA_STS]
    assert (found.standing, found.importance) == (standing, importance) and note in found.note
    assert found.expected == f"v=STSv1; id={facts.policy.id}"


@pytest.mark.parametrize(
    ("mode", "importance"), [(StsMode.ENFORCE, Importance.REQUIRED), (StsMode.TESTING, Importance.RECOMMENDED)]
)
def test_a_policy_that_leaves_out_our_host_loses_mail(server: DnsServer, mode: StsMode, importance: Importance) -> None:
    facts = ask(server)
    answer = replace(facts.mta_sts, records=(b"v=STSv1; id=1",))
    facts = replace(facts, mta_sts=answer, policy=PolicyAnswer(True, "", "text", mode, ("mx.example.com",)))
    [found] = [f for f in judge(DOMAIN, OFFER, wanted(DOMAIN, OFFER, KEYS), facts) if f.kind is Kind.MTA_STS]
    assert (found.standing, found.importance) == (WRONG, importance) and HOST in found.note


@pytest.mark.parametrize("answer", [http(POLICY), http(b"no policy"), http(POLICY, status="404 Not Found")])
def test_the_policy_host_is_asked(server: DnsServer, tmp_path: Path, answer: bytes) -> None:
    """The record is wanted only where https://mta-sts.DOMAIN answers with a valid policy."""
    point(server, "mta-sts.example.org", "127.0.0.1")
    with PolicyHost(ROOT.issue("mta-sts.example.org").server_context(tmp_path), answer) as host:
        facts = ask(server, policy_host=host)
        valid = facts.policy.valid
        assert valid is (answer == http(POLICY)) and bool(facts.policy.reason) is not valid
        server.put("_mta-sts.example.org", TXT=f"v=STSv1; id={facts.policy.id}")
        facts = ask(server, policy_host=host)
    [found] = [f for f in judge(DOMAIN, OFFER, wanted(DOMAIN, OFFER, KEYS), facts) if f.kind is Kind.MTA_STS]
    assert found.standing is (RIGHT if valid else WRONG)
    assert found.found == ((found.expected,) if valid else found.found)


def test_the_id_of_a_policy_changes_with_it() -> None:
    one, two = (PolicyAnswer(True, "", text, StsMode.ENFORCE) for text in ("a", "b"))
    assert one.id != two.id and one.id.isalnum() and len(one.id) <= 32


def test_several_exchangers_must_all_be_there() -> None:
    offer = Offer(HOST, ("mx1.example.net", "mx2.example.net"))
    with DnsServer() as server:
        publish(server, offer, [])
        assert verdict(findings(server, offer, [])) is Verdict.RIGHT
        server.put("example.org", MX="10 mx1.example.net.")
        found = findings(server, offer, [])
    assert [finding.note for finding in found if finding.kind is Kind.MX] == ["does not name mx2.example.net"]
    assert [finding.standing for finding in found if finding.kind is Kind.DKIM] == [MISSING]
    assert not [finding for finding in found if finding.kind is Kind.CAA]


def test_spf_of_a_host_without_addresses_is_compared_as_text(server: DnsServer) -> None:
    server.remove(HOST)
    assert [f.standing for f in findings(server) if f.kind is Kind.SPF] == [RIGHT]
    server.put("example.org", TXT="v=spf1 a:other.test -all")
    assert [f.standing for f in findings(server) if f.kind is Kind.SPF] == [UNKNOWN]


def test_mail_that_leaves_from_stated_addresses_is_judged_by_these(server: DnsServer) -> None:
    offer = replace(OFFER, senders=("198.51.100.7",))
    assert [f.note for f in findings(server, offer) if f.kind is Kind.SPF] == ["mail from 198.51.100.7: softfail"]


def test_a_pending_domain_is_told_what_proves_it(server: DnsServer) -> None:
    records = wanted(DOMAIN, OFFER, KEYS, ownership="0123")
    [found] = [f for f in judge(DOMAIN, OFFER, records, ask(server)) if f.kind is Kind.OWNERSHIP]
    assert (found.standing, found.importance) == (MISSING, Importance.REQUIRED)
    server.put("_cleanmail.example.org", TXT="0123")
    [found] = [f for f in judge(DOMAIN, OFFER, records, ask(server)) if f.kind is Kind.OWNERSHIP]
    assert found.standing is RIGHT
