"""One note over IMAP as Apple's Notes speaks it and over CalDAV as a calendar client does, on one account."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from dav_house import Answer
from imap_play import CoreClient, play
from imap_town import PASSWORD, MailTown, new_mail_town
from notes_place import apple_note, journal

from hosting.dav.assembly import make_handler
from hosting.dav.calendars import extension as calendars
from hosting.dav.contacts import extension as contacts
from hosting.dav.request import DavRequest
from hosting.dav.services import DavServices

ONE = "0F5CB8A7-0000-4000-8000-000000000001"
SYNC = (
    '<D:sync-collection xmlns:D="DAV:"><D:sync-token>{}</D:sync-token><D:sync-level>1</D:sync-level>'
    "<D:prop><D:getetag/></D:prop></D:sync-collection>"
)


class Calendar:
    """A client of the DAV layer."""

    def __init__(self, town: MailTown, address: str) -> None:
        self._principal = town.principal(address)
        self._notes = f"/dav/calendars/{address}/notes/"
        self._handler = make_handler(
            DavServices(town.installation, town.clock), (calendars.register, contacts.register)
        )

    def ask(self, method: str, name: str = "", body: bytes = b"", **headers: str) -> Answer:
        sent = {"host": "dav.example.test"} | {key.replace("_", "-"): value for key, value in headers.items()}
        response = self._handler.handle(
            DavRequest(method, self._notes + name, sent, body, self._principal, "192.0.2.1")
        )
        try:
            whole = response.body if isinstance(response.body, bytes) else b"".join(response.body)
        finally:
            response.close()
        return Answer(response.status, {key.lower(): value for key, value in response.headers}, whole)

    def sync(self, token: str = "") -> tuple[str, dict[str, int]]:
        answer = self.ask("REPORT", body=SYNC.format(token).encode(), depth="0", content_type="application/xml")
        new = answer.xml.content("{DAV:}sync-token")
        assert new is not None
        return new, answer.statuses


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailTown]:
    with new_mail_town(tmp_path_factory.mktemp("town")) as made:
        yield made


@pytest.fixture(scope="module")
def addresses(town: MailTown) -> Iterator[str]:
    """For each test another account."""
    return iter(town.accounts)


@pytest.fixture
def address(addresses: Iterator[str]) -> str:
    return next(addresses)


@pytest.fixture
def calendar(town: MailTown, address: str) -> Calendar:
    return Calendar(town, address)


@pytest.fixture
def telephone(town: MailTown, address: str) -> CoreClient:
    made = CoreClient(town.services)
    made.send(f'x LOGIN {address} "{PASSWORD}"\r\n'.encode())
    assert made.receive(0)[-1].startswith("x OK")
    return made


def append(client: CoreClient, text: str) -> list[str]:
    data = apple_note(ONE, text)
    client.send(b"p APPEND Notes (\\Seen) {%d}\r\n" % len(data))
    client.send(data + b"\r\n")
    return client.receive(0)


def test_a_note_of_a_calendar_client_appears_on_the_telephone_and_its_edit_comes_back(
    calendar: Calendar, telephone: CoreClient
) -> None:
    first, _ = calendar.sync()
    made = calendar.ask(
        "PUT", "a.ics", journal(ONE, "Shopping", "Milk", "CATEGORIES:home\r\n"), content_type="text/calendar"
    )
    assert made.status == 201
    play(telephone, 'C: a LSUB "" Notes\nS: * LSUB … "Notes"\nS: a OK…')
    telephone.send(b"b SELECT Notes\r\n")
    assert "* 1 EXISTS" in telephone.receive(0)
    telephone.send(b"c FETCH 1 (FLAGS BODY.PEEK[HEADER.FIELDS (Subject X-Uniform-Type-Identifier)])\r\n")
    fetched = "\r\n".join(telephone.receive(0))
    assert "X-Uniform-Type-Identifier: com.apple.mail-note" in fetched
    assert "Subject: Shopping" in fetched
    assert "\\Seen" in fetched
    assert append(telephone, "Shopping\nMilk\nEggs")[-1].startswith("p OK [APPENDUID")
    telephone.send(b"d UID STORE 1 +FLAGS.SILENT (\\Deleted)\r\ne UID EXPUNGE 1\r\n")
    assert "* 1 EXPUNGE" in telephone.receive(0)
    edited = calendar.ask("GET", "a.ics")
    assert b"DESCRIPTION:Milk\\nEggs\r\n" in edited.body
    assert b"CATEGORIES:home\r\n" in edited.body
    assert edited.headers["etag"] != made.headers.get("etag")
    _, changed = calendar.sync(first)
    assert changed == {"a.ics": 200}
    stale = calendar.ask("PUT", "a.ics", journal(ONE, "x"), if_match=made.headers["etag"], content_type="text/calendar")
    assert stale.status == 412


def test_a_telephone_that_waits_is_told_of_an_edit_over_caldav(calendar: Calendar, telephone: CoreClient) -> None:
    assert append(telephone, "Shopping")[-1].startswith("p NO [TRYCREATE]")
    play(telephone, "C: a CREATE Notes\nS: a OK…")
    telephone.receive(0)
    assert append(telephone, "Shopping")[-1].startswith("p OK")
    telephone.send(b"b SELECT Notes\r\nc NOOP\r\n")
    telephone.receive(0)
    token, listed = calendar.sync()
    (name,) = (each for each in listed if each.endswith(".ics"))
    put = calendar.ask("PUT", name, journal(ONE, "Shopping", "Milk"), content_type="text/calendar")
    assert put.status == 204
    telephone.send(b"d NOOP\r\n")
    told = telephone.receive(0)
    assert "* 1 EXPUNGE" in told
    assert "* 1 EXISTS" in told
    assert calendar.ask("DELETE", name).status == 204
    telephone.send(b"e NOOP\r\n")
    assert "* 1 EXPUNGE" in telephone.receive(0)
    _, changed = calendar.sync(token)
    assert changed == {name: 404}


def test_a_telephone_deletes_a_note_and_the_mailbox_stays_while_it_shows_others(
    calendar: Calendar, telephone: CoreClient
) -> None:
    for name, uid in (("a.ics", ONE), ("b.ics", "other")):
        calendar.ask("PUT", name, journal(uid, name), content_type="text/calendar")
    token, _ = calendar.sync()
    telephone.send(b"a SELECT Notes\r\n")
    telephone.receive(0)
    telephone.send(b"b STORE 1 +FLAGS (\\Deleted)\r\nc EXPUNGE\r\n")
    telephone.receive(0)
    assert calendar.sync(token)[1] == {"a.ics": 404}
    play(telephone, "C: d CLOSE\nS: d OK…\nC: e DELETE Notes\nS: e NO …\nC: f RENAME Notes Old\nS: f NO …")
    assert calendar.ask("DELETE", "b.ics").status == 204
    play(telephone, "C: g DELETE Notes\nS: g OK…")
