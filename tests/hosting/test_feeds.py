"""Calendars elsewhere: fetched from a real server on loopback, which these tests alone allow, and nowhere private."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count

import pytest
from dav_town import ALICE, BOB, DavTown, new_dav_town
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from gateway.dns.answers import Answer, DnsStatus
from gateway.networks import Reachable, networks
from hosting.config import Config
from hosting.dav.calendars import extension as calendars
from hosting.dav.names import calendarserver, dav
from hosting.dav.sharing import subscribed
from hosting.feed_round import FeedRound
from hosting.feeds.fetch import Fetched, Fetcher, FetchFailed, FetchLimits
from hosting.metrics import Metrics
from storage.collections.feeds import FEEDS_MAX, Feed
from storage.collections.urls import feed_url
from storage.collections.values import Collection, CollectionId
from storage.directory.rows import State
from storage.errors import InvalidInput, LimitReached

_numbers = count(1)
CS = "{http://calendarserver.org/ns/}"


def calendar(*events: tuple[str, str], stamp: str = "20260101T000000Z", broken: bool = False) -> bytes:
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//x//x//EN"]
    for uid, summary in events:
        lines += ["BEGIN:VEVENT", f"UID:{uid}", f"DTSTAMP:{stamp}", "DTSTART:20261201T090000Z", f"SUMMARY:{summary}"]
        lines += ["END:VEVENT"]
    if broken:
        lines += ["BEGIN:VEVENT", "UID:broken", "DTSTART:tomorrow", "END:VEVENT"]
    return "\r\n".join([*lines, "END:VCALENDAR", ""]).encode()


class Web:
    """What the server elsewhere answers, by path, and what it was asked."""

    def __init__(self) -> None:
        self.pages: dict[str, Callable[[BaseHTTPRequestHandler], tuple[int, dict[str, str], bytes]]] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.port = 0

    def url(self, path: str, host: str = "calendars.example.org") -> str:
        return f"http://{host}:{self.port}{path}"

    def put(self, path: str, body: bytes, **headers: str) -> str:
        named = {name.replace("_", "-"): value for name, value in headers.items()}

        def page(request: BaseHTTPRequestHandler) -> tuple[int, dict[str, str], bytes]:
            etag = named.get("ETag")
            if etag and request.headers.get("If-None-Match") == etag:
                return 304, {}, b""
            return 200, named, body

        self.pages[path] = page
        return self.url(path)

    def redirect(self, path: str, to: str, status: int = 302) -> str:
        self.pages[path] = lambda _: (status, {"Location": to}, b"")
        return self.url(path)


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    made = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            page = made.pages.get(self.path)
            status, headers, body = page(self) if page else (404, {}, b"")
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing is written."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


class Names:
    """DNS in which calendars.example.org is on loopback; other answers in their turn."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.questions = 0

    async def addresses(self, name: str) -> Answer[str]:
        self.questions += 1
        if name == "calendars.example.org":
            return Answer(DnsStatus.FOUND, ("127.0.0.1",))
        if name == "silent.example.org":
            return Answer(DnsStatus.FAILED)
        if self.answers:
            return Answer(DnsStatus.FOUND, (self.answers.pop(0),))
        return Answer(DnsStatus.NO_NAME)


def fetcher(names: Names | None = None, *allowed: str, limits: FetchLimits | None = None) -> Fetcher:
    reachable = Reachable(networks(allowed or ("127.0.0.1/32",)))
    return Fetcher(names or Names(), reachable, ssl.create_default_context(), limits)  # type: ignore[arg-type]


def fetched(url: str, by: Fetcher | None = None, validators: dict[str, str] | None = None) -> Fetched:
    return asyncio.run((by or fetcher()).fetch(url, validators))


