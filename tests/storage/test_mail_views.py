"""Views in memory, their snapshots, and what they know of the past."""

from __future__ import annotations

import random
from array import array

import pytest
from accounts import AccountPlace
from hypothesis import given
from hypothesis import strategies as st
from view_changes import changes_since

from storage.errors import Gone
from storage.mail import packing, view_rows, views
from storage.mail.account import Account
from storage.mail.columns import Columns, first_without, without
from storage.mail.messages import NewMessage
from storage.mail.packing import Packed, pack, unpack
from storage.mail.snapshots import ROWS
from storage.mail.tombstones import Tombstones
from storage.values import DELETED, FLAGGED, SEEN, MailboxId, UidSet

ALL = UidSet(((1, 1 << 31),))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot is kept of few messages."""
    monkeypatch.setattr(views, "_WORTH_IT", 50)


def fill(account: Account, mailbox_id: MailboxId, count: int) -> None:
    account.messages.append_many(mailbox_id, [NewMessage(b"Subject: %d\r\n\r\n" % n) for n in range(count)])


def test_arrays_of_any_numbers_pack_and_unpack() -> None:
    numbers = random.Random(1)
    arrays = [
        array("I", sorted(numbers.sample(range(1, 1 << 32), 1000))),
        array("Q", [numbers.getrandbits(62) for _ in range(1000)]),
        array("Q", [numbers.choice([1, 2, 1 << 40]) for _ in range(1000)]),
    ]
    assert unpack(pack(arrays), ROWS) == arrays
    assert unpack(pack([array("I"), array("Q"), array("Q")]), ROWS) == [array("I"), array("Q"), array("Q")]


def test_a_damaged_snapshot_is_none() -> None:
    packed = pack([array("I", range(100)), array("Q", range(100)), array("Q", range(100))])
    assert unpack(b"", ROWS) is None
    assert unpack(b"\x01" + packed[1:], ROWS) is None
    assert unpack(packed[: len(packed) // 2], ROWS) is None
    assert unpack(packed, "IQ") is None


def test_arrays_of_several_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose planes differ from piece to piece, and the last of which is shorter."""
    monkeypatch.setattr(packing, "_PIECE", 7)
    arrays = [array("I", range(250, 281)), array("Q", [1 << n for n in range(31)]), array("Q", [0] * 30 + [1 << 63])]
    assert unpack(pack(arrays), ROWS) == arrays


