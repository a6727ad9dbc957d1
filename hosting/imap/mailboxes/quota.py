"""GETQUOTA, GETQUOTAROOT, SETQUOTA: one root for each account, the own one named "", another's as his names begin.

What an account stores in all is nothing that everybody may know with whom a mailbox is shared: the root of a shared
mailbox is told to those who administer the mailbox; to others it has none.

Standards: RFC 9208 (QUOTA=RES-STORAGE in units of 1,024 octets, QUOTA=RES-MESSAGE), §6 (rights).
"""

from __future__ import annotations

from typing import Final

from hosting.imap import encode, places
from hosting.imap.commands import GetQuota, GetQuotaRoot, SetQuota
from hosting.imap.effects import Flow
from hosting.imap.replies import Refused
from hosting.imap.session import Session
from hosting.imap.sharing.other_users import Owner
from storage.mail.account import Account
from storage.mail.quota import Limits

_KNOWING: Final = "a"  # the right of those who may know what the owner of a mailbox stores in all


def get_quota(session: Session, _: bytes, command: GetQuota) -> Flow[bytes]:
    if not command.root:
        yield _own(session)
        return b"That is all."
    owner = yield from _owner(session, command.root)
    if owner is None:
        raise Refused(b"NONEXISTENT", "There is no such quota root.")
    yield _quota((yield from places.opened(session, owner)), owner.root, owner.limits, session.utf8)
    return b"That is all."


def get_quota_root(session: Session, _: bytes, command: GetQuotaRoot) -> Flow[bytes]:
    name = encode.mailbox(command.mailbox, session.utf8)
    if not places.is_of_others(command.mailbox):
        yield b'* QUOTAROOT %b ""\r\n' % name + _own(session)
        return b"That is all."
    place = yield from places.find(session, command.mailbox, "r")
    split = (yield from places.shared(session)).split(command.mailbox)
    if split is not None and _KNOWING in place.rights:
        root = encode.mailbox(split[0].root, session.utf8)
        yield b"* QUOTAROOT %b %b\r\n" % (name, root)
        yield _quota(place.account, split[0].root, split[0].limits, session.utf8)
    elif place.is_own:
        yield b'* QUOTAROOT %b ""\r\n' % name + _own(session)
    else:
        yield b"* QUOTAROOT %b\r\n" % name
    return b"That is all."


def set_quota(_: Session, __: bytes, ___: SetQuota) -> Flow[bytes]:
    yield from ()
    raise Refused(b"NOPERM", "Your provider sets the quota.")


def _owner(session: Session, root: str) -> Flow[Owner | None]:
    """Whose root it is, if the user may know what he stores."""
    for owner in (yield from places.shared(session)).owners.values():
        if owner.root == root and any(_KNOWING in granted for granted in owner.rights.values()):
            return owner
    return None


def _own(session: Session) -> bytes:
    user = session.user
    return _quota(session.mail, "", Limits(user.quota_bytes, user.quota_messages), session.utf8)


def _quota(account: Account, root: str, limits: Limits, utf8: bool) -> bytes:
    usage = account.usage()
    resources = []
    if limits.bytes:
        resources.append(f"STORAGE {-(-usage.bytes // 1024)} {limits.bytes // 1024}")
    if limits.messages:
        resources.append(f"MESSAGE {usage.messages} {limits.messages}")
    return b"* QUOTA %b (%b)\r\n" % (encode.mailbox(root, utf8), " ".join(resources).encode("ascii"))