class TestUrls:
    @pytest.mark.parametrize(
        ("given_", "kept"),
        [
            ("webcal://example.org/a.ics", "https://example.org/a.ics"),
            (" https://Example.org:443/a b.ics#x ".replace("a b", "a%20b"), "https://example.org/a%20b.ics"),
            ("http://example.org", "http://example.org/"),
            ("https://example.org:8443/?a=b&c=%20d", "https://example.org:8443/?a=b&c=%20d"),
            ("https://bücher.example/k.ics", "https://xn--bcher-kva.example/k.ics"),
            ("https://[2001:DB8::1]/x", "https://[2001:db8::1]/x"),
        ],
    )
    def test_taken(self, given_: str, kept: str) -> None:
        assert feed_url(given_) == kept

    @pytest.mark.parametrize(
        "url",
        [
            "ftp://example.org/a",
            "file:///etc/passwd",
            "https://user:secret@example.org/",
            "https://example.org:25/",
            "http://example.org:6/",
            "https:///a",
            "https://exa mple.org/",
            "https://example.org/\r\nHost: x",
            "https://[::1/",
            "https://example.org:99999/",
            "nonsense",
            "https://example.org/" + "a" * 2000,
        ],
    )
    def test_refused(self, url: str) -> None:
        with pytest.raises(InvalidInput):
            feed_url(url)

    @given(st.text(max_size=60))
    def test_whatever_is_said_is_one_or_refused(self, text: str) -> None:
        try:
            found = feed_url("https://" + text)
        except InvalidInput:
            return
        assert feed_url(found) == found and found.isascii() and found.startswith("https://")


class TestFetching:
    def test_body_and_conditions(self, web: Web) -> None:
        body = calendar(("a", "A"))
        url = web.put("/plain.ics", body, ETag='"one"', Last_Modified="Thu, 01 Jan 2026 00:00:00 GMT")
        found = fetched(url)
        assert found.body == body
        assert found.validators == {"etag": '"one"', "last_modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
        again = fetched(url, validators=dict(found.validators))
        assert again == Fetched(None, found.validators)
        path, headers = web.asked[-1]
        assert path == "/plain.ics" and headers["if-none-match"] == '"one"' and "cookie" not in headers

    def test_redirects(self, web: Web) -> None:
        body = calendar(("a", "A"))
        web.put("/end.ics", body)
        assert fetched(web.redirect("/start", "/end.ics", 308)).body == body
        with pytest.raises(FetchFailed, match="from one place to the next"):
            fetched(web.redirect("/round", "/round"))
        for elsewhere in ("ftp://example.org/", "http://calendars.example.org:25/", "//user:pass@example.org/"):
            with pytest.raises(FetchFailed, match="leads to a place"):
                fetched(web.redirect("/away", elsewhere))

    @pytest.mark.parametrize(
        "address",
        [
            *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
            *("::1", "::ffff:10.0.0.1", "fe80::1", "fd00:ec2::254", "64:ff9b::a00:1", "2002:a00:1::"),
        ],
    )
    def test_private_networks(self, web: Web, address: str) -> None:
        """By address, by name, and after a redirect."""
        place = f"[{address}]" if ":" in address else address
        strict = Fetcher(Names(address), Reachable(), ssl.create_default_context())  # type: ignore[arg-type]
        for url in (f"http://{place}:{web.port}/x", f"http://evil.example.org:{web.port}/x"):
            with pytest.raises(FetchFailed, match="in a network that calendars are not fetched from"):
                fetched(url, strict)
        if address != "127.0.0.1":
            redirecting = web.redirect("/inside", f"http://{place}:{web.port}/x")
            with pytest.raises(FetchFailed, match="in a network"):
                fetched(redirecting)

    def test_what_was_checked_is_what_is_connected_to(self, web: Web) -> None:
        """DNS that answers differently the second time is not asked a second time."""
        web.put("/rebound", calendar(("a", "A")))
        names = Names("127.0.0.1", "10.0.0.1")
        assert fetched(web.url("/rebound", "rebinding.example.org"), fetcher(names)).body
        assert names.questions == 1

    def test_limits(self, web: Web) -> None:
        small = fetcher(limits=FetchLimits(octets=1000))
        with pytest.raises(FetchFailed, match="larger"):
            fetched(web.put("/large", b"x" * 1001), small)
        assert fetched(web.put("/large", b"x" * 1000), small).body == b"x" * 1000
        with pytest.raises(FetchFailed, match="compressed"):
            fetched(web.put("/packed", b"x", Content_Encoding="gzip"))
        with pytest.raises(FetchFailed, match="status 404"):
            fetched(web.url("/nothing"))
        with pytest.raises(FetchFailed, match="no such server"):
            fetched("https://nowhere.example.org/")
        with pytest.raises(FetchFailed, match="DNS"):
            fetched("https://silent.example.org/")
        with pytest.raises(FetchFailed, match="cannot be connected"):
            fetched(f"https://calendars.example.org:{web.port}/")  # it speaks no TLS

    @pytest.mark.parametrize(
        "said", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"a" * 40_000, b"HTTP/1.1 100 C\r\n\r\n" * 30]
    )
    def test_servers_that_speak_otherwise(self, said: bytes) -> None:
        async def talk() -> None:
            async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(said)
                writer.close()

            server = await asyncio.start_server(answer, "127.0.0.1", 0)
            async with server:
                port = server.sockets[0].getsockname()[1]
                with pytest.raises(FetchFailed):
                    await fetcher().fetch(f"http://calendars.example.org:{port}/")

        asyncio.run(talk())

    def test_silence_has_an_end(self) -> None:
        async def talk() -> None:
            over = asyncio.Event()

            async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await over.wait()
                writer.close()

            server = await asyncio.start_server(answer, "127.0.0.1", 0)
            async with server:
                port = server.sockets[0].getsockname()[1]
                with pytest.raises(FetchFailed, match="in time"):
                    short = fetcher(limits=FetchLimits(seconds=0.05))
                    await short.fetch(f"http://calendars.example.org:{port}/")
                over.set()

        asyncio.run(talk())


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DavTown]:
    with new_dav_town(tmp_path_factory.mktemp("feeds"), [calendars.register, subscribed.register]) as made:
        yield made


