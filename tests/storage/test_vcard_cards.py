"""storage.vcard: cards as real address books send them, and what is refused."""

from __future__ import annotations

import pytest

from storage.collections.conditions import Namespace, Violated
from storage.icalendar.contentlines import Property
from storage.icalendar.textmatch import Collation, MatchType, TextMatch
from storage.vcard.birthday import Anniversary, Occasion, anniversaries, anniversary_event
from storage.vcard.card import CardLimits, read_card, stated_version
from storage.vcard.content import card_content
from storage.vcard.dates import CardDate, read_date
from storage.vcard.filter import CardFilter, CardParamFilter, CardPropFilter, Test, matches, may_match, named
from storage.vcard.partial import AddressData, CardProp, partial
from storage.vcard.properties import types
from storage.vcard.splitting import split


def card(*lines: str, version: str = "3.0", uid: str = "u1", end: str = "\r\n") -> bytes:
    text = ["BEGIN:VCARD", f"VERSION:{version}", *([f"UID:{uid}"] if uid else []), *lines, "END:VCARD", ""]
    return end.join(text).encode()


def field(data: bytes, name: str) -> Property:
    return next(one for one in read_card(data).properties if one.name == name)


PHOTO = "/9j/4AAQSkZJRgABAQ"


@pytest.mark.parametrize(
    ("data", "name", "value"),
    [
        pytest.param(b"\xef\xbb\xbf" + card("FN:Zoë"), "FN", "Zoë", id="byte order mark"),
        pytest.param(card("FN:A", end="\n"), "FN", "A", id="bare LF"),
        pytest.param(card("FN:A\r\n B"), "FN", "AB", id="folded"),
        pytest.param("FN:Zoë".encode().join(card("@").split(b"@")).replace(b"\xc3\xab", b"\xc3\r\n \xab"), "FN", "Zoë",
                     id="folded within a character"),
        pytest.param(card(f"PHOTO;ENCODING=b;TYPE=JPEG:{PHOTO}\r\n {PHOTO}"), "PHOTO", PHOTO * 2, id="photo, folded"),
        pytest.param(card(f"PHOTO;TYPE=JPEG;ENCODING=BASE64:\r\n {PHOTO}\r\n {PHOTO}\r\n"), "PHOTO", PHOTO * 2,
                     id="photo, empty line after it"),
        pytest.param(card(f"PHOTO;ENCODING=b;TYPE=JPEG:{PHOTO}\r\n{PHOTO}==\r\n"), "PHOTO", PHOTO * 2 + "==",
                     id="photo, lines without a space"),
        pytest.param(card("item1.X-ABLabel:_$!<HomePage>!$_"), "X-ABLABEL", "_$!<HomePage>!$_", id="label of Apple"),
        pytest.param(card("tel;type=cell:1"), "TEL", "1", id="names in lower case"),
        pytest.param(card("X-Foo_Bar:1"), "X-FOO_BAR", "1", id="underscore"),
        pytest.param(card("NOTE:"), "NOTE", "", id="without a value"),
        pytest.param(card('ADR;LABEL="a;b:c^nd^^":;;x'), "ADR", ";;x", id="quoted parameter"),
    ],
)  # fmt: skip
def test_cards_that_are_taken(data: bytes, name: str, value: str) -> None:
    assert field(data, name).value == value
    content = card_content(data)
    assert (content.data, content.uid, content.component, content.times) == (data, "u1", "VCARD", None)


