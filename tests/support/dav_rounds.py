"""Kills the web role and the whole server under three writers over HTTP, and sees that clients who follow lose nothing.

    scripts/crash_dav [--changes N] [--kills N] [--seed S] [--data DIR]

Three writers put, overwrite, move and delete objects of one account's calendar and address book, each with names of its
own, and with names that all share, on which they race by If-Match; some objects are large, so that they are files. Two
clients follow the tokens of the collections meanwhile, with limits that cut nearly every answer. After seeded random
numbers of acknowledged changes a worker of the web role is killed by SIGKILL, or all of them, or the whole server.

In the end everything that was acknowledged is there with the octets and the ETag that were told; what was never
answered happened wholly or not at all; nobody won with an ETag with which somebody else had won; the clients that
followed, a client that begins anew, and a listing have the same names with the same ETags; `cleanmail check --contents`
finds nothing. Exits with 1 at the first thing that is wrong, and says with which --seed it happens.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from http_wire import D, HttpAnswer, HttpWire
from whole_server import WholeServer, until
from wire import Closed

ALICE = "alice@one.test"
CALENDAR, BOOK = f"/dav/calendars/{ALICE}/calendar/", f"/dav/addressbooks/{ALICE}/contacts/"
COLLECTIONS = (CALENDAR, BOOK)
WRITERS = 3
NAMES, SHARED = 12, 3  # of each writer and of all of them, in each collection
LARGE = 80_000  # octets of a comment, with which an object is a file
PATIENCE = 120.0
LIST = '<D:propfind xmlns:D="DAV:"><D:prop><D:getetag/></D:prop></D:propfind>'

T = TypeVar("T")


def body(collection: str, uid: str, token: str, *, large: bool = False) -> bytes:
    comment = token + "x" * (LARGE if large else 0)
    if collection == BOOK:
        lines = ["BEGIN:VCARD", "VERSION:3.0", f"UID:{uid}", "FN:Somebody", f"NOTE:{comment}", "END:VCARD"]
    else:
        lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//c//EN", "BEGIN:VEVENT", f"UID:{uid}"]
        lines += ["DTSTAMP:20260101T000000Z", "DTSTART:20260101T100000Z", f"COMMENT:{comment}"]
        lines += ["END:VEVENT", "END:VCALENDAR"]
    return "\r\n".join([*lines, ""]).encode()


def uid_of(data: bytes) -> str:
    found = re.search(rb"UID:([^\r]+)", data)
    assert found
    return found[1].decode()


def kind(collection: str) -> str:
    return "text/vcard" if collection == BOOK else "text/calendar"


@dataclass
class Ledger:
    """What was acknowledged; shared by all writers."""

    acknowledged: int = 0
    unanswered: int = 0
    won: set[tuple[str, str]] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def acknowledge(self) -> None:
        with self.lock:
            self.acknowledged += 1

    def win(self, path: str, etag: str) -> None:
        """Somebody overwrote what had this ETag; nobody else ever does, as no octets come twice."""
        with self.lock:
            assert (path, etag) not in self.won, f"two writers won {path} with {etag}"
            self.won.add((path, etag))


class Client(threading.Thread):
    """Works until it is told to end; `wrong` is what did not hold."""

    def __init__(self, server: WholeServer, over: threading.Event, seed: int) -> None:
        super().__init__(daemon=True)
        self.server = server
        self.over = over
        self.chance = random.Random(seed)
        self.wrong: BaseException | None = None
        self._wire: HttpWire | None = None

    def run(self) -> None:
        try:
            while not self.over.is_set():
                self.step()
        except BaseException as error:
            self.wrong = error

    def step(self) -> None:
        raise NotImplementedError

    def once(self, method: str, path: str, octets: bytes = b"", **fields: str) -> HttpAnswer:
        """Raises Closed or OSError: it may have happened or not."""
        try:
            if self._wire is None:
                self._wire = self.server.dav(ALICE, patience=30.0)
            answer = self._wire.ask(method, path, octets, {k.replace("_", "-"): v for k, v in fields.items()})
        except (Closed, OSError):
            self.close()
            raise
        assert answer.status != 500, (method, path, answer)
        return answer

    def surely(self, do: Callable[[], T]) -> T:
        """Again and again while the server is away: for what changes nothing."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return do()
            except (Closed, OSError):
                self.close()
                assert time.monotonic() < end, "the server did not come back"
                threading.Event().wait(0.05)

    def got(self, path: str) -> HttpAnswer:
        return self.surely(lambda: self._got(path))

    def _got(self, path: str) -> HttpAnswer:
        answer = self.once("GET", path)
        if answer.status in (429, 503):  # it has only just begun
            raise Closed
        assert answer.status in (200, 404), (path, answer)
        return answer

    def close(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None


class Writer(Client):
    """`known` is what its own names hold: one possibility, or several after a command that was not answered."""

    def __init__(self, number: int, ledger: Ledger, *rest: Any) -> None:
        super().__init__(*rest)
        self.number = number
        self.ledger = ledger
        self.known: dict[str, set[bytes | None]] = {
            f"{collection}w{number}-{name}": {None} for collection in COLLECTIONS for name in range(NAMES)
        }
        self._tokens = 0

    def step(self) -> None:
        collection = self.chance.choice(COLLECTIONS)
        if self.chance.random() < 0.25:
            self._race(collection)
            return
        path = f"{collection}w{self.number}-{self.chance.randrange(NAMES)}"
        before = self.settled(path)
        way = self.chance.random()
        if before is None or way < 0.6:
            self._put(collection, path, before)
        elif way < 0.8:
            self._change({path: None}, lambda: self.once("DELETE", path), 204)
        else:
            other = f"{collection}w{self.number}-{self.chance.randrange(NAMES)}"
            if self.settled(other) is None:  # another UID is not overwritten
                self._change({path: None, other: before}, lambda: self.once("MOVE", path, Destination=other), 201)

    def _put(self, collection: str, path: str, before: bytes | None) -> None:
        data = self._body(collection, uid_of(before) if before else self._token())
        answer = self._change(
            {path: data}, lambda: self.once("PUT", path, data, Content_Type=kind(collection)), 204 if before else 201
        )
        if answer is not None and self.chance.random() < 0.1:
            got = self.got(path)
            assert (got.body, got.headers["etag"]) == (data, answer.headers["etag"]), path

    def _race(self, collection: str) -> None:
        path = f"{collection}shared{self.chance.randrange(SHARED)}"
        before = self.got(path)
        if before.status == 404:
            data, condition = self._body(collection, path.rpartition("/")[2]), {"If_None_Match": "*"}
        else:
            data, condition = self._body(collection, uid_of(before.body)), {"If_Match": before.headers["etag"]}
        try:
            answer = self.once("PUT", path, data, Content_Type=kind(collection), **condition)
        except (Closed, OSError):
            self.ledger.unanswered += 1
            return
        assert answer.status in (201, 204, 412, 429, 503), answer
        if answer.status in (201, 204):
            self.ledger.win(path, before.headers.get("etag", ""))
            self.ledger.acknowledge()

    def settled(self, path: str) -> bytes | None:
        """What is there, which is one of the possibilities."""
        if len(self.known[path]) > 1:
            got = self.got(path)
            found = got.body if got.status == 200 else None
            assert found in self.known[path], f"{path} holds what nobody left there: {(found or b'')[:300]!r}"
            self.known[path] = {found}
        [only] = self.known[path]
        return only

    def _change(
        self, after: dict[str, bytes | None], do: Callable[[], HttpAnswer], *statuses: int
    ) -> HttpAnswer | None:
        try:
            answer = do()
        except (Closed, OSError):
            self.ledger.unanswered += 1
            for path, data in after.items():
                self.known[path].add(data)
            return None
        if answer.status in (429, 503):
            return None
        assert answer.status in statuses, (after.keys(), statuses, answer, answer.body[:500])
        for path, data in after.items():
            self.known[path] = {data}
        self.ledger.acknowledge()
        return answer

    def _body(self, collection: str, uid: str) -> bytes:
        return body(collection, uid, self._token(), large=self.chance.random() < 0.1)

    def _token(self) -> str:
        self._tokens += 1
        return f"t{self.number}-{self._tokens}"


class Follower(Client):
    """Keeps the state of one collection by its tokens alone."""

    def __init__(self, collection: str, *rest: Any) -> None:
        super().__init__(*rest)
        self.collection = collection
        self.state: dict[str, str] = {}
        self.token = ""
        self.answers = self.cut = 0

    def step(self) -> None:
        self._follow()
        self.over.wait(self.chance.uniform(0, 0.05))

    def catch_up(self) -> None:
        while self._follow():
            pass

    def _follow(self) -> bool:
        limit = self.chance.choice((0, 1, 2, 3, 7))
        changed, token, more = self.surely(lambda: self._asked(limit))
        for href, etag in changed.items():
            if etag is None:
                self.state.pop(href, None)
            else:
                self.state[href] = etag
        self.token = token
        self.answers += 1
        self.cut += more
        return more

    def _asked(self, limit: int) -> tuple[dict[str, str | None], str, bool]:
        if self._wire is None:
            self._wire = self.server.dav(ALICE, patience=30.0)
        return self._wire.sync(self.collection, self.token, limit)


@dataclass
class Rounds:
    server: WholeServer
    seed: int
    killed: list[str] = field(default_factory=list)

    def play(self, changes: int, kills: int) -> str:
        """Raises AssertionError; what happened in words."""
        chance = random.Random(self.seed)
        ledger, over, end = Ledger(), threading.Event(), threading.Event()
        writers = [Writer(n, ledger, self.server, over, chance.getrandbits(32)) for n in range(WRITERS)]
        followers = [Follower(each, self.server, end, chance.getrandbits(32)) for each in COLLECTIONS]
        for client in (*writers, *followers):
            client.start()
        try:
            for number in range(kills + 1):
                enough = changes * (number + 1) // (kills + 1)
                self._await(ledger, enough, [*writers, *followers])
                if number < kills:
                    self._kill(chance)
        finally:
            over.set()
            end.set()
            for client in (*writers, *followers):
                client.join(PATIENCE)
        for client in (*writers, *followers):
            if client.wrong is not None:
                raise client.wrong
        self._verify(writers, followers)
        answers, cut = sum(each.answers for each in followers), sum(each.cut for each in followers)
        return (
            f"{ledger.acknowledged} changes acknowledged, {ledger.unanswered} not answered, {len(ledger.won)} races"
            f" won, {answers} answers to those who followed, {cut} of them cut; {len(self.killed)} kills"
        )

    @staticmethod
    def _await(ledger: Ledger, enough: int, clients: list[Client]) -> None:
        """So many changes, or something that is wrong."""
        until(
            lambda: ledger.acknowledged >= enough or any(each.wrong is not None for each in clients),
            "progress of the writers",
            PATIENCE,
        )

    def _kill(self, chance: random.Random) -> None:
        what = "everything" if len(self.killed) % 3 == 2 else chance.choice(("a worker", "a worker", "all workers"))
        self.killed.append(what)
        if what == "everything":
            self.server.kill()
            self.server.start()
            return
        pids = until(lambda: self.server.pids("web"), "a worker to kill", PATIENCE)
        for pid in pids if what == "all workers" else [chance.choice(pids)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _verify(self, writers: list[Writer], followers: list[Follower]) -> None:
        for writer in writers:
            for path in writer.known:
                expected, got = writer.settled(path), writer.got(path)
                assert (got.body if got.status == 200 else None) == expected, f"{path} was acknowledged otherwise"
            writer.close()
        for follower in followers:
            follower.catch_up()
            there = follower.surely(lambda f=follower: listed(f))  # type: ignore[misc]
            anew = Follower(follower.collection, self.server, threading.Event(), 1)
            anew.catch_up()
            assert follower.state == there, f"who followed {follower.collection} has another state than the server"
            assert anew.state == there, f"who begins anew in {follower.collection} has another state than the server"
            follower.close()
            anew.close()
        # What whoever was killed last had begun to write is a note: the sweep removes it.
        found = [each for each in self.server.check("--contents") if each["kind"] != "file-unfinished"]
        log = self.server.log()
        assert found == [], f"cleanmail check found {found[:5]}"
        for sign in ("Traceback", "a request failed"):
            at = log.find(sign)
            assert at < 0, f"the log has: {log[max(at - 1000, 0) : at + 3000]}"


def listed(client: Client) -> dict[str, str]:
    """What a collection has, by PROPFIND."""
    assert isinstance(client, Follower)
    answer = client.once("PROPFIND", client.collection, LIST.encode(), Depth="1")
    assert answer.status == 207, answer
    found = {
        each.findtext(f"{D}href", ""): each.findtext(f".//{D}getetag", "") for each in answer.xml.iter(f"{D}response")
    }
    found.pop(client.collection)
    return found


@contextlib.contextmanager
def target(folder: Path) -> Iterator[WholeServer]:
    """A server with two web workers, which runs."""
    server = WholeServer(folder, web_workers=2)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/crash_dav", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--changes", type=int, default=10_000, help="that are acknowledged; default: %(default)s")
    parser.add_argument("--kills", type=int, default=30, help="in the course of them; default: %(default)s")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of what is random; default: the time")
    parser.add_argument("--data", type=Path, help="a folder to keep what is left in; default: a temporary one")
    given: Any = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = given.data or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cleanmail-crash-")))
        folder.mkdir(parents=True, exist_ok=True)
        server = stack.enter_context(target(folder))
        try:
            print(Rounds(server, given.seed).play(given.changes, given.kills) + ": nothing lost.")
        except AssertionError as error:
            print(f"WRONG: {error} (--seed {given.seed}; the log ends with:)\n{server.log()[-3000:]}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
