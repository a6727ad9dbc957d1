"""An IMAP server that mail is taken from: the few commands that a move needs, with typed answers.

Nothing is changed there: mailboxes are opened with EXAMINE and bodies read with PEEK. Nothing that the server sends is
believed: an answer that makes no sense ends the connection (ServerLost), what was not asked for is passed over, numbers
are bounded, and what came before a connection broke is not lost (`Bodies.octets`).

Raises: ServerLost (connect again), Refused (it said NO), AuthenticationFailed, InvalidInput (name,
certificate).
Standards: RFC 9051 and RFC 3501, RFC 2342, RFC 4959, RFC 5161, RFC 5258, RFC 6154, RFC 6855, RFC 7162, RFC 8457.
"""

from __future__ import annotations

import imaplib
from array import array
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import date
from types import NoneType
from typing import Any, cast

from imapclient.response_parser import parse_response

from hosting.imap import utf7
from hosting.migration.answers import (
    Attributes,
    Bodies,
    Listed,
    Namespaces,
    Opened,
    Refused,
    fetched,
    octets_of,
    responses,
    seconds_of,
    tags_of,
    zone_of,
)
from hosting.migration.connecting import connect, guarded, sign_in
from hosting.migration.source import Login, Source
from hosting.migration.wire import BoundedClient, ServerLost
from storage.errors import InvalidInput
from storage.mail.moving_values import Tags
from storage.values import UID_MAX, UidSet

