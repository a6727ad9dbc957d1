"""Text search finds exactly the messages with a substring (RFC 9051 §6.4.4), indexed or not, and forgets for good."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from search_box import ACCOUNT, Box

from storage.errors import Unavailable
from storage.mail import lookup as lookups
from storage.mail.lookup import Question, Verified
from storage.mail.search_index import PURGE_AFTER, TEXTS, SearchIndex
from storage.mail.sought import Sought
from storage.mail.trigrams import CONDENSED_FROM, condensed, searchable
from storage.mime.casemap import casemap
from storage.mime.message import read_message
from storage.mime.text import search_text


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path / "account.db")
    yield box
    box.database.close()


MAIL = (
    b"Subject: Minutes of the meeting\r\nFrom: John Doe <john@example.org>\r\nTo: ann@example.net\r\n"
    b'X-Note: kept on\r\n two lines\r\nList-Id: <linux.example.org>\r\n\r\nThe linux kernel, "quoted".\r\n',
    b"Subject: =?utf-8?q?Caf=C3=A9_in_Stra=C3=9Fe_7?=\r\nFrom: =?utf-8?q?J=C3=BCrgen?= <j@example.org>\r\n"
    b"Cc: john@example.org\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    b"5L2g5aW977yM5LiW55WMIHZpYWdyYQ==\r\n",  # 你好，世界 viagra
    b"Subject: re\r\nBcc: ghost@example.org\r\nX-Note: meeting\r\n\r\nvia agra iagr\r\n",
)

CASES = [
    ("subject", "meeting", "", {1}),
    ("subject", "MEET", "", {1}),
    ("subject", "café", "", {2}),
    ("subject", "CAFÉ in", "", {2}),
    ("subject", "strasse", "", {2}),  # full case folding
    ("subject", "re", "", {3}),  # two characters: no trigram
    ("subject", "", "", {1, 2, 3}),  # RFC 9051 §6.4.4: the empty string is a substring
    ("from", "john", "", {1}),
    ("from", "jürgen <j@", "", {2}),
    ("from", "example.net", "", set()),
    ("to", "ann@", "", {1}),
    ("cc", "john@example.org", "", {2}),
    ("bcc", "ghost", "", {3}),
    ("body", "linux kernel", "", {1}),
    ("body", 'l, "quoted".', "", {1}),
    ("body", "meeting", "", set()),
    ("body", "viagra", "", {2}),  # message 3 has all its trigrams but one
    ("body", "世界", "", {2}),
    ("body", "，", "", {2, 1}),  # a compatibility form of the ASCII comma
    ("body", "agr", "", {2, 3}),  # one trigram: the index is exact
    ("body", "a", "", {2, 3}),
    ("text", "meeting", "", {1, 3}),
    ("text", "linux", "", {1}),
    ("text", "kept on two lines", "", {1}),
    ("text", "no such text", "", set()),
    ("header", "meeting", "X-Note", {3}),
    ("header", "meeting", "Subject", {1}),
    ("header", "", "list-id", {1}),
    ("header", "", "X-None", set()),
    ("header", "on two", "x-note", {1}),
    ("header", "org", "Id", set()),
]


@pytest.mark.parametrize("few", [lookups.FEW, 0], ids=["verified", "through the index"])
@pytest.mark.parametrize("indexed", [True, False], ids=["indexed", "not yet indexed"])
def test_searches(box: Box, monkeypatch: pytest.MonkeyPatch, indexed: bool, few: int) -> None:
    monkeypatch.setattr(lookups, "FEW", few)
    for octets in MAIL:
        box.add(octets)
    if indexed:
        box.fill_index()
    assert box.index.unindexed() == (0 if indexed else len(MAIL))
    for key, needle, name, expected in CASES:
        assert (key, needle, box.search(key, needle, name)) == (key, needle, expected)


def test_only_the_messages_asked_about(box: Box) -> None:
    for number in range(60):
        box.add(b"Subject: alike %d\r\n\r\nalike text\r\n" % number)
    box.fill_index()
    for key in ("subject", "body"):
        lookup = box.index.lookup(key, "alike", Sought.of(range(1, 61, 3)))
        while not lookup.step():
            pass
        assert lookup.matches == set(range(1, 61, 3))


def test_message_ids_far_apart_are_searched_in_ranges(box: Box) -> None:
    places = [1, lookups.RANGE, lookups.RANGE + 1, 5 * lookups.RANGE + 3]
    for place in places:
        box.add(b"Subject: x\r\n\r\nneedle in message %d\r\n" % place, place)
    for place in range(100, 100 + lookups.FEW):
        box.add(b"Subject: x\r\n\r\nhay\r\n", place)
    box.fill_index()
    assert box.search("body", "needle in") == set(places)


def test_candidates_are_verified_in_slices_and_remembered(box: Box) -> None:
    for number in range(3 * lookups.SLICE):
        box.add(b"Subject: x\r\n\r\n%s\r\n" % (b"abcde" if number % 3 else b"abc bcd cde"))
    box.fill_index()
    lookup = box.index.lookup("body", "abcde", Sought.of(box.messages))
    assert not lookup.step()  # more candidates than one step verifies
    while not lookup.step():
        pass
    assert len(lookup.matches) == 2 * lookups.SLICE
    again = box.index.lookup("body", "abcde", Sought.of(box.messages))
    assert again.step()
    assert again.matches == lookup.matches


def test_files_of_indexed_messages_are_not_read(box: Box) -> None:
    for octets in MAIL:
        box.add(octets)
    box.fill_index()
    box.reads = 0
    for key, needle, name, _ in CASES:
        box.search(key, needle, name)
    assert box.reads == 0


def test_characters_that_the_tokenizer_reads_otherwise_hide_nothing(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "FEW", 0)
    box.add(
        "Subject: x\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\ufffeab\uffff cd\0needle \ue000\r\n".encode()
    )
    box.fill_index()
    for needle in ("needle", "\ufffeab\uffff", "\uffff cd", "\ue000"):
        assert box.search("body", needle) == {1}
    assert searchable("a\0b") == "a\ufffdb"


def test_a_long_text_is_indexed_by_its_set_of_trigrams(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "FEW", 0)
    words = b" ".join(b"w%d" % number for number in range(CONDENSED_FROM // 4))
    box.add(b"Subject: x\r\n\r\n%s\r\n" % words)
    box.fill_index()
    assert box.search("body", "w777 w778") == {1}
    assert box.search("body", "w778 w777") == set()
    assert len(condensed(casemap(words.decode()))) < CONDENSED_FROM


def test_a_message_that_cannot_be_read_is_found_by_its_fields(box: Box) -> None:
    box.add(MAIL[0])
    octets = box.messages.pop(1)
    box.fill_index()
    box.messages[1] = octets
    assert box.index.unindexed() == 0
    assert box.search("subject", "meeting") == {1}
    assert box.search("body", "linux") == set()


def test_a_deleted_message_leaves_its_text_with_the_next_work_and_its_trigrams_within_a_day(box: Box) -> None:
    kept, deleted = box.add(MAIL[0]), box.add(b"Subject: zqxjk\r\n\r\nvwqzk\r\n")
    for number in range(200):  # so that the one segment has several pages
        box.add(b"Subject: filler\r\n\r\nfiller %d\r\n" % number)
    box.fill_index()

    def terms() -> bytes:
        tables = ("search_fields_data", "search_parts_data")
        return b"".join(block for table in tables for (block,) in box.rows(f"SELECT block FROM {table}"))

    assert b"ZQX" in terms()
    assert b"VWQ" in terms()
    box.delete(deleted)
    assert box.rows("SELECT message_id FROM forgotten") == [(deleted,)]
    assert box.index.work()
    assert box.rows(f"SELECT count(*) FROM search_text WHERE message_id = {deleted}") == [(0,)]
    assert box.rows("SELECT message_id FROM forgotten") == []
    box.clock.advance(PURGE_AFTER)
    box.fill_index()
    for trigram in (b"ZQX", b"QXJ", b"VWQ", b"WQZ"):
        assert trigram not in terms()
    assert kept in box.search("body", "kernel")
    assert box.index.verify()


def test_deleting_one_message_of_a_single_segment_purges_it_too(box: Box) -> None:
    box.add(MAIL[0])
    deleted = box.add(b"Subject: zqxjk\r\n\r\nvwqzk\r\n")
    box.fill_index()
    box.delete(deleted)
    box.fill_index()
    box.clock.advance(PURGE_AFTER)
    box.fill_index()
    blocks = b"".join(block for (block,) in box.rows("SELECT block FROM search_parts_data"))
    assert b"VWQ" not in blocks


def test_a_message_deleted_before_it_was_indexed_leaves_nothing_to_forget(box: Box) -> None:
    box.delete(box.add(MAIL[0]))
    assert box.rows("SELECT message_id FROM forgotten") == []
    assert box.index.index_batch() == 0


def test_texts_of_an_earlier_version_are_renewed(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read otherwise is found by what is read now, through the index too; once, and going on where it was."""
    monkeypatch.setattr("storage.mail.search_index.BATCH", 2)
    monkeypatch.setattr(lookups, "FEW", 0)
    same, other, gone, unreadable = (box.add(octets) for octets in (*MAIL, MAIL[0]))
    box.fill_index()
    before = box.rows(f"SELECT rowid, text FROM search_text WHERE message_id = {same}")
    box.messages[other] = b"Subject: x\r\n\r\nentirely other words\r\n"
    elsewhere = SearchIndex(box.database, ACCOUNT, box.read, box.clock)  # another process has verified, and remembers
    assert box.search("body", "viagra", index=elsewhere) == {other}
    as_of = elsewhere.texts_as_of()
    assert box.index.renew()
    box.index = SearchIndex(box.database, ACCOUNT, box.read, box.clock)
    box.delete(gone)
    octets = box.messages.pop(unreadable)
    while box.index.renew():
        box.index.work()
    box.messages[unreadable] = octets
    assert box.search("body", "other words") == {other}
    assert box.search("body", "viagra") == box.search("body", "viagra", index=elsewhere) == set()
    assert elsewhere.texts_as_of() == box.index.texts_as_of() != as_of
    assert box.search("subject", "straße") == {other}  # a field as it was when it arrived
    assert box.search("body", "kernel") == {same, unreadable}
    assert box.rows(f"SELECT rowid, text FROM search_text WHERE message_id = {same}") == before
    reads = box.reads
    assert not box.index.renew()
    assert box.reads == reads
    box.clock.advance(PURGE_AFTER)
    box.fill_index()
    assert box.index.verify()


