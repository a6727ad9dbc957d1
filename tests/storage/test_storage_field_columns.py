"""HEADER finds the same with columns as without (RFC 9051 §6.4.4), and no column outlives a message in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_box import ACCOUNT, Box

from storage.database.database import Transaction
from storage.errors import Unavailable
from storage.mail.field_columns import _Fields
from storage.mail.packed_columns import FieldColumn, ThreadColumn
from storage.mail.search_index import PURGE_AFTER, SearchIndex

COUNT = 40
LISTS = ("linux kernel", "fork", "zzzteana", "", "Fork you")
ASKED = [
    *[("list-id", needle) for needle in ("fork", "k", "linux kernel", "", " fork", "x\ny", "nowhere", "zzzteana")],
    *[
        ("x-mailer", "7"),
        ("x-mailer", "mailer"),
        ("list-post", ""),
        ("x-odd", "value"),
        ("x-inner", "part"),
        ("list", ""),
    ],
]


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Box]:
    """Spans of 8 messages; all but two of the fifth one's are there."""
    for module in ("field_columns", "search_index"):
        monkeypatch.setattr(f"storage.mail.{module}.SHIFT", 3)
    for name, value in (("SPAN", 8), ("LEAST", 6), ("_SHARED", 2), ("_READ", 3)):
        monkeypatch.setattr(f"storage.mail.field_columns.{name}", value)
    monkeypatch.setattr("storage.mail.search_index._LATE", 0)
    monkeypatch.setattr("storage.mail.lookup.FEW", 0)
    box = Box(tmp_path / "account.db")
    box.database.write(box.index.begin)
    for number in range(1, COUNT + 1):
        if number not in (33, 34, 35):
            box.add(message(number), number)
    box.fill_index()
    yield box
    box.database.close()


def message(number: int) -> bytes:
    lines = [b"Subject: s", b"X-Mailer: mailer %d" % (number % 3)]
    if number % 4:
        lines.append(b"List-ID: %b" % LISTS[number % 5].encode())
    if number % 7 == 0:
        lines += [b"list-id: fork", b"list-id: fork", b"X-Odd: =?utf-8?q?a_v=C3=A4lue?="]
    if number % 5 == 0:
        lines += [b'Content-Type: multipart/mixed; boundary="b"', b"", b"--b", b"X-Inner: part", b"", b"t", b"--b--"]
    return b"\r\n".join([*lines, b"", b"body"])


def spans(box: Box) -> set[int]:
    return box.index.columns.threaded()


def answers(box: Box) -> list[set[int]]:
    elsewhere = SearchIndex(box.database, ACCOUNT, box.read, box.clock)  # remembers nothing
    return [box.search("header", needle, name, index=elsewhere) for name, needle in ASKED]


def test_header_finds_the_same_with_columns(box: Box) -> None:
    assert spans(box) == {0, 1, 2, 3}
    assert ("LIST-ID",) in box.rows("SELECT DISTINCT name FROM field_column")
    assert ("X-INNER",) not in box.rows("SELECT DISTINCT name FROM field_column")
    with_columns = answers(box)
    box.write("UPDATE field_column SET packed = x'01'")  # nobody can read them
    assert with_columns == answers(box)
    box.write("DELETE FROM field_column")
    assert with_columns == answers(box)
    assert sum(not each for each in with_columns) == 7


def test_a_column_answers_for_its_messages(box: Box) -> None:
    box.write(
        "UPDATE field_column SET packed = (SELECT packed FROM field_column WHERE name = 'X-MAILER' AND span = 1)"
        " WHERE name = 'LIST-ID' AND span = 1"
    )
    assert box.search("header", "mailer 0", "list-id") == {9, 12, 15}


