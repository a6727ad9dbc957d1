"""A tenant's rules and lists of senders: patterns, which entry counts, what other processes see, limits, removal."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path

import pytest
from directory_premises import DirectoryPremises, Town, new_town
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import CleanmailError, Conflict, InvalidInput, LimitReached, NotFound
from storage.filter import rules as filter_rules
from storage.filter.patterns import as_network, parse_pattern, patterns_of
from storage.filter.rules import (
    WHOLE_TENANT,
    FilterRules,
    ListKind,
    RuleScope,
    of_account,
    of_domain,
)
from storage.values import AccountId, Domain, EmailAddress

ACME = Domain.parse("acme.test")
ALLOW, DENY = ListKind.ALLOW, ListKind.DENY


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with new_town(tmp_path) as town:
        yield town


@pytest.fixture
def rules(town: Town) -> FilterRules:
    return town.premises.tenant(town.tenant("acme", "acme.test")).filter_rules


def sender(rules: FilterRules, address: str, account: AccountId | None = None) -> list[tuple[str, str, str]]:
    hits = rules.look(ACME, account).matcher.sender(EmailAddress.parse(address))
    return [(hit.entry.scope, hit.entry.pattern, hit.entry.kind.value) for hit in hits]


def client(rules: FilterRules, address: str) -> list[str]:
    return [hit.entry.pattern for hit in rules.look(ACME, None).matcher.client(address)]


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("Ada@Example.ORG", "ada@example.org"),
        (" ada+news@example.org ", "ada+news@example.org"),
        ("@Bücher.example", "@xn--bcher-kva.example"),
        ("@.example.org.", "@.example.org"),
        ("192.0.2.1", "192.0.2.1/32"),
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("::ffff:192.0.2.1", "192.0.2.1/32"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
    ],
)
def test_patterns_have_one_form(text: str, pattern: str) -> None:
    assert parse_pattern(text) == pattern
    assert parse_pattern(pattern) == pattern


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("example.org", "is no address, @domain, @.domain or network"),
        ("", "is no address"),
        ("@", "not a"),
        ("@localhost", "not a full domain name"),
        ("a b@example.org", "not an e-mail address"),
        ("192.0.2.1/24", "is no address"),
        ("0.0.0.0/0", "too large for a list; /8 is the largest"),
        ("::/0", "too large for a list; /16 is the largest"),
    ],
)
def test_patterns_that_name_nobody_or_everybody(text: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        parse_pattern(text)


@given(st.text(max_size=100))
def test_any_text_is_a_pattern_or_a_mistake(text: str) -> None:
    try:
        pattern = parse_pattern(text)
    except CleanmailError as error:
        assert isinstance(error, InvalidInput)
        return
    assert parse_pattern(pattern) == pattern


def test_what_names_an_address() -> None:
    named = [pattern for pattern, _ in patterns_of(EmailAddress.parse("Ada+x@mail.a.example.org"))]
    assert named == [
        "ada+x@mail.a.example.org",
        "ada@mail.a.example.org",
        "@mail.a.example.org",
        "@.a.example.org",
        "@.example.org",
    ]
    ranks = [rank for _, rank in patterns_of(EmailAddress.parse("Ada+x@mail.a.example.org"))]
    assert ranks == sorted(ranks, reverse=True)


def test_without_rules_and_lists_a_look_is_empty(rules: FilterRules) -> None:
    look = rules.look(ACME, AccountId(1))
    assert not any(look.layers) and look.matcher.client("192.0.2.1") == [] and sender(rules, "a@b.test") == []


def test_rules_are_layers_from_the_tenant_to_the_account(rules: FilterRules) -> None:
    ann = AccountId(7)
    rules.set_rule(WHOLE_TENANT, "junk_at", "5")
    rules.set_rule(WHOLE_TENANT, "junk_at", "6")
    rules.set_rule(of_domain(ACME), "spam_here", "tag")
    rules.set_rule(of_domain(Domain.parse("other.test")), "spam_here", "deliver")
    rules.set_rule(of_account(ann), "learn", "off")
    assert rules.look(ACME, ann).layers == ((("junk_at", "6"),), (("spam_here", "tag"),), (("learn", "off"),))
    assert rules.look(ACME, None).layers == ((("junk_at", "6"),), (("spam_here", "tag"),))
    rules.set_rule(WHOLE_TENANT, "junk_at", None)
    assert rules.look(ACME, None).layers == ((), (("spam_here", "tag"),))
    assert rules.rules(of_account(ann)) == {"learn": "off"}
    assert ("domain:other.test", "spam_here", "deliver") in rules.all_rules()


def test_the_most_specific_entry_comes_first_then_the_nearer_scope(rules: FilterRules) -> None:
    ann = AccountId(7)
    for scope, pattern, kind in [
        (WHOLE_TENANT, "@example.org", DENY),
        (of_domain(ACME), "@example.org", ALLOW),
        (of_account(ann), "@.example.org", DENY),
        (of_account(ann), "@example.org", DENY),
        (WHOLE_TENANT, "ada@example.org", ALLOW),
        (WHOLE_TENANT, "@.org.example", ALLOW),
    ]:
        rules.add(scope, pattern, kind)
    assert sender(rules, "Ada+x@example.org", ann) == [
        ("", "ada@example.org", "allow"),
        ("account:7", "@example.org", "deny"),
        ("domain:acme.test", "@example.org", "allow"),
        ("", "@example.org", "deny"),
    ]
    assert sender(rules, "x@sub.example.org", ann) == [("account:7", "@.example.org", "deny")]
    assert sender(rules, "x@sub.example.org") == []


def test_networks_the_longest_prefix_first(rules: FilterRules) -> None:
    for network in ("192.0.0.0/16", "192.0.2.0/24", "192.0.2.7", "2001:db8::/32", "2001:db8:1::/48"):
        rules.add(WHOLE_TENANT, network, DENY)
    assert client(rules, "192.0.2.7") == ["192.0.2.7/32", "192.0.2.0/24", "192.0.0.0/16"]
    assert client(rules, "::ffff:192.0.2.8") == ["192.0.2.0/24", "192.0.0.0/16"]
    assert client(rules, "2001:db8:1::1") == ["2001:db8:1::/48", "2001:db8::/32"]
    assert client(rules, "198.51.100.1") == client(rules, "no address") == client(rules, "") == []


def test_lists_are_kept_changed_and_shown(rules: FilterRules) -> None:
    first = rules.add(WHOLE_TENANT, "@Example.org", ALLOW)
    again = rules.add(WHOLE_TENANT, "@example.org", ALLOW, unproven=True)
    assert (again.unproven, again.created, again.pattern) == (True, first.created, "@example.org")
    with pytest.raises(Conflict, match="is on the allow list"):
        rules.add(WHOLE_TENANT, "@example.org", DENY)
    rules.add(of_domain(ACME), "@example.org", DENY)
    with pytest.raises(InvalidInput, match="needs no proof"):
        rules.add(of_domain(ACME), "@example.net", DENY, unproven=True)
    assert [entry.scope for entry in rules.entries()] == ["", "domain:acme.test"]
    assert rules.entries(WHOLE_TENANT) == [again]
    with pytest.raises(NotFound, match="not on this deny list"):
        rules.remove(WHOLE_TENANT, "@example.org", DENY)
    assert rules.remove(WHOLE_TENANT, "@EXAMPLE.org", ALLOW) == "@example.org"
    with pytest.raises(NotFound):
        rules.remove(WHOLE_TENANT, "@example.org", ALLOW)


def test_an_entry_of_a_later_version_stops_no_mail(rules: FilterRules) -> None:
    rules.add(WHOLE_TENANT, "@example.org", DENY)
    later = StrEnum("later", ["WATCH"])
    rules.add(WHOLE_TENANT, "@watched.test", later["WATCH"])  # type: ignore[arg-type]
    assert sender(rules, "a@watched.test") == []
    assert [hit[1] for hit in sender(rules, "a@example.org")] == ["@example.org"]
    assert [entry.pattern for entry in rules.entries()] == ["@example.org"]
    with pytest.raises(Conflict, match="later version"):
        rules.add(WHOLE_TENANT, "@watched.test", DENY)


def test_what_would_be_refused_is_known_before(rules: FilterRules, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filter_rules, "ENTRIES_MAX", 1)
    rules.check(WHOLE_TENANT, "@example.org", ALLOW, unproven=True)
    assert rules.entries() == []
    [entry] = [rules.add(WHOLE_TENANT, "@example.org", ALLOW)]
    rules.check(WHOLE_TENANT, "@EXAMPLE.org", ALLOW, unproven=True)
    for error, pattern, kind, unproven in (
        (Conflict, "@example.org", DENY, False),
        (LimitReached, "@example.net", ALLOW, False),
        (InvalidInput, "example.net", ALLOW, False),
        (InvalidInput, "@example.net", DENY, True),
    ):
        for refused in (rules.check, rules.add):
            with pytest.raises(error):
                refused(WHOLE_TENANT, pattern, kind, unproven=unproven)
    assert rules.entries() == [entry]


def test_a_scope_holds_so_many_and_no_more(rules: FilterRules, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filter_rules, "ENTRIES_MAX", 3)
    for number in range(3):
        rules.add(WHOLE_TENANT, f"a{number}@example.org", DENY)
    with pytest.raises(LimitReached):
        rules.add(WHOLE_TENANT, "a3@example.org", ALLOW)
    rules.add(WHOLE_TENANT, "a0@example.org", DENY)
    rules.add(of_domain(ACME), "a3@example.org", ALLOW)


def test_what_is_kept_in_memory_is_bounded(rules: FilterRules, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filter_rules, "_KEPT", 20)
    for number in range(30):
        rules.add(of_account(AccountId(number)), f"a{number}@example.org", DENY)
        rules.add(of_account(AccountId(number)), "@example.net", DENY)
    for number in [*range(30), 3, 29]:
        assert sender(rules, f"a{number}@example.org", AccountId(number))
        assert rules._weight <= 20


def test_other_processes_see_a_change_at_their_next_look(town: Town) -> None:
    tenant_id = town.tenant("acme", "acme.test")
    rules = town.premises.tenant(tenant_id).filter_rules
    premises = DirectoryPremises(town.premises.data)
    other = premises.tenant(tenant_id).filter_rules
    assert sender(other, "a@example.org") == []
    rules.add(WHOLE_TENANT, "@example.org", DENY)
    assert sender(other, "a@example.org") == [("", "@example.org", "deny")]
    rules.remove(WHOLE_TENANT, "@example.org", DENY)
    assert sender(other, "a@example.org") == []
    premises.close()


def test_an_accounts_rules_go_with_it(town: Town) -> None:
    tenant_id = town.tenant("acme", "acme.test")
    account_id = town.account(tenant_id, "ann@acme.test").account_id
    rules = town.premises.tenant(tenant_id).filter_rules
    rules.add(of_account(account_id), "@example.org", DENY)
    rules.add(WHOLE_TENANT, "@example.net", DENY)
    rules.set_rule(of_account(account_id), "learn", "off")
    assert rules.look(ACME, account_id).layers[2]
    town.premises.end_account(tenant_id, account_id)
    assert [entry.pattern for entry in rules.entries()] == ["@example.net"] and rules.all_rules() == []
    assert not any(rules.look(ACME, account_id).layers)


_names = st.lists(st.sampled_from(["a", "b", "example", "mail"]), min_size=2, max_size=4).map(".".join)
_addresses = st.builds(lambda local, name: f"{local}@{name}", st.sampled_from(["ada", "ada+x", "bob"]), _names)
_patterns = st.one_of(_addresses, _names.map("@{}".format), _names.map("@.{}".format))


def _names_it(pattern: str, address: EmailAddress) -> bool:
    """What patterns mean, said again in the plainest way."""
    if pattern.startswith("@."):
        return address.domain.name.endswith(pattern[1:])
    if pattern.startswith("@"):
        return address.domain.name == pattern[1:]
    return pattern in (address.key, address.base.key)


@given(st.lists(_patterns, max_size=8, unique=True), _addresses)
def test_the_compiled_form_finds_what_the_patterns_name(patterns: list[str], text: str) -> None:
    address = EmailAddress.parse(text)
    entries = [filter_rules.ListEntry(RuleScope(""), parse_pattern(pattern), DENY) for pattern in patterns]
    hits = filter_rules.Matcher([filter_rules.Scope((), entries)]).sender(address)
    assert {hit.entry.pattern for hit in hits} == {each.pattern for each in entries if _names_it(each.pattern, address)}


@given(
    st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(8, 32)), max_size=10),
    st.integers(0, 2**32 - 1),
)
def test_networks_are_found_as_ipaddress_finds_them(networks: list[tuple[int, int]], number: int) -> None:
    texts = {f"{ip_address(value >> (32 - length) << (32 - length))}/{length}" for value, length in networks}
    entries = [filter_rules.ListEntry(RuleScope(""), parse_pattern(text), DENY) for text in texts]
    hits = filter_rules.Matcher([filter_rules.Scope((), entries)]).client(str(ip_address(number)))
    within = {text for text in texts if ip_address(number) in (as_network(text) or ())}
    assert {hit.entry.pattern for hit in hits} == within
