"""APPEND: durable when the tagged OK is sent.

Line ends are normalised once, here at the border; the octets are kept as they are otherwise.

Standards: RFC 9051 §6.3.12 (TRYCREATE, APPENDUID, EXISTS in the same answer), RFC 7889.
"""

from __future__ import annotations

from hosting.imap import places
from hosting.imap.commands import Append
from hosting.imap.effects import Flow, blocking
from hosting.imap.replies import Refused
from hosting.imap.session import Session
from storage.errors import NotFound, NotPermitted, OverQuota, TooLarge
from storage.mail.ledger import READ_ONLY
from storage.mail.messages import Appended
from storage.mime.normalise import to_crlf


def append(session: Session, _: bytes, command: Append) -> Flow[bytes]:
    try:
        place = yield from places.find(session, command.mailbox, "i")
    except NotFound:
        raise Refused(b"TRYCREATE", "There is no such mailbox.") from None
    account, mailbox = place.account, place.mailbox
    if mailbox.read_only:
        raise NotPermitted(READ_ONLY)
    if not command.data:
        raise Refused(b"CANNOT", "The message is empty.")  # some clients cancel an APPEND so (RFC 3502 §6.3.11)
    if session.user.full:
        raise OverQuota("All accounts of the contract together are above its storage.")
    limit = session.services.limits.message

    def store() -> Appended:
        data = to_crlf(command.data)
        if len(data) > limit:
            raise TooLarge
        return account.messages.append(
            mailbox.id,
            data,
            flags=command.flags.system,
            keywords=command.flags.keywords,
            internal_date=command.internal_date,
        )

    appended = yield from blocking(store)
    selected = session.selected
    if selected is not None and selected.account is account and selected.mailbox_id == mailbox.id:
        if selected.view.take_own(appended.modseq):
            selected.absorb()
        else:
            selected.refresh()
        session.tell_arrivals = True  # RFC 9051 §6.3.12
    return b"[APPENDUID %d %d] Appended." % (appended.uidvalidity, appended.uid)
