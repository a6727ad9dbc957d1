"""HTTP by itself: signing in, limits, bodies, answers that are made while they are sent; over real sockets and TLS."""

from __future__ import annotations

import asyncio
import gzip
import random
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from ipaddress import ip_network
from pathlib import Path

import pytest
from auth_town import CHEAP
from imap_town import PASSWORD
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from web_town import ALICE, WebPlace, basic, web_place

from hosting.auth.signin import Authenticator, Principal, SignIn
from hosting.dav.request import DavRequest, DavResponse, Streamed
from hosting.web.app import WebParts
from hosting.web.limits import Limits
from hosting.web.turns import Crowded, Turns
from storage.errors import NotFound

CLOSED: list[str] = []


def answers(request: DavRequest) -> DavResponse:
    """What the paths of these tests answer."""
    name = request.path.rpartition("/")[2]
    if name == "broken":
        raise RuntimeError("alice@example.test did it")
    if name in ("streamed", "endless", "breaks"):
        return DavResponse(
            207, [("Content-Type", "application/xml")], Streamed(pieces(name), lambda: CLOSED.append(name))
        )
    if name == "nothing":
        return DavResponse(204)
    told = f"{request.method} {request.path} {request.query} {len(request.body)} {request.address}".encode()
    return DavResponse(200, [("Content-Length", str(len(told)))], b"" if request.method == "HEAD" else told)


def pieces(name: str) -> Iterator[bytes]:
    for number in range(1_000_000 if name == "endless" else 300):
        if name == "breaks" and number == 200:
            raise RuntimeError("disk")
        yield b"%04d" % number * 256


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebPlace]:
    limits = Limits(max_body=300_000, max_xml=10_000, head=8192, fields=40)
    with web_place(tmp_path_factory.mktemp("web"), answers, limits=limits) as made:
        yield made


def events(place: WebPlace) -> list[tuple[str, str, int | None]]:
    place.town.installation.flush_logs()
    return [
        (event.result, event.protocol, event.account_id)
        for event in place.town.installation.access_log.read(0, 4_000_000_000)
    ]


async def until(holds: Callable[[], object]) -> None:
    while not holds():
        await asyncio.sleep(0.01)


def spoken(client: socket.socket, octets: bytes) -> tuple[int, bytes]:
    """Status and body of the answer to octets by hand."""
    client.sendall(octets)
    answer = HTTPResponse(client)
    answer.begin()
    return answer.status, answer.read()


# Signing in


def test_nothing_is_answered_without_a_sign_in(place: WebPlace) -> None:
    before = len(place.asked)
    for method, path in (("GET", "/dav/"), ("PROPFIND", "/dav/calendars/"), ("OPTIONS", "/dav/x"), ("PUT", "/dav/a")):
        status, fields, body = place.ask(method, path)
        assert (status, fields["www-authenticate"]) == (401, 'Basic realm="Cleanmail", charset="UTF-8"')
        assert b"Sign in" in body or method == "HEAD"
        assert "server" not in fields and "date" in fields
    assert len(place.asked) == before


@pytest.mark.parametrize(
    "field",
    ["Basic", "Basic !", "Basic YWxpY2U=", "Bearer x", "Basic " + "A" * 4000, "Basic OnB3", "Digest username=a"],
)
def test_what_is_no_basic_sign_in_is_refused_at_once(place: WebPlace, field: str) -> None:
    assert place.ask("GET", "/dav/", {"Authorization": field})[0] == 401


def test_the_password_counts_and_each_connection_leaves_an_event(place: WebPlace) -> None:
    alice = place.town.accounts[ALICE][1]
    before = len(events(place))
    client = place.https()
    for _ in range(3):
        client.request("GET", "/dav/calendars/x%20y?a=b", headers=basic())
        answer = client.getresponse()
        assert answer.status == 200
        assert answer.read() == b"GET /dav/calendars/x%20y a=b 0 127.0.0.1"
    client.close()
    assert place.ask("GET", "/dav/", basic())[0] == 200
    assert place.ask("GET", "/dav/", basic(password="wrong"))[0] == 401
    assert place.ask("GET", "/dav/", basic("nobody@example.test"))[0] == 401
    assert events(place)[before:] == [
        ("success", "dav", alice),
        ("success", "dav", alice),
        ("wrong_password", "dav", alice),
        ("unknown", "dav", None),
    ]
    assert place.asked[-1].principal.account_id == alice
    assert "authorization" not in place.asked[-1].headers