def test_columns_are_deleted_with_a_message_and_made_again_when_the_index_was_purged(box: Box) -> None:
    before = answers(box)
    box.delete(12)
    assert box.index.work()
    assert spans(box) == {0, 2, 3}
    assert box.rows("SELECT count(*) FROM field_column WHERE span = 1") == [(0,)]
    box.fill_index()
    assert spans(box) == {0, 2, 3}
    assert answers(box) == [each - {12} for each in before]
    box.clock.advance(PURGE_AFTER)
    box.fill_index()
    assert spans(box) == {0, 1, 2, 3}
    assert answers(box) == [each - {12} for each in before]


def test_columns_of_each_span_are_deleted_by_themselves(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deleting a row overwrites its pages, and others wait to write meanwhile."""
    for number in (3, 12, 20, 21, 30):
        box.delete(number)
    write, left = box.database.write, []

    def watched(action: Callable[[Transaction], object], *, durable: bool = True) -> object:
        result = write(action, durable=durable)
        left.append(spans(box))
        return result

    monkeypatch.setattr(box.database, "write", watched)
    assert box.index.forget_batch() == 5
    assert left == [{1, 2, 3}, {2, 3}, {3}, set(), set()]
    assert box.rows("SELECT (SELECT count(*) FROM field_column), (SELECT count(*) FROM forgotten)") == [(0, 0)]


def test_a_large_span_is_deleted_in_pieces_and_what_a_crash_left_by_the_next(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = "SELECT count(*), sum(name = '') FROM field_column WHERE span = 1"
    [(columns, _)] = box.rows(rows)
    assert columns > 3
    monkeypatch.setattr("storage.mail.field_columns._PIECE", 1)
    box.delete(12)
    write, left = box.database.write, []

    def watched(action: Callable[[Transaction], object], *, durable: bool = True) -> object:
        if len(left) == 2:
            raise Unavailable("killed")
        result = write(action, durable=durable)
        left.append(box.rows(rows))
        return result

    with monkeypatch.context() as patched:
        patched.setattr(box.database, "write", watched)
        with pytest.raises(Unavailable):
            box.index.forget_batch()
    assert left == [[(columns - 1, 1)], [(columns - 2, 1)]]
    assert 1 in spans(box)
    assert box.index.forget_batch() == 1
    assert box.rows("SELECT (SELECT count(*) FROM field_column WHERE span = 1), (SELECT count(*) FROM forgotten)") == [
        (0, 0)
    ]


def test_gaps_of_ids_and_spans_of_few_messages_take_no_commit_each(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (41, 90, *range(800_000, 800_008), 900_000, 900_009):
        box.add(message(number), number)
    while box.index.index_batch():
        pass
    write, made = box.database.write, []

    def watched(action: Callable[[Transaction], object], *, durable: bool = True) -> object:
        result = write(action, durable=durable)
        made.append(spans(box) - {0, 1, 2, 3})
        return result

    monkeypatch.setattr(box.database, "write", watched)
    while box.index.make_columns():
        pass
    assert made == [{100_000}, {100_000}]


def test_a_message_that_comes_late_into_a_span_is_found(box: Box) -> None:
    """Its number was taken before those of others that were stored first."""
    box.delete(13)
    box.fill_index()
    box.clock.advance(PURGE_AFTER)
    box.fill_index()
    assert spans(box) == {0, 1, 2, 3}
    box.add(b"Subject: s\r\nList-Id: forkfork\r\n\r\n", 13)
    assert 13 in box.search("header", "forkfork", "list-id")
    box.fill_index()
    assert spans(box) == {0, 2, 3}
    assert 13 in box.search("header", "forkfork", "list-id")
    box.clock.advance(PURGE_AFTER)
    box.fill_index()
    assert spans(box) == {0, 1, 2, 3}
    assert 13 in box.search("header", "forkfork", "list-id")


def test_a_message_that_comes_late_is_found_while_columns_are_made_again(box: Box) -> None:
    box.delete(13)
    box.fill_index()
    box.clock.advance(PURGE_AFTER)
    box.fill_index()
    box.delete(6)
    box.fill_index()
    box.clock.advance(PURGE_AFTER)
    while box.rows("SELECT * FROM info WHERE name = 'search_columns_to'"):
        assert box.index.work()
    assert spans(box) == {1, 2, 3}  # nobody has seen yet that these are there
    box.add(b"Subject: s\r\nList-Id: forkfork\r\n\r\n", 13)
    box.fill_index()
    assert box.search("header", "forkfork", "list-id") == {13}


def header_fields(*texts: bytes) -> dict[str, FieldColumn]:
    fields = _Fields()
    for offset, text in enumerate(texts):
        fields.add(offset, text)
    return dict(fields.columns())


def test_what_the_fields_of_a_span_take_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.mail.field_columns._SHARED", 2)
    texts = [b"A: x\nB: %d\nC: %d" % (number, number // 2) for number in range(4)]
    assert set(header_fields(*texts)) == {"A", "B", "C"}
    monkeypatch.setattr("storage.mail.field_columns._MEMORY", 7 * 256)  # what six values take
    assert set(header_fields(*texts)) == {"A", "C"}
    monkeypatch.setattr("storage.mail.field_columns._LINES_MAX", 11)
    assert header_fields(*texts) == {}


def test_very_many_ids_make_no_column_of_threads() -> None:
    rows = [(offset, "", " ".join(f"{offset}.{at}@x" for at in range(1000)), "s", False) for offset in range(66)]
    assert ThreadColumn.of(rows[:65]) is not None
    assert ThreadColumn.of(rows) is None


def test_columns_of_texts_that_are_read_anew_are_deleted_with_them(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.mail.search_index.TEXTS", 99)
    box.messages[12] = b"Subject: s\r\nList-Id: another\r\n\r\n"
    while box.index.renew():
        pass
    assert 1 not in spans(box)
    assert box.search("header", "another", "list-id") == {12}
    box.fill_index()
    assert spans(box) == {0, 1, 2, 3}
    assert box.search("header", "another", "list-id") == {12}


def test_nothing_is_made_of_a_span_that_a_message_leaves_meanwhile(box: Box) -> None:
    span = box.index.columns.read(2)
    assert span is not None
    box.delete(20)
    box.fill_index()
    box.database.write(lambda transaction: box.index.columns.keep(transaction, span))
    assert spans(box) == {0, 1, 3}


TEXTS = st.text("aB \0é€\u0085\u2028", max_size=5)


HAVING = st.dictionaries(TEXTS.map(str.encode), st.lists(st.integers(0, 4095), min_size=1), min_size=1, max_size=6)


@given(HAVING, TEXTS)
def test_a_column_of_a_field_says_who_has_a_text_in_it(having: dict[bytes, list[int]], text: str) -> None:
    column = FieldColumn.unpacked(FieldColumn.of(having).packed())
    assert column is not None
    expected = [offset for value, offsets in having.items() if text.encode() in value for offset in offsets]
    assert column.containing(text.encode()) == expected


ROWS = st.lists(st.tuples(TEXTS, st.lists(st.sampled_from("abc"), max_size=4), TEXTS, st.booleans()), max_size=8)


@given(ROWS)
def test_a_column_of_threads_says_what_the_rows_say(rows: list[tuple[str, list[str], str, bool]]) -> None:
    made = ThreadColumn.of(
        (offset, own, " ".join(chain), base, reply) for offset, (own, chain, base, reply) in enumerate(rows)
    )
    assert made is not None
    column = ThreadColumn.unpacked(made.packed())
    assert column == made
    numbers = iter(column.references)
    read = [
        (column.ids[own], [column.ids[next(numbers)] for _ in range(count)], column.subjects[subject], reply == 1)
        for own, subject, count, reply in zip(column.own, column.subject, column.counts, column.replies, strict=True)
    ]
    assert read == rows
    assert list(column.offsets) == list(range(len(rows)))


def test_a_subject_with_a_line_end_makes_no_column() -> None:
    assert ThreadColumn.of([(0, "a", "", "x\ny", False)]) is None
    assert ThreadColumn.unpacked(b"") is None
    assert FieldColumn.unpacked(b"\x01rubbish") is None
