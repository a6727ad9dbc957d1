"""Address books as clients of CardDAV meet them, by the sections of RFC 6352."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from dav_house import NAMESPACES, House, all_below, house, name

BOOK = "addressbooks/ada@acme.test/contacts/"
HOME = "addressbooks/ada@acme.test/"


def card(uid: str, full_name: str, *more: str, version: str = "3.0") -> str:
    lines = ["BEGIN:VCARD", f"VERSION:{version}", f"UID:{uid}", f"FN:{full_name}", f"N:{full_name};;;;", *more]
    return "\r\n".join([*lines, "END:VCARD", ""])


CARDS = {
    "1.vcf": card("u1", "Ada Lovelace", "EMAIL;TYPE=WORK:ada@apple.test", "NICKNAME:Countess"),
    "2.vcf": card("u2", "John Anderson", "item1.EMAIL;TYPE=HOME,PREF:john@apple.test", "NOTE:A CONTACT of old"),
    "3.vcf": card("u3", "Jörg Müller", "EMAIL;TYPE=WORK:jm@example.test", "PHOTO;ENCODING=b;TYPE=JPEG:/9j/4AAQ"),
    "10.vcf": card("u10", "花子", "URL:http://example.jp/", "ADR:;;;;;;Japan", "NOTE:nothing"),
}


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    for found in house(tmp_path_factory.mktemp("contacts")):
        for called, text in CARDS.items():
            assert found.ask("PUT", BOOK + called, text, content_type="text/vcard; charset=utf-8").status == 201
        yield found


@pytest.fixture
def own(tmp_path: Path) -> Iterator[House]:
    yield from house(tmp_path)


def query(filter_: str = "", prop: str = "<D:getetag/>", more: str = "") -> str:
    return f"<CR:addressbook-query {NAMESPACES}><D:prop>{prop}</D:prop>{filter_}{more}</CR:addressbook-query>"


def matching(text: str, **attributes: str) -> str:
    given = "".join(f' {key.replace("_", "-")}="{value}"' for key, value in attributes.items())
    return f"<CR:text-match{given}>{text}</CR:text-match>"


def prop(called: str, *conditions: str, test: str = "anyof") -> str:
    return f'<CR:prop-filter name="{called}" test="{test}">{"".join(conditions)}</CR:prop-filter>'


def filter_(*props: str, test: str = "anyof") -> str:
    return f'<CR:filter test="{test}">{"".join(props)}</CR:filter>'


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("", "1 2 3 10"),
        ("<CR:filter/>", "1 2 3 10"),
        # RFC 6352 §10.5.1: defined or not.
        (filter_(prop("PHOTO")), "3"),
        (filter_(prop("PHOTO", "<CR:is-not-defined/>")), "1 2 10"),
        (filter_(prop("photo")), "3"),
        # §10.5.4: contains by default, case does not count, also beyond ASCII.
        (filter_(prop("FN", matching("ANDERS"))), "2"),
        (filter_(prop("FN", matching("MÜLLER"))), "3"),
        (filter_(prop("FN", matching("MÜLLER", collation="i;ascii-casemap"))), ""),
        (filter_(prop("FN", matching("müller", collation="i;octet"))), ""),
        (filter_(prop("FN", matching("花"))), "10"),
        (filter_(prop("NOTE", matching("contact"))), "2"),
        (filter_(prop("FN", matching("Jo", match_type="starts-with"))), "2 3"),  # RFC 5051 §2: ö is o with a mark
        (filter_(prop("NICKNAME", matching("tess", match_type="ends-with"))), "1"),
        (filter_(prop("EMAIL", matching("jm@example.test", match_type="equals"))), "3"),
        (filter_(prop("EMAIL", matching("apple", negate_condition="yes"))), "3"),
        # Groups are no part of a name, unless one is asked for.
        (filter_(prop("item1.EMAIL")), "2"),
        (filter_(prop("EMAIL", matching("john"))), "2"),
        # §10.5: any of several, or all.
        (filter_(prop("FN", matching("ada")), prop("EMAIL", matching("john"))), "1 2"),
        (filter_(prop("FN", matching("john")), prop("EMAIL", matching("apple")), test="allof"), "2"),
        (filter_(prop("FN", matching("john"), matching("nobody"), test="allof")), ""),
        # §10.5.2: of one and the same property.
        (
            filter_(
                prop(
                    "EMAIL",
                    matching("apple"),
                    f'<CR:param-filter name="TYPE">{matching("work")}</CR:param-filter>',
                    test="allof",
                )
            ),
            "1",
        ),
        (filter_(prop("UID", matching("u1", match_type="starts-with"))), "1 10"),
    ],
)
def test_addressbook_query(book: House, asked: str, found: str) -> None:
    answer = book.ask("REPORT", BOOK, query(asked), depth="1")
    assert set(answer.hrefs) == {f"{number}.vcf" for number in found.split()}


@pytest.mark.parametrize(
    ("asked", "condition"),
    [
        (filter_(prop("FN", matching("a", collation="i;klingon"))), "supported-collation"),
        (filter_(prop("FN", matching("a", match_type="rhymes"))), "supported-filter"),
        (filter_(prop("")), "supported-filter"),
        (filter_(prop("FN", "<CR:is-not-defined/>", matching("a"))), "supported-filter"),
        (filter_("<CR:bogus/>"), "supported-filter"),
        ('<CR:filter test="some"/>', "supported-filter"),
        (filter_(*[prop("FN", *[matching("a")] * 20)] * 5), "supported-filter"),
    ],
)
def test_filters_that_mean_nothing_are_refused(book: House, asked: str, condition: str) -> None:
    answer = book.ask("REPORT", BOOK, query(asked), depth="1")
    assert (answer.status, answer.condition) == (403, condition)


def test_a_limit_cuts_an_answer_and_says_so(book: House) -> None:
    """RFC 6352 §8.6.1: 507 for the address book itself."""
    cut = book.ask("REPORT", BOOK, query(more="<CR:limit><CR:nresults>2</CR:nresults></CR:limit>"), depth="1")
    assert cut.statuses == {"1.vcf": 200, "10.vcf": 200, "contacts": 507}
    assert all_below(cut.xml, "D:number-of-matches-within-limits")
    whole = book.ask("REPORT", BOOK, query(more="<CR:limit><CR:nresults>4</CR:nresults></CR:limit>"), depth="1")
    assert len(whole.statuses) == 4
    wrong = book.ask("REPORT", BOOK, query(more="<CR:limit><CR:nresults>no</CR:nresults></CR:limit>"), depth="1")
    assert wrong.status == 400


def test_depth_decides_what_is_searched(book: House) -> None:
    assert len(book.ask("REPORT", BOOK, query()).hrefs) == 4  # as clients mean it
    assert len(book.ask("REPORT", BOOK, query(), depth="0").hrefs) == 4
    assert set(book.ask("REPORT", BOOK + "1.vcf", query(), depth="0").hrefs) == {"1.vcf"}
    assert not book.ask("REPORT", BOOK + "1.vcf", query(filter_(prop("PHOTO"))), depth="0").hrefs
    assert not book.ask("REPORT", HOME, query()).hrefs
    assert len(book.ask("REPORT", HOME, query(), depth="infinity").hrefs) == 4


def test_multiget_finds_cards_by_any_way_to_write_an_href(book: House) -> None:
    """RFC 6352 §8.7: each once; what is missing is 404; what is somebody else's is not told."""
    hrefs = [
        "/dav/addressbooks/ada@acme.test/contacts/1.vcf",
        "/dav/addressbooks/ada%40acme.test/contacts/1.vcf",
        "https://dav.acme.test/dav/addressbooks/ada%40acme.test/contacts/%32.vcf",
        "/dav/addressbooks/ada@acme.test/contacts/missing%20one.vcf",
        "/dav/addressbooks/bob@acme.test/contacts/b.vcf",
        "/dav/addressbooks/eve@other.test/contacts/e.vcf",
        "https://elsewhere.test/dav/x.vcf",
        "/dav/addressbooks/ada@acme.test/contacts/%2e%2e/x.vcf",
    ]
    body = "".join(f"<D:href>{href}</D:href>" for href in hrefs)
    prop_ = "<D:prop><D:getetag/><CR:address-data/></D:prop>"
    answer = book.ask("REPORT", BOOK, f"<CR:addressbook-multiget {NAMESPACES}>{prop_}{body}</CR:addressbook-multiget>")
    assert answer.statuses == {
        "1.vcf": 200,
        "2.vcf": 200,
        "missing one.vcf": 404,
        "b.vcf": 403,
        "e.vcf": 404,
        "x.vcf": 404,
    }
    assert len(answer.xml.all(name("D:response"))) == 7
    data = [element.text for element in all_below(answer.xml, "CR:address-data")]
    assert data == [CARDS["1.vcf"], CARDS["2.vcf"]]


