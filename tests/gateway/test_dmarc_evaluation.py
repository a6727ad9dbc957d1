"""DMARC by RFC 9989: the tree walk, whose policy counts, alignment, odd records, DNS that fails, what it may cost."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from dns_server import DnsServer, Lie
from hypothesis import given
from hypothesis import strategies as st
from zone_dns import Texts, ZoneDns

from gateway.dkim.result import Dkim, DkimResult
from gateway.dmarc.evaluation import AUTHORS_MAX, evaluate
from gateway.dmarc.record import DmarcRecord, find_record, read_record
from gateway.dmarc.result import Aligned, Dmarc, DmarcResult, Policy
from gateway.dmarc.tree_walk import TreeWalk, Walk, names_from
from gateway.dns.resolver import Resolver
from gateway.dns.settings import DnsSettings
from gateway.spf import Spf, SpfResult

NO_SPF = SpfResult(Spf.NONE, "elsewhere.test")
REJECT = "v=DMARC1; p=reject"


def published(records: str) -> dict[str, Texts]:
    """published("own.com p=reject; psd=n | com psd=y"): a name that stands twice has two records.

    What has a v= stands there as it is.
    """
    zone: dict[str, Texts] = {}
    for record in filter(None, records.split(" | ")):
        name, _, tags = record.partition(" ")
        texts = zone.setdefault(f"_dmarc.{name}", [])
        assert isinstance(texts, list)
        texts.append(tags if "v=" in tags.lower() else f"v=DMARC1; {tags}")
    return zone


def passes(*domains: str) -> list[DkimResult]:
    return [DkimResult(Dkim.PASS, domain) for domain in domains]


def evaluated(
    zone: Mapping[str, Texts] | ZoneDns,
    *authors: str,
    spf: str = "",
    dkim: tuple[str, ...] = (),
) -> DmarcResult:
    dns = zone if isinstance(zone, ZoneDns) else ZoneDns(zone)
    sender = SpfResult(Spf.PASS, spf) if spf else NO_SPF
    return asyncio.run(evaluate(dns, authors, sender, passes(*dkim)))


def walk(zone: Mapping[str, Texts], domain: str) -> Walk:
    return asyncio.run(TreeWalk(ZoneDns(zone)).walk(domain))


# The walk (§4.10)


def test_the_names_of_a_walk() -> None:
    """The standard's own example."""
    assert names_from("a.b.c.d.e.f.g.h.i.j.mail.own.com") == (
        "a.b.c.d.e.f.g.h.i.j.mail.own.com",
        "g.h.i.j.mail.own.com",
        "h.i.j.mail.own.com",
        "i.j.mail.own.com",
        "j.mail.own.com",
        "mail.own.com",
        "own.com",
        "com",
    )


@pytest.mark.parametrize("labels", range(1, 40))
def test_a_walk_asks_eight_questions_at_most(labels: int) -> None:
    domain = ".".join("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"[:labels])
    names = names_from(domain)
    assert len(names) == min(labels, 8)
    assert names[0] == domain and "." not in names[-1]
    assert all(domain == name or domain.endswith("." + name) for name in names)
    dns = ZoneDns()
    asyncio.run(TreeWalk(dns).walk(domain))
    assert dns.asked == [f"_dmarc.{name}" for name in names]


