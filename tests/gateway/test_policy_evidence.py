"""Evidence beside the content: what each fact adds to the score, and that it stays small."""

from __future__ import annotations

from dataclasses import replace

import pytest
from policy_cases import CLIENT, HERE, REJECTED, authentication, content, experience, facts

from gateway.content_facts import Finding, HelloFinding
from gateway.dns_lists import Listing
from gateway.facts.values import ClientFacts, Facts, Reputation
from gateway.policy.evidence import LIMIT, collect, offset
from gateway.policy.rules import Rules
from gateway.scanners import RspamdResult

RULES = Rules()


def client(*findings: HelloFinding, points: tuple[float, ...] = (), trusted: bool = False) -> ClientFacts:
    listings = tuple(Listing(f"list{number}.test", ("127.0.0.2",), each) for number, each in enumerate(points))
    return ClientFacts(CLIENT, "mail.example.org", "mail.example.org", frozenset(findings), listings, trusted)


def found(about: Facts, rules: Rules = RULES) -> dict[str, float]:
    return {each.name: each.offset for each in collect(about, experience(), HERE, rules)}


@pytest.mark.parametrize(
    ("about", "wanted"),
    [
        (facts(), {}),
        (facts(client=client(HelloFinding.NO_REVERSE_NAME)), {"hello-no-reverse-name": 0.5}),
        (
            facts(client=client(HelloFinding.NO_REVERSE_NAME, HelloFinding.FORGED, HelloFinding.BARE_WORD)),
            {"hello-forged": 0.8, "hello-no-reverse-name": 0.4},  # as much as the limit leaves
        ),
        (facts(client=client(points=(1.0,))), {"dns-lists": 0.7}),
        (facts(client=client(points=(2.0, 2.0))), {"dns-lists": 2.0}),
        (facts(client=client(points=(1.0, -1.0))), {}),
        (facts(client=client(points=(-9.0,))), {"dns-lists": -1.0}),
        (facts(auth=authentication(spf="fail")), {"spf-fail": 0.7}),
        (facts(auth=authentication(spf="softfail")), {"spf-softfail": 0.3}),
        (facts(auth=authentication(spf="none")), {"unauthenticated": 0.3}),
        (facts(auth=authentication(spf="none", dkim=["esp.test"])), {}),
        (facts(auth=authentication(spf="temperror")), {}),
        (facts(auth=replace(authentication(spf="none"), dkim=None)), {}),
        (facts(auth=replace(authentication(), spf=None)), {}),
        (facts(auth=authentication(dmarc="fail")), {"dmarc-fail": 0.5}),
        (facts(auth=authentication(**REJECTED)), {"dmarc-fail": 1.0, "spf-fail": 0.7}),
        (facts(auth=authentication(spf="fail", dmarc="permerror")), {"dmarc-permerror": 0.5, "spf-fail": 0.7}),
        (facts(auth=authentication("acme.test", "fail")), {"forged-own": 1.0, "spf-fail": 0.7}),
        (facts(body=content(findings=[Finding.SEVERAL_FROM])), {"form-several-from": 1.0}),
        (facts(body=content(findings=[Finding.NO_SUBJECT, Finding.HTML_ONLY])), {}),
        (facts(body=None), {}),
        (facts(rspamd=RspamdResult("add header", 7.5, 15.0)), {"rspamd": 0.75}),
        (facts(rspamd=RspamdResult("reject", 500.0, 15.0)), {"rspamd": 1.5}),
        (facts(rspamd=RspamdResult("no action", -20.0, 15.0)), {"rspamd": -0.5}),
        (facts(rspamd=RspamdResult("no action", float("nan"), 15.0)), {}),
        (facts(rspamd=RspamdResult("no action", 5.0, 0.0)), {}),
        (facts(rspamd=RspamdResult(unknown="late")), {}),
        (
            facts(
                client=client(HelloFinding.FORGED, points=(3.0,), trusted=True),
                auth=authentication(**REJECTED),
                body=content(findings=[Finding.NO_DATE]),
            ),
            {"form-no-date": 0.3},  # the connection is not the sender's
        ),
    ],
)
def test_what_each_fact_adds(about: Facts, wanted: dict[str, float]) -> None:
    assert found(about) == wanted


def test_a_trusted_sealer_takes_the_sting_out_of_forwarding() -> None:
    about = facts(auth=authentication(**REJECTED, sealer="seal.test"))
    assert found(about, Rules(trusted_sealers=("seal.test",))) == {}
    assert found(about, Rules(trusted_sealers=("other.test",))) == {"dmarc-fail": 1.0, "spf-fail": 0.7}


@pytest.mark.parametrize(
    ("ham", "spam", "domain", "network"),
    [
        (0, 0, None, None),
        (0, 1, 0.27, 0.27),  # one message says little
        (1, 0, -0.27, -0.27),
        (0, 20, 1.5, 1.0),
        (1000, 0, -1.5, -1.0),
        (10, 10, None, None),
    ],
)
def test_reputation(ham: float, spam: float, domain: float | None, network: float | None) -> None:
    reputation = Reputation(ham, spam)
    known = experience(domain=reputation, network=reputation)
    offsets = {each.name: each.offset for each in collect(facts(), known, HERE, RULES)}
    assert offsets.get("reputation-domain") == domain and offsets.get("reputation-network") == network


def test_all_of_it_together_is_less_than_what_makes_spam() -> None:
    worst = facts(
        client=client(*HelloFinding, points=(100.0,)),
        auth=authentication("acme.test", "fail", dmarc="fail", policy="reject"),
        body=content(findings=Finding),
        rspamd=RspamdResult("reject", 500.0, 15.0),
    )
    known = experience(domain=Reputation(0, 1e6), network=Reputation(0, 1e6))
    assert offset(collect(worst, known, HERE, RULES)) == LIMIT < RULES.junk_at
    best = facts(client=client(points=(-100.0,)), rspamd=RspamdResult("no action", -500.0, 15.0))
    known = experience(domain=Reputation(1e6, 0), network=Reputation(1e6, 0))
    assert offset(collect(best, known, HERE, RULES)) == -LIMIT