FOLDERS_MAX = 10_000
MESSAGES_MAX = 5_000_000  # of one folder
MESSAGE_OCTETS_MAX = 256 * 1024 * 1024
CHUNK = 4 * 1024 * 1024
_LIST_MAX = 16 * 1024 * 1024
_ROW = 4096  # octets that the flags, size and date of a message may take
_SLACK = 1024 * 1024

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Server:
    """One connection, signed in."""

    def __init__(self, client: BoundedClient) -> None:
        self._client = client
        self._wire = client.wire
        self._utf8 = False
        self._selected = 0  # UIDVALIDITY
        self._asked: dict[bytes, set[int]] = {}  # bodies that were asked for and not received, by tag
        self._early: dict[int, Any] = {}  # of those, what came before its turn (RFC 9051 §5.5: in any order)

    @classmethod
    def connect(cls, source: Source, login: Login) -> Server:
        with guarded():
            client = connect(source)
        try:
            with guarded():
                sign_in(client, source, login)
                server = cls(client)
                server._prepare()
        except BaseException:
            with suppress(OSError):
                client.shutdown()
            raise
        return server

    def close(self) -> None:
        """Say goodbye if that is possible."""
        with suppress(ServerLost, Refused), guarded():
            self._wire.reader.allow(_SLACK)
            self._client.logout()
        with suppress(OSError):
            self._wire.shutdown()

    def abandon(self) -> None:
        """Without a word."""
        with suppress(OSError):
            self._wire.shutdown()

    def _prepare(self) -> None:
        """Names and headers in UTF-8 as they are stored, and CONDSTORE, where the server has them."""
        if self._client.has_capability("ID"):  # some give nothing to whom they do not know
            with suppress(imaplib.IMAP4.error):
                self._client.id_({"name": "cleanmail"})
        if not self._client.has_capability("ENABLE"):
            return
        for name in ("CONDSTORE", "UTF8=ACCEPT"):
            if self._client.has_capability(name):
                try:
                    self._wire.enable(name)
                except imaplib.IMAP4.abort:
                    raise
                except imaplib.IMAP4.error:
                    continue
                self._utf8 = self._utf8 or name == "UTF8=ACCEPT"

    # Folders

    def namespaces(self) -> Namespaces | None:
        """None: the server does not tell."""
        if not self._client.has_capability("NAMESPACE"):
            return None
        with guarded():
            self._wire.reader.allow(_SLACK)
            try:
                found = self._client.namespace()
            except imaplib.IMAP4.abort:
                raise
            except (imaplib.IMAP4.error, ValueError, TypeError):
                return None
            prefixes = [tuple(self._decoded(octets_of(each[0])) for each in kind or ()) for kind in found]
        if not prefixes[0]:
            return None
        return Namespaces(prefixes[0], prefixes[1] + prefixes[2])

    def folders(self) -> list[Listed]:
        """All mailboxes that it shows. Raises Refused if there are more than can be meant."""
        extended = self._client.has_capability("LIST-EXTENDED")
        wanted = ["SUBSCRIBED", *(["SPECIAL-USE"] if self._client.has_capability("SPECIAL-USE") else [])]
        with guarded():
            try:
                if not extended:
                    raise Refused("")
                return self._listed("LIST", f"RETURN ({' '.join(wanted)})", None)
            except Refused as refused:
                if refused.said:
                    raise
            subscribed = {each.raw for each in self._listed("LSUB", None, None)}
            return self._listed("LIST", None, subscribed)

    def _listed(self, command: str, extra: str | None, subscribed: Collection[bytes] | None) -> list[Listed]:
        self._wire.reader.allow(_LIST_MAX)
        self._wire.untagged_responses.clear()
        try:
            kind, _ = self._wire._simple_command(command, '""', '"*"', *([extra] if extra else []))
        except imaplib.IMAP4.abort:
            raise
        except imaplib.IMAP4.error:
            kind = "BAD"
        if kind != "OK":
            if command == "LSUB":
                return []
            raise Refused("" if extra else "It does not list its folders.")
        found: dict[bytes, Listed] = {}
        for each in responses(self._wire.untagged_responses.pop(command, [])):
            one = self._one_listed(each, subscribed)
            if one is not None:
                found.setdefault(one.raw, one)
            if len(found) > FOLDERS_MAX:
                raise Refused(f"It shows more than {FOLDERS_MAX} folders.")
        return list(found.values())

    def _one_listed(self, response: list[Any], subscribed: Collection[bytes] | None) -> Listed | None:
        try:
            flags, delimiter, raw, *_ = parse_response(response)
        except (imaplib.IMAP4.error, ValueError, TypeError, RecursionError):
            return None
        if not isinstance(flags, tuple) or raw is None or isinstance(raw, tuple):
            return None
        raw = octets_of(raw)
        if not raw:
            return None
        attributes = frozenset(octets_of(flag).decode("ascii", "replace").lower() for flag in flags if flag is not None)
        separator = b"" if delimiter is None or isinstance(delimiter, tuple) else octets_of(delimiter)
        is_subscribed = "\\subscribed" in attributes if subscribed is None else raw in subscribed
        return Listed(raw, self._decoded(raw), separator.decode("latin-1")[:1], attributes, is_subscribed)

    def _decoded(self, raw: bytes) -> str:
        """What the name says, as far as it says something."""
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            return raw.decode("latin-1")
        if self._utf8 or not text.isascii():
            return text
        try:
            return utf7.decode(text)
        except InvalidInput:
            return text

    def open(self, raw: bytes) -> Opened:
        """Raises Refused if it does not open."""
        if any(octet in raw for octet in b"\r\n\0"):
            raise Refused("The name cannot be asked for.")
        with guarded():
            self._wire.reader.allow(_SLACK)
            self._wire.untagged_responses.clear()
            try:
                kind, _ = self._wire.select(cast(Any, _quoted(raw)), True)
            except imaplib.IMAP4.abort:
                raise
            except imaplib.IMAP4.error:
                kind = "BAD"
            if kind != "OK":
                raise Refused("The server does not open it.")
            values = self._client._process_select_response(self._wire.untagged_responses)
            self._wire.untagged_responses.clear()
            uidvalidity = values.get(b"UIDVALIDITY", 0)
            if not isinstance(uidvalidity, int) or not 0 < uidvalidity <= UID_MAX:
                raise Refused("The server gives its messages no lasting numbers.")
            messages, modseq = values.get(b"EXISTS", 0), values.get(b"HIGHESTMODSEQ", 0)
            if messages > MESSAGES_MAX:
                raise Refused(f"It has more than {MESSAGES_MAX} messages.")
        self._selected = uidvalidity
        return Opened(uidvalidity, messages, modseq if isinstance(modseq, int) and 0 < modseq < 1 << 63 else 0)

    # Messages of the folder that is open

    def uids(self, messages: int, since: date | None = None) -> array[int]:
        """All, or those that came on that day or later; ascending."""
        criteria = ["ALL"] if since is None else ["SINCE", f"{since.day}-{_MONTHS[since.month - 1]}-{since.year:04}"]
        with guarded():
            self._wire.reader.allow(messages * 12 + _SLACK)
            self._wire.untagged_responses.clear()
            kind, _ = self._wire._simple_command("UID", "SEARCH", *criteria)
            if kind != "OK":
                raise Refused("The server does not name its messages.")
            found = {
                int(word)
                for line in self._wire.untagged_responses.pop("SEARCH", [])
                for word in octets_of(line).split()
                if word.isdigit() and len(word) <= 10
            }
            self._settled()
        return array("I", sorted(uid for uid in found if 0 < uid <= UID_MAX))

    def attributes(self, uids: Sequence[int]) -> dict[int, Attributes]:
        """Of those that are there and make sense."""
        found: dict[int, Attributes] = {}
        for uid, items in self._fetch(uids, "(UID RFC822.SIZE FLAGS INTERNALDATE)", len(uids) * _ROW):
            size, flags, date = items.get(b"RFC822.SIZE"), items.get(b"FLAGS"), items.get(b"INTERNALDATE")
            if isinstance(size, int) and isinstance(flags, tuple):
                found[uid] = Attributes(size, tags_of(flags), seconds_of(date), zone_of(date))
        return found

    def sizes(self, uids: Sequence[int]) -> dict[int, int]:
        fetched = self._fetch(uids, "(UID RFC822.SIZE)", len(uids) * _ROW)
        return {uid: size for uid, items in fetched if isinstance(size := items.get(b"RFC822.SIZE"), int)}

    def flags(self, uids: Sequence[int], since: int = 0) -> dict[int, Tags]:
        """Of all, or of those that changed after a modseq."""
        changed = f"(CHANGEDSINCE {since})" if since else None
        fetched = self._fetch(uids, "(UID FLAGS)", len(uids) * _ROW, changed)
        return {uid: tags_of(flags) for uid, items in fetched if isinstance(flags := items.get(b"FLAGS"), tuple)}

    def ask_bodies(self, uids: Sequence[int], allowed: int) -> bytes:
        """Send for them; `receive` in the same order. `allowed`: octets of all that was asked for and not received."""
        with guarded():
            self._wire.reader.allow(allowed + len(uids) * _ROW + _SLACK)
            tag: bytes = self._wire._command("UID", "FETCH", _set_of(uids), "(UID BODY.PEEK[])")
        self._asked[tag] = set(uids)
        return tag

    def receive(self, tag: bytes) -> Bodies:
        bodies = Bodies()
        try:
            with guarded():
                try:
                    self._wire._command_complete("FETCH", tag)
                except imaplib.IMAP4.abort:
                    raise
                except imaplib.IMAP4.error:  # BAD: what did not come is missing
                    pass
        except ServerLost as lost:
            bodies.lost = lost
        wanted = set().union(*self._asked.values())
        for uid, items in fetched(self._wire.untagged_responses.pop("FETCH", [])):
            text = items.get(b"BODY[]", ())
            if uid in wanted and isinstance(text, (bytes, int, NoneType)):
                self._early.setdefault(uid, text)
        for uid in self._asked.pop(tag) & self._early.keys():
            text = self._early.pop(uid)
            if text is None:
                bodies.empty.add(uid)
            else:
                bodies.octets[uid] = octets_of(text)
        if bodies.lost is None:
            try:
                self._settled()
            except ServerLost as lost:
                bodies.lost = lost
        return bodies

    def large_body(self, uid: int) -> bytes | None:
        """In pieces; None: the server does not give it. Raises Refused if it has no end."""
        parts: list[bytes] = []
        start = 0
        while True:
            found = dict(self._fetch([uid], f"(UID BODY.PEEK[]<{start}.{CHUNK}>)", CHUNK + _ROW))
            items = found.get(uid, {})
            part = next((value for name, value in items.items() if name.startswith(b"BODY[]")), None)
            if not isinstance(part, (bytes, int)):
                return b"".join(parts) if parts and part is None and uid in found else None
            part = octets_of(part)[:CHUNK]
            parts.append(part)
            start += len(part)
            if len(part) < CHUNK:
                return b"".join(parts)
            if start > MESSAGE_OCTETS_MAX:
                raise Refused(f"It is larger than {MESSAGE_OCTETS_MAX // (1024 * 1024)} MB.")

    def _fetch(
        self, uids: Sequence[int], items: str, allowed: int, modifier: str | None = None
    ) -> list[tuple[int, dict[bytes, Any]]]:
        if not uids:
            return []
        asked = set(uids)
        with guarded():
            self._wire.reader.allow(allowed + _SLACK)
            self._wire.untagged_responses.clear()
            kind, _ = self._wire._simple_command(
                "UID", "FETCH", _set_of(uids), items, *([modifier] if modifier else [])
            )
            found = list(fetched(self._wire.untagged_responses.pop("FETCH", [])))
            self._settled()
            if kind != "OK" and not found:
                raise ServerLost("It does not give its messages for the moment.")
        return [(uid, each) for uid, each in found if uid in asked]

    def _settled(self) -> None:
        """Nothing is kept of what nobody asked for. Raises ServerLost if the numbers of messages are others now."""
        told = self._wire.untagged_responses.get("UIDVALIDITY")
        self._wire.untagged_responses.clear()
        if told and octets_of(told[-1]) != str(self._selected).encode():
            raise ServerLost("It gave the messages other numbers meanwhile.")


def _set_of(uids: Sequence[int]) -> str:
    return str(UidSet.of(uids))


def _quoted(raw: bytes) -> bytes:
    return b'"' + raw.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
