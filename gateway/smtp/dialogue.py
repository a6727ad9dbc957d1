"""The dialogue of one SMTP connection: aiosmtpd's SMTP behind an adapter that replaces what is slow or unbounded in it.

From aiosmtpd come the commands' names and signatures, the SASL dialogue with its challenges, and the small commands.
Replaced, each for a reason:
- construction: its __init__ inspects every method of the server and its handler, for every connection;
- reading: lines and messages come from our own buffer, messages in pieces; its reader keeps any amount of a line
  without end, and it knows no BDAT;
- MAIL and RCPT: `gateway.smtp.address` in place of the header parser of `email`;
- replies: collected while commands are at hand and written at once (RFC 2920 §3.1), each with its enhanced status code;
- STARTTLS: the loop's own start_tls; what was sent ahead of the handshake is thrown away (RFC 3207 §4.2);
- AUTH: `gateway.smtp.sign_in`;
- limits of every kind; and exceptions: a temporary reply, where it says 500 with the text of the exception;
- its loggers, which write addresses at INFO and bodies at DEBUG: silenced.

Nothing cancels a command that has begun; a stop or a changed credential ends the session where it waits for the peer.

Standards: RFC 5321 §4.1 to §4.3, 2034, 2920, 3207.
"""

# ruff: noqa: N802 - aiosmtpd finds commands by these names

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from gateway.smtp import replies
from gateway.smtp.admission import Admission
from gateway.smtp.incoming import Incoming
from gateway.smtp.proxy import is_among
from gateway.smtp.replies import Refused, SmtpReply, reply_for
from gateway.smtp.session import Handler, Profile, SmtpSession, Transaction
from gateway.smtp.sign_in import SignInCommands
from gateway.smtp.stages import ENDS_A_GROUP, NOT_FOR_US, OTHER_PROTOCOLS, Stage, refusal
from gateway.smtp.transcribed import transcribed
from gateway.smtp.wire import Ended, Wire
from storage.errors import CleanmailError, Conflict, Corrupt, Unavailable

log = logging.getLogger(__name__)

for _name in ("mail.log", "mail.debug"):
    logging.getLogger(_name).addFilter(lambda record: False)
    logging.getLogger(_name).disabled = True

_YIELD_AFTER = 64  # commands sent ahead that are answered before other connections get a turn
_BEFORE_TLS = frozenset({"NOOP", "EHLO", "HELO", "STARTTLS", "QUIT", "RSET", "HELP"})  # RFC 3207 §4
_TURNED_AWAY_TIME = 30.0  # seconds for QUIT