def test_a_multiget_without_hrefs_or_with_a_bad_version_is_refused(book: House) -> None:
    empty = book.ask("REPORT", BOOK, f"<CR:addressbook-multiget {NAMESPACES}><D:prop/></CR:addressbook-multiget>")
    assert empty.status == 400
    for attributes in ('version="2.1"', 'content-type="text/x"'):
        wrong = book.ask("REPORT", BOOK, query(prop=f"<CR:address-data {attributes}/>"))
        assert (wrong.status, wrong.condition) == (403, "supported-address-data")


def test_parts_of_cards_and_other_versions(book: House) -> None:
    """RFC 6352 §10.4: some properties; version 4.0 of what is stored as 3.0."""
    only = filter_(prop("UID", matching("u1", match_type="equals")))
    some = '<CR:address-data><CR:prop name="FN"/><CR:prop name="EMAIL" novalue="yes"/></CR:address-data>'
    part = book.ask("REPORT", BOOK, query(only, some)).property("CR:address-data")
    assert part is not None
    assert part.text.splitlines() == [
        "BEGIN:VCARD",
        "VERSION:3.0",
        "FN:Ada Lovelace",
        "EMAIL;TYPE=WORK:",
        "END:VCARD",
    ]
    four = book.ask("REPORT", BOOK, query(only, '<CR:address-data version="4.0"/>')).property("CR:address-data")
    assert four is not None
    assert "VERSION:4.0" in four.text
    assert "TYPE=work" in four.text.replace("WORK", "work")


