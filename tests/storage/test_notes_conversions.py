"""Notes as text, as Apple's HTML, as VJOURNAL: either way, and what must not come through."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from notes_place import apple_note, journal

from storage.notes.journal import edited, read_journal, write_journal
from storage.notes.markup import DEPTH_MAX, read_html, write_html
from storage.notes.message import TEXT_MAX, NoteText, identifier_of, is_note, read_note, renamed, write_note

LINES = st.text(
    st.one_of(
        st.sampled_from(" \n\t<>&;a=\\,é"),
        st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\xa0\ufffe\uffff"),
    ),
    max_size=60,
)


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("Shopping<div>Milk</div><div>Eggs</div>", "Shopping\nMilk\nEggs"),  # what iOS writes
        ("<html><head></head><body>One<div><br></div><div>Two</div></body></html>", "One\n\nTwo"),
        ("One<br>Two<br><br>Three<br>", "One\nTwo\n\nThree"),
        ("<div>One<br></div><div>Two</div>", "One\nTwo"),
        ("<p>One</p><p>Two</p>", "One\nTwo"),
        ("Tom &amp; Jerry &lt;3 &#228; &auml; &nbsp;x", "Tom & Jerry <3 ä ä  x"),
        ("<ul><li>Milk</li><li>Eggs<ol><li>brown</li><li>white</li></ol></li></ul>End",
         "- Milk\n- Eggs\n  1. brown\n  2. white\nEnd"),
        ("<b>bold</b> and <i>italic</i>\n  <u>under</u>", "bold and italic under"),
        ("<pre>one\n  two</pre>", "one\n  two"),
        ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a\tb\nc"),
        ('x<span class="Apple-tab-span" style="white-space:pre">&#9;</span>y', "x\ty"),
        ("<title>no</title><style>p{}</style>yes<!-- no --><script>no()</script>", "yes"),
        ("1 < 2 and <3", "1 < 2 and <3"),
        ("", ""),
        ("<div></div>", ""),
        ("<script>never ends", ""),
        ("<!-- never ends", ""),
        ("a<", "a<"),
    ],
)  # fmt: skip
def test_html_is_text(html: str, text: str) -> None:
    assert read_html(html).text == text


@pytest.mark.parametrize(
    ("html", "safe"),
    [
        ("<b onclick=x()>a</b>", "<b>a</b>"),
        ("<a href='javascript:x()'>a</a>", "<a>a</a>"),
        ("<a href=' JaVaScRiPt:x()'>a</a>", "<a>a</a>"),
        ("<a href='&#106;avascript:x()'>a</a>", "<a>a</a>"),
        ("<a href='java\tscript:x()'>a</a>", "<a>a</a>"),
        ("<a href='data:text/html,x'>a</a>", "<a>a</a>"),
        ('<a href="https://x.test/?a=1&amp;b=%22" title=y>a</a>', '<a href="https://x.test/?a=1&amp;b=%22">a</a>'),
        ("<img src=x onerror=y><svg onload=z></svg><iframe src=q></iframe>a", "a"),
        ("<scr<script>x</script>ipt>alert()</script>", "ipt&gt;alert()"),
        ("&lt;script&gt;x&lt;/script&gt;", "&lt;script&gt;x&lt;/script&gt;"),
        ("<b>not closed", "<b>not closed</b>"),
        ("</b>not opened", "not opened"),
        ("<b><i>crossed</b></i>", "<b><i>crossed</i></b>"),
        ("<style>@import 'x'</style><link rel=stylesheet href=x><meta http-equiv=refresh>a", "a"),
        ("<math><mi xlink:href='x'>b</mi></math>a", "a"),
    ],
)
def test_html_is_safe(html: str, safe: str) -> None:
    assert read_html(html).html == safe


@given(st.text(max_size=300) | st.lists(st.sampled_from("<>/\"'= &;!-#abp"), max_size=80).map("".join))
@settings(max_examples=80, deadline=None)
def test_any_html_is_read_and_what_is_safe_stays_so(source: str) -> None:
    once = read_html(source)
    again = read_html(once.html)
    assert again.html == once.html
    assert "<script" not in once.html.lower()


@given(LINES)
@settings(max_examples=80, deadline=None)
def test_text_comes_back_from_html(text: str) -> None:
    read = read_html(write_html(text))
    assert read.text == text
    assert read_html(read.html).text == text


@pytest.mark.parametrize(
    "hostile",
    ["<div>" * 50_000, "<" * 500_000, "<a href=" * 30_000, "<!--" * 50_000, "<script" * 30_000, "&#" * 100_000,
     "</b>" * 50_000, "<ul><li>" * 30_000, "<script>" * 30_000, " " * 500_000, "<pre>\n" * 30_000],
)  # fmt: skip
def test_hostile_html_costs_little(hostile: str) -> None:
    begun = time.process_time()
    read = read_html(hostile)
    assert time.process_time() - begun < 5  # linear: some hundredths of a second
    assert read.html.count("<div>") <= DEPTH_MAX


# Messages


def test_a_message_of_a_telephone() -> None:
    note = read_note(apple_note("0f5cb8a7-0000-4000-8000-000000000001", "Ünï\nMilk\n\n  two  spaces"))
    assert note is not None
    assert note.identifier == "0F5CB8A7-0000-4000-8000-000000000001"
    assert (note.said.title, note.said.text) == ("Ünï", "Milk\n\n  two  spaces")
    assert (note.created, note.has_attachments) == (1748851200, False)


@pytest.mark.parametrize(
    ("subject", "body", "title", "text"),
    [
        ("Shopping", "Shopping<div>Milk</div>", "Shopping", "Milk"),
        ("A long first li…", "A long first line<div>Milk</div>", "A long first line", "Milk"),
        ("Other", "First<div>Milk</div>", "Other", "First\nMilk"),
        ("", "First<div>Milk</div>", "First", "Milk"),
        ("Only a subject", "", "Only a subject", ""),
        ("=?utf-8?q?=C3=84?=", "Ä<div>b</div>", "Ä", "b"),
        ("T", "<div><br></div><div>T</div><div>x</div>", "T", "x"),
    ],
)
def test_title_and_first_line(subject: str, body: str, title: str, text: str) -> None:
    data = (
        f"Subject: {subject}\r\nX-Uniform-Type-Identifier: com.apple.mail-note\r\nMessage-Id: <a@b>\r\n"
        f"Content-Type: text/html; charset=utf-8\r\n\r\n{body}"
    ).encode()
    note = read_note(data)
    assert note is not None
    assert (note.said.title, note.said.text) == (title, text)
    assert note.identifier == read_note(data).identifier  # type: ignore[union-attr]  # of the Message-Id


def test_what_is_no_note() -> None:
    assert not is_note(b"Subject: com.apple.mail-note\r\n\r\nX-Uniform-Type-Identifier: com.apple.mail-note\r\n")
    assert not is_note(b"X-Uniform-Type-Identifier: com.apple.mail-note-2\r\n\r\n")
    assert is_note(b"x-uniform-type-identifier:  COM.apple.mail-note \r\n\r\n") is False  # Apple's spelling alone
    assert read_note(apple_note("x", "x" * (TEXT_MAX + 1))) is None
    assert read_note(b"") is None


def test_plain_text_and_multipart_alternative_are_notes_without_attachments() -> None:
    head = b"X-Uniform-Type-Identifier: com.apple.mail-note\r\nX-Universally-Unique-Identifier: U\r\nSubject: a\r\n"
    plain = read_note(head + b"\r\na\r\nb\r\n")
    both = read_note(
        head + b"Content-Type: multipart/alternative; boundary=x\r\n\r\n--x\r\n\r\na\r\nb\r\n--x\r\n"
        b"Content-Type: text/html\r\n\r\na<div>b</div>\r\n--x--\r\n"
    )
    assert plain is not None and both is not None
    assert plain.said.whole == both.said.whole == "a\nb"
    assert not both.has_attachments


@given(LINES, LINES)
@settings(max_examples=80, deadline=None)
def test_both_faces_say_the_same(title: str, text: str) -> None:
    said = read_journal(write_journal(NoteText(title.replace("\n", " "), text), "u", 1, created=1, modified=2)).said
    assert read_journal(edited(journal("u", "x", "y"), said, modified=1)).said == said
    data = write_note(said, "U", 1, created=1, modified=2)
    assert all(len(line) <= 998 for line in data.split(b"\r\n"))
    note = read_note(data)
    assert note is not None
    assert note.said.whole.strip("\n") == said.whole.strip("\n")
    if said.title.strip() and said.text == said.text.strip("\n"):
        assert (note.said.title, note.said.text) == (said.title, said.text)


def test_a_conflict_keeps_its_octets_but_for_its_name() -> None:
    data = apple_note("ONE", "Shopping\nMilk", "X-Own: kept\r\n")
    anew = renamed(data, "TWO", "Shopping (conflict)", 1)
    assert anew.partition(b"\r\n\r\n")[2] == data.partition(b"\r\n\r\n")[2]
    assert b"X-Own: kept\r\n" in anew
    note = read_note(anew)
    assert note is not None
    assert (note.identifier, note.said.title) == ("TWO", "Shopping (conflict)")


@pytest.mark.parametrize(
    ("uid", "identifier"),
    [
        ("0f5cb8a7-0000-4000-8000-00000000abcd", "0F5CB8A7-0000-4000-8000-00000000ABCD"),
        ("20250601T1@host", "20250601T1@host"),
    ],
)
def test_identifiers(uid: str, identifier: str) -> None:
    assert identifier_of(uid) == identifier


@pytest.mark.parametrize("uid", ["with space", "x" * 300, "é", "a\r\nBcc: x"])
def test_an_uid_that_no_field_can_hold_gives_a_uuid(uid: str) -> None:
    assert len(identifier_of(uid)) == 36
    assert identifier_of(uid) == identifier_of(uid)
    assert identifier_of(identifier_of(uid)) == identifier_of(uid)


# Journals


def test_an_edit_changes_only_its_lines() -> None:
    data = (
        b"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:x\nBEGIN:VJOURNAL\nUID:u\nDTSTAMP:20250601T100000Z\n"
        b'SUMMARY;LANGUAGE=en:Old\nCATEGORIES:a,b\nDESCRIPTION;ALTREP="cid:x":Old\n text\nDESCRIPTION:more\n'
        b'COLOR:red\nSEQUENCE:4\nSTATUS:FINAL\nX-A;B="c;d":e\\,f\nBEGIN:VALARM\nX:1\nEND:VALARM\n'
        b"END:VJOURNAL\nEND:VCALENDAR\n"
    )
    assert read_journal(data).said == NoteText("Old", "Oldtext\nmore")
    new = edited(data, NoteText("New", "one\ntwo; three"), modified=1_750_000_000)
    assert new == (
        b"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:x\nBEGIN:VJOURNAL\nUID:u\nDTSTAMP:20250615T150640Z\n"
        b"SUMMARY;LANGUAGE=en:New\nCATEGORIES:a,b\nDESCRIPTION:one\\ntwo\\; three\n"
        b"COLOR:red\nSEQUENCE:5\nSTATUS:FINAL\nX-A;B=\"c;d\":e\\,f\nLAST-MODIFIED:20250615T150640Z\n"
        b"BEGIN:VALARM\nX:1\nEND:VALARM\nEND:VJOURNAL\nEND:VCALENDAR\n"
    )  # fmt: skip
    assert b"DESCRIPTION" not in edited(data, NoteText("New", ""), modified=1)


def test_html_of_a_journal_counts_while_it_says_the_same() -> None:
    alt = "X-ALT-DESC;FMTTYPE=text/html:"
    good = journal("u", "T", "bold text", f"{alt}<p onclick=x><b>bold</b> text<script>1</script>\r\n")
    assert read_journal(good).said.html == "T<div><p><b>bold</b> text</p></div>"
    assert read_journal(journal("u", "T", "new", f"{alt}<b>old</b>\r\n")).said.html is None
    altrep = journal("u", "T").replace(
        b"SUMMARY:T\r\n", b'SUMMARY:T\r\nDESCRIPTION;ALTREP="data:text/html,%3Ci%3Ea%3C%2Fi%3E":a\r\n'
    )
    assert read_journal(altrep).said.html == "T<div><i>a</i></div>"
    new = edited(good, NoteText("T", "other & new"), modified=1)
    assert b"X-ALT-DESC;FMTTYPE=text/html:other &amp\\; new\r\n" in new
