"""The methods of WebDAV as dialogues, section by section of RFC 4918 and what extends it, beyond what litmus plays."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from threading import Barrier, Thread

import pytest
from dav_town import ALICE, D, DavTown, bare_calendars, new_dav_town, prop, propfind

from hosting.dav.assembly import make_handler
from hosting.dav.handler import DavHandler
from hosting.dav.names import caldav, calendarserver, carddav, dav
from hosting.dav.registry import Edit, LiveProperty, Registry
from hosting.dav.request import DavRequest, Streamed
from hosting.dav.resources import ResourceType
from hosting.dav.services import DavLimits
from storage.collections.values import Content, Kind, file_content

HOME = f"/dav/files/{ALICE}/"
CALENDARS = f"/dav/calendars/{ALICE}/"
_numbers = count(1)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DavTown]:
    with new_dav_town(tmp_path_factory.mktemp("dav"), [bare_calendars]) as town:
        yield town


@pytest.fixture
def folder(town: DavTown) -> str:
    """A new folder's path."""
    path = f"{HOME}folder-{next(_numbers)}/"
    assert town.ask("MKCOL", path).status == 201
    return path


@pytest.fixture
def calendar(town: DavTown) -> str:
    """A new calendar's path."""
    path = f"{CALENDARS}calendar-{next(_numbers)}/"
    assert town.ask("MKCOL", path, mkcol(caldav("calendar"))).status == 201
    return path


def mkcol(*types: str, more: str = "") -> str:
    named = prop(dav("collection"), *types).replace("D:prop", "D:resourcetype")
    return f'<D:mkcol xmlns:D="DAV:"><D:set><D:prop>{named}{more}</D:prop></D:set></D:mkcol>'


def update(*instructions: str) -> str:
    return f'<D:propertyupdate xmlns:D="DAV:" xmlns:x="u:x">{"".join(instructions)}</D:propertyupdate>'


def setting(content: str) -> str:
    return f"<D:set><D:prop>{content}</D:prop></D:set>"