@pytest.mark.parametrize(
    ("data", "condition"),
    [
        pytest.param(b"", "valid-address-data", id="nothing"),
        pytest.param(b"<xml/>", "valid-address-data", id="XML"),
        pytest.param(card().replace(b"VCARD", b"XCARD"), "valid-address-data", id="another component"),
        pytest.param(card()[:-11], "valid-address-data", id="cut off"),
        pytest.param(card() * 2, "valid-address-data", id="two cards"),
        pytest.param(card("AGENT:", "BEGIN:VCARD", "END:VCARD"), "valid-address-data", id="a card in the card"),
        pytest.param(card(uid=""), "valid-address-data", id="no UID"),
        pytest.param(card("UID:u2"), "valid-address-data", id="two UIDs"),
        pytest.param(card(uid="u" * 1001), "valid-address-data", id="a long UID"),
        pytest.param(card().replace(b"VERSION:3.0\r\n", b""), "valid-address-data", id="no VERSION"),
        pytest.param(card("VERSION:4.0"), "valid-address-data", id="two VERSIONs"),
        pytest.param(card(version="2.1"), "supported-address-data", id="2.1"),
        pytest.param(card(version="5.0"), "supported-address-data", id="5.0"),
        pytest.param(card("NOTE:a\x08b"), "valid-address-data", id="control character"),
        pytest.param(card("NOTE:@").replace(b"@", b"\xff"), "valid-address-data", id="not UTF-8"),
        pytest.param(card("this is no line"), "valid-address-data", id="no line"),
        pytest.param(card("NOTE:" + "x" * 2000), "max-resource-size", id="too large"),
        pytest.param(card(*["NOTE:x"] * 60), "valid-address-data", id="too many properties"),
    ],
)
def test_cards_that_are_refused(data: bytes, condition: str) -> None:
    with pytest.raises(Violated) as raised:
        card_content(data, CardLimits(max_size=1500, max_properties=50))
    assert (raised.value.condition, raised.value.namespace) == (condition, Namespace.CARDDAV)
    assert raised.value.public.endswith(".")


@pytest.mark.parametrize(
    ("lines", "name"),
    [
        (("FN:Jane Doe", "N:Doe;Jane;;;"), "Jane Doe"),
        (("N:Doe;Jane,Ann;Q.;Dr.;MSc",), "Dr. Jane Ann Q. Doe MSc"),
        (("FN:", "ORG:Acme\\, Inc.;Sales"), "Acme, Inc., Sales"),
        (("EMAIL:a@example.org",), "a@example.org"),
        ((), ""),
    ],
)
def test_a_card_has_a_name_whichever_property_says_it(lines: tuple[str, ...], name: str) -> None:
    assert read_card(card(*lines)).display_name == name


@pytest.mark.parametrize(
    ("version", "lines"),
    [
        ("4.0", ("KIND:group", "MEMBER:urn:uuid:1", "MEMBER:mailto:a@example.org")),
        ("3.0", ("X-ADDRESSBOOKSERVER-KIND:group", "X-ADDRESSBOOKSERVER-MEMBER:urn:uuid:1",
                 "X-ADDRESSBOOKSERVER-MEMBER:mailto:a@example.org")),
    ],
)  # fmt: skip
def test_groups_and_their_members(version: str, lines: tuple[str, ...]) -> None:
    one = read_card(card(*lines, version=version))
    assert (one.kind, one.members) == ("group", ["urn:uuid:1", "mailto:a@example.org"])


def test_types_however_they_are_written() -> None:
    for text in ("TEL;TYPE=HOME,Pref:1", "TEL;type=home;type=pref:1", "TEL;HOME;PREF:1", 'TEL;TYPE="home,pref":1'):
        assert types(field(card(text), "TEL")) == ["home", "pref"]


# Files


def test_a_file_gives_its_cards_as_they_are() -> None:
    first, second = card("FN:A"), card("FN:B", uid="u2", version="4.0")
    assert list(split(b"\xef\xbb\xbf" + first + b"\r\n-- \r\n" + second + b"rubbish")) == [first, second]
    assert list(split((first + second).decode().encode("utf-16"))) == [first, second]
    assert list(split(b"no card\r\n")) == []


def test_one_broken_card_costs_only_itself() -> None:
    pieces = list(split(b"BEGIN:VCARD\r\nVERSION:3.0\r\nFN:cut\r\n" + card("FN:A") + card("rubbish")))
    assert len(pieces) == 3
    kept = []
    for piece in pieces:
        try:
            kept.append(card_content(piece).uid)
        except Violated:
            kept.append(None)
    assert kept == [None, "u1", None]


