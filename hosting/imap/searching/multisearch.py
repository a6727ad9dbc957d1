"""ESEARCH: one search through many mailboxes.

Each mailbox with results is answered as soon as it has been searched, by UID. Mailboxes that are not there, or that the
user may not read, are passed over without a word. What is searched beside the selected mailbox is seen as it is now.

Bounds: mailboxes, refused before anything is searched; results, where the rest is left out and the answer says LIMIT.

Standards: RFC 7377; RFC 5465 §6 (which mailboxes a source means), RFC 5530 (LIMIT).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from hosting.imap import encode, places
from hosting.imap.effects import Flow, blocking
from hosting.imap.place import Place
from hosting.imap.replies import Bad, Refused
from hosting.imap.searching import esearch, filters, search
from hosting.imap.searching import search_commands as sc
from hosting.imap.searching.esearch import Results
from hosting.imap.searching.fixing import fixed
from hosting.imap.searching.matching import Matcher
from hosting.imap.searching.progress import Progress
from hosting.imap.selected import Selected
from hosting.imap.session import Session
from hosting.imap.sharing import rights
from hosting.imap.sharing.opening import record_opening
from storage.errors import CleanmailError, Gone, NotFound, NotPermitted
from storage.mail.mailboxes import Mailbox

MAILBOXES: Final = 10_000  # of one command
RESULTS: Final = 1_000_000  # … in all mailboxes together


def multisearch(session: Session, tag: bytes, command: sc.MultiSearch) -> Flow[bytes]:
    try:
        return (yield from _searched(session, tag, command))
    except (CleanmailError, Refused):
        search.not_saved(session, command.search.returned)
        raise


def _searched(session: Session, tag: bytes, command: sc.MultiSearch) -> Flow[bytes]:
    wanted, kinds = command.search, {str(source.kind) for source in command.sources}
    returned = wanted.returned or frozenset({"ALL"})
    _check(session, tag, kinds, returned)
    search.require_charset(wanted.charset_known)
    key = yield from filters.expanded(session, wanted.key)
    with_modseq = search.asks_modseq(key)
    if with_modseq and not session.condstore:
        session.condstore = True
        if session.selected is not None:
            yield b"* OK [HIGHESTMODSEQ %d] Highest.\r\n" % session.selected.told_modseq
    names = yield from _names(session, command.sources)
    if len(names) > MAILBOXES:
        raise Refused(b"LIMIT", "These are too many mailboxes for one search.")
    progress = Progress(session.services.clock, tag)
    seen: set[tuple[int, int]] = set()
    found = 0
    for number, name in enumerate(names):
        yield progress.told(number, len(names))
        places.let_go(session)  # of what was searched before
        opened = yield from _opened(session, name)
        if opened is None:
            continue
        selected, mailbox = opened
        place = (selected.account.account_id, selected.mailbox_id)
        if place in seen:
            continue
        seen.add(place)
        correlators = b" MAILBOX %b UIDVALIDITY %d" % (
            encode.mailbox(selected.name, session.utf8), mailbox.uidvalidity if mailbox else selected.view.uidvalidity,
        )  # fmt: skip
        matcher = Matcher(selected, session.services.clock.now(), progress=progress, scoring="RELEVANCY" in returned)
        positions = yield from matcher.find(key)
        results = Results(selected, positions, positions, True, with_modseq, matcher.scores)
        if selected is session.selected:
            yield from _of_selected(session, tag, key, results, wanted, correlators)
        if positions and returned - {"SAVE", "UPDATE", "CONTEXT"}:
            yield (yield from esearch.response(tag, results, returned, wanted.partial, correlators))
        found += len(positions)
        if found > RESULTS:
            return b"[LIMIT] The rest was not searched: these are too many results."
    return b"Searched."


def _check(session: Session, tag: bytes, kinds: set[str], returned: frozenset[str]) -> None:
    """RFC 7377 §2.2: what needs a selected mailbox, or only that."""
    if session.selected is None and ("SELECTED" in kinds or "UPDATE" in returned):
        raise Bad("No mailbox is selected.")
    if "SAVE" in returned and kinds != {"SELECTED"}:
        raise Bad("SAVE is for the selected mailbox alone.")
    if "UPDATE" in returned and session.contexts is not None and tag in session.contexts:
        raise Bad("The tag is that of a search that is being updated.")


def _of_selected(
    session: Session,
    tag: bytes,
    key: sc.Key,
    results: Results,
    wanted: sc.Search,
    correlators: bytes,
) -> Flow[None]:
    """What stays behind of a search of the selected mailbox: "$" and a context."""
    selected = results.selected
    returned = wanted.returned or frozenset()
    kept = (yield from fixed(key, selected)) if "UPDATE" in returned else key  # before SAVE gives "$" another meaning
    if "SAVE" in returned:
        selected.saved = yield from esearch.saved(results, returned, wanted.partial)
    if "UPDATE" in returned:
        contexts = search.contexts_of(session)
        refusal = contexts.refuses(len(results.found), is_sorted=False)
        if refusal:
            yield search.no_update(tag, refusal)
        else:
            found = yield from esearch.named(selected, results.found, by_uid=True)
            contexts.add(tag, kept, True, found, correlators=correlators, items=wanted.items)
            session.contexts = contexts


def _opened(session: Session, name: str | None) -> Flow[tuple[Selected, Mailbox | None] | None]:
    """A mailbox as a search sees it; None: not there, or not to be read. No name: the selected one."""
    if name is None:
        return session.mailbox, None
    try:
        place: Place = yield from places.find(session, name, "r")
        account, mailbox = place.account, place.mailbox
        current = session.selected
        if current is not None and current.account is account and current.mailbox_id == mailbox.id:
            return current, mailbox
        view = account.views.loaded(mailbox.id)
        if view is None:
            view = yield from blocking(lambda: account.views.load(mailbox.id))
        view.refresh()
    except (NotFound, NotPermitted, Gone):
        return None
    if not place.is_own:
        record_opening(session, place)
    return Selected(place, view, read_only=True, recent_from=mailbox.recent_uid), mailbox


def _names(session: Session, sources: Iterable[sc.Source]) -> Flow[list[str | None]]:
    """The names of what is searched, each once, in the order in which they were asked for; None: the selected one."""
    own: list[str] = []
    if any(source.kind in ("PERSONAL", "SUBTREE", "SUBTREE-ONE") for source in sources):
        own = [mailbox.name for mailbox in session.mail.mailboxes.list()]
    found: dict[str | None, None] = {}
    for source in sources:
        match source.kind:
            case "SELECTED":
                found[None] = None
            case "INBOXES":
                found["INBOX"] = None
            case "PERSONAL":
                found.update(dict.fromkeys(own))
            case "SUBSCRIBED":
                found.update(dict.fromkeys(sorted(session.mail.mailboxes.subscriptions())))
            case "MAILBOXES":
                found.update(dict.fromkeys(source.names))
            case "SUBTREE" | "SUBTREE-ONE":
                for name in source.names:
                    listed = (yield from _of_others(session, name)) if places.is_of_others(name) else own
                    below = _below(name, deep=source.kind == "SUBTREE")
                    found.update(dict.fromkeys(filter(below, listed)))
    return list(found)


def _of_others(session: Session, root: str) -> Flow[list[str]]:
    """The mailboxes of others at or below a name that the user may know of and read (RFC 7377 §2.2)."""
    names: list[str] = []
    for owner in (yield from places.shared(session)).owners.values():
        if not (_below(root, deep=True)(owner.root) or _below(owner.root, deep=True)(root)):
            continue
        try:
            account = yield from places.opened(session, owner)
        except NotFound:  # he has ended a moment ago
            continue
        listed = yield from blocking(account.mailboxes.list)
        names += [owner.name_of(box.name) for box in listed if rights.has(owner.rights.get(box.id, ""), "lr")]
        places.let_go(session)
    return names


def _below(root: str, *, deep: bool) -> Callable[[str], bool]:
    prefix = root + "/"

    def accepts(name: str) -> bool:
        if name == root:
            return True
        return name.startswith(prefix) and (deep or "/" not in name[len(prefix) :])

    return accepts