@pytest.mark.parametrize(
    ("zone", "domain", "organizational"),
    [
        # §4.10.2, its examples
        ("mail.own.com p=reject | own.com p=reject", "a.mail.own.com", "own.com"),
        ("mail.own.com p=reject; psd=n | own.com p=reject", "a.mail.own.com", "mail.own.com"),
        ("com psd=y", "a.mail.own.com", "own.com"),
        ("own.com psd=y", "mail.own.com", "mail.own.com"),
        # nothing anywhere
        ("", "a.mail.own.com", "a.mail.own.com"),
        ("", "com", "com"),
        # the fewest labels, whatever stands between
        ("a.b.c.own.com p=reject | b.c.own.com p=reject | own.com p=reject", "x.a.b.c.own.com", "own.com"),
        ("a.own.com p=reject", "a.own.com", "a.own.com"),
        ("com p=reject | own.com p=reject", "own.com", "com"),  # a suffix that does not say that it is one
        ("com p=reject | own.com p=reject; psd=n", "www.own.com", "own.com"),
        # psd=n of the domain itself ends the walk at once
        ("a.own.com p=reject; psd=n | own.com p=reject", "a.own.com", "a.own.com"),
        # psd=y of the domain itself makes it nobody's
        ("co.uk p=none; psd=y | uk p=reject", "co.uk", "co.uk"),
        # the lowest psd=y counts: the walk ends there
        ("uk psd=y | co.uk psd=y", "www.example.co.uk", "example.co.uk"),
        ("co.uk psd=y | example.co.uk p=reject", "www.example.co.uk", "example.co.uk"),
        ("uk psd=y; p=none", "www.example.co.uk", "co.uk"),
        # several records at a name are none
        ("own.com p=reject | own.com p=none | com psd=y", "a.own.com", "own.com"),
        ("mail.own.com p=reject | mail.own.com p=reject | own.com p=reject", "mail.own.com", "own.com"),
        ("mail.own.com p=reject | mail.own.com v=spf1 -all | own.com p=reject; psd=n", "mail.own.com", "own.com"),
        # other texts are none either
        ("own.com v=DMARC2; p=none | own.com p=none; v=DMARC1 | own.com v=dmarc1; p=none", "a.own.com", "a.own.com"),
        # a record that is never asked for: it stands between the name and its last seven labels
        ("b.c.d.e.f.g.own.com p=reject; psd=n | own.com p=reject", "mail.a.b.c.d.e.f.g.own.com", "own.com"),
    ],
)  # fmt: skip
def test_organizational_domains(zone: str, domain: str, organizational: str) -> None:
    assert walk(published(zone), domain).organizational_domain == organizational


def test_dns_that_fails_on_the_way() -> None:
    dns = ZoneDns(published("mail.own.com p=reject | own.com p=reject"))
    dns.failing.add("_dmarc.com")
    found = asyncio.run(TreeWalk(dns).walk("mail.own.com"))
    assert found.failed and found.organizational_domain == ""
    assert found.policy is not None and found.policy.domain == "mail.own.com"  # its own counts whatever is above
    assert asyncio.run(TreeWalk(dns).walk("www.own.com")).policy is None
    # Above the record that ends a walk nothing matters.
    dns.zone["_dmarc.own.com"] = REJECT + "; psd=n"
    found = asyncio.run(TreeWalk(dns).walk("www.own.com"))
    assert not found.failed and found.organizational_domain == "own.com"


# Whose policy counts (§4.10.1)


@pytest.mark.parametrize(
    ("zone", "author", "at", "policy"),
    [
        ("own.com p=reject", "own.com", "own.com", Policy.REJECT),
        ("own.com p=quarantine; sp=reject; np=none", "own.com", "own.com", Policy.QUARANTINE),
        ("own.com p=none", "own.com", "own.com", Policy.NONE),
        # of subdomains
        ("own.com p=none; sp=reject", "www.own.com", "own.com", Policy.REJECT),
        ("own.com p=quarantine", "www.own.com", "own.com", Policy.QUARANTINE),
        # its own record counts before that of its organizational domain, and one between counts not at all
        ("www.own.com p=none | own.com p=reject", "www.own.com", "www.own.com", Policy.NONE),
        ("b.own.com p=none | own.com p=reject", "a.b.own.com", "own.com", Policy.REJECT),
        # of subdomains that do not exist
        ("own.com p=none; sp=quarantine; np=reject", "gone.own.com", "own.com", Policy.REJECT),
        ("own.com p=none; np=reject", "gone.own.com", "own.com", Policy.REJECT),
        ("own.com p=reject; np=none", "gone.own.com", "own.com", Policy.NONE),
        ("own.com p=none; sp=quarantine", "gone.own.com", "own.com", Policy.QUARANTINE),
        ("own.com p=none; sp=quarantine; np=reject", "www.own.com", "own.com", Policy.QUARANTINE),
        # of the public suffix, if the organizational domain has none
        ("com p=none; sp=quarantine; np=reject; psd=y", "gone.com", "com", Policy.REJECT),
        ("com p=reject; psd=y", "www.own.com", "com", Policy.REJECT),
        ("com p=reject; psd=y | own.com p=none", "www.own.com", "own.com", Policy.NONE),
        ("com p=quarantine; sp=reject; psd=y", "com", "com", Policy.QUARANTINE),
        # t=y: one step less
        ("own.com p=reject; t=y", "own.com", "own.com", Policy.QUARANTINE),
        ("own.com p=quarantine; t=y", "own.com", "own.com", Policy.NONE),
        ("own.com p=none; t=y", "own.com", "own.com", Policy.NONE),
        ("own.com p=none; sp=reject; t=y", "www.own.com", "own.com", Policy.QUARANTINE),
        ("own.com p=reject; t=n", "own.com", "own.com", Policy.REJECT),
        # what older records said
        ("own.com p=reject; pct=0; rf=afrf; ri=3600", "own.com", "own.com", Policy.REJECT),
    ],
)  # fmt: skip
def test_whose_policy_counts(zone: str, author: str, at: str, policy: Policy) -> None:
    existing: dict[str, Texts] = {"www.own.com": [], "a.b.own.com": []}
    result = evaluated(published(zone) | existing, author)
    assert (result.result, result.record_domain, result.policy) == (Dmarc.FAIL, at, policy)
    assert result.domain == author