class Dialogue(SignInCommands):
    """Serves one connection: `run` returns when it is over. Commands are its methods, and those of its subclass."""

    _commands: ClassVar[dict[str, Callable[[Any, str | None], Awaitable[None]]]]

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
        self._normalise = bool(profile.normalise) and is_among(session.address, profile.normalise)
        self._stage = Stage.NEW
        self._transaction: Transaction | None = None
        self._incoming: Incoming | None = None  # its message, once a BDAT has come
        self._ending: Ended | None = None
        self._transactions = 0
        self._commands_left = profile.limits.commands
        self._errors_left = profile.limits.errors
        self._sign_ins_left = profile.limits.failed_sign_ins
        self._opened = 0.0
        self._transaction_ends = 0.0
        self.session = session
        self.transport = None

    async def run(self) -> None:
        """The whole dialogue, from the greeting on. Raises nothing."""
        wire = self._wire
        left = False
        try:
            await self._greet()
            ahead = 0
            while True:
                self._allow()
                try:
                    line = await wire.line(self._longest_line)
                except Refused as refused:
                    self._note("a line that is no command")
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
            else:
                self._note("the connection was lost")
        except Exception as error:  # noqa: BLE001 - anything unexpected is temporary
            self._report(error)
        finally:
            self._forget()
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
        if reply.code == 421:  # RFC 5321 §3.8: it closes the connection, whoever says it
            raise Ended(reply)
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

    def _note(self, text: str) -> None:
        if self._transcript is not None:
            self._transcript.note(text)

    # The loop's body

    async def _greet(self) -> None:
        session = self.session
        session.tls = self._wire.tls
        self._wire.takes_lone_lf = self._normalise
        self._opened = asyncio.get_running_loop().time()
        if session.tls:
            self._note(session.tls)
        try:
            turned_away = await self._handler.connect(session)
        except Exception as error:  # noqa: BLE001 - anything unexpected is temporary
            self._report(error)
            raise Ended(replies.CANNOT_SERVE) from None
        if turned_away is None:
            self.say(self._profile.greeting())
        elif turned_away.temporary:
            raise Ended(turned_away)
        else:
            self._stage = Stage.TURNED_AWAY
            self.say(turned_away)

    @property
    def _longest_line(self) -> int:
        """AUTH may be longer than other commands, since its initial response may be (RFC 4954 §4, RFC 7628 §3)."""
        limits, session = self._limits, self.session
        private = session.encrypted or self._profile.plain_auth
        signs_in = self._profile.offers_auth and private and not session.authenticated
        return max(limits.command_line, limits.sasl_line) if signs_in else limits.command_line

    async def _execute(self, line: bytes) -> None:
        if len(line) > self._limits.command_line and line[:5].upper() != b"AUTH ":
            self._note("a line that is no command")
            self.say(replies.LINE_TOO_LONG)
            return
        if self._transcript is not None:
            self._transcript.theirs(transcribed(line))
        word, _, rest = line.partition(b" ")
        try:
            verb = word.decode("ascii").upper()
            argument = rest.decode("utf-8").strip(" \t") or None
        except UnicodeDecodeError:
            self.say(replies.BAD_LINE)
            return
        self._commands_left -= 1
        if self._commands_left <= 0:
            raise Ended(replies.TOO_MANY_COMMANDS)
        command = self._commands.get(verb)
        if command is None:
            self._unknown(verb)
            return
        self._check_turn(verb)
        refused = self._not_yet(verb) or refusal(self._stage, verb)
        try:
            if refused is None:
                await command(self, argument)
            else:
                await self._refuse(verb, argument, refused)
        except Ended:
            raise
        except Exception as error:  # noqa: BLE001 - anything unexpected is temporary
            self.say(self._failed(error))

    async def _refuse(self, verb: str, argument: str | None, reply: SmtpReply) -> None:
        """`verb` may not be used now."""
        self.say(reply)

    def _unknown(self, verb: str) -> None:
        if verb in OTHER_PROTOCOLS:
            raise Ended(replies.NO_SMTP)
        self.say(replies.NOT_IMPLEMENTED if verb in NOT_FOR_US else replies.UNKNOWN_COMMAND)

    def _check_turn(self, verb: str) -> None:
        """Sends away whoever sent more than it may before `verb` is answered, where that is asked for."""
        if (
            self._profile.waits_its_turn
            and self._wire.pending
            and (verb in ENDS_A_GROUP or not self.session.extended_smtp)
        ):
            raise Ended(replies.OUT_OF_TURN)

    def _not_yet(self, verb: str) -> SmtpReply | None:
        """The refusal of `verb` where mail is taken only from those who signed in."""
        if not self._profile.requires_auth or self.session.authenticated or verb in _BEFORE_TLS or verb == "AUTH":
            return None
        return replies.AUTH_NEEDED if self.session.encrypted or self._profile.plain_auth else replies.TLS_NEEDED

    def _allow(self) -> None:
        """How long the peer may take for its next command."""
        seconds = self._limits.command_timeout if self._stage is not Stage.TURNED_AWAY else _TURNED_AWAY_TIME
        self._wire.allow(max(min(seconds, self._until() - asyncio.get_running_loop().time()), 0.0))

    def _until(self) -> float:
        """When what the peer is about must be over at the latest, in the loop's time."""
        if self._transaction is not None:
            return self._transaction_ends
        if self._profile.requires_auth and not self.session.authenticated:
            return self._opened + self._limits.sign_in_timeout
        return asyncio.get_running_loop().time() + self._limits.transaction_timeout

    def _failed(self, error: Exception) -> SmtpReply:
        """The reply to what was not done because of `error`. What is not the peer's fault is in the log too."""
        if not isinstance(error, (Refused, CleanmailError)) or isinstance(error, (Unavailable, Corrupt, Conflict)):
            self._report(error)
        return reply_for(error)

    def _report(self, error: Exception) -> None:
        """Where it happened, never what was said: the text of an exception may quote the peer."""
        frames = traceback.extract_tb(error.__traceback__)
        where = " < ".join(f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}" for frame in reversed(frames[-6:]))
        detail = error.detail if isinstance(error, CleanmailError) else ""
        log.error("SMTP session %s: %s at %s %s", self.session.id, type(error).__name__, where, detail)

    def _settle(self) -> None:
        """The transaction is over, whatever came of it."""
        self._forget()
        if self._stage not in {Stage.NEW, Stage.TURNED_AWAY}:
            self._stage = Stage.IDLE
        if self._ending is not None:
            raise self._ending

    def _forget(self) -> None:
        self._transaction = None
        self.session.utf8 = False
        if self._incoming is not None:
            if self._incoming.content.failed is not None:
                self._report(self._incoming.content.failed)
            self._incoming.content.close()
            self._incoming = None

    # Commands

    def _set_rset_state(self) -> None:  # aiosmtpd's RSET calls it
        self._settle()

    async def smtp_HELO(self, hostname: str | None) -> None:
        self._hello(hostname, extended=False)
        self.say(SmtpReply(250, "", self._profile.hostname))

    async def smtp_EHLO(self, hostname: str | None) -> None:
        self._hello(hostname, extended=True)
        self.say(self._profile.hello(encrypted=self.session.encrypted))

    def _hello(self, hostname: str | None, *, extended: bool) -> None:
        if hostname is None:
            raise Refused(replies.ARGUMENT_NEEDED)
        self._settle()
        self._stage = Stage.IDLE
        self.session.extended_smtp = extended
        self.session.host_name = hostname

    async def smtp_QUIT(self, argument: str | None) -> None:
        if argument is not None:
            raise Refused(replies.NO_ARGUMENT_ALLOWED)
        raise Ended(replies.BYE)

    async def smtp_HELP(self, argument: str | None) -> None:
        hidden = set() if self._profile.offers_auth else {"AUTH"}
        if self._profile.tls is None or self.session.encrypted:
            hidden.add("STARTTLS")
        self.say(SmtpReply(214, "2.0.0", "Commands: " + " ".join(sorted(self._commands.keys() - hidden))))

    async def smtp_VRFY(self, argument: str | None) -> None:
        if argument is None:
            raise Refused(replies.ARGUMENT_NEEDED)
        self.say(replies.CANNOT_VERIFY)  # RFC 5321 §7.3: it would tell who exists

    async def smtp_STARTTLS(self, argument: str | None) -> None:
        if argument is not None:
            raise Refused(replies.NO_ARGUMENT_ALLOWED)
        session = self.session
        if session.encrypted:
            raise Refused(replies.TLS_ACTIVE)
        if self._profile.tls is None:
            raise Refused(replies.TLS_UNAVAILABLE)
        self.say(replies.READY_FOR_TLS)
        try:
            await self._wire.start_tls(self._profile.tls, self._limits.handshake_timeout)
        except Ended:
            self._note("the TLS handshake failed")
            raise
        session.tls = self._wire.tls
        self._note(session.tls)
        # RFC 3207 §4.2: all that was learnt before is forgotten.
        self._stage = Stage.NEW
        session.encrypted = True
        session.host_name, session.extended_smtp = None, False
        session.authenticated, session.principal = False, None