def test_texts_change_again_before_all_are_renewed(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the renewal before came to says nothing about this one."""
    monkeypatch.setattr("storage.mail.search_index.BATCH", 1)
    first, second = box.add(MAIL[0]), box.add(MAIL[1])
    box.fill_index()
    assert box.index.renew()
    monkeypatch.setattr("storage.mail.search_index.TEXTS", TEXTS + 1)
    for message_id in (first, second):
        box.messages[message_id] = b"Subject: x\r\n\r\nentirely other words\r\n"
    while box.index.renew():
        pass
    assert box.search("body", "other words") == {first, second}
    assert not box.index.renew()


def test_segments_are_merged_while_texts_are_renewed(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else searches would have each batch to look at, and once in 200 one would merge them all at once."""
    monkeypatch.setattr("storage.mail.search_index.BATCH", 1)
    for number in range(40):
        box.messages[box.add(b"Subject: x\r\n\r\nwords\r\n")] = b"Subject: x\r\n\r\nother words %d\r\n" % number
    box.fill_index()
    box.write("UPDATE search_text SET text = x''")  # nobody can read it, so all of it is read anew
    while box.index.renew():
        [(segments,)] = box.rows("SELECT count(DISTINCT segid) FROM search_parts_idx")
        assert segments < 16


def test_a_long_message_ends_a_batch(box: Box) -> None:
    for _ in range(3):
        box.add(b"Subject: x\r\n\r\n" + b"x" * (CONDENSED_FROM - 100) + b"\r\n")
    assert box.index.index_batch() == 1


def test_verified_answers_are_bounded() -> None:
    verified = Verified(answers_max=10)
    first, second = Question.of("body", "one"), Question.of("body", "two")
    verified.learn(first, dict.fromkeys(range(8), True))
    verified.learn(second, dict.fromkeys(range(8), False))
    assert verified.known(first, range(8)) == {}
    assert verified.known(second, range(4)) == dict.fromkeys(range(4), False)


_ALPHABET = st.text(alphabet="aAbB \"'*:-éß世\0", max_size=12)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bodies=st.lists(_ALPHABET, min_size=1, max_size=6),
    needles=st.lists(_ALPHABET, min_size=1, max_size=4),
    few=st.sampled_from([0, 16]),
)
def test_any_needle_in_any_text(
    tmp_path_factory: pytest.TempPathFactory, bodies: list[str], needles: list[str], few: int
) -> None:
    box = Box(tmp_path_factory.mktemp("search") / "account.db")
    expected_texts = {}
    try:
        for number, body in enumerate(bodies):
            octets = b"Subject: s\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + body.encode()
            message_id = box.add(octets)
            expected_texts[message_id] = searchable(search_text(read_message(octets)).body)
            if number % 2:
                box.fill_index()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lookups, "FEW", few)
            for needle in needles:
                wanted = searchable(casemap(needle))
                assert box.search("body", needle) == {i for i, found in expected_texts.items() if wanted in found}
    finally:
        box.database.close()