@given(
    st.lists(st.sampled_from([SEEN, SEEN | 4, 4, SEEN | 1 << 40]), max_size=40),
    st.dictionaries(st.integers(0, 39), st.sampled_from([SEEN, 4]), max_size=3),
)
def test_the_first_unseen_message_of_what_is_packed(flags: list[int], changed: dict[int, int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "_PIECE", 8)
        packed = Packed.of(pack([array("Q", flags)]), "Q")
        assert packed is not None
        now = [changed.get(position, bits) for position, bits in enumerate(flags)]
        assert packed.first_without(0, SEEN, changed) == first_without(array("Q", now), SEEN)


def test_positions_are_cut_out_of_an_array() -> None:
    values = array("I", range(10))
    assert without(values, []) == values
    assert list(without(values, [0, 4, 5, 9, 12])) == [1, 2, 3, 6, 7, 8]


def test_arrivals_and_flags_come_in_place_and_expunges_replace(account: Account, inbox: MailboxId) -> None:
    fill(account, inbox, 5)
    view = account.views.load(inbox)
    uids, flags = view.uids, view.flags
    fill(account, inbox, 2)
    account.messages.store(inbox, UidSet.of([2]), "add", SEEN, ["work"])
    assert len(uids) == 5
    assert view.refresh()
    assert view.uids is uids
    assert (list(uids), flags[1] & SEEN, view.generation) == ([1, 2, 3, 4, 5, 6, 7], SEEN, 0)
    assert list(view.keywords.values()) == ["work"]
    assert not view.refresh()
    account.messages.expunge(inbox, UidSet.of([1, 3, 7]), only_deleted=False)
    view.refresh()
    assert len(uids) == 7
    assert (list(view.uids), view.generation) == ([2, 4, 5, 6], 1)
    assert len(view.columns()) == len(view.flags) == len(view.modseqs) == 4


def test_what_another_process_did_is_read(place: AccountPlace, account: Account, inbox: MailboxId) -> None:
    fill(account, inbox, 5)
    view = account.views.load(inbox)
    view.columns()
    other = place.open()
    fill(other, inbox, 3)
    other.messages.store(inbox, UidSet.of([1, 6]), "add", FLAGGED)
    account.messages.store(inbox, UidSet.of([5]), "add", SEEN)
    other.messages.expunge(inbox, UidSet.of([2, 8]), only_deleted=False)
    before = view.highest_modseq
    view.refresh()
    assert list(view.uids) == [1, 3, 4, 5, 6, 7]
    assert list(view.flags) == [FLAGGED, 0, 0, SEEN, FLAGGED, 0]
    changes = changes_since(view, before)
    assert (changes.changed, sorted(changes.vanished)) == ([1, 5, 6, 7], [2, 8])
    assert list(view.columns().sizes) == [len(b"Subject: 0\r\n\r\n")] * 6
    account.close()


def test_very_much_that_another_process_did_is_read_on_another_thread(
    place: AccountPlace, account: Account, inbox: MailboxId
) -> None:
    fill(account, inbox, 6)
    view = account.views.load(inbox)
    other = place.open()
    for turn in range(21):
        other.messages.store(inbox, UidSet.of([1, 2 + turn % 3]), "remove" if turn % 2 else "add", FLAGGED)
    fill(other, inbox, 2)
    with pytest.raises(view_rows.FarBehind):
        view.refresh(patient=True)
    view.prepare_changes()
    other.messages.store(inbox, UidSet.of([8]), "add", SEEN)  # after it was read
    other.messages.expunge(inbox, UidSet.of([5]), only_deleted=False)
    assert view.refresh(patient=False)
    assert list(view.uids) == [1, 2, 3, 4, 6, 7, 8]
    assert list(view.flags) == [FLAGGED, FLAGGED, 0, FLAGGED, 0, 0, SEEN]
    assert view.highest_modseq == other.mailboxes.by_id(inbox).highest_modseq
    assert not view.refresh(patient=True)
    view.prepare_changes()
    account.messages.store(inbox, UidSet.of([8]), "remove", SEEN)
    assert view.refresh() and view._ahead is None  # what nobody needs any more is not kept
    account.close()


def test_changes_between_two_refreshes_come_from_the_rows(account: Account, inbox: MailboxId) -> None:
    fill(account, inbox, 3)
    view = account.views.load(inbox)
    first = account.messages.store(inbox, UidSet.of([1]), "add", SEEN).modseq
    account.messages.store(inbox, UidSet.of([2]), "add", SEEN)
    gone = account.messages.expunge(inbox, UidSet.of([3]), only_deleted=False).modseq
    view.refresh()
    assert changes_since(view, first).changed == [2]
    assert changes_since(view, 0).changed == [1, 2]
    assert changes_since(view, gone).vanished == []
    assert changes_since(view, gone - 1).vanished == [3]


@pytest.mark.usefixtures("few")
def test_a_cold_view_is_the_snapshot_and_what_came_later(
    place: AccountPlace, account: Account, inbox: MailboxId
) -> None:
    fill(account, inbox, 60)
    account.views.load(inbox).columns()
    account.views.load(inbox).save_snapshot()
    place.settle()
    account.messages.store(inbox, UidSet.of([5]), "add", FLAGGED)
    account.messages.expunge(inbox, UidSet.of([1, 60]), only_deleted=False)
    fill(account, inbox, 1)
    account.close()
    account = place.open()
    view = account.views.load(inbox)
    assert list(view.uids) == [*range(2, 60), 61]
    assert view.flags[3] == FLAGGED
    columns = view.columns()
    rows = account.messages.fetch_rows(
        inbox, 1, 1000, ("message_id", "size", "internal_date", "sent_date", "internal_zone")
    )
    assert [tuple(row) for row in zip(*columns.arrays, strict=True)] == rows


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("asked", [(), ("flags",), ("modseqs",)])
@pytest.mark.parametrize("gone", [(), (3, 60)])
def test_what_stayed_packed_is_exact_whenever_it_is_asked_for(
    place: AccountPlace, account: Account, inbox: MailboxId, asked: tuple[str, ...], gone: tuple[int, ...]
) -> None:
    fill(account, inbox, 60)
    account.messages.store(inbox, UidSet(((1, 2),)), "add", SEEN)
    account.views.load(inbox).save_snapshot()
    place.settle()
    account.messages.store(inbox, UidSet.of([3, 5]), "add", SEEN)
    account.messages.expunge(inbox, UidSet.of(gone), only_deleted=False)
    fill(account, inbox, 2)
    account.close()
    account = place.open()
    view = account.views.quickly(inbox)
    assert view is not None
    assert view.first_unseen() == (3 if gone else 4)
    for name in asked:
        getattr(view, name)
    account.messages.store(inbox, UidSet.of([4, 61]), "add", FLAGGED | SEEN)
    account.messages.expunge(inbox, UidSet.of([2]), only_deleted=False)
    fill(account, inbox, 1)
    view.refresh()
    assert view.first_unseen() == (4 if gone else 5)
    with account.database.reading() as connection:
        rows = connection.driver.execute(f"SELECT uid, flags, modseq FROM membership WHERE mailbox_id = {inbox}")
        assert list(zip(view.uids, view.flags, view.modseqs, strict=True)) == sorted(rows.fetchall())


def test_an_event_loop_reads_no_large_mailbox(place: AccountPlace, account: Account, inbox: MailboxId) -> None:
    assert account.views.quickly(inbox) is not None  # it is empty
    account.close()
    account = place.open()
    fill(account, inbox, 600)
    assert account.views.quickly(inbox) is None  # no snapshot
    account.views.load(inbox)
    place.settle()
    account.close()
    account = place.open()
    account.messages.store(inbox, UidSet(((1, 201),)), "add", FLAGGED)
    assert account.views.quickly(inbox) is None  # too much has changed
    assert list(account.views.load(inbox).flags[:202]) == [FLAGGED] * 201 + [0]
    account.close()
    account = place.open()
    account.messages.expunge(inbox, UidSet(((1, 201),)), only_deleted=False)
    assert account.views.quickly(inbox) is None  # or gone


@pytest.mark.usefixtures("few")
def test_a_snapshot_that_cannot_be_read_is_made_anew(place: AccountPlace, account: Account, inbox: MailboxId) -> None:
    fill(account, inbox, 60)
    account.views.load(inbox)
    place.settle()
    account.database.write(lambda transaction: transaction.driver.execute("UPDATE snapshot SET rows = x'00'"))
    account.close()
    account = place.open()
    assert len(account.views.load(inbox)) == 60
    place.settle()
    with account.database.reading() as connection:
        assert connection.driver.execute("SELECT length(rows) FROM snapshot").fetchone()[0] > 100


def test_behind_the_horizon_everything_is_compared(place: AccountPlace, account: Account, inbox: MailboxId) -> None:
    fill(account, inbox, 20)
    view = account.views.load(inbox)
    other = place.open()
    other.messages.store(inbox, UidSet.of(range(1, 11)), "add", DELETED)
    other.messages.expunge(inbox)
    other.messages.store(inbox, UidSet.of([15]), "add", SEEN)
    tombstones = Tombstones(account.account_id)
    while other.database.write(lambda transaction: tombstones.forget_old(transaction, inbox, kept=0)):
        pass
    before = view.highest_modseq
    view.refresh()
    assert list(view.uids) == list(range(11, 21))
    assert view.expunged_horizon > before
    assert changes_since(view, before).changed == [15]
    assert sorted(changes_since(view, before).vanished) == list(range(1, 11))
    account.close()


def test_the_view_of_a_deleted_mailbox_is_gone(place: AccountPlace, account: Account) -> None:
    mailbox_id = account.mailboxes.create("Work").id
    fill(account, mailbox_id, 3)
    view = account.views.load(mailbox_id)
    account.mailboxes.delete("Work")
    with pytest.raises(Gone):
        view.refresh()
    with pytest.raises(Gone):
        place.open().views.load(mailbox_id)
    account.close()


def test_tombstones_that_were_forgotten_meanwhile_are_not_taken_for_all(
    place: AccountPlace, account: Account, inbox: MailboxId
) -> None:
    """RFC 7162 §3.2.10.2: whoever asks from before the horizon is told of every UID that is not there."""
    fill(account, inbox, 20)
    before = account.views.load(inbox).highest_modseq
    gone = [account.messages.expunge(inbox, UidSet.of([uid]), only_deleted=False).modseq for uid in range(1, 11)]
    account.close()
    account = place.open()
    view = account.views.load(inbox)
    assert sorted(view.vanished_since(before) or ()) == list(range(1, 11))
    while account.database.write(
        lambda transaction: Tombstones(account.account_id).forget_old(transaction, inbox, kept=3)
    ):
        pass
    view.refresh()
    assert view.vanished_since(before) is None
    assert view.vanished_since(gone[7]) == [9, 10]


def test_columns_are_prepared_on_another_thread(account: Account, inbox: MailboxId) -> None:
    fill(account, inbox, 10)
    view = account.views.load(inbox)
    assert view.columns_missing == 10
    view.prepare_columns()
    fill(account, inbox, 1)
    view.refresh()
    assert len(view.columns()) == 11
    assert view.columns_missing == 0


def test_columns_of_what_arrived_are_read_ahead_and_what_was_remembered_stays(
    account: Account, inbox: MailboxId, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(account, inbox, 5)
    view = account.views.load(inbox)
    columns = view.columns()
    columns.answers.put("asked", 5, range(2))
    fill(account, inbox, 7)
    view.refresh()
    assert view.columns_missing == 7
    view.prepare_columns()
    with monkeypatch.context() as patched:
        patched.delattr(Columns, "extend")  # nothing is read any more
        assert view.columns() is columns
    assert columns.answers.get("asked") is not None
    assert {len(values) for values in columns.arrays} == {12}
    assert list(columns.message_ids) == sorted(set(columns.message_ids))


def test_own_changes_are_taken_in_without_the_database(place: AccountPlace, account: Account, inbox: MailboxId) -> None:
    fill(account, inbox, 3)
    view = account.views.load(inbox)
    known = view.highest_modseq
    assert not view.take_own(known + 1)
    account.messages.store(inbox, UidSet.of([2]), "add", SEEN)
    fill(account, inbox, 2)
    assert view.take_own(account.mailboxes.by_id(inbox).highest_modseq)
    assert (list(view.flags), view.uidnext) == ([0, SEEN, 0, 0, 0], 6)
    assert not view.refresh()
    place.open().messages.store(inbox, UidSet.of([1]), "add", SEEN)
    own = account.messages.store(inbox, UidSet.of([3]), "add", SEEN)
    assert not view.take_own(own.modseq)  # somebody else was first
    assert view.refresh()
    assert list(view.flags) == [SEEN, SEEN, SEEN, 0, 0]


def test_own_changes_are_taken_in_a_few_at_a_time(account: Account, inbox: MailboxId) -> None:
    fill(account, inbox, 5)
    view = account.views.load(inbox)
    last = [account.messages.store(inbox, UidSet.of([uid]), "add", SEEN).modseq for uid in range(1, 6)][-1]
    assert [view.take_own(last, 2) for _ in range(3)] == [False, False, True]
    assert list(view.flags) == [SEEN] * 5
    assert view.highest_modseq == last


def test_own_changes_with_anothers_between_them_are_not_taken_for_all(
    place: AccountPlace, account: Account, inbox: MailboxId
) -> None:
    fill(account, inbox, 3)
    view = account.views.load(inbox)
    account.messages.store(inbox, UidSet.of([1]), "add", SEEN)
    place.open().messages.store(inbox, UidSet.of([2]), "add", SEEN)
    own = account.messages.store(inbox, UidSet.of([3]), "add", SEEN)
    assert not view.take_own(own.modseq)
    assert view.refresh()
    assert list(view.flags) == [SEEN, SEEN, SEEN]
    account.close()


@pytest.mark.parametrize("unseen", [None, 0, 1, 4999, 5000, 12_000])
def test_the_first_unseen_message_of_a_large_mailbox(unseen: int | None) -> None:
    flags = array("Q", [SEEN | 4] * 12_001)
    if unseen is not None:
        flags[unseen] = 4 | 1 << 40
    assert first_without(flags, SEEN) == (0 if unseen is None else unseen + 1)