def test_a_card_without_uid_gets_the_same_one_each_time() -> None:
    (once,), (again,) = split(card("FN:A", uid="")), split(card("FN:A", uid=""))
    (other,) = split(card("FN:B", uid=""))
    assert once == again and card_content(once).uid != card_content(other).uid


def test_a_card_of_a_file_that_says_no_version_is_3() -> None:
    (piece,) = split(card("FN:A").replace(b"VERSION:3.0\r\n", b""))
    assert read_card(piece).version == "3.0"


VERSION21 = b"""BEGIN:VCARD\r
VERSION:2.1\r
N;CHARSET=UTF-8;ENCODING=QUOTED-PRINTABLE:M=C3=BCller;J=C3=BC=\r
rgen;;;\r
TEL;CELL;PREF:+49 1\r
ADR;HOME:;;Street 1, back;Town;;1;DE\r
NOTE;ENCODING=QUOTED-PRINTABLE;CHARSET=ISO-8859-1:a=0D=0Ab; =E9\r
PHOTO;JPEG;ENCODING=BASE64:\r
 /9j/AAAA\r
 BBBB\r
\r
X-OLD;CHARSET=windows-1252:\x80\r
END:VCARD\r
"""


def test_version_2_1_is_imported_as_3() -> None:
    (piece,) = split(VERSION21)
    one = read_card(piece)
    assert one.version == "3.0"
    values = {each.name: each.value for each in one.properties}
    assert values["N"] == "Müller;Jürgen;;;"
    assert values["ADR"] == ";;Street 1\\, back;Town;;1;DE"
    assert values["NOTE"] == "a\\nb\\; é"
    assert values["PHOTO"] == "/9j/AAAABBBB"
    assert values["X-OLD"] == "€"
    assert types(next(one.all("TEL"))) == ["cell", "pref"]
    assert next(one.all("PHOTO")).parameter("ENCODING") == "b"
    assert card_content(piece).uid


@pytest.mark.parametrize(
    ("data", "version"),
    [
        (card("FN:A"), "3.0"),
        (b"\xef\xbb\xbf" + card("FN:A", version="4.0", end="\n"), "4.0"),
        (b"BEGIN:VCARD\r\nPRODID:x\r\nVERSION:4.0\r\nUID:u\r\nEND:VCARD\r\n", "4.0"),
        (b"BEGIN:VCARD\r\nNOTE:x\r\n VERSION:4.0\r\nVERSION:3.0\r\nUID:u\r\nEND:VCARD\r\n", "3.0"),
        (b"BEGIN:VCARD\r\nVERSION;X=1:4.0\r\nUID:u\r\nEND:VCARD\r\n", ""),
        (card("FN:A", version="2.1"), ""),
    ],
)
def test_a_version_that_the_first_lines_say(data: bytes, version: str) -> None:
    assert stated_version(data) == version
    assert version in ("", read_card(data).version)


# Filters (RFC 6352 §10.5)


def contains(text: str, **more: object) -> TextMatch:
    return TextMatch(text, Collation.UNICODE, **more)  # type: ignore[arg-type]


JANE = card(
    "FN:Jane Doe",
    "item1.EMAIL;TYPE=work:jane@example.org",
    "EMAIL;TYPE=home:private@example.com",
    "ORG:Example\\, Inc.;",
    "NICKNAME:Größe",
)
HOME = CardParamFilter("TYPE", TextMatch("home", match_type=MatchType.EQUALS))


