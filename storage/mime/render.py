"""ENVELOPE, BODYSTRUCTURE and BODY as IMAP writes them.

A string goes out quoted when it can, else as a literal: 8-bit octets, CR and LF never stand in quotes. NUL, which
IMAP has no way to write, becomes the octet 0x80. Header values are unfolded and otherwise as they are in the
message: encoded words stay encoded. An address without a domain gets the host MISSING_DOMAIN, since NIL there begins
a group, and one without a local part MISSING_MAILBOX (what Dovecot answers).

Never fails; the recursion is as deep as `storage.mime.message.DEPTH_MAX` at most.
Standards: RFC 9051 §7.5.2 and §4.3, RFC 3501 §7.4.2.
"""

from __future__ import annotations

import re
from itertools import takewhile
from typing import Union

from storage.mime.addresses import Address, parse_addresses
from storage.mime.fields import Header
from storage.mime.message import Kind, Message, Part
from storage.mime.parameters import Parameters

_NEEDS_CARE = re.compile(rb'[\x00\r\n"\\\x80-\xff]')
_NEEDS_LITERAL = re.compile(rb"[\x00\r\n\x80-\xff]")
_DEFAULT_CHARSET = ((b"charset", b"us-ascii"),)
_BLANKS = re.compile(rb"[ \t]{2,}|\t")

# A multipart must have a part (RFC 9051 §9, body-type-mpart); where mail has none, an empty text stands for it.
_NO_PARTS = b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0)'
_NO_PARTS_EXTENDED = b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0 NIL NIL NIL NIL)'


def quoted(value: bytes | None) -> bytes:
    """`value` as an nstring: NIL, "quoted" or a literal."""
    if value is None:
        return b"NIL"
    if not _NEEDS_CARE.search(value):
        return b'"%b"' % value
    if _NEEDS_LITERAL.search(value):
        return b"{%d}\r\n%b" % (len(value), value.replace(b"\0", b"\x80"))
    return b'"%b"' % value.replace(b"\\", b"\\\\").replace(b'"', b'\\"')


def envelope(message: Message) -> bytes:
    """The ENVELOPE of the message itself."""
    return envelope_of(message.header)


def envelope_of(header: Header) -> bytes:
    """The ENVELOPE of a message with this header."""
    sender_of_all = _addresses(header, b"from")
    subject = header.value(b"subject")
    fields = (
        quoted(header.value(b"date")),
        quoted(None if subject is None else _one_line(subject)),
        sender_of_all,
        _addresses(header, b"sender", sender_of_all),  # RFC 9051 §7.5.2: from, if absent
        _addresses(header, b"reply-to", sender_of_all),
        _addresses(header, b"to"),
        _addresses(header, b"cc"),
        _addresses(header, b"bcc"),
        quoted(header.value(b"in-reply-to")),
        quoted(header.value(b"message-id")),
    )
    return b"(%b)" % b" ".join(fields)


def body_structure(root: Part) -> bytes:
    """The BODYSTRUCTURE of a part and all below it."""
    return _structure(root, extended=True)


def body(root: Part) -> bytes:
    """The BODY of a part and all below it: BODYSTRUCTURE without extension data."""
    return _structure(root, extended=False)


def _one_line(value: bytes) -> bytes:
    """Text for people: a tab or a run of blanks, as folding leaves them, is one space."""
    return _BLANKS.sub(b" ", value) if b"\t" in value or b"  " in value else value


def _addresses(header: Header, name: bytes, absent: bytes = b"NIL") -> bytes:
    """The addresses of a field; several fields are one list (RFC 5322 §4.5.3)."""
    addresses = parse_addresses(header.joined(name))
    return b"(%b)" % b"".join([_address(address) for address in addresses]) if addresses else absent


def _address(address: Address) -> bytes:
    name, route, mailbox, host = address
    return b"(%b %b %b %b)" % (
        quoted(None if name is None else _one_line(name)),
        quoted(route),
        quoted(mailbox),
        quoted(host),
    )


