"""The quarantine on real databases and files: what is withheld is there, whole and sealed, until nobody may get it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from account_ending import end_account
from quarantine_place import ALICE, BOB, DAY, ONE, PREFIX, STRANGER, TWO, Place, forwarded, mail, routed, to_mailbox

from storage.check import check_installation
from storage.checks.finding import Kind, Severity
from storage.errors import Corrupt, NotFound, QuarantineFull, Unavailable
from storage.keys.sealing import Key
from storage.quarantine.files import find_name, read_header
from storage.quarantine.keys import body_key, header_key
from storage.quarantine.values import NEXT, HeldState, Limits, Query, ReleasedBy, Way, Withheld, id_at
from storage.retention import remove_due
from storage.values import EmailAddress, TenantId


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.close()


def test_what_comes_back(place: Place) -> None:
    new = place.new("unique", to_mailbox(notify=("FAILURE",), orcpt="rfc822;x"), forwarded(rewritten=True), routed())
    assert place.quarantine.keep(ONE, new) == new.quarantine_id
    message = place.quarantine.show(ONE, new.quarantine_id)
    assert (message.sender, message.author) == (STRANGER, "A Stranger <stranger@far.example>")
    assert (message.subject, message.reason, message.score) == ("subject unique", "spam", 4.2)
    assert (message.received, message.expires) == (place.clock.now(), new.expires)
    assert (message.parameters, dict(message.facts)) == (new.parameters, dict(new.facts))
    alice, away, carol = message.recipients
    assert (str(alice.address), alice.account_id, alice.state) == ("alice@one.test", ALICE, HeldState.HELD)
    assert (alice.onward.notify, alice.onward.orcpt, alice.reported) == (("FAILURE",), "rfc822;x", None)
    assert (alice.sentence, alice.counterfactual) == (new.recipients[0].sentence, new.recipients[0].counterfactual)
    assert (away.onward.way, str(away.onward.to), away.onward.rewritten) == (
        Way.FORWARDED,
        "far@elsewhere.example",
        True,
    )
    assert (carol.onward.way, str(carol.onward.domain)) == (Way.ROUTED, "one.test")
    assert place.quarantine.content(ONE, message) == (PREFIX, new.data)
    assert message.size == len(PREFIX) + len(new.data)
    with pytest.raises(NotFound):
        place.quarantine.show(ONE, "nothing")
    with pytest.raises(NotFound):
        place.quarantine.show(TWO, new.quarantine_id)


def test_another_process_finds_it(place: Place) -> None:
    quarantine_id = place.held()
    with place.another_process() as quarantine:
        assert quarantine.content(ONE, quarantine.show(ONE, quarantine_id)) == (PREFIX, mail())


def test_nothing_readable_on_disk(place: Place) -> None:
    place.held("verysecrettoken", to_mailbox(), forwarded())
    place.installation.flush_logs()
    place.close()
    words = (b"verysecrettoken", b"A Stranger", b"stranger@far", b"alice@one", b"elsewhere.example")
    for path in place.data.rglob("*"):
        if path.is_file():
            octets = path.read_bytes()
            assert not any(word in octets for word in words), path
    place._open()


def test_header_and_body_lie_under_different_keys(place: Place) -> None:
    """Whoever has the header key alone reads the header object, without a database, and no body."""
    quarantine_id = place.held("unique")
    tenant = place.keys.tenant_key(ONE, "test")
    header, body = header_key(tenant), body_key(tenant)
    assert len({header.secret, body.secret, tenant.secret}) == 3
    assert place.keys.header_key(ONE, "test") == header  # what the auth role gives a reviewer
    folder = place.data / "tenants" / "1" / "quarantine"
    name = find_name(folder, quarantine_id)
    found = read_header(folder, name, header)
    assert (found.quarantine_id, found.sender, found.domains) == (quarantine_id, str(STRANGER), ("one.test",))
    assert ("Subject", "subject unique") in found.lines()
    assert b"body unique" not in found.header + found.prefix
    files = place.rows().files
    assert b"body unique" in files.read_body(name, body)
    for wrong in (header, tenant, Key("0" * 32, body.secret)):
        with pytest.raises(Corrupt):
            files.read_body(name, wrong)
    for wrong in (body, tenant, header_key(place.keys.tenant_key(TWO, "test"))):
        with pytest.raises(Corrupt):
            read_header(folder, name, wrong)
    with pytest.raises(NotFound):
        find_name(folder, "nothing")
    with pytest.raises(NotFound):
        find_name(place.data / "tenants" / "9" / "quarantine", quarantine_id)


@pytest.mark.parametrize("ending", ["header", "body"])
def test_what_is_changed_is_noticed(place: Place, ending: str) -> None:
    quarantine_id = place.held()
    [path] = [path for path in place.files() if path.name.endswith(ending)]
    octets = bytearray(path.read_bytes())
    octets[len(octets) // 2] ^= 1
    path.write_bytes(octets)
    with pytest.raises(Corrupt):
        place.quarantine.content(ONE, place.quarantine.show(ONE, quarantine_id))
    [finding] = check_installation(place.installation, contents=True)
    assert (finding.kind, finding.severity) == (Kind.FILE_UNREADABLE, Severity.ALARM)


def test_files_of_one_message_are_not_those_of_another(place: Place) -> None:
    first, second = place.held("first"), place.held("second")
    names = {path.name.partition(".")[0]: path for path in place.files() if path.name.endswith(".body")}
    os.replace(names[first], names[second])
    with pytest.raises(Corrupt):
        place.quarantine.content(ONE, place.quarantine.show(ONE, second))
    with pytest.raises(Corrupt, match="lost"):
        place.quarantine.content(ONE, place.quarantine.show(ONE, first))
    [finding] = check_installation(place.installation)
    assert (finding.kind, finding.severity, finding.tenant_id) == (Kind.FILE_MISSING, Severity.ALARM, ONE)


# Kept once


def test_what_is_sent_again_while_it_is_held_is_kept_once(place: Place) -> None:
    first = place.held()
    assert place.held() == first
    assert len(place.files()) == 2 and place.rows().counts().messages == 1
    others = [
        place.held("another"),
        place.held("token", to_mailbox(BOB)),
        place.held("token", to_mailbox(), forwarded()),
        place.held(reverse_path=None),
        place.held(tenant_id=TWO),
    ]
    assert len({first, *others}) == 6
    place.rows().delete(first, [0])
    assert place.held() not in {first, *others}, "what was decided on is a new message when it comes again"


def test_what_is_sent_again_is_held_as_long_as_if_it_were_new(place: Place) -> None:
    quarantine_id = place.held()
    first = place.quarantine.show(ONE, quarantine_id).expires
    place.clock.advance(20 * DAY)
    assert place.held() == quarantine_id
    assert place.quarantine.show(ONE, quarantine_id).expires == first + 20 * DAY
    assert place.held(expires=first) == quarantine_id
    assert place.quarantine.show(ONE, quarantine_id).expires == first + 20 * DAY


def test_what_was_kept_can_be_taken_back(place: Place) -> None:
    quarantine_id = place.held()
    assert place.quarantine.forget(ONE, quarantine_id)
    assert place.files() == [] and place.rows().find(Query()) == []
    assert not place.quarantine.forget(ONE, quarantine_id)


def test_what_another_transaction_relies_on_stays(place: Place) -> None:
    """The sender sends again while the first transaction has not ended yet, and is told 250."""
    quarantine_id = place.held()
    assert place.held() == quarantine_id
    assert not place.quarantine.forget(ONE, quarantine_id)
    assert place.quarantine.content(ONE, place.quarantine.show(ONE, quarantine_id))[1] == mail()
    assert place.quarantine.forget(ONE, quarantine_id)


def test_what_was_decided_on_is_not_taken_back(place: Place) -> None:
    quarantine_id = place.held("token", to_mailbox(), to_mailbox(BOB))
    place.rows().delete(quarantine_id, [0])
    assert not place.quarantine.forget(ONE, quarantine_id)
    assert place.quarantine.show(ONE, quarantine_id).recipients[1].state is HeldState.HELD


# Limits


@pytest.mark.parametrize("limits", [Limits(messages=2), Limits(octets=2 * (len(mail("0")) + len(PREFIX)))])
def test_a_full_quarantine_defers(tmp_path: Path, limits: Limits, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing that was accepted goes for it, and the sender keeps what is not accepted."""
    place = Place(tmp_path, limits)
    try:
        first, second = place.held("0"), place.held("1")
        with pytest.raises(QuarantineFull) as caught:
            place.held("2")
        assert caught.value.temporary and caught.value.tenant_id == ONE
        assert not any(word in caught.value.public for word in ("full", "quarantine", "held"))
        assert place.held("0") == first, "what is held already is"
        assert place.held("2", tenant_id=TWO), "another tenant's has room"
        assert len(place.files()) == 4
        place.rows().delete(second, [0])
        place.held("2")
        for _ in range(3):
            with pytest.raises(QuarantineFull):
                place.held("3")
        line = "the quarantine of tenant 1 is full: mail that would be held waits at its senders"
        assert caplog.messages == [line]
        place.clock.advance(DAY)
        with pytest.raises(QuarantineFull):
            place.held("3")
        assert caplog.messages == [line] * 2
    finally:
        place.close()