def test_no_policy_no_dmarc() -> None:
    for zone in ({}, published("own.com p=reject | own.com p=reject"), {"own.com": REJECT}):
        result = evaluated(zone, "www.own.com", dkim=("www.own.com",))
        assert (result.result, result.policy, result.reason) == (Dmarc.NONE, Policy.NONE, "there is no policy")


@pytest.mark.parametrize(
    ("record", "result", "policy"),
    [
        ("v=DMARC1; rua=mailto:a@b.example", Dmarc.FAIL, Policy.NONE),
        ("v=DMARC1; p=rejected; rua=mailto:a@b.example", Dmarc.FAIL, Policy.NONE),
        ("v=DMARC1; p=reject; sp=; rua=mailto:a@b.example", Dmarc.FAIL, Policy.NONE),
        ("v=DMARC1; p=reject; np=all; rua=x,https://b.example/r", Dmarc.FAIL, Policy.NONE),
        ("v=DMARC1; p=reject; np=all", Dmarc.NONE, Policy.NONE),
        ("v=DMARC1", Dmarc.NONE, Policy.NONE),
        ("v=DMARC1; p=rejected", Dmarc.NONE, Policy.NONE),
        ("v=DMARC1; rua=a@b.example", Dmarc.NONE, Policy.NONE),
        ("v=DMARC1; p=reject; adkim=x; t=perhaps; psd=maybe", Dmarc.FAIL, Policy.REJECT),
    ],
)
def test_records_without_a_valid_policy(record: str, result: Dmarc, policy: Policy) -> None:
    found = evaluated(published(f"own.com {record}"), "own.com")
    assert (found.result, found.policy) == (result, policy)


# Alignment (§4.10.2)


@pytest.mark.parametrize(
    ("zone", "author", "spf", "dkim", "aligned"),
    [
        ("own.com p=reject", "own.com", "own.com", (), "spf:own.com"),
        ("own.com p=reject", "own.com", "OWN.com.", (), "spf:own.com"),
        ("own.com p=reject", "own.com", "", ("own.com",), "dkim:own.com"),
        ("own.com p=reject", "own.com", "b.own.com", ("x.test", "d.own.com"),
         "spf:b.own.com dkim:d.own.com"),
        ("own.com p=reject", "a.b.own.com", "c.own.com", (), "spf:c.own.com"),
        ("own.com p=reject", "own.com", "example.net", ("com", "badown.com", "own.com.evil.test"), ""),
        # strict, each for itself
        ("own.com p=reject; aspf=s", "own.com", "b.own.com", (), ""),
        ("own.com p=reject; aspf=s", "own.com", "own.com", (), "spf:own.com"),
        ("own.com p=reject; aspf=s", "own.com", "b.own.com", ("d.own.com",), "dkim:d.own.com"),
        ("own.com p=reject; adkim=s", "own.com", "", ("d.own.com",), ""),
        # a subdomain that is an organization of its own
        ("own.com p=reject | b.own.com p=reject; psd=n", "own.com", "x.b.own.com", (), ""),
        ("own.com p=reject | b.own.com p=reject; psd=n", "b.own.com", "own.com", (), ""),
        ("own.com p=reject | b.own.com p=reject; psd=n", "b.own.com", "x.b.own.com", (), "spf:x.b.own.com"),
        # domains below one public suffix are strangers
        ("com psd=y; p=reject", "a.com", "b.com", ("com",), ""),
        ("com psd=y; p=reject", "w.a.com", "m.a.com", (), "spf:m.a.com"),
        # a subdomain with a record of its own is still below
        ("own.com p=reject | b.own.com p=reject", "b.own.com", "c.own.com", (), "spf:c.own.com"),
        ("b.own.com p=reject", "b.own.com", "own.com", (), ""),
    ],
)  # fmt: skip
def test_alignment(zone: str, author: str, spf: str, dkim: tuple[str, ...], aligned: str) -> None:
    result = evaluated(published(zone), author, spf=spf, dkim=dkim)
    assert " ".join(f"{each.method}:{each.domain}" for each in result.aligned) == aligned
    assert result.result is (Dmarc.PASS if aligned else Dmarc.FAIL)


