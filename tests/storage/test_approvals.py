"""Requests that need two persons: who may answer, what is used up, what ends, and what is recorded."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from directory_premises import DirectoryPremises

from storage.directory.approvals import DAYS, OPEN_MAX, REASON_MAX, Approvals, ApprovalState, Kind
from storage.errors import Conflict, InvalidInput, LimitReached, NotFound, NotPermitted
from storage.values import AccountId, TenantId

DAY = 86_400
SCOPE = {"account": "ann@acme.test", "message": "INBOX 5"}
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def premises(tmp_path: Path) -> Iterator[DirectoryPremises]:
    premises = DirectoryPremises(tmp_path)
    yield premises
    premises.close()


@pytest.fixture
def approvals(premises: DirectoryPremises) -> Approvals:
    return premises.control.approvals


def approved(approvals: Approvals, scope: dict[str, str] | None = None) -> str:
    asked = approvals.ask(Kind.BODY_ACCESS, scope or SCOPE, "a mailbox on fire", "anna")
    approvals.decide(asked.approval_id, "bert", True)
    return asked.approval_id


def test_one_asks_another_approves_and_the_first_uses_it_once(
    premises: DirectoryPremises, approvals: Approvals
) -> None:
    with pytest.raises(NotPermitted, match="request ask body_access --message 'a b/1' --reason 'say why here'"):
        approvals.use(Kind.BODY_ACCESS, SCOPE, "anna", ("--message", "a b/1"))
    asked = approvals.ask(Kind.BODY_ACCESS, SCOPE, " a mailbox on fire ", "anna", unix="ops")
    assert (asked.state, asked.expires) == (ApprovalState.WAITING, asked.asked + DAYS * DAY)
    assert approvals.waiting() == [asked]
    assert (asked.scope, asked.reason, asked.asked_by, asked.asked_as) == (SCOPE, "a mailbox on fire", "anna", "ops")
    with pytest.raises(NotPermitted, match=f"{asked.approval_id} waits for a second person"):
        approvals.use(Kind.BODY_ACCESS, SCOPE, "anna")
    decided = approvals.decide(asked.approval_id, "bert", True)
    assert (decided.state, decided.decided_by) == (ApprovalState.APPROVED, "bert")
    used = approvals.use(Kind.BODY_ACCESS, dict(reversed(SCOPE.items())), "anna")
    assert (used.approval_id, used.state, used.used) == (asked.approval_id, ApprovalState.USED, premises.clock.now())
    with pytest.raises(NotPermitted):
        approvals.use(Kind.BODY_ACCESS, SCOPE, "anna")
    assert [(r.action, r.actor) for r in premises.audit.read()] == [
        ("approval.ask", "anna"),
        ("approval.approve", "bert"),
        ("approval.use", "anna"),
    ]


@pytest.mark.parametrize(
    ("kind", "scope", "by"),
    [
        (Kind.DISCLOSURE, SCOPE, "anna"),
        (Kind.BODY_ACCESS, {**SCOPE, "message": "INBOX 6"}, "anna"),
        (Kind.BODY_ACCESS, {"account": SCOPE["account"]}, "anna"),
        (Kind.BODY_ACCESS, {**SCOPE, "more": ""}, "anna"),
        (Kind.BODY_ACCESS, SCOPE, "bert"),
        (Kind.BODY_ACCESS, SCOPE, "eve"),
    ],
)
def test_it_is_for_exactly_what_was_asked(approvals: Approvals, kind: Kind, scope: dict[str, str], by: str) -> None:
    number = approved(approvals)
    with pytest.raises(NotPermitted):
        approvals.use(kind, scope, by)
    assert approvals.find(number).state is ApprovalState.APPROVED


@pytest.mark.parametrize(
    ("asker", "decider", "same"),
    [
        (("anna", "anna"), ("anna", "anna"), True),
        (("anna", "ops"), ("anna", "other"), True),  # signed in twice, from two Unix users
        (("root", "root"), ("anna", "root"), True),  # did not sign in, then did
        (("anna", "root"), ("root", "root"), True),
        (("anna", "root"), ("bert", "root"), False),  # both signed in, each with factors of his own
        (("anna", "anna"), ("bert", "bert"), False),
    ],
)
def test_the_same_person_cannot_answer(
    approvals: Approvals, asker: tuple[str, str], decider: tuple[str, str], same: bool
) -> None:
    asked = approvals.ask(Kind.HOLD, SCOPE, "why", asker[0], unix=asker[1])
    if same:
        for answer in (True, False):
            with pytest.raises(NotPermitted, match="another person"):
                approvals.decide(asked.approval_id, decider[0], answer, unix=decider[1])
        assert approvals.find(asked.approval_id).state is ApprovalState.WAITING
    else:
        assert approvals.decide(asked.approval_id, decider[0], True, unix=decider[1]).state is ApprovalState.APPROVED


@pytest.mark.parametrize("decided", [False, True])
def test_who_asked_withdraws_it(premises: DirectoryPremises, approvals: Approvals, decided: bool) -> None:
    number = approved(approvals) if decided else approvals.ask(Kind.BODY_ACCESS, SCOPE, "why", "anna").approval_id
    for other in ("bert", "eve"):
        with pytest.raises(NotPermitted, match="Only who asked"):
            approvals.withdraw(number, other)
    assert approvals.withdraw(number, "anna", unix="ops").state is ApprovalState.WITHDRAWN
    with pytest.raises(Conflict, match="withdrawn"):
        approvals.withdraw(number, "anna")
    with pytest.raises(Conflict, match="withdrawn"):
        approvals.decide(number, "bert", True)
    with pytest.raises(NotPermitted):
        approvals.use(Kind.BODY_ACCESS, SCOPE, "anna")
    assert [(r.action, r.actor) for r in premises.audit.read()][-1] == ("approval.withdraw", "anna")


def test_what_was_answered_is_not_answered_again(approvals: Approvals) -> None:
    asked = approvals.ask(Kind.HOLD, SCOPE, "why", "anna")
    assert approvals.decide(asked.approval_id, "bert", False).state is ApprovalState.REFUSED
    with pytest.raises(Conflict, match="refused"):
        approvals.decide(asked.approval_id, "carl", True)
    with pytest.raises(NotPermitted):
        approvals.use(Kind.HOLD, SCOPE, "anna")
    for number in ("0000", "", "\udc80"):
        with pytest.raises(NotFound):
            approvals.decide(number, "bert", True)


def test_it_expires_waiting_and_approved(premises: DirectoryPremises, approvals: Approvals) -> None:
    number = approved(approvals)
    waiting = approvals.ask(Kind.HOLD, SCOPE, "why", "anna")
    premises.clock.advance(DAYS * DAY)
    assert {row.state for row in approvals.all()} == {ApprovalState.EXPIRED}
    assert approvals.waiting() == []
    with pytest.raises(NotPermitted):
        approvals.use(Kind.BODY_ACCESS, SCOPE, "anna")
    with pytest.raises(Conflict, match="expired"):
        approvals.decide(waiting.approval_id, "bert", True)
    assert approvals.find(number).state is ApprovalState.EXPIRED


@pytest.mark.parametrize("reason", ["", "   ", "x" * (REASON_MAX + 1)])
def test_a_reason_is_needed(approvals: Approvals, reason: str) -> None:
    with pytest.raises(InvalidInput):
        approvals.ask(Kind.HOLD, SCOPE, reason, "anna")
    with pytest.raises(InvalidInput):
        approvals.ask(Kind.HOLD, {"account": "x" * 5000}, "why", "anna")
    assert approvals.all() == []


def test_open_requests_are_bounded(
    premises: DirectoryPremises, approvals: Approvals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.directory.approvals.OPEN_MAX", 3)
    assert OPEN_MAX > 3
    first, *_ = [approvals.ask(Kind.HOLD, SCOPE, "why", "anna") for _ in range(3)]
    with pytest.raises(LimitReached):
        approvals.ask(Kind.HOLD, SCOPE, "why", "anna")
    approvals.decide(first.approval_id, "bert", False)
    approvals.ask(Kind.HOLD, SCOPE, "why", "anna")


def test_scope_and_reason_end_with_the_account_and_the_tenant(
    premises: DirectoryPremises, approvals: Approvals
) -> None:
    tenant, account = TenantId(1), AccountId(2)
    premises.make_tenant(tenant)
    premises.make_account(tenant, account)
    of_account = approvals.ask(Kind.BODY_ACCESS, SCOPE, "a mailbox on fire", "anna", tenant, account)
    of_tenant = approvals.ask(Kind.HOLD, SCOPE, "an inquiry", "anna", tenant)
    assert approvals.waiting() == sorted([of_account, of_tenant], key=lambda row: row.approval_id)
    stored = b"".join(path.read_bytes() for path in premises.data.glob("control.db*"))
    assert b"mailbox on fire" not in stored
    premises.keys.destroy_account_key(tenant, account)
    gone = approvals.find(of_account.approval_id)
    assert (gone.scope, gone.reason, gone.tenant_id, gone.account_id) == (None, None, tenant, account)
    assert approvals.find(of_tenant.approval_id) == of_tenant


def test_nothing_is_approved_where_it_cannot_be_recorded(premises: DirectoryPremises) -> None:
    with pytest.raises(NotPermitted, match="recorded"):
        Approvals(premises.control._database, premises.keys, premises.clock).ask(Kind.HOLD, SCOPE, "why", "anna")
    assert premises.control.approvals.all() == []


def _use(data: str, barrier: Barrier, results: multiprocessing.Queue[str]) -> None:
    premises = DirectoryPremises(Path(data))
    barrier.wait()
    try:
        results.put(premises.control.approvals.use(Kind.BODY_ACCESS, SCOPE, "anna").state.value)
    except NotPermitted:
        results.put("refused")
    finally:
        premises.close()


def test_two_processes_use_it_once(premises: DirectoryPremises, approvals: Approvals) -> None:
    number = approved(approvals)
    barrier, results = SPAWN.Barrier(2), SPAWN.Queue()
    processes = [SPAWN.Process(target=_use, args=(str(premises.data), barrier, results)) for _ in range(2)]
    for process in processes:
        process.start()
    outcomes = sorted(results.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()
    assert outcomes == ["refused", "used"]
    assert approvals.find(number).state is ApprovalState.USED
