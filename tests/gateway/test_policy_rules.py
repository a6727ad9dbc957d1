"""Rules of the filter: reading values from text, who may say what, and how layers are merged."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.content_facts import GROUPS
from gateway.policy.rules import DEEPEST, DEFAULT, NAMES, NEVER, Layer, Rules, Scope, merged, parse_rule, text_of
from gateway.policy.verdict import Action
from storage.errors import InvalidInput


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("junk_at", "5", 5.0),
        ("junk_at", " 4.25 ", 4.25),
        ("reject_at", "never", NEVER),
        ("quarantine_at", "Never", NEVER),
        ("quarantine_days", "14", 14),
        ("learn", "off", False),
        ("learn", "Yes", True),
        ("malware", "REJECT", "reject"),
        ("spam_here", "tag", "tag"),
        ("trusted_sealers", "lists.example.org, example.net,", ("lists.example.org", "example.net")),
        ("digest", "recipients", "recipients"),
    ],
)
def test_values_from_text(name: str, text: str, value: object) -> None:
    assert parse_rule(name, text) == value


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("junkat", "5", "There is no rule 'junkat'; did you mean junk_at?"),
        ("zzz", "5", "There is no rule 'zzz'."),
        ("junk_at", "never", "The rule junk_at is a number from 0.1 to 100, not 'never'."),
        ("junk_at", "nan", "The rule junk_at is a number from 0.1 to 100, not 'nan'."),
        ("reject_at", "-1", "The rule reject_at is a number from 0 to 100, or never, not '-1'."),
        ("reject_at", "inf", "The rule reject_at is a number from 0 to 100, or never, not 'inf'."),
        ("quarantine_days", "1.5", "The rule quarantine_days is a whole number from 1 to 365, not '1.5'."),
        ("learn", "maybe", "The rule learn is on or off, not 'maybe'."),
        ("malware", "deliver", "The rule malware is one of quarantine, reject, not 'deliver'."),
        ("spam_routed", "junk", "The rule spam_routed is one of deliver, tag, quarantine, reject, not 'junk'."),
    ],
)
def test_mistakes_are_one_sentence(name: str, text: str, sentence: str) -> None:
    with pytest.raises(InvalidInput) as error:
        parse_rule(name, text)
    assert error.value.public == sentence


@pytest.mark.parametrize(
    ("name", "text", "scope", "sentence"),
    [
        ("malware", "reject", Scope.ACCOUNT, "not for accounts; it is set for tenants and domains"),
        ("attachment_executable", "deliver", Scope.ACCOUNT, "not for accounts"),
        ("trusted_sealers", "example.org", Scope.TENANT, "not for tenants; it is set for the installation"),
        ("spam_here", "reject", Scope.ACCOUNT, "cannot be 'reject' for an account"),
    ],
)
def test_not_everybody_has_a_say_in_everything(name: str, text: str, scope: Scope, sentence: str) -> None:
    parse_rule(name, text, Scope.INSTALLATION)
    with pytest.raises(InvalidInput, match=sentence):
        parse_rule(name, text, scope)


def test_what_an_account_may_say() -> None:
    assert {name for name in NAMES if DEEPEST[name] is Scope.ACCOUNT} == {
        "tag_at",
        "junk_at",
        "quarantine_at",
        "spam_here",
        "learn",
        "digest",
        "greylisting",
    }


def test_every_group_of_attachments_has_a_rule() -> None:
    assert {name.removeprefix("attachment_") for name in NAMES if name.startswith("attachment_")} == set(GROUPS)
    assert DEFAULT.attachment("executable") is Action.QUARANTINE
    assert all(isinstance(DEFAULT.attachment(group), Action) for group in GROUPS)


def test_nearer_layers_win_and_what_means_nothing_is_passed_over() -> None:
    tenant: Layer = (("junk_at", "5"), ("malware", "reject"), ("gone_since", "1"), ("trusted_sealers", "evil.example"))
    domain: Layer = (("junk_at", "6"), ("spam_here", "tag"))
    account: Layer = (("spam_here", "deliver"), ("malware", "quarantine"), ("junk_at", "worse"))
    rules = merged(Rules(quarantine_days=7), (tenant, domain, account))
    assert rules == Rules(quarantine_days=7, junk_at=6.0, malware="reject", spam_here="deliver")


def test_without_layers_nothing_is_made() -> None:
    installation = Rules(junk_at=3.0)
    assert merged(installation, ((), (), ())) is installation
    assert merged(installation, ()) is installation


@pytest.mark.parametrize("name", NAMES)
def test_what_is_shown_can_be_set_again(name: str) -> None:
    value = getattr(DEFAULT, name)
    assert parse_rule(name, text_of(value)) == value


def test_what_people_are_shown() -> None:
    assert [text_of(value) for value in (NEVER, 4.5, 5.0, 30, True, "junk", ("a", "b"))] == [
        "never",
        "4.5",
        "5",
        "30",
        "on",
        "junk",
        "a, b",
    ]


@given(st.sampled_from(NAMES), st.text(max_size=50), st.sampled_from(Scope))
def test_any_text_is_a_value_of_the_rules_type_or_a_sentence(name: str, text: str, scope: Scope) -> None:
    try:
        value = parse_rule(name, text, scope)
    except InvalidInput as error:
        assert error.public.endswith(".") and "\n" not in error.public.replace(text[:40], "")
        return
    assert type(value) is type(getattr(DEFAULT, name))
    assert {each.name: each.metadata for each in fields(Rules)}[name].get("choices", (value,)).count(value)
