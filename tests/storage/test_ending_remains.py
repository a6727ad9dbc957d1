"""The search for remains: whatever was left somewhere is found, and is told apart by where it stands."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.database.driver import connect
from storage.ending import remains
from storage.ending.pages import EncryptedPages
from storage.ending.remains import Order, Remains, Result, SoughtDatabase
from storage.ending.terms import KeyTerm, Search, texts_of, writings

KEY = hashlib.sha256(b"of the database").digest()
SECRET = hashlib.sha256(b"of a customer").digest()
TOKEN = "Rosenstrauch-7f3a"


class Place:
    """A data directory with one database, whose writer never checkpoints by itself."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.path = data / "control.db"
        self.driver = connect(self.path, KEY, create=True, autocheckpoint=False)
        self.driver.execute("PRAGMA journal_mode = WAL")
        for table in ("domain", "contract"):
            self.driver.execute(f"CREATE TABLE {table} (name TEXT PRIMARY KEY, more TEXT)")
        self.driver.execute("BEGIN")
        for number in range(100):
            self.driver.execute("INSERT INTO domain VALUES (?, ?)", (f"n{number}.example", "x" * (number * 90)))
        self.driver.execute("COMMIT")
        self.checkpoint()

    def checkpoint(self) -> None:
        self.driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def search(self, *texts: str, absent: tuple[str, ...] = (), thorough: bool = False) -> Result:
        key = KeyTerm.of("a1", SECRET)
        order = Order(
            str(self.data),
            (SoughtDatabase("control.db", KEY.hex()),),
            tuple(text.hex() for text in texts_of(texts or (TOKEN,))),
            ((key.key_id, key.head.hex(), key.digest.hex()),),
            absent,
            thorough,
        )
        assert remains.decoded(remains.encoded(order)) == order
        return Remains(order, lambda files, octets: None).search()

    def found(self, *texts: str, **more: Any) -> set[tuple[str, str, str]]:
        return {(each.where, each.kind, each.table) for each in self.search(*texts, **more).found}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_directory_without_it_holds_none_of_it(place: Place) -> None:
    result = place.search()
    assert result.found == []
    assert result.unverified == 0
    assert result.pages > 100  # rows that run over several pages are among them
    assert result.terms == 1 + 1  # a text and a key


def test_rows_are_named_by_their_table(place: Place) -> None:
    place.driver.execute("INSERT INTO contract VALUES (?, '')", (TOKEN.upper(),))
    place.driver.execute(
        "INSERT INTO domain VALUES ('far', ?)", ("x" * 9000 + TOKEN,)
    )  # in a page that it runs over to
    place.checkpoint()
    assert place.found() == {("control.db", "row", "contract"), ("control.db", "row", "domain")}


def test_what_was_deleted_without_being_written_over_is_in_a_free_page(place: Place) -> None:
    place.driver.execute("PRAGMA secure_delete = OFF")
    place.driver.execute("INSERT INTO domain VALUES ('long', ?)", ((TOKEN + " ") * 2000,))
    place.checkpoint()
    place.driver.execute("DELETE FROM domain WHERE name = 'long'")
    place.checkpoint()
    assert ("control.db", "free page", "") in place.found()


BEFORE = range(400, 9000, 9)  # octets before the token: with some it lies on a border


@pytest.mark.parametrize("log", [False, True], ids=["file", "log"])
def test_texts_that_run_over_borders_of_pages_are_found(place: Place, log: bool) -> None:
    """A token at every place of rows that run over: in the cell, across a border, in further pages."""
    place.driver.execute("BEGIN")
    fill = [(f"f{number}", "z" * 9000) for number in range(200)]
    place.driver.executemany("INSERT INTO domain VALUES (?, ?)", fill)
    place.driver.execute("DELETE FROM domain WHERE name LIKE 'f%3' OR name LIKE 'f%6'")  # rows will lie in pieces
    rows = [(f"r{at}", "x" * at + f"{at}:{TOKEN}:{at}" + "y" * (9500 - at)) for at in BEFORE]
    place.driver.executemany("INSERT INTO contract VALUES (?, ?)", rows)
    place.driver.execute("COMMIT")
    if not log:
        place.checkpoint()
    whole = {f"{at}:{TOKEN}:{at}" for at in BEFORE}
    pages = EncryptedPages(place.path, KEY)
    search = Search(texts_of(whole), (), 4)
    found, crossing = set[bytes](), set[bytes]()
    before = None
    for page in pages.all():
        found |= {term for term in search.find(page.octets) if isinstance(term, bytes)}
        for border in pages.borders(page, before):
            crossing |= {term for term in search.find_across(border.left, border.right) if isinstance(term, bytes)}
        before = page
    assert found | crossing == texts_of(whole)
    assert len(crossing) > 5
    assert not crossing & found


