"""gateway.content_facts on messages that mean harm: bombs, nests, floods. What they cost is counted in octets.

The sizes are such that work beyond the budget would be felt as minutes.
"""

from __future__ import annotations

import base64
import bz2
import gzip
import lzma
import struct
import tracemalloc
import zlib

import pytest
import zstandard
from attachments import (
    HEAD,
    PE,
    compound,
    directory_end,
    directory_entry,
    local_header,
    look,
    message,
    rar5,
    tarred,
    zipped,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.content_facts import ContentFacts, ContentLimits, Incomplete, content_facts
from gateway.content_facts.budget import Budget
from gateway.content_facts.flow import Flow
from gateway.content_facts.transfer import decoded, decoded_size
from scripts.fuzz.attachments import run
from storage.mime.fields import read_header
from storage.mime.message import read_message
from storage.mime.transfer import decode_transfer

MEGABYTE = 1 << 20
ZEROS = bytes(8 * MEGABYTE)
STEP = 2 * MEGABYTE  # what one step may cost beyond the budget before it is noticed


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


KERNEL = deflated(ZEROS)


def overlapping(files: int) -> bytes:
    """Many files in one place: 8 MB each, 8 KB in all."""
    local = local_header(b"a", KERNEL, method=8, size=len(ZEROS))
    entries = b"".join(
        directory_entry(b"%d.zip" % number, KERNEL, 0, method=8, size=len(ZEROS)) for number in range(files)
    )
    return local + entries + directory_end(files, len(entries), len(local))


def nested_bomb(levels: int, width: int) -> bytes:
    """As 42.zip: archives in archives, width by width."""
    content = zipped({"0.dll": bytes(MEGABYTE)})
    for _ in range(levels):
        content = zipped({f"lib {number:x}.zip": content for number in range(width)})
    return content


def packed(content: bytes, levels: int) -> bytes:
    for _ in range(levels):
        content = gzip.compress(content, mtime=0)
    return content


def nest(content: bytes, levels: int) -> bytes:
    for _ in range(levels):
        content = zipped({"a.zip": content})
    return content


BOMBS = {
    "zeros in a zip": zipped({"a.bin": ZEROS}),
    "a zip of zeros in a zip": zipped({"a.zip": zipped({"b.zip": ZEROS})}),
    "files in one place": overlapping(1000),
    "42.zip": nested_bomb(3, 16),
    "many levels": nest(PE, 50),
    "gzip of zeros": gzip.compress(ZEROS, mtime=0),
    "bzip2 of zeros": bz2.compress(ZEROS),
    "xz of zeros": lzma.compress(ZEROS),
    "zstd of zeros": zstandard.compress(ZEROS),
    "a tar of zeros": tarred({"a.txt": ZEROS, "b.exe": PE}, "w:gz"),
    "many members of gzip": gzip.compress(b"", mtime=0) * 50_000,
    "many streams of bzip2": bz2.compress(b"") * 100_000,
    "many streams of xz": lzma.compress(b"") * 20_000,
    "packed many times": packed(ZEROS, 6),
    "a dictionary of 2 GB": b"\x5d\0\0\0\x80" + b"\xff" * 8 + bytes(1000),
    "a window of 2 GB": b"\x28\xb5\x2f\xfd\x00\xa8" + bytes(1000),
    "a zip of 60,000 files": b"".join(local_header(b"%d.txt" % number, b"") for number in range(60_000)),
    "ends of directories": b"PK\3\4" + b"PK\5\6" * 20_000,
    "heads of files": b"PK\3\4" * 200_000,
    "a tar of many files": tarred({f"{number}.txt": b"" for number in range(5000)}),
    "a tar that says 8 EB": tarred({"a": b"x"})[:124].ljust(124, b"\0") + b"\x80" + b"\xff" * 11,
    "a compound file of entries": compound(*["_VBA_PROJECT"] * 10_000),
    "a rar of stored archives": rar5("a.rar", rar5("b.rar", rar5("c.rar", rar5("d.rar", rar5("e.rar", PE))))),
    "7z of endless numbers": b"7z\xbc\xaf\x27\x1c\0\4"
    + bytes(4)
    + struct.pack("<QQI", 0, MEGABYTE, 0)
    + b"\1\4\6\0\xff"
    + b"\xff" * MEGABYTE,
    "a pdf of names": b"%PDF-1.4\n" + b"/J" * MEGABYTE,
    "html of open tags": b"<html>" + b"<a href=" * 200_000,
    "an svg of comments": b"<svg>" + b"<!-- -" * 200_000,
    "comments before html": b"<!-- a -->" * 100_000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_end_within_the_budget(name: str) -> None:
    data = message(("a.zip", BOMBS[name]), ("b.bin", BOMBS[name]))
    limits = ContentLimits(work=20_000_000, held=4 * MEGABYTE)
    tracemalloc.start()
    try:
        facts, budget = look(data, limits)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert budget.work <= limits.work + STEP
    assert len(facts.attachments) <= limits.attachments
    assert peak < len(data) + limits.held * 2 + 40 * MEGABYTE


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a zip of zeros in a zip", Incomplete.TOO_LARGE),
        ("42.zip", Incomplete.TOO_MANY),
        ("many levels", Incomplete.TOO_DEEP),
        ("files in one place", Incomplete.DAMAGED),
        ("a zip of 60,000 files", Incomplete.TOO_MANY),
        ("a tar of many files", Incomplete.TOO_MANY),
        ("packed many times", Incomplete.TOO_DEEP),
        ("a dictionary of 2 GB", Incomplete.TOO_LARGE),
    ],
)
def test_what_was_not_looked_into_is_said(name: str, reason: Incomplete) -> None:
    facts, _ = look(message(("a", BOMBS[name])), ContentLimits(held=4 * MEGABYTE, work=10**12))
    assert reason in {attachment.incomplete for attachment in facts.attachments}
    assert facts.attachments[0].incomplete is not None