def test_only_a_pass_counts() -> None:
    for spf in (Spf.FAIL, Spf.SOFTFAIL, Spf.NEUTRAL, Spf.PERMERROR, Spf.NONE):
        for dkim in (Dkim.FAIL, Dkim.NEUTRAL, Dkim.POLICY, Dkim.PERMERROR):
            result = asyncio.run(
                evaluate(
                    ZoneDns(published("own.com p=reject")),
                    ["own.com"],
                    SpfResult(spf, "own.com"),
                    [DkimResult(dkim, "own.com")],
                )
            )
            assert result.result is Dmarc.FAIL


def test_the_domain_of_helo_counts_for_the_null_reverse_path() -> None:
    """RFC 7208 §2.4."""
    spf = SpfResult(Spf.PASS, "mx.own.com", "helo")
    result = asyncio.run(evaluate(ZoneDns(published("own.com p=reject")), ["own.com"], spf, []))
    assert result.aligned == (Aligned("spf", "mx.own.com"),)


# Several authors, and none (§5.3.1, §11.5)

TWO = published("strict.test p=reject | mild.test p=quarantine | open.test p=none | other.test p=reject")


@pytest.mark.parametrize(
    ("authors", "dkim", "result", "domain", "policy"),
    [
        (("strict.test", "strict.test"), ("strict.test",), Dmarc.PASS, "strict.test", Policy.REJECT),
        (("strict.test", "mild.test"), ("strict.test", "mild.test"), Dmarc.PASS, "strict.test", Policy.REJECT),
        (("mild.test", "strict.test"), ("mild.test",), Dmarc.FAIL, "strict.test", Policy.REJECT),
        (("open.test", "mild.test", "strict.test"), (), Dmarc.FAIL, "strict.test", Policy.REJECT),
        (("open.test", "mild.test", "strict.test"), ("strict.test",), Dmarc.FAIL, "mild.test", Policy.QUARANTINE),
        (("strict.test", "none.test"), ("strict.test", "none.test"), Dmarc.NONE, "none.test", Policy.NONE),
        ((), ("strict.test",), Dmarc.PERMERROR, "", Policy.NONE),
    ],
)
def test_several_author_domains(
    authors: tuple[str, ...], dkim: tuple[str, ...], result: Dmarc, domain: str, policy: Policy
) -> None:
    found = evaluated(TWO, *authors, dkim=dkim)
    assert (found.result, found.domain, found.policy) == (result, domain, policy)


def test_too_many_author_domains() -> None:
    zone = {f"_dmarc.d{number}.test": REJECT for number in range(50)}
    domains = tuple(f"d{number}.test" for number in range(50))
    dns = ZoneDns(zone)
    assert evaluated(dns, *domains, dkim=domains).result is Dmarc.PERMERROR
    assert {name for name in dns.asked if name != "_dmarc.test"} == {
        f"_dmarc.d{number}.test" for number in range(AUTHORS_MAX)
    }
    assert evaluated(zone, *domains).result is Dmarc.FAIL
    assert evaluated({}, *domains).result is Dmarc.PERMERROR  # one that nobody looked at may have asked to refuse it


def test_of_several_that_pass_the_weaker_proof_is_told() -> None:
    """Who takes SPF for no proof, behind a forwarder, has to see that one of them has no other."""
    for authors in (("strict.test", "mild.test"), ("mild.test", "strict.test")):
        found = evaluated(TWO, *authors, spf="mild.test", dkim=("strict.test",))
        assert (found.result, found.aligned) == (Dmarc.PASS, (Aligned("spf", "mild.test"),))


def test_of_several_that_may_have_passed_the_stricter_policy_is_told() -> None:
    unknown = [DkimResult(Dkim.TEMPERROR, domain) for domain in ("mild.test", "strict.test")]
    found = asyncio.run(evaluate(ZoneDns(TWO), ["mild.test", "strict.test"], NO_SPF, unknown))
    assert (found.result, found.policy) == (Dmarc.TEMPERROR, Policy.REJECT)


# DNS that fails


def failing(records: str, *names: str) -> ZoneDns:
    dns = ZoneDns(published(records))
    dns.failing.update(names)
    return dns


