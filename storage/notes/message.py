r"""The face of a note that Apple's Notes reads and writes: a message in the mailbox Notes.

A note message says `X-Uniform-Type-Identifier: com.apple.mail-note`. Its first line is its title, and the Subject says
it again, cut; `X-Universally-Unique-Identifier` is the note's for all its revisions. What a client appended keeps its
octets for as long as nobody edits the note elsewhere. Then a message without attachments is written anew, and of one
with attachments only the text, the Subject and the dates are: other fields and parts keep their octets, and what the
old text showed of them (objects, images) stands at the end of the new.

Reading never fails; a message whose text is longer than `TEXT_MAX` is no note here. Linear in time.
"""

from __future__ import annotations

import binascii
import re
import uuid
from dataclasses import dataclass, field
from email.header import Header as EncodedHeader
from email.utils import formatdate
from itertools import islice

from storage.mime.dates import parse_date
from storage.mime.decode import decode_words
from storage.mime.fields import Header, header_end, read_header
from storage.mime.message import Kind, Message, Part, read_message
from storage.mime.normalise import to_crlf
from storage.mime.text import part_text, walk
from storage.notes.markup import cleaned, is_readable, read_html, write_html

MAILBOX = "Notes"
TYPE = b"com.apple.mail-note"
TEXT_MAX = 1 << 20  # octets of a note's text, in either face
SUBJECT_MAX = 200  # characters
IDENTIFIER_MAX = 200

_TYPE_FIELD = b"x-uniform-type-identifier"
_UUID_FIELD = b"x-universally-unique-identifier"
_CREATED_FIELD = b"x-mail-created-date"
_REVISION_FIELD = b"x-cleanmail-note-revision"
_FROM = b"Notes <notes@notes.invalid>"  # nobody: an account does not know its address
_NAMESPACE = uuid.UUID("6f0d4c2e-52a4-4a3d-9a55-3f0f6d1f9c37")  # of UUIDs made of other identifiers
_EMBEDDED = re.compile(r"<(?:object|img|embed)\b[^<>]*+>", re.IGNORECASE)
_EMBEDDED_MAX = 100
_IDENTIFIER = re.compile(rf"[!-~]{{1,{IDENTIFIER_MAX}}}")


@dataclass(frozen=True, slots=True)
class NoteText:
    """What a note says: one line of title, and what follows it. `html` formats both."""

    title: str = field(repr=False)
    text: str = field(repr=False)
    html: str | None = field(default=None, repr=False)  # safe to show; None: nothing beyond what the text says

    @property
    def whole(self) -> str:
        """As Notes shows it: the title is the first line."""
        return f"{self.title}\n{self.text}" if self.title and self.text else self.title or self.text


@dataclass(frozen=True, slots=True)
class NoteMessage:
    """What was read of a note message."""

    identifier: str  # the note's; upper case where it is a UUID
    said: NoteText
    created: int | None  # Unix seconds
    has_attachments: bool


def is_note(data: bytes) -> bool:
    """Whether the octets of a message are those of a note; looks at the header alone, and only if it may be."""
    end = header_end(data, 0, len(data))
    if data.find(TYPE, 0, end) < 0:
        return False
    return _is_note(read_header(data, 0, end, most=1000))


def read_note(data: bytes) -> NoteMessage | None:
    """What a message says as a note; None: it is none."""
    if not is_note(data):
        return None
    message = read_message(data)
    body = _body(message)
    if body is not None and body.end - body.body_start > 3 * TEXT_MAX:  # quoted-printable may treble it
        return None
    said = _said(message, body)
    if said is None or len(said.whole.encode()) > TEXT_MAX:
        return None
    created = message.header.value(_CREATED_FIELD) or message.header.value(b"date")
    sent = parse_date(created) if created else None
    return NoteMessage(
        _identifier(message.header), said, sent.seconds if sent else None, _has_attachments(message, body)
    )


