"""What is remarkable about a header. Pure; linear in the header's size.

Standards: RFC 5322 §3.6 (which fields, and how often), RFC 6532 (8 bits), RFC 2919 and RFC 2369 (lists), RFC 3834
(automatic answers).
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from gateway.content_facts.findings import Finding
from storage.mime.addresses import Address, parse_addresses
from storage.mime.dates import parse_date
from storage.mime.decode import decode_unknown, decode_words
from storage.mime.fields import Field, Header

FUTURE = 86_400  # seconds that a date may be ahead
PAST = 14 * 86_400  # seconds that it may be behind: a queue keeps mail for five days, people keep laptops closed
FIELDS_MAX = 5_000  # that are looked at one by one
VALUE_MAX = 16 * 1024  # octets of a value

_ONCE = (  # From has a finding of its own
    b"sender reply-to to cc bcc message-id in-reply-to references subject date mime-version content-type"
    b" content-transfer-encoding content-disposition"
).split()
_LIST = (b"list-id", b"list-post", b"mailing-list", b"x-mailing-list", b"x-beenthere")
_BULK = (b"list-unsubscribe", b"feedback-id", b"x-csa-complaints")

_CONTROLS = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_FIELD_NAME = re.compile(rb"[\x21-\x39\x3b-\x7e]++\Z")
_MESSAGE_ID = re.compile(rb"<[^<>\s@]{1,500}@[^<>\s@]{1,500}>(?:\s*\([^()]*\))?\Z")
_ADDRESS = re.compile(r"[^\s@<>\"'(),;:]{1,64}@([A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,8}\.[A-Za-z]{2,24})")
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u115f\u1160\u180e\u200b\u202a\u202b\u202d\u202e\u2060-\u2064\ufeff\U000e0000-\U000e007f]"
)
_REPLY = re.compile(r"(?:re|aw|sv|antw|vs|ref|odp)\s*(?:\[\d+\])?\s*[:：]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class HeaderFacts:
    findings: frozenset[Finding]
    is_list: bool
    is_bulk: bool
    is_automatic: bool


def check_header(header: Header, now: int | None, *, smtputf8: bool) -> HeaderFacts:
    """`now`: when the message came, None where that is not known and its date is not judged."""
    fields = header.fields[:FIELDS_MAX]
    if fields and fields[0].name.startswith((b"from ", b">from ")):
        del fields[0]  # the separator of mailbox files, which some programs leave in a message that they pass on
    counts = Counter([field.name for field in fields])
    found: set[Finding] = set()
    _check_form(header, fields, counts, found, smtputf8=smtputf8)
    _check_author(header, counts, found)
    _check_time_and_identity(header, counts, found, now)
    _check_subject(header, counts, found)
    precedence = (header.value(b"precedence") or b"").lower()
    automatic = (header.value(b"auto-submitted") or b"no").lower()
    is_list = precedence == b"list" or any(name in counts for name in _LIST)
    return HeaderFacts(
        frozenset(found),
        is_list,
        is_list or precedence in (b"bulk", b"junk") or any(name in counts for name in _BULK),
        not automatic.startswith(b"no")
        or precedence == b"auto_reply"
        or b"x-autoreply" in counts
        or b"x-autorespond" in counts,
    )


def _check_form(
    header: Header, fields: list[Field], counts: Counter[bytes], found: set[Finding], *, smtputf8: bool
) -> None:
    octets = header.data[header.start : header.end]
    if _CONTROLS.search(octets):
        found.add(Finding.CONTROLS_IN_HEADER)
    if not smtputf8 and not octets.isascii():
        found.add(Finding.EIGHT_BIT_HEADER)
    if any(counts[name] > 1 for name in _ONCE):
        found.add(Finding.DUPLICATE_FIELD)
    if not all(map(_FIELD_NAME.match, counts)):
        found.add(Finding.MALFORMED_FIELD)
    data = header.data
    for field in fields:
        if field.end - field.start > 998 and any(
            len(line) > 999
            for line in data[field.start : field.end].split(b"\n")  # and its CR
        ):
            found.add(Finding.LONG_LINE_IN_HEADER)
        elif data[field.value - 1 : field.value] != b":":
            found.add(Finding.MALFORMED_FIELD)


def _check_author(header: Header, counts: Counter[bytes], found: set[Finding]) -> None:
    if b"from" not in counts:
        found.add(Finding.NO_FROM)
        return
    if counts[b"from"] > 1:
        found.add(Finding.SEVERAL_FROM)
    authors = [address for address in _addresses(header, b"from") if address.host is not None]
    known = [author for author in authors if _domain(author)]
    if not known:
        found.add(Finding.FROM_UNREADABLE)
        return
    if len(authors) > 1 and b"sender" not in counts:
        found.add(Finding.SEVERAL_AUTHORS)
    for author in known:
        _check_name(author, found)
    if b"reply-to" in counts:
        domains = {_domain(author) for author in known}
        answers = {_domain(address) for address in _addresses(header, b"reply-to")} - {""}
        if answers and not any(_related(answer, domain) for answer in answers for domain in domains):
            found.add(Finding.REPLY_TO_OTHER_DOMAIN)


def _check_name(author: Address, found: set[Finding]) -> None:
    """The display name, which many programs show instead of the address."""
    if not author.name:
        return
    name = decode_words(author.name)
    if not name.isascii() and _INVISIBLE.search(name):
        found.add(Finding.FROM_NAME_HIDDEN)
    if "@" in name or "＠" in name:
        shown = _ADDRESS.search(name.replace("＠", "@"))
        if shown and not _related(shown[1].lower(), _domain(author)):
            found.add(Finding.FROM_NAME_IS_OTHER_ADDRESS)


def _check_time_and_identity(header: Header, counts: Counter[bytes], found: set[Finding], now: int | None) -> None:
    if b"date" not in counts:
        found.add(Finding.NO_DATE)
    else:
        sent = parse_date(header.value(b"date") or b"")
        if sent is None:
            found.add(Finding.DATE_UNREADABLE)
        elif now is not None and sent.seconds > now + FUTURE:
            found.add(Finding.DATE_IN_FUTURE)
        elif now is not None and sent.seconds < now - PAST:
            found.add(Finding.DATE_IN_PAST)
    if b"message-id" not in counts:
        found.add(Finding.NO_MESSAGE_ID)
    elif not _MESSAGE_ID.match((header.value(b"message-id") or b"")[:VALUE_MAX]):
        found.add(Finding.MESSAGE_ID_MALFORMED)
    if not any((header.value(name) or b"") for name in (b"to", b"cc", b"bcc")):
        found.add(Finding.NO_RECIPIENTS)
    if b"mime-version" not in counts and (b"content-type" in counts or b"content-transfer-encoding" in counts):
        found.add(Finding.NO_MIME_VERSION)


def _check_subject(header: Header, counts: Counter[bytes], found: set[Finding]) -> None:
    raw = (header.value(b"subject") or b"")[:VALUE_MAX]
    if not raw:
        found.add(Finding.NO_SUBJECT)
        return
    subject = decode_words(raw)
    if not subject.isascii():
        if _INVISIBLE.search(subject):
            found.add(Finding.SUBJECT_HIDDEN)
    elif b"?b?" in raw.lower() and b"=?" in raw and "=?" not in subject:
        found.add(Finding.SUBJECT_ENCODED_NEEDLESSLY)
    if subject.isupper() and sum(map(str.isalpha, subject)) >= 10:
        found.add(Finding.SUBJECT_SHOUTS)
    if _REPLY.match(subject) and b"in-reply-to" not in counts and b"references" not in counts:
        found.add(Finding.REPLY_WITHOUT_REFERENCE)


def _addresses(header: Header, name: bytes) -> list[Address]:
    return parse_addresses((header.value(name) or b"")[:VALUE_MAX], limit=100)


def _domain(address: Address) -> str:
    """In lower case; "" where there is none."""
    if address.host is None or not address.mailbox or address.host in (b"MISSING_DOMAIN", b"SYNTAX_ERROR"):
        return ""
    return decode_unknown(address.host).lower().rstrip(".")


def _related(one: str, other: str) -> bool:
    """Whether they are of one organisation, as far as names tell without a list of public suffixes."""
    return (
        one == other
        or one.endswith("." + other)
        or other.endswith("." + one)
        or organisation(one) == organisation(other)
    )


_SECOND_LEVEL = frozenset({"co", "com", "org", "net", "ac", "gov", "edu", "or", "ne", "go", "gob", "gv"})


def organisation(domain: str) -> str:
    """The registered domain, as nearly always: two labels, three below "co.uk" and its like."""
    labels = domain.split(".")
    many = 3 if len(labels) > 2 and len(labels[-1]) == 2 and labels[-2] in _SECOND_LEVEL else 2
    return ".".join(labels[-many:])
