"""What the one who asks may do with a resource: the one place from which privileges, ACLs and every 403 are computed.

What one owns one may do everything with, except what the server writes (subscribed and birthday calendars), and except
in the window before the contract's end, in which everything is read only. What is shared may be read, or written too.
Other accounts of one's tenant may be looked up as principals; of their collections nothing is told (403). What belongs
to other tenants does not exist (404), and never comes here.

Standards: RFC 3744 §3 (privileges), RFC 4791 §6.1 (free-busy), RFC 6638 §6 (scheduling).
"""

from __future__ import annotations

from enum import Flag, auto

from hosting.dav.names import caldav, dav
from storage.collections.values import Collection, Kind


class Reach(Flag):
    NONE = 0
    READ = auto()
    FREE_BUSY = auto()
    WRITE_PROPERTIES = auto()
    WRITE_CONTENT = auto()
    BIND = auto()  # make members
    UNBIND = auto()  # remove members
    UNLOCK = auto()
    READ_ACL = auto()
    SHARE = auto()  # say who else may
    DELIVER = auto()  # scheduling messages arrive here (RFC 6638 §6.1)
    SEND = auto()  # scheduling messages leave here (RFC 6638 §6.2)


LOOK = Reach.READ | Reach.FREE_BUSY
WRITE = Reach.WRITE_PROPERTIES | Reach.WRITE_CONTENT | Reach.BIND | Reach.UNBIND
OWN = LOOK | WRITE | Reach.UNLOCK | Reach.READ_ACL | Reach.SHARE
HOME = LOOK | Reach.WRITE_PROPERTIES | Reach.BIND | Reach.UNBIND | Reach.UNLOCK | Reach.READ_ACL
PRINCIPAL = Reach.READ | Reach.READ_ACL

_KEPT_WHEN_READ_ONLY = LOOK | Reach.READ_ACL


def of_collection(collection: Collection, *, owns: bool, may_write: bool, read_only: bool) -> Reach:
    """Of a collection and the objects in it. `may_write` is what a share says; `read_only`: the contract's window."""
    if not owns:
        reach = LOOK | (WRITE & ~Reach.WRITE_PROPERTIES | Reach.UNLOCK if may_write else Reach.NONE)
        reach |= Reach.WRITE_PROPERTIES  # of his view of it: name and color are the sharee's own
    elif collection.kind is Kind.INBOX:
        reach = OWN & ~(Reach.BIND | Reach.WRITE_CONTENT | Reach.SHARE) | Reach.DELIVER
    elif collection.kind is Kind.OUTBOX:
        reach = OWN & ~(Reach.BIND | Reach.WRITE_CONTENT | Reach.SHARE) | Reach.SEND
    else:
        reach = OWN
    if collection.is_read_only:
        reach &= ~(Reach.WRITE_CONTENT | Reach.BIND | Reach.UNBIND)
    return windowed(reach, read_only=read_only)


def windowed(reach: Reach, *, read_only: bool) -> Reach:
    """What is left of it in the window before the contract's end."""
    return reach & _KEPT_WHEN_READ_ONLY if read_only else reach


# The privilege that stands for each, for DAV:need-privileges and current-user-privilege-set.
PRIVILEGES: dict[Reach, str] = {
    Reach.READ: dav("read"),
    Reach.FREE_BUSY: caldav("read-free-busy"),
    Reach.WRITE_PROPERTIES: dav("write-properties"),
    Reach.WRITE_CONTENT: dav("write-content"),
    Reach.BIND: dav("bind"),
    Reach.UNBIND: dav("unbind"),
    Reach.UNLOCK: dav("unlock"),
    Reach.READ_ACL: dav("read-acl"),
    Reach.SHARE: dav("write-acl"),
    Reach.DELIVER: caldav("schedule-deliver"),
    Reach.SEND: caldav("schedule-send"),
}
# Those that an aggregate contains (RFC 3744 §3.12, RFC 6638 §6).
_WITHIN = {
    Reach.DELIVER: ("schedule-deliver-invite", "schedule-deliver-reply", "schedule-query-freebusy"),
    Reach.SEND: ("schedule-send-invite", "schedule-send-reply", "schedule-send-freebusy"),
}


def privileges(reach: Reach) -> list[str]:
    """Names of all that are granted, aggregates with what they contain."""
    names: list[str] = []
    if Reach.READ in reach:
        names += [dav("read"), dav("read-current-user-privilege-set")]
    if reach & WRITE == WRITE:
        names.append(dav("write"))
    if reach & OWN == OWN:
        names.insert(0, dav("all"))
    for each, name in PRIVILEGES.items():
        if each in reach and each is not Reach.READ:
            names.append(name)
            names += [caldav(local) for local in _WITHIN.get(each, ())]
    return names