def identifier_of(uid: str) -> str:
    """The X-Universally-Unique-Identifier of a journal entry's UID: the same one if a header field can hold it."""
    try:
        return str(uuid.UUID(uid)).upper() if len(uid) == 36 else _own_identifier(uid)
    except ValueError:
        return _own_identifier(uid)


def made_here(identifier: str) -> bool:
    """Whether `identifier_of` may have made it of a UID that no header field can hold."""
    try:
        return len(identifier) == 36 and uuid.UUID(identifier).version == 5
    except ValueError:
        return False


def write_note(
    said: NoteText, identifier: str, revision: int, *, created: int, modified: int, before: bytes | None = None
) -> bytes:
    """The message of a revision; `before` are the octets of the message that it follows, if there is one."""
    fields = _fields(said, identifier, revision, created, modified)
    body = said.html if said.html is not None else write_html(said.whole)
    if before is not None:
        message = read_message(before)
        old = _body(message)
        if old is not None and old is not message.root and _has_attachments(message, old):
            return _with_text(message, old, said, body, fields)
    fields[b"Content-Type"] = b"text/html; charset=utf-8"
    fields[b"Content-Transfer-Encoding"] = b"quoted-printable"
    head = b"".join(b"%b: %b\r\n" % each for each in fields.items())
    return head + b"\r\n" + _encoded(f"<html><head></head><body>{body}</body></html>")


def renamed(data: bytes, identifier: str, title: str, revision: int) -> bytes:
    """The same message as a note of its own: another identifier, another Subject, all else as it is."""
    message = read_message(data)
    fields = {
        b"Subject": _subject(title),
        b"X-Universally-Unique-Identifier": identifier.encode("ascii"),
        b"X-Cleanmail-Note-Revision": b"%d" % revision,
        b"Message-Id": _message_id(identifier, revision),
    }
    return _new_header(message.header, fields) + data[message.header.end :]


def _is_note(header: Header) -> bool:
    value = header.value(_TYPE_FIELD)
    return value is not None and value.strip().lower() == TYPE


def _identifier(header: Header) -> str:
    """The note's; of a message without a usable one a number made of its Message-Id, or a new one."""
    said = (header.value(_UUID_FIELD) or b"").decode("latin-1").strip()
    if _IDENTIFIER.fullmatch(said):
        return identifier_of(said)
    message_id = header.value(b"message-id")
    if message_id:
        return str(uuid.uuid5(_NAMESPACE, message_id.decode("latin-1"))).upper()
    return str(uuid.uuid4()).upper()


def _own_identifier(uid: str) -> str:
    return uid if _IDENTIFIER.fullmatch(uid) else str(uuid.uuid5(_NAMESPACE, uid)).upper()


def _said(message: Message, body: Part | None) -> NoteText | None:
    """None: it is nothing that a person has written."""
    subject = _one_line(decode_words(message.header.value(b"subject") or b""))
    formatted = None
    whole = ""
    if body is not None:
        source = part_text(message.data, body, body.end - body.body_start)
        if body.subtype == b"html":
            if not is_readable(source, 2 * TEXT_MAX):
                return None
            whole, formatted = read_html(source)
        else:
            whole = source.rstrip("\r\n")
    whole = cleaned(whole).lstrip("\n")
    first, _, rest = whole.partition("\n")
    shown = _one_line(first)
    if not shown:
        return NoteText(subject, whole, formatted)
    if not subject or shown == subject or shown.startswith(subject.rstrip("\u2026. ") or shown):
        return NoteText(first, rest, formatted)
    return NoteText(subject, whole, formatted)


def _one_line(text: str) -> str:
    return " ".join(cleaned(text).split())


def _body(message: Message) -> Part | None:
    """The part that is the note's text: the first HTML, else the first plain text."""
    plain = None
    for part in walk(message.root):
        if part.kind is not Kind.LEAF or part.media_type != b"text" or part.disposition == b"attachment":
            continue
        if part.subtype == b"html":
            return part
        if part.subtype == b"plain" and plain is None:
            plain = part
    return plain