@pytest.mark.parametrize(
    ("prop", "answer"),
    [
        (CardPropFilter("FN"), True),
        (CardPropFilter("PHOTO"), False),
        (CardPropFilter("PHOTO", is_not_defined=True), True),
        (CardPropFilter("FN", is_not_defined=True), False),
        (CardPropFilter("FN", texts=(contains("jane"),)), True),
        (CardPropFilter("FN", texts=(contains("jane", match_type=MatchType.EQUALS),)), False),
        (CardPropFilter("FN", texts=(contains("JANE DOE", match_type=MatchType.EQUALS),)), True),
        (CardPropFilter("FN", texts=(contains("jane", match_type=MatchType.STARTS_WITH),)), True),
        (CardPropFilter("FN", texts=(contains("jane", match_type=MatchType.ENDS_WITH),)), False),
        (CardPropFilter("FN", texts=(contains("doe", match_type=MatchType.ENDS_WITH),)), True),
        (CardPropFilter("FN", texts=(contains("jane", negate=True),)), False),
        (CardPropFilter("FN", texts=(contains("john", negate=True),)), True),
        (CardPropFilter("PHOTO", texts=(contains("john", negate=True),)), False),
        (CardPropFilter("NICKNAME", texts=(contains("GRÖ"),)), True),
        (CardPropFilter("NICKNAME", texts=(TextMatch("GRÖ", Collation.ASCII),)), False),
        (CardPropFilter("FN", texts=(TextMatch("jane", Collation.OCTET),)), False),
        (CardPropFilter("ORG", texts=(contains("example, inc"),)), True),
        (CardPropFilter("EMAIL", texts=(contains("jane"),), params=(HOME,)), True),
        (CardPropFilter("EMAIL", texts=(contains("jane"),), params=(HOME,), test=Test.ALL_OF), False),
        (CardPropFilter("EMAIL", texts=(contains("private"),), params=(HOME,), test=Test.ALL_OF), True),
        (CardPropFilter("EMAIL", group="ITEM1", texts=(contains("jane"),)), True),
        (CardPropFilter("EMAIL", group="item1", texts=(contains("private"),)), False),
        (CardPropFilter("EMAIL", params=(CardParamFilter("TYPE", is_not_defined=True),)), False),
        (CardPropFilter("FN", params=(CardParamFilter("TYPE", is_not_defined=True),)), True),
        (CardPropFilter("FN", params=(CardParamFilter("TYPE"),)), False),
    ],
)
def test_property_filters(prop: CardPropFilter, answer: bool) -> None:
    assert matches(read_card(JANE), CardFilter((prop,))) is answer
    assert may_match(JANE, CardFilter((prop,))) or not answer


def test_filters_of_several_properties() -> None:
    yes, no = CardPropFilter("FN"), CardPropFilter("PHOTO")
    one = read_card(JANE)
    assert matches(one, CardFilter())
    assert matches(one, CardFilter((yes, no)))
    assert not matches(one, CardFilter((yes, no), Test.ALL_OF))
    assert matches(one, CardFilter((yes, yes), Test.ALL_OF))
    assert may_match(JANE, CardFilter((yes, no))) and not may_match(JANE, CardFilter((yes, no), Test.ALL_OF))
    nobody = CardPropFilter("FN", texts=(contains("nobody"),))
    assert not may_match(card("FN:Jane"), CardFilter((nobody,)))
    assert named("item1.email") == ("EMAIL", "item1") and named("fn") == ("FN", "")


# Parts (RFC 6352 §10.4)


def test_a_part_is_its_lines_as_they_were() -> None:
    data = card("FN:Jane\r\n  Doe", "item1.EMAIL;type=work:a@example.org", "EMAIL:b@example.org", "NOTE:secret")
    asked = AddressData((CardProp("FN"), CardProp("EMAIL", group="ITEM1"), CardProp("NOTE", no_value=True)))
    assert partial(data, asked) == (
        b"BEGIN:VCARD\r\nVERSION:3.0\r\nFN:Jane\r\n  Doe\r\n"
        b"item1.EMAIL;type=work:a@example.org\r\nNOTE:\r\nEND:VCARD\r\n"
    )
    assert partial(data, AddressData()) is data
    assert partial(data, AddressData(version="3.0")) is data
    other = partial(data, AddressData((CardProp("FN"),), "4.0"))
    assert other == b"BEGIN:VCARD\r\nVERSION:4.0\r\nFN:Jane Doe\r\nEND:VCARD\r\n"
    with pytest.raises(Violated) as raised:
        partial(data, AddressData(version="2.1"))
    assert raised.value.condition == "supported-address-data"


