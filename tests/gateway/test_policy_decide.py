"""What becomes of a message, by tables: each row is one thing that is held against it or speaks for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from policy_cases import (
    CLIENT,
    FORWARDED,
    HERE,
    PASSES,
    POSTMASTER,
    REJECTED,
    ROUTED,
    authentication,
    content,
    experience,
    facts,
)

from gateway.authentication.facts import AuthenticationFacts
from gateway.classifier.model import Maturity
from gateway.content_facts import GROUPS, Attachment, ContentFacts, Detected, Finding, Incomplete, Trait
from gateway.dns_lists import Listing
from gateway.facts.values import ClientFacts, Destination, Experience, Facts, Reputation, Standing
from gateway.policy.case import Case
from gateway.policy.decide import counterfactual, decide, decide_early, put_off
from gateway.policy.lists import ListMatch
from gateway.policy.rules import Rules
from gateway.policy.verdict import Action, Reason
from gateway.scanners import MalwareResult, RspamdResult
from storage.filter.rules import ListKind
from storage.values import EmailAddress


def rules_of(**changed: Any) -> Rules:
    return Rules(**{"junk_at": 4.0, "tag_at": 0.0, **changed})


GOOD = facts()
RULES = rules_of()
SPAM = experience(6.2)
ALLOW = ListMatch(ListKind.ALLOW, "@example.org")
DENY = ListMatch(ListKind.DENY, "@example.org")
FORGED = facts(author="boss@acme.test", path="x@evil.test", auth=authentication("acme.test", spf_domain="evil.test"))
VIRUS = facts(malware="Eicar-Test-Signature")
EXE = facts(body=content("invoice.exe"))
P_REJECT = facts(auth=authentication(**REJECTED))


def _with_two_from_fields(auth: AuthenticationFacts) -> AuthenticationFacts:
    return replace(auth, authors=replace(auth.authors, fields=2))


def judged(
    about: Facts = GOOD,
    known: Experience = experience(),  # noqa: B008 - frozen
    to: Destination = HERE,
    rules: Rules = RULES,
    listed: ListMatch | None = None,
) -> str:
    verdict = decide(about, known, to, rules, listed)
    return f"{verdict.action} {verdict.reason}"


def test_an_honest_message_is_delivered() -> None:
    verdict = decide(GOOD, experience(), HERE, RULES)
    assert (verdict.action, verdict.reason, verdict.counterfactual) == (Action.DELIVER, Reason.NOTHING_AGAINST_IT, "")
    assert verdict.score == -3.0 and verdict.evidence == () and not verdict.withheld


@pytest.mark.parametrize(
    ("to", "rules", "score", "wanted"),
    [
        (HERE, {}, 3.9, "deliver nothing-against-it"),
        (HERE, {}, 4.0, "junk spam"),
        (ROUTED, {}, 4.0, "quarantine spam"),
        (FORWARDED, {}, 4.0, "quarantine spam"),
        (POSTMASTER, {}, 9.0, "tag role-address"),
        (HERE, {"spam_here": "tag"}, 9.0, "tag spam"),
        (HERE, {"spam_here": "deliver"}, 9.0, "deliver nothing-against-it"),
        (HERE, {"spam_here": "quarantine"}, 9.0, "quarantine spam"),
        (HERE, {"spam_here": "reject"}, 9.0, "reject spam"),
        (ROUTED, {"spam_routed": "tag"}, 9.0, "tag spam"),
        (HERE, {"junk_at": 7.0}, 6.9, "deliver nothing-against-it"),
        (HERE, {"quarantine_at": 8.0}, 7.9, "junk spam"),
        (HERE, {"quarantine_at": 8.0}, 8.0, "quarantine spam"),
        (HERE, {"quarantine_at": 2.0}, 3.0, "deliver nothing-against-it"),  # it is no spam
        (HERE, {"reject_at": 12.0}, 12.0, "reject spam"),
        (HERE, {"spam_here": "deliver", "quarantine_at": 8.0}, 8.5, "quarantine spam"),
        (POSTMASTER, {"reject_at": 12.0}, 15.0, "tag role-address"),
    ],
)
def test_spam(to: Destination, rules: dict[str, str], score: float, wanted: str) -> None:
    assert judged(known=experience(score), to=to, rules=rules_of(**rules)) == wanted


@pytest.mark.parametrize("maturity", [Maturity.NONE, Maturity.LEARNING])
@pytest.mark.parametrize("to", [HERE, ROUTED, FORWARDED])
def test_who_has_learned_little_tags(maturity: Maturity, to: Destination) -> None:
    known = experience(50.0, maturity=maturity)
    rules = Rules(quarantine_at=8.0, reject_at=9.0, spam_here="reject")
    assert judged(known=known, to=to, rules=rules) == "tag spam"
    assert judged(VIRUS, known, to) == "quarantine malware"
    assert judged(P_REJECT, known, to) == "reject dmarc-reject"


_ONLY_MARKED = " It is only marked, since the filter's model has not learned enough yet."


@pytest.mark.parametrize(
    ("maturity", "score", "to", "rules", "says_so"),
    [
        (Maturity.LEARNING, 6.0, HERE, {}, True),
        (Maturity.NONE, 6.0, HERE, {}, True),
        (Maturity.TRAINED, 6.0, HERE, {}, False),
        (Maturity.LEARNING, 6.0, ROUTED, {"spam_routed": "tag"}, False),  # that is all it would be anyhow
        (Maturity.TRAINED, 6.0, ROUTED, {"spam_routed": "tag"}, False),
        (Maturity.LEARNING, 6.0, POSTMASTER, {}, False),
        (Maturity.LEARNING, 4.0, HERE, {"junk_at": 5.0, "tag_at": 3.0}, False),  # only suspicious
    ],
)
def test_it_is_said_where_mail_is_only_tagged_since_little_was_learned(
    maturity: Maturity, score: float, to: Destination, rules: dict[str, Any], says_so: bool
) -> None:
    verdict = decide(GOOD, experience(score, maturity=maturity), to, rules_of(**rules))
    assert verdict.sentence.endswith(_ONLY_MARKED) is says_so
    assert not says_so or verdict.action is Action.TAG


def test_without_a_score_nothing_is_spam() -> None:
    bad = replace(GOOD, client=ClientFacts(CLIENT, "", "", listings=(Listing("bl.test", ("127.0.0.2",), 100.0),)))
    known = experience(None, domain=Reputation(0, 500), network=Reputation(0, 500))
    assert judged(bad, known, rules=Rules(junk_at=0.1)) == "deliver nothing-against-it"
    assert decide(bad, known, HERE, RULES).score is None and decide(bad, known, HERE, RULES).evidence


@pytest.mark.parametrize(
    ("about", "rules", "wanted"),
    [
        (VIRUS, {}, "quarantine malware"),
        (VIRUS, {"malware": "reject"}, "reject malware"),
        (facts(malware="Heuristics.Phishing.Email"), {"malware": "reject"}, "quarantine malware"),
        (facts(malware="PUA.Win.Tool"), {"malware_suspected": "junk"}, "junk malware"),
        (facts(malware=None), {"malware_unknown": "quarantine"}, "deliver nothing-against-it"),  # no scanner
        (facts(malware=None, unknown={"malware": "late"}), {}, "deliver nothing-against-it"),
        (facts(malware=None, unknown={"malware": "late"}), {"malware_unknown": "tag"}, "tag unscanned"),
        (
            replace(GOOD, malware=MalwareResult("", "too large")),
            {"malware_unknown": "quarantine"},
            "quarantine unscanned",
        ),
    ],
)
def test_malware(about: Facts, rules: dict[str, str], wanted: str) -> None:
    assert judged(about, rules=rules_of(**rules)) == wanted


def _attached(**what: object) -> Facts:
    return facts(body=ContentFacts(attachments=(Attachment("a.zip/x.bin", "x.bin", **what),)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("about", "here", "routed"),
    [
        (EXE, "quarantine", "quarantine"),
        (facts(body=content("a.pdf", "b/c.LNK")), "quarantine", "quarantine"),
        (facts(body=content("a.vbs")), "quarantine", "quarantine"),
        (facts(body=content("a.iso")), "quarantine", "quarantine"),
        (facts(body=content("a.docm")), "quarantine", "quarantine"),
        (_attached(detected=Detected.PE), "quarantine", "quarantine"),
        (_attached(encrypted=True), "tag", "tag"),
        (_attached(detected=Detected.ZIP, incomplete=Incomplete.DAMAGED), "tag", "tag"),
        (_attached(mismatch=True), "junk", "quarantine"),
        (_attached(traits=frozenset({Trait.HTML_SCRIPT})), "junk", "quarantine"),
        (_attached(mismatch=True, encrypted=True, detected=Detected.PE), "quarantine", "quarantine"),
        (facts(body=ContentFacts(incomplete=Incomplete.TOO_MUCH_WORK)), "tag", "tag"),
    ],
)
def test_attachments(about: Facts, here: str, routed: str) -> None:
    assert judged(about) == f"{here} forbidden-attachment"
    assert judged(about, to=ROUTED) == f"{routed} forbidden-attachment"
    everything = Rules(**{f"attachment_{group}": "deliver" for group in GROUPS})  # type: ignore[arg-type]
    assert judged(about, rules=everything) == "deliver nothing-against-it"


@pytest.mark.parametrize(
    ("about", "known", "rules", "wanted"),
    [
        (P_REJECT, {}, {}, "reject dmarc-reject"),
        (P_REJECT, {"standing": Standing.ACCOUNT}, {}, "junk dmarc-reject"),
        (P_REJECT, {"standing": Standing.TENANT}, {}, "junk dmarc-reject"),
        (P_REJECT, {"standing": None}, {}, "junk dmarc-reject"),  # it may be a correspondent
        (replace(P_REJECT, content=content(is_list=True)), {}, {}, "junk dmarc-reject"),
        (replace(P_REJECT, content=None), {}, {}, "junk dmarc-reject"),  # it may be of a list
        (facts(auth=authentication(**REJECTED, sealer="seal.test")), {}, {}, "reject dmarc-reject"),
        (
            facts(auth=authentication(**REJECTED, sealer="seal.test")),
            {},
            {"trusted_sealers": ("seal.test",)},
            "junk dmarc-reject",
        ),
        (
            facts(auth=replace(authentication(**REJECTED), arc=None)),
            {},
            {"trusted_sealers": ("seal.test",)},
            "junk dmarc-reject",
        ),
        (P_REJECT, {}, {"dmarc_reject": "quarantine"}, "quarantine dmarc-reject"),
        (P_REJECT, {}, {"dmarc_reject": "weigh"}, "deliver nothing-against-it"),
        (
            replace(P_REJECT, content=content(is_list=True)),
            {},
            {"dmarc_excused": "quarantine"},
            "quarantine dmarc-reject",
        ),
        # an excuse makes nothing worse
        (P_REJECT, {"standing": Standing.ACCOUNT}, {"dmarc_reject": "weigh"}, "deliver nothing-against-it"),
        (P_REJECT, {"standing": Standing.ACCOUNT}, {"dmarc_reject": "tag"}, "tag dmarc-reject"),
        (
            P_REJECT,
            {"standing": Standing.ACCOUNT},
            {"dmarc_reject": "junk", "dmarc_excused": "quarantine"},
            "junk dmarc-reject",
        ),
        # a sealer saw another author than the one who was added
        (
            facts(auth=_with_two_from_fields(authentication(**REJECTED, sealer="seal.test"))),
            {},
            {"trusted_sealers": ("seal.test",)},
            "reject dmarc-reject",
        ),
        (facts(auth=authentication(dmarc="fail", policy="quarantine")), {}, {}, "junk dmarc-quarantine"),
        (facts(auth=authentication(dmarc="fail", policy="none")), {}, {}, "deliver nothing-against-it"),
        # whoever can make DNS fail does not get past a policy that is known
        (facts(auth=authentication(dmarc="temperror", policy="reject")), {}, {}, "junk dmarc-reject"),
        (facts(auth=authentication(dmarc="temperror", policy="quarantine")), {}, {}, "junk dmarc-quarantine"),
        (
            facts(auth=authentication(dmarc="temperror", policy="quarantine")),
            {},
            {"dmarc_quarantine": "weigh"},
            "deliver nothing-against-it",
        ),
        (facts(auth=authentication(dmarc="temperror", policy="none")), {}, {}, "deliver nothing-against-it"),
        (
            facts(auth=authentication(dmarc="temperror", policy="reject", sealer="seal.test")),
            {},
            {"trusted_sealers": ("seal.test",)},
            "deliver nothing-against-it",
        ),
        (facts(auth=authentication(dmarc="permerror")), {}, {}, "deliver nothing-against-it"),
        (facts(auth=authentication(spf="fail")), {}, {}, "deliver nothing-against-it"),
        (facts(auth=authentication(spf="fail")), {}, {"spf_fail": "reject"}, "reject spf-fail"),
        (
            facts(auth=authentication(spf="fail", **PASSES)),
            {},
            {"spf_fail": "reject"},
            "deliver nothing-against-it",
        ),
        (facts(auth=authentication(spf="temperror")), {}, {"spf_fail": "reject"}, "deliver nothing-against-it"),
    ],
)
def test_who_stands_behind_it(about: Facts, known: dict[str, Standing], rules: dict[str, str], wanted: str) -> None:
    assert judged(about, experience(**known), rules=rules_of(**rules)) == wanted


def test_what_was_excused_is_quarantined_where_there_is_no_junk_folder() -> None:
    assert judged(replace(P_REJECT, content=content(is_list=True)), to=ROUTED) == "quarantine dmarc-reject"


LISTED = ClientFacts(CLIENT, "h.test", "h.test", listings=(Listing("bl.test", ("127.0.0.2",)),))
REJECTING = ClientFacts(CLIENT, "h.test", "h.test", listings=(Listing("bl.test", ("127.0.0.2",), 1.0, True),))
GOOD_LIST = ClientFacts(CLIENT, "h.test", "h.test", listings=(Listing("wl.test", ("127.0.0.2",), -1.0),))
RSPAMD = RspamdResult("reject", 20.0, 15.0)


@pytest.mark.parametrize(
    ("about", "rules", "wanted"),
    [
        (facts(client=LISTED), {}, "deliver nothing-against-it"),
        (facts(client=LISTED), {"dns_lists": "junk"}, "junk dns-listed"),
        (facts(client=REJECTING), {}, "reject dns-listed"),
        (facts(client=GOOD_LIST), {"dns_lists": "reject"}, "deliver nothing-against-it"),
        (facts(client=replace(LISTED, listings=None)), {"dns_lists": "reject"}, "deliver nothing-against-it"),
        (facts(rspamd=RSPAMD), {}, "junk scanner"),
        (facts(rspamd=RSPAMD), {"rspamd": "weigh"}, "deliver nothing-against-it"),
        (facts(rspamd=RspamdResult("add header", 8.0, 15.0)), {"rspamd": "reject"}, "deliver nothing-against-it"),
        (facts(rspamd=replace(RSPAMD, unknown="late")), {"rspamd": "reject"}, "deliver nothing-against-it"),
        (facts(body=content(findings=[Finding.SEVERAL_FROM])), {}, "deliver nothing-against-it"),
        (facts(body=content(findings=[Finding.SEVERAL_FROM])), {"malformed": "reject"}, "reject malformed"),
        (facts(body=content(findings=[Finding.NO_SUBJECT])), {"malformed": "reject"}, "deliver nothing-against-it"),
    ],
)
def test_clients_scanners_and_form(about: Facts, rules: dict[str, str], wanted: str) -> None:
    assert judged(about, rules=rules_of(**rules)) == wanted


@pytest.mark.parametrize(
    ("about", "known", "listed", "wanted"),
    [
        (GOOD, {"score": 9.0}, ALLOW, "deliver allowed"),
        (GOOD, {"score": 9.0}, replace(ALLOW, proven=False), "junk spam"),
        (P_REJECT, {}, ALLOW, "deliver allowed"),
        (facts(client=REJECTING, rspamd=RSPAMD), {}, ALLOW, "deliver allowed"),
        (VIRUS, {}, ALLOW, "quarantine malware"),
        (EXE, {}, ALLOW, "quarantine forbidden-attachment"),
        (_attached(traits=frozenset({Trait.HTML_SCRIPT})), {}, ALLOW, "tag forbidden-attachment"),
        (
            _attached(traits=frozenset({Trait.HTML_SCRIPT})),
            {"standing": Standing.TENANT},
            None,
            "tag forbidden-attachment",
        ),
        (GOOD, {}, DENY, "reject denied"),
        (GOOD, {"standing": Standing.ACCOUNT}, DENY, "reject denied"),
        (GOOD, {"score": 9.0, "standing": Standing.ACCOUNT}, None, "deliver known-correspondent"),
        (GOOD, {"score": 9.0, "standing": Standing.TENANT}, None, "deliver known-correspondent"),
        (GOOD, {"score": -9.0, "standing": Standing.TENANT}, None, "deliver nothing-against-it"),
        (GOOD, {"score": 9.0, "standing": None}, None, "junk spam"),
        (facts(rspamd=RSPAMD), {"standing": Standing.ACCOUNT}, None, "deliver known-correspondent"),
        (
            facts(auth=authentication(spf_domain="evil.test")),  # From is not proven
            {"score": 9.0, "standing": Standing.ACCOUNT},
            None,
            "junk spam",
        ),
        (EXE, {"standing": Standing.ACCOUNT}, None, "quarantine forbidden-attachment"),
    ],
)
def test_lists_and_correspondents(about: Facts, known: dict[str, float], listed: ListMatch | None, wanted: str) -> None:
    assert judged(about, experience(**known), listed=listed) == wanted  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("about", "known", "listed", "rules", "wanted"),
    [
        (GOOD, {"score": 20.0}, None, {"spam_here": "reject"}, "tag role-address"),
        (P_REJECT, {}, None, {}, "tag role-address"),
        (GOOD, {}, DENY, {}, "tag role-address"),
        (facts(client=REJECTING), {}, None, {}, "tag role-address"),
        (VIRUS, {}, None, {"malware": "reject"}, "quarantine malware"),
        (EXE, {}, None, {"attachment_executable": "reject"}, "quarantine forbidden-attachment"),
        (facts(body=content(findings=[Finding.NO_FROM])), {}, None, {"malformed": "reject"}, "reject malformed"),
        (facts(rspamd=RSPAMD), {}, None, {"rspamd": "tag"}, "tag scanner"),
    ],
)
def test_postmaster_takes_what_is_no_danger(
    about: Facts, known: dict[str, float], listed: ListMatch | None, rules: dict[str, str], wanted: str
) -> None:
    assert judged(about, experience(**known), POSTMASTER, rules_of(**rules), listed) == wanted


def test_a_server_that_filters_is_believed_but_not_about_malware() -> None:
    client = ClientFacts(CLIENT, "", "", listings=(), trusted=True)
    assert judged(replace(P_REJECT, client=client), SPAM) == "deliver trusted-client"
    assert judged(replace(VIRUS, client=client)) == "quarantine malware"
    assert judged(replace(GOOD, client=client), listed=DENY) == "reject denied"


class TestForgedAuthorsOfTheOwnDomain:
    def test_forwarding_would_make_it_genuine(self) -> None:
        assert judged(FORGED, to=FORWARDED) == "quarantine forged-own"
        assert judged(FORGED, to=replace(FORWARDED, role=True)) == "quarantine forged-own"
        assert judged(FORGED, to=HERE) == "deliver nothing-against-it"
        assert [each.name for each in decide(FORGED, experience(), HERE, RULES).evidence] == ["forged-own"]
        assert judged(FORGED, rules=Rules(forged_own="junk")) == "junk forged-own"

    def test_so_would_one_of_a_domain_below_or_beside_it(self) -> None:
        below = facts(author="x@news.acme.test", path="x@evil.test", auth=authentication("news.acme.test", "fail"))
        assert judged(below, to=FORWARDED) == "quarantine forged-own"
        auth = authentication("b.acme.test", "fail")
        assert auth.dmarc is not None
        auth = replace(auth, dmarc=replace(auth.dmarc, organizational_domain="acme.test"))
        beside = facts(author="x@b.acme.test", auth=auth)
        to = replace(FORWARDED, domain=EmailAddress.parse("x@a.acme.test").domain)
        assert judged(beside, to=to) == "quarantine forged-own"

    def test_a_signature_proves_it(self) -> None:
        assert judged(facts(author="boss@acme.test"), to=FORWARDED) != "quarantine forged-own"
        signed = authentication("acme.test", "fail", dkim=["acme.test"], dmarc="none")
        assert judged(facts(author="boss@acme.test", auth=signed), to=FORWARDED) == "deliver nothing-against-it"

    @pytest.mark.parametrize(
        "path",
        [
            "SRS0=abcdefgh=ab=evil.test=x@acme.test",
            "srs1+abcdefgh=a.test==x@acme.test",
            "bob+SRS=DJp2X=7F=evil.test=x@acme.test",  # Microsoft 365
            "bob+caf_=ann=acme.test@acme.test",  # Gmail
        ],
    )
    @pytest.mark.parametrize("dmarc", ["pass", "none"])
    def test_a_forwarders_spf_proves_nothing(self, path: str, dmarc: str) -> None:
        """SPF passes for the forwarder, which is the author's domain: whoever wrote it."""
        auth = authentication("acme.test", "pass", dmarc=dmarc, aligned=[("spf", "acme.test")])
        forwarded = facts(author="boss@acme.test", path=path, auth=auth)
        known = experience(9.0, Standing.ACCOUNT)
        assert judged(forwarded, known) == "junk spam"
        assert judged(forwarded, to=FORWARDED) == "quarantine forged-own"
        direct = facts(author="boss@acme.test", path="boss@acme.test", auth=auth)
        assert judged(direct, known) == "deliver known-correspondent"
        signed = authentication("acme.test", "pass", dmarc="pass", dkim=["acme.test"], aligned=[("dkim", "acme.test")])
        assert judged(replace(forwarded, authentication=signed), known) == "deliver known-correspondent"


