"""One SMTP connection: aiosmtpd's SMTP behind an adapter that replaces what is slow, unbounded or talkative in it.

From aiosmtpd come the commands' names and signatures, the SASL dialogue with its challenges, and the small commands.
Replaced here, each for a reason:
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

Standards: RFC 5321, 1870, 2034, 2920, 3030 (no BINARYMIME), 3207, 3461, 4616, 4954, 6152, 6531, 9422.
"""

# ruff: noqa: N802 - aiosmtpd finds commands by these names

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable
from typing import ClassVar

from gateway.smtp import replies
from gateway.smtp.address import read_mail, read_rcpt
from gateway.smtp.admission import Admission
from gateway.smtp.chunks import ChunkSize, read_size
from gateway.smtp.content import Content
from gateway.smtp.incoming import Incoming, discard
from gateway.smtp.proxy import is_among
from gateway.smtp.replies import Refused, SmtpReply, reply_for
from gateway.smtp.session import Handler, Profile, SmtpSession, Transaction
from gateway.smtp.sign_in import SignInCommands
from gateway.smtp.stages import ENDS_A_GROUP, NOT_FOR_US, OTHER_PROTOCOLS, Stage, refusal
from gateway.smtp.transcribed import transcribed
from gateway.smtp.wire import Ended, Wire
from storage.errors import CleanmailError

log = logging.getLogger(__name__)

for _name in ("mail.log", "mail.debug"):
    logging.getLogger(_name).addFilter(lambda record: False)
    logging.getLogger(_name).disabled = True

_YIELD_AFTER = 64  # commands sent ahead that are answered before other connections get a turn
_BEFORE_TLS = frozenset({"NOOP", "EHLO", "HELO", "STARTTLS", "QUIT", "RSET", "HELP"})  # RFC 3207 §4
_FULL_CHUNK = 4096  # octets; so large a chunk counts as no command, or large messages would need too many
_TURNED_AWAY_TIME = 30.0  # seconds for QUIT


class SmtpServer(SignInCommands):
    """Serves one connection: `run` returns when it is over."""

    _commands: ClassVar[dict[str, Callable[[SmtpServer, str | None], Awaitable[None]]]]

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
                    line = await wire.line(self._limits.command_line)
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
        session.spoke_early = self._wire.pending
        if turned_away is None:
            self.say(self._profile.greeting())
        elif turned_away.temporary:
            raise Ended(turned_away)
        else:
            self._stage = Stage.TURNED_AWAY
            self.say(turned_away)

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
            elif verb == "BDAT":
                await self._refuse_chunk(self._chunk_size(argument), refused)
            else:
                self.say(refused)
        except Ended:
            raise
        except (Refused, CleanmailError) as error:
            self.say(reply_for(error))
        except Exception as error:  # noqa: BLE001 - anything unexpected is temporary
            self._report(error)
            self.say(reply_for(error))

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

    async def smtp_MAIL(self, argument: str | None) -> None:
        session, limits = self.session, self._limits
        if limits.messages and self._transactions >= limits.messages:
            raise Ended(replies.ENOUGH_MESSAGES)
        path = read_mail(argument or "", extended=session.extended_smtp, dsn=self._profile.offers_dsn)
        if path.size > limits.message_size:
            raise Refused(replies.TOO_LARGE)
        if self._admission is not None and not self._admission.may_begin(session.address):
            raise Refused(replies.TOO_MANY_MESSAGES)
        transaction = Transaction(path)
        reply = await self._handler.mail(session, transaction)
        if reply.accepted:
            self._transactions += 1
            self._transaction = transaction
            self._transaction_ends = asyncio.get_running_loop().time() + limits.transaction_timeout
            self._stage = Stage.ENVELOPE
            session.utf8 = path.smtputf8
        self.say(reply)

    async def smtp_RCPT(self, argument: str | None) -> None:
        session, transaction = self.session, self._open_transaction()
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
        if not self._open_transaction().recipients:
            raise Refused(replies.NO_RECIPIENTS)  # RFC 5321 §3.3
        self.say(replies.START_DATA)
        incoming = self._begin_message()
        await self._finish(await incoming.data())

    async def smtp_BDAT(self, argument: str | None) -> None:
        size = self._chunk_size(argument)
        if not self._open_transaction().recipients:
            await self._refuse_chunk(size, replies.NO_RECIPIENTS)
            return
        self._stage = Stage.CHUNKS
        if size.octets >= _FULL_CHUNK:
            self._commands_left += 1
        refused = await (self._incoming or self._begin_message()).chunk(size)
        if size.last:
            await self._finish(refused)
        elif refused is not None:
            self._fail(refused)
        else:
            self.say(SmtpReply(250, "2.0.0", f"{size.octets} octets received"))

    # The message

    def _open_transaction(self) -> Transaction:
        assert self._transaction is not None, "the stage allows no command that needs one"
        return self._transaction

    def _begin_message(self) -> Incoming:
        content = Content(self._profile.spill_directory, self._limits.message_size)
        self._incoming = Incoming(self._wire, content, self._limits, self._transaction_ends, normalise=self._normalise)
        return self._incoming

    async def _finish(self, refused: SmtpReply | None) -> None:
        """The whole message has come: it is decided, unless its form refuses it, and the transaction is over."""
        transaction, incoming = self._open_transaction(), self._incoming
        assert incoming is not None
        self._note(f"a message of {incoming.content.size} octets")
        reply = refused or await self._decide(transaction, incoming.content)
        if reply.accepted:
            self._commands_left = self._limits.commands
            self._errors_left = self._limits.errors
        self.say(reply)
        self._settle()

    async def _decide(self, transaction: Transaction, content: Content) -> SmtpReply:
        try:
            return await self._handler.data(self.session, transaction, content)
        except Exception as error:  # noqa: BLE001 - anything unexpected is temporary
            if not isinstance(error, (Refused, CleanmailError)) or reply_for(error).code == 451:
                self._report(error)
            return reply_for(error)

    def _chunk_size(self, argument: str | None) -> ChunkSize:
        """What BDAT announces. If nobody can say where the next command begins, the connection ends."""
        size = read_size(argument)
        if size is None:
            self.say(replies.BAD_CHUNK_SIZE)
            raise Ended(replies.OUT_OF_STEP)
        return size

    async def _refuse_chunk(self, size: ChunkSize, reply: SmtpReply) -> None:
        """Reads a chunk that nobody wants, so that the next command is found behind it (RFC 3030 §2)."""
        again = self._stage is Stage.FAILED
        await discard(self._wire, size.octets, self._limits, self._until())
        if self._transaction is None:
            self.say(reply)
        elif size.last:
            self._write(reply)
            self._settle()
        elif again:
            self._write(reply)  # it may have been sent ahead of the first refusal: no further error of the client
        else:
            self._fail(reply)

    def _fail(self, reply: SmtpReply) -> None:
        """A chunk is refused, and with it the message."""
        self._stage = Stage.FAILED
        if self._incoming is not None:
            self._incoming.content.discard()
        self.say(reply)


SmtpServer._commands = {
    name.removeprefix("smtp_"): getattr(SmtpServer, name) for name in dir(SmtpServer) if name.startswith("smtp_")
}
