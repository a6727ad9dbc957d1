"""What became of annotations since a client was told last: for ENABLE METADATA, and for NOTIFY.

A picture of serials, so that nothing has to be kept of annotations that are gone. Only names are told, never values.

Standards: RFC 5464 §4.4.2; RFC 5465 §5.6 and §5.7.
"""

from __future__ import annotations

from hosting.imap import encode
from storage.errors import NotFound
from storage.mail.account import Account
from storage.mail.annotations import SERVER
from storage.values import MailboxId


class AnnotationNews:
    """Of the mailboxes of one account, and of the server as it sees it."""

    __slots__ = ("_account", "_known", "_serial")

    def __init__(self, account: Account) -> None:
        self._account = account
        self._serial = account.annotations.serial()
        self._known = account.annotations.serials()

    def take(self) -> dict[MailboxId, list[str]]:
        """The entries that changed since the last call, by mailbox (`SERVER`: 0); they count as told."""
        annotations = self._account.annotations
        serial = annotations.serial()
        if serial == self._serial:
            return {}
        now, known = annotations.serials(), self._known
        self._serial, self._known = serial, now
        changed: dict[MailboxId, list[str]] = {}
        for owner_id, mailbox_id, entry in sorted(now.keys() | known.keys()):
            key = (owner_id, mailbox_id, entry)
            if owner_id == self._account.account_id and now.get(key) != known.get(key):
                changed.setdefault(mailbox_id, []).append(entry)
        return changed

    def leave_out(self, mailbox_id: MailboxId, entries: list[str]) -> None:
        """The session changed these itself just now, which is no news to it."""
        now = self._account.annotations.serials()
        for entry in entries:
            key = (self._account.account_id, mailbox_id, entry)
            self._known.pop(key, None)
            if key in now:
                self._known[key] = now[key]

    def told(self, utf8: bool) -> bytes:
        """The untagged responses; mailboxes that are gone are left out."""
        return b"".join(self._line(mailbox_id, entries, utf8) for mailbox_id, entries in self.take().items())

    def _line(self, mailbox_id: MailboxId, entries: list[str], utf8: bool) -> bytes:
        name = b'""'
        if mailbox_id != SERVER:
            try:
                name = encode.mailbox(self._account.mailboxes.by_id(mailbox_id).name, utf8)
            except NotFound:
                return b""
        return b"* METADATA %b %b\r\n" % (name, b" ".join(encode.quoted(entry.encode("ascii")) for entry in entries))
