"""The text of a message: what SEARCH looks through and what PREVIEW shows.

Text parts are decoded from transfer encoding and charset; other parts give nothing but their names. HTML is searched
as its source. Everything for searching is casemapped (`casemap`), so that substring search on it is caseless.

Never fails; linear time; at most `limit` octets of text parts are decoded, from the start of the message.
Standards: RFC 9051 §6.4.4 (BODY, TEXT, HEADER and address keys), RFC 8970 (PREVIEW).
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass

from storage.mime.addresses import parse_addresses
from storage.mime.casemap import casemap
from storage.mime.decode import decode_charset, decode_parameter, decode_unknown, decode_words
from storage.mime.fields import Header
from storage.mime.message import Kind, Message, Part
from storage.mime.transfer import decode_transfer, is_known

SEARCHED_MAX = 8 << 20  # octets of text parts
FIELD_MAX = 1 << 18  # octets of the fields of one name
HEADER_MAX = 1 << 20  # octets of a header
PREVIEW_MAX = 200  # characters: RFC 8970 §3.2
_PREVIEW_READ = (24 << 10, 256 << 10)  # octets of a text part that a preview is made from; more if they show nothing

_FOLD = re.compile(rb"\r?\n(?=[ \t])")
_PREVIEW_ENOUGH = 1000  # characters that nearly always make PREVIEW_MAX visible ones
_BLANK = re.compile(r"[\s\u00ad\u034f\u200b-\u200f\u2060\ufeff\u0000-\u001f\u007f]+")  # and what shows as nothing
# Each of the two takes all there is when its end is missing, so that no octet is looked at twice.
_NO_TEXT = re.compile(r"<(script|style|title)\b(?:[^<]++|<(?!/\1))*+|<!--(?:[^-]++|-(?!->))*+(?:-->)?", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*+>?")


@dataclass(frozen=True, slots=True)
class SearchText:
    """The decoded, casemapped texts of a message that the search keys look through."""

    subject: str
    from_: str
    to_: str
    cc: str
    bcc: str
    headers: str  # all fields of the message's header, "NAME: VALUE" line by line; after an empty line those of parts
    body: str  # text parts


def decoded_field(header: Header, name: bytes) -> str:
    """The decoded values of all fields called `name`, as written, with a comma between them."""
    return decode_words(header.joined(name)[:FIELD_MAX])


def address_field(header: Header, name: bytes) -> str:
    """And the addresses themselves, where comments stand within them: "joe (work) @ example.org" is joe@example.org."""
    text = decoded_field(header, name)
    if "(" not in text:
        return text
    found = [address for value in header.values(name) for address in parse_addresses(value[:FIELD_MAX])]
    plain = [decode_unknown(each.mailbox + b"@" + each.host) for each in found if each.mailbox and each.host]
    return "\n".join([text, *[address for address in plain if address not in text]])


def search_text(message: Message, limit: int = SEARCHED_MAX) -> SearchText:
    """What the search index takes in of a message."""
    header = message.header
    headers, inner = _header_text(header.data, header.start, header.end), _inner_headers(message)
    return SearchText(
        subject=casemap(decoded_field(header, b"subject")),
        from_=casemap(address_field(header, b"from")),
        to_=casemap(address_field(header, b"to")),
        cc=casemap(address_field(header, b"cc")),
        bcc=casemap(address_field(header, b"bcc")),
        headers=casemap(f"{headers.rstrip()}\n\n{inner}" if inner else headers),
        body=casemap("\n".join(_body_texts(message, limit))),
    )


def _header_text(data: bytes, start: int, end: int) -> str:
    """A header as decoded lines."""
    octets = data[start : min(end, start + HEADER_MAX)]
    octets = _FOLD.sub(b"", octets).replace(b"\r\n", b"\n")
    if b"=?" not in octets:
        return decode_unknown(octets)
    return "\n".join([decode_words(line) for line in octets.split(b"\n")])


def _inner_headers(message: Message) -> str:
    """What TEXT finds and BODY does not (RFC 9051 §6.4.4): the fields of parts and of embedded messages."""
    texts: list[str] = []
    room = HEADER_MAX
    for part in walk(message.root):
        if part is not message.root and room > 0 and part.body_start > part.start:
            texts.append(_header_text(message.data, part.start, min(part.body_start, part.start + room)).strip())
            room -= part.body_start - part.start
        if names := _names(part):
            texts.append(names)
    return "\n".join(filter(None, texts))


def _body_texts(message: Message, limit: int) -> Iterator[str]:
    """The texts of the parts in order."""
    for part in walk(message.root):
        if part.kind is Kind.LEAF and part.media_type == b"text" and limit > 0:
            yield part_text(message.data, part, limit)
            limit -= part.end - part.body_start


def walk(root: Part) -> Iterator[Part]:
    """`root` and all below it, in the order of the message."""
    todo = [root]
    while todo:
        part = todo.pop()
        yield part
        todo.extend([part.embedded] if part.embedded is not None else reversed(part.children))


def _names(part: Part) -> str:
    """The file names of a part and its description."""
    texts = [
        decode_parameter(name, value)
        for name, value in (*part.params, *part.disposition_params)
        if name.startswith((b"name", b"filename"))
    ]
    if part.description:
        texts.append(decode_words(part.description))
    return "\n".join(dict.fromkeys(texts))


def part_text(data: bytes, part: Part, limit: int) -> str:
    """The text of at most the first `limit` octets of a text part."""
    octets = data[part.body_start : min(part.end, part.body_start + limit)]
    if is_known(part.encoding):
        octets = decode_transfer(octets, part.encoding)
    return decode_charset(octets, part.param(b"charset") or b"us-ascii")


def preview(message: Message) -> str:
    """The first `PREVIEW_MAX` characters that a person wrote, on one line; "" when there is no text."""
    part = _readable(message.root)
    shown = ""
    if part is not None:
        for limit in _PREVIEW_READ:
            shown = _shown(part_text(message.data, part, limit), is_html=part.subtype == b"html")
            if shown or part.end - part.body_start <= limit:
                break
    return shown


def _shown(text: str, *, is_html: bool) -> str:
    """What a reader would see first of `text`."""
    if is_html:
        text = html.unescape(_TAG.sub(" ", _NO_TEXT.sub(" ", text)))
    elif "\n>" in text or text.startswith(">"):
        text = _without_quotes(text)
    shown = _BLANK.sub(" ", text[:_PREVIEW_ENOUGH]).strip()
    if len(shown) < PREVIEW_MAX and len(text) > _PREVIEW_ENOUGH:  # invisible padding, as advertisers like it
        shown = _BLANK.sub(" ", text).strip()
    return shown[:PREVIEW_MAX].rstrip()


def _readable(root: Part) -> Part | None:
    """The part to preview: the first plain text that is no attachment, else the first HTML."""
    first_html = None
    for part in walk(root):
        if part.kind is not Kind.LEAF or part.media_type != b"text" or part.disposition == b"attachment":
            continue
        if part.subtype != b"html":
            if part.end > part.body_start:
                return part
        elif first_html is None:
            first_html = part
    return first_html


def _without_quotes(text: str) -> str:
    """Without quoted lines, if anything is left then."""
    own = [line for line in text.split("\n") if not line.startswith(">")]
    kept = "\n".join(own)
    return kept if kept.strip() else text