def at_once(ask: Callable[[int], int]) -> list[int]:
    """The statuses of eight requests that begin together."""
    barrier, statuses = Barrier(8), []

    def run(number: int) -> None:
        barrier.wait()
        statuses.append(ask(number))

    threads = [Thread(target=run, args=(number,)) for number in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return statuses


def removing(content: str) -> str:
    return f"<D:remove><D:prop>{content}</D:prop></D:remove>"


def lockinfo(scope: str = "exclusive", owner: str = "<D:owner>me</D:owner>") -> str:
    return (
        f'<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:{scope}/></D:lockscope>'
        f"<D:locktype><D:write/></D:locktype>{owner}</D:lockinfo>"
    )


class TestOptions:
    def test_what_is_there_says_what_can_be_done(self, town: DavTown, folder: str) -> None:
        town.ask("PUT", folder + "a.txt", "a")
        told = town.ask("OPTIONS", folder + "a.txt").headers
        assert {"GET", "PUT", "COPY", "MOVE", "LOCK", "PROPFIND", "DELETE"} <= set(told["Allow"].split(", "))
        assert told["DAV"].startswith("1, 2, 3, access-control, extended-mkcol")

    def test_unknown_methods(self, town: DavTown) -> None:
        assert town.ask("BREW", HOME).status == 501


class TestPropfind:
    def test_allprop_propname_include(self, town: DavTown, folder: str) -> None:
        """§9.1, §14.8."""
        town.ask("PROPPATCH", folder, update(setting("<x:mine>1</x:mine>")))
        everything = town.propfind(folder).properties()
        assert {dav("resourcetype"), dav("displayname"), "{u:x}mine"} <= set(everything)
        assert dav("current-user-principal") not in everything
        body = '<D:propfind xmlns:D="DAV:"><D:allprop/><D:include><D:owner/></D:include></D:propfind>'
        assert dav("owner") in town.ask("PROPFIND", folder, body, depth="0").properties()
        names = town.ask("PROPFIND", folder, '<D:propfind xmlns:D="DAV:"><D:propname/></D:propfind>', depth="0")
        assert {dav("owner"), "{u:x}mine"} <= set(names.properties())
        assert all(not len(each) and not each.text for each in names.properties().values())

    def test_what_is_not_there_is_404_and_is_left_out_on_demand(self, town: DavTown, folder: str) -> None:
        """§9.1; RFC 8144 §2.1."""
        asked = (dav("displayname"), "{u:x}none")
        assert town.propfind(folder, *asked).statuses() == {dav("displayname"): 200, "{u:x}none": 404}
        minimal = town.propfind(folder, *asked, prefer="return=minimal")
        assert minimal.statuses() == {dav("displayname"): 200}
        assert minimal.headers["Preference-Applied"] == "return=minimal"
        assert town.propfind(folder, "{u:x}none", prefer="return=minimal").statuses() == {}
        assert town.propfind(folder, *asked, brief="t").statuses() == {dav("displayname"): 200}

    def test_depths(self, town: DavTown, folder: str) -> None:
        town.ask("MKCOL", folder + "sub/")
        town.ask("PUT", folder + "sub/deep.txt", "x")
        town.ask("PUT", folder + "flat.txt", "x")
        wanted = dav("getetag")
        assert town.propfind(folder, wanted).hrefs() == [folder]
        assert town.propfind(folder, wanted, depth="1").hrefs() == [folder, folder + "sub/", folder + "flat.txt"]
        assert set(town.propfind(folder, wanted, depth="infinity").hrefs()) == {
            folder,
            folder + "sub/",
            folder + "flat.txt",
            folder + "sub/deep.txt",
        }
        assert town.ask("PROPFIND", folder).hrefs()[-1] == folder + "sub/deep.txt"  # none said: infinity
        assert town.propfind(folder, wanted, depth="2").status == 400
        unrooted = town.propfind(folder, wanted, depth="1", prefer="depth-noroot")
        assert folder not in unrooted.hrefs()  # RFC 8144 §3

    def test_infinity_on_much_is_refused(self, town: DavTown, folder: str) -> None:
        """§9.1.1."""
        town.ask("PUT", folder + "a", "a")
        town.ask("PUT", folder + "b", "b")
        handler = town.with_services(limits=DavLimits(infinite_members=1))
        for path in (folder, "/dav/", "/dav/principals/"):
            refused = town.ask("PROPFIND", path, depth="infinity", handler=handler)
            assert (refused.status, refused.condition) == (403, dav("propfind-finite-depth"))

    def test_dead_properties_of_members_come_in_one_answer(self, town: DavTown, folder: str) -> None:
        for name in ("a", "b", "c"):
            town.ask("PUT", folder + name, name)
        for path in (folder + "a", folder + "c", folder):
            town.ask("PROPPATCH", path, update(setting(f"<x:p>{path[-1]}</x:p>")))
        told = town.propfind(folder, "{u:x}p", dav("getetag"), depth="1")
        texts = {
            href: each.get("{u:x}p")
            for href, each in ((h, told.properties(h)) for h in told.hrefs() if h != folder + "b")
        }
        assert [each.text for each in texts.values() if each is not None] == ["/", "a", "c"]
        assert told.statuses(folder + "b") == {dav("getetag"): 200, "{u:x}p": 404}

    def test_long_answers_are_streamed_and_let_go_of_the_account(self, town: DavTown, folder: str) -> None:
        with town.account() as account:
            row = account.collections.find(Kind.FOLDER, folder.split("/")[-2], home_id(town))
            bodies = ((f"file-{i}", file_content(b"", "")) for i in range(700))
            assert account.objects.put_many(row.id, bodies) == 700
        request = DavRequest("PROPFIND", folder, {"depth": "1"}, b"", town.principal(), "192.0.2.1")
        response = town.handler.handle(request)
        assert isinstance(response.body, Streamed)
        assert "Content-Length" not in dict(response.headers)
        first = next(response.body)
        assert first.startswith(b"<?xml") and first.count(b"<D:response>") < 700
        response.close()
        assert list(response.body) == []  # nothing is made for who has left
        gc.collect()
        whole = town.propfind(folder, dav("getetag"), depth="1")
        assert len(whole.hrefs()) == 701

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            ("<broken", 400),
            ('<D:wrong xmlns:D="DAV:"/>', 400),
            ('<D:propfind xmlns:D="DAV:"/>', 400),
            ('<D:propfind xmlns:D="DAV:"><D:unknown/></D:propfind>', 400),
            ('<D:propfind xmlns:D="DAV:"><D:prop/><D:allprop/></D:propfind>', 400),
            ('<D:propfind xmlns:D="DAV:"><D:prop/><D:include/></D:propfind>', 400),
            ("<!DOCTYPE a [<!ENTITY e 'x'>]><a>&e;</a>", 400),
            ("<a>" * 1000 + "</a>" * 1000, 400),
            (f'<D:propfind xmlns:D="DAV:"><D:prop>{"<D:x/>" * 100_000}</D:prop></D:propfind>', 400),
            (f'<D:propfind xmlns:D="DAV:"><D:prop>{"<D:x/>" * 600}</D:prop></D:propfind>', 400),
            ('<D:propfind xmlns:D="DAV:"><!--' + "x" * (5 << 20) + "--></D:propfind>", 413),
        ],
        ids=[
            "broken",
            "other root",
            "nothing",
            "unknown",
            "both",
            "no allprop",
            "entity",
            "deep",
            "100,000 properties",
            "600 properties",
            "5 MB",
        ],
    )
    def test_bodies_that_are_refused(self, town: DavTown, body: str, status: int) -> None:
        assert town.ask("PROPFIND", HOME, body, depth="0").status == status

    def test_every_property_of_every_kind_can_be_read(self, town: DavTown, calendar: str) -> None:
        town.ask("PUT", calendar + "a.ics", "a")
        for path in (
            "/dav/",
            "/dav/principals/",
            f"/dav/principals/{ALICE}/",
            HOME,
            CALENDARS,
            calendar,
            calendar + "a.ics",
            CALENDARS + "inbox/",
            CALENDARS + "outbox/",
            "/dav/addressbooks/",
        ):
            names = town.ask("PROPFIND", path, '<D:propfind xmlns:D="DAV:"><D:propname/></D:propfind>', depth="0")
            found = town.propfind(path, *names.properties())
            assert set(found.statuses().values()) == {200}, path

    def test_quota(self, town: DavTown, folder: str) -> None:
        """RFC 4331: what is free is told where there is a limit."""
        principal = replace(town.principal(), quota_bytes=1_000_000)
        body = (
            '<D:propfind xmlns:D="DAV:">'
            + prop(dav("quota-used-bytes"), dav("quota-available-bytes"))
            + "</D:propfind>"
        )
        told = town.ask("PROPFIND", folder, body, depth="0", principal=principal).properties()
        used, free = (int(told[dav(name)].text or "") for name in ("quota-used-bytes", "quota-available-bytes"))
        assert used + free == 1_000_000
        assert town.propfind(folder, dav("quota-available-bytes")).statuses() == {dav("quota-available-bytes"): 404}

    def test_a_ctag_changes_with_the_collection(self, town: DavTown, calendar: str) -> None:
        before = town.value(calendar, calendarserver("getctag"))
        town.ask("PUT", calendar + "a.ics", "a")
        after = town.value(calendar, calendarserver("getctag"))
        assert before != after
        assert town.value(calendar, calendarserver("getctag")) == after


