r"""What others did to thousands of messages is told in pieces, between which others are served, and comes out whole.

RFC 9051 §7.5.1 (EXPUNGE), §7.5.2 (FETCH nobody asked for); RFC 7162 §3.2.10 (VANISHED).
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imap_play import CoreClient
from imap_town import PASSWORD, MailTown, mail

from hosting.imap.decoder import Frame
from hosting.imap.positions import found, missing, runs, surviving
from hosting.imap.searching import esearch, matching, merging
from storage.mail.columns import without

_COUNT = 9000
_PIECE = 4000  # messages that one step may look at, or tell to be gone
_LINES = 1000  # … and whose flags it may tell


class Counting(CoreClient):
    """How many untagged responses each step of a command told."""

    steps: list[int]
    works = 0  # calls of workers so far

    def do(self, command: str) -> list[str]:
        self.decoder.feed(f"x {command}\r\n".encode())
        frame = self.decoder.next_frame()
        assert isinstance(frame, Frame)
        self.steps, lines, value = [], [], None
        flow = self.session.respond(frame)
        if isinstance(flow, bytes):
            lines = flow.decode("ascii").split("\r\n")[:-1]
            self.steps.append(len(lines))
            return lines
        try:
            while True:
                effect: Any = flow.send(value)
                value = None if isinstance(effect, bytes) else effect.run()
                self.works += not isinstance(effect, bytes)
                if isinstance(effect, bytes):
                    told = effect.decode("ascii").split("\r\n")[:-1]
                    self.steps.append(len(told))
                    lines += told
        except StopIteration:
            return lines


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailTown]:
    town = MailTown(tmp_path_factory.mktemp("many"))
    first = client(town)
    first.send(b"a CREATE full\r\nb APPEND full {%d+}\r\n%b\r\nc SELECT full\r\n" % (len(mail()), mail()))
    have = 1
    while have < _COUNT:
        more = min(have, _COUNT - have)
        first.send(b"d COPY 1:%d full\r\n" % more)
        have += more
    first.close()
    yield town
    town.close()


def client(town: MailTown, enable: str = "") -> Counting:
    new = Counting(town.services)
    new.send(f'a LOGIN alice@example.test "{PASSWORD}"\r\n'.encode())
    if enable:
        new.do(f"ENABLE {enable}")
    return new


@pytest.fixture
def full(town: MailTown) -> str:
    """A mailbox of so many messages that a test may empty."""
    copier = client(town)
    for command in ("CREATE copy", "SELECT full", "COPY 1:* copy"):
        copier.do(command)
    copier.close()
    return "copy"


@pytest.fixture(autouse=True)
def _without_copies(town: MailTown) -> Iterator[None]:
    yield
    cleaner = client(town)
    cleaner.do("DELETE copy")
    cleaner.close()


def test_flags_that_others_changed_are_told_in_pieces(town: MailTown) -> None:
    writer, reader = client(town), client(town, "CONDSTORE")
    for each in (writer, reader):
        each.do("SELECT full")
    writer.do("UID STORE 5:* +FLAGS.SILENT (\\Flagged kw)")
    lines = reader.do("NOOP")
    told = [line for line in lines if " FETCH " in line]
    assert [int(line.split()[1]) for line in told] == list(range(5, _COUNT + 1))
    assert all("\\Flagged kw" in line and "MODSEQ" in line for line in told)
    assert max(reader.steps) <= _LINES
    assert lines.index(next(line for line in lines if " FLAGS (" in line and "kw" in line)) < lines.index(told[0])
    assert reader.do("NOOP") == ["x OK Done."]
    for each in (writer, reader):
        each.close()


def test_whoever_fetches_all_flags_is_not_told_them_again(town: MailTown) -> None:
    writer, reader = client(town), client(town)
    for each in (writer, reader):
        each.do("SELECT full")
    writer.do("UID STORE 1:* +FLAGS.SILENT (\\Answered)")
    reader.session.mailbox.refresh()
    assert sum("\\Answered" in line for line in reader.do("UID FETCH 1:* (FLAGS)")) == _COUNT
    assert reader.do("NOOP") == ["x OK Done."]
    for each in (writer, reader):
        each.close()


def test_ones_own_silent_store_hides_nothing_of_others(town: MailTown) -> None:
    writer, reader = client(town), client(town)
    for each in (writer, reader):
        each.do("SELECT full")
    writer.do("UID STORE 1:* -FLAGS.SILENT (\\Answered)")
    writer.do("UID STORE 1:* +FLAGS.SILENT (\\Draft)")
    lines = reader.do("UID STORE 7 +FLAGS.SILENT (\\Deleted)")
    assert sum("\\Draft" in line for line in lines) == _COUNT
    assert any(line.startswith("* 7 FETCH") and "\\Draft" in line and "\\Deleted" in line for line in lines)
    reader.do("UID STORE 7 -FLAGS.SILENT (\\Deleted)")
    for each in (writer, reader):
        each.close()


def test_a_store_beside_very_many_changes_of_others_is_told_once(town: MailTown) -> None:
    """What it changed is told as its answer; what others changed, also of the same messages, after that."""
    writer, reader = client(town), client(town)
    for each in (writer, reader):
        each.do("SELECT full")
    writer.do("UID STORE 1:2000 +FLAGS.SILENT ($Theirs)")
    lines = reader.do("UID STORE 2000:4000 +FLAGS ($Mine)")
    told = [int(line.split()[1]) for line in lines if " FETCH " in line]
    assert sorted(told) == list(range(1, 4001)) and told[:2001] == list(range(2000, 4001))
    assert reader.do("NOOP") == ["x OK Done."]
    writer.do("UID STORE 1:4000 -FLAGS.SILENT ($Theirs $Mine)")
    for each in (writer, reader):
        each.close()


def test_a_silent_store_hides_nothing_of_others_that_was_noted_before_it(town: MailTown) -> None:
    writer, reader = client(town), client(town)
    for each in (writer, reader):
        each.do("SELECT full")
    writer.do("UID STORE 1:2000 +FLAGS.SILENT ($Theirs)")
    reader.session.mailbox.refresh()
    lines = reader.do("UID STORE 7 +FLAGS.SILENT (\\Deleted)")
    assert sum("$Theirs" in line for line in lines if " FETCH " in line) == 2000
    writer.do("UID STORE 1:2000 -FLAGS.SILENT ($Theirs \\Deleted)")
    for each in (writer, reader):
        each.close()


@pytest.mark.parametrize("enable", ["", "QRESYNC"])
def test_messages_that_others_expunged_are_told_in_pieces(town: MailTown, full: str, enable: str) -> None:
    writer, reader = client(town), client(town, enable)
    for each in (writer, reader):
        each.do(f"SELECT {full}")
    writer.do("UID STORE 2:4000,4002:6000,7000 +FLAGS.SILENT (\\Deleted)")
    writer.do("EXPUNGE")
    before = [line for line in reader.do("FETCH 1:10 (UID)") if "EXPUNGE" in line or "VANISHED" in line]
    assert before == []  # never inside the answer to a command by message numbers
    numbers = list(range(1, _COUNT + 1))
    for line in reader.do("NOOP"):
        if match := re.fullmatch(r"\* (\d+) EXPUNGE", line):
            del numbers[int(match[1]) - 1]
        elif match := re.fullmatch(r"\* VANISHED ([\d:,]+)", line):
            for part in match[1].split(","):
                low, _, high = part.partition(":")
                gone = set(range(int(low), int(high or low) + 1))
                numbers = [uid for uid in numbers if uid not in gone]
    assert numbers == [1, 4001, *range(6001, 7000), *range(7001, _COUNT + 1)]
    assert list(reader.session.mailbox.uids[: reader.session.mailbox.told]) == numbers
    assert max(reader.steps) <= _PIECE
    assert reader.steps.count(0) >= 2  # places at which others may go first
    for each in (writer, reader):
        each.close()


def test_store_of_what_a_search_saved_and_of_what_is_gone_looks_at_it_in_slices(town: MailTown, full: str) -> None:
    writer, storer = client(town), client(town, "CONDSTORE")
    for each in (writer, storer):
        each.do(f"SELECT {full}")
    storer.do("UID SEARCH RETURN (SAVE) 1:8500")
    writer.do("UID STORE 2 +FLAGS.SILENT (\\Deleted)")
    writer.do("EXPUNGE")
    lines = storer.do("UID STORE $ +FLAGS.SILENT (kept)")
    told = [int(match[1]) for line in lines if (match := re.search(r"\(UID (\d+) MODSEQ \(\d+\)\)", line))]
    assert told == [1, *range(3, 8501)]
    slices = -(-8500 // 4000)
    assert storer.steps.count(0) >= 3 * slices  # positions of "$", those that are there, and their UIDs
    assert max(storer.steps) <= _LINES
    for each in (writer, storer):
        each.close()


def test_setting_again_what_all_have_is_looked_at_in_slices_and_writes_nothing(town: MailTown, full: str) -> None:
    writer = client(town)
    writer.do(f"SELECT {full}")
    writer.do("UID STORE 1:* FLAGS.SILENT ()")
    writer.do("UID STORE 5:8004 +FLAGS.SILENT (\\Flagged)")
    view, works = writer.session.mailbox.view, writer.works
    modseq = view.highest_modseq
    for numbers, change in (("5:8004", "+FLAGS.SILENT (\\Flagged)"), ("1:4,8005:*", "-FLAGS.SILENT (\\Flagged)")):
        assert writer.do(f"UID STORE {numbers} {change}") == ["x OK Stored."]
    assert (view.highest_modseq, writer.works) == (modseq, works)
    writer.do("UID STORE 5:8004 +FLAGS.SILENT (\\Flagged)")
    assert writer.steps.count(0) >= 2  # places at which others may go first
    writer.do("UID STORE 5:* +FLAGS.SILENT (\\Flagged)")  # the last of them have not got it yet
    assert view.highest_modseq == modseq + 1
    assert writer.works > works
    writer.close()


@pytest.mark.parametrize("by_uid", ["", "UID "])
def test_what_fails_unchangedsince_is_named_by_a_worker(town: MailTown, full: str, by_uid: str) -> None:
    """RFC 7162 §3.1.3 (MODIFIED)."""
    writer = client(town, "CONDSTORE")
    writer.do(f"SELECT {full}")
    writer.do("UID STORE 3 +FLAGS.SILENT (\\Deleted)")
    writer.do("EXPUNGE")
    since = writer.session.mailbox.view.highest_modseq
    writer.do("STORE 2:8000 +FLAGS.SILENT (late)")
    works = writer.works
    lines = writer.do(f"{by_uid}STORE 1:* (UNCHANGEDSINCE {since}) +FLAGS (\\Answered)")
    assert f"[MODIFIED {'2,4:8001' if by_uid else '2:8000'}]" in lines[-1]
    told = [int(match[1]) for line in lines if (match := re.search(r"UID (\d+) FLAGS", line))]
    assert told == [1, *range(8002, _COUNT + 1)]
    assert writer.works == works + 2
    assert max(writer.steps) <= _LINES
    writer.close()


@pytest.mark.parametrize(
    ("search", "answer", "slices"),
    [
        ("UID SEARCH RETURN (RELEVANCY COUNT) FUZZY SUBJECT hello", f"COUNT {_COUNT} RELEVANCY (100 ", 9),
        ("UID SEARCH RETURN (COUNT) MODSEQ 1", f"COUNT {_COUNT} MODSEQ ", 3),
        ("UID SEARCH RETURN (COUNT) NOT SUBJECT hello", "COUNT 0", 3),
        ("UID SEARCH RETURN (COUNT) NOT OR UID 1:10 FROM nobody", f"COUNT {_COUNT - 10}", 2),
        ("UID SEARCH RETURN (SAVE COUNT) NOT UID 3", f"COUNT {_COUNT - 1}", 6),
        ("UID SEARCH RETURN (COUNT) $ UID 1:9", "COUNT 8", 3),
    ],
)
def test_searches_that_find_very_many_look_at_them_in_slices(
    town: MailTown, search: str, answer: str, slices: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((matching, "_SLICE"), (matching, "_SCORED"), (merging, "_SLICE"), (esearch, "_SLICE")):
        monkeypatch.setattr(module, name, 4000)
    searcher = client(town, "CONDSTORE")
    searcher.do("SELECT full")
    searcher.do("UID SEARCH RETURN (SAVE) NOT UID 3")
    lines = searcher.do(search)
    assert answer in next(line for line in lines if line.startswith("* ESEARCH"))
    assert searcher.steps.count(0) >= slices
    searcher.close()


def test_a_search_that_is_updated_looks_at_what_others_changed_in_slices(town: MailTown, full: str) -> None:
    """RFC 5267 §4.3: flags of very many, then very many that arrive, of which some have been changed since."""
    writer, reader = client(town), client(town)
    for each in (writer, reader):
        each.do(f"SELECT {full}")
    begun = reader.do("UID SEARCH RETURN (UPDATE COUNT) UNKEYWORD updated")
    assert any(f"COUNT {_COUNT}" in line for line in begun)
    writer.do("UID STORE 5:8000 +FLAGS.SILENT (updated)")
    assert _updates(reader.do("NOOP")) == {"REMOVEFROM": set(range(5, 8001)), "ADDTO": set()}
    assert max(reader.steps) <= _LINES
    assert reader.steps.count(0) >= 2 * (_COUNT // 2000)
    writer.do(f"UID COPY 1:6000 {full}")
    writer.do("UID STORE 7 -FLAGS.SILENT (updated)")
    added = {7, *(_COUNT + uid for uid in range(1, 5))}
    assert _updates(reader.do("NOOP")) == {"REMOVEFROM": set(), "ADDTO": added}
    assert _updates(reader.do("NOOP")) == {"REMOVEFROM": set(), "ADDTO": set()}
    for each in (writer, reader):
        each.close()


def _updates(lines: list[str]) -> dict[str, set[int]]:
    told: dict[str, set[int]] = {"ADDTO": set(), "REMOVEFROM": set()}
    for kind, text in re.findall(r"(ADDTO|REMOVEFROM) \(0 ([\d:,]+)\)", "\n".join(lines)):
        for part in text.split(","):
            low, _, high = part.partition(":")
            told[kind] |= set(range(int(low), int(high or low) + 1))
    return told


@settings(max_examples=60)
@given(st.sets(st.integers(1, 60)), st.sets(st.integers(1, 60)), st.integers(1, 20))
def test_missing_finds_what_is_gone_and_nothing_else(had: set[int], lost: set[int], size: int) -> None:
    uids = sorted(had)
    current = sorted((had - lost) | {70, 71})
    parts = list(missing(uids, len(uids), current, size))
    assert [uids[at] for part in parts for at in part] == sorted(had & lost)
    assert all(0 < len(part) <= size for part in parts)


_UIDS = st.sets(st.integers(1, 60))


@settings(max_examples=60)
@given(_UIDS, _UIDS, st.integers(0, 60), st.integers(0, 60), st.booleans())
def test_what_survives_is_found_by_range_and_by_list(
    had: set[int], lost: set[int], low: int, high: int, as_list: bool
) -> None:
    uids = sorted(had)
    current = array("I", sorted((had - lost) | {70, 71}))
    positions = range(min(low, len(uids)), min(high, len(uids)))
    mine, now = surviving(uids, list(positions) if as_list else positions, current)
    assert list(mine) == [at for at in positions if uids[at] not in lost]
    assert [current[at] for at in now] == [uids[at] for at in mine]


@settings(max_examples=60)
@given(_UIDS, _UIDS, st.integers(0, 60))
def test_positions_are_found_of_what_was_told_alone(had: set[int], wanted: set[int], told: int) -> None:
    uids = array("I", sorted(had))
    told = min(told, len(uids))
    assert found(uids, told, sorted(wanted)) == [at for at in range(told) if uids[at] in wanted]


@settings(max_examples=60)
@given(_UIDS, _UIDS)
def test_runs_mean_the_positions_and_no_others(had: set[int], wanted: set[int]) -> None:
    uids = sorted(had)
    positions = [at for at, uid in enumerate(uids) if uid in wanted]
    ranges = runs(uids, positions)
    assert [at for at, uid in enumerate(uids) if any(low <= uid <= high for low, high in ranges)] == positions


@settings(max_examples=60)
@given(st.lists(st.integers(0, 9), max_size=40), st.sets(st.integers(0, 45)))
def test_without_leaves_out_what_stands_there_and_nothing_else(values: list[int], positions: set[int]) -> None:
    kept = without(array("I", values), sorted(positions))
    assert list(kept) == [value for at, value in enumerate(values) if at not in positions]


def test_many_expunges_of_ones_own_make_the_arrays_anew_once(town: MailTown, full: str) -> None:
    """Each transaction takes out a thousand; the view takes in all of them in one go, also after arrivals."""
    writer = client(town)
    writer.do(f"SELECT {full}")
    view = writer.session.mailbox.view
    writer.do("UID STORE 1:8000 +FLAGS.SILENT (\\Deleted)")
    before = view.generation
    writer.do("EXPUNGE")
    assert view.generation == before + 1
    assert list(view.uids) == list(range(8001, _COUNT + 1))
    assert len(view.flags) == len(view.modseqs) == _COUNT - 8000
    writer.close()


def test_resynchronisation_tells_in_pieces(town: MailTown, full: str) -> None:
    """RFC 7162 §3.2.5."""
    writer, reader = client(town), client(town, "QRESYNC")
    writer.do(f"SELECT {full}")
    writer.do("UID STORE 3,5:6000 +FLAGS.SILENT (\\Deleted)")
    writer.do("EXPUNGE")
    writer.do("UID STORE 6001:7500 +FLAGS.SILENT (\\Flagged)")
    lines = reader.do(f"SELECT {full} (QRESYNC ({writer.session.mailbox.view.uidvalidity} 1))")
    assert [line for line in lines if "VANISHED" in line] == ["* VANISHED (EARLIER) 3,5:6000"]
    told = [int(match[1]) for line in lines if (match := re.search(r"FETCH \(UID (\d+) ", line))]
    assert told == [1, 2, 4, *range(6001, _COUNT + 1)]
    assert max(reader.steps) <= _LINES
    for each in (writer, reader):
        each.close()