@pytest.fixture
def round_(town: DavTown) -> FeedRound:
    return FeedRound(town.installation, Config(), fetcher)


class Subscription:
    """A feed of alice's, and what is in its calendar."""

    def __init__(self, town: DavTown, url: str) -> None:
        self.town = town
        self.name = f"feed-{next(_numbers)}"
        with town.account(ALICE) as account:
            self.collection: Collection = account.collections.by_id(account.feeds.subscribe(self.name, url).id)

    @property
    def feed(self) -> Feed:
        with self.town.account(ALICE) as account:
            found = account.feeds.find(CollectionId(self.collection.id))
        assert found is not None
        return found

    def etags(self) -> dict[str, str]:
        """By UID."""
        with self.town.account(ALICE) as account:
            return {each.uid or "": each.etag for each in account.objects.list(self.collection.id)}

    def due(self, round_: FeedRound) -> None:
        """Time passes until it is due, and the round looks."""
        self.town.clock.advance(max(0, self.feed.due - self.town.clock.now()))
        round_.changed(self.town.accounts[ALICE][1])
        round_.again()

    def leave(self) -> None:
        with self.town.account(ALICE) as account:
            account.collections.delete(self.collection.id)


@pytest.fixture
def subscribe(town: DavTown) -> Iterator[Callable[[str], Subscription]]:
    made: list[Subscription] = []

    def make(url: str) -> Subscription:
        made.append(Subscription(town, url))
        return made[-1]

    yield make
    for each in made:
        each.leave()