@pytest.mark.parametrize(
    ("about", "known", "listed", "rules", "wanted"),
    [
        (replace(VIRUS, content=content("a.exe")), SPAM, DENY, {}, "reject malware"),
        (replace(EXE, authentication=P_REJECT.authentication), SPAM, None, {}, "reject dmarc-reject"),
        (replace(P_REJECT, content=content("a.exe", is_list=True)), SPAM, None, {}, "quarantine forbidden-attachment"),
        (
            facts(body=content("a.exe"), rspamd=RSPAMD),
            SPAM,
            None,
            {"rspamd": "quarantine"},
            "quarantine forbidden-attachment",
        ),
        (facts(rspamd=RSPAMD), SPAM, None, {}, "junk scanner"),
    ],
)
def test_the_heaviest_is_done_and_the_weightiest_named(
    about: Facts, known: Experience, listed: ListMatch | None, rules: dict[str, str], wanted: str
) -> None:
    assert judged(about, known, HERE, rules_of(**rules), listed) == wanted


@pytest.mark.parametrize(
    ("about", "known", "listed", "rules", "sentence", "cure"),
    [
        (
            P_REJECT,
            {},
            None,
            {},
            "The sender's domain example.org asks to refuse mail that fails its checks, and this one failed.",
            "It would have passed with a valid DKIM signature of example.org.",
        ),
        (
            GOOD,
            {"score": 6.2},
            None,
            {},
            "It looks like spam: its score is 6.2, and from 4.0 on a message is spam.",
            "It would have passed with a score below 4.0 (it was 6.2).",
        ),
        (
            GOOD,
            {"score": 4.004},
            None,
            {},
            "It looks like spam: its score is 4.004, and from 4.000 on a message is spam.",
            "It would have passed with a score below 4.000 (it was 4.004).",
        ),
        (
            EXE,
            {},
            None,
            {},
            "It has a program attached (.exe).",
            "It would have passed without the attached file (.exe).",
        ),
        (
            facts(body=content("a.exe", "b.zip/b.bat", "c.lnk", "d.pdf")),
            {},
            None,
            {},
            "It has a program attached (.exe).",
            "It would have passed without 3 attached files (.exe, .bat and 1 more).",
        ),
        (
            replace(P_REJECT, content=content("a\u202eexe.bat")),
            {"score": 9.0},
            None,
            {},
            "The sender's domain example.org asks to refuse mail that fails its checks, and this one failed.",
            "It would have passed with a valid DKIM signature of example.org, without the attached file (.bat) "
            "and with a score below 4.0 (it was 9.0).",
        ),
        (
            VIRUS,
            {},
            None,
            {},
            "It contains malware: Eicar-Test-Signature.",
            "It would have passed without the malware.",
        ),
        (
            GOOD,
            {},
            DENY,
            {},
            "Its sender is on the tenant's deny list: @example.org.",
            "It would have passed if @example.org were not on the deny list.",
        ),
        (
            facts(client=REJECTING),
            {},
            None,
            {},
            "DNS lists of senders of spam name the client 192.0.2.7: bl.test.",
            "It would have passed if no DNS list named the client 192.0.2.7.",
        ),
        (
            facts(auth=authentication(spf="fail")),
            {},
            None,
            {"spf_fail": "reject"},
            "The sender's domain example.org says that this client may not send for it.",
            "It would have passed if it had come from a server that may send for example.org.",
        ),
        (
            facts(body=ContentFacts(incomplete=Incomplete.TOO_DEEP)),
            {},
            None,
            {"attachment_unreadable_archive": "quarantine"},
            "It could not be looked into as a whole. It has more archives inside archives than are looked into.",
            "It would have passed if all of it could be looked into.",
        ),
    ],
)
def test_why_and_what_would_have_helped(
    about: Facts, known: dict[str, float], listed: ListMatch | None, rules: dict[str, str], sentence: str, cure: str
) -> None:
    verdict = decide(about, experience(**known), HERE, rules_of(**rules), listed)
    assert (verdict.sentence, verdict.counterfactual) == (sentence, cure)


