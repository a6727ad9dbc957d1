"""URLs of messages and their parts, as CATENATE names them; and the octets that they mean.

Only what lies within this session is meant: an absolute path ("/Drafts;UIDVALIDITY=3/;UID=20/;SECTION=1.2") or one
relative to the selected mailbox (";UID=20"). Whatever else a URL may be, a scheme, another server, a search, an
authorisation, is `BadUrl` (RFC 4469 §3: outside its scope).

Standards: RFC 5092 §6, §7 and §11 (the grammar; names are UTF-8, percent-encoded), RFC 4469 §3 and §4.1,
RFC 5550 §5.7.1 (PARTIAL).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from hosting.imap.commands import Section
from hosting.imap.cursor import Cursor, Malformed
from hosting.imap.decoder import Frame
from hosting.imap.fetching.fetch_grammar import section
from hosting.imap.place import Place
from storage.errors import Gone, NotFound
from storage.mail.messages import Messages
from storage.mime.parts import find_section, header_fields, unpack_parts
from storage.values import UID_MAX, ByteSpan, MessageId

_URL = re.compile(
    rb"(?:(/?[^;/][^;]*?)(?:;UIDVALIDITY=(\d{1,10}))?/)?;UID=(\d{1,10})"
    rb"(?:/;SECTION=([^;]+?))?(?:/;PARTIAL=(\d{1,19})(?:\.(\d{1,19}))?)?",
    re.IGNORECASE,
)
_SCHEME = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*:")
_ALLOWED = re.compile(rb"(?:[!$&-;=@-Z_a-z~]|%[0-9A-Fa-f]{2})+")  # no "?", "#", brackets, spaces, octets beyond ASCII
_UNFIT = re.compile(rb"[^!#-Z^-z|~]")  # in a response code
_PIECE = 256 * 1024
_REST = 1 << 63
_SHOWN = 1000  # octets of a URL in an answer


class BadUrl(Exception):  # noqa: N818
    """No message of this session, or no part of one."""


@dataclass(frozen=True, slots=True)
class MessageUrl:
    """A message, or what `section` names of it."""

    mailbox: str
    uid: int
    section: Section
    uidvalidity: int | None = None


def parse(octets: bytes, selected: str | None) -> MessageUrl:
    """A URL in the session whose selected mailbox is called so. Raises BadUrl."""
    match = _URL.fullmatch(octets) if _ALLOWED.fullmatch(octets) and not _SCHEME.match(octets) else None
    if match is None:
        raise BadUrl
    path, uidvalidity, uid, part, start, length = match.groups()
    if not 0 < int(uid) <= UID_MAX or (uidvalidity and not 0 < int(uidvalidity) <= UID_MAX) or length == b"0":
        raise BadUrl
    return MessageUrl(
        _mailbox(path, selected),
        int(uid),
        _section(part, (int(start), int(length or _REST)) if start else None),
        int(uidvalidity) if uidvalidity else None,
    )


def _mailbox(path: bytes | None, selected: str | None) -> str:
    """The canonical name; a path that does not begin with "/" goes on from the selected mailbox (RFC 3986 §5.2.3)."""
    if path is None:
        if selected is None:
            raise BadUrl
        return selected
    is_absolute = path.startswith(b"/")
    name = unquote_to_bytes(path.removeprefix(b"/"))
    if not is_absolute and selected is not None:
        above, slash, _ = selected.rpartition("/")
        name = (above + slash).encode() + name
    try:
        return Cursor(Frame(b""), 1).mailbox_name(name, utf8=True)
    except Malformed:
        raise BadUrl from None


def _section(part: bytes | None, partial: tuple[int, int] | None) -> Section:
    if part is None:
        return Section(partial=partial)
    cursor = Cursor(Frame(b"[" + unquote_to_bytes(part) + b"]"), 1)
    try:
        named = section(cursor)
        cursor.end()
    except Malformed:
        raise BadUrl from None
    if named.partial is not None:
        raise BadUrl
    return Section(named.part, named.text, named.fields, partial)


def shown(octets: bytes) -> bytes:
    """A URL for the response code BADURL, where some characters cannot stand (RFC 4469 §5, url-resp-text)."""
    return _UNFIT.sub(lambda found: b"%%%02X" % ord(found[0]), octets[:_SHOWN])


@dataclass(frozen=True, slots=True)
class Stored:
    """The octets that a URL means: `size` of them, in pieces that are read when they are asked for."""

    messages: Messages
    message_id: MessageId
    file: str
    start: int
    end: int
    chosen: bytes | None = None  # header fields, which are no span of the message

    @property
    def size(self) -> int:
        return self.end - self.start

    def pieces(self) -> Iterator[bytes]:
        """Raises BadUrl if the message was expunged meanwhile."""
        if self.chosen is not None:
            yield self.chosen[self.start : self.end]
            return
        for at in range(self.start, self.end, _PIECE):
            try:
                yield self.messages.read_span(self.message_id, self.file, at, min(at + _PIECE, self.end))
            except Gone:
                raise BadUrl from None


def locate(place: Place, url: MessageUrl) -> Stored:
    r"""Where the octets stand; blocking. Sets no \Seen (RFC 4469 §3). Raises BadUrl."""
    if url.uidvalidity is not None and url.uidvalidity != place.mailbox.uidvalidity:
        raise BadUrl
    messages, asked = place.account.messages, url.section
    try:
        rows = messages.fetch_rows(place.mailbox.id, url.uid, url.uid, ("message_id", "file", "size", "parts"))
    except NotFound:
        rows = []
    if not rows:
        raise BadUrl
    message_id, file, size, parts = rows[0]
    span: ByteSpan | None = ByteSpan(0, size)
    if asked.part or asked.text:
        text = "HEADER" if asked.text.startswith("HEADER") else asked.text
        span = find_section(unpack_parts(parts), asked.part, text)  # type: ignore[arg-type]
    if span is None:
        raise BadUrl
    chosen = None
    start, end = span.start, span.end
    if asked.fields:
        try:
            header = messages.read_span(message_id, file, start, end)
        except Gone:
            raise BadUrl from None
        chosen = header_fields(header, frozenset(asked.fields), negate=asked.text == "HEADER.FIELDS.NOT")
        start, end = 0, len(chosen)
    if asked.partial is not None:
        start = min(start + asked.partial[0], end)
        end = min(start + asked.partial[1], end)
    return Stored(messages, message_id, file, start, end, chosen)