def test_a_changed_password_counts_at_once(place: WebPlace) -> None:
    town = place.town
    tenant_id, account_id = town.accounts["bob@example.test"]
    client = place.https()
    client.request("GET", "/dav/", headers=basic("bob@example.test"))
    assert client.getresponse().read()
    town.provisioning.set_password(tenant_id, account_id, CHEAP.hash("another one"))
    place.loop.on_loop(place.service._read_feed)
    client.request("GET", "/dav/", headers=basic("bob@example.test"))
    assert client.getresponse().status == 401
    client.close()
    town.provisioning.set_password(tenant_id, account_id, CHEAP.hash(PASSWORD))


def test_guessing_is_slowed_down_and_what_is_remembered_does_not_help(place: WebPlace) -> None:
    mallory = "mallory@other.test"
    assert place.ask("GET", "/dav/", basic(mallory))[0] == 200
    statuses = [place.ask("GET", "/dav/", basic(mallory, f"guess {number}"))[0] for number in range(12)]
    assert statuses[0] == 401 and statuses[-1] == 429
    status, fields, _ = place.ask("GET", "/dav/", basic(mallory))
    assert status == 429 and fields["retry-after"] == "30"
    place.town.clock.advance(1000.0)
    assert place.ask("GET", "/dav/", basic(mallory))[0] == 200


def test_whom_the_contract_or_the_provider_keeps_out_is_told(place: WebPlace) -> None:
    town = place.town
    tenant_id, account_id = town.accounts[ALICE]
    town.provisioning.suspend_account(tenant_id, account_id)
    place.loop.on_loop(place.service._read_feed)
    status, _, body = place.ask("GET", "/dav/", basic())
    assert (status, b"suspended" in body) == (403, True)
    town.provisioning.resume_account(tenant_id, account_id)
    place.loop.on_loop(place.service._read_feed)
    assert place.ask("GET", "/dav/", basic())[0] == 200


# Bodies


def test_bodies_in_one_piece_in_chunks_and_with_leave(place: WebPlace) -> None:
    body = b"x" * 200_000
    assert place.ask("PUT", "/dav/a", basic(), body)[2].split()[3 - 1] == b"200000"
    client = place.https()
    client.request("PUT", "/dav/a", iter([body[:7], body[7:70_000], body[70_000:]]), basic(), encode_chunked=True)
    assert b" 200000 " in client.getresponse().read()
    client.close()
    with place.raw() as hand:
        head = "PUT /dav/a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n"
        field = f"Authorization: {basic()['Authorization']}\r\n\r\n"
        hand.sendall((head + field).encode())
        assert hand.recv(25, socket.MSG_WAITALL) == b"HTTP/1.1 100 Continue\r\n\r\n"
        status, said = spoken(hand, b"12345")
        assert status == 200 and b" 5 " in said