@pytest.mark.parametrize(
    ("dns", "author", "spf", "result"),
    [
        (failing("", "_dmarc.own.com"), "own.com", "own.com", Dmarc.TEMPERROR),
        (failing("", "_dmarc.com"), "own.com", "own.com", Dmarc.TEMPERROR),
        (failing("own.com p=reject", "_dmarc.www.own.com"), "www.own.com", "", Dmarc.TEMPERROR),
        # its own record is there, and an identical domain passed: nothing else matters
        (failing("own.com p=reject", "_dmarc.com"), "own.com", "own.com", Dmarc.PASS),
        # whether the domains belong together is not known
        (failing("own.com p=reject", "_dmarc.com"), "own.com", "b.own.com", Dmarc.TEMPERROR),
        (failing("own.com p=reject", "_dmarc.b.own.com"), "own.com", "b.own.com", Dmarc.TEMPERROR),
        # nothing passed, so it makes no difference
        (failing("own.com p=reject", "_dmarc.com"), "own.com", "", Dmarc.FAIL),
        (failing("own.com p=reject", "_dmarc.elsewhere.test"), "own.com", "elsewhere.test", Dmarc.FAIL),
        # whether the domain exists is not known, and makes a difference
        (failing("own.com p=none; np=reject", "w.own.com"), "w.own.com", "", Dmarc.TEMPERROR),
        (failing("own.com p=none; np=none", "w.own.com"), "w.own.com", "", Dmarc.FAIL),
    ],
)  # fmt: skip
def test_temporary_failures_of_dns(dns: ZoneDns, author: str, spf: str, result: Dmarc) -> None:
    assert evaluated(dns, author, spf=spf).result is result


def test_what_might_have_passed_is_no_failure() -> None:
    dns = published("own.com p=reject")
    failed = DkimResult(Dkim.FAIL, "own.com")

    def result(spf: SpfResult | None, dkim: list[DkimResult] | None) -> Dmarc:
        return asyncio.run(evaluate(ZoneDns(dns), ["own.com"], spf, dkim)).result

    assert result(SpfResult(Spf.TEMPERROR, "b.own.com"), [failed]) is Dmarc.TEMPERROR
    assert result(SpfResult(Spf.TEMPERROR, "elsewhere.test"), [failed]) is Dmarc.FAIL
    assert result(NO_SPF, [failed, DkimResult(Dkim.TEMPERROR, "own.com")]) is Dmarc.TEMPERROR
    assert result(NO_SPF, [DkimResult(Dkim.TEMPERROR, "elsewhere.test")]) is Dmarc.FAIL
    assert result(SpfResult(Spf.TEMPERROR, "own.com"), passes("own.com")) is Dmarc.PASS
    assert result(None, [failed]) is Dmarc.TEMPERROR
    assert result(NO_SPF, None) is Dmarc.TEMPERROR
    assert result(None, passes("own.com")) is Dmarc.PASS
    assert result(SpfResult(Spf.PASS, "own.com"), None) is Dmarc.PASS


def test_over_a_name_server() -> None:
    """NXDOMAIN and a name without addresses are told apart, and lies end in time."""
    zone = {
        "_dmarc.example.test": {"TXT": "v=DMARC1; p=none; sp=quarantine; np=reject; rua=mailto:a@example.test"},
        "mail.example.test": {"MX": "10 mx.example.test."},
    }
    with DnsServer(zone) as server:

        def check(author: str) -> DmarcResult:
            resolver = Resolver(DnsSettings(nameservers=server.nameservers, port=server.port, timeout=0.5, cache=0))
            return asyncio.run(evaluate(resolver, [author], NO_SPF, []))

        assert check("mail.example.test").policy is Policy.QUARANTINE
        assert check("gone.example.test").policy is Policy.REJECT
        server.lie("_dmarc.test", Lie(rcode="SERVFAIL"))
        assert check("mail.example.test").result is Dmarc.TEMPERROR
        server.lie("_dmarc.test", None)
        server.lie("*", Lie(silent=True))
        assert check("a.b.c.d.e.f.g.h.example.test").result is Dmarc.TEMPERROR
        assert server.asked("_dmarc.h.example.test")  # all questions are asked at once, none waits for the first


# What it may cost


