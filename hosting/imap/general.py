"""Commands that touch no message: CAPABILITY, NOOP, CHECK, LOGOUT, ID, ENABLE, NAMESPACE, IDLE.

Standards: RFC 9051 §6.1, §6.3.1, §6.3.10, §6.3.13; RFC 2971 (ID), RFC 2342, RFC 2177, RFC 5161, RFC 7162 §3.2.3.
"""

from __future__ import annotations

from hosting.imap import capabilities, hiding
from hosting.imap.at_once import is_told
from hosting.imap.commands import Capability, Check, Enable, Identify, Idle, Logout, Namespace, Noop
from hosting.imap.effects import Flow, news_or_line
from hosting.imap.news.annotation_news import AnnotationNews
from hosting.imap.replies import Bad
from hosting.imap.session import Session, State


def capability(session: Session, _: bytes, __: Capability) -> Flow[bytes]:
    yield b"* CAPABILITY %b\r\n" % session.capabilities()
    return b"That is all."


def noop(session: Session, _: bytes, __: Noop | Check) -> Flow[bytes]:
    """Looks for news; the answer tells of them."""
    session.looked()
    if session.selected is not None:
        yield from session.selected.refreshing()
    return b"Done."


def noop_at_once(session: Session, tag: bytes, _: Noop | Check) -> bytes | None:
    """Where there are none."""
    selected = session.selected
    if selected is not None and not (is_told(selected) and selected.view.is_current()):
        return None
    session.looked()
    return tag + b" OK Done.\r\n"


def logout(session: Session, tag: bytes, _: Logout) -> Flow[None]:
    yield from session.leave()
    session.close()
    yield b"* BYE Good-bye.\r\n" + tag + b" OK Logged out.\r\n"


def identify(session: Session, _: bytes, command: Identify) -> Flow[bytes]:
    """RFC 2971: allowed before sign-in; some clients refuse to work without an untagged answer. No version is told.

    What the client says decides only which capabilities it is told of from now on.
    """
    hidden = hiding.hidden_from(command.name, session.services.limits.hidden)
    yield b'* ID ("name" "Cleanmail")\r\n'
    if hidden != session.hidden:
        session.hidden = hidden
        yield b"* CAPABILITY %b\r\n" % session.capabilities()
    return b"Pleased to meet you."


def enable(session: Session, _: bytes, command: Enable) -> Flow[bytes]:
    enabled = []
    now, limits = session.circumstances(), session.services.limits
    for word in dict.fromkeys(command.capabilities):
        row = capabilities.enabled_by(word, now, limits, session.hidden)
        if row is None:
            continue  # RFC 5161 §3.1: unknown ones are ignored
        for mode in row.enables:
            setattr(session, mode, True)
        enabled.append(row.word)
    session.grammar.utf8 = session.utf8
    if session.metadata and session.annotation_news is None:
        session.annotation_news = AnnotationNews(session.mail)
    if session.selected is not None:
        session.selected.uid_only = session.uid_only
    yield f"* {' '.join(['ENABLED', *enabled])}\r\n".encode("ascii")
    return b"Enabled."


def namespace(_: Session, __: bytes, ___: Namespace) -> Flow[bytes]:
    yield b'* NAMESPACE (("" "/")) (("Other Users/" "/")) NIL\r\n'
    return b"That is all."


def idle(session: Session, _: bytes, __: Idle) -> Flow[bytes]:
    """Tells of news as they come, at once of what came before; without a mailbox (Outlook does that) of nothing."""
    session.looked()
    counters = session.services.counters
    counters.idle += 1
    try:
        if session.selected is not None:
            yield from session.selected.refreshing()
        yield b"+ idling\r\n"
        yield from session.tell(expunges=True, arrivals=True)
        while (line := (yield from news_or_line())) is None:
            yield from session.tell(expunges=True, arrivals=True)
    finally:
        counters.idle -= 1
        if session.state is not State.ENDED:
            session.looked()
    if line.strip().upper() != b"DONE":
        raise Bad("Expected DONE.")
    return b"Idle ended."
