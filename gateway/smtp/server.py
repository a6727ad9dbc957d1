"""One SMTP connection: aiosmtpd's SMTP behind an adapter that replaces what is slow, unbounded or talkative in it.

From aiosmtpd come the commands' names and signatures, the SASL dialogue with its challenges, and the small commands.
Replaced here, each for a reason:
- construction: its __init__ inspects every method of the server and its handler, for every connection;
- reading: lines and DATA come from our own buffer, DATA in chunks; its reader keeps any amount of a line without end;
- MAIL and RCPT: `gateway.smtp.address` in place of the header parser of `email`;
- replies: collected while commands are at hand and written at once (RFC 2920 §3.1), each with its enhanced status code;
- STARTTLS: the loop's own start_tls; what was sent ahead of the handshake is thrown away (RFC 3207 §4.2);
- AUTH: off the loop, under implicit TLS too, the authorization identity checked, mechanism names in any case;
- limits of every kind; and exceptions: a temporary reply, where it says 500 with the text of the exception;
- its loggers, which write addresses at INFO and bodies at DEBUG: silenced.

Nothing cancels a command that has begun; a stop or a changed credential ends the session where it waits for the peer.

Standards: RFC 5321, 1870, 2034, 2920, 3207, 3461, 4616, 4954, 6152, 6531.
"""

# ruff: noqa: N802 - aiosmtpd finds commands by these names

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, NamedTuple

from aiosmtpd.smtp import MISSING, SMTP, AuthResult

from gateway.smtp import replies
from gateway.smtp.address import read_mail, read_rcpt
from gateway.smtp.admission import Admission
from gateway.smtp.content import Content
from gateway.smtp.data import DataReader
from gateway.smtp.replies import Refused, SmtpReply, reply_for
from gateway.smtp.sasl import as_text, decode_initial_response, plain_credentials
from gateway.smtp.session import Handler, Profile, SmtpSession, Transaction
from gateway.smtp.transcribed import transcribed
from gateway.smtp.wire import Ended, Wire
from storage.errors import CleanmailError

log = logging.getLogger(__name__)

for _name in ("mail.log", "mail.debug"):
    logging.getLogger(_name).addFilter(lambda record: False)
    logging.getLogger(_name).disabled = True

_YIELD_AFTER = 64  # commands sent ahead that are answered before other connections get a turn
_BEFORE_TLS = frozenset({"NOOP", "EHLO", "HELO", "STARTTLS", "QUIT", "RSET", "HELP"})  # RFC 3207 §4


_Aiosmtpd: Any = SMTP  # its annotations know less than ours


