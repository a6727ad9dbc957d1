"""What has moved in from another server: known by number and by octets; changes of flags are carried, not the flags."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from accounts import AccountPlace
from hypothesis import given
from hypothesis import strategies as st

from storage.mail.moving import Moving
from storage.mail.moving_values import Arrived, Tags, changes, digest
from storage.values import ANSWERED, FLAGGED, SEEN, UidSet

LETTER = b"Subject: %d\r\n\r\nbody\r\n"
_tags = st.builds(Tags, st.integers(0, 31), st.frozensets(st.sampled_from(["a", "b", "$c"])))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[AccountPlace]:
    place = AccountPlace(tmp_path / "data")
    yield place
    place.close()


@given(before=_tags, now=_tags, here=_tags)
def test_a_flag_follows_a_change_there_and_nothing_else(before: Tags, now: Tags, here: Tags) -> None:
    change = changes(before, now)
    after = here.flags & ~change.removed.flags | change.added.flags
    words = (here.keywords - change.removed.keywords) | change.added.keywords
    for bit in (1, 2, 4, 8, 16):
        changed = (before.flags ^ now.flags) & bit
        assert after & bit == (now.flags if changed else here.flags) & bit
    for word in ("a", "b", "$c"):
        has_changed = (word in before.keywords) != (word in now.keywords)
        assert (word in words) == (word in (now.keywords if has_changed else here.keywords))
    assert bool(change) == (before != now)


def test_keywords_compare_caselessly() -> None:
    assert not changes(Tags(0, frozenset({"Work"})), Tags(0, frozenset({"WORK"})))


def test_what_moved_is_known_in_slices_wherever_it_is_here(place: AccountPlace) -> None:
    account = place.account
    inbox, archive = account.mailboxes.find("INBOX").id, account.mailboxes.find("Archive").id
    moving = Moving(account, "ada@old.test")
    folder = moving.begin("INBOX", 7, inbox)
    stored = [account.messages.append(inbox, LETTER % n, delivery_id=folder.delivery_id(n)) for n in range(1, 5)]
    assert moving.delivered(folder, [1, 2, 9]) == {1: stored[0].message_id, 2: stored[1].message_id}
    moving.record(
        folder,
        [Arrived(n, each.message_id, digest(LETTER % n), Tags(SEEN)) for n, each in enumerate(stored, start=1)],
    )
    account.messages.move(inbox, UidSet.of([stored[1].uid]), archive)
    account.messages.expunge(inbox, UidSet.of([stored[2].uid]), only_deleted=False)
    account.messages.store(archive, UidSet.of([1]), "add", FLAGGED, ["mine"])
    assert moving.tags_here(stored[1].message_id) == Tags(FLAGGED, frozenset({"mine"}))
    [rows] = moving.messages(folder)
    assert [(row.uid, row.here) for row in rows] == [(1, stored[0].uid), (2, None), (3, None), (4, stored[3].uid)]
    moving.seen(folder, [(1, Tags(ANSWERED, frozenset({"x"})))])
    moving.gone(folder, [4])
    [rows] = moving.messages(folder)
    assert [(row.uid, row.tags.flags) for row in rows] == [(1, ANSWERED), (2, SEEN), (3, SEEN)]
    assert moving.digest_of(folder, 1) == digest(LETTER % 1) and moving.digest_of(folder, 4) is None
    assert list(moving.uids(folder)) == [1, 2, 3]
    assert Moving(account, "other").folders() == {} and list(moving.folders()) == ["INBOX"]
    assert moving.is_anywhere(digest(LETTER % 3)) and moving.is_anywhere(b"x") is None
    moving.forget()
    assert moving.folders() == {} and list(moving.uids(folder)) == []


def test_new_numbers_are_met_with_the_octets(place: AccountPlace) -> None:
    account = place.account
    inbox = account.mailboxes.find("INBOX").id
    moving = Moving(account, "ada@old.test")
    folder = moving.begin("INBOX", 7, inbox)
    same, other = LETTER % 1, LETTER % 2
    ids = [account.messages.append(inbox, data).message_id for data in (same, same, other)]
    moving.record(folder, [Arrived(n, ids[n], digest(data), Tags(SEEN)) for n, data in ((0, same), (1, same))])
    moving.record(folder, [Arrived(0, ids[0], digest(same), Tags())])  # again: as it was
    folder = moving.renumbered(folder, 8)
    present = moving.present(folder)
    assert present.find(same, digest(same)) == (ids[0], Tags(SEEN))
    assert present.find(same, digest(same)) == (ids[1], Tags(SEEN))
    assert present.find(same, digest(same)) is None
    assert present.find(other, digest(other)) == (ids[2], None)  # it came here in another way
    assert present.find(other, digest(other)) is None
    moving.record(folder, [Arrived(5, ids[0], digest(same), Tags())])
    folder = moving.compared(folder, 99, is_whole=True)
    assert moving.folders()["INBOX"].highest_modseq == 99
    assert moving.present(folder).find(same, digest(same)) == (ids[1], None)