def home_id(town: DavTown) -> int:
    with town.account() as account:
        return account.collections.find(Kind.FOLDER, "files").id


class TestProppatch:
    def test_all_or_nothing(self, town: DavTown, folder: str) -> None:
        """§9.2, §11.4."""
        told = town.ask(
            "PROPPATCH", folder, update(setting("<x:a>1</x:a><D:getetag>no</D:getetag>"), removing("<x:b/>"))
        )
        assert told.statuses() == {dav("getetag"): 403, "{u:x}a": 424, "{u:x}b": 424}
        assert town.propfind(folder, "{u:x}a").statuses() == {"{u:x}a": 404}

    def test_protected_properties(self, town: DavTown, folder: str) -> None:
        for name in ("resourcetype", "owner", "current-user-privilege-set", "quota-used-bytes", "supportedlock"):
            told = town.ask("PROPPATCH", folder, update(setting(f"<D:{name}/>")))
            assert told.statuses() == {dav(name): 403}
            assert told.xml.find(f".//{D}error/{D}cannot-modify-protected-property") is not None

    def test_in_the_order_of_the_document(self, town: DavTown, folder: str) -> None:
        told = town.ask(
            "PROPPATCH", folder, update(setting("<x:a>1</x:a>"), removing("<x:a/><x:b/>"), setting("<x:b>2</x:b>"))
        )
        assert set(told.statuses().values()) == {200}
        assert town.propfind(folder, "{u:x}a", "{u:x}b").statuses() == {"{u:x}a": 404, "{u:x}b": 200}

    def test_values_are_kept_as_they_were(self, town: DavTown, folder: str) -> None:
        """§4.3: mixed content, attributes, namespaces and language."""
        value = '<x:a xml:lang="de" y:k="&lt;1&gt;" xmlns:y="u:y">eins <y:b>&amp;</y:b> drei<c xmlns=""/></x:a>'
        town.ask("PROPPATCH", folder, update(setting(value)))
        kept = town.propfind(folder, "{u:x}a").properties()["{u:x}a"]
        assert kept.attrib == {"{http://www.w3.org/XML/1998/namespace}lang": "de", "{u:y}k": "<1>"}
        assert (kept.text, kept[0].tag, kept[0].text, kept[0].tail, kept[1].tag) == (
            "eins ",
            "{u:y}b",
            "&",
            " drei",
            "c",
        )

    def test_live_and_dead_ones_change_together(self, town: DavTown, calendar: str) -> None:
        told = town.ask(
            "PROPPATCH", calendar, update(setting("<D:displayname> Work &amp; </D:displayname><x:a>1</x:a>"))
        )
        assert set(told.statuses().values()) == {200}
        assert town.value(calendar, dav("displayname")) == "Work &"
        town.ask("PROPPATCH", calendar, update(removing("<D:displayname/>")))
        assert town.value(calendar, dav("displayname")) == calendar.split("/")[-2]

    def test_return_minimal(self, town: DavTown, folder: str) -> None:
        """RFC 8144 §2.2: a success says nothing, a failure everything."""
        good = town.ask("PROPPATCH", folder, update(setting("<x:a/>")), prefer="return=minimal")
        assert (good.status, good.body) == (200, b"")
        assert town.ask("PROPPATCH", folder, update(setting("<D:owner/>")), prefer="return=minimal").status == 207

    def test_homes_and_the_own_principal_keep_properties(self, town: DavTown) -> None:
        for number, path in enumerate((HOME, CALENDARS, f"/dav/addressbooks/{ALICE}/", f"/dav/principals/{ALICE}/")):
            assert set(town.ask("PROPPATCH", path, update(setting(f"<x:n>{number}</x:n>"))).statuses().values()) == {
                200
            }
        assert town.value(CALENDARS, "{u:x}n") == "1"
        assert town.value(HOME, "{u:x}n") == "0"
        assert town.ask("PROPPATCH", "/dav/", update(setting("<x:n/>"))).status == 403

    def test_limits(self, town: DavTown, folder: str) -> None:
        large = town.ask("PROPPATCH", folder, update(setting(f"<x:a>{'x' * 70_000}</x:a>")))
        assert large.statuses() == {"{u:x}a": 507}
        many = "".join(f"<x:p{number}/>" for number in range(200))
        assert set(town.ask("PROPPATCH", folder, update(setting(many))).statuses().values()) == {507}
        assert town.ask("PROPPATCH", folder, update(setting("<x:a/>" * 600))).status == 400
        assert town.ask("PROPPATCH", folder).status == 400
        long = town.ask("PROPPATCH", folder, update(setting(f"<D:displayname>{'x' * 2000}</D:displayname>")))
        assert long.statuses() == {dav("displayname"): 409}


