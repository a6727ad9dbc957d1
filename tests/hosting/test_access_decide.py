"""Who may do what: every role with every action, and what is whose."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hosting import config
from hosting.access.actions import COMMANDS, FOR_EVERYBODY, ROLES, Action, action_of
from hosting.access.decide import may, permits, roles_in_force
from hosting.access.roles import PROVIDERS, StaffRole, Subject, Who, parse_roles
from storage.errors import InvalidInput, NotPermitted
from storage.values import AccountId, TenantId

# Written apart from the table that is tested: o s r a b t u, in the order of StaffRole; a dot is a no.
GRID = """
own_session osrabtu
offline osrabtu
machine o......
operate o......
tenant_see os..bt.
tenant_change o......
tenant_settings o....t.
tenant_end o......
ending_see os.ab..
domain_see os...t.
domain_change o......
account_see os...tu
account_change o....t.
account_freeze os...t.
account_credentials o....tu
account_settings o....tu
account_end o....t.
alias_change o....t.
mail_in o....tu
mail_out o....tu
message_read os.....
queue_see os.....
queue_change o......
quarantine_see os...tu
quarantine_change o....tu
withheld_texts ..r..tu
review ..r....
filter_see os...tu
filter_change o....tu
filter_explain os.....
filter_model o......
trace_see os.....
access_see os.a...
audit_see o..a...
journal_see o..a.tu
transcripts_read ...a...
agreement_see o..a...
agreement_change o......
staff_see o..a...
staff_change o......
request_ask os.....
request_see os.a...
request_decide o..a...
contract_see os..bt.
contract_change o...b..
hold_see o..a...
hold_change o......
certificate_see o..ab..
privacy_see osrab..
retention_see o..a...
retention_run o......
person_see o....t.
person_change o......
disclosure_see o..a...
disclosure_change o......
backup o......
restore o......
keys_see o......
keys_change o......
"""
TABLE = dict(line.split() for line in GRID.split("\n") if line)
MINE = Subject(TenantId(1), AccountId(5))
OTHERS = [
    Subject(),
    Subject(TenantId(2)),
    Subject(TenantId(2), AccountId(5)),
    Subject(None, AccountId(5)),
]


def who(role: StaffRole) -> Who:
    return Who(
        "anna",
        frozenset({role}),
        TenantId(1) if role not in PROVIDERS else None,
        AccountId(5) if role is StaffRole.USER else None,
        agreed=True,
        machine=True,
    )


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("role", StaffRole)
def test_every_role_with_every_action(role: StaffRole, action: Action) -> None:
    letter = TABLE[action][list(StaffRole).index(role)]
    for subject in (None, MINE):
        assert permits(who(role), action, subject) is (letter != "."), (role, action, subject)
    for subject in OTHERS:
        assert permits(who(role), action, subject) is (
            letter != "." and (role in PROVIDERS or action in FOR_EVERYBODY)
        ), (role, action, subject)


def test_the_grid_is_whole() -> None:
    assert list(TABLE) == [action.value for action in Action] == [action.value for action in ROLES]
    assert set(COMMANDS.values()) <= set(ROLES)


def test_a_user_is_no_administrator_of_his_tenant() -> None:
    user = who(StaffRole.USER)
    assert permits(user, Action.ACCOUNT_SEE, MINE)
    assert not permits(user, Action.ACCOUNT_SEE, Subject(TenantId(1)))
    assert not permits(user, Action.ACCOUNT_SEE, Subject(TenantId(1), AccountId(6)))
    assert permits(who(StaffRole.TENANT_ADMINISTRATOR), Action.ACCOUNT_SEE, Subject(TenantId(1), AccountId(6)))
    nobodys = replace(who(StaffRole.TENANT_ADMINISTRATOR), tenant_id=None)
    assert not permits(nobodys, Action.ACCOUNT_SEE, Subject())


@pytest.mark.parametrize(
    ("given", "in_force"),
    [
        ({"agreed": True}, {StaffRole.REVIEWER, StaffRole.AUDITOR}),
        ({"agreed": False}, {StaffRole.AUDITOR}),
        ({"agreed": True, "server": True}, set()),
        ({"agreed": True, "server": True, "named_auditor": True}, {StaffRole.AUDITOR}),
    ],
)
def test_reviewers_and_auditors_are_known_people(given: dict[str, bool], in_force: set[StaffRole]) -> None:
    anna = Who("anna", frozenset({StaffRole.REVIEWER, StaffRole.AUDITOR}), **given)  # type: ignore[arg-type]
    assert roles_in_force(anna) == in_force


def test_who_has_to_sign_in_does_nothing_before() -> None:
    operator = Who("anna", frozenset({StaffRole.OPERATOR}), must_sign_in=True, machine=True)
    for action in Action:
        assert permits(operator, action) is (action in FOR_EVERYBODY)
    with pytest.raises(NotPermitted, match="cleanmail sign-in"):
        may(operator, Action.ACCOUNT_SEE)
    root = replace(operator, root=True)
    assert [action for action in Action if permits(root, action) is not permits(operator, action)] == [
        Action.MACHINE,
        Action.STAFF_CHANGE,
    ]
    assert not permits(replace(root, signed_in=True, must_sign_in=False, roles=frozenset()), Action.STAFF_CHANGE)


def test_the_machine_is_for_root_its_own_user_and_operators_who_can_read_its_keys() -> None:
    nobody, operator = Who("anna", frozenset()), Who("olga", frozenset({StaffRole.OPERATOR}))
    for who in (nobody, operator, replace(nobody, root=True), replace(nobody, server=True)):
        assert not permits(who, Action.MACHINE)
        assert permits(replace(who, machine=True), Action.MACHINE) is (who is not nobody)
        assert permits(replace(who, machine=True), Action.OPERATE) is (who is operator)


def test_a_command_that_nobody_listed_is_an_operators() -> None:
    assert action_of("no such command") is Action.OPERATE
    assert action_of("tenant list") is Action.TENANT_SEE


@pytest.mark.parametrize("names", [[], ["king"], ["user"], ["operator", "king"], ["tenant_administrator", "support"]])
def test_wrong_roles(names: list[str]) -> None:
    with pytest.raises(InvalidInput):
        parse_roles(names)


def test_roles() -> None:
    assert parse_roles(["support", "billing", "support"]) == {StaffRole.SUPPORT, StaffRole.BILLING}


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('[staff]\nunix = {anna = "king"}\n', "there is no role 'king'"),
        ('[staff]\nunix = {anna = ""}\n', "at least one role"),
        ('[staff]\nunix = {anna = "tenant_administrator"}\n', "need accounts"),
        ("[staff]\nunix = {anna = 5}\n", "must be a table of texts"),
        ('[staff]\nunix = "anna"\n', "must be a table of texts"),
        ('[server]\nuser = "mail"\n[staff.unix]\nmail = "reviewer"\n', "no auditors or reviewers"),
        ('[server]\nuser = "mail"\n[staff.unix]\nmail = "operator auditor"\n', "no auditors or reviewers"),
        ("[staff]\napproval_days = 0\n", "at least 1"),
    ],
)
def test_a_wrong_configuration_is_named_with_its_line(text: str, wrong: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        config.parse(text)
    assert wrong.lower() in caught.value.public.lower()
    assert caught.value.public.startswith(f"cleanmail.toml:{len(text.splitlines())}: ")


def test_unix_users_with_roles() -> None:
    given = config.parse('[staff]\nrequired = true\n[staff.unix]\nanna = "support billing"\n').staff
    assert (given.required, given.unix) == (True, {"anna": "support billing"})