def test_of_large_files_only_the_beginning_is_unpacked() -> None:
    archive = zipped({f"{number}.txt": ZEROS for number in range(20)})
    _, budget = look(message(("a.zip", archive)))
    assert budget.work < 20 * 100_000 + 6 * len(archive)


def test_a_large_message_is_not_decoded() -> None:
    data = message(("a.bin", b"\1" + bytes(75 * MEGABYTE)))
    assert len(data) > 100_000_000
    tracemalloc.start()
    try:
        facts, budget = look(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert facts.attachments[0].size == 75 * MEGABYTE + 1
    assert budget.work < MEGABYTE
    assert peak < 2 * MEGABYTE


def test_a_large_archive_is_left_before_it_is_decoded() -> None:
    facts, budget = look(message(("a.zip", b"PK\3\4" + bytes(70 * MEGABYTE))))
    assert facts.attachments[0].incomplete is Incomplete.TOO_LARGE
    assert budget.work < MEGABYTE and budget.held_most == 0


def test_once_the_work_is_done_names_still_count() -> None:
    facts, _ = look(
        message(
            ("a.gz", gzip.compress(gzip.compress(ZEROS), mtime=0)), ("b.tgz", BOMBS["a tar of zeros"]), ("c.exe", PE)
        ),
        ContentLimits(work=1_000_000),
    )
    assert facts.incomplete is Incomplete.TOO_MUCH_WORK
    assert facts.attachments[-1].extension == "exe"


def test_thousands_of_parts() -> None:
    part = b"--b\r\nContent-Type: a/b; name=a.exe\r\nContent-Transfer-Encoding: base64\r\n\r\nTVo=\r\n"
    facts, budget = look(HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + part * 9000)
    assert len(facts.attachments) == ContentLimits().attachments
    assert facts.incomplete is Incomplete.TOO_MANY
    assert budget.work < 9000 * 100


def test_a_flood_of_words_that_begin_a_file() -> None:
    data = HEAD + b"\r\n" + b"begin 644 a\nbegin \n" * 200_000
    facts, budget = look(data, ContentLimits(work=10_000_000))
    assert facts.incomplete is Incomplete.TOO_MUCH_WORK
    assert budget.work <= 10_000_000 + STEP
    head = b"Content-Type: text/plain\r\nContent-Transfer-Encoding: x-uuencode\r\n\r\n"
    facts, budget = look(HEAD + head + b"\nbegin " * 200_000, ContentLimits(work=10_000_000))
    assert facts.incomplete is Incomplete.TOO_MUCH_WORK
    assert budget.work <= 10_000_000 + STEP


TEXTS = {
    "anchors": b"<a href=" * 20_000,
    "one long anchor": b"<a " + b"href=x " * 20_000,
    "addresses": b"<a href=" + b"x" * 150_000,
    "pictures": b"<img " + b" src=" * 30_000,
    "hosts": b"<a href=http://a.b>" + b"a." * 140 + b"</a>",
    "urls": b"http://" * 20_000,
    "urls with words before": (b"http://" + b"a" * 290 + b" ") * 500,
    "open tags": b"<style" * 30_000,
    "open comments": b"<!--" * 40_000,
    "handlers": b" onload" * 20_000,
    "blanks": b" " * 200_000,
    "entities": b"&nbsp;&#" * 20_000,
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts_that_mean_harm(name: str) -> None:
    for kind in (b"html", b"plain"):
        data = HEAD + b"Content-Type: text/" + kind + b"\r\n\r\n" + TEXTS[name]
        assert content_facts(data, read_header(data)).incomplete is None


HEADERS = {
    "names of authors": b'From: "' + b"a@" * 8000 + b'" <a@b.example>\r\n',
    "authors": b"From: " + b"a@b.example," * 100_000 + b"\r\n",
    "fields": b"X-A: b\r\n" * 100_000,
    "no colons": b"line\r\n" * 100_000,
    "a long identity": b"Message-ID: <" + b"a@" * 100_000 + b">\r\n",
    "a long subject": b"Subject: " + b"=?utf-8?b?QQ==?= " * 50_000 + b"\r\n",
    "a long line": b"X-A: " + b"a" * MEGABYTE + b"\r\n",
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers_that_mean_harm(name: str) -> None:
    data = HEADERS[name] + b"\r\nHello"
    assert content_facts(data, read_header(data)).incomplete is None


def test_a_mistake_of_ours_stops_no_mail(caplog: pytest.LogCaptureFixture) -> None:
    data = message()
    facts = content_facts(data, None)  # type: ignore[arg-type]
    assert facts == ContentFacts(incomplete=Incomplete.FAILED)
    assert [record.getMessage() for record in caplog.records] == ["a message could not be looked into: AttributeError"]


# Transfer encodings in pieces


@given(
    st.lists(st.sampled_from([b"QUJD", b"QUI=", b"QQ==", b"\r\n", b"=", b"!", b"A", b"x" * 5000, b" "]), max_size=60),
    st.booleans(),
)
@settings(max_examples=200)
def test_base64_in_pieces_is_base64(pieces: list[bytes], padded: bool) -> None:
    body = b"".join(pieces) * (30 if padded else 1)
    _same(body, b"base64")


@given(
    st.lists(
        st.sampled_from([b"=41", b"=\r\n", b"=", b" ", b"\t", b"a", b"\r\n", b"\n", b"x" * 9000, b"=4"]), max_size=60
    ),
    st.booleans(),
)
@settings(max_examples=200)
def test_quoted_printable_in_pieces_is_quoted_printable(pieces: list[bytes], repeated: bool) -> None:
    _same(b"".join(pieces) * (30 if repeated else 1), b"quoted-printable")


@given(st.binary(max_size=200_000))
@settings(max_examples=20)
def test_encoded_octets_come_back(content: bytes) -> None:
    part, data = _part(base64.encodebytes(content), b"base64")
    budget = Budget(ContentLimits())
    assert bytes(Flow(decoded(data, part, budget)).collect(budget)) == content
    assert decoded_size(data, part) == len(content)


def _part(body: bytes, encoding: bytes):  # type: ignore[no-untyped-def]
    data = b"Content-Type: a/b\r\nContent-Transfer-Encoding: " + encoding + b"\r\n\r\n" + body
    return read_message(data).root, data


def _same(body: bytes, encoding: bytes) -> None:
    part, data = _part(body, encoding)
    budget = Budget(ContentLimits())
    assert b"".join(decoded(data, part, budget)) == decode_transfer(body, encoding)


def test_the_fuzzer_briefly() -> None:
    assert run(seed=2, count=300) == 300
