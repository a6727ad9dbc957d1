"""From the name of a mailbox to the mailbox, for every command that names one.

Standards: RFC 9051 §5.1, RFC 2342, RFC 4314 §4 (which right a command needs).
"""

from __future__ import annotations

from hosting.imap.effects import Flow
from hosting.imap.place import Place
from hosting.imap.session import Session


def find(session: Session, name: str, needed: str = "") -> Flow[Place]:
    """The mailbox of this name, of which the user has the rights `needed` (letters of RFC 4314 §2.1).

    Raises NotFound (also where the user may not even know that it exists), NotPermitted.
    """
    yield from ()
    account = session.mail
    return Place(account, account.mailboxes.find(name), name)
