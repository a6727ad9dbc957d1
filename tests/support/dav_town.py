"""An installation with accounts, asked over the DAV layer without a socket, and a tiny server for outside programs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from xml.etree import ElementTree

from imap_town import MailTown

from hosting.auth.signin import Principal
from hosting.dav.assembly import make_handler
from hosting.dav.handler import DavHandler
from hosting.dav.registry import Registry
from hosting.dav.request import DavRequest
from hosting.dav.resources import Resource, ResourceType
from hosting.dav.services import DavServices
from storage.collections.conditions import Violated
from storage.collections.values import Content, Kind

ALICE, BOB, MALLORY = "alice@example.test", "bob@example.test", "mallory@other.test"
D = "{DAV:}"
Extension = Callable[[Registry], None]


@dataclass(frozen=True)
class Answer:
    """A response with its whole body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def xml(self) -> ElementTree.Element:
        return ElementTree.fromstring(self.body)

    @property
    def condition(self) -> str:
        """The first element of DAV:error: "{namespace}local"."""
        error = self.xml
        assert error.tag == D + "error", self.body
        return error[0].tag if len(error) else ""

    def responses(self) -> dict[str, ElementTree.Element]:
        """By href."""
        assert self.status == 207, (self.status, self.body)
        return {each.findtext(D + "href", ""): each for each in self.xml.iter(D + "response")}

    def hrefs(self) -> list[str]:
        return list(self.responses())

    def properties(self, href: str | None = None) -> dict[str, ElementTree.Element]:
        """What was found of one resource: the only one, or that with this href."""
        found = self.responses()
        response = found[href] if href is not None else next(iter(found.values()))
        return {each.tag: each for propstat in propstats(response, 200) for each in propstat}

    def statuses(self, href: str | None = None) -> dict[str, int]:
        """Of each property, of one resource."""
        found = self.responses()
        response = found[href] if href is not None else next(iter(found.values()))
        told = {}
        for propstat in response.findall(D + "propstat"):
            status = int(propstat.findtext(D + "status", "").split()[1])
            for each in propstat.find(D + "prop") or ():
                told[each.tag] = status
        return told

    def status_of(self, href: str) -> int:
        """Of a response that tells of the resource as a whole."""
        return int(self.responses()[href].findtext(D + "status", "").split()[1])


def propstats(response: ElementTree.Element, status: int) -> Iterator[ElementTree.Element]:
    for propstat in response.findall(D + "propstat"):
        if f" {status} " in propstat.findtext(D + "status", ""):
            found = propstat.find(D + "prop")
            assert found is not None
            yield found


class DavTown(MailTown):
    """The accounts of MailTown, with the DAV layer over them."""

    def __init__(self, data: Path, extensions: Iterable[Extension] = ()) -> None:
        super().__init__(data)
        self.dav_services = DavServices(self.installation, self.clock)
        self.extensions = tuple(extensions)
        self.handler = make_handler(self.dav_services, self.extensions)

    def with_services(self, **changes: object) -> DavHandler:
        """Another handler over the same accounts."""
        return make_handler(replace(self.dav_services, **changes), self.extensions)  # type: ignore[arg-type]

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | str = b"",
        *,
        who: str = ALICE,
        principal: Principal | None = None,
        handler: DavHandler | None = None,
        **headers: str,
    ) -> Answer:
        """One request; headers by keyword, "_" for "-"."""
        octets = body.encode() if isinstance(body, str) else body
        named = {name.lower().replace("_", "-"): value for name, value in headers.items()}
        named.setdefault("host", "dav.example.test")
        request = DavRequest(method, path, named, octets, principal or self.principal(who), "192.0.2.1")
        response = (handler or self.handler).handle(request)
        whole = response.body if isinstance(response.body, bytes) else b"".join(response.body)
        response.close()
        return Answer(response.status, dict(response.headers), whole)

    def propfind(self, path: str, *names: str, depth: str = "0", who: str = ALICE, **headers: str) -> Answer:
        """By names, "{namespace}local"; without any, allprop."""
        return self.ask("PROPFIND", path, propfind(*names) if names else b"", who=who, depth=depth, **headers)

    def value(self, path: str, name: str, who: str = ALICE) -> str | None:
        """The text of one property."""
        found = self.propfind(path, name, who=who).properties().get(name)
        return None if found is None else found.text or ""


def prop(*names: str) -> str:
    parts = []
    for number, name in enumerate(names):
        namespace, local = name[1:].split("}")
        parts.append(f'<n{number}:{local} xmlns:n{number}="{namespace}"/>')
    return '<D:prop xmlns:D="DAV:">' + "".join(parts) + "</D:prop>"


def propfind(*names: str) -> str:
    return '<D:propfind xmlns:D="DAV:">' + prop(*names) + "</D:propfind>"


@contextmanager
def new_dav_town(data: Path, extensions: Iterable[Extension] = ()) -> Iterator[DavTown]:
    town = DavTown(data, extensions)
    try:
        yield town
    finally:
        town.close()


class _Handler(BaseHTTPRequestHandler):
    """Carries requests to the DAV layer; who asks is settled, the suites' user is alice."""

    protocol_version = "HTTP/1.1"
    town: DavTown

    def _carry(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = self._chunks()
        path, _, query = self.path.partition("?")
        headers = {name.lower(): ", ".join(self.headers.get_all(name) or ()) for name in self.headers}
        request = DavRequest(
            self.command, path, headers, body, self.town.principal(), self.client_address[0], "http", query
        )
        response = self.town.handler.handle(request)
        whole = response.body if isinstance(response.body, bytes) else b"".join(response.body)
        response.close()
        self.send_response(response.status)
        for name, value in response.headers:
            self.send_header(name, value)
        if "content-length" not in {name.lower() for name, _ in response.headers} and response.status not in (204, 304):
            self.send_header("Content-Length", str(len(whole)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(whole)

    def _chunks(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self._carry
        raise AttributeError(name)

    def log_message(self, *_: object) -> None:
        """Nothing is written."""


@contextmanager
def serving(town: DavTown) -> Iterator[str]:
    """Its URL, while it serves on loopback."""
    bound = type("Bound", (_Handler,), {"town": town})
    server = ThreadingHTTPServer(("127.0.0.1", 0), bound)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class AnyBody:
    """Takes what comes as an event with the UID of its first line: for what is not about calendars' content."""

    def checked(self, _: object, __: object, name: str, data: bytes, media_type: str) -> Content:
        if data.startswith(b"bad"):
            raise Violated("valid-calendar-data", "This is no calendar.")
        return Content(data, media_type or "text/calendar", data.split(b"\n")[0].decode() or name, "VEVENT")

    def served(self, _: object, resource: Resource, data: bytes) -> tuple[bytes, str]:
        return data, resource.object.content_type


def bare_calendars(registry: Registry) -> None:
    """As much of calendars and address books as WebDAV itself can be shown with."""
    registry.resource_types[ResourceType.CALENDAR] = ("{urn:ietf:params:xml:ns:caldav}calendar",)
    registry.creatable["{urn:ietf:params:xml:ns:caldav}calendar"] = Kind.CALENDAR
    registry.creatable["{urn:ietf:params:xml:ns:carddav}addressbook"] = Kind.ADDRESS_BOOK
    registry.bodies[Kind.CALENDAR] = AnyBody()
    registry.bodies[Kind.ADDRESS_BOOK] = AnyBody()
