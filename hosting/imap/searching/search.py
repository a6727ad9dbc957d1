"""SEARCH, SORT and THREAD of the selected mailbox; CANCELUPDATE.

They see the messages that the client was told of. A session that has not asked for news for a minute is told of new
messages before its search (some clients only ever search).

Standards: RFC 9051 §6.4.4 and §6.4.4.1 (ESEARCH, SAVE), RFC 4731, RFC 5182, RFC 5256, RFC 5267 (ESORT, CONTEXT),
RFC 6203, RFC 7162 §3.1.5 and §3.1.10, RFC 9394.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from hosting.imap.effects import Flow, blocking
from hosting.imap.encode import quoted
from hosting.imap.news import newcomers
from hosting.imap.replies import Bad, Refused
from hosting.imap.searching import esearch, filters, sorting
from hosting.imap.searching import search_commands as sc
from hosting.imap.searching.contexts import Contexts
from hosting.imap.searching.esearch import Results
from hosting.imap.searching.fixing import fixed
from hosting.imap.searching.gathering import gathered
from hosting.imap.searching.matching import Matcher
from hosting.imap.searching.progress import Progress
from hosting.imap.searching.search_grammar import CHARSETS_TOLD
from hosting.imap.searching.thread import ALGORITHMS
from hosting.imap.selected import Selected
from hosting.imap.session import Session
from storage.errors import CleanmailError

_NO_ORDER: sorting.Order = ()
_BY_DATE: sorting.Order = (("DATE", False),)


def search(session: Session, tag: bytes, command: sc.Search) -> Flow[bytes]:
    key, results = yield from _found(session, tag, command, _NO_ORDER)
    returned = command.returned
    if returned is None and session.rev2:
        returned = frozenset({"ALL"})  # RFC 9051 §6.4.4: SEARCH answers ESEARCH
    if returned is None:
        yield (yield from _response(b"SEARCH", results))
    else:
        yield from _extended(session, tag, command, key, results, returned)
    return b"Searched."


def sort(session: Session, tag: bytes, command: sc.Sort) -> Flow[bytes]:
    key, results = yield from _found(session, tag, command, command.order)
    if command.returned is None:
        yield (yield from _response(b"SORT", results))
    else:
        yield from _extended(session, tag, command, key, results, command.returned)
    return b"Sorted."


def cancel_update(session: Session, _: bytes, command: sc.CancelUpdate) -> Flow[bytes]:
    """RFC 5267 §4.3.5: all of the searches named, or none."""
    yield from ()
    contexts = session.contexts
    if contexts is None or any(tag not in contexts for tag in command.tags):
        raise Bad("No search of that tag is being updated.")
    for tag in command.tags:
        contexts.cancel(tag)
    if not len(contexts):
        session.contexts = None
    return b"No further updates."


def _found(
    session: Session, tag: bytes, command: sc.Search | sc.Sort, order: sorting.Order
) -> Flow[tuple[sc.Key, Results]]:
    """The key without filters (of a search that is updated: with the messages that "$" means now); what it finds."""
    try:
        return (yield from _looked_for(session, tag, command, order))
    except (CleanmailError, Refused):
        not_saved(session, command.returned)
        raise


def not_saved(session: Session, returned: frozenset[str] | None) -> None:
    """The search was refused. RFC 9051 §6.4.4.1: NO leaves "$" empty, BAD leaves it as it is."""
    if returned is not None and "SAVE" in returned and session.selected is not None:
        session.selected.saved = ()


def _looked_for(
    session: Session, tag: bytes, command: sc.Search | sc.Sort, order: sorting.Order
) -> Flow[tuple[sc.Key, Results]]:
    selected, returned = session.mailbox, command.returned or frozenset()
    if "UPDATE" in returned and session.contexts is not None and tag in session.contexts:
        raise Bad("The tag is that of a search that is being updated.")  # RFC 5267 §4.3
    require_charset(command.charset_known)
    key = yield from filters.expanded(session, command.key)
    with_modseq = yield from _prepare(session, key, command.by_uid)
    progress = Progress(session.services.clock, tag)
    scoring = "RELEVANCY" in returned or any(name == "RELEVANCY" for name, _reverse in order)
    matcher = Matcher(selected, session.services.clock.now(), progress=progress, scoring=scoring)
    found = yield from matcher.find(key)
    scores = matcher.scores if scoring else {}
    placed: Sequence[int] = found
    if order:
        placed = yield from sorting.ordered(selected, order, found, scores, progress)
    kept = (yield from fixed(key, selected)) if "UPDATE" in returned else key
    return kept, Results(selected, found, placed, command.by_uid, with_modseq, scores)


def _extended(
    session: Session, tag: bytes, command: sc.Search | sc.Sort, key: sc.Key, results: Results, returned: frozenset[str]
) -> Flow[None]:
    """The answer to RETURN (…), and what stays behind of it: "$" and a context."""
    selected = session.mailbox
    if "SAVE" in returned:
        selected.saved = yield from esearch.saved(results, returned, command.partial)
    yield (yield from esearch.response(tag, results, returned, command.partial))
    if "UPDATE" in returned:
        refusal = yield from _keep_up_to_date(session, tag, command, key, results)
        if refusal:
            yield no_update(tag, refusal)


def no_update(tag: bytes, why: str) -> bytes:
    """RFC 5267 §4.3.1."""
    return b"* NO [NOUPDATE %b] %b\r\n" % (quoted(tag), why.encode("ascii"))


def _keep_up_to_date(
    session: Session, tag: bytes, command: sc.Search | sc.Sort, key: sc.Key, results: Results
) -> Flow[str]:
    """Why the search is not kept up to date; empty: it is (RFC 5267 §4.3.1)."""
    selected = session.mailbox
    order = command.order if isinstance(command, sc.Sort) else _NO_ORDER
    if any(name == "RELEVANCY" for name, _reverse in order):
        return "What is ordered by relevancy is not updated."
    contexts = contexts_of(session)
    refusal = contexts.refuses(len(results.found), is_sorted=bool(order))
    if not refusal:
        found = yield from esearch.named(selected, results.found, by_uid=True)
        sequence = (yield from esearch.named(selected, results.order, by_uid=True)) if order else ()
        contexts.add(tag, key, command.by_uid, found, order, sequence=sequence, items=command.items)
        session.contexts = contexts
    return refusal


def contexts_of(session: Session) -> Contexts:
    """Those that there are, or none yet."""
    if session.contexts is not None:
        return session.contexts
    return Contexts(session.mailbox, session.services.clock, lambda: newcomers.tell(session))


def require_charset(known: bool) -> None:
    if not known:
        raise Refused(b"BADCHARSET (%b)" % CHARSETS_TOLD, "This charset is not supported.")


def _prepare(session: Session, key: sc.Key, by_uid: bool) -> Flow[bool]:
    """News that are due, and CONDSTORE if the key asks for modseqs; whether it does."""
    selected = session.mailbox
    if session.news_overdue:
        yield from selected.refreshing()
        yield from session.news(expunges=by_uid, arrivals=True)
        session.looked()
    with_modseq = asks_modseq(key)
    if with_modseq and not session.condstore:
        session.condstore = True
        yield b"* OK [HIGHESTMODSEQ %d] Highest.\r\n" % selected.told_modseq
    return with_modseq


def asks_modseq(key: sc.Key) -> bool:
    match key:
        case sc.ModSeqKey():
            return True
        case sc.AllKeys(keys):
            return any(asks_modseq(one) for one in keys)
        case sc.NotKey(inner) | sc.FuzzyKey(inner):
            return asks_modseq(inner)
        case sc.EitherKey(left, right):
            return asks_modseq(left) or asks_modseq(right)
    return False


def _response(word: bytes, results: Results) -> Flow[bytes]:
    """SEARCH and SORT as RFC 3501 and RFC 5256 have them."""
    selected, order = results.selected, results.order
    if results.by_uid and not results.is_sorted:
        text = yield from esearch.listed_uids(selected, order)
    else:
        text = yield from esearch.listed((yield from esearch.named(selected, order, results.by_uid)))
    if text and results.with_modseq:  # RFC 7162 §3.1.5 and §3.1.9
        text += b" (MODSEQ %d)" % (yield from esearch.highest_modseq(results.selected, results.found))
    return b"* %b%b\r\n" % (word, text)


def thread(session: Session, tag: bytes, command: sc.Thread) -> Flow[bytes]:
    selected = session.mailbox
    require_charset(command.charset_known)
    key = yield from filters.expanded(session, command.key)
    yield from _prepare(session, key, command.by_uid)
    progress = Progress(session.services.clock, tag)
    found = yield from Matcher(selected, session.services.clock.now(), progress=progress).find(key)
    threads = session.services.threads
    messages_found = array("I", (yield from esearch.named(selected, found, by_uid=True))).tobytes()
    account_id = selected.account.account_id
    known = (account_id, selected.mailbox_id, selected.view.uidvalidity, command.algorithm, messages_found)
    if not command.by_uid:
        known = (*known, array("I", found).tobytes())  # type: ignore[assignment]
    text = threads.get(known)
    if text is None:
        text = yield from _threaded(selected, command, found, progress)
        threads.put(known, text)
    yield b"* THREAD %b\r\n" % text if text else b"* THREAD\r\n"
    return b"Threaded."


def _threaded(selected: Selected, command: sc.Thread, found: Sequence[int], progress: Progress) -> Flow[bytes]:
    order = yield from sorting.ordered(selected, _BY_DATE, found, {}, progress)
    messages = yield from gathered(selected, found, progress)
    names = yield from esearch.named(selected, found, command.by_uid)
    return (yield from blocking(lambda: ALGORITHMS[command.algorithm](messages.finished(found, order), names)))