@pytest.mark.parametrize(
    ("method", "size", "status"),
    [
        ("PUT", 300_001, 413),
        ("PROPFIND", 10_001, 413),
        ("GET", 70_000, 413),
        ("PUT", 300_000, 200),
        ("REPORT", 10_000, 200),
    ],
)
def test_a_body_is_as_large_as_its_method_lets_it(place: WebPlace, method: str, size: int, status: int) -> None:
    assert place.ask(method, "/dav/a", basic(), b"x" * size)[0] == status
    client = place.https()
    client.request(
        method, "/dav/a", iter([b"x" * (size // 2), b"x" * (size - size // 2)]), basic(), encode_chunked=True
    )
    assert client.getresponse().status == status
    client.close()


def test_what_is_too_large_is_refused_before_it_is_sent(place: WebPlace) -> None:
    with place.raw() as hand:
        head = "PUT /dav/a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 100000000\r\n"
        status, _ = spoken(hand, (head + f"Authorization: {basic()['Authorization']}\r\n\r\n").encode())
        assert status == 413
        assert hand.recv(1) == b""  # what it sends next would be the body
    with place.raw() as hand:
        status, _ = spoken(hand, head.encode() + b"\r\n")
        assert status == 401 and hand.recv(1) == b""


def test_folded_bodies_are_not_unfolded(place: WebPlace) -> None:
    status, fields, _ = place.ask(
        "PUT", "/dav/a", {**basic(), "Content-Encoding": "gzip"}, gzip.compress(b"x" * 1_000_000)
    )
    assert (status, fields["accept-encoding"]) == (415, "identity")


# What strangers send


@pytest.mark.parametrize(
    ("octets", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /dav/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET /dav/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 9000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 50 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 30_000, 431),
        (b"GET /\xff HTTP/1.1\r\n\r\n", 400),
        (b"DELETE /dav/files/#part HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", 404),
    ],
)
def test_heads_after_which_the_connection_ends(place: WebPlace, octets: bytes, status: int) -> None:
    with place.raw() as hand:
        assert spoken(hand, octets)[0] == status
        assert hand.recv(1) == b""


def test_requests_sent_ahead_are_answered_in_order_and_not_without_end(place: WebPlace) -> None:
    one = f"GET /dav/%d HTTP/1.1\r\nHost: x\r\nAuthorization: {basic()['Authorization']}\r\n\r\n"
    with place.raw() as hand:
        hand.sendall("".join(one % number for number in range(4)).encode())
        octets = b""
        while octets.count(b"127.0.0.1") < 4:
            octets += hand.recv(65536)
        told = [line.split()[1] for line in octets.splitlines() if line.startswith(b"GET ")]
        assert told == [b"/dav/%d" % number for number in range(4)]
    with place.raw() as hand:
        hand.sendall("".join(one % number for number in range(60)).encode())
        octets = b""
        try:
            while more := hand.recv(65536):
                octets += more
        except ConnectionResetError:
            pass
        assert octets.count(b"200 OK") < 20


def test_nobody_is_waited_for_without_end(tmp_path: Path) -> None:
    with web_place(tmp_path / "data", limits=Limits(head_timeout=0.2, body_timeout=0.2, keep_alive=1)) as place:
        with place.raw() as hand:
            assert hand.recv(1) == b""  # not a word
        with place.raw() as hand:
            assert spoken(hand, b"GET / HTTP/1.1\r\nX: ")[0] == 408
        with place.raw() as hand:
            field = f"Authorization: {basic()['Authorization']}\r\n\r\n"
            head = f"PUT /dav/a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n{field}"
            assert spoken(hand, head.encode() + b"12")[0] == 408
        with place.raw() as hand:
            assert spoken(hand, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 404
            assert hand.recv(1) == b""  # no other request
        assert place.asked == [] and place.service.counters.too_slow == 3


TOKENS = [
    *(b"\r\n", b"\r", b"\0", b"\xff", b":", b"%00", b"//", b"?#", b"0\r\n\r\n", b"ffffffffffffffff\r\n", b"HTTP/1.0"),
    *(b"Content-Length: 99999999999999999999\r\n", b"Transfer-Encoding: gzip, chunked\r\n", b"Connection: close\r\n"),
]


def test_octets_of_strangers_break_nothing(tmp_path: Path) -> None:
    chance = random.Random(38)
    field = b"Authorization: " + basic()["Authorization"].encode() + b"\r\n"
    seeds = [
        b"PROPFIND /dav/a HTTP/1.1\r\nHost: x\r\n" + field + b"Content-Length: 10\r\n\r\n0123456789",
        b"PUT /dav/a HTTP/1.1\r\n" + field + b"Transfer-Encoding: chunked\r\n\r\n5;a=b\r\n01234\r\n0\r\nX: y\r\n\r\n",
        b"PUT /dav/a HTTP/1.1\r\nExpect: 100-continue\r\n" + field + b"Content-Length: 3\r\n\r\nabc",
        b"GET / HTTP/1.0\r\n\r\n",
    ]
    wrong: list[object] = []
    with web_place(tmp_path / "data") as place:
        place.loop.on_loop(lambda: place.loop.loop.set_exception_handler(lambda _, told: wrong.append(told)))
        for _ in range(200):
            octets = bytearray(b"".join(chance.choice(seeds) for _ in range(chance.choice((1, 2, 20)))))
            for _ in range(chance.choice((1, 2, 6))):
                at, piece = chance.randrange(len(octets)), chance.choice(TOKENS)
                octets[at : at + chance.choice((0, 0, 1, 9))] = piece
            with place.raw() as hand, suppress(OSError):
                half = chance.randrange(len(octets))
                hand.sendall(octets[:half])
                hand.sendall(octets[half:])
        place.loop.run(until(lambda: place.service.connections == 0 and place.service.parts.turns.under_way == 0))
        assert place.ask("GET", "/dav/", basic())[0] == 207
        assert (place.service.counters.failures, place.service.parts.bodies.held, wrong) == (0, 0, [])


# Answers


def test_answers_without_and_with_a_length(place: WebPlace) -> None:
    assert place.ask("GET", "/dav/nothing", basic())[::2] == (204, b"")
    status, fields, body = place.ask("HEAD", "/dav/a", basic())
    assert (status, body) == (200, b"") and int(fields["content-length"]) > 5
    status, fields, body = place.ask("PROPFIND", "/dav/streamed", basic())
    assert status == 207 and fields["transfer-encoding"] == "chunked" and len(body) == 300 * 1024
    assert CLOSED[-1] == "streamed"


def test_what_breaks_is_one_sentence_and_never_a_trace(place: WebPlace, caplog: pytest.LogCaptureFixture) -> None:
    status, _, body = place.ask("GET", "/dav/broken", basic())
    assert (status, body) == (500, b"The request failed; try again later.\n")
    assert "RuntimeError" in caplog.text and "alice" not in caplog.text


def test_an_answer_that_breaks_off_is_not_taken_for_whole(place: WebPlace) -> None:
    with pytest.raises((OSError, HTTPException)):
        place.ask("GET", "/dav/breaks", basic())
    assert CLOSED[-1] == "breaks"


def test_who_leaves_ends_what_is_made_for_him(place: WebPlace) -> None:
    CLOSED.clear()
    client = place.https()
    client.request("GET", "/dav/endless", headers=basic())
    answer = client.getresponse()
    assert answer.read(100_000)
    answer.close()
    client.close()

    place.loop.run(until(lambda: CLOSED))
    assert CLOSED == ["endless"]


# Finding it


@pytest.mark.parametrize("method", ["GET", "PROPFIND", "OPTIONS", "HEAD", "POST"])
@pytest.mark.parametrize("name", ["caldav", "carddav"])
def test_well_known_names_lead_to_dav(place: WebPlace, method: str, name: str) -> None:
    status, fields, _ = place.ask(method, f"/.well-known/{name}")
    assert (status, fields["location"]) == (301, "/dav/")


def test_other_paths(place: WebPlace) -> None:
    assert place.ask("PROPFIND", "/")[0] == 301
    status, _, told = place.ask("GET", "/")
    assert status == 404 and b"CalDAV" in told  # for a person who opens it in a browser
    assert place.ask("GET", "/dav")[0] == 301
    assert place.ask("GET", "/nothing/here/")[::2] == (404, b"There is nothing here.\n")


def test_without_tls_passwords_are_not_taken(tmp_path: Path) -> None:
    with web_place(tmp_path / "data", plain=False, proxies=(ip_network("127.0.0.2/32"),)) as place:
        client = place.http()
        client.request("PROPFIND", "/dav/calendars/?x=y", headers=basic())
        answer = client.getresponse()
        where = f"https://localhost:{place.https_port}/dav/"
        assert (answer.status, answer.getheader("location")) == (308, f"{where}calendars/?x=y")
        answer.read()
        client.request("GET", "/.well-known/caldav", headers={"Host": "evil.example"})
        answer = client.getresponse()
        assert (answer.status, answer.getheader("location")) == (301, where)
        client.close()
        assert place.asked == []

        # Behind a proxy, the client's address comes with the PROXY header, ahead of TLS.
        with socket.create_connection(
            ("127.0.0.1", place.https_port), timeout=20, source_address=("127.0.0.2", 0)
        ) as sock:
            sock.sendall(b"PROXY TCP4 192.0.2.7 127.0.0.1 4000 443\r\n")
            with place.client_tls.wrap_socket(sock, server_hostname="localhost") as secured:
                field = basic()["Authorization"]
                status, _ = spoken(secured, f"GET /dav/ HTTP/1.1\r\nHost: x\r\nAuthorization: {field}\r\n\r\n".encode())
                assert status == 207
        assert place.asked[-1].address == "192.0.2.7"
        with (
            socket.create_connection(
                ("127.0.0.1", place.https_port), timeout=20, source_address=("127.0.0.2", 0)
            ) as sock,
            pytest.raises((ssl.SSLError, ConnectionError)),
        ):
            place.client_tls.wrap_socket(sock, server_hostname="localhost")


def test_connections_of_an_address_are_limited(tmp_path: Path) -> None:
    with web_place(tmp_path / "data", limits=Limits(connections_per_address=2)) as place:
        first, second = place.raw(), place.raw()
        assert spoken(first, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 404
        assert spoken(second, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 404
        with place.raw() as third:
            assert third.recv(1) == b""
        first.close()
        place.loop.run(until(lambda: place.service.connections == 1))
        with place.raw() as third:
            assert spoken(third, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 404
        second.close()
        assert place.service.counters.turned_away == 1


# Routes of others


def others(parts: WebParts) -> list[Route]:
    """A route as discovery and public links have them: a small body, work on a thread, errors of the taxonomy."""

    async def take(request: Request) -> Response:
        async with parts.bodies.read(request.method, request.headers, request.receive, 1000) as body:
            return Response(await parts.turns.run("others", lambda: decided(body)))

    def decided(body: bytes) -> bytes:
        if body == b"missing":
            raise NotFound("There is no such link.")
        if body == b"broken":
            raise RuntimeError("alice@example.test")
        return body.upper()

    return [Route("/Autodiscover/{rest:path}", take, methods=["GET", "POST"])]


def test_routes_of_others_are_held_to_the_same(tmp_path: Path) -> None:
    with web_place(tmp_path / "data", routes=others) as place:
        assert place.ask("POST", "/Autodiscover/x", body=b"hello")[::2] == (200, b"HELLO")
        assert place.ask("GET", "/Autodiscover/x")[::2] == (200, b"")
        assert place.ask("POST", "/Autodiscover/x", body=b"missing")[::2] == (404, b"There is no such link.\n")
        assert place.ask("POST", "/Autodiscover/x", body=b"broken")[::2] == (
            500,
            b"The request failed; try again later.\n",
        )
        assert place.ask("POST", "/Autodiscover/x", body=b"x" * 1001)[0] == 413
        assert place.ask("PUT", "/Autodiscover/x", body=b"x")[0] == 405
        assert place.ask("POST", "/Autodiscover/x", {"Content-Encoding": "gzip"}, b"x")[0] == 415
        assert place.service.counters.failures == 1
        assert place.ask("GET", "/dav/", basic())[0] == 207


# Its end


def test_what_is_under_way_is_answered_before_it_stops(tmp_path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(request: DavRequest) -> DavResponse:
        begun.set()
        assert go_on.wait(20)
        return DavResponse(201, [("Content-Length", "0")])

    with web_place(tmp_path / "data", slow) as place, ThreadPoolExecutor(2) as pool:
        idle = place.raw()
        assert spoken(idle, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")[0] == 404
        answer = pool.submit(place.ask, "PUT", "/dav/a", basic(), b"x")
        assert begun.wait(20)
        stopping = pool.submit(place.stop)
        assert idle.recv(1) == b""  # nothing was under way on it
        idle.close()
        with pytest.raises(OSError):
            place.raw().recv(1)
        assert not stopping.done()
        go_on.set()
        status, fields, _ = answer.result(20)
        assert (status, fields["connection"]) == (201, "close")
        stopping.result(20)
        assert place.service.connections == 0


def test_who_does_not_read_is_cut_off(tmp_path: Path) -> None:
    CLOSED.clear()
    with web_place(tmp_path / "data", answers, limits=Limits(write_timeout=0.2)) as place:
        with place.raw() as hand:
            field = basic()["Authorization"]
            hand.sendall(f"GET /dav/endless HTTP/1.1\r\nHost: x\r\nAuthorization: {field}\r\n\r\n".encode())
            place.loop.run(until(lambda: CLOSED))
        assert place.service.counters.too_slow == 1


def test_guesses_do_not_hold_up_who_is_remembered(tmp_path: Path) -> None:
    """After their minute it is asked anew whether they are still who they were, by threads of their own."""
    go_on, asked = threading.Event(), threading.Semaphore(0)

    @dataclass
    class Busy:
        """Takes its time over the passwords of one account."""

        own: Authenticator

        def verify(self, sign_in: SignIn) -> Principal:
            if sign_in.login == "bob@example.test":
                asked.release()
                assert go_on.wait(20)
            return self.own.verify(sign_in)

        def still_valid(self, principal: Principal) -> bool:
            return self.own.still_valid(principal)

    with web_place(tmp_path / "data", authenticator=Busy) as place, ThreadPoolExecutor(4) as pool:
        assert place.ask("GET", "/dav/", basic())[0] == 207
        place.town.clock.advance(61.0)
        guesses = [pool.submit(place.ask, "GET", "/dav/", basic("bob@example.test", str(n))) for n in range(4)]
        for _ in guesses:  # as many as one address may have at once
            assert asked.acquire(timeout=20)
        assert place.ask("GET", "/dav/", basic())[0] == 207
        go_on.set()
        assert {each.result(20)[0] for each in guesses} == {401}


def test_what_was_begun_goes_on_however_many_wait() -> None:
    """A long answer, and letting go of its account, are not refused for a crowd that came after it."""

    async def crowd() -> None:
        go_on = threading.Event()
        with ThreadPoolExecutor(2) as pool:
            turns = Turns(pool, per_key=1, waiting=1)
            waiting = asyncio.create_task(turns.run("one", go_on.wait))
            await until(lambda: turns.under_way == 1)
            with pytest.raises(Crowded):
                await turns.run("two", int)
            assert await turns.run("two", int, goes_on=True) == 0
            go_on.set()
            assert await waiting

    asyncio.run(crowd())


def test_one_account_does_not_hold_up_the_others(tmp_path: Path) -> None:
    go_on, under_way = threading.Event(), threading.Semaphore(0)

    def slow(request: DavRequest) -> DavResponse:
        if request.principal.login == ALICE:
            under_way.release()
            assert go_on.wait(20)
        return DavResponse(204)

    limits = Limits(threads=3, requests_per_account=2, waiting=5)
    with web_place(tmp_path / "data", slow, limits=limits) as place, ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(place.ask, "GET", "/dav/", basic()) for _ in range(4)]
        assert under_way.acquire(timeout=20) and under_way.acquire(timeout=20)
        assert place.ask("GET", "/dav/", basic("bob@example.test"))[0] == 204
        place.loop.run(until(lambda: place.service.parts.turns.under_way == 4))
        asked.append(pool.submit(place.ask, "GET", "/dav/", basic()))
        place.loop.run(until(lambda: place.service.parts.turns.under_way == 5))
        status, fields, body = place.ask("GET", "/dav/", basic("bob@example.test"))
        assert (status, fields["retry-after"]) == (503, "5") and b"too much to do" in body
        assert not under_way.acquire(blocking=False)
        go_on.set()
        assert [each.result(20)[0] for each in asked] == [204] * 5