def test_what_others_get_too_has_a_reserve(tmp_path: Path) -> None:
    place = Place(tmp_path, Limits(messages=1))
    try:
        place.held("0")
        place.quarantine.keep(ONE, place.new("1", to_mailbox()), shared=True)
        with pytest.raises(QuarantineFull):
            place.quarantine.keep(ONE, place.new("2", to_mailbox()), shared=True)
    finally:
        place.close()


def test_without_the_tenant_nothing_is_kept(place: Place) -> None:
    with pytest.raises(NotFound):
        place.held(tenant_id=TenantId(9))


def test_without_a_place_for_files_nothing_is_kept(place: Place) -> None:
    (place.data / "tenants" / "1" / "quarantine").write_bytes(b"no folder")
    with pytest.raises(Unavailable):
        place.held()
    assert place.rows().counts().messages == 0


# States


def test_states_are_a_table() -> None:
    assert set(NEXT) == set(HeldState)
    assert {state for state in HeldState if state.settled} == {HeldState.RELEASED, HeldState.DELETED}
    assert NEXT[HeldState.QUEUED] == {HeldState.RELEASED}, "what stands in the queue is never held again"
    with pytest.raises(KeyError):
        NEXT["nothing"]  # type: ignore[index]


def test_when_the_last_recipient_is_settled_nothing_is_left(place: Place) -> None:
    quarantine_id = place.held("token", to_mailbox(), to_mailbox(BOB))
    assert place.rows().delete(quarantine_id, [0, 0, 7]) == [0]
    states = [each.state for each in place.quarantine.show(ONE, quarantine_id).recipients]
    assert states == [HeldState.DELETED, HeldState.HELD] and len(place.files()) == 2
    assert place.rows().delete(quarantine_id, [0, 1]) == [1]
    assert place.files() == []
    with pytest.raises(NotFound):
        place.quarantine.show(ONE, quarantine_id)
    assert place.rows().delete(quarantine_id, [0, 1]) == []


