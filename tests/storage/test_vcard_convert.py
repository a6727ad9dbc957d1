"""storage.vcard.convert: vCard 3.0 and 4.0 as each other (RFC 6350 appendix A)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.collections.conditions import Violated
from storage.icalendar.contentlines import Component, Property, escaped, read
from storage.vcard.card import read_card
from storage.vcard.convert import converted, write_card


def lines(version: str, *fields: str) -> bytes:
    return "\r\n".join(["BEGIN:VCARD", f"VERSION:{version}", "FN:A", "N:B;A;;;", *fields, "END:VCARD", ""]).encode()


def turned(version: str, *fields: str) -> list[str]:
    """The unfolded lines of the converted card but those that are always there."""
    other = "4.0" if version == "3.0" else "3.0"
    said = converted(lines(version, *fields), other).replace(b"\r\n ", b"").decode().split("\r\n")
    assert said[:2] == ["BEGIN:VCARD", f"VERSION:{other}"] and said[-2:] == ["END:VCARD", ""]
    return [line for line in said[2:-2] if line not in ("FN:A", "N:B;A;;;")]


BOTH_WAYS = [  # vCard 3, vCard 4
    (["EMAIL;TYPE=work,pref:a@b.example"], ["EMAIL;TYPE=work;PREF=1:a@b.example"]),
    (["TEL;TYPE=cell:+1"], ["TEL;TYPE=cell:+1"]),
    (["PHOTO;ENCODING=b;TYPE=JPEG:/9j/AAAA"], ["PHOTO:data:image/jpeg;base64,/9j/AAAA"]),
    (["PHOTO;VALUE=uri:https://b.example/a.png"], ["PHOTO:https://b.example/a.png"]),
    (["KEY;ENCODING=b;TYPE=PGP:AAAA"], ["KEY:data:application/pgp-keys;base64,AAAA"]),
    (["BDAY;VALUE=date:1996-04-15"], ["BDAY:19960415"]),
    (["BDAY:1996-04-15T10:22:00Z"], ["BDAY:19960415T102200Z"]),
    (["BDAY;VALUE=date;X-APPLE-OMIT-YEAR=1604:1604-04-15"], ["BDAY:--0415"]),
    (["BDAY;VALUE=text:circa 1800"], ["BDAY;VALUE=text:circa 1800"]),
    (["item1.X-ABDATE;VALUE=date:2010-05-01", "item1.X-ABLabel:_$!<Anniversary>!$_"], ["item1.ANNIVERSARY:20100501"]),
    (["item1.X-ABRELATEDNAMES:Bob", "item1.X-ABLabel:_$!<Spouse>!$_"], ["item1.RELATED;TYPE=spouse;VALUE=text:Bob"]),
    (["item1.URL:https://b.example", "item1.X-ABLabel:_$!<HomePage>!$_"],
     ["item1.URL:https://b.example", "item1.X-ABLabel:_$!<HomePage>!$_"]),
    (["X-ADDRESSBOOKSERVER-KIND:group", "X-ADDRESSBOOKSERVER-MEMBER:urn:uuid:1"],
     ["KIND:group", "MEMBER:urn:uuid:1"]),
    (["X-ABShowAs:COMPANY"], ["KIND:org"]),
    (["ADR;TYPE=home:;;S;T;;1;DE", "LABEL;TYPE=home:S\\n1 T"], ["ADR;TYPE=home;LABEL=S^n1 T:;;S;T;;1;DE"]),
    (["GEO:37.386013;-122.082932"], ["GEO:geo:37.386013,-122.082932"]),
    (["TZ:-05:00"], ["TZ;VALUE=utc-offset:-0500"]),
    (["REV:1995-10-31T22:27:10Z"], ["REV:19951031T222710Z"]),
    (["UID:urn:uuid:4fbe8971-0bc3-424c-9c26-36c3e1eff6b1"], ["UID:urn:uuid:4fbe8971-0bc3-424c-9c26-36c3e1eff6b1"]),
    (["UID:19950401-080045"], ["UID;VALUE=text:19950401-080045"]),
    (["CLASS:PRIVATE"], ["X-CLASS:PRIVATE"]),
    (["X-GENDER:F"], ["GENDER:F"]),
    (["CATEGORIES:a,b\\,c"], ["CATEGORIES:a,b\\,c"]),
    (["X-SOCIALPROFILE;TYPE=x:https://b.example"], ["X-SOCIALPROFILE;TYPE=x:https://b.example"]),
]  # fmt: skip


@pytest.mark.parametrize(("three", "four"), BOTH_WAYS)
def test_there_and_back(three: list[str], four: list[str]) -> None:
    assert turned("3.0", *three) == four
    assert turned("4.0", *four) == three


@pytest.mark.parametrize(
    ("three", "four"),
    [
        (["EMAIL;type=INTERNET;type=WORK;type=pref:a@b"], ["EMAIL;TYPE=work;PREF=1:a@b"]),
        (["TEL;VALUE=phone-number;HOME:1"], ["TEL;TYPE=home:1"]),
        (["NOTE;CHARSET=utf-8:ü"], ["NOTE:ü"]),
        (["PROFILE:VCARD"], []),
        (["PHOTO;BASE64:iVBORAAA"], ["PHOTO:data:image/png;base64,iVBORAAA"]),
        (["X-ANNIVERSARY:2010-05-01"], ["ANNIVERSARY:20100501"]),
        (["X-SPOUSE:Bob"], ["RELATED;VALUE=text;TYPE=spouse:Bob"]),
        (["LABEL;TYPE=dom:one\\, two"], ['ADR;TYPE=dom;LABEL="one, two":;;;;;;']),
        (["item1.X-ABRELATEDNAMES:Bob", "item1.X-ABLabel:Boss"],
         ["item1.RELATED;VALUE=text:Bob", "item1.X-ABLabel:Boss"]),
        (["AGENT;VALUE=uri:cid:1"], ["RELATED;TYPE=agent:cid:1"]),
        (["GEO:somewhere"], ["GEO:somewhere"]),
    ],
)  # fmt: skip
def test_to_version_4(three: list[str], four: list[str]) -> None:
    assert turned("3.0", *three) == four


@pytest.mark.parametrize(
    ("four", "three"),
    [
        (["EMAIL;PREF=2:b@b", "EMAIL;PREF=1:a@b"], ["EMAIL:b@b", "EMAIL;TYPE=pref:a@b"]),
        (["TEL;VALUE=uri;TYPE=home:tel:+1-555;ext=102"], ["TEL;TYPE=home:+1-555 x102"]),
        (["PHOTO:data:image/png,%89PNG"], ["PHOTO;ENCODING=b;TYPE=PNG:iVBORw=="]),
        (["BDAY:1996-04"], ["BDAY;VALUE=text:1996-04"]),
        (["BDAY:---15"], ["BDAY;VALUE=text:---15"]),
        (["RELATED;TYPE=friend:urn:uuid:1"],
         ["item1.X-ABRELATEDNAMES;VALUE=uri:urn:uuid:1", "item1.X-ABLabel:_$!<Friend>!$_"]),
        (["item1.TEL:1", "ANNIVERSARY:20100501"],
         ["item1.TEL:1", "item2.X-ABDATE;VALUE=date:2010-05-01", "item2.X-ABLabel:_$!<Anniversary>!$_"]),
        (["KIND:individual"], []),
        (["TITLE;ALTID=1;LANGUAGE=fr:Patron", "TITLE;ALTID=1;LANGUAGE=en:Boss"], ["TITLE;LANGUAGE=fr:Patron"]),
        (['NOTE;X-A="a;^\'b^\'":x'], ["NOTE;X-A=\"a;'b'\":x"]),
    ],
)  # fmt: skip
def test_to_version_3(four: list[str], three: list[str]) -> None:
    assert turned("4.0", *four) == three


def test_what_a_version_demands_is_made() -> None:
    assert b"FN:Jane Doe\r\n" in converted(b"BEGIN:VCARD\r\nVERSION:3.0\r\nN:Doe;Jane\r\nEND:VCARD\r\n", "4.0")
    assert b"\r\nN:Doe;Jane Ann;;;\r\n" in converted(
        b"BEGIN:VCARD\r\nVERSION:4.0\r\nFN:Jane Ann Doe\r\nEND:VCARD\r\n", "3.0"
    )
    assert b"\r\nN:;;;;\r\n" in converted(
        b"BEGIN:VCARD\r\nVERSION:4.0\r\nKIND:org\r\nFN:Acme Inc\r\nEND:VCARD\r\n", "3.0"
    )
    assert b"N;SORT-AS=Harten:van der Harten;R\r\n" in converted(
        b"BEGIN:VCARD\r\nVERSION:3.0\r\nFN:x\r\nN:van der Harten;R\r\nSORT-STRING:Harten\r\nEND:VCARD\r\n", "4.0"
    )


def test_the_same_version_is_the_same_octets() -> None:
    data = lines("3.0", "NOTE:folded\r\n here")
    assert converted(data, "3.0") is data
    with pytest.raises(Violated):
        converted(data, "2.1")


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"))


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["NOTE", "TEL", "EMAIL", "ORG", "TITLE", "X-ODD", "NICKNAME", "URL"]),
            texts,
            st.lists(st.sampled_from(["work", "home", "cell", "pref"]), unique=True, max_size=2),
            st.sampled_from(["", "item1", "g"]),
        ),
        max_size=6,
    )
)
def test_texts_survive_the_way_there_and_back(fields: list[tuple[str, str, list[str], str]]) -> None:
    properties = [Property("VERSION", "3.0"), Property("N", "B;A;;;"), Property("FN", "A")]
    for name, text, types, group in fields:
        properties.append(Property(name, escaped(text), [("TYPE", tuple(types))] if types else [], group))
    data = write_card(properties, "3.0")
    assert read(data) == Component("VCARD", properties)
    assert all(len(line) <= 75 for line in data.split(b"\r\n"))
    back = read_card(converted(converted(data, "4.0"), "3.0"))
    assert [(one.name, one.group, one.value) for one in back.properties] == [
        (one.name, one.group, one.value) for one in properties
    ]
