"""The SMTP server of one connection: the dialogue's transactions, from MAIL to the end of the message.

A message comes after DATA or in BDAT chunks. What is announced is read to its end even if it is refused, so the
dialogue stays in step, and a message whose beginning was refused is never taken without it.

Standards: RFC 5321, 1870, 3030 (no BINARYMIME), 3461, 6152, 6531, 9422.
"""

# ruff: noqa: N802 - aiosmtpd finds commands by these names

from __future__ import annotations

import asyncio

from gateway.smtp import replies
from gateway.smtp.address import read_mail, read_rcpt
from gateway.smtp.chunks import ChunkSize, read_size
from gateway.smtp.content import Content
from gateway.smtp.dialogue import Dialogue
from gateway.smtp.incoming import Incoming, discard
from gateway.smtp.replies import Refused, SmtpReply
from gateway.smtp.session import Transaction
from gateway.smtp.stages import Stage
from gateway.smtp.wire import Ended

_FULL_CHUNK = 4096  # octets; so large a chunk counts as no command, or large messages would need too many


class SmtpServer(Dialogue):
    """Serves one connection: `run` returns when it is over."""

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
            return self._failed(error)

    def _chunk_size(self, argument: str | None) -> ChunkSize:
        """What BDAT announces. If nobody can say where the next command begins, the connection ends."""
        size = read_size(argument)
        if size is None:
            self.say(replies.BAD_CHUNK_SIZE)
            raise Ended(replies.OUT_OF_STEP)
        return size

    async def _refuse(self, verb: str, argument: str | None, reply: SmtpReply) -> None:
        if verb == "BDAT":
            await self._refuse_chunk(self._chunk_size(argument), reply)
        else:
            self.say(reply)

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
