"""The arguments of APPEND and REPLACE: mailbox, and for each message flags, date and octets.

Standards: RFC 9051 §9, RFC 3502 (several messages), RFC 3516 §7 (literal8), RFC 4466 §2.3 (append-message), RFC 4469 §5
(CATENATE), RFC 6855 §4 (UTF8, as a message and as a part), RFC 8508 §5.
"""

from __future__ import annotations

from typing import Final

from hosting.imap.commands import STAR, Flags
from hosting.imap.cursor import Cursor, Malformed
from hosting.imap.storing.append_commands import Append, Replace, Text, Upload, Url

_LITERAL: Final = (b"{", b"~")
MOST_PARTS: Final = 1000  # of one command; a literal by itself is one. Somewhat more may be parsed, to be refused


def append(cursor: Cursor, utf8: bool) -> Append:
    cursor.space()
    mailbox = cursor.mailbox(utf8)
    messages = [_upload(cursor)]
    while cursor.peek() == b" " and cursor.text[cursor.at + 1 : cursor.at + 2] not in (b"", b" "):
        messages.append(_upload(cursor))
        if len(messages) > MOST_PARTS:
            cursor.at = len(cursor.text)  # refused anyway
    return Append(mailbox, tuple(messages))


def replace(cursor: Cursor, utf8: bool, by_uid: bool) -> Replace:
    cursor.space()
    number = STAR if cursor.accept(b"*") else cursor.number()
    if number == 0 and cursor.text[cursor.at - 1 : cursor.at] != b"*":
        raise Malformed("Expected the number of a message.")
    cursor.space()
    mailbox = cursor.mailbox(utf8)
    return Replace(number, mailbox, _upload(cursor), by_uid)


def _upload(cursor: Cursor) -> Upload:
    cursor.space()
    flags, internal_date, zone = Flags(), None, 0
    if cursor.peek() == b"(":
        flags = cursor.flags()
        cursor.space()
    if cursor.peek() == b'"':
        internal_date, zone = cursor.date_time()
        cursor.space()
    if cursor.peek() in _LITERAL:
        return Upload((_text(cursor),), flags, internal_date, zone)
    word = cursor.word()
    if word == "UTF8":
        return Upload((_utf8(cursor),), flags, internal_date, zone)
    if word == "CATENATE":
        return Upload(_parts(cursor), flags, internal_date, zone, catenated=True)
    raise Malformed("Expected a literal.")


def _text(cursor: Cursor) -> Text:
    binary = cursor.peek() == b"~"
    return Text(cursor.literal(octets=True), binary)


def _utf8(cursor: Cursor) -> Text:
    cursor.expect(b" (")
    text = _text(cursor)
    cursor.expect(b")")
    return text


def _parts(cursor: Cursor) -> tuple[Text | Url, ...]:
    cursor.expect(b" (")
    parts: list[Text | Url] = []
    while True:
        word = cursor.word()
        if word == "UTF8":
            parts.append(_utf8(cursor))
        elif word == "TEXT":
            cursor.space()
            parts.append(_text(cursor))
        elif word == "URL":
            cursor.space()
            parts.append(Url(cursor.astring()))
        else:
            raise Malformed("Unknown part of CATENATE.")
        if cursor.accept(b")"):
            return tuple(parts)
        cursor.space()
        if len(parts) >= MOST_PARTS:
            raise Malformed("The message has too many parts.")
