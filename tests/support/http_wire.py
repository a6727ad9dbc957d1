"""HTTP by hand, octet for octet, over real sockets; every wait has a deadline."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.etree import ElementTree

from wire import Wire

D = "{DAV:}"
SYNC = (
    '<D:sync-collection xmlns:D="DAV:"><D:sync-token>%s</D:sync-token><D:sync-level>1</D:sync-level>%s'
    "<D:prop><D:getetag/></D:prop></D:sync-collection>"
)


@dataclass(frozen=True)
class HttpAnswer:
    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes = field(repr=False)

    @property
    def xml(self) -> ElementTree.Element:
        return ElementTree.fromstring(self.body)

    @property
    def condition(self) -> str:
        """The local name of the precondition that did not hold."""
        return self.xml[0].tag.rpartition("}")[2]

    @property
    def hrefs(self) -> list[str]:
        return [each.text or "" for each in self.xml.iterfind(f"{D}response/{D}href")]


class HttpWire(Wire):
    """Signs in with each request, unless `login` is empty."""

    def __init__(self, port: int, login: str = "", password: str = "", **options: object) -> None:
        super().__init__(port, **options)  # type: ignore[arg-type]
        self.fields = {"Host": "localhost"}
        if login:
            octets = base64.b64encode(f"{login}:{password}".encode())
            self.fields["Authorization"] = "Basic " + octets.decode()

    def head(self, method: str, path: str, headers: Mapping[str, object] | None = None) -> bytes:
        lines = [f"{name}: {value}" for name, value in {**self.fields, **(headers or {})}.items()]
        return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode("latin-1")

    def ask(
        self, method: str, path: str, body: bytes | str = b"", headers: Mapping[str, object] | None = None
    ) -> HttpAnswer:
        """Raises Closed."""
        octets = body.encode() if isinstance(body, str) else body
        named = {**(headers or {}), **({"Content-Length": len(octets)} if octets or method == "PUT" else {})}
        self.send(self.head(method, path, named) + octets)
        return self.answer(method)

    def answer(self, method: str = "GET") -> HttpAnswer:
        """The next one. Raises Closed."""
        version, _, rest = self.line().partition(b" ")
        assert version == b"HTTP/1.1", version
        headers: dict[str, str] = {}
        while (line := self.line()) != b"\r\n":
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        status = int(rest[:3])
        if status < 200:
            return self.answer(method)
        return HttpAnswer(status, headers, self._body(headers, status, method))

    def _body(self, headers: Mapping[str, str], status: int, method: str) -> bytes:
        if method == "HEAD" or status in (204, 304):
            return b""
        if headers.get("transfer-encoding") != "chunked":
            return self.exactly(int(headers["content-length"]))
        pieces = []
        while size := int(self.line(), 16):
            pieces.append(self.exactly(size))
            assert self.line() == b"\r\n"
        assert self.line() == b"\r\n"
        return b"".join(pieces)

    def sync(self, path: str, token: str = "", limit: int = 0) -> tuple[dict[str, str | None], str, bool]:
        """What changed since: the ETag by href, None for what is gone; the next token; whether there is more."""
        cut = f"<D:limit><D:nresults>{limit}</D:nresults></D:limit>" if limit else ""
        answer = self.ask("REPORT", path, SYNC % (token, cut))
        assert answer.status == 207, (answer, answer.body[:500])
        changed: dict[str, str | None] = {}
        more = False
        for response in answer.xml.iterfind(f"{D}response"):
            href, status = response.findtext(f"{D}href", ""), response.findtext(f"{D}status", "")
            if " 507 " in status + " ":
                more = True
            else:
                changed[href] = None if " 404 " in status + " " else response.findtext(f".//{D}getetag")
        return changed, answer.xml.findtext(f"{D}sync-token", ""), more
