"""XML that strangers send: what is read, what is refused, and what is written again (RFC 4918 §8.2, §20)."""

from __future__ import annotations

from contextlib import suppress
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hosting.dav.names import element, split, tags, text, text_element
from hosting.dav.xml import DEPTH_MAX, ELEMENTS_MAX, BadXml, Element, parse, serialised


def test_names_are_in_clark_notation_and_text_stands_where_it_stood() -> None:
    root = parse(b'<a xmlns="DAV:" b="1" x:c="2" xmlns:x="u:x">one<x:d/>two<e xmlns="">three</e></a>')
    assert root.name == "{DAV:}a"
    assert root.attributes == {"b": "1", "{u:x}c": "2"}
    assert (root.text, root.children[0].tail) == ("one", "two")
    assert [child.name for child in root] == ["{u:x}d", "e"]
    assert root.content("e") == "three"


BOMB = b"<!DOCTYPE a [<!ENTITY a 'x'>" + b"".join(b"<!ENTITY a%d '&a%d;&a%d;'>" % (i + 1, i, i) for i in range(30))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"no xml",
        b"<a>",
        b"<a></b>",
        b"<a/><b/>",
        b"<x:a/>",
        b"<a \xff='1'/>",
        b"<a>\x00</a>",
        BOMB + b"]><a>&a30;</a>",
        b"<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>",
        b"<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a>&x;</a>",
        b"<!DOCTYPE a [<!ENTITY % x SYSTEM 'http://127.0.0.1/'> %x;]><a/>",
        b"<?php echo 1 ?><a/>",
        b"<a><?xml-stylesheet href='x'?></a>",
        b"<a>&undefined;</a>",
        b"<?xml version='1.0' encoding='no-such-code'?><a/>",
        b"<" + b"a" * 2000 + b"/>",
        b"<a" + b"".join(b' b%d=""' % i for i in range(200)) + b"/>",
        b"<a>" * 1000 + b"</a>" * 1000,
        b"<a>" * 1_000_000,
        b"<p>" + b"<a/>" * 100_000 + b"</p>",
    ],
    ids=lambda body: body[:24].decode("latin-1"),
)
def test_what_is_no_xml_of_ours_is_refused(body: bytes) -> None:
    with pytest.raises(BadXml):
        parse(body)


def test_the_limits_themselves_are_taken() -> None:
    assert parse(b"<a>" * DEPTH_MAX + b"</a>" * DEPTH_MAX).name == "a"
    assert len(parse(b"<p>" + b"<a/>" * (ELEMENTS_MAX - 1) + b"</p>").children) == ELEMENTS_MAX - 1


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1"])
def test_a_document_says_in_which_code_it_is(encoding: str) -> None:
    assert parse(f'<?xml version="1.0" encoding="{encoding}"?><a>ä</a>'.encode(encoding)).text == "ä"


NAMES = st.sampled_from(["{DAV:}a", "{u:x}b", "c", "{urn:ietf:params:xml:ns:caldav}d"])
TEXTS = st.text(
    st.characters(codec="utf-8", exclude_characters="\r", exclude_categories=["Cs", "Cc", "Cn", "Co"]), max_size=6
)
ELEMENTS = st.recursive(
    st.builds(Element, NAMES, st.dictionaries(NAMES, TEXTS, max_size=2), TEXTS, st.just([]), TEXTS),
    lambda inner: st.builds(
        Element, NAMES, st.dictionaries(NAMES, TEXTS, max_size=2), TEXTS, st.lists(inner, max_size=3), TEXTS
    ),
    max_leaves=6,
)


@given(ELEMENTS)
def test_what_is_serialised_reads_the_same_again(kept: Element) -> None:
    kept.tail = ""
    assert parse(serialised(kept)) == kept


@given(st.binary(max_size=200) | ELEMENTS.map(serialised).flatmap(lambda octets: st.just(octets[: len(octets) // 2])))
def test_nothing_but_bad_xml_is_raised(body: bytes) -> None:
    with suppress(BadXml):
        assert parse(body).name


def test_the_language_stays_with_a_property() -> None:
    """RFC 4918 §4.3."""
    kept = parse(serialised(parse(b'<a xmlns="u:x">hello</a>'), "de"))
    assert kept.attributes == {"{http://www.w3.org/XML/1998/namespace}lang": "de"}
    own = parse(b'<a xml:lang="en">hello</a>')
    assert parse(serialised(own, "de")).attributes == own.attributes


@pytest.mark.parametrize(
    ("name", "opened"),
    [
        ("{DAV:}prop", b"<D:prop>"),
        ("{urn:ietf:params:xml:ns:carddav}address-data", b"<CR:address-data>"),
        ('{u:"&<}x', b'<X:x xmlns:X="u:&quot;&amp;&lt;">'),
        ("plain", b"<plain>"),
    ],
)
def test_tags_have_one_prefix_for_each_namespace(name: str, opened: bytes) -> None:
    assert tags(name)[0] == opened
    assert element(name) == tags(name)[2]
    assert split(name)[1] == opened.decode().split(">")[0].split(" ")[0].strip("<").split(":")[-1]


def test_no_text_breaks_a_document() -> None:
    told = text_element("a", "<&>\x00\x0b\ud800\r\n\tü")
    assert ElementTree.fromstring(told).text == "<&>\ufffd\ufffd\ufffd\r\n\tü"
    assert text("plain") == b"plain"