class TestMkcol:
    def test_where_collections_can_be(self, town: DavTown, folder: str) -> None:
        """§9.3.1."""
        assert town.ask("MKCOL", folder).status == 405
        assert town.ask("MKCOL", folder + "no/where/").status == 409
        town.ask("PUT", folder + "file", "x")
        assert town.ask("MKCOL", folder + "file").status == 405
        assert town.ask("MKCOL", folder + "file/in/").status == 409
        assert town.ask("MKCOL", folder + "sub/", "hello", content_type="text/plain").status == 415
        for path in ("/dav/", "/dav/files/", HOME, f"/dav/principals/{ALICE}/", f"/dav/principals/{ALICE}/x/"):
            assert town.ask("MKCOL", path).status in (404, 405), path
        assert town.ask("MKCOL", "/dav/else/x/y/").status == 404

    def test_plain_ones_are_folders(self, town: DavTown, calendar: str) -> None:
        assert town.ask("MKCOL", CALENDARS + "plain/").status == 403
        refused = town.ask("MKCOL", calendar + "inner/", mkcol(caldav("calendar")))
        assert (refused.status, refused.condition) == (403, caldav("calendar-collection-location-ok"))

    def test_extended(self, town: DavTown) -> None:
        """RFC 5689 §3."""
        path = f"/dav/addressbooks/{ALICE}/friends/"
        more = '<D:displayname>Friends</D:displayname><x:mine xmlns:x="u:x">1</x:mine>'
        made = town.ask("MKCOL", path, mkcol(carddav("addressbook"), more=more), content_type="application/xml")
        assert made.status == 201
        assert made.xml.tag == dav("mkcol-response")
        assert town.value(path, dav("displayname")) == "Friends"
        assert town.value(path, "{u:x}mine") == "1"
        quiet = town.ask("MKCOL", path[:-1] + "-2/", mkcol(carddav("addressbook")), prefer="return=minimal")
        assert (quiet.status, quiet.body) == (201, b"")
        again = town.ask("MKCOL", path, mkcol(carddav("addressbook")))
        assert (again.status, again.condition) == (403, dav("resource-must-be-null"))
        assert town.ask("MKCOL", path).status == 405

    def test_extended_all_or_nothing(self, town: DavTown) -> None:
        """RFC 5689 §3.3, §3.4."""
        path = CALENDARS + "half/"
        refused = town.ask("MKCOL", path, mkcol(caldav("calendar"), more="<D:owner/><D:displayname>x</D:displayname>"))
        assert refused.status == 403
        assert refused.xml.find(f".//{D}cannot-modify-protected-property") is not None
        assert town.propfind(path).status == 404
        unknown = town.ask("MKCOL", path, mkcol("{u:x}strange"))
        assert (unknown.status, unknown.condition) == (403, dav("valid-resourcetype"))
        both = town.ask("MKCOL", path, mkcol(caldav("calendar"), carddav("addressbook")))
        assert (both.status, both.condition) == (403, dav("valid-resourcetype"))