def test_a_text_over_a_border_is_named_by_its_table_or_as_free(place: Place) -> None:
    usable = 4096 - 48
    place.driver.execute("PRAGMA secure_delete = OFF")
    for at in range(usable + 400, usable + 600, 19):
        place.driver.execute("DELETE FROM contract")
        place.driver.execute("INSERT INTO contract VALUES ('a', ?)", ("x" * at + TOKEN + "y" * 9000,))
        place.checkpoint()
        assert place.found() == {("control.db", "row", "contract")}, at
    place.driver.execute("DELETE FROM contract")
    place.checkpoint()
    assert place.found() <= {("control.db", "free page", ""), ("control.db", "row", "contract")}
    assert place.found()


def test_however_much_there_is_where_it_may_be_what_is_elsewhere_is_found(place: Place) -> None:
    tokens = [f"{TOKEN}-{number}." for number in range(1200)]
    place.driver.execute("BEGIN")
    place.driver.executemany("INSERT INTO contract VALUES (?, ?)", [(token, "x" * 3500) for token in tokens])
    place.driver.execute("INSERT INTO domain VALUES ('last', ?)", ("x" * 9000 + tokens[7],))
    place.driver.execute("COMMIT")
    place.checkpoint()
    assert place.found(*tokens) == {("control.db", "row", "contract"), ("control.db", "row", "domain")}


def test_the_log_holds_what_was_deleted_until_it_is_cut(place: Place) -> None:
    place.driver.execute("INSERT INTO domain VALUES (?, '')", (TOKEN,))
    place.driver.execute("DELETE FROM domain WHERE name = ?", (TOKEN,))
    assert place.found() == {("control.db", "log frame", "domain")}
    place.checkpoint()
    assert place.found() == set()


@pytest.mark.parametrize("name", ["run/limits", "logs/access-1.seg", "limits.json"])
def test_files_are_read_as_they_are(place: Place, name: str) -> None:
    path = place.data / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"\0" * ((1 << 20) - 5) + TOKEN.encode() + b"\0" * 10)  # across the border of two pieces
    assert place.found() == {(name, "file", "")}


def test_names_of_files_count(place: Place) -> None:
    (place.data / "run").mkdir()
    (place.data / "run" / TOKEN.lower()).write_bytes(b"")
    assert place.found() == {(f"run/{TOKEN.lower()}", "name", "")}


def test_what_must_be_absent_is_told(place: Place) -> None:
    (place.data / "erasing" / "one").mkdir(parents=True)
    [found] = place.search(absent=("erasing/one", "tenants/7")).found
    assert (found.where, found.kind, found.term) == ("erasing/one", "name", "path")


def test_other_customers_are_passed_over_unless_it_is_thorough(place: Place) -> None:
    files = {"tenants/2/file", "keys/2/tenant.key"}
    for name in files:
        (place.data / name).parent.mkdir(parents=True, exist_ok=True)
        (place.data / name).write_bytes(TOKEN.encode())
    assert place.found() == set()
    assert place.found(thorough=True) == {(name, "file", "") for name in files}


def test_wrapped_keys_of_a_tenant_who_stays_are_looked_at_when_an_account_of_it_ends(place: Place) -> None:
    folder = place.data / "keys" / "2"
    folder.mkdir(parents=True)
    (folder / "tenant.key").write_bytes(TOKEN.encode())
    assert place.found(absent=("keys/2/7.key",)) == {("keys/2/tenant.key", "file", "")}


@pytest.mark.parametrize(
    "octets", [SECRET, SECRET.hex().encode(), SECRET.hex().upper().encode(), base64.b64encode(SECRET)]
)
def test_a_key_is_found_by_a_part_of_it(place: Place, octets: bytes) -> None:
    (place.data / "dump").write_bytes(b"abc" + octets + b"def")
    [found] = place.search().found
    assert (found.where, found.term) == ("dump", "key a1")


