"""Commands that touch no message: CAPABILITY, NOOP, CHECK, LOGOUT, ID, ENABLE, NAMESPACE, IDLE.

Standards: RFC 9051 §6.1, §6.3.1, §6.3.10, §6.3.13; RFC 2971 (ID), RFC 2342, RFC 2177, RFC 5161, RFC 7162 §3.2.3.
"""

from __future__ import annotations

from hosting.imap.commands import Capability, Check, Enable, Identify, Idle, Logout, Namespace, Noop
from hosting.imap.effects import Flow, news_or_line
from hosting.imap.replies import Bad
from hosting.imap.session import Session, State


def capability(session: Session, _: bytes, __: Capability) -> Flow[bytes]:
    yield b"* CAPABILITY %b\r\n" % session.capabilities()
    return b"That is all."


def noop(session: Session, _: bytes, __: Noop | Check) -> Flow[bytes]:
    """Looks for news; the answer tells of them."""
    yield from ()
    session.looked()
    if session.selected is not None:
        session.selected.refresh()
    return b"Done."


def logout(session: Session, tag: bytes, _: Logout) -> Flow[None]:
    yield from session.leave()
    session.close()
    yield b"* BYE Good-bye.\r\n" + tag + b" OK Logged out.\r\n"


def identify(_: Session, __: bytes, ___: Identify) -> Flow[bytes]:
    """RFC 2971: allowed before sign-in; some clients refuse to work without an untagged answer. No version is told."""
    yield b'* ID ("name" "Cleanmail")\r\n'
    return b"Pleased to meet you."


def enable(session: Session, _: bytes, command: Enable) -> Flow[bytes]:
    enabled = []
    for word in dict.fromkeys(command.capabilities):
        if word == "CONDSTORE":
            session.condstore = True
        elif word == "QRESYNC":
            session.qresync = session.condstore = True  # RFC 7162 §3.2.3: QRESYNC brings CONDSTORE with it
        elif word == "IMAP4REV2":
            session.rev2 = session.grammar.utf8 = True
        else:
            continue  # RFC 5161 §3.1: unknown ones are ignored
        enabled.append(b"IMAP4rev2" if word == "IMAP4REV2" else word.encode("ascii"))
    yield b"* ENABLED%b\r\n" % b"".join(b" " + word for word in enabled)
    return b"Enabled."


def namespace(_: Session, __: bytes, ___: Namespace) -> Flow[bytes]:
    yield b'* NAMESPACE (("" "/")) NIL NIL\r\n'
    return b"That is all."


def idle(session: Session, _: bytes, __: Idle) -> Flow[bytes]:
    """Tells of news as they come, at once of what came before; without a mailbox (Outlook does that) of nothing."""
    session.looked()
    counters = session.services.counters
    counters.idle += 1
    try:
        if session.selected is not None:
            session.selected.refresh()
        yield b"+ idling\r\n" + session.news(expunges=True, arrivals=True)
        while (line := (yield from news_or_line())) is None:
            told = session.news(expunges=True, arrivals=True)
            if told:
                yield told
    finally:
        counters.idle -= 1
        if session.state is not State.ENDED:
            session.looked()
    if line.strip().upper() != b"DONE":
        raise Bad("Expected DONE.")
    return b"Idle ended."