class TestGetAndPut:
    def test_octets_and_headers(self, town: DavTown, folder: str) -> None:
        put = town.ask("PUT", folder + "b%C3%A4r.txt", b"\x00\xffx", content_type="text/x-bear")
        assert put.status == 201
        assert put.headers["Location"] == folder + "b%C3%A4r.txt"
        got = town.ask("GET", folder + "b%C3%A4r.txt")
        assert (got.status, got.body, got.headers["Content-Type"]) == (200, b"\x00\xffx", "text/x-bear")
        assert got.headers["ETag"] == put.headers["ETag"]
        head = town.ask("HEAD", folder + "b%C3%A4r.txt")
        assert (head.status, head.body, head.headers) == (200, b"", got.headers)

    def test_the_root_answers_whoever_tries_whether_it_is_there(self, town: DavTown) -> None:
        got, head = town.ask("GET", "/dav/"), town.ask("HEAD", "/dav/")
        assert got.status == 200 and got.headers["Content-Length"] == str(len(got.body))
        assert (head.status, head.body, head.headers) == (200, b"", got.headers)
        assert town.ask("GET", "/dav/principals/").status == 405

    def test_files_are_run_by_no_browser(self, town: DavTown, folder: str) -> None:
        town.ask("PUT", folder + "a.html", "<script>alert(1)</script>", content_type="text/html")
        told = town.ask("GET", folder + "a.html").headers
        assert told["Content-Disposition"] == "attachment"
        assert told["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in told["Content-Security-Policy"]

    @pytest.mark.parametrize("media_type", ["text/plain\r\nX-Evil: 1", "täxt", "x" * 1000])
    def test_media_types_do_no_harm(self, town: DavTown, folder: str, media_type: str) -> None:
        town.ask("PUT", folder + "a", "a", content_type=media_type)
        told = town.ask("GET", folder + "a").headers["Content-Type"]
        assert told.isascii() and told.isprintable() and len(told) < 300

    @pytest.mark.parametrize(
        ("asked", "status", "body", "told"),
        [
            ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
            ("bytes=7-", 206, b"789", "bytes 7-9/10"),
            ("bytes=-2", 206, b"89", "bytes 8-9/10"),
            ("bytes=-50", 206, b"0123456789", "bytes 0-9/10"),
            ("bytes=5-500", 206, b"56789", "bytes 5-9/10"),
            ("bytes=10-", 416, b"", "bytes */10"),
            ("bytes=-0", 416, b"", "bytes */10"),
            ("bytes=4-2", 200, b"0123456789", None),
            ("bytes=0-1,3-4", 200, b"0123456789", None),
            ("lines=1-2", 200, b"0123456789", None),
            ("bytes=-", 200, b"0123456789", None),
            ("bytes=" + "9" * 40 + "-", 200, b"0123456789", None),
        ],
    )
    def test_ranges(self, town: DavTown, folder: str, asked: str, status: int, body: bytes, told: str | None) -> None:
        """RFC 9110 §14."""
        town.ask("PUT", folder + "a", "0123456789")
        got = town.ask("GET", folder + "a", range=asked)
        assert (got.status, got.headers.get("Content-Range")) == (status, told)
        assert status == 416 or got.body == body

    def test_if_range(self, town: DavTown, folder: str) -> None:
        etag = town.ask("PUT", folder + "a", "0123456789").headers["ETag"]
        assert town.ask("GET", folder + "a", range="bytes=0-1", if_range=etag).status == 206
        assert town.ask("GET", folder + "a", range="bytes=0-1", if_range='"other"').status == 200

    def test_conditions_of_reading(self, town: DavTown, folder: str) -> None:
        """RFC 9110 §13.2.2."""
        path = folder + "a"
        etag = town.ask("PUT", path, "x").headers["ETag"]
        modified = town.ask("GET", path).headers["Last-Modified"]
        long_ago = "Sat, 01 Jan 2000 00:00:00 GMT"
        for status, headers in (
            (304, {"if_none_match": etag}),
            (304, {"if_none_match": f'"x", W/{etag}'}),
            (304, {"if_none_match": "*"}),
            (200, {"if_none_match": '"x"', "if_modified_since": modified}),
            (304, {"if_modified_since": modified}),
            (200, {"if_modified_since": long_ago}),
            (200, {"if_modified_since": "nonsense"}),
            (412, {"if_match": '"x"'}),
            (200, {"if_match": f'"x", {etag}'}),
            (412, {"if_unmodified_since": long_ago}),
            (200, {"if_unmodified_since": modified}),
        ):
            assert town.ask("GET", path, **headers).status == status, headers  # type: ignore[arg-type]

    def test_conditions_of_writing(self, town: DavTown, folder: str) -> None:
        """RFC 9110 §13.1."""
        path = folder + "a"
        assert town.ask("PUT", path, "x", if_match="*").status == 412
        first = town.ask("PUT", path, "x", if_none_match="*")
        assert first.status == 201
        assert town.ask("PUT", path, "y", if_none_match="*").status == 412
        assert town.ask("PUT", path, "y", if_match='"other"').status == 412
        second = town.ask("PUT", path, "y", if_match=first.headers["ETag"])
        assert second.status == 204
        assert town.ask("PUT", path, "z", if_match=first.headers["ETag"]).status == 412
        assert town.ask("PUT", path, "z", if_unmodified_since="Sat, 01 Jan 2000 00:00:00 GMT").status == 412
        assert town.ask("DELETE", path, if_match=first.headers["ETag"]).status == 412
        assert town.ask("DELETE", path, if_match=second.headers["ETag"]).status == 204

    def test_one_of_eight_writers_wins(self, town: DavTown, folder: str) -> None:
        path = folder + "race"
        etag = town.ask("PUT", path, "start").headers["ETag"]

        def write(number: int) -> int:
            return town.ask("PUT", path, f"writer {number}", if_match=etag).status

        assert sorted(at_once(write)) == [204] + [412] * 7

    def test_the_first_files_may_come_together(self, tmp_path: Path) -> None:
        """The home of files is made with the first one."""
        with new_dav_town(tmp_path) as town:
            assert at_once(lambda number: town.ask("PUT", f"{HOME}{number}", "x").status) == [201] * 8

    def test_representation(self, town: DavTown, folder: str) -> None:
        """RFC 8144 §2.4."""
        told = town.ask("PUT", folder + "a", "x", prefer="return=representation")
        assert (told.status, told.body, told.headers["Content-Location"]) == (201, b"x", folder + "a")
        assert told.headers["Preference-Applied"] == "return=representation"
        assert town.ask("PUT", folder + "a", "y", prefer="return=representation").status == 200

    def test_what_cannot_be_put(self, town: DavTown, folder: str, calendar: str) -> None:
        assert town.ask("PUT", folder, "x").status == 405
        assert town.ask("PUT", folder + "a/", "x").status == 405
        assert town.ask("PUT", folder + "no/a", "x").status == 409
        assert town.ask("PUT", folder + "a", "x", content_range="bytes 0-0/2").status == 400
        assert town.ask("PUT", CALENDARS + "a.ics", "x").status == 403
        assert town.ask("PUT", CALENDARS + "inbox/a.ics", "x").status == 403
        bad = town.ask("PUT", calendar + "a.ics", "bad")
        assert (bad.status, bad.condition) == (403, caldav("valid-calendar-data"))
        handler = town.with_services(limits=DavLimits(file_size=10))
        assert town.ask("PUT", folder + "a", "x" * 11, handler=handler).status == 413
        assert town.ask("GET", folder).status == 405
        assert town.ask("GET", folder + "none").status == 404

    def test_uids_conflict_with_the_name_of_the_other(self, town: DavTown, calendar: str) -> None:
        town.ask("PUT", calendar + "a.ics", "uid-1\nx")
        refused = town.ask("PUT", calendar + "b.ics", "uid-1\ny")
        assert (refused.status, refused.condition) == (403, caldav("no-uid-conflict"))
        assert refused.xml.findtext(f".//{D}href") == calendar + "a.ics"

    def test_a_full_account(self, town: DavTown, folder: str) -> None:
        """RFC 4331 §6."""
        small = replace(town.principal(), quota_bytes=1)
        full = replace(town.principal(), full=True)
        for principal in (small, full):
            refused = town.ask("PUT", folder + "big", "x" * 100, principal=principal)
            assert (refused.status, refused.condition) == (507, dav("quota-not-exceeded"))
        assert town.ask("PUT", folder + "big", "x").status == 201


class TestDelete:
    def test_what_stays(self, town: DavTown) -> None:
        for path in ("/dav/", "/dav/principals/", f"/dav/principals/{ALICE}/", HOME, CALENDARS):
            assert town.ask("DELETE", path).status == 403, path
        assert town.ask("DELETE", CALENDARS + "inbox/").status == 403

    def test_collections_go_whole(self, town: DavTown, folder: str) -> None:
        """§9.6.1."""
        town.ask("MKCOL", folder + "a/")
        town.ask("PUT", folder + "a/b", "x")
        assert town.ask("DELETE", folder, depth="0").status == 400
        assert town.ask("DELETE", folder, if_match='"x"').status == 412
        assert town.ask("DELETE", folder).status == 204
        assert town.propfind(folder + "a/b").status == 404
        assert town.ask("DELETE", folder).status == 404

    def test_nothing_goes_where_something_is_locked(self, town: DavTown, folder: str) -> None:
        town.ask("MKCOL", folder + "a/")
        town.ask("PUT", folder + "a/b", "x")
        token = town.ask("LOCK", folder + "a/b", lockinfo()).headers["Lock-Token"]
        told = town.ask("DELETE", folder)
        assert told.hrefs() == [folder + "a/b"]
        assert told.status_of(folder + "a/b") == 423
        assert town.ask("GET", folder + "a/b").status == 200
        assert town.ask("DELETE", folder, **{"if": f"<{folder}a/b> ({token})"}).status == 204


class TestCopyAndMove:
    def test_destinations(self, town: DavTown, folder: str) -> None:
        """§9.8.5."""
        town.ask("PUT", folder + "a", "x")
        for destination, status in (
            ("", 400),
            ("https://elsewhere.example/dav/files/x", 502),
            ("relative", 400),
            (folder + "a", 403),
            (folder + "no/a", 409),
            ("/dav/files/mallory@other.test/a", 404),
            ("/dav/files/bob@example.test/a", 403),
            (CALENDARS + "calendar/a.ics", 403),
            (folder + "..%2fa", 400),
        ):
            for method in ("COPY", "MOVE"):
                assert town.ask(method, folder + "a", destination=destination).status == status, destination
        assert town.ask("COPY", folder + "a", destination=folder + "b", overwrite="maybe").status == 400
        assert town.ask("MOVE", folder + "none", destination=folder + "b").status == 404

    def test_properties_and_octets_go_along(self, town: DavTown, folder: str) -> None:
        """§9.8.2, §9.9.1."""
        etag = town.ask("PUT", folder + "a", "x").headers["ETag"]
        town.ask("PROPPATCH", folder + "a", update(setting("<x:p>1</x:p>")))
        assert town.ask("COPY", folder + "a", destination=folder + "b").status == 201
        assert town.ask("MOVE", folder + "a", destination=folder + "c").status == 201
        assert town.ask("MOVE", folder + "c", destination=folder + "b", overwrite="F").status == 412
        assert town.ask("MOVE", folder + "c", destination=folder + "b").status == 204
        assert town.value(folder + "b", "{u:x}p") == "1"
        assert town.ask("GET", folder + "b").headers["ETag"] == etag
        assert town.propfind(folder + "a").status == 404

    def test_depth_0_copies_the_collection_alone(self, town: DavTown, folder: str) -> None:
        """§9.8.3."""
        town.ask("PUT", folder + "a", "x")
        town.ask("PROPPATCH", folder, update(setting("<x:p>1</x:p>")))
        there = folder[:-1] + "-copy/"
        assert town.ask("COPY", folder, destination=there, depth="0").status == 201
        assert town.propfind(there, "{u:x}p", depth="1").hrefs() == [there]
        assert town.value(there, "{u:x}p") == "1"
        assert town.ask("COPY", folder, destination=there, depth="1").status == 400
        assert town.ask("MOVE", folder, destination=there, depth="0").status == 400

    def test_not_into_itself(self, town: DavTown, folder: str) -> None:
        town.ask("MKCOL", folder + "a/")
        assert town.ask("MOVE", folder, destination=folder + "a/b/").status == 403
        assert town.ask("COPY", folder, destination=folder + "a/b/").status == 403
        assert town.ask("MOVE", folder + "a/", destination=folder).status == 403

    def test_files_and_folders_replace_each_other(self, town: DavTown, folder: str) -> None:
        town.ask("MKCOL", folder + "dir/")
        town.ask("PUT", folder + "file", "x")
        assert town.ask("COPY", folder + "file", destination=folder + "dir").status == 204
        assert town.ask("GET", folder + "dir").body == b"x"
        town.ask("MKCOL", folder + "dir2/")
        assert town.ask("MOVE", folder + "dir2/", destination=folder + "file/").status == 204
        assert town.propfind(folder + "file").properties()[dav("resourcetype")][0].tag == dav("collection")

    def test_between_calendars(self, town: DavTown, calendar: str) -> None:
        town.ask("PUT", calendar + "a.ics", "uid-move\nx")
        there = CALENDARS + "calendar/moved.ics"
        assert town.ask("MOVE", calendar + "a.ics", destination=there).status == 201
        assert town.ask("GET", there).body == b"uid-move\nx"
        refused = town.ask("COPY", there, destination=f"/dav/addressbooks/{ALICE}/contacts/a.vcf")
        assert (refused.status, refused.condition) == (403, carddav("supported-address-data"))
        assert town.ask("COPY", there, destination=HOME + "a.ics").status == 403

    def test_calendars_are_renamed(self, town: DavTown, calendar: str) -> None:
        town.ask("PUT", calendar + "a.ics", "a")
        there = calendar[:-1] + "-new/"
        assert town.ask("MOVE", calendar, destination=there).status == 201
        assert town.ask("GET", there + "a.ics").status == 200
        assert town.ask("MOVE", there, destination=HOME + "x/").status == 403
        assert town.ask("MOVE", CALENDARS + "inbox/", destination=calendar).status == 403

    def test_locks_at_both_ends(self, town: DavTown, folder: str) -> None:
        """§7.5, §7.7."""
        town.ask("PUT", folder + "a", "x")
        town.ask("PUT", folder + "b", "y")
        token = town.ask("LOCK", folder + "b", lockinfo()).headers["Lock-Token"]
        assert town.ask("COPY", folder + "a", destination=folder + "b").status == 423
        assert town.ask("MOVE", folder + "b", destination=folder + "c").status == 423
        tagged = {"if": f"<{folder}b> ({token})"}
        assert town.ask("MOVE", folder + "b", destination=folder + "c", **tagged).status == 201
        assert len(town.propfind(folder + "c").properties()[dav("lockdiscovery")]) == 0


def test_a_login_with_a_slash_has_a_home(town: DavTown) -> None:
    """RFC 5322 §3.2.3 allows it in an address."""
    principal = replace(town.principal(), login="sales/eu@example.test")
    told = town.ask("PROPFIND", "/dav/", propfind(dav("current-user-principal")), principal=principal, depth="0")
    path = told.properties()[dav("current-user-principal")].findtext(D + "href", "")
    assert path == "/dav/principals/sales%2Feu@example.test/"
    for each in (path, path.replace("principals", "calendars")):
        assert town.ask("PROPFIND", each, propfind(dav("owner")), principal=principal, depth="0").hrefs() == [each]


def test_a_question_lost_on_the_way_to_the_root_is_answered(town: DavTown) -> None:
    """Some clients repeat a redirected PROPFIND without its body."""
    told = town.propfind("/dav/").properties()
    assert told[dav("current-user-principal")].findtext(D + "href") == f"/dav/principals/{ALICE}/"


class TestLocks:
    @pytest.mark.parametrize("method", ["PUT", "DELETE", "PROPPATCH"])
    def test_a_lock_given_meanwhile_holds(self, town: DavTown, calendar: str, method: str) -> None:
        """§6.2: between the look at what is locked and the change itself somebody else is given a lock."""
        path = calendar + "a.ics"
        assert town.ask("PUT", path, "one").status == 201
        given = []

        def meanwhile(*_: object) -> Edit:
            given.append(town.ask("LOCK", path, lockinfo()).status)
            return Edit()

        def extension(registry: Registry) -> None:
            registry.before_changing.append(meanwhile)
            registry.properties(LiveProperty("{u:x}late", frozenset({ResourceType.EVENT}), lambda *_: b"", meanwhile))

        handler = make_handler(town.dav_services, [bare_calendars, extension])
        body = update(setting("<x:late/><x:kept/>")) if method == "PROPPATCH" else "one\ntwo"
        refused = town.ask(method, path, body, handler=handler)
        assert given == [200]
        if method == "PROPPATCH":
            assert set(refused.statuses().values()) == {423}
        else:
            assert (refused.status, refused.condition) == (423, dav("lock-token-submitted"))
            assert refused.xml.findtext(f".//{D}href") == path
        assert town.ask("GET", path).body == b"one"
        assert town.propfind(path, "{u:x}kept").statuses() == {"{u:x}kept": 404}

    def test_exclusive(self, town: DavTown, folder: str) -> None:
        """§9.10."""
        path = folder + "a"
        town.ask("PUT", path, "x")
        told = town.ask("LOCK", path, lockinfo(), timeout="Infinite, Second-100")
        token = told.headers["Lock-Token"]
        assert told.status == 200
        active = told.xml.find(f"{D}lockdiscovery/{D}activelock")
        assert active is not None
        assert active.findtext(f"{D}locktoken/{D}href") == token[1:-1]
        assert active.findtext(f"{D}lockroot/{D}href") == path
        assert active.findtext(f"{D}timeout") == "Second-100"
        assert active.findtext(f"{D}owner") == "me"
        refused = town.ask("LOCK", path, lockinfo("shared"))
        assert (refused.status, refused.condition) == (423, dav("no-conflicting-lock"))
        for method, body in (("PUT", "y"), ("DELETE", ""), ("PROPPATCH", update(setting("<x:a/>")))):
            refused = town.ask(method, path, body)
            assert (refused.status, refused.condition) == (423, dav("lock-token-submitted")), method
            assert refused.xml.findtext(f".//{D}href") == path
        assert town.ask("PUT", path, "y", **{"if": f"({token})"}).status == 204
        assert town.ask("UNLOCK", path, lock_token=token).status == 204
        assert town.ask("PUT", path, "z", **{"if": f"({token})"}).status == 412
        assert town.ask("PUT", path, "z").status == 204

    def test_shared(self, town: DavTown, folder: str) -> None:
        path = folder + "a"
        town.ask("PUT", path, "x")
        one, two = (town.ask("LOCK", path, lockinfo("shared")).headers["Lock-Token"] for _ in range(2))
        assert one != two
        assert town.ask("LOCK", path, lockinfo()).status == 423
        assert town.ask("PUT", path, "y").status == 423
        assert town.ask("PUT", path, "y", **{"if": f"({two})"}).status == 204
        assert len(town.propfind(path).properties()[dav("lockdiscovery")]) == 2

    def test_time_runs_out_and_is_refreshed(self, town: DavTown, folder: str) -> None:
        """§6.6, §9.10.2."""
        path = folder + "a"
        town.ask("PUT", path, "x")
        token = town.ask("LOCK", path, lockinfo(), timeout="Second-60").headers["Lock-Token"]
        town.clock.advance(50)
        again = town.ask("LOCK", path, timeout="Second-60", **{"if": f"({token})"})
        assert again.status == 200
        assert "Lock-Token" not in again.headers
        town.clock.advance(50)
        assert town.ask("PUT", path, "y").status == 423
        town.clock.advance(50)
        assert town.ask("PUT", path, "y").status == 204
        assert town.ask("LOCK", path, **{"if": f"({token})"}).status == 412
        assert town.ask("LOCK", path).status == 400

    def test_a_collection_and_what_is_in_it(self, town: DavTown, folder: str) -> None:
        """§7.4, §9.10.3."""
        town.ask("PUT", folder + "old", "x")
        token = town.ask("LOCK", folder, lockinfo(), depth="0").headers["Lock-Token"]
        assert town.ask("PUT", folder + "new", "x").status == 423  # a member more
        assert town.ask("DELETE", folder + "old").status == 423  # and less
        assert town.ask("PUT", folder + "old", "y").status == 204  # its content is not locked
        tagged = {"if": f"<{folder}> ({token})"}
        assert town.ask("PUT", folder + "new", "x", **tagged).status == 201
        assert town.ask("UNLOCK", folder, lock_token=token).status == 204
        deep = town.ask("LOCK", folder, lockinfo()).headers["Lock-Token"]
        refused = town.ask("PUT", folder + "old", "z")
        assert refused.xml.findtext(f".//{D}href") == folder
        assert town.ask("PUT", folder + "old", "z", **{"if": f"({deep})"}).status == 204
        assert town.ask("UNLOCK", folder + "old", lock_token=deep).status == 204

    def test_deep_locks_look_below(self, town: DavTown, folder: str) -> None:
        town.ask("MKCOL", folder + "sub/")
        town.ask("PUT", folder + "sub/a", "x")
        town.ask("LOCK", folder + "sub/a", lockinfo())
        told = town.ask("LOCK", folder, lockinfo())
        assert (told.status_of(folder + "sub/a"), told.status_of(folder)) == (423, 424)
        assert town.ask("LOCK", folder, lockinfo(), depth="0").status == 200
        assert town.ask("LOCK", folder, lockinfo(), depth="1").status == 400

    def test_a_name_that_nothing_has(self, town: DavTown, folder: str, calendar: str) -> None:
        """§7.3."""
        made = town.ask("LOCK", folder + "new", lockinfo())
        assert made.status == 201
        assert (town.ask("GET", folder + "new").status, town.ask("GET", folder + "new").body) == (200, b"")
        assert town.ask("LOCK", folder + "no/where", lockinfo()).status == 409
        assert town.ask("LOCK", folder + "col/", lockinfo()).status == 409
        assert town.ask("LOCK", calendar + "new.ics", lockinfo()).status == 403

    def test_conditions(self, town: DavTown, folder: str) -> None:
        """§10.4."""
        path = folder + "a"
        etag = town.ask("PUT", path, "x").headers["ETag"]
        for header, status in (
            (f"([{etag}])", 204),
            ('(["other"])', 412),
            (f'(["other"]) ([{etag}])', 204),
            (f'(Not ["other"] [{etag}])', 204),
            (f"(Not [{etag}])", 412),
            ("(<DAV:no-lock>)", 412),
            ("(Not <DAV:no-lock>)", 204),
            (f"<{folder}> (Not <DAV:no-lock>)", 204),
            (f"<{folder}none> ([{etag}])", 412),
            ("</dav/files/mallory@other.test/a> (Not <DAV:no-lock>)", 204),
            ("<https://elsewhere.example/> (<DAV:no-lock>)", 412),
            ("(", 400),
        ):
            assert town.ask("PUT", path, "x", **{"if": header}).status == status, header

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            ('<D:lockinfo xmlns:D="DAV:"/>', 422),
            (lockinfo("strange"), 422),
            (lockinfo().replace("write", "read"), 422),
            (lockinfo(owner=f"<D:owner>{'x' * 5000}</D:owner>"), 400),
            ("<x/>", 400),
        ],
    )
    def test_what_is_no_lock(self, town: DavTown, folder: str, body: str, status: int) -> None:
        assert town.ask("LOCK", folder, body).status == status

    def test_unlock_needs_the_right_token(self, town: DavTown, folder: str) -> None:
        """§9.11.1."""
        assert town.ask("UNLOCK", folder).status == 400
        assert town.ask("UNLOCK", folder, lock_token="urn:x").status == 400
        refused = town.ask("UNLOCK", folder, lock_token="<urn:uuid:none>")
        assert (refused.status, refused.condition) == (409, dav("lock-token-matches-request-uri"))
        assert town.ask("LOCK", CALENDARS, lockinfo()).status == 403


def test_what_is_unexpected_shows_nothing(town: DavTown, folder: str, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def checked(self, *_: object) -> Content:
            raise KeyError("secret of somebody")

    def extend(registry: object) -> None:
        registry.bodies[Kind.CALENDAR] = Broken()  # type: ignore[attr-defined]

    from hosting.dav.assembly import make_handler

    handler: DavHandler = make_handler(town.dav_services, [extend])
    told = town.ask("PUT", CALENDARS + "calendar/x.ics", "x", handler=handler)
    assert told.status == 500
    assert b"secret" not in told.body and b"KeyError" not in told.body
    assert "KeyError" in caplog.text and "secret" not in caplog.text


def test_names_have_one_spelling(town: DavTown, folder: str) -> None:
    """Two spellings of one name in Unicode lead to one file."""
    assert town.ask("PUT", folder + "a%CC%88", "x").status == 201
    assert town.ask("PUT", folder + "%C3%A4", "y").status == 204
    assert town.propfind(folder, dav("getetag"), depth="1").hrefs() == [folder, folder + "%C3%A4"]