# Dates and birthdays


@pytest.mark.parametrize(
    ("value", "found", "basic", "extended"),
    [
        ("1996-04-15", CardDate(1996, 4, 15), "19960415", "1996-04-15"),
        ("19960415", CardDate(1996, 4, 15), "19960415", "1996-04-15"),
        ("1604-04-15", CardDate(None, 4, 15), "--0415", None),
        ("--04-15", CardDate(None, 4, 15), "--0415", None),
        ("--0415", CardDate(None, 4, 15), "--0415", None),
        ("---15", CardDate(None, None, 15), "---15", None),
        ("--04", CardDate(None, 4, None), "--04", None),
        ("1996", CardDate(1996, None, None), "1996", None),
        ("1996-04", CardDate(1996, 4, None), "1996-04", None),
        ("1996-04-15T10:22:00Z", CardDate(1996, 4, 15, "102200Z"), "19960415T102200Z", "1996-04-15T10:22:00Z"),
        ("19531015T231000+0100", CardDate(1953, 10, 15, "231000+0100"), "19531015T231000+0100",
         "1953-10-15T23:10:00+01:00"),
        ("--0229", CardDate(None, 2, 29), "--0229", None),
    ],
)  # fmt: skip
def test_dates(value: str, found: CardDate, basic: str, extended: str | None) -> None:
    said = read_date(value)
    assert said == found
    assert (said.basic(), said.extended()) == (basic, extended)
    assert read_date(basic) == found


@pytest.mark.parametrize("value", ["", "circa 1800", "1996-13-01", "1995-02-29", "--0230", "0000-01-01", "1" * 100])
def test_what_is_no_date(value: str) -> None:
    assert read_date(value) is None


@pytest.mark.parametrize(
    ("lines", "facts"),
    [
        (("BDAY:1980-02-29",), [(Occasion.BIRTHDAY, 2, 29, 1980)]),
        (("BDAY;X-APPLE-OMIT-YEAR=1604:1604-04-15",), [(Occasion.BIRTHDAY, 4, 15, None)]),
        (("BDAY;VALUE=text:circa 1800", "BDAY:1980-01-02"), [(Occasion.BIRTHDAY, 1, 2, 1980)]),
        (("BDAY:1980",), []),
        (("ANNIVERSARY:20100501",), [(Occasion.ANNIVERSARY, 5, 1, 2010)]),
        (("item1.X-ABDATE:2010-05-01", "item1.X-ABLabel:_$!<Anniversary>!$_"), [(Occasion.ANNIVERSARY, 5, 1, 2010)]),
        (("item1.X-ABDATE:2010-05-01", "item1.X-ABLabel:First day"), []),
    ],
)
def test_days_that_come_back(lines: tuple[str, ...], facts: list[tuple[Occasion, int, int, int | None]]) -> None:
    found = anniversaries(read_card(card("FN:Jane", *lines)))
    assert [(one.occasion, one.month, one.day, one.year) for one in found] == facts


def test_an_event_of_a_birthday() -> None:
    one = Anniversary("u1", "Doe, Jane", Occasion.BIRTHDAY, 2, 29, 1980)
    data = anniversary_event(one)
    assert data == anniversary_event(one)
    for line in (
        b"SUMMARY:Birthday: Doe\\, Jane (1980)",
        b"DTSTART;VALUE=DATE:19800229",
        b"DTEND;VALUE=DATE:19800301",
        b"RRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=-1",
        b"TRANSP:TRANSPARENT",
    ):
        assert line + b"\r\n" in data
    unknown = anniversary_event(Anniversary("u1", "Jane", Occasion.BIRTHDAY, 4, 15, None))
    assert b"SUMMARY:Birthday: Jane\r\n" in unknown and b"DTSTART;VALUE=DATE:19720415\r\n" in unknown
    assert b"DTEND;VALUE=DATE:19730101" in anniversary_event(Anniversary("u", "J", Occasion.BIRTHDAY, 12, 31, 9999))