def test_only_what_is_held_is_released(place: Place) -> None:
    quarantine_id = place.held("token", to_mailbox(), to_mailbox(BOB))
    rows = place.rows()
    rows.delete(quarantine_id, [0])

    def begin() -> list[int]:
        _, begun = rows.begin_release(
            quarantine_id, [0, 1], release_id="x", by=ReleasedBy.RECIPIENT, incarnation="somebody"
        )
        return [each.position for each in begun]

    assert begin() == [1] and begin() == []
    assert rows.delete(quarantine_id, [1]) == [], "it is on its way"
    assert rows.report(quarantine_id, [1]) == []
    rows.move(quarantine_id, {1: (HeldState.RELEASING, HeldState.HELD)})
    assert begin() == [1]
    with pytest.raises(AssertionError, match="never becomes"):
        rows.move(quarantine_id, {1: (HeldState.HELD, HeldState.RELEASED)})


def test_a_release_of_the_dead_is_interrupted_and_one_of_the_living_when_it_takes_too_long(place: Place) -> None:
    quarantine_id = place.held("token", to_mailbox(), to_mailbox(BOB))
    rows = place.rows()
    rows.begin_release(quarantine_id, [0], release_id="x", by=ReleasedBy.RECIPIENT, incarnation="dead")
    rows.begin_release(quarantine_id, [1], release_id="y", by=ReleasedBy.RECIPIENT, incarnation="alive")

    def interrupted() -> list[list[int]]:
        return [[each.position for each in found] for _, found in rows.interrupted(lambda name: name == "alive")]

    assert interrupted() == [[0]]
    place.clock.advance(3601)
    assert interrupted() == [[0], [1]]


def test_reports(place: Place) -> None:
    quarantine_id = place.held("token", to_mailbox(), to_mailbox(BOB))
    assert place.rows().report(quarantine_id, [0]) == [0]
    assert place.rows().report(quarantine_id, [0]) == []
    message = place.quarantine.show(ONE, quarantine_id)
    assert [each.reported for each in message.recipients] == [place.clock.now(), None] and message.reported
    assert place.rows().counts().reported == 1


# Ending


def test_what_has_expired_goes_with_both_files_and_in_a_trace(place: Place) -> None:
    early, late = place.held("early", expires=place.clock.now() + DAY), place.held("late")
    place.clock.advance(DAY - 1)
    assert remove_due(place.installation).rows == 0
    place.clock.advance(1)
    assert remove_due(place.installation).rows == 1
    assert [message.quarantine_id for message in place.rows().find(Query())] == [late]
    assert len(place.files()) == 2
    place.installation.flush_logs()
    [event] = place.installation.traces.read()
    assert (event.id, event.kind, event.recipient) == (early, "withdrawn", "alice@one.test")


