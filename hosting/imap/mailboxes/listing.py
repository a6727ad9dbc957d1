"""LIST with its options, and LSUB.

Special-use attributes are told in LSUB too (Outlook reads them there), and whether a mailbox has children in every
LIST. Of others' mailboxes those are listed that the user may look up; what they are for is their owner's business.
Others' accounts are opened only if a pattern could mean something there.

Standards: RFC 9051 §6.3.9, §7.3.1; RFC 5258; RFC 5819; RFC 6154; RFC 8440; RFC 3501 §6.3.9 (LSUB); RFC 4314 §4.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Final

from hosting.imap import encode, places
from hosting.imap.commands import ListMailboxes, ListSubscribed
from hosting.imap.effects import Flow, blocking
from hosting.imap.mailboxes import metadata
from hosting.imap.mailboxes.patterns import Pattern
from hosting.imap.mailboxes.status import mailbox_status
from hosting.imap.place import Place
from hosting.imap.session import Session
from hosting.imap.sharing import rights
from hosting.imap.sharing.acl import rights_response
from hosting.imap.sharing.other_users import PREFIX, Owner
from storage.errors import Corrupt, Gone, NotFound
from storage.installation import Installation
from storage.mail.account import Account
from storage.mail.mailboxes import Mailbox
from storage.values import TenantId

_log = logging.getLogger(__name__)
_MANY: Final = 300  # mailboxes that are listed by a worker
_SLICE: Final = 100  # names that are told before others are served
_OWNERS: Final = 16  # whose mailboxes a worker lists before others' work has its turn
_WILD: Final = re.compile("[*%]")


def list_mailboxes(session: Session, _: bytes, command: ListMailboxes) -> Flow[bytes]:
    if not command.extended and command.patterns == ("",):  # the delimiter and the root (RFC 9051 §6.3.9)
        yield b'* LIST (\\Noselect) "/" ""\r\n'
        return b"That is all."
    patterns = [command.reference + pattern for pattern in command.patterns if pattern]
    tree = yield from _tree(session, patterns, command.only, keep=bool(command.status or command.metadata))
    accepts = _accepted(patterns)
    recursive = "RECURSIVEMATCH" in command.only
    below_them = [name for name in tree.names(command.only) if tree.chosen(name, command.only)] if recursive else []
    above_chosen = _parents(below_them)
    above_untold = _parents(name for name in below_them if not accepts(name))  # CHILDINFO says something new there
    told_subscribed = bool({"SUBSCRIBED"} & (command.only | command.returned))
    names = yield from _leisurely(tree, lambda: _in_order(filter(accepts, tree.candidates(command.only))))
    for number, name in enumerate(names, 1):
        if number % _SLICE == 0:
            yield b""  # others are served between slices
        chosen = tree.chosen(name, command.only)
        below = name in above_chosen
        if not chosen and name not in above_untold:
            continue
        words = tree.attributes(name, extended=session.rev2 or command.extended)
        if told_subscribed and name in tree.subscribed:
            words.insert(0, "\\Subscribed")
        line = b'* LIST (%b) "/" %b' % (" ".join(words).encode("ascii"), encode.mailbox(name, session.utf8))
        if below:
            kinds = " ".join(f'"{kind}"' for kind in sorted(command.only & {"SUBSCRIBED", "SPECIAL-USE"}))
            line += b' ("CHILDINFO" (%b))' % kinds.encode("ascii")  # RFC 5258 §3.5
        yield line + b"\r\n"
        place = tree.places.get(name)
        if place is None:
            continue
        if "MYRIGHTS" in command.returned and chosen:
            yield rights_response(session, place)
        if command.status and rights.has(place.rights, rights.NEEDED["STATUS"]):
            yield from mailbox_status(session, place, command.status)
        if command.metadata:
            yield metadata.listed(session, place, command.metadata)
    return b"That is all."


def list_subscribed(session: Session, _: bytes, command: ListSubscribed) -> Flow[bytes]:
    patterns = [command.reference + command.pattern]
    tree = yield from _tree(session, patterns, frozenset({"SUBSCRIBED"}))
    accepts = _accepted(patterns)
    names = yield from _leisurely(tree, lambda: _in_order(filter(accepts, tree.subscribed)))
    for number, name in enumerate(names, 1):
        if number % _SLICE == 0:
            yield b""  # others are served between slices
        words = tree.attributes(name, extended=session.rev2)
        yield b'* LSUB (%b) "/" %b\r\n' % (" ".join(words).encode("ascii"), encode.mailbox(name, session.utf8))
    if command.pattern.endswith("%"):  # a parent that is not subscribed itself (RFC 3501 §6.3.9)
        for name in sorted(filter(accepts, _parents(tree.subscribed) - tree.subscribed)):
            yield b'* LSUB (\\Noselect) "/" %b\r\n' % encode.mailbox(name, session.utf8)
    return b"That is all."


class _Tree:
    """All names that a user sees: mailboxes, the parents that only their children imply, subscriptions."""

    def __init__(self, account: Account) -> None:
        listed = account.mailboxes.list()
        self.places: dict[str, Place] = {mailbox.name: Place(account, mailbox, mailbox.name) for mailbox in listed}
        self.subscribed = account.mailboxes.subscriptions()
        self._parents = _parents(self.places)

    def add(self, owner: Owner, account: Account, listed: Iterable[Mailbox]) -> None:
        """What an owner lets the user look up."""
        for mailbox in listed:
            place = places.of_owner(owner, account, mailbox)
            if rights.has(place.rights, rights.NEEDED["LIST"]):
                self.places[place.name] = place
                self._parents |= _parents((place.name,))

    def candidates(self, only: frozenset[str]) -> set[str]:
        names = set(self.places) | self._parents
        if "SUBSCRIBED" in only:
            names |= self.subscribed
            if "RECURSIVEMATCH" in only:
                names |= _parents(self.subscribed)
        return names

    def chosen(self, name: str, only: frozenset[str]) -> bool:
        """Whether the selection options take this name (RFC 5258 §3.1)."""
        if "SUBSCRIBED" in only and name not in self.subscribed:
            return False
        place = self.places.get(name)
        return "SPECIAL-USE" not in only or (place is not None and place.is_own and bool(place.mailbox.special_use))

    def names(self, only: frozenset[str]) -> Collection[str]:
        """Those that can be chosen."""
        return self.subscribed if "SUBSCRIBED" in only else self.places

    def attributes(self, name: str, *, extended: bool) -> list[str]:
        r"""`extended`: the client knows that \NonExistent implies \Noselect (RFC 5258 §3.4)."""
        place = self.places.get(name)
        words = ["\\HasChildren" if name in self._parents else "\\HasNoChildren"]
        if place is None:
            words += ["\\NonExistent"] if extended else ["\\NonExistent", "\\Noselect"]
        elif place.is_own:
            words += place.mailbox.special_use
        elif not rights.has(place.rights, rights.NEEDED["SELECT"]):
            words.append("\\Noselect")
        return words


def _tree(session: Session, patterns: Sequence[str], only: frozenset[str], *, keep: bool = False) -> Flow[_Tree]:
    """`keep`: others' accounts stay open until the command ends."""
    account = session.mail
    if account.mailboxes.count() > _MANY:
        tree = yield from blocking(lambda: _Tree(account))
    else:
        tree = _Tree(account)
    if not any(map(_may_mean_others, patterns)):
        return tree
    if "SUBSCRIBED" in only and not any(map(places.is_of_others, tree.subscribed)):
        return tree
    owners = list((yield from places.shared(session)).owners.values())
    installation, tenant_id = session.services.installation, session.user.tenant_id
    for start in range(0, len(owners), _OWNERS):
        some = owners[start : start + _OWNERS]
        for owner, account, listed in (yield from blocking(partial(_listed_of, installation, tenant_id, some))):
            try:
                tree.add(owner, (yield from places.opened(session, owner)) if keep else account, listed)
            except NotFound:  # he has ended a moment ago
                continue
    return tree


