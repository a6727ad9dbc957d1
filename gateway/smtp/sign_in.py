"""AUTH: aiosmtpd's command and challenges, off the loop, under implicit TLS too, the authorization identity checked.

Mechanisms other than PLAIN and LOGIN are exchanges of the handler's: their messages are carried here and not read. What
a mechanism tells at its end goes as a challenge, which the client answers with nothing (RFC 4954 §4). No challenge,
answer or login ever reaches a log line or a transcript; the command's mechanism and the reply do.

Standards: RFC 4954 (AUTH), RFC 4616 (PLAIN), draft-murchison-sasl-login (LOGIN).
"""

# ruff: noqa: N802 - aiosmtpd finds commands by these names

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, NamedTuple

from aiosmtpd.smtp import MISSING, SMTP, AuthResult

from gateway.smtp import replies
from gateway.smtp.limits import Limits
from gateway.smtp.replies import Refused, SmtpReply, reply_for
from gateway.smtp.sasl import as_text, decode_initial_response, plain_credentials
from gateway.smtp.session import Handler, Profile, SmtpSession
from gateway.smtp.wire import Ended, Wire
from storage.errors import CleanmailError

_Aiosmtpd: Any = SMTP  # its annotations know less than ours


class SignInCommands(_Aiosmtpd):  # type: ignore[misc]
    """What AUTH needs of a server that has a wire, a session, a profile and a handler."""

    AuthLoginUsernameChallenge: ClassVar[str] = "Username:"  # what clients look for; aiosmtpd says "User Name\0"
    AuthLoginPasswordChallenge: ClassVar[str] = "Password:"
    _auth_methods: ClassVar[dict[str, _Mechanism]]

    # What aiosmtpd's methods look at, fixed once for all connections
    _handle_hooks: ClassVar[dict[str, Any]] = {}
    _auth_require_tls = False  # checked in smtp_AUTH here, for implicit TLS too
    _auth_required = False
    _stream_reader_wr = None

    session: SmtpSession
    _wire: Wire
    _profile: Profile
    _limits: Limits
    _handler: Handler
    _sign_ins_left: int
    say: Callable[[SmtpReply], None]

    async def push(self, status: str | bytes) -> None:
        """For aiosmtpd's own methods: a reply line, or a challenge as octets. Its texts lack most status codes."""
        if isinstance(status, bytes):
            self._wire.write(status + b"\r\n")
            return
        code, _, text = status.partition(" ")
        has_status = text[:2] in {"2.", "4.", "5."}
        enhanced, text = text.split(" ", 1) if has_status else (replies.USUAL_STATUS.get(code, f"{code[0]}.5.0"), text)
        self.say(SmtpReply(int(code), enhanced, text))

    @property
    def _reader(self) -> SignInCommands:  # what aiosmtpd's challenge_auth reads lines from
        return self

    async def readline(self) -> bytes:
        """For aiosmtpd's challenge_auth: a line of the SASL dialogue."""
        return await self._wire.line(self._limits.sasl_line)

    async def smtp_AUTH(self, argument: str | None) -> None:
        if not self._profile.offers_auth:
            raise Refused(replies.UNKNOWN_COMMAND)
        if not (self.session.encrypted or self._profile.plain_auth):
            raise Refused(replies.AUTH_NEEDS_TLS)
        words = (argument or "").split()
        await super().smtp_AUTH(" ".join([words[0].upper(), *words[1:]]) if words else None)

    async def auth_PLAIN(self, _: object, words: list[str]) -> AuthResult:
        message = await self._first_response(words, "")
        if message is None:
            return AuthResult(success=False)
        return await self._sign_in(*plain_credentials(message))

    async def auth_LOGIN(self, _: object, words: list[str]) -> AuthResult:
        login = await self._first_response(words, self.AuthLoginUsernameChallenge)
        if login is None:
            return AuthResult(success=False)
        password = await self.challenge_auth(self.AuthLoginPasswordChallenge)
        if password is MISSING:
            return AuthResult(success=False)
        return await self._sign_in(login, password)

    async def _first_response(self, words: list[str], challenge: str) -> bytes | None:
        """The initial response if there is one, or the answer to the first challenge; None if that was refused."""
        if len(words) > 1:
            return decode_initial_response(words[1])
        answer = await self.challenge_auth(challenge)
        return None if answer is MISSING else bytes(answer)

    async def _sign_in(self, login: bytes, password: bytes) -> AuthResult:
        try:
            self.session.principal = await self._handler.sign_in(self.session, *as_text(login, password))
        except CleanmailError as error:
            return self._refused(error)
        return AuthResult(success=True)

    async def auth_exchange(self, mechanism: str, words: list[str]) -> AuthResult:
        if mechanism not in self._profile.mechanisms:
            raise Refused(replies.UNKNOWN_MECHANISM)
        exchange = self._handler.exchange(self.session, mechanism)
        response = await self._first_response(words, "")
        while response is not None:
            try:
                step = await exchange.respond(response)
            except CleanmailError as error:
                return self._refused(error)
            if not isinstance(step, bytes):
                self.session.principal = step
                return AuthResult(success=True)
            answer = await self.challenge_auth(step)
            response = None if answer is MISSING else bytes(answer)
        return AuthResult(success=False)

    def _refused(self, error: CleanmailError) -> AuthResult:
        self._sign_ins_left -= 1
        self.say(reply_for(error))
        if self._sign_ins_left <= 0:
            raise Ended(replies.TOO_MANY_ERRORS) from None
        return AuthResult(success=False)


class _Mechanism(NamedTuple):
    """What aiosmtpd's AUTH looks up: it calls `method(server, words)`."""

    method: Callable[[SignInCommands, list[str]], Awaitable[AuthResult]]
    is_builtin: bool = True


def _exchange(mechanism: str) -> _Mechanism:
    return _Mechanism(lambda server, words: server.auth_exchange(mechanism, words))


SignInCommands._auth_methods = {
    "PLAIN": _Mechanism(lambda server, words: server.auth_PLAIN(server, words)),
    "LOGIN": _Mechanism(lambda server, words: server.auth_LOGIN(server, words)),
    **{mechanism: _exchange(mechanism) for mechanism in ("SCRAM-SHA-256", "OAUTHBEARER", "XOAUTH2")},
}
