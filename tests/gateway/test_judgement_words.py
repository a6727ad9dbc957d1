"""What is told of facts and verdicts, and to whom; where copies go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.acceptance.placement import JUNK
from gateway.acceptance.targets import MailboxTarget, RemoteTarget, RoutedTarget, Targets
from gateway.arc.result import Arc, ArcResult
from gateway.authentication.authorship import Authors
from gateway.authentication.facts import AuthenticationFacts
from gateway.content_facts import Attachment, ContentFacts, Finding
from gateway.dkim.result import Dkim, DkimResult
from gateway.dmarc.result import Dmarc, DmarcResult
from gateway.dns_lists import Listing
from gateway.facts.values import ClientFacts, Destination, Facts, Place
from gateway.judgement.destinations import destination_of, every_target, only, placed
from gateway.judgement.refusals import refusal
from gateway.judgement.words import of_facts, of_verdict
from gateway.policy.verdict import Action, Evidence, Reason, Verdict
from gateway.scanners import MalwareResult, RspamdResult
from gateway.smtp.address import ForwardPath
from gateway.spf import Spf, SpfResult
from storage.values import AccountId, Domain, EmailAddress, TenantId

ALICE, FAR = EmailAddress.parse("alice@here.test"), EmailAddress.parse("far@far.test")
PATH = ForwardPath(ALICE)
MAILBOX = MailboxTarget(TenantId(1), AccountId(2), PATH)
ROUTED = RoutedTarget(TenantId(1), Domain("here.test"), ALICE, PATH)
REMOTE = RemoteTarget(FAR, PATH, TenantId(1))


def test_destinations_of_targets() -> None:
    domain = Domain("here.test")
    assert destination_of(MAILBOX) == Destination(TenantId(1), Place.MAILBOX, ALICE, domain, AccountId(2))
    assert destination_of(ROUTED) == Destination(TenantId(1), Place.ROUTED, ALICE, domain)
    assert destination_of(REMOTE) == Destination(TenantId(1), Place.FORWARDED, ALICE, domain)
    role = MailboxTarget(TenantId(1), AccountId(2), ForwardPath(EmailAddress.parse("Abuse+x@here.test")))
    assert destination_of(role).role


def test_only_mailboxes_have_a_junk_folder() -> None:
    junk = [placed(each, Action.JUNK, b"X: y\r\n") for each in (MAILBOX, ROUTED, REMOTE)]
    assert [each.stamp for each in junk] == [b"X: y\r\n"] * 3
    assert isinstance(junk[0], MailboxTarget) and junk[0].mailbox == JUNK
    tagged = placed(junk[0], Action.TAG, b"")
    assert isinstance(tagged, MailboxTarget) and tagged.mailbox == ""


def test_targets_are_sorted_as_they_were() -> None:
    to = Targets((MAILBOX,), (REMOTE,), (ROUTED,))
    assert only(every_target(to)) == to
    assert only((ROUTED,)) == Targets((), (), (ROUTED,))


FACTS = Facts(
    ClientFacts("192.0.2.1", "mx.far.test", "", listings=(Listing("bl.test", ("127.0.0.2",)),)),
    FAR,
    (FAR,),
    AuthenticationFacts(
        Authors(("far@far.test",), ("far.test",), 1),
        SpfResult(Spf.SOFTFAIL, "far.test"),
        (DkimResult(Dkim.FAIL, "x.test"), DkimResult(Dkim.PASS, "far.test")),
        ArcResult(Arc.NONE),
        DmarcResult(Dmarc.PASS, "far.test"),
    ),
    ContentFacts(frozenset({Finding.NO_DATE, Finding.NO_SUBJECT}), (Attachment("secret.exe", "secret.exe"),)),
    MalwareResult("Eicar-Test"),
    RspamdResult("reject", 17.25, 15.0),
    1000,
    {"name": "not known in time"},
)


def test_facts_in_short_words() -> None:
    assert of_facts(FACTS) == {
        "client": "192.0.2.1",
        "hello": "mx.far.test",
        "spf": "softfail",
        "dkim": "pass",
        "dmarc": "pass",
        "arc": "none",
        "listed": "bl.test",
        "form": "no-date, no-subject",
        "attachments": "1",
        "malware": "Eicar-Test",
        "rspamd": "reject 17.2",
        "unknown": "name: not known in time",
    }


def test_a_verdict_in_short_words() -> None:
    evidence = (Evidence("spf-fail", 0.7, "x"), Evidence("reputation-domain", -1.25, "y"))
    verdict = Verdict(Action.JUNK, Reason.SPAM, "It looks like spam.", "With less.", 7.44, evidence)
    assert of_verdict(verdict) == {
        "verdict": "junk",
        "reason": "spam",
        "why": "It looks like spam.",
        "otherwise": "With less.",
        "score": "7.4",
        "evidence": "spf-fail +0.7, reputation-domain -1.2",
    }


@given(st.sampled_from(Reason), st.sampled_from([Action.REJECT, Action.DEFER]), st.text(max_size=1000))
def test_a_refusal_is_one_line_that_fits(reason: Reason, action: Action, sentence: str) -> None:
    """RFC 5321 §4.5.3.1.5."""
    reply = refusal(Verdict(action, reason, sentence, "", 9.0))
    assert reply.temporary is (action is Action.DEFER)
    line = reply.encode()
    assert line.isascii() and len(line) <= 512 and line.count(b"\r\n") == 1 and b"\n" not in line[:-2]


@pytest.mark.parametrize(
    ("reason", "sentence", "secret"),
    [
        (Reason.SPAM, "It looks like spam: its score is 7.4, and from 4.0 on a message is spam.", "7.4"),
        (Reason.MALWARE, "It contains malware: Win.Trojan.Agent-1.", "Trojan"),
        (Reason.DENIED, "Its sender is on the recipient's deny list: @far.test.", "recipient"),
        (Reason.SCANNER, "Rspamd takes it for spam: 17.2 of 15.0 points.", "Rspamd"),
    ],
)
def test_what_helps_to_get_through_is_not_told(reason: Reason, sentence: str, secret: str) -> None:
    assert secret not in refusal(Verdict(Action.REJECT, reason, sentence)).text
