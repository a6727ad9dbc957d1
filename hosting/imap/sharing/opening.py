"""The access event of a mailbox that somebody opened who is not its owner: the owner can see it.

One for each mailbox in each session. It is the owner's record and says which account it was; whence, is that one's own
business, and stands in the event of its sign-in.
"""

from __future__ import annotations

from hosting.imap.place import Place
from hosting.imap.session import Session
from storage.logs.access import AccessEvent, AccessResult, AccessType


def record_opening(session: Session, place: Place) -> None:
    """To be called when another's mailbox was selected."""
    others = session.others
    key = (place.account.account_id, place.mailbox.id)
    if others is None or key in others.told:
        return
    others.told.add(key)
    user = session.user
    session.services.installation.access_log.record(
        AccessEvent(
            session.services.clock.now(),
            AccessType.MAILBOX_OPEN,
            AccessResult.SUCCESS,
            "imap",
            user.tenant_id,
            place.account.account_id,
            b"",
            "",
            user.account_id,
        )
    )
