"""The service behind every way to the quarantine: who reaches what, and that every look is recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from quarantine_place import ALICE, BOB, MALLORY, ONE, SERVER_USER, TWO, Place, forwarded, to_mailbox

from hosting.quarantine.scope import Scope
from storage.directory.reviews import ReviewState
from storage.errors import CleanmailError, Conflict, InvalidInput, NotFound, NotPermitted
from storage.filter.counts import Counted
from storage.filter.rules import WHOLE_TENANT, ListKind, of_account
from storage.quarantine.values import Query, ReleasedBy
from storage.values import TenantId

OPERATOR = Scope.operator("rita")
STRANGERS = [Scope.operator(name) for name in ("eve", "ended", "tomorrow", SERVER_USER)]  # no agreement in force
ADMIN_ONE, ADMIN_TWO = Scope.administrator("ann", ONE), Scope.administrator("mel", TWO)
ALICES = Scope.account("alice@one.test", ONE, ALICE, address="198.51.100.7")
BOBS = Scope.account("bob@one.test", ONE, BOB)
MALLORYS = Scope.account("mallory@two.test", TWO, MALLORY)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    agree(place, "rita")
    yield place
    place.close()


def agree(place: Place, person: str) -> None:
    place.installation.control.agreements.record(person, bytes(32), signed=place.clock.now(), recorded_by="adam")


@pytest.fixture(params=STRANGERS, ids=lambda scope: scope.actor)
def stranger(place: Place, request: pytest.FixtureRequest) -> Scope:
    """An operator whom header lines are closed to."""
    scope: Scope = request.param
    if scope.actor == "tomorrow":
        place.clock.advance(100)
        agree(place, scope.actor)
        place.clock.advance(-100)
    elif scope.actor != "eve":
        agree(place, scope.actor)
    if scope.actor == "ended":
        place.installation.control.agreements.end(scope.actor)
    return scope


def counted(place: Place) -> int:
    """Messages that a person looked at, as the filter report has them."""
    return place.installation.control.judged.sums(1)[Counted.VIEWED]


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
    for scope in (ALICES, ADMIN_ONE, OPERATOR):
        message, header = place.service.show(scope, ONE, quarantine_id)
        assert header is not None and ("Subject", "subject unique") in header.lines()
        assert message.subject == "subject unique"
        assert b"body unique" not in repr((message, header)).encode() + header.pack()


def test_an_operator_without_an_agreement_sees_what_the_traces_show(place: Place, stranger: Scope) -> None:
    quarantine_id = place.held("unique", to_mailbox(), forwarded())
    before = len(audited(place))
    [listed] = place.service.list(stranger, ONE, Query()).messages
    [matching] = place.service.matching(stranger, ONE, Query())
    shown, header = place.service.show(stranger, ONE, quarantine_id)
    whole = place.rows().show(quarantine_id)
    assert header is None and listed == matching == shown == replace(whole, subject="", author="")
    assert [each.sentence for each in shown.recipients] == ["Its content is that of spam."] * 2
    assert "secrecy agreement" in place.service.closed(stranger)
    assert ("server runs as" in place.service.closed(stranger)) == (stranger.actor == SERVER_USER)
    assert audited(place)[before:] == [
        ("quarantine.list", stranger.actor, {}),
        ("quarantine.list", stranger.actor, {}),
        ("quarantine.view", stranger.actor, {"id": quarantine_id}),
    ]
    assert counted(place) == 0


def test_an_operator_without_an_agreement_finds_nothing_by_header_fields(place: Place, stranger: Scope) -> None:
    """Not even how many there are: the From field says "A Stranger", the envelope another word."""
    quarantine_id = place.held("unique")

    def found(query: Query) -> list[list[str]]:
        listed = place.service.list(stranger, ONE, query).messages
        return [[each.quarantine_id for each in one] for one in (listed, place.service.matching(stranger, ONE, query))]

    for hidden in (Query(sender="a stranger"), Query(text="a stranger"), Query(text="unique")):
        assert found(hidden) == [[], []]
        assert len(place.service.list(OPERATOR, ONE, hidden).messages) == 1
    for seen in (Query(sender="stranger@far"), Query(text="far.example"), Query(text="alice@"), Query(reason="spam")):
        assert found(seen) == [[quarantine_id], [quarantine_id]]
    before = audited(place)
    for look in (place.service.list, lambda *asked: list(place.service.matching(*asked))):
        with pytest.raises(NotPermitted, match="recorded secrecy agreement"):
            look(stranger, ONE, Query(subject="unique"))
    assert audited(place) == before


def test_an_operator_without_an_agreement_decides_all_the_same(place: Place, stranger: Scope) -> None:
    first, second = place.held("first"), place.held("second")
    assert place.service.report(stranger, ONE, first)
    with pytest.raises(NotPermitted, match="Whom to allow stands in the header"):
        place.service.release(stranger, ONE, first, allow=True)
    assert place.installation.tenant(ONE).filter_rules.entries() == []
    assert place.service.release(stranger, ONE, first).released == (0,)
    assert place.service.delete(stranger, ONE, second) == 1
    assert [action for action, actor, _ in audited(place) if actor == stranger.actor] == [
        "quarantine.report",
        "quarantine.release",
        "quarantine.delete",
    ]
    assert counted(place) == 0


def test_an_agreement_counts_from_one_look_to_the_next(place: Place) -> None:
    quarantine_id, eve = place.held("unique"), Scope.operator("eve")
    assert place.service.show(eve, ONE, quarantine_id)[1] is None
    agree(place, "eve")
    assert place.service.show(eve, ONE, quarantine_id)[1] is not None
    place.installation.control.agreements.end("eve")
    assert place.service.show(eve, ONE, quarantine_id)[1] is None


def test_a_message_that_operators_look_at_is_counted_once(place: Place) -> None:
    first, second = place.held("first"), place.held("second")
    for scope in (ALICES, ADMIN_ONE):
        place.service.show(scope, ONE, first)
    assert counted(place) == 0, "it is their own mail"
    agree(place, "eve")
    for scope in (OPERATOR, OPERATOR, Scope.operator("eve")):
        place.service.list(scope, ONE, Query())
        place.service.show(scope, ONE, first)
    assert counted(place) == 1
    place.service.report(ALICES, ONE, first)
    place.installation.control.reviews.view(ONE, first)
    assert counted(place) == 1, "also with a review"
    place.service.report(ALICES, ONE, second)
    place.installation.control.reviews.view(ONE, second)
    place.service.show(OPERATOR, ONE, second)
    assert counted(place) == 2


def test_the_record_of_a_look_is_there_before_the_header_is_read(place: Place) -> None:
    quarantine_id = place.held("unique")
    for path in place.files():
        path.unlink()
    with pytest.raises(CleanmailError):
        place.service.show(OPERATOR, ONE, quarantine_id)
    assert audited(place) == [("quarantine.view", "rita", {"id": quarantine_id, "header": "yes"})]
    assert counted(place) == 1


def test_what_administrators_do_is_an_audit_record_and_what_accounts_do_an_access_event(place: Place) -> None:
    for scope in (OPERATOR, ADMIN_ONE, ALICES):
        first, second = place.held("first"), place.held("second")
        place.service.list(scope, ONE, Query(reason="spam"))
        place.service.show(scope, ONE, first)
        place.service.report(scope, ONE, first)
        place.service.release(scope, ONE, first)
        place.service.delete(scope, ONE, second)
        if scope.account_id is None:
            header = {"header": "yes"} if scope is OPERATOR else {}
            expected: list[tuple[str, str, Any]] = [("quarantine.list", scope.actor, {"reason": "spam", **header})]
            expected += [("quarantine.view", scope.actor, {"id": first, **header})]
            expected += [(f"quarantine.{what}", scope.actor, {"id": first}) for what in ("report", "release")]
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
    assert place.rows().show(quarantine_id).held and place.inbox() == [] and audited(place) == []


@pytest.mark.parametrize("scope", [ADMIN_ONE, ALICES, OPERATOR], ids=["administrator", "account", "operator"])
def test_an_author_who_is_denied_is_not_allowed_and_nothing_released_or_recorded(place: Place, scope: Scope) -> None:
    quarantine_id = place.held()
    rules = place.installation.tenant(ONE).filter_rules
    entries = [rules.add(whose, "stranger@far.example", ListKind.DENY) for whose in (WHOLE_TENANT, of_account(ALICE))]
    with pytest.raises(Conflict, match="deny list"):
        place.service.release(scope, ONE, quarantine_id, allow=True)
    assert place.rows().show(quarantine_id).held and place.inbox() == [] and rules.entries() == entries
    assert audited(place) == [] and accesses(place) == []


def test_what_is_on_its_way_is_decided_on_no_more_and_leaves_no_record(place: Place) -> None:
    quarantine_id = place.held()
    by, name = ReleasedBy.ADMINISTRATOR, place.installation.incarnation.name
    place.rows().begin_release(quarantine_id, [0], release_id="r", by=by, incarnation=name)
    assert place.service.release(ADMIN_ONE, ONE, quarantine_id, allow=True).released == ()
    assert place.service.delete(ADMIN_ONE, ONE, quarantine_id) == 0
    with pytest.raises(NotFound):
        place.service.report(ADMIN_ONE, ONE, quarantine_id)
    assert audited(place) == [] and place.installation.tenant(ONE).filter_rules.entries() == []


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
