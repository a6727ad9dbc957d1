"""STARTTLS, LOGIN, AUTHENTICATE: from a connection to a principal with an open account.

A password is taken over TLS only, unless the operator allowed plain text for tests, and so are proofs and tokens. What
is bound to the channel is bound to TLS 1.3 by its exporter. The tagged OK carries the capabilities.

Standards: RFC 9051 §6.2, RFC 4616 (PLAIN), RFC 4959 (initial response), draft-murchison-sasl-login (LOGIN), RFC 5530;
RFC 5802, 7677 and 9266 (SCRAM), RFC 7628 (tokens) with `hosting.auth.sasl`.
"""

from __future__ import annotations

import binascii
from contextlib import AbstractContextManager, ExitStack, suppress
from functools import partial
from typing import cast

from hosting.auth import sasl
from hosting.auth.signin import Principal, SignIn
from hosting.imap.commands import Authenticate, Login, StartTls
from hosting.imap.effects import Flow, Proof, Secure, SignInWork, blocking, next_line
from hosting.imap.replies import Bad, Refused
from hosting.imap.session import Session
from storage.directory.app_passwords import is_generated
from storage.errors import CleanmailError, InvalidInput
from storage.mail.account import Account
from storage.mail.names import INBOX
from storage.mail.quota import Limits


def start_tls(session: Session, tag: bytes, _: StartTls) -> Flow[bytes | None]:
    if session.secure:
        raise Bad("TLS is active already.")
    if not session.services.tls_offered:
        raise Bad("TLS is not offered here.")
    yield tag + b" OK Begin TLS negotiation now.\r\n"
    yield Secure()  # what was pipelined behind STARTTLS is forgotten (RFC 9051 §6.2.1)
    session.secure = True
    return None


def login(session: Session, _: bytes, command: Login) -> Flow[bytes]:
    _require_privacy(session)
    yield from _admit(session, command.user, command.password)
    return b"[CAPABILITY %b] Logged in." % session.capabilities()


def authenticate(session: Session, _: bytes, command: Authenticate) -> Flow[bytes]:
    _require_privacy(session)
    if command.mechanism not in session.mechanisms():
        raise Refused(b"CANNOT", "This mechanism is not offered.")
    if command.mechanism == "PLAIN":
        user, password = yield from _plain(command.initial)
        yield from _admit(session, user, password)
    elif command.mechanism == "LOGIN":
        user, password = yield from _login(command.initial)
        yield from _admit(session, user, password)
    else:
        yield from _open(session, (yield from _exchange(session, command)))
    return b"[CAPABILITY %b] Logged in." % session.capabilities()


def _require_privacy(session: Session) -> None:
    if not session.secure and not session.services.plain_allowed:
        raise Refused(b"PRIVACYREQUIRED", "Use TLS first.")  # RFC 5530


def _plain(initial: bytes | None) -> Flow[tuple[str, str]]:
    """RFC 4616: authorization identity NUL authentication identity NUL password."""
    if initial is None:
        yield b"+ \r\n"
        initial = yield from next_line()
    parts = _decoded(initial).split(b"\0")
    if len(parts) != 3:
        raise Bad("The response is not one of PLAIN.")
    acting_as, user, password = (_text(part) for part in parts)
    if acting_as not in ("", user):
        raise Refused(b"AUTHORIZATIONFAILED", "Nobody may act for another here.")
    return user, password


def _login(initial: bytes | None) -> Flow[tuple[str, str]]:
    if initial is None:
        yield b"+ VXNlcm5hbWU6\r\n"
        initial = yield from next_line()
    user = _text(_decoded(initial))
    yield b"+ UGFzc3dvcmQ6\r\n"
    password = _text(_decoded((yield from next_line())))
    return user, password


def _exchange(session: Session, command: Authenticate) -> Flow[Principal]:
    """Challenges and responses, as long as the mechanism wants."""
    client = sasl.Client("imap", session.address, session.id, session.channel)
    exchange = sasl.begin(command.mechanism, session.services.authenticator, client)
    proof = Proof.QUICK if command.mechanism.startswith("SCRAM") else Proof.TOKEN
    line, challenge = command.initial, b""
    while True:
        if line is None:
            yield b"+ %b\r\n" % binascii.b2a_base64(challenge, newline=False)
            line = yield from next_line()
        said = _decoded(line)
        try:
            step = cast("Principal | bytes", (yield SignInWork(partial(exchange.respond, said), proof)))
        except InvalidInput as error:
            raise Bad(error.public) from None
        if isinstance(step, Principal):
            return step
        line, challenge = None, step


def _decoded(line: bytes) -> bytes:
    line = line.strip()
    if line == b"*":
        raise Bad("The exchange was cancelled.")
    try:
        return b"" if line == b"=" else binascii.a2b_base64(line, strict_mode=True)
    except binascii.Error:
        raise Bad("The response is not base64.") from None


def _text(octets: bytes) -> str:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise Bad("The response is not UTF-8.") from None


def _admit(session: Session, user: str, password: str) -> Flow[None]:
    asked = SignIn("imap", user, password, session.address, session.id)
    verify = partial(session.services.authenticator.verify, asked)
    principal = cast(Principal, (yield SignInWork(verify, Proof.QUICK if is_generated(password) else Proof.PASSWORD)))
    yield from _open(session, principal)


def _open(session: Session, principal: Principal) -> Flow[None]:
    services = session.services
    services.registry.enter(principal.account_id)
    limits = Limits(principal.quota_bytes, principal.quota_messages)
    lease = services.installation.account(principal.tenant_id, principal.account_id, limits=limits)
    try:
        account = yield from blocking(lambda: _opened(lease))
    except BaseException:
        services.registry.leave(principal.account_id)
        raise
    services.counters.sign_ins += 1
    session.sign_in(principal, lease, account)


def _opened(lease: AbstractContextManager[Account]) -> Account:
    """On a worker: the account, with what nearly every client asks for next at hand."""
    with ExitStack() as stack:
        account = stack.enter_context(lease)
        with suppress(CleanmailError):  # whoever selects it is told
            account.views.quickly(account.mailboxes.find(INBOX).id)
        stack.pop_all()  # the session ends the lease
    return account
