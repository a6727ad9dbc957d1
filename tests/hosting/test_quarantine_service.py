"""The service behind every way to the quarantine: who reaches what, and that every look is recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from quarantine_place import ALICE, BOB, MALLORY, ONE, TWO, Place, forwarded, to_mailbox

from hosting.quarantine.scope import Scope
from storage.directory.reviews import ReviewState
from storage.errors import CleanmailError, InvalidInput, NotFound, NotPermitted
from storage.filter.rules import WHOLE_TENANT, ListKind, of_account
from storage.quarantine.values import Query, ReleasedBy
from storage.values import TenantId

OPERATOR = Scope.operator("root")
ADMIN_ONE, ADMIN_TWO = Scope.administrator("ann", ONE), Scope.administrator("mel", TWO)
ALICES = Scope.account("alice@one.test", ONE, ALICE, address="198.51.100.7")
BOBS = Scope.account("bob@one.test", ONE, BOB)
MALLORYS = Scope.account("mallory@two.test", TWO, MALLORY)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.close()


def calls(place: Place) -> dict[str, Callable[[Scope, TenantId, str], Any]]:
    service = place.service
    return {
        "show": service.show,
        "release": service.release,
        "delete": service.delete,
        "report": service.report,
        "allow": lambda scope, tenant_id, id_: service.release(scope, tenant_id, id_, allow=True),
    }


def audited(place: Place) -> list[tuple[str, str, Any]]:
    return [(record.action, record.actor, record.details) for record in place.installation.audit.read()]


def accesses(place: Place) -> list[tuple[str, int | None, str, str]]:
    place.installation.flush_logs()
    now = place.clock.now()
    found = place.installation.access_log.read(now - 9, now + 9)
    return [(event.type, event.account_id, event.protocol, event.address) for event in found]


@pytest.mark.parametrize("what", ["show", "release", "delete", "report", "allow"])
@pytest.mark.parametrize("scope", [ADMIN_TWO, MALLORYS, BOBS], ids=["administrator", "stranger", "colleague"])
def test_what_is_not_in_the_scope_is_not_there(place: Place, what: str, scope: Scope) -> None:
    """Neither by the right tenant nor by one's own."""
    quarantine_id = place.held("token", to_mailbox(), forwarded())
    for tenant_id in (ONE, TWO):
        with pytest.raises((NotPermitted, NotFound)):
            calls(place)[what](scope, tenant_id, quarantine_id)
    [message] = place.rows().find(Query())
    assert message.held and not message.reported
    assert place.inbox() == [] and place.taught == []
    assert place.installation.queue.entries() == []
    assert place.installation.control.reviews.in_state(ReviewState.WAITING) == []
    assert audited(place) == [] and accesses(place) == []
    for tenant_id in (ONE, TWO):
        assert place.installation.tenant(tenant_id).filter_rules.entries() == []


def test_lists_have_what_is_in_the_scope(place: Place) -> None:
    both = place.held("both", to_mailbox(), to_mailbox(BOB))
    alices = place.held("alices", to_mailbox())
    leaving = place.held("leaving", forwarded())
    twos = place.held("twos", to_mailbox(MALLORY), tenant_id=TWO)

    def listed(scope: Scope, tenant_id: TenantId = ONE, query: Query = Query()) -> set[str]:  # noqa: B008
        found = {message.quarantine_id for message in place.service.list(scope, tenant_id, query).messages}
        assert {message.quarantine_id for message in place.service.matching(scope, tenant_id, query)} == found
        return found

    for scope in (OPERATOR, ADMIN_ONE):
        assert listed(scope) == {both, alices, leaving}
        assert listed(scope, query=Query(account_id=BOB)) == {both}
    assert (listed(ALICES), listed(BOBS)) == ({both, alices}, {both})
    assert listed(OPERATOR, TWO) == listed(ADMIN_TWO, TWO) == listed(MALLORYS, TWO) == {twos}
    [message] = place.service.list(BOBS, ONE, Query()).messages
    assert [str(each.address) for each in message.recipients] == ["bob@one.test"]
    for scope, tenant_id in ((ADMIN_ONE, TWO), (ALICES, TWO), (MALLORYS, ONE)):
        with pytest.raises(NotPermitted):
            listed(scope, tenant_id)
        with pytest.raises(NotPermitted):
            list(place.service.matching(scope, tenant_id, Query()))
    with pytest.raises(NotPermitted):
        listed(ALICES, query=Query(account_id=BOB))
    assert place.service.counts(ADMIN_ONE, ONE).messages == 3
    for scope in (ADMIN_TWO, ALICES):
        with pytest.raises(NotPermitted):
            place.service.counts(scope, ONE)


def test_pages(place: Place) -> None:
    held = []
    for number in range(5):
        place.clock.advance(1)
        held.append(place.held(str(number)))
    first = place.service.list(ALICES, ONE, Query(), limit=3)
    assert [message.quarantine_id for message in first.messages] == held[:1:-1] and first.before == held[2]
    last = place.service.list(ALICES, ONE, Query(), limit=3, before=held[2])
    assert [message.quarantine_id for message in last.messages] == held[1::-1] and last.before is None