def test_a_forged_author_is_told_how_to_be_believed() -> None:
    verdict = decide(FORGED, experience(), FORWARDED, RULES)
    assert verdict.counterfactual == "It would have passed with a valid DKIM signature of acme.test."
    twofold = replace(FORGED.authentication, authors=replace(FORGED.authentication.authors, fields=2))
    verdict = decide(replace(FORGED, authentication=twofold), experience(), FORWARDED, RULES)
    assert "with one author, and a valid DKIM signature of acme.test" in verdict.counterfactual


@pytest.mark.parametrize(
    ("score", "changed", "expected"),
    [
        (2.9, {}, "deliver nothing-against-it"),
        (3.0, {}, "tag spam"),
        (4.4, {}, "tag spam"),
        (4.5, {}, "junk spam"),
        (4.4, {"tag_at": 0.0}, "deliver nothing-against-it"),
        (4.4, {"tag_at": 9.0}, "deliver nothing-against-it"),
        (4.5, {"tag_at": 9.0}, "junk spam"),
        (4.4, {"spam_here": "deliver"}, "deliver nothing-against-it"),
        (4.4, {"spam_here": "reject"}, "tag spam"),
    ],
)
def test_what_is_nearly_spam_says_so(score: float, changed: dict[str, Any], expected: str) -> None:
    verdict = decide(GOOD, experience(score), HERE, Rules(**changed))
    assert f"{verdict.action} {verdict.reason}" == expected
    if verdict.action is Action.TAG:
        assert verdict.sentence == f"It may be spam: its score is {score:.1f}, and from 3.0 on a message is suspicious."
        assert verdict.counterfactual == f"It would have passed with a score below 3.0 (it was {score:.1f})."


