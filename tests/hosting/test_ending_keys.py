"""Keys of what ends: leased for the ending alone; and whoever held one goes on no longer than until the next night."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ending_town import EndingTown
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock as Reactor

from hosting.auth.grants import Role
from hosting.auth.holders import Holders
from hosting.auth.messages import error_of
from hosting.auth.requests import Caller, Requests
from hosting.ending import Replacement, following_night, replace_in_turn, replaced_until
from storage.clock import FixedClock
from storage.errors import Gone, NotFound, NotPermitted
from storage.values import AccountId, TenantId

DAY = 86_400


class Auth:
    def __init__(self, town: EndingTown) -> None:
        ends = town.installation.control.endings.is_ordered
        self._requests = Requests(None, town.keys, Holders(), ends=ends)  # type: ignore[arg-type]

    def ask(
        self, operation: str, tenant: TenantId, account: AccountId | None = None, *, role: Role, purpose: str = "mail"
    ) -> Any:
        fields = {"op": operation, "tenant": tenant, "account": account, "purpose": purpose}
        reply = self._requests.answer(Caller(-1, role), fields).result()
        if "ok" not in reply:
            raise error_of(reply)
        return reply["ok"]


@pytest.fixture
def town(tmp_path: Path) -> Iterator[EndingTown]:
    town = EndingTown(tmp_path)
    yield town
    town.close()


def test_nobody_gets_keys_of_a_tenant_that_ends_but_who_ends_it(town: EndingTown) -> None:
    auth, tenant_id, other = Auth(town), town.tenant(), town.tenant("other", "other.test")
    anna = town.account(tenant_id)
    auth.ask("account_key", tenant_id, anna, role=Role.IMAP)
    ending_id = town.order(tenant_id)  # the keys are still there
    for role in (Role.SMTP, Role.QUEUE, Role.WEB, Role.JOBS, Role.ADMIN):
        with pytest.raises(Gone):
            auth.ask("tenant_key", tenant_id, role=role)
        with pytest.raises(Gone):
            auth.ask("account_key", tenant_id, anna, role=role)
    for role in (Role.IMAP, Role.SMTP):
        with pytest.raises((Gone, NotPermitted)):
            auth.ask("account_key", tenant_id, anna, role=role, purpose="ending")
    with pytest.raises(Gone):
        auth.ask("create_account_key", tenant_id, AccountId(999), role=Role.ADMIN)
    with pytest.raises(Gone):
        auth.ask("create_tenant_key", tenant_id, role=Role.ADMIN)
    with pytest.raises(Gone):
        auth.ask("header_key", tenant_id, role=Role.REVIEWER)
    for role in (Role.JOBS, Role.ADMIN):
        assert auth.ask("tenant_key", tenant_id, role=role, purpose="ending")["secret"]
        assert auth.ask("account_key", tenant_id, anna, role=role, purpose="ending")["secret"]
        assert auth.ask("tenant_key", tenant_id, role=role, purpose="directory.name")["secret"]  # of a legal hold
    assert auth.ask("tenant_key", other, role=Role.SMTP)["secret"]
    town.carry_out(ending_id)
    with pytest.raises(Gone):
        auth.ask("tenant_key", tenant_id, role=Role.JOBS, purpose="ending")


def test_the_key_of_an_account_that_ends_is_refused_and_no_other(town: EndingTown) -> None:
    auth, tenant_id = Auth(town), town.tenant()
    anna, ben = town.account(tenant_id), town.account(tenant_id, "ben")
    ending_id = town.order(tenant_id, anna)
    with pytest.raises(Gone):
        auth.ask("account_key", tenant_id, anna, role=Role.IMAP)
    assert auth.ask("account_key", tenant_id, ben, role=Role.IMAP)["secret"]
    assert auth.ask("tenant_key", tenant_id, role=Role.SMTP)["secret"]
    town.carry_out(ending_id)
    with pytest.raises(Gone):
        auth.ask("create_account_key", tenant_id, anna, role=Role.ADMIN)
    with pytest.raises(NotFound):
        auth.ask("tenant_key", TenantId(999), role=Role.SMTP)  # nothing of it ends: there is none


# Processes that go on


@pytest.mark.parametrize(("now", "night"), [(0, 10_800), (10_799, 10_800), (10_800, 97_200), (86_400, 97_200)])
def test_the_following_night(now: int, night: int) -> None:
    assert following_night(now) == night


@given(st.integers(0, 2**40), st.integers(0, DAY))
def test_whoever_hears_of_it_before_the_certificate_is_replaced_in_time(now: int, later: int) -> None:
    assert now < following_night(now) <= now + DAY
    assert following_night(now) + 3600 < replaced_until(now) <= replaced_until(now + later)


def test_a_process_that_held_a_key_is_replaced_once_in_the_next_night() -> None:
    reactor, clock, ended = Reactor(), FixedClock(), list[int]()
    replacement = Replacement(reactor, clock, lambda: ended.append(1))
    replacement.at_night()
    [call] = reactor.getDelayedCalls()
    begun = clock.now()
    assert begun + call.time == following_night(begun) + os.getpid() % 3600
    reactor.advance(60)
    clock.advance(60)
    replacement.at_night()
    assert len(reactor.getDelayedCalls()) == 1
    reactor.advance(replaced_until(begun) - begun - 60)
    assert ended == [1]
    replacement.cancel()


class Street:
    """Workers of a server: who is stopped is gone after some waits, and replaced after more."""

    def __init__(self, roles: dict[int, str], *, never: int = 0) -> None:
        self.up = dict(roles)
        self.stopped: list[int] = []
        self.waits = self._since = 0
        self._gone = ""
        self._all = Counter(roles.values())
        self._never = never  # is not replaced
        self._next = 1000

    def stop(self, pid: int) -> bool:
        away = self._all - Counter(self.up.values()) - Counter({self._of(self._never): 1} if self._never else {})
        assert not away, "another one is not back yet"
        if pid not in self.up:
            return False
        self.stopped.append(pid)
        self._since = self.waits
        return True

    def present(self, role: str) -> set[int]:
        return {pid for pid, each in self.up.items() if each == role}

    def wait(self, seconds: float) -> None:
        assert 0 < seconds <= 1
        self.waits += 1
        pid = self.stopped[-1]
        if self.waits == self._since + 2:
            self._gone = self.up.pop(pid)
        if self.waits == self._since + 5 and pid != self._never:
            self._next += 1
            self.up[self._next] = self._gone

    def _of(self, pid: int) -> str:
        return self.up.get(pid) or self._gone


def test_workers_are_replaced_one_after_the_other() -> None:
    """Who is connected to the others notices nothing of it."""
    roles = {9: "imap", 2: "jobs", 3: "queue", 4: "smtp", 5: "imap", 6: "smtp"}
    street = Street(roles)
    del street.up[6]  # it ended by itself, and another one is there
    street.up[7] = "smtp"
    told = replace_in_turn(roles, stop=street.stop, present=street.present, wait=street.wait)
    assert street.stopped == [5, 9, 4, 3, 2] and told == 5
    assert street.waits == 5 * 5
    assert not roles.keys() & street.up.keys()


def test_one_that_does_not_come_back_keeps_the_others_waiting_for_some_seconds_only() -> None:
    street = Street({5: "imap", 9: "imap", 4: "smtp"}, never=5)
    assert replace_in_turn(dict(street.up), stop=street.stop, present=street.present, wait=street.wait) == 3
    assert street.stopped == [5, 9, 4] and street.waits == 200 + 5 + 5


def test_a_wait_for_the_next_one_ends_with_who_waits() -> None:
    street = Street({5: "imap", 9: "imap"})

    def wait(seconds: float) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        replace_in_turn(dict(street.up), stop=street.stop, present=street.present, wait=wait)
    assert street.stopped == [5]


def test_a_process_that_stops_before_is_not_replaced() -> None:
    reactor, ended = Reactor(), list[int]()
    replacement = Replacement(reactor, FixedClock(), lambda: ended.append(1))
    replacement.cancel()
    replacement.at_night()
    replacement.cancel()
    reactor.advance(2 * DAY)
    assert ended == []