def test_what_is_accepted_again_while_it_expires_stays(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    quarantine_id, rows = place.held(), place.rows()
    place.clock.advance(31 * DAY)
    show = rows.show

    def accepted_again(*arguments: Any) -> Withheld:
        assert place.held() == quarantine_id
        return show(*arguments)

    monkeypatch.setattr(rows, "show", accepted_again)
    assert place.quarantine.expire(ONE) == 0
    assert show(quarantine_id).held


def test_a_release_that_is_under_way_outlives_its_time(place: Place) -> None:
    quarantine_id = place.held(expires=place.clock.now())
    place.rows().begin_release(quarantine_id, [0], release_id="x", by=ReleasedBy.RECIPIENT, incarnation="x")
    assert place.quarantine.expire(ONE) == 0
    place.rows().move(quarantine_id, {0: (HeldState.RELEASING, HeldState.HELD)})
    assert place.quarantine.expire(ONE) == 1


def test_a_row_that_cannot_be_read_expires_all_the_same(place: Place) -> None:
    place.held(expires=place.clock.now())
    database = place.rows()._database
    database.write(lambda t: t.driver.execute("UPDATE quarantine SET details = x'00'"))
    with pytest.raises(Corrupt):
        place.rows().find(Query())
    assert place.quarantine.expire(ONE) == 1 and place.files() == []


def test_an_account_takes_along_what_is_held_for_it(place: Place) -> None:
    own = place.held("own")
    shared = place.held("shared", to_mailbox(), to_mailbox(BOB))
    other = place.held("other", to_mailbox(BOB))
    end_account(place.installation, ONE, ALICE)
    assert {message.quarantine_id for message in place.rows().find(Query())} == {shared, other}
    assert [each.account_id for each in place.quarantine.show(ONE, shared).recipients] == [BOB]
    assert not [path for path in place.files() if path.name.startswith(own)]


def test_files_that_were_to_go_are_swept_whoever_lives(place: Place) -> None:
    """A crash came between the commit and the removal."""
    quarantine_id = place.held()
    files = {path: path.read_bytes() for path in place.files()}
    place.rows().delete(quarantine_id, [0])
    for path, octets in files.items():
        path.write_bytes(octets)
    database = place.rows()._database
    assert database.write(lambda t: t.driver.execute("SELECT count(*) FROM quarantine_unlink").fetchone()) == (1,)
    assert place.quarantine.sweep(ONE) == 1 and place.files() == []
    assert database.write(lambda t: t.driver.execute("SELECT count(*) FROM quarantine_unlink").fetchone()) == (0,)


def test_files_without_a_row_are_swept_once_their_writer_is_dead(place: Place) -> None:
    kept = place.held()
    living = place.installation.incarnation.name
    for writer in (living, "dead"):
        for ending in ("header", "body"):
            (place.files()[0].parent / f"06abcdefghijklmn.{writer}.{ending}").write_bytes(b"unfinished")
    [finding] = check_installation(place.installation)
    assert (finding.kind, finding.severity) == (Kind.FILE_UNFINISHED, Severity.NOTE)
    assert place.quarantine.sweep(ONE) == 1
    assert {path.name.split(".")[1] for path in place.files()} == {living}
    assert place.quarantine.content(ONE, place.quarantine.show(ONE, kept))[1] == mail()


def test_a_whole_quarantine_is_no_finding(place: Place) -> None:
    place.held()
    assert list(check_installation(place.installation, contents=True)) == []


def test_ids_in_the_order_of_time(place: Place) -> None:
    before = id_at(place.clock.now())
    quarantine_id = place.held()
    assert before <= quarantine_id < id_at(place.clock.now() + 1)
    assert id_at(-5) == id_at(0) == "0" * 16


def test_rows_hold_json_that_other_programs_read(place: Place) -> None:
    quarantine_id = place.held("token", forwarded("jörg@one.test", "bücher@elsewhere.example"))
    [(details, destination)] = place.rows()._database.write(
        lambda t: t.driver.execute(
            "SELECT q.details, r.destination FROM quarantine q JOIN quarantine_recipient r USING (quarantine_id)"
        ).fetchall()
    )
    assert json.loads(details)["facts"]["client"] == "192.0.2.1"
    assert json.loads(destination)["to"] == "bücher@elsewhere.example"
    [recipient] = place.quarantine.show(ONE, quarantine_id).recipients
    assert recipient.address == EmailAddress.parse("jörg@one.test")


def test_of_two_who_keep_the_same_message_at_once_the_second_gets_the_first_ones_id(place: Place) -> None:
    """Both had looked before either had written."""
    first = place.held()
    [(fingerprint,)] = place.rows()._database.write(
        lambda t: t.driver.execute("SELECT fingerprint FROM quarantine").fetchall()
    )
    row = {"file": "another", "author": "", "subject": ""}
    assert place.rows().insert(place.new(), row, fingerprint) == first
    assert len(place.rows().find(Query())) == 1
    assert not place.quarantine.forget(ONE, first), "the second relies on it"
    assert place.quarantine.forget(ONE, first)