@pytest.mark.parametrize(
    ("name", "needle", "text", "expected"),
    [
        ("To", "ann", "TO: ANN\nFROM: BEA", True),
        ("From", "bea", "TO: ANN\nFROM: BEA", True),
        ("From", "ann", "TO: ANN\nFROM: BEA", False),
        ("Received", "c", "RECEIVED: A\nRECEIVED: B\nRECEIVED: C\n\nTO: X", True),
        ("To", "x", "RECEIVED: X\n\nTO: X", False),
        ("To", "", "CC: X\nTO:", True),
        ("To", "", "CC: X\n\nTO:", False),
        ("o", "x", "TO: X", False),
        ("To", "x", "", False),
        ("To", "x", "\n\nTO: X", False),
    ],
)
def test_a_field_of_the_header_has_it(name: str, needle: str, text: str, expected: bool) -> None:
    """RFC 9051 §6.4.4, HEADER: never a field of a part, which stand behind an empty line."""
    assert Question.of("header", needle, name).test()(text.encode()) is expected


def test_a_message_that_cannot_be_read_for_now_keeps_nothing_else(box: Box) -> None:
    """The others are indexed, and what was erased leaves the file; then whoever called is told."""

    def complete() -> None:
        raise Unavailable

    gone = box.add(b"Subject: zebra\r\n\r\n")
    box.fill_index()
    box.delete(gone)
    unread, other = box.add(b"Subject: one\r\n\r\n", 5), box.add(b"Subject: another\r\n\r\n", 6)
    box.write(f"DELETE FROM content WHERE message_id = {unread}")
    index = SearchIndex(box.database, ACCOUNT, box.read, box.clock, complete)
    for _ in range(2):
        with pytest.raises(Unavailable):
            while index.work():
                pass
        box.clock.advance(PURGE_AFTER)
    assert box.rows("SELECT message_id FROM message WHERE indexed = 0") == [(unread,)]
    assert box.search("subject", "another") == {other}
    assert not box.rows("SELECT * FROM forgotten UNION ALL SELECT 1, 1 FROM info WHERE name = 'search_forgotten_since'")
