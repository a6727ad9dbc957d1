"""A customer whose every word is a token ends his contract: then nobody finds one but where the certificate says.

Before the end the same search finds the tokens where they must be, so it can. Afterwards it reads every octet of the
data directory, of the server's temporary files, of its memory files, of what it said and of what commands said, in many
writings; and everything that the keys which are left open: pages of databases, free ones and logs too, each record of
each log, backups. The memory of processes is not searched: those that held keys are replaced, which is shown elsewhere.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import quopri
import smtplib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from canary import Canary, Found, Opened, in_files
from command_host import run_in_fork
from dns_server import DnsServer
from sqlalchemy import insert
from whole_server import WholeServer, environment, free_ports, running, until

from hosting import composition
from hosting.config import FILE_NAME, load
from storage.backup.backup import BackupRun
from storage.backup.place import Place
from storage.clock import FixedClock
from storage.collections.values import Kind as CollectionKind
from storage.collections.values import NewCollection, file_content
from storage.database.prepared import prepare
from storage.directory.approvals import Kind
from storage.icalendar.content import calendar_content
from storage.installation import Installation
from storage.register.catalogue import CATALOGUE
from storage.schema.collections import scheduling
from storage.values import AccountId, TenantId
from storage.vcard.content import card_content

pytestmark = pytest.mark.slow

canary = Canary()
DOMAIN = f"{canary('domain')}.test"
LOGIN = f"{canary('login')}@{DOMAIN}"
SECOND = f"{canary('second login')}@{DOMAIN}"
OTHER = "mallory@two.test"
FAR = f"{canary('correspondent')}@far.test"
WITHHELD = f"{canary('withheld sender')}@far.test"
ZONE = {
    "far.test": {"MX": "10 mx.far.test.", "TXT": "v=spf1 ip4:127.0.0.1 -all"},
    "mx.far.test": {"A": "127.0.0.1"},
}
TOWN: dict[str, Any] = {
    "tenants": {
        canary("slug"): {
            "domains": {DOMAIN: True},
            "accounts": {
                LOGIN: {"password": canary("password"), "app_password": canary("app password name")},
                SECOND: {"password": canary("second password")},
            },
            "aliases": {
                f"{canary('alias')}@{DOMAIN}": [LOGIN],
                f"{canary('forwarding')}@{DOMAIN}": [f"{canary('forwarded to')}@far.test"],
            },
        },
        "two": {"domains": {"two.test": True}, "accounts": {OTHER: {"password": "correct horse battery"}}},
    }
}

CUSTOMER = {"slug", "domain", "second domain"}  # what a certificate tells the customer by
SENDERS = {"domain", "login", "correspondent", "withheld sender"}
RECIPIENTS = {"domain", "login", "second login", "alias", "forwarding", "queued to", "unknown recipient"}

# Which tokens stand where after the end, and nowhere else; the class of data by which the certificate names it.
LEFT: dict[tuple[str, str], tuple[str, set[str]]] = {
    ("control.db", "ending.reason"): ("erasures", {"end reason"}),
    ("control.db", "staff.name"): ("staff", {"administrator"}),
    ("traces", "sender"): ("traces", SENDERS),
    ("traces", "recipient"): ("traces", {*RECIPIENTS, "forwarded to"}),
    ("traces", "details"): ("traces", {"hello"}),
    ("transcripts", "text"): ("transcripts", {*SENDERS, *RECIPIENTS, "hello", "client hello"}),
}
LEFT_IN_BACKUPS = {"control.db": {*CUSTOMER, "administrator"}}
LEFT_IN_AUDIT = {"correspondent"}  # a reading of traces of a sender who has no account here
ENTRIES = {  # what stands in databases as it is
    *("collection", "collection shown", "collection description", "event name", "event uid", "gone name", "tasks uid"),
    *("notes uid", "notes summary", "kept card uid", "file name", "property", "value", "lock owner", "feed"),
    *("feed host", "feed path", "invited"),
}
PARTS = ("author name", "header address", "subject", "message id", "boundary", "body", "file name", "attachment")


def message(place: str, sender: str = FAR, attachment: bytes = b"") -> bytes:
    """A message that has a token of `place` in each of its parts."""

    def at(part: str) -> str:
        return canary(f"{place} {part}")

    name = f"{at('file name')}.{'exe' if attachment else 'txt'}"
    return (
        f"From: {at('author name')} <{sender}>\r\nTo: {at('header address')}@header.test\r\n"
        f"Subject: {at('subject')}\r\n"
        f"Message-ID: <{at('message id')}@mid.test>\r\nX-{at('field name')}: {at('field')}\r\nMIME-Version: 1.0\r\n"
        f"Content-Type: multipart/mixed; boundary={at('boundary')}\r\n\r\n--{at('boundary')}\r\n\r\n{at('body')}\r\n"
        f"--{at('boundary')}\r\nContent-Type: application/octet-stream; name={name}\r\n"
        f"Content-Disposition: attachment; filename={name}\r\n\r\n"
    ).encode() + (attachment + f"{at('attachment')}\r\n--{at('boundary')}--\r\n".encode())


@dataclass
class Scene:
    server: WholeServer
    folder: Path
    said_after: dict[str, str] = field(default_factory=dict)  # by commands after the end, but for the one that ended it
    before: dict[str, set[Found]] = field(default_factory=dict)
    certificate_path: Path = Path()
    key: str = ""

    @property
    def remaining(self) -> set[str]:
        """The classes that the certificate names."""
        document = json.loads(self.certificate_path.read_text())
        return {each["data_class"] for each in document["certificate"]["remaining"]}

    @property
    def data(self) -> Path:
        return self.server.data

    @property
    def backups(self) -> Path:
        return self.folder / "backups"

    def run(self, *arguments: str, stdin: str = "", status: int = 0) -> str:
        done = self.server.cleanmail(*arguments, stdin=stdin)
        assert done.returncode == status, (arguments, done.stdout, done.stderr)
        return done.stdout


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """The whole life of the customer, until everything is erased; the server still runs."""
    folder = tmp_path_factory.mktemp("aviary")
    (folder / "tmp").mkdir()
    with pytest.MonkeyPatch.context() as patch, DnsServer(ZONE) as dns:
        patch.setenv("TMPDIR", str(folder / "tmp"))
        closed = free_ports()["operations"]  # nobody listens there
        settings = (
            f'[dns]\nnameservers = ["127.0.0.1"]\nport = {dns.port}\n'
            f'[relay]\nport = {closed}\nprivate_networks = ["127.0.0.0/8"]\n'
            f'[logs]\nlevel = "debug"\nauditors = ["root", "{os.environ.get("USER", "root")}"]\n'
            "[jobs]\nindex_pause = 0.2\n"
        )
        scene = Scene(WholeServer(folder, TOWN, settings=settings), folder)
        settle(scene)
        with running(scene.server):
            live(scene)
            live_in_calendars(scene)
            copy(scene)
            look_before(scene)
            end(scene)
            yield scene


def settle(scene: Scene) -> None:
    """What administrators write down, before the server runs."""
    slug, run = canary("slug"), scene.run
    run("account", "create", f"{canary('third login')}@{DOMAIN}", "--name", canary("person"), "--generate")
    run("contract", "set", slug, "--accounts", "10", "--contact", f"{canary('contact')}@contact.test")
    run("filter", "allow", "add", f"{canary('allowed')}@allowed.test", "--tenant", slug)
    run("filter", "deny", "add", f"@{canary('denied')}.test", "--account", LOGIN)
    run("dkim", "create", DOMAIN)
    run("domain", "add", slug, f"{canary('second domain')}.test", "--verified")
    run("route", "set", f"{canary('second domain')}.test", "--server", f"{canary('route')}.test")
    run("staff", "add", canary("administrator"), "--role", "tenant_administrator", "--tenant", slug,
        "--secrets-from", "-", stdin=f"{canary('staff password')}\n")  # fmt: skip
    run("request", "ask", "early_erasure", "--tenant", slug, "--reason", canary("approved reason"))
    with composition.administration(scene.data, load(scene.data / FILE_NAME)) as administration:
        control = administration.control
        ids = scene.server.accounts[LOGIN]
        tenant_id, account_id = TenantId(ids["tenant"]), AccountId(ids["account"])
        [asked] = control.approvals.waiting()
        control.approvals.decide(asked.approval_id, "adam", True)
        control.approvals.ask(
            Kind.DISCLOSURE, {"case": canary("scope")}, canary("asked reason"), "eve", tenant_id, account_id
        )
        hold = control.holds.add(
            tenant_id,
            account_id,
            ends=administration.installation.clock.now() + 86_400,
            reason=canary("hold reason"),
            asked_by="adam",
            approved_by="eve",
        )
        control.holds.lift(hold.hold_id, "adam")
        keep_entries(
            administration.installation, tenant_id, account_id, AccountId(scene.server.accounts[SECOND]["account"])
        )
        long_ago = FixedClock(time.time() - 300 * 86_400)
        then = Installation(scene.data, administration.installation.keys, long_ago)
        try:
            BackupRun(then, Place(scene.backups)).make()
            assert len(Place(scene.backups).names()) == 1
        finally:
            then.close()


def calendar(place: str, component: str) -> bytes:
    """An object of a calendar that has a token of `place` in each of its parts."""

    def at(part: str) -> str:
        return canary(f"{place} {part}")

    when = "" if component != "VEVENT" else "DTSTART:20260102T100000Z\r\n"
    return (
        f"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//x//EN\r\nBEGIN:{component}\r\nUID:{at('uid')}\r\n"
        f"DTSTAMP:20260101T000000Z\r\n{when}SUMMARY:{at('summary')}\r\nDESCRIPTION:{at('description')}\r\n"
        f"END:{component}\r\nEND:VCALENDAR\r\n"
    ).encode()


def keep_entries(installation: Installation, tenant_id: TenantId, owner: AccountId, other: AccountId) -> None:
    """Events, tasks, notes, cards, files, and all that stands around them."""
    with installation.account(tenant_id, owner) as account:
        collections, objects = account.collections, account.objects
        work = collections.create(
            NewCollection(CollectionKind.CALENDAR, canary("collection"), display_name=canary("collection shown"),
                          description=canary("collection description"))
        )  # fmt: skip
        objects.put(work.id, f"{canary('event name')}.ics", calendar_content(calendar("event", "VEVENT")))
        objects.put(work.id, f"{canary('gone name')}.ics", calendar_content(calendar("gone", "VEVENT")))
        objects.delete(work.id, f"{canary('gone name')}.ics")
        for name, component in (("tasks", "VTODO"), ("notes", "VJOURNAL")):
            home = collections.find(CollectionKind.CALENDAR, name)
            objects.put(home.id, f"{canary(f'{name} name')}.ics", calendar_content(calendar(name, component)))
        card = "BEGIN:VCARD\r\nVERSION:3.0\r\nUID:{}\r\nFN:{}\r\nN:x;;;;\r\nBDAY:1990-01-02\r\nEND:VCARD\r\n".format(
            canary("kept card uid"), canary("card person")
        )
        objects.put(
            collections.find(CollectionKind.ADDRESS_BOOK, "contacts").id, "card.vcf", card_content(card.encode())
        )
        files = collections.create(NewCollection(CollectionKind.FOLDER, "files"))
        large = file_content(100_000 * b"x" + canary("large file").encode(), "text/plain")
        objects.put(files.id, canary("file name"), large)
        event = objects.find(work.id, f"{canary('event name')}.ics")
        account.properties.set(work.id, event.object_id, f"{{urn:{canary('property')}}}x", canary("value").encode())
        account.locks.create(work.id, 0, owner, owner=canary("lock owner").encode(), seconds=3600)
        account.feeds.subscribe(canary("feed"), f"https://{canary('feed host')}.invalid/{canary('feed path')}.ics")
        row = {"account_id": owner, "scheduling_id": 1, "collection_id": work.id, "object_id": 0, "method": "REQUEST",
               "recipient": f"mailto:{canary('invited')}@far.test", "data": b"", "created": 0, "due": 1 << 40,
               "attempts": 0, "queue_id": None}  # fmt: skip
        account.database.write(lambda transaction: prepare(insert(scheduling)).run(transaction, **row))
        tenant = installation.tenant(tenant_id)
        tenant.shares.invite(owner, work.id, other, CollectionKind.CALENDAR, may_write=True, summary=canary("share"))
        installation.control.public_links.create(tenant_id, owner, work.id)


def live(scene: Scene) -> None:
    """Mail, folders, searches, refusals."""
    server, mx = scene.server, scene.server.ports["mx"]
    with smtplib.SMTP("127.0.0.1", mx, local_hostname=f"{canary('hello')}.test", timeout=30) as client:
        for recipient in (LOGIN, SECOND, f"{canary('alias')}@{DOMAIN}", f"{canary('forwarding')}@{DOMAIN}"):
            client.sendmail(FAR, [recipient], message("received"))
        client.sendmail(WITHHELD, [LOGIN], message("withheld", WITHHELD, b"MZ"))
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            client.sendmail(FAR, [f"{canary('unknown recipient')}@{DOMAIN}"], message("refused"))
    with server.smtp(None) as submission:
        submission.command(f"EHLO {canary('client hello')}.test".encode())
        assert submission.login(LOGIN, canary("wrong password"))[0] == 535
    with server.smtp(LOGIN) as submission:
        sent = message("queued", LOGIN)
        assert submission.submit(LOGIN, [f"{canary('queued to')}@far.test", OTHER], sent)[0] == 250
    with server.imap(LOGIN) as imap:
        place = canary("folder").encode()
        assert imap.command(b"CREATE " + place).ok
        assert imap.append(b"Drafts", message("draft"), b"\\Draft").ok
        assert imap.append(place, message("deleted"), b"\\Deleted").ok
        assert imap.command(b"SELECT " + place).ok
        assert imap.command(b"FETCH 1 ENVELOPE").ok  # it is read, and so has left traces
        assert imap.command(b"EXPUNGE").ok
        assert imap.append(place, message("kept"), canary("keyword").encode()).ok
        assert imap.command(b"SEARCH BODY " + canary("searched").encode()).ok
        assert imap.command(b"SELECT INBOX").ok
        assert imap.command(b"UID MOVE 1 Trash").ok
    with server.imap(None) as imap:
        assert not imap.login(f"{canary('unknown login')}@{DOMAIN}", canary("unknown password")).ok
    withheld = json.loads(scene.run("quarantine", "list", "--to", LOGIN, "--json"))
    assert [row["sender"] for row in withheld] == [WITHHELD]
    scene.run("quarantine", "search", canary("withheld subject"))
    scene.run("quarantine", "show", withheld[0]["id"])
    scene.run("log", "transcripts", "--reason", canary("reading reason"), "--address", LOGIN)
    scene.run("trace", "--from", FAR, "--to", LOGIN)
    until(lambda: json.loads(scene.run("queue", "list", "--json")), "what waits in the queue")


def live_in_calendars(scene: Scene) -> None:
    """Calendars, contacts, notes and files over HTTP, questions about them, and what is refused."""

    def event(part: str, *lines: str, kind: str = "VEVENT") -> bytes:
        text = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//c//EN", f"BEGIN:{kind}"]
        text += [f"UID:{canary(f'web {part} uid')}", f"SUMMARY:{canary(f'web {part} summary')}"]
        text += ["DTSTAMP:20260101T000000Z", *lines]
        return "\r\n".join([*text, f"END:{kind}", "END:VCALENDAR", ""]).encode()

    server, start = scene.server, "DTSTART:20300101T100000Z"
    calendars, files = f"/dav/calendars/{LOGIN}", f"/dav/files/{LOGIN}"
    card = f"BEGIN:VCARD\r\nVERSION:3.0\r\nUID:{canary('web card uid')}\r\n"
    card += f"FN:{canary('web card name')}\r\nEND:VCARD\r\n"
    title = f"<D:displayname>{canary('web calendar title')}</D:displayname>"
    title += f"<x:y xmlns:x='u:x'>{canary('web property')}</x:y>"
    dav = 'xmlns:D="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav"'
    sought = (
        f'<C:calendar-query {dav}><D:prop/><C:filter><C:comp-filter name="VCALENDAR"><C:comp-filter name="VEVENT">'
        f'<C:prop-filter name="SUMMARY"><C:text-match>{canary("web sought event")}</C:text-match></C:prop-filter>'
        "</C:comp-filter></C:comp-filter></C:filter></C:calendar-query>"
    )
    large = canary("web file octets").encode() + bytes(range(256)) * 400
    agent = {"User-Agent": canary("web agent")}
    for method, path, body, status in (
        ("PUT", f"{calendars}/calendar/{canary('web event path')}.ics", event("event", start), 201),
        ("PUT", f"{calendars}/calendar/{canary('web removed event path')}.ics", event("removed event", start), 201),
        ("DELETE", f"{calendars}/calendar/{canary('web removed event path')}.ics", b"", 204),
        ("PUT", f"{calendars}/notes/note.ics", event("note", kind="VJOURNAL"), 201),
        ("PUT", f"/dav/addressbooks/{LOGIN}/contacts/{canary('web card path')}.vcf", card.encode(), 201),
        ("PUT", f"{files}/{canary('web file path')}?{canary('web query')}", large, 201),
        ("PROPPATCH", f"{calendars}/calendar/",
         f"<D:propertyupdate {dav}><D:set><D:prop>{title}</D:prop></D:set></D:propertyupdate>".encode(), 207),
        ("REPORT", f"{calendars}/calendar/", sought.encode(), 207),
        ("GET", f"{files}/{canary('web missing path')}?{canary('web missing query')}", b"", 404),
        ("PROPFIND", f"{calendars}/", f"<{canary('web bad body')}".encode(), 400),
        ("PUT", f"{calendars}/calendar/{canary('web refused path')}.ics", event("refused", "DTSTART:x"), 403),
        ("PUT", f"/dav/calendars/{OTHER}/calendar/{canary('web forbidden path')}.ics", event("forbidden", start), 404),
        (canary("web method").upper(), f"{files}/", b"", 400),
    ):  # fmt: skip
        with server.dav(LOGIN) as client:
            fields = agent | ({"Content-Type": "text/vcard"} if "addressbooks" in path else {})
            answer = client.ask(method, path, body, fields)
            assert answer.status == status, (method, path, answer)
    for login, password in ((LOGIN, canary("web wrong password")), (f"{canary('web unknown login')}@{DOMAIN}", "x")):
        with server.dav(login, password) as client:
            assert client.ask("PROPFIND", "/dav/").status == 401
    asked = f"/.well-known/autoconfig/mail/config-v1.1.xml?emailaddress={canary('web discovery address')}@{DOMAIN}"
    with server.dav(None) as client:
        client.ask("GET", asked)
        client.send(f"GET /dav/{canary('web malformed path')} HTTP/9 {canary('web malformed')}\r\n\r\n".encode())
        client.rest()


def copy(scene: Scene) -> None:
    """An archive for the customer; a backup that has had its time, and one that has not."""
    scene.run("export", "archive", "--tenant", canary("slug"), str(scene.folder / "archive"))
    opened = Opened(scene.data)

    def indexed() -> bool:
        found = opened.in_pages(canary)
        return {"kept body", "received body"} <= {each.place for each in found if "account.db" in each.where}

    until(indexed, "the search index")
    until(lambda: not Place(scene.backups).names(), "the removal of the backup that has had its time")
    scene.run("backup", "to", str(scene.backups))
    assert len(Place(scene.backups).names()) == 1


def look_before(scene: Scene) -> None:
    opened = Opened(scene.data)
    scene.before = {
        "files": in_files(canary, scene.data),
        "archive": in_files(canary, scene.folder / "archive"),
        "pages": opened.in_pages(canary),
        "logs": opened.in_logs(canary),
        "backup": opened.in_backup(canary, scene.backups),
    }


def end(scene: Scene) -> None:
    slug = canary("slug")
    done = json.loads(scene.run("--json", "tenant", "end", slug, "--yes", "--reason", canary("end reason")))
    scene.certificate_path = Path(done["json"])
    scene.key = scene.run("certificate", "key").strip()
    until(lambda: all(scene.server.pids(role) for role in ("imap", "smtp", "queue", "jobs")), "the roles' return")
    for arguments in (
        ("tenant", "list"),
        ("account", "list"),
        ("domain", "list"),
        ("queue", "list"),
        ("quarantine", "list"),
        ("contract", "list"),
        ("hold", "list"),
        ("request", "list"),
        ("staff", "list"),
        ("ending", "list", "--all"),
        ("keys", "status"),
        ("audit", "list", "--since", "2d"),
        ("log", "access"),
        ("retention", "status"),
        ("check",),
    ):
        said = scene.server.cleanmail(*arguments)
        scene.said_after[" ".join(arguments[:2])] = said.stdout + said.stderr


def test_the_search_finds_every_writing() -> None:
    text = canary("written")
    for written in (
        text.upper().encode(),
        text.encode("utf-16-le"),
        text.encode("utf-16-be"),
        text.encode().hex().upper().encode(),
        "".join(f"%{octet:02X}" for octet in text.encode()).encode(),
        *(base64.encodebytes(b"x" * n + text.encode() + b"y" * 99) for n in range(70)),
        *(quopri.encodestring(b"x" * n + text.encode() + b"y" * 99) for n in range(70)),
        gzip.compress(b"y" + text.encode() * 3),
    ):
        assert canary.found_in(b"\x00\xff" + written + b"\xfe") == {"written"}, written
    assert canary.found_in(text[:-1].encode()) == {"?"}
    assert not canary.found_in(text[1:].encode())


def places(found: set[Found], where: str = "", how: str = "") -> set[str]:
    """Of tokens in places whose name ends so."""
    return {each.place for each in found if each.where.endswith(where) and how in ("", each.how)}


def test_before_the_end_tokens_are_where_they_must_be(scene: Scene) -> None:
    """So the same search that finds nothing afterwards would have found it."""
    before = scene.before
    messages = {f"{message} {part}" for message in ("received", "kept", "draft") for part in PARTS}
    assert messages <= places(before["archive"])
    assert {"event summary", "tasks description", "notes summary", "card person", "large file"} <= places(
        before["archive"]
    )
    for opened in (before["pages"], before["backup"]):
        assert messages - {"attachment"} <= places(opened, "account.db", "search_text") | {
            f"{message} attachment" for message in ("received", "kept", "draft")
        } | places(opened, "account.db")
        assert {"folder", "keyword"} <= places(opened, "accounts/1/account.db")
        assert places(opened, "accounts/1/account.db") >= ENTRIES and "share" in places(opened, "tenant.db")
        settings = {"login", "second login", "third login", "person", "alias", "forwarded to", "route"}
        assert settings | {"app password name", "allowed", "denied"} <= places(opened, "tenant.db")
        assert {"withheld sender", "withheld subject", "withheld author name"} <= places(opened, "tenant.db")
        assert {*CUSTOMER, "administrator"} <= places(opened, "control.db")
    assert {"deleted body", "deleted subject"} <= places(before["pages"], "accounts/1/account.db")
    kept = ("event path", "event uid", "event summary", "note summary", "card path", "card name", "file path")
    stored = {f"web {each}" for each in (*kept, "calendar title", "property")}
    assert stored <= places(before["pages"], "accounts/1/account.db")
    assert places(before["logs"], "traces") >= SENDERS


def test_passwords_and_what_is_encrypted_are_nowhere_even_before(scene: Scene) -> None:
    found = set[str]().union(*(places(each) for name, each in scene.before.items()))
    secret = {"password", "second password", "wrong password", "unknown password", "staff password", "unknown login"}
    assert not found & {*secret, "searched", "hold reason", "asked reason", "approved reason", "scope", "contact"}
    refused = {"wrong password", "unknown login", "discovery address", "malformed path", "malformed", "method"}
    asked = {"agent", "query", "missing path", "missing query", "sought event", "bad body", "refused path"}
    forbidden = {"refused summary", "forbidden path", "forbidden summary"}
    assert not found & {f"web {each}" for each in refused | asked | forbidden}
    assert not scene.before["files"]


def test_no_octet_of_the_data_directory_says_anything(scene: Scene) -> None:
    certificates = {f"certificates/{scene.certificate_path.stem}.{kind}" for kind in ("json", "pdf")}
    found = in_files(canary, scene.data)
    assert found == {Found(path, "octets", place) for path in certificates for place in CUSTOMER}
    assert not in_files(canary, scene.backups)


def test_nothing_that_processes_wrote_or_said_says_anything(scene: Scene) -> None:
    assert not in_files(canary, scene.folder / "tmp")
    metrics, limits = ((scene.data / "run" / memory).resolve() for memory in ("metrics", "limits"))
    assert metrics.is_dir() and not in_files(canary, metrics)
    assert not limits.is_dir() or not in_files(canary, limits)  # gone while the only SMTP worker is replaced
    said = scene.server.log() + (scene.folder / "serve.out").read_text()
    assert "ending" in said and not canary.found_in(said.encode())
    told = {name: set(canary.found_in(text.encode())) for name, text in scene.said_after.items()}
    # Who administered for the customer is on record as staff; so is whose mail was asked for and has no account here.
    assert {name: found for name, found in told.items() if found} == {
        "staff list": {"administrator"},
        "audit list": LEFT_IN_AUDIT,
    }


def test_what_keys_still_open_is_what_the_certificate_names(scene: Scene) -> None:
    opened = Opened(scene.data)
    found = opened.in_logs(canary)
    for name in ("control.db", "queue.db", "audit.db"):
        found |= opened.in_columns(canary, name)
    left: dict[tuple[str, str], set[str]] = {}
    for each in found:
        left.setdefault((each.where, each.how), set()).add(each.place)
    assert left == {where: tokens for where, (_, tokens) in LEFT.items()}
    assert {kind for kind, _ in LEFT.values()} <= scene.remaining
    declared = {each.name for each in CATALOGUE.declarations() if each.column and each.personal}
    for database, column in LEFT:
        if database.endswith(".db"):
            assert f"{database.removesuffix('.db')}.{column}" in declared


def test_no_page_holds_more_than_its_tables_show(scene: Scene) -> None:
    """Free pages and logs of databases; the mail that another customer got is that customer's."""
    own = {Found(name, column.partition(".")[0], place)
           for (name, column), (_, tokens) in LEFT.items() if name.endswith(".db") for place in tokens}  # fmt: skip
    found = Opened(scene.data).in_pages(canary)
    assert {each for each in found if not each.where.startswith("tenants/2/")} == own
    theirs = places({each for each in found if each.where.startswith("tenants/2/")})
    assert {"queued body"} <= theirs <= {"login", "domain", *(f"queued {p}" for p in (*PARTS, "field", "field name"))}


def test_backups_open_as_far_as_the_certificate_says(scene: Scene) -> None:
    found = Opened(scene.data).in_backup(canary, scene.backups)
    left = {each.where: places(found, each.where) for each in found if not each.where.startswith("tenants/2/")}
    assert left == LEFT_IN_BACKUPS
    assert "backups" in scene.remaining


def test_the_certificate_is_verified_with_nothing_but_its_key(scene: Scene, tmp_path: Path) -> None:
    for kind in (".json", ".pdf"):
        file = str(scene.certificate_path.with_suffix(kind))
        arguments = ["--data", str(tmp_path / "nothing"), "certificate", "verify", file, "--key", scene.key]
        done = run_in_fork("cleanmail", arguments, environment(), "", 60.0)
        assert done.returncode == 0, done.stderr


def test_nothing_comes_to_light_when_the_server_stops(scene: Scene) -> None:
    """The last: what was in memory only has been written by now."""
    before = in_files(canary, scene.data)
    assert scene.server.stop() == 0
    assert in_files(canary, scene.data) == before
    assert not in_files(canary, scene.folder / "tmp")
    assert {each.how for each in Opened(scene.data).in_pages(canary) if "tenants" not in each.where} == {
        "ending",
        "staff",
    }