def _listed_of(
    installation: Installation, tenant_id: TenantId, owners: Iterable[Owner]
) -> list[tuple[Owner, Account, list[Mailbox]]]:
    """The mailboxes of some owners, in one go; their accounts are not held any more when it returns."""
    found: list[tuple[Owner, Account, list[Mailbox]]] = []
    for owner in owners:
        try:
            with installation.account(tenant_id, owner.account_id, limits=owner.limits) as account:
                found.append((owner, account, account.mailboxes.list()))
        except (NotFound, Gone):  # he has ended a moment ago
            continue
        except Corrupt:  # which must not stop all with whom he shares something from seeing their own mailboxes
            _log.warning("mailboxes of account %d cannot be listed for others", owner.account_id)
    return found


def _may_mean_others(pattern: str) -> bool:
    """Whether something in the namespace of others could match it."""
    beginning = _WILD.split(pattern, 1)[0]
    return PREFIX.startswith(beginning) or beginning.startswith(PREFIX)


def _parents(names: Iterable[str]) -> set[str]:
    parents: set[str] = set()
    for name in names:
        while (cut := name.rfind("/")) > 0:
            name = name[:cut]  # noqa: PLW2901
            if name in parents:
                break
            parents.add(name)
    return parents


def _accepted(patterns: Iterable[str]) -> Callable[[str], bool]:
    compiled = [Pattern(pattern) for pattern in patterns]
    return lambda name: any(pattern.matches(name) for pattern in compiled)


def _leisurely(tree: _Tree, call: Callable[[], list[str]]) -> Flow[list[str]]:
    """What looks at all names of a large tree is done by a worker."""
    if len(tree.places) + len(tree.subscribed) > _MANY:
        return (yield from blocking(call))
    return call()


def _in_order(names: Iterable[str]) -> list[str]:
    return sorted(names, key=_inbox_first)


def _inbox_first(name: str) -> tuple[bool, str]:
    return (name != "INBOX", name)