def _has_attachments(message: Message, body: Part | None) -> bool:
    """Whether anything stands beside the text and its other form."""
    leaves = [part for part in walk(message.root) if part.kind is Kind.LEAF and part is not body]
    return any(part.media_type != b"text" or part.disposition == b"attachment" for part in leaves)


def _fields(said: NoteText, identifier: str, revision: int, created: int, modified: int) -> dict[bytes, bytes]:
    first = said.title or next((line for line in said.text.split("\n") if line.strip()), "")
    return {
        b"From": _FROM,
        b"X-Uniform-Type-Identifier": TYPE,
        b"Mime-Version": b"1.0",
        b"Date": formatdate(modified).encode("ascii"),
        b"X-Mail-Created-Date": formatdate(created).encode("ascii"),
        b"X-Universally-Unique-Identifier": identifier.encode("ascii"),
        b"X-Cleanmail-Note-Revision": b"%d" % revision,
        b"Message-Id": _message_id(identifier, revision),
        b"Subject": _subject(first),
    }


def _message_id(identifier: str, revision: int) -> bytes:
    """A new one for each revision, that no client can guess to be another's."""
    return f"<{uuid.uuid5(_NAMESPACE, f'{identifier} {revision}')}@notes.invalid>".encode("ascii")


def _subject(title: str) -> bytes:
    text = _one_line(title)[:SUBJECT_MAX]
    if text.isascii() and text.isprintable() and len(text) <= 70 and "=?" not in text:
        return text.encode("ascii")
    return EncodedHeader(text, "utf-8", maxlinelen=70).encode(linesep="\r\n").encode("ascii")


def _encoded(text: str) -> bytes:
    octets = to_crlf(text.encode("utf-8"))
    return to_crlf(binascii.b2a_qp(octets, istext=True).replace(b"\r\r", b"\r")) + b"\r\n"


def _with_text(message: Message, html: Part, said: NoteText, body: str, fields: dict[bytes, bytes]) -> bytes:
    """A message with attachments with another text; everything else of it keeps its octets."""
    data = message.data
    source = part_text(data, html, html.end - html.body_start) if html.subtype == b"html" else ""
    found = (match[0] for match in _EMBEDDED.finditer(source))
    shown = list(islice((each for each in found if "cid:" in each.lower()), _EMBEDDED_MAX))
    body += "".join(f"<div>{each}{'</object>' if each[:7].lower() == '<object' else ''}</div>" for each in shown)
    html_part = (
        b"Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        + _encoded(f"<html><head></head><body>{body}</body></html>").removesuffix(b"\r\n")
    )
    plain_part = (
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        + _encoded(said.whole).removesuffix(b"\r\n")
    )
    pieces = [_new_header(message.header, fields)]
    at = message.header.end
    for part in walk(message.root):
        if part is html:
            new = html_part
        elif part.kind is Kind.LEAF and (part.media_type, part.subtype) == (b"text", b"plain") and not part.disposition:
            new = plain_part
        else:
            continue
        pieces += (data[at : part.start], new)
        at = part.end
    return b"".join((*pieces, data[at:]))


def _new_header(header: Header, fields: dict[bytes, bytes]) -> bytes:
    """The header with these fields in the places of the old ones; those that it had not come last."""
    left = {name.lower(): (name, value) for name, value in fields.items() if name != b"From"}
    if header.first(b"from") is None and b"From" in fields:
        left[b"from"] = (b"From", fields[b"From"])
    names = frozenset(left)
    pieces: list[bytes] = []
    for each in header.fields:
        if each.name not in names:
            pieces.append(header.data[each.start : each.end])
        elif each.name in left:
            pieces.append(b"%b: %b\r\n" % left.pop(each.name))
    pieces += [b"%b: %b\r\n" % each for each in left.values()]
    return b"".join(pieces) + b"\r\n"