def test_a_message_is_found_without_its_tenant(place: Place) -> None:
    quarantine_id = place.held("x", to_mailbox(MALLORY), tenant_id=TWO)
    assert place.service.find(OPERATOR, quarantine_id) == TWO == place.service.find(MALLORYS, quarantine_id)
    for scope in (ADMIN_ONE, ALICES):
        with pytest.raises(NotFound):
            place.service.find(scope, quarantine_id)
    with pytest.raises(NotFound):
        place.service.find(OPERATOR, "nothing")


def test_headers_only(place: Place) -> None:
    quarantine_id = place.held("unique")
    message, header = place.service.show(ALICES, ONE, quarantine_id)
    assert ("Subject", "subject unique") in header.lines()
    assert b"body unique" not in repr((message, header)).encode() + header.pack()


def test_what_administrators_do_is_an_audit_record_and_what_accounts_do_an_access_event(place: Place) -> None:
    for scope in (OPERATOR, ADMIN_ONE, ALICES):
        first, second = place.held("first"), place.held("second")
        place.service.list(scope, ONE, Query(reason="spam"))
        place.service.show(scope, ONE, first)
        place.service.report(scope, ONE, first)
        place.service.release(scope, ONE, first)
        place.service.delete(scope, ONE, second)
        if scope.account_id is None:
            expected = [("quarantine.list", scope.actor, {"reason": "spam"})]
            expected += [(f"quarantine.{what}", scope.actor, {"id": first}) for what in ("view", "report", "release")]
            assert audited(place)[-5:] == [*expected, ("quarantine.delete", scope.actor, {"id": second})]
            assert accesses(place) == []
    assert len(audited(place)) == 10
    whose = (ALICE, "web", "198.51.100.7")
    assert accesses(place) == [(f"quarantine_{what}", *whose) for what in ("view", "report", "release", "delete")]


def test_who_released_it_stands_in_the_message(place: Place) -> None:
    who = {ALICES: ReleasedBy.RECIPIENT, ADMIN_ONE: ReleasedBy.ADMINISTRATOR, OPERATOR: ReleasedBy.ADMINISTRATOR}
    for scope, by in who.items():
        place.service.release(scope, ONE, place.held())
        assert f"X-Cleanmail-Released: by {by};".encode() in place.inbox()[-1]


def test_an_account_releases_its_own_copy_alone(place: Place) -> None:
    quarantine_id = place.held("token", to_mailbox(), to_mailbox(BOB), forwarded())
    assert place.service.release(ALICES, ONE, quarantine_id).released == (0,)
    assert place.service.delete(BOBS, ONE, quarantine_id) == 1
    assert (len(place.inbox()), len(place.inbox(BOB)), place.installation.queue.entries()) == (1, 0, [])
    assert place.service.release(ADMIN_ONE, ONE, quarantine_id).released == (2,)


@pytest.mark.parametrize("reason", ["malware", "forbidden-attachment"])
def test_what_may_harm_others_only_an_administrator_releases(place: Place, reason: str) -> None:
    quarantine_id = place.held("token", replace(to_mailbox(), reason=reason))
    with pytest.raises(NotPermitted, match="administrator"):
        place.service.release(ALICES, ONE, quarantine_id)
    assert place.inbox() == [] and accesses(place) == []
    assert place.service.release(ADMIN_ONE, ONE, quarantine_id).released == (0,)


def test_the_author_is_allowed_from_now_on(place: Place) -> None:
    place.service.release(ADMIN_ONE, ONE, place.held("first"), allow=True)
    place.service.release(ALICES, ONE, place.held("second"), allow=True)
    rules = place.installation.tenant(ONE).filter_rules
    found = {(entry.scope, entry.pattern, entry.kind, entry.unproven) for entry in rules.entries()}
    allowed = ("stranger@far.example", ListKind.ALLOW, False)
    assert found == {(WHOLE_TENANT, *allowed), (of_account(ALICE), *allowed)}


@pytest.mark.parametrize("author", [b"", b"From: a@b.example, c@d.example\r\n", b"From: nobody\r\n"])
def test_without_one_author_nobody_is_allowed_and_nothing_released(place: Place, author: bytes) -> None:
    quarantine_id = place.held(data=author + b"Subject: x\r\n\r\nbody\r\n")
    with pytest.raises(InvalidInput):
        place.service.release(ADMIN_ONE, ONE, quarantine_id, allow=True)
    assert place.rows().show(quarantine_id).held and place.inbox() == []


def test_a_report_asks_for_a_review_once(place: Place) -> None:
    quarantine_id = place.held()
    assert place.service.report(ALICES, ONE, quarantine_id)
    assert not place.service.report(ADMIN_ONE, ONE, quarantine_id)
    [review] = place.installation.control.reviews.in_state(ReviewState.WAITING)
    assert (review.tenant_id, review.quarantine_id, review.reason) == (ONE, quarantine_id, "spam")
    assert review.received == place.clock.now()
    assert place.rows().show(quarantine_id).held, "it stays until somebody releases it"


def test_what_is_gone_is_gone(place: Place) -> None:
    quarantine_id = place.held()
    place.service.delete(ALICES, ONE, quarantine_id)
    for what, call in calls(place).items():
        with pytest.raises(CleanmailError) as caught:
            call(ALICES, ONE, quarantine_id)
        assert isinstance(caught.value, NotFound), what
    place.installation.flush_logs()
    [event] = place.installation.traces.read()
    assert (event.id, event.kind, event.details) == (quarantine_id, "withdrawn", {"reason": "deleted by the recipient"})