def test_what_begins_as_a_key_is_none(place: Place) -> None:
    (place.data / "dump").write_bytes(SECRET[:31] + b"?" + SECRET.hex()[:60].encode())
    assert place.search().found == []


def test_pages_that_do_not_verify_are_searched_and_told(place: Place) -> None:
    place.driver.execute("INSERT INTO contract VALUES (?, '')", (TOKEN,))
    place.checkpoint()
    octets = bytearray(place.path.read_bytes())
    for page in (1, 2, 3):
        octets[page * 4096 + 4095] ^= 1  # their HMACs
    place.path.write_bytes(octets)
    result = place.search()
    assert result.unverified == 3
    assert [(each.kind, each.table) for each in result.found] == [("row", "contract")]


def test_the_process_tells_nothing_but_places(place: Place) -> None:
    (place.data / "limits").write_bytes(TOKEN.encode())
    order = Order(str(place.data), (SoughtDatabase("control.db", KEY.hex()),), (TOKEN.lower().encode().hex(),), (), ())
    command = [sys.executable, "-m", "storage.ending.remains"]
    done = subprocess.run(command, input=remains.encoded(order), capture_output=True, check=True)
    result = remains.result_of(json.loads(done.stdout.splitlines()[-1])["result"])
    assert [(each.where, each.kind) for each in result.found] == [("limits", "file")]
    assert TOKEN.encode() not in done.stdout + done.stderr
    assert done.stderr == b""


@given(
    st.lists(st.text("abcäÄ ", min_size=4, max_size=9), max_size=80),
    st.text("abcäÄ ", max_size=60),
)
def test_many_terms_are_found_as_one_after_the_other_is(terms: list[str], text: str) -> None:
    texts = texts_of(terms)
    octets = text.encode()
    expected = {term for term in texts if len(term) >= 4 and term in octets.lower()}
    assert set(Search(texts).find(octets)) == expected


@given(
    st.lists(st.binary(min_size=4, max_size=12).map(bytes.lower), min_size=9, max_size=60),
    st.lists(st.tuples(st.integers(0, 100), st.binary(max_size=3)), max_size=20),
    st.data(),
)
def test_terms_of_any_octets_are_found_wherever_they_stand(
    terms: list[bytes], parts: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    octets = b"".join(terms[number % len(terms)] + more for number, more in parts)
    search = Search(terms)
    assert set(search.find(octets)) == {term for term in terms if term in octets.lower()}
    border = data.draw(st.integers(0, len(octets)))
    left, right = octets[:border].lower(), octets[border:].lower()
    expected = {
        term
        for term in terms
        if any((left + right).startswith(term, at) for at in range(max(0, border - len(term) + 1), border))
    }
    assert set(search.find_across(left, right)) == expected


def test_what_stands_in_a_longer_text_of_others_is_theirs() -> None:
    for more in ([], [b"term-%d" % number for number in range(20)]):
        search = Search([b"anna@x.test", *more], others=[b"joanna@x.test", b"joanna@x.test.example"])
        assert list(search.find(b"Joanna@x.test, joanna@x.test")) == []
        assert list(search.find(b"joanna@x.test, anna@x.test")) == [b"anna@x.test"]
        assert list(search.find_across(b"..joa", b"nna@x.test")) == []
        assert list(search.find_across(b"..a", b"nna@x.test")) == [b"anna@x.test"]


@pytest.mark.parametrize("split", [1, 7, 8, 31])
def test_a_key_over_a_border_is_found(split: int) -> None:
    search = Search([], [KeyTerm.of("a1", SECRET)])
    [key] = search.find_across(b"abc" + SECRET[:split], SECRET[split:] + b"def")
    assert isinstance(key, KeyTerm)


def test_texts_have_several_writings_and_short_ones_mean_nothing() -> None:
    assert writings("Müller") == {"Müller".encode().lower(), "müller".encode(), "mÜller".encode()}
    search = Search(texts_of(["ab", "abcd"]))
    assert (len(search), search.unsearched) == (1, 1)


def test_a_database_that_is_not_there_has_no_pages(tmp_path: Path) -> None:
    assert list(EncryptedPages(tmp_path / "none.db", KEY).all()) == []