class TestRounds:
    def test_only_what_changed_changes(
        self, web: Web, round_: FeedRound, subscribe: Callable[[str], Subscription]
    ) -> None:
        it = subscribe(web.put("/team.ics", calendar(("a", "A"), ("b", "B"), ("c", "C"))))
        it.due(round_)
        before = it.etags()
        assert set(before) == {"a", "b", "c"} and it.feed.fetched is not None
        web.put("/team.ics", calendar(("a", "A"), ("b", "Other"), ("d", "D"), stamp="20260202T000000Z", broken=True))
        it.due(round_)
        after = it.etags()
        assert set(after) == {"a", "b", "d"}
        assert after["a"] == before["a"] and after["b"] != before["b"]
        assert it.feed.problem == "1 entry was left out: broken, or of a kind not shown here." and not it.feed.failures

    def test_failures_pause_longer_each_time_and_keep_what_is_there(
        self, web: Web, town: DavTown, subscribe: Callable[[str], Subscription]
    ) -> None:
        metrics = Metrics(CollectorRegistry())
        round_ = FeedRound(town.installation, Config(), fetcher, metrics)
        it = subscribe(web.put("/fails.ics", calendar(("a", "A"))))
        it.due(round_)
        del web.pages["/fails.ics"]
        pauses = []
        for number in range(1, 5):
            it.due(round_)
            assert it.feed.failures == number and "404" in it.feed.problem
            assert metrics.registry.get_sample_value("cleanmail_feeds_failing") == (number >= 3)
            pauses.append(it.feed.due - town.clock.now())
        assert pauses == sorted(pauses) and pauses[0] < 1000 < pauses[3]
        assert set(it.etags()) == {"a"}
        web.put("/fails.ics", b"<html>")
        it.due(round_)
        assert it.feed.problem == "What is there is no calendar." and set(it.etags()) == {"a"}
        web.put("/fails.ics", calendar(("b", "B")))
        it.due(round_)
        assert (it.feed.failures, it.feed.problem, set(it.etags())) == (0, "", {"b"})
        assert metrics.registry.get_sample_value("cleanmail_feeds_failing") == 0

    def test_it_rests_with_its_account(
        self, web: Web, town: DavTown, round_: FeedRound, subscribe: Callable[[str], Subscription]
    ) -> None:
        it = subscribe(web.put("/rests.ics", calendar(("a", "A"))))
        tenant_id, alice = town.accounts[ALICE]
        asked = len(web.asked)
        town.installation.tenant(tenant_id).change_state(alice, State.SUSPENDED)
        it.due(round_)
        assert len(web.asked) == asked
        town.installation.tenant(tenant_id).change_state(alice, State.ACTIVE)
        round_.work(tenant_id, alice)
        round_.again()
        assert len(web.asked) == asked + 1

    def test_it_goes_with_its_calendar_and_there_are_not_too_many(self, town: DavTown, web: Web) -> None:
        with town.account(BOB) as account:
            made = [account.feeds.subscribe(f"f{number}", web.url("/x")) for number in range(FEEDS_MAX)]
            with pytest.raises(LimitReached):
                account.feeds.subscribe("more", web.url("/x"))
            for each in made:
                account.collections.delete(each.id)
            assert account.feeds.list() == [] and account.feeds.next_due() is None


class TestDav:
    def test_mkcol_as_apple_sends_it(self, town: DavTown, web: Web, round_: FeedRound) -> None:
        url = web.put("/apple.ics", calendar(("a", "A")))
        path = f"/dav/calendars/{ALICE}/subscribed/"
        made = town.ask("MKCOL", path, mkcol(url), content_type="text/xml")
        assert made.status == 201, made.body
        round_.changed(town.accounts[ALICE][1])
        round_.again()
        names = (dav("resourcetype"), calendarserver("source"), dav("current-user-privilege-set"))
        found = town.propfind(path, *names).properties()
        assert found[CS + "source"].findtext(dav("href")) == url
        assert "{urn:ietf:params:xml:ns:caldav}calendar" in {each.tag for each in found[dav("resourcetype")]}
        assert dav("write-content") not in {each.tag for each in found[dav("current-user-privilege-set")].iter()}
        hrefs = town.propfind(path, dav("getetag"), depth="1").hrefs()
        assert len(hrefs) == 2
        assert town.ask("DELETE", hrefs[1]).status == 403
        assert town.ask("PUT", path + "x.ics", calendar(("x", "X")), content_type="text/calendar").status == 403
        assert town.ask("DELETE", path).status == 204

    @pytest.mark.parametrize("url", ["ftp://example.org/", "", "https://u:p@example.org/"])
    def test_what_cannot_be_subscribed_to(self, town: DavTown, url: str) -> None:
        path = f"/dav/calendars/{ALICE}/wrong/"
        assert town.ask("MKCOL", path, mkcol(url), content_type="text/xml").status == 403
        without = mkcol("x").replace("<CS:source><D:href>x</D:href></CS:source>", "")
        assert town.ask("MKCOL", path, without, content_type="text/xml").status == 403
        assert town.propfind(path).status == 404


def mkcol(url: str) -> str:
    return (
        '<D:mkcol xmlns:D="DAV:" xmlns:CS="http://calendarserver.org/ns/"><D:set><D:prop>'
        "<D:resourcetype><D:collection/><CS:subscribed/></D:resourcetype><D:displayname>Holidays</D:displayname>"
        f"<CS:source><D:href>{url}</D:href></CS:source></D:prop></D:set></D:mkcol>"
    )


def test_no_url_is_logged(web: Web, town: DavTown, round_: FeedRound, caplog: pytest.LogCaptureFixture) -> None:
    it = Subscription(town, web.url("/token-9f3a.ics"))
    caplog.set_level("DEBUG")
    it.due(round_)
    assert it.feed.failures and "token-9f3a" not in caplog.text + it.feed.problem + repr(it.feed)
    it.leave()
