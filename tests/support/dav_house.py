"""A tenant with accounts, and the DAV layer over them without any HTTP: what dialogues are played on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from hosting.auth.signin import Principal
from hosting.dav.assembly import make_handler
from hosting.dav.calendars import extension as calendars
from hosting.dav.contacts import extension as contacts
from hosting.dav.request import DavRequest
from hosting.dav.services import DavServices
from hosting.dav.xml import Element, parse
from storage.clock import FixedClock
from storage.directory.provisioning import Provisioning
from storage.installation import Installation
from storage.keys.keystore import KeyStore
from storage.keys.master import Master
from storage.keys.source import LocalKeys
from storage.values import Domain, EmailAddress

NOW = 1_790_000_000  # 2026-09-21
NAMESPACES = (
    'xmlns:D="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav" xmlns:CR="urn:ietf:params:xml:ns:carddav" '
    'xmlns:CS="http://calendarserver.org/ns/" xmlns:I="http://apple.com/ns/ical/"'
)
PREFIXES = {
    "D": "DAV:",
    "C": "urn:ietf:params:xml:ns:caldav",
    "CR": "urn:ietf:params:xml:ns:carddav",
    "CS": "http://calendarserver.org/ns/",
    "I": "http://apple.com/ns/ical/",
}


def name(prefixed: str) -> str:
    """ "D:href" as "{DAV:}href"."""
    prefix, _, local = prefixed.partition(":")
    return "{" + PREFIXES[prefix] + "}" + local


def all_below(element: Element, prefixed: str) -> list[Element]:
    """Every element of this name, in the order of the document."""
    wanted, found, pending = name(prefixed), [], [element]
    while pending:
        at = pending.pop()
        if at.name == wanted:
            found.append(at)
        pending.extend(reversed(at.children))
    return found


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    @property
    def xml(self) -> Element:
        return parse(self.body)

    @property
    def condition(self) -> str:
        """The first element within DAV:error, without its namespace."""
        return self.xml.children[0].name.rpartition("}")[2]

    @property
    def hrefs(self) -> dict[str, Element]:
        """The responses of a multistatus by the last segment of their hrefs."""
        assert self.status == 207, (self.status, self.body)
        found = {}
        for response in self.xml.all(name("D:response")):
            href = unquote(response.content(name("D:href")) or "")
            found[href.rstrip("/").rpartition("/")[2]] = response
        return found

    @property
    def statuses(self) -> dict[str, int]:
        """Of responses that are told of as a whole, the status; of all others 200."""
        return {
            href: int((response.content(name("D:status")) or "HTTP/1.1 200").split()[1])
            for href, response in self.hrefs.items()
        }

    def property(self, prefixed: str, status: int = 200) -> Element | None:
        """The first property of this name under a status; None: none of the responses has it there."""
        for propstat in all_below(self.xml, "D:propstat"):
            if f" {status} " in f"{propstat.content(name('D:status'))} ":
                for prop in propstat.all(name("D:prop")):
                    found = prop.find(name(prefixed))
                    if found is not None:
                        return found
        return None


class House:
    """Two accounts, ada and bob, of one tenant; eve is another tenant's."""

    def __init__(self, data: Path) -> None:
        self.clock = FixedClock(NOW)
        keys = LocalKeys(KeyStore.create(data / "keys", Master.generate(), self.clock))
        Installation.create(data, keys, self.clock)
        self.installation = Installation(data, keys, self.clock)
        self.provisioning = Provisioning(self.installation)
        self.principals: dict[str, Principal] = {}
        self._move_in("acme", "acme.test", "ada", "bob")
        self._move_in("other", "other.test", "eve")
        self.handler = make_handler(DavServices(self.installation, self.clock), (calendars.register, contacts.register))

    def _move_in(self, tenant: str, domain: str, *logins: str) -> None:
        tenant_id = self.provisioning.create_tenant(tenant, tenant).tenant_id
        self.installation.control.add_domain(tenant_id, Domain.parse(domain))
        self.installation.control.verify_domain(Domain.parse(domain), None)
        for login in logins:
            address = f"{login}@{domain}"
            account_id = self.provisioning.create_account(tenant_id, EmailAddress.parse(address)).account_id
            self.principals[login] = Principal(tenant_id, account_id, address, "password", 1, 1, 0, 0)

    def ask(self, method: str, path: str, body: str | bytes = b"", who: str = "ada", **headers: str) -> Answer:
        """Ask as `who`; headers with "_" for "-". A path without a leading slash is below /dav/."""
        sent = {key.replace("_", "-").lower(): value for key, value in headers.items()}
        sent.setdefault("host", "dav.acme.test")
        octets = body.encode() if isinstance(body, str) else body
        at = path if path.startswith("/") else "/dav/" + path
        response = self.handler.handle(DavRequest(method, at, sent, octets, self.principals[who], "192.0.2.1"))
        try:
            whole = response.body if isinstance(response.body, bytes) else b"".join(response.body)
        finally:
            response.close()
        return Answer(response.status, {key.lower(): value for key, value in response.headers}, whole)

    def close(self) -> None:
        self.installation.close()


def house(data: Path) -> Iterator[House]:
    """For a fixture of a module."""
    found = House(data)
    yield found
    found.close()