def test_questions_are_bounded() -> None:
    """Four authors of many labels, ten signatures of domains as deep."""
    zone: dict[str, Texts] = {}
    authors = [f"a.b.c.d.e.f.g.h{number}.example.test" for number in range(4)]
    zone["_dmarc.example.test"] = "v=DMARC1; p=none; sp=none; np=reject"
    deep = tuple(f"k.l.m.n.o.p.q{number}.example.test" for number in range(100))
    dns = ZoneDns(zone)
    for name in deep:
        dns.failing.add(f"_dmarc.{name}")
    assert evaluated(dns, *authors, dkim=deep).result is Dmarc.TEMPERROR
    assert len(dns.asked) <= 4 * 9 + 4 * 11 * 8
    assert len(dns.asked) == len(set(dns.asked))  # nothing is asked twice


def test_domains_that_could_not_be_aligned_cost_no_question() -> None:
    dns = ZoneDns(published("own.com p=reject"))
    strangers = tuple(f"a.b.c.d{number}.test" for number in range(10))
    assert evaluated(dns, "own.com", spf="bounce.test", dkim=strangers).result is Dmarc.FAIL
    assert dns.asked == ["_dmarc.own.com", "_dmarc.com"]


# Records


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        ([], None),
        (["v=DMARC1"], DmarcRecord(None)),
        (["v=DMARC1;p=none"], DmarcRecord(Policy.NONE)),
        (
            ["V = DMARC1 ; P = Reject ; ASPF=S;adkim = s; t=Y; PSD=N"],
            DmarcRecord(Policy.REJECT, strict_dkim=True, strict_spf=True, psd="n", testing=True),
        ),
        (["v=DMARC1; p=none; p=reject"], DmarcRecord(Policy.NONE)),
        (["v=DMARC1; p=none; sp=quarantine; np=reject"], DmarcRecord(Policy.NONE, Policy.QUARANTINE, Policy.REJECT)),
        (["v=DMARC10; p=none"], None),
        (["v=DMARC1p=none"], None),
        ([" v=DMARC1; p=none"], None),
        (["v=DMARC1; p=none", "other"], DmarcRecord(Policy.NONE)),
        (["v=DMARC1; p=none", "v=DMARC1"], None),
        (["v=DMARC1; p=none; x=" + "y" * 9000], None),
    ],
)  # fmt: skip
def test_finding_a_record(texts: list[str], found: DmarcRecord | None) -> None:
    assert find_record(text.encode() for text in texts) == found


@given(st.text(st.sampled_from("vp=DMARC1;rejctnouasp \tü:,\0"), max_size=60))
def test_any_record_is_read(text: str) -> None:
    assert read_record("v=DMARC1;" + text).psd in ("y", "n", "u")
    find_record([text.encode(), b"\xff"])


@given(
    st.dictionaries(
        st.sampled_from(["a.b.c.test", "b.c.test", "c.test", "test", "x.c.test"]),
        st.sampled_from([REJECT, "v=DMARC1; psd=y", "v=DMARC1; psd=n", "v=DMARC1; p=none; aspf=s", "other"]),
    ),
    st.sampled_from(["a.b.c.test", "c.test", "x.c.test"]),
    st.sampled_from(["", "a.b.c.test", "b.c.test", "x.c.test", "test"]),
)
def test_whatever_is_published(zone: dict[str, str], author: str, spf: str) -> None:
    """An organizational domain is the domain or one above it; who is aligned shares it; a pass is aligned."""
    texts: dict[str, Texts] = {f"_dmarc.{name}": text for name, text in zone.items()}
    organizational = walk(texts, author).organizational_domain
    assert author == organizational or author.endswith("." + organizational)
    result = evaluated(texts, author, spf=spf)
    assert (result.result is Dmarc.PASS) == bool(result.aligned)
    if result.aligned and spf != author:
        assert walk(texts, spf).organizational_domain == organizational


def test_how_results_are_written_down() -> None:
    zone = published("own.com p=reject; sp=quarantine")
    passed = evaluated(zone, "own.com", spf="own.com")
    assert passed.authentication_result() == "dmarc=pass (p=reject) header.from=own.com polrec.p=reject"
    failed = evaluated(zone, "gone.own.com")
    assert failed.authentication_result("none") == (
        'dmarc=fail (p=quarantine dis=none) reason="neither SPF nor DKIM passed for the domain of the author"'
        " header.from=gone.own.com polrec.p=reject polrec.domain=own.com"
    )
    assert evaluated({}, "own.com").authentication_result("x y") == (
        'dmarc=none reason="there is no policy" header.from=own.com'
    )
    assert evaluated({}).authentication_result() == 'dmarc=permerror reason="From names no domain"'