class SmtpServer(_Aiosmtpd):  # type: ignore[misc]
    """Serves one connection: `run` returns when it is over."""

    AuthLoginUsernameChallenge: ClassVar[str] = "Username:"  # what clients look for; aiosmtpd says "User Name\0"
    AuthLoginPasswordChallenge: ClassVar[str] = "Password:"
    _commands: ClassVar[dict[str, Callable[[SmtpServer, str | None], Awaitable[None]]]]
    _auth_methods: ClassVar[dict[str, _Mechanism]]

    # What aiosmtpd's methods look at, fixed once for all connections
    _handle_hooks: ClassVar[dict[str, Any]] = {}
    _auth_require_tls = False  # checked in smtp_AUTH here, for implicit TLS too
    _auth_required = False
    _stream_reader_wr = None

    def __init__(
        self, wire: Wire, session: SmtpSession, handler: Handler, profile: Profile, admission: Admission | None = None
    ) -> None:
        """`admission`: who counts what the client's address does; without it nobody does."""
        self._wire = wire
        self._profile = profile
        self._limits = profile.limits
        self._handler = handler
        self._admission = admission
        self._transcript = session.transcript
        self._messages = 0  # transactions begun
        self._transaction: Transaction | None = None
        self._ending: Ended | None = None
        self._commands_left = profile.limits.commands
        self._errors_left = profile.limits.errors
        self._sign_ins_left = profile.limits.failed_sign_ins
        self._transaction_ends = 0.0
        self.session = session
        self.transport = None

    async def run(self) -> None:
        """The whole dialogue, from the greeting on. Raises nothing."""
        wire = self._wire
        left = False
        try:
            opened = asyncio.get_running_loop().time()
            await self._greet()
            ahead = 0
            while True:
                self._allow(opened)
                try:
                    line = await wire.line(self._limits.command_line)
                except Refused as refused:
                    self.say(refused.reply)
                else:
                    await self._execute(line)
                ahead += 1
                if ahead >= _YIELD_AFTER or wire.crowded:
                    ahead = 0
                    await wire.flush()
                    await asyncio.sleep(0)
        except Ended as ended:
            left = ended.reply in {None, replies.BYE}  # by the peer's own wish
            if ended.reply is not None:
                self._write(ended.reply)
            elif self._transcript is not None:
                self._transcript.note("connection lost")
        except Exception as error:  # noqa: BLE001 - anything unexpected is temporary
            self._report(error)
        finally:
            self._transaction = None
            self._handler.closed(self.session)
            if self._transcript is not None:
                self._transcript.close()
            wire.close(linger=not left)

    def end(self, reply: SmtpReply, *, after_transaction: bool) -> None:
        """Ends the session with `reply`: where it next waits for the peer, or when its transaction is settled."""
        ended = Ended(reply)
        if after_transaction and self._transaction is not None:
            self._ending = ended
        else:
            self._wire.end(ended)

    # Replies

    def say(self, reply: SmtpReply) -> None:
        if reply.code >= 500:
            self._errors_left -= 1
        self._write(reply)
        if self._errors_left <= 0:
            raise Ended(replies.TOO_MANY_ERRORS)

    def _write(self, reply: SmtpReply) -> None:
        octets = reply.encode()
        self._wire.write(octets)
        if self._transcript is not None:
            self._transcript.ours(octets)

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
    def _reader(self) -> SmtpServer:  # what aiosmtpd's challenge_auth reads lines from
        return self

    async def readline(self) -> bytes:
        """For aiosmtpd's challenge_auth: a line of the SASL dialogue."""
        return await self._wire.line(self._limits.sasl_line)

    async def _greet(self) -> None:
        self.session.tls = self._wire.tls
        refusal = await self._handler.connect(self.session)
        self.session.spoke_early = self._wire.pending
        if refusal is not None:
            raise Ended(refusal)
        self.say(self._profile.greeting())

    # The loop's body

    async def _execute(self, line: bytes) -> None:
        if self._transcript is not None:
            self._transcript.theirs(transcribed(line))
        word, _, rest = line.partition(b" ")
        try:
            verb = word.decode("ascii").upper()
            argument = rest.decode("utf-8").strip(" \t") or None
        except UnicodeDecodeError:
            self.say(replies.BAD_LINE)
            return
        command = self._commands.get(verb)
        self._commands_left -= 1
        if self._commands_left <= 0:
            raise Ended(replies.TOO_MANY_COMMANDS)
        if command is None:
            self.say(replies.UNKNOWN_COMMAND)
            return
        if self._profile.requires_auth and not self._may(verb):
            return
        try:
            await command(self, argument)
        except Ended:
            raise
        except (Refused, CleanmailError) as error:
            self.say(reply_for(error))
        except Exception as error:  # noqa: BLE001 - anything unexpected is temporary
            self._report(error)
            self.say(reply_for(error))

    def _may(self, verb: str) -> bool:
        """Whether `verb` may be used yet, where mail is taken only from those who signed in."""
        if self.session.authenticated or verb in _BEFORE_TLS or verb == "AUTH":
            return True
        sheltered = self.session.encrypted or self._profile.plain_auth
        self.say(replies.AUTH_NEEDED if sheltered else replies.TLS_NEEDED)
        return False

    def _allow(self, opened: float) -> None:
        """How long the peer may take for its next command."""
        now = asyncio.get_running_loop().time()
        seconds = self._limits.command_timeout
        if self._profile.requires_auth and not self.session.authenticated:
            seconds = min(seconds, opened + self._limits.sign_in_timeout - now)
        if self._transaction is not None:
            seconds = min(seconds, self._transaction_ends - now)
        self._wire.allow(max(seconds, 0.0))

    def _report(self, error: Exception) -> None:
        """Where it happened, never what was said: the text of an exception may quote the peer."""
        frames = traceback.extract_tb(error.__traceback__)
        where = " < ".join(f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}" for frame in reversed(frames[-6:]))
        detail = error.detail if isinstance(error, CleanmailError) else ""
        log.error("SMTP session %s: %s at %s %s", self.session.id, type(error).__name__, where, detail)

    def _settle(self) -> None:
        """The transaction is over, whatever came of it."""
        self._transaction = None
        self.session.utf8 = False
        if self._ending is not None:
            raise self._ending

    # Commands

    def _set_rset_state(self) -> None:  # aiosmtpd's RSET calls it
        self._settle()

    async def smtp_HELO(self, hostname: str | None) -> None:
        if hostname is None:
            raise Refused(replies.ARGUMENT_NEEDED)
        self._settle()
        self.session.extended_smtp = False
        self.session.host_name = hostname
        self.say(SmtpReply(250, "", self._profile.hostname))

    async def smtp_EHLO(self, hostname: str | None) -> None:
        if hostname is None:
            raise Refused(replies.ARGUMENT_NEEDED)
        self._settle()
        self.session.extended_smtp = True
        self.session.host_name = hostname
        self.say(self._profile.hello(encrypted=self.session.encrypted))

    async def smtp_QUIT(self, argument: str | None) -> None:
        if argument is not None:
            raise Refused(replies.NO_ARGUMENT_ALLOWED)
        raise Ended(replies.BYE)

    async def smtp_HELP(self, argument: str | None) -> None:
        self.say(SmtpReply(214, "2.0.0", "Commands: " + " ".join(sorted(self._commands))))

    async def smtp_VRFY(self, argument: str | None) -> None:
        if argument is None:
            raise Refused(replies.ARGUMENT_NEEDED)
        self.say(replies.CANNOT_VERIFY)  # RFC 5321 §7.3: it would tell who exists

    async def smtp_STARTTLS(self, argument: str | None) -> None:
        if argument is not None:
            raise Refused(replies.NO_ARGUMENT_ALLOWED)
        if self.session.encrypted:
            raise Refused(replies.TLS_ACTIVE)
        if self._profile.tls is None:
            raise Refused(replies.TLS_UNAVAILABLE)
        if self._transaction is not None:
            raise Refused(replies.NOT_NOW)
        self.say(replies.READY_FOR_TLS)
        session = self.session
        await self._wire.start_tls(self._profile.tls, self._limits.handshake_timeout)
        session.tls = self._wire.tls
        if self._transcript is not None:
            self._transcript.note(session.tls)
        # RFC 3207 §4.2: all that was learnt before is forgotten.
        session.encrypted = True
        session.host_name, session.extended_smtp = None, False
        session.authenticated, session.principal = False, None

    async def smtp_AUTH(self, argument: str | None) -> None:
        if self._transaction is not None:
            raise Refused(replies.NOT_NOW)  # RFC 4954 §4
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
            self._sign_ins_left -= 1
            self.say(reply_for(error))
            if self._sign_ins_left <= 0:
                raise Ended(replies.TOO_MANY_ERRORS) from None
            return AuthResult(success=False)
        return AuthResult(success=True)

    async def smtp_MAIL(self, argument: str | None) -> None:
        if self.session.host_name is None:
            raise Refused(replies.HELLO_FIRST)
        if self._transaction is not None:
            raise Refused(replies.NESTED_MAIL)
        limits = self._limits
        if limits.messages and self._messages >= limits.messages:
            raise Ended(replies.ENOUGH_MESSAGES)
        path = read_mail(argument or "", extended=self.session.extended_smtp, dsn=self._profile.offers_dsn)
        if path.size > limits.message_size:
            raise Refused(replies.TOO_LARGE)
        if self._admission is not None and not self._admission.may_begin(self.session.address):
            raise Refused(replies.TOO_MANY_MESSAGES)
        transaction = Transaction(path)
        reply = await self._handler.mail(self.session, transaction)
        if reply.accepted:
            self._messages += 1
            self._transaction = transaction
            self._transaction_ends = asyncio.get_running_loop().time() + self._limits.transaction_timeout
            self.session.utf8 = path.smtputf8
        self.say(reply)

    async def smtp_RCPT(self, argument: str | None) -> None:
        transaction = self._transaction
        if transaction is None:
            raise Refused(replies.MAIL_FIRST)
        session = self.session
        path = read_rcpt(
            argument or "",
            smtputf8=session.utf8,
            postmaster=self._profile.postmaster,
            extended=session.extended_smtp,
            dsn=self._profile.offers_dsn,
        )
        if len(transaction.recipients) >= self._limits.recipients:
            raise Refused(replies.TOO_MANY_RECIPIENTS)
        if self._profile.one_bounce_recipient and transaction.recipients and transaction.reverse_path.address is None:
            raise Refused(replies.ONE_FOR_A_BOUNCE)
        if self._admission is not None and not self._admission.may_ask(session.address):
            raise Refused(replies.TOO_MANY_ASKED_FOR)
        reply = await self._handler.rcpt(session, transaction, path)
        if reply.accepted:
            transaction.recipients.append(path)
        self.say(reply)

    async def smtp_DATA(self, argument: str | None) -> None:
        if argument is not None:
            raise Refused(replies.NO_ARGUMENT_ALLOWED)
        transaction = self._transaction
        if transaction is None:
            raise Refused(replies.MAIL_FIRST)
        if not transaction.recipients:
            raise Refused(SmtpReply(554, "5.5.1", replies.RCPT_FIRST.text))  # RFC 5321 §3.3
        self.say(replies.START_DATA)
        content = Content(self._profile.spill_directory, self._limits.message_size)
        try:
            reply = await self._receive(content) or await self._decide(transaction, content)
        finally:
            content.close()
        if reply.accepted:
            self._commands_left = self._limits.commands
        self.say(reply)
        self._settle()

    async def _receive(self, content: Content) -> SmtpReply | None:
        """Reads the message to its end; the reply, if its form alone refuses it."""
        reader = DataReader(content.write)
        loop = asyncio.get_running_loop()
        wire = self._wire
        while not reader.done:
            wire.allow(max(0.0, min(self._limits.data_timeout, self._transaction_ends - loop.time())))
            wire.unread(reader.feed(await wire.chunk()))
        if content.too_large:
            return replies.TOO_LARGE
        if reader.bare_line_end:
            return replies.BARE_LINE_END
        if reader.nul:
            return replies.NUL_OCTET
        return None if content.failed is None else reply_for(content.failed)

    async def _decide(self, transaction: Transaction, content: Content) -> SmtpReply:
        try:
            return await self._handler.data(self.session, transaction, content)
        except Exception as error:  # noqa: BLE001 - anything unexpected is temporary
            if not isinstance(error, (Refused, CleanmailError)) or reply_for(error).code == 451:
                self._report(error)
            return reply_for(error)


class _Mechanism(NamedTuple):
    """What aiosmtpd's AUTH looks up: it calls `method(server, words)`."""

    method: Callable[[SmtpServer, list[str]], Awaitable[AuthResult]]
    is_builtin: bool = True


SmtpServer._auth_methods = {
    "PLAIN": _Mechanism(lambda server, words: server.auth_PLAIN(server, words)),
    "LOGIN": _Mechanism(lambda server, words: server.auth_LOGIN(server, words)),
}
SmtpServer._commands = {
    name.removeprefix("smtp_"): getattr(SmtpServer, name) for name in dir(SmtpServer) if name.startswith("smtp_")
}
