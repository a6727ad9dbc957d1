"""Which entry of allow and deny lists counts for a message, and what has to be proven for it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from policy_cases import PASSES, authentication, facts

from gateway.facts.values import Facts
from gateway.policy.lists import ListMatch, early_match, list_match
from storage.filter.rules import WHOLE_TENANT, ListEntry, ListKind, Matcher, Scope, of_account, of_domain
from storage.values import AccountId, Domain, EmailAddress

ALLOW, DENY = ListKind.ALLOW, ListKind.DENY
ACME, ANN = of_domain(Domain.parse("acme.test")), of_account(AccountId(7))
PROVEN = facts()
FORGED = facts(path="x@evil.test", auth=authentication(spf_domain="evil.test"))


def matcher(*entries: ListEntry) -> Matcher:
    return Matcher([Scope((), [each for each in entries if each.scope == s]) for s in (WHOLE_TENANT, ACME, ANN)])


def entry(pattern: str, kind: ListKind, scope: str = "", *, unproven: bool = False) -> ListEntry:
    return ListEntry({"": WHOLE_TENANT, "domain": ACME, "account": ANN}[scope], pattern, kind, unproven)


@pytest.mark.parametrize(
    ("about", "entries", "pattern", "allows"),
    [
        (PROVEN, [], "", None),
        (PROVEN, [entry("@example.net", ALLOW)], "", None),
        (PROVEN, [entry("@example.org", ALLOW)], "@example.org", True),
        (FORGED, [entry("@example.org", ALLOW)], "@example.org", False),
        (FORGED, [entry("@example.org", ALLOW, unproven=True)], "@example.org", True),
        (FORGED, [entry("@example.org", DENY)], "@example.org", False),
        (FORGED, [entry("@evil.test", ALLOW)], "@evil.test", True),  # the envelope's sender is proven by SPF
        (replace(FORGED, authentication=authentication(spf="fail")), [entry("@evil.test", ALLOW)], "@evil.test", False),
        (FORGED, [entry("192.0.2.0/24", ALLOW)], "192.0.2.0/24", True),
        (FORGED, [entry("192.0.2.0/24", DENY), entry("@example.org", ALLOW)], "192.0.2.0/24", False),
        (PROVEN, [entry("192.0.2.0/24", DENY), entry("@example.org", ALLOW)], "@example.org", True),
        (PROVEN, [entry("ada@example.org", DENY), entry("@example.org", ALLOW)], "ada@example.org", False),
        (FORGED, [entry("ada@example.org", ALLOW), entry("@evil.test", DENY)], "@evil.test", False),
        (PROVEN, [entry("@example.org", ALLOW), entry("@example.org", DENY, "domain")], "@example.org", False),
        (
            PROVEN,
            [entry("@example.org", DENY, "domain"), entry("@example.org", ALLOW, "account")],
            "@example.org",
            True,
        ),
        (
            replace(PROVEN, reverse_path=EmailAddress.parse("b@bulk.test")),
            [entry("@example.org", ALLOW), entry("@bulk.test", DENY)],
            "@bulk.test",
            False,
        ),
    ],
)
def test_the_most_specific_that_may(about: Facts, entries: list[ListEntry], pattern: str, allows: bool | None) -> None:
    match = list_match(matcher(*entries), about)
    assert (match.pattern if match else "") == pattern
    assert (match and match.allows) == allows


def test_a_forwarders_spf_proves_no_author() -> None:
    auth = authentication("acme.test", "pass", dmarc="pass", aligned=[("spf", "acme.test")])
    forwarded = facts(author="boss@acme.test", path="SRS0=abcdefgh=ab=evil.test=x@acme.test", auth=auth)
    match = list_match(matcher(entry("boss@acme.test", ALLOW)), forwarded)
    assert match == ListMatch(ALLOW, "boss@acme.test", "", proven=False)
    signed = replace(
        forwarded, authentication=authentication("acme.test", **{**PASSES, "aligned": [("dkim", "acme.test")]})
    )
    assert list_match(matcher(entry("boss@acme.test", ALLOW)), signed) == ListMatch(ALLOW, "boss@acme.test")


@pytest.mark.parametrize("path", ["SRS0=abcdefgh=ab=evil.test=x@example.org", "ada+SRS=a=b=evil.test=x@example.org"])
def test_a_forwarders_path_is_not_the_senders(path: str) -> None:
    """SPF passes for whatever he forwards."""
    forwarded = facts(author="x@evil.test", path=path, auth=authentication("evil.test", spf_domain="example.org"))
    for pattern in ("@example.org", "ada@example.org"):
        match = list_match(matcher(entry(pattern, ALLOW)), forwarded)
        assert match is None or not match.allows
    assert list_match(matcher(entry("@example.org", ALLOW, unproven=True)), forwarded) == ListMatch(
        ALLOW, "@example.org"
    )


def test_an_author_whose_address_is_none_of_ours_is_denied_by_domain() -> None:
    odd = replace(FORGED, authors=(), reverse_path=None)  # "a b"@example.org, which no account could have
    assert odd.authentication.authors.domains == ("example.org",)
    assert list_match(matcher(entry("@example.org", DENY)), odd) == ListMatch(DENY, "@example.org")
    assert list_match(matcher(entry("@.org", DENY)), odd) is None
    assert list_match(matcher(entry("ada@example.org", DENY)), odd) is None


def test_all_deny_entries_that_would_have_to_go_are_named() -> None:
    lists = matcher(
        entry("ada@example.org", DENY), entry("@example.org", DENY, "domain"), entry("192.0.2.7/32", DENY, "account")
    )
    match = list_match(lists, PROVEN)
    assert match is not None and match.patterns == ("ada@example.org", "@example.org", "192.0.2.7/32")
    lists = matcher(entry("ada@example.org", DENY), entry("@example.org", ALLOW), entry("192.0.2.7/32", DENY))
    match = list_match(lists, PROVEN)
    assert match is not None and match.patterns == ("ada@example.org",)  # then it would be allowed


@pytest.mark.parametrize(
    ("entries", "path", "denies"),
    [
        ([entry("@example.org", DENY)], "ada@example.org", True),
        ([entry("@.org", DENY)], "ada@example.org", None),
        ([entry("192.0.2.7/32", DENY)], None, True),
        ([entry("192.0.2.7/32", DENY), entry("@example.org", ALLOW)], "ada@example.org", False),  # may prove himself
        ([entry("ada@example.org", DENY), entry("@example.org", ALLOW)], "ada@example.org", True),
        ([entry("@example.org", DENY)], None, None),
    ],
)
def test_before_the_content(entries: list[ListEntry], path: str | None, denies: bool | None) -> None:
    match = early_match(matcher(*entries), PROVEN.client, EmailAddress.parse(path) if path else None)
    assert (match and match.denies) == denies
