"""What holds for every message, whatever its facts and rules."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.arc.result import Arc, ArcResult, SealedSet
from gateway.arc.results import MethodResult
from gateway.authentication.authorship import Authors
from gateway.authentication.facts import AuthenticationFacts
from gateway.classifier.correction import Score
from gateway.classifier.model import Maturity
from gateway.content_facts import Attachment, ContentFacts, Detected, Finding, HelloFinding, Incomplete, Trait
from gateway.dkim.result import Dkim, DkimResult
from gateway.dmarc.result import Aligned, Dmarc, DmarcResult, Policy
from gateway.dns_lists import Listing
from gateway.facts.values import ClientFacts, Destination, Experience, Facts, Place, Reputation, Standing
from gateway.policy import evidence
from gateway.policy.case import WEIGHT, Case
from gateway.policy.decide import counterfactual, decide, decide_early
from gateway.policy.lists import ListMatch
from gateway.policy.rules import DEFAULT, Rules
from gateway.policy.verdict import Action, Reason, Verdict
from gateway.scanners import MalwareResult, RspamdResult
from gateway.spf import Spf, SpfResult
from storage.filter.rules import ListKind
from storage.values import AccountId, Domain, EmailAddress, TenantId

_name = st.sampled_from(["acme.test", "example.org", "mail.example.org", "evil.test", "news.acme.test"])
_address = st.builds(
    lambda local, name: EmailAddress(local, Domain(name)),
    st.sampled_from(["ada", "boss", "SRS0=abcdefgh=ab=evil.test=x", "postmaster"]),
    _name,
)
_word = st.text(max_size=30)
_count = st.floats(0, 1e6)


def _some(values: Any, most: int = 2) -> Any:
    return st.lists(st.sampled_from(values), max_size=most).map(frozenset)


def _seldom(values: st.SearchStrategy[Any], else_: Any) -> st.SearchStrategy[Any]:
    """So that what weighs most does not hide everything else."""
    return st.integers(0, 5).flatmap(lambda number: values if number == 5 else st.just(else_))


_attachment = st.builds(
    Attachment,
    st.sampled_from(["a.exe", "b.zip/c.docm", "d.pdf", "e.html", "\u202ex"]),
    st.sampled_from(["a.exe", "c.docm", "d.pdf", "e.iso", ""]),
    detected=st.sampled_from([Detected.UNKNOWN, Detected.PE, Detected.ZIP, Detected.LNK]),
    encrypted=st.booleans(),
    mismatch=st.booleans(),
    traits=_some(list(Trait)),
    incomplete=st.none() | st.sampled_from(Incomplete),
)
_content = st.builds(
    ContentFacts,
    _some(list(Finding), 4),
    _seldom(st.lists(_attachment, min_size=1, max_size=3).map(tuple), ()),
    st.booleans(),
    incomplete=_seldom(st.sampled_from(Incomplete), None),
)
_authentication = st.builds(
    AuthenticationFacts,
    st.builds(
        lambda domains, count: Authors(tuple(f"ada@{each}" for each in domains), tuple(domains), count),
        st.lists(_name, max_size=2, unique=True),
        st.integers(0, 2),
    ),
    st.none() | st.builds(SpfResult, st.sampled_from(Spf), _name),
    st.none() | st.lists(st.builds(DkimResult, st.sampled_from(Dkim), _name), max_size=2).map(tuple),
    st.none()
    | st.builds(
        lambda sealer, author: ArcResult(
            Arc.PASS, (SealedSet(1, sealer, (MethodResult("dmarc", "pass", (("header.from", author),)),)),)
        ),
        _name,
        _name,
    ),
    st.none()
    | st.builds(
        DmarcResult,
        st.sampled_from(Dmarc),
        _name,
        st.sampled_from(Policy),
        st.sampled_from(["", "acme.test", "example.org"]),
        st.lists(st.builds(Aligned, st.sampled_from(["spf", "dkim"]), _name), max_size=1).map(tuple),
    ),
)
_listing = st.builds(
    Listing,
    st.just("bl.test"),
    st.just(("127.0.0.2",)),
    st.floats(-100, 100).filter(bool),
    _seldom(st.just(True), False),
)
_client = st.builds(
    ClientFacts,
    st.sampled_from(["192.0.2.7", "2001:db8::7", "no address"]),
    _word,
    st.none() | _word,
    _some(list(HelloFinding), 3),
    st.none() | _seldom(st.lists(_listing, max_size=2).map(tuple), ()),
    _seldom(st.just(True), False),
)
_facts = st.builds(
    Facts,
    _client,
    st.none() | _address,
    st.lists(_address, max_size=2).map(tuple),
    _authentication,
    st.none() | _content,
    st.none()
    | st.builds(MalwareResult, _seldom(st.sampled_from(["Eicar", "PUA.X"]), ""), _seldom(st.just("late"), "")),
    st.none()
    | st.builds(
        RspamdResult,
        st.sampled_from(["no action", "reject"]),
        st.floats(allow_nan=True, allow_infinity=True),
        st.floats(-1, 20),
        unknown=st.sampled_from(["", "late"]),
    ),
    unknown=st.dictionaries(st.sampled_from(["malware", "rspamd"]), st.just("late"), max_size=1),
)
_reputation = st.builds(Reputation, _count, _count)
_score = st.none() | st.builds(Score, st.floats(-50, 50), st.floats(-3, 3), st.floats(-8, 8))
_experience = st.builds(
    Experience, st.none() | st.sampled_from(Standing), _reputation, _reputation, _score, st.sampled_from(Maturity)
)
_destination = st.builds(
    lambda place, address, role: Destination(TenantId(1), place, address, address.domain, AccountId(1), role),
    st.sampled_from(Place),
    _address,
    st.booleans(),
)


@st.composite
def _rules(draw: st.DrawFn) -> Rules:
    """The defaults with some fields changed to anything that may be chosen."""
    changed: dict[str, Any] = {}
    for each in draw(st.lists(st.sampled_from(fields(Rules)), max_size=6, unique=True)):
        if "choices" in each.metadata:
            changed[each.name] = draw(st.sampled_from(each.metadata["choices"]))
        elif isinstance(getattr(DEFAULT, each.name), float):
            changed[each.name] = draw(st.floats(each.metadata["least"], 30))
        elif each.name == "trusted_sealers":
            changed[each.name] = ("example.org", "evil.test")
    return replace(DEFAULT, **changed)


_match = _seldom(
    st.builds(
        ListMatch,
        st.sampled_from(ListKind),
        st.just("@example.org"),
        st.sampled_from(["", "domain:acme.test", "account:1"]),
        st.booleans(),
    ),
    None,
)
_case = st.builds(Case.of, _facts, _experience, _destination, _rules(), _match)


def verdict_of(case: Case) -> Verdict:
    return decide(case.facts, case.experience, case.destination, case.rules, case.listed)


@settings(max_examples=200)
@given(_case)
def test_every_case_has_a_verdict_that_explains_itself(case: Case) -> None:
    verdict = verdict_of(case)
    assert verdict == verdict_of(case)
    assert verdict.sentence.endswith(".") and "\n" not in verdict.sentence
    assert bool(verdict.counterfactual) == (verdict.action is not Action.DELIVER)
    assert abs(evidence.offset(verdict.evidence)) <= evidence.LIMIT
    assert all(each.sentence and each.name and each.offset for each in verdict.evidence)
    if case.destination.place is not Place.MAILBOX:
        assert verdict.action is not Action.JUNK
    assert verdict.action is not Action.DEFER


@settings(max_examples=200)
@given(_case)
def test_what_would_have_let_it_pass_does(case: Case) -> None:
    verdict = verdict_of(case)
    words, passing = counterfactual(case)
    assert words == verdict.counterfactual
    again = verdict_of(passing)
    if verdict.action is Action.TAG:
        assert again.action is Action.DELIVER
    elif verdict.action is not Action.DELIVER:
        assert again.action in (Action.DELIVER, Action.TAG)


@settings(max_examples=150)
@given(_case, st.floats(0, 40))
def test_a_higher_score_never_makes_it_lighter(case: Case, more: float) -> None:
    score = case.experience.score or Score(0.0, 0.0, 0.0)
    low = replace(case, experience=replace(case.experience, score=score))
    worse = Score(score.shared + more, score.tenant, score.own)
    high = replace(case, experience=replace(case.experience, score=worse))
    assert WEIGHT[verdict_of(high).action] >= WEIGHT[verdict_of(low).action]


@settings(max_examples=150)
@given(_case)
def test_by_default_only_few_reasons_refuse(case: Case) -> None:
    verdict = verdict_of(replace(case, rules=DEFAULT))
    if verdict.action is Action.REJECT:
        assert verdict.reason in (Reason.DMARC_REJECT, Reason.DENIED, Reason.DNS_LISTED, Reason.MALWARE)
        assert not case.destination.role


@settings(max_examples=150)
@given(_case)
def test_what_is_not_known_refuses_nothing(case: Case) -> None:
    """With nothing known but the envelope; what a list of the tenant denies is not a fact about the message."""
    nothing = AuthenticationFacts(case.facts.authentication.authors, None, None, None, None)
    client = replace(case.facts.client, listings=None, hello_findings=frozenset(), name=None)
    facts = replace(case.facts, client=client, authentication=nothing, content=None, malware=None, rspamd=None)
    known = replace(case.experience, standing=None, score=None)
    rules = replace(case.rules, forged_own="weigh", forged_own_forwarded="weigh")
    unknown = Case.of(facts, known, case.destination, rules, None)
    assert WEIGHT[verdict_of(unknown).action] <= WEIGHT[Action.QUARANTINE]
    if case.rules.malware_unknown == Action.DELIVER:
        assert verdict_of(unknown).action is Action.DELIVER


@settings(max_examples=150)
@given(_case)
def test_an_allow_entry_lets_spam_through_but_no_danger(case: Case) -> None:
    allowed = replace(case, listed=ListMatch(ListKind.ALLOW, "@example.org"))
    verdict = verdict_of(allowed)
    assert WEIGHT[verdict.action] <= WEIGHT[verdict_of(replace(case, listed=None)).action]
    if WEIGHT[verdict.action] > WEIGHT[Action.TAG]:
        assert verdict.reason in (Reason.MALWARE, Reason.FORBIDDEN_ATTACHMENT)


@settings(max_examples=150)
@given(_case)
def test_malware_is_always_kept_away(case: Case) -> None:
    infected = replace(case, facts=replace(case.facts, malware=MalwareResult("Eicar")))
    verdict = verdict_of(infected)
    assert verdict.withheld and verdict.reason is Reason.MALWARE


@settings(max_examples=150)
@given(_case)
def test_postmaster_is_refused_for_form_only(case: Case) -> None:
    verdict = verdict_of(replace(case, destination=replace(case.destination, role=True)))
    if verdict.action is Action.REJECT:
        assert verdict.reason is Reason.MALFORMED or case.rules.malformed == Action.REJECT
    if verdict.withheld:
        assert verdict.reason in (
            Reason.MALWARE,
            Reason.FORBIDDEN_ATTACHMENT,
            Reason.MALFORMED,
            Reason.FORGED_OWN,
        )


@given(_client, st.none() | _address, _destination, _rules(), _match)
def test_early_verdicts_refuse_or_say_nothing(
    client: ClientFacts, path: EmailAddress | None, to: Destination, rules: Rules, listed: ListMatch | None
) -> None:
    verdict = decide_early(client, path, to, rules, listed)
    assert verdict is None or (verdict.action is Action.REJECT and verdict.counterfactual and not to.role)