def test_what_a_tag_would_have_needed() -> None:
    verdict = decide(facts(body=content("x.docm")), experience(), HERE, Rules(attachment_macro="tag"))
    assert verdict.counterfactual == "It would have passed without the attached file (.docm)."


def test_evidence_tips_what_is_nearly_spam_and_gives_the_reason() -> None:
    known = experience(3.5, domain=Reputation(0, 20))
    verdict = decide(GOOD, known, HERE, RULES)
    assert (verdict.action, verdict.reason) == (Action.JUNK, Reason.BAD_REPUTATION)
    assert verdict.sentence.endswith("a message is spam. Its content alone would have 3.5.")
    assert verdict.score == 5.0
    assert decide(GOOD, known, HERE, rules_of(spam_here="reject")).action is Action.QUARANTINE
    assert judged(known=experience(0.9, domain=Reputation(0, 20), network=Reputation(0, 20))).startswith("deliver")
    good = experience(4.5, domain=Reputation(20, 0))
    assert judged(known=good) == "deliver nothing-against-it"


def test_the_case_that_passes_really_does() -> None:
    case = Case.of(replace(P_REJECT, content=content("a.exe")), SPAM, HERE, RULES, DENY)
    words, passing = counterfactual(case)
    assert words and passing.listed is None and passing.facts.content == content()
    again = decide(passing.facts, passing.experience, HERE, RULES, passing.listed)
    assert again.action is Action.DELIVER