@pytest.mark.parametrize(
    ("accept", "version"),
    [
        ("", "3.0"),
        ("*/*", "3.0"),
        ("text/vcard", "3.0"),
        ("text/vcard; version=4.0", "4.0"),
        ('text/vcard; version="4.0", text/vcard; version=3.0; q=0.5', "4.0"),
        ("text/vcard; version=4.0; q=0.2, text/vcard; version=3.0", "3.0"),
        ("text/vcard; version=4.0; q=x", "3.0"),
    ],
)
def test_get_gives_the_version_that_accept_asks_for(book: House, accept: str, version: str) -> None:
    answer = book.ask("GET", BOOK + "1.vcf", accept=accept)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/vcard")
    assert f"VERSION:{version}" in answer.body.decode()


def test_an_address_book_is_downloaded_whole(book: House) -> None:
    answer = book.ask("GET", BOOK)
    assert answer.status == 200
    assert answer.body.decode().count("BEGIN:VCARD\r\n") == 4
    assert book.ask("GET", BOOK, accept="text/vcard; version=4.0").body.count(b"VERSION:4.0") == 4
    again = book.ask("GET", BOOK, if_none_match=answer.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    assert book.ask("HEAD", BOOK).body == b""


@pytest.mark.parametrize(
    ("body", "content_type", "condition"),
    [
        ("<x/>", "text/xml", "supported-address-data"),
        (CARDS["1.vcf"], "text/calendar", "supported-address-data"),
        (CARDS["1.vcf"], "text/vcard; charset=iso-8859-1", "supported-address-data"),
        (CARDS["1.vcf"], "text/vcard; version=2.1", "supported-address-data"),
        (card("x", "Old", version="2.1"), "text/vcard", "supported-address-data"),
        ("BEGIN:VCARD\r\nnonsense", "text/vcard", "valid-address-data"),
        (card("a", "A") + card("b", "B"), "text/vcard", "valid-address-data"),
        (card("", "No UID"), "text/vcard", "valid-address-data"),
        (card("c", "Control \x01"), "text/vcard", "valid-address-data"),
        (card("u1", "The same again"), "text/vcard", "no-uid-conflict"),
    ],
)
def test_preconditions_of_put(book: House, body: str, content_type: str, condition: str) -> None:
    """RFC 6352 §6.3.2.1. The client's card is not stored."""
    answer = book.ask("PUT", BOOK + "new.vcf", body, content_type=content_type)
    assert (answer.status, answer.condition) == (403, condition)
    assert book.ask("GET", BOOK + "new.vcf").status == 404


def test_a_uid_in_the_way_is_told_by_its_href(book: House) -> None:
    answer = book.ask("PUT", BOOK + "new.vcf", card("u1", "Ada"), content_type="text/vcard")
    assert answer.xml.children[0].content(name("D:href")) == "/dav/addressbooks/ada@acme.test/contacts/1.vcf"
    other = book.ask("PUT", BOOK + "1.vcf", card("other", "Ada"), content_type="text/vcard")
    assert (other.status, other.condition) == (403, "no-uid-conflict")


def test_a_card_is_too_large(own: House) -> None:
    body = card("big", "Big", "NOTE:" + "x" * (4 << 20))
    answer = own.ask("PUT", BOOK + "big.vcf", body, content_type="text/vcard")
    assert (answer.status, answer.condition) == (403, "max-resource-size")


def test_octets_come_back_as_they_were_sent(own: House) -> None:
    """BOM, LF, folds in the middle of a character, a folded photo, X- properties: nothing is put right."""
    for number, body in enumerate(
        (
            b"\xef\xbb\xbfBEGIN:VCARD\nVERSION:3.0\nUID:o1\nFN:Bom\nN:;;;;\nEND:VCARD\n",
            b"BEGIN:VCARD\r\nVERSION:3.0\r\nUID:o2\r\nFN:J" + b"\xc3\r\n \xb6rg\r\nN:;;;;\r\nEND:VCARD",
            b"BEGIN:VCARD\r\nVERSION:4.0\r\nUID:o3\r\nFN:Four\r\nX-ABLabel:_$!<Home>!$_\r\nEND:VCARD\r\n",
        )
    ):
        put = own.ask("PUT", f"{BOOK}{number}.vcf", body, content_type="text/vcard")
        assert put.status == 201
        got = own.ask("GET", f"{BOOK}{number}.vcf")
        assert (got.body, got.headers["etag"]) == (body, put.headers["etag"])


def test_an_address_book_is_made_with_its_properties(own: House) -> None:
    """RFC 6352 §6.3.1 over RFC 5689."""
    body = (
        f"<D:mkcol {NAMESPACES}><D:set><D:prop><D:resourcetype><D:collection/><CR:addressbook/></D:resourcetype>"
        "<D:displayname>Work</D:displayname><CR:addressbook-description>Colleagues</CR:addressbook-description>"
        "</D:prop></D:set></D:mkcol>"
    )
    assert own.ask("MKCOL", HOME + "work/", body, content_type="application/xml").status == 201
    asked = (
        f"<D:propfind {NAMESPACES}><D:prop><D:resourcetype/><D:displayname/><CR:addressbook-description/>"
        "<CR:supported-address-data/><CR:max-resource-size/><CR:supported-collation-set/></D:prop></D:propfind>"
    )
    found = own.ask("PROPFIND", HOME + "work/", asked, depth="0")
    assert all_below(found.xml, "CR:addressbook")
    assert [found.property(each).text for each in ("D:displayname", "CR:addressbook-description")] == [  # type: ignore[union-attr]
        "Work",
        "Colleagues",
    ]
    versions = [each.attributes["version"] for each in all_below(found.xml, "CR:address-data-type")]
    assert versions == ["3.0", "4.0"]
    assert len(all_below(found.xml, "CR:supported-collation")) == 3
    assert found.property("D:displayname", 404) is None
    nested = own.ask("MKCOL", HOME + "work/inner/", body, content_type="application/xml")
    assert (nested.status, nested.condition) == (403, "addressbook-collection-location-ok")


def test_homes_and_the_own_card(own: House) -> None:
    """RFC 6352 §7.1: addressbook-home-set, principal-address; me-card as Apple's clients keep it."""
    asked = (
        f"<D:propfind {NAMESPACES}><D:prop><CR:addressbook-home-set/><CR:principal-address/><CS:me-card/>"
        "</D:prop></D:propfind>"
    )
    principal = own.ask("PROPFIND", "principals/ada@acme.test/", asked, depth="0")
    assert [each.text for each in all_below(principal.xml, "D:href")][1:] == ["/dav/addressbooks/ada@acme.test/"]
    assert principal.property("CR:principal-address", 404) is not None
    href = "/dav/addressbooks/ada@acme.test/contacts/me.vcf"
    patch = (
        f"<D:propertyupdate {NAMESPACES}><D:set><D:prop><CS:me-card><D:href>{href}</D:href></CS:me-card></D:prop>"
        "</D:set></D:propertyupdate>"
    )
    assert own.ask("PROPPATCH", BOOK, patch).property("CS:me-card") is not None
    for where, called in (
        ("principals/ada@acme.test/", "CR:principal-address"),
        (HOME, "CS:me-card"),
        (BOOK, "CS:me-card"),
    ):
        found = own.ask("PROPFIND", where, asked, depth="0").property(called)
        assert found is not None
        assert found.content(name("D:href")) == href
    other = own.ask("PROPFIND", "principals/ada@acme.test/", asked, who="bob", depth="0")
    assert other.property("CR:principal-address") is None
    wrong = patch.replace(href, "/dav/calendars/ada@acme.test/calendar/x.ics")
    assert own.ask("PROPPATCH", BOOK, wrong).property("CS:me-card", 409) is not None


def test_the_default_address_book(own: House) -> None:
    """As Apple's server and its clients have it: of the home, one of one's own books."""
    asked = f"<D:propfind {NAMESPACES}><D:prop><CR:default-addressbook-URL/></D:prop></D:propfind>"

    def default() -> str | None:
        found = own.ask("PROPFIND", HOME, asked, depth="0").property("CR:default-addressbook-URL")
        return None if found is None else found.content(name("D:href"))

    def choose(href: str) -> str:
        return (
            f"<D:propertyupdate {NAMESPACES}><D:set><D:prop><CR:default-addressbook-URL><D:href>{href}</D:href>"
            "</CR:default-addressbook-URL></D:prop></D:set></D:propertyupdate>"
        )

    assert default() == f"/dav/{BOOK}"
    work = f"/dav/{HOME}chosen/"
    for wrong in (work, f"/dav/{BOOK}1.vcf", "/dav/addressbooks/bob@acme.test/contacts/", "http://[", ""):
        assert own.ask("PROPPATCH", HOME, choose(wrong)).property("CR:default-addressbook-URL", 409) is not None
    made = (
        f"<D:mkcol {NAMESPACES}><D:set><D:prop><D:resourcetype><D:collection/><CR:addressbook/></D:resourcetype>"
        "</D:prop></D:set></D:mkcol>"
    )
    assert own.ask("MKCOL", HOME + "chosen/", made, content_type="application/xml").status == 201
    assert own.ask("PROPPATCH", HOME, choose(work)).property("CR:default-addressbook-URL") is not None
    assert default() == work
    assert own.ask("DELETE", HOME + "chosen/").status == 204
    assert default() == f"/dav/{BOOK}"


def test_what_is_said_of_sizes_and_types(own: House) -> None:
    asked = f"<D:propfind {NAMESPACES}><D:prop><D:getcontentlength/><D:getcontenttype/></D:prop></D:propfind>"
    assert own.ask("PUT", BOOK + "size.vcf", card("size", "Size"), content_type="text/vcard").status == 201
    for where, size in ((BOOK, "0"), (HOME, "0"), (BOOK + "size.vcf", None)):
        length = own.ask("PROPFIND", where, asked, depth="0").property("D:getcontentlength")
        assert length is not None and (length.text == size or (size is None and int(length.text) > 0))
    kind = own.ask("PROPFIND", BOOK + "size.vcf", asked, depth="0").property("D:getcontenttype")
    assert kind is not None and kind.text == "text/vcard;charset=utf-8"
