"""From the name of a mailbox to the mailbox, for every command that names one.

What is shared is found by what the directory says now; what somebody may not look up is for him as if it were not
there. A mailbox of one's own may be called as the namespace of others is only if it is older than that.

Standards: RFC 9051 §5.1, RFC 2342, RFC 4314 §4 (which right a command needs), §6 (existence is not told).
"""

from __future__ import annotations

from hosting.imap.effects import Flow
from hosting.imap.place import Place
from hosting.imap.session import Session
from hosting.imap.sharing import rights
from hosting.imap.sharing.other_users import PREFIX, ROOT, Others, Owner, Shared
from storage.errors import NotFound, NotPermitted
from storage.mail.account import Account
from storage.mail.mailboxes import Mailbox
from storage.mail.names import canonical


def find(session: Session, name: str, needed: str = "") -> Flow[Place]:
    """The mailbox of this name, of which the user has the rights `needed` (letters of RFC 4314 §2.1).

    Raises NotFound (also where the user may not even know that it exists), NotPermitted.
    """
    name = canonical(name)
    split = (yield from shared(session)).split(name) if name.startswith(PREFIX) else None
    if split is None:
        account = session.mail
        return Place(account, account.mailboxes.find(name), name)
    owner, rest = split
    if not rest:
        raise NotFound("There is no such mailbox.")
    account = yield from opened(session, owner)
    place = of_owner(owner, account, account.mailboxes.find(rest))
    check(place.rights, needed)
    return place


def of_owner(owner: Owner, account: Account, mailbox: Mailbox) -> Place:
    """A mailbox that another's account has."""
    granted = owner.rights.get(mailbox.id, "")
    return Place(account, mailbox, owner.name_of(mailbox.name), granted, is_own=False)


def check(granted: str, needed: str) -> None:
    """Raises NotFound or NotPermitted."""
    if not any(letter in granted for letter in rights.ANY_OF_MYRIGHTS):
        raise NotFound("There is no such mailbox.")
    if not rights.has(granted, needed):
        if "l" in granted:
            raise NotPermitted("Its owner does not let you do that.")
        raise NotFound("There is no such mailbox.")


def shared(session: Session) -> Flow[Shared]:
    """What others share with the user now."""
    return (yield from session.services.shared.of(session.user))


def opened(session: Session, owner: Owner) -> Flow[Account]:
    """The account of an owner, open until the command ends, or as long as a mailbox of it is selected."""
    if session.others is None:
        session.others = Others()
    return (yield from session.others.account(session.services.installation, session.user.tenant_id, owner))


def let_go(session: Session) -> None:
    """Of others' accounts, but for the one in which the selected mailbox lies; a command does so when it ends."""
    if session.others is not None:
        session.others.let_go(but=session.selected.account if session.selected is not None else None)


def is_of_others(name: str) -> bool:
    """Whether a name belongs to the namespace of others, whoever is there."""
    return name == ROOT or name.startswith(PREFIX)