# Before the content


PATH = EmailAddress.parse("ada@example.org")


@pytest.mark.parametrize(
    ("client", "to", "rules", "listed", "wanted"),
    [
        (ClientFacts(CLIENT), HERE, {}, None, None),
        (ClientFacts(CLIENT), HERE, {}, DENY, "reject denied"),
        (ClientFacts(CLIENT), ROUTED, {"denied": "quarantine"}, DENY, None),
        (ClientFacts(CLIENT), POSTMASTER, {}, DENY, None),
        (LISTED, HERE, {}, None, None),
        (LISTED, HERE, {"dns_lists": "reject"}, None, "reject dns-listed"),
        (REJECTING, HERE, {}, None, "reject dns-listed"),
        (REJECTING, HERE, {}, ALLOW, None),
        (REJECTING, POSTMASTER, {}, None, None),
        (GOOD_LIST, HERE, {"dns_lists": "reject"}, None, None),
        (replace(REJECTING, listings=None), HERE, {"dns_lists": "reject"}, None, None),
        (replace(REJECTING, trusted=True), HERE, {}, None, None),
        (replace(REJECTING, trusted=True), HERE, {}, DENY, "reject denied"),
    ],
)
def test_what_is_refused_before_the_content(
    client: ClientFacts, to: Destination, rules: dict[str, str], listed: ListMatch | None, wanted: str | None
) -> None:
    verdict = decide_early(client, PATH, to, rules_of(**rules), listed)
    assert (verdict and f"{verdict.action} {verdict.reason}") == wanted
    assert verdict is None or verdict.counterfactual.startswith("It would have passed if ")


def test_greylisting_says_when_to_come_again() -> None:
    verdict = put_off(120)
    assert (verdict.action, verdict.reason, verdict.withheld) == (Action.DEFER, Reason.GREYLISTED, False)
    assert "try again in 120 seconds" in verdict.sentence