def _structure(part: Part, *, extended: bool) -> bytes:
    if part.kind is Kind.MULTIPART:
        return _multipart(part, extended=extended)
    params = part.params
    if part.media_type == b"text" and part.param(b"charset") is None:
        params = params + _DEFAULT_CHARSET  # RFC 2045 §5.2
    pieces = [
        quoted(part.media_type),
        quoted(part.subtype),
        _parameters(params),
        quoted(part.content_id),
        quoted(part.description),
        quoted(part.encoding),
        b"%d" % (part.end - part.body_start),
    ]
    if part.kind is Kind.MESSAGE and part.embedded is not None and part.embedded.fields is not None:
        pieces.append(envelope_of(part.embedded.fields))
        pieces.append(_structure(part.embedded, extended=extended))
        pieces.append(b"%d" % part.lines)
    elif part.media_type == b"text":
        pieces.append(b"%d" % part.lines)
    if extended:
        pieces.append(quoted(part.md5))
        pieces.append(_extension(part))
    return b"(%b)" % b" ".join(pieces)


def _multipart(part: Part, *, extended: bool) -> bytes:
    if part.children:
        children = b"".join([_structure(child, extended=extended) for child in part.children])
    else:
        children = _NO_PARTS_EXTENDED if extended else _NO_PARTS
    if not extended:
        return b"(%b %b)" % (children, quoted(part.subtype))
    return b"(%b %b %b %b)" % (children, quoted(part.subtype), _parameters(part.params), _extension(part))


def _extension(part: Part) -> bytes:
    """Disposition, language, location: what single parts and multiparts end with."""
    disposition = b"NIL"
    if part.disposition is not None:
        disposition = b"(%b %b)" % (quoted(part.disposition), _parameters(part.disposition_params))
    language = b"NIL"
    if part.language:
        language = b"(%b)" % b" ".join([quoted(tag) for tag in part.language])
    return b"%b %b %b" % (disposition, language, quoted(part.location))


def _parameters(params: Parameters) -> bytes:
    if not params:
        return b"NIL"
    return b"(%b)" % b" ".join([b"%b %b" % (quoted(name), quoted(value)) for name, value in params])


_TOKEN = re.compile(rb'[()]|"(?:[^"\\]|\\.)*+"|\{(\d+)\}\r\n|[^ ()"{]++', re.DOTALL)

_Tree = list[Union[bytes, "_Tree"]]


def body_of(structure: bytes) -> bytes:
    """The BODY that belongs to a BODYSTRUCTURE of ours, so that the message need not be read again."""
    lists: list[_Tree] = [[]]
    position = 0
    while (token := _TOKEN.search(structure, position)) is not None:
        position = token.end()
        if token[1] is not None:
            position += int(token[1])
        text = structure[token.start() : position]
        if text == b"(":
            lists.append([])
        elif text == b")":
            closed = lists.pop()
            lists[-1].append(closed)
        else:
            lists[-1].append(text)
    return _without_extension(lists[0][0])


def _without_extension(tree: bytes | _Tree) -> bytes:
    """A body as BODY has it: extension data begins after the subtype, the size or the lines (RFC 9051 §9, body)."""
    assert not isinstance(tree, bytes)
    children = list(takewhile(lambda item: isinstance(item, list), tree))
    if children:
        return b"(%b %b)" % (b"".join([_without_extension(child) for child in children]), _flat(tree[len(children)]))
    if tree[0] == b'"message"' and isinstance(tree[7], list):
        return b"(%b %b %b)" % (_items(tree[:8]), _without_extension(tree[8]), _flat(tree[9]))
    return b"(%b)" % _items(tree[: 8 if tree[0] == b'"text"' else 7])


def _flat(item: bytes | _Tree) -> bytes:
    return item if isinstance(item, bytes) else b"(%b)" % _items(item)


def _items(items: _Tree) -> bytes:
    """Addresses stand in their list without spaces, everything else with one between (RFC 9051 §9, env-from)."""
    between = b"" if items and isinstance(items[0], list) else b" "
    return between.join([_flat(item) for item in items])
