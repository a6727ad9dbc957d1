"""One open SMTP session with a server, and one transaction after the other in it.

`transact` never raises for what the server does or says: every recipient that was answered has its outcome, and what
ended the session stands in `broken`. Recipients without an outcome were not answered and nothing of the content is in
doubt: they may be tried at once in another session. Once the end of the content was sent, a lost reply leaves its
recipients DEFERRED: the server may have the message, and will perhaps get it twice (RFC 5321 §4.5.3.2.6, unavoidable).

Standards: RFC 5321 §3.3, §4.2 and §4.5.3.2, RFC 2920 (pipelining), RFC 5321 §4.5.3.1.10 (too many recipients).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from aiosmtplib.errors import SMTPException, SMTPReadTimeoutError
from aiosmtplib.response import SMTPResponse

from gateway.relay.capabilities import Capabilities
from gateway.relay.hosts import Place
from gateway.relay.outcome import RecipientOutcome, Result
from gateway.relay.replies import (
    SERVICE_CLOSES,
    Garbled,
    deferred,
    refused,
    reply_of,
    too_many_recipients,
)
from gateway.relay.settings import Timeouts
from gateway.relay.wire import ClientWire
from gateway.tls_policy.results import TlsOutcome


class Broken(Exception):  # noqa: N818 - what happened to the session
    """The session is over, or never began. `outcome` is what that means for a recipient who was not answered.

    `tls` is what was wrong with TLS, if that was it.
    """

    def __init__(self, outcome: RecipientOutcome, tls: TlsOutcome = TlsOutcome.SUCCESS) -> None:
        super().__init__()
        self.outcome = outcome
        self.tls = tls


@dataclass(frozen=True, slots=True)
class Transaction:
    """What came of one: an outcome for each recipient; None only where `broken` says why there is none."""

    outcomes: tuple[RecipientOutcome | None, ...]
    broken: RecipientOutcome | None = None
    too_many: tuple[int, ...] = ()  # recipients who may be tried again in the next transaction of this session


class Session:
    """After EHLO, and after STARTTLS where there is TLS."""

    def __init__(self, place: Place, wire: ClientWire, server: Capabilities, timeouts: Timeouts) -> None:
        self.place = place
        self.server = server
        self.messages = 0  # transactions that were begun
        self._wire = wire
        self._timeouts = timeouts
        self._to_reset = False
        self._usable = True

    @property
    def reusable(self) -> bool:
        """Whether another transaction may be begun: the server has not closed, nor said anything unasked."""
        more = not self.server.mail_max or self.messages < self.server.mail_max
        return self._usable and more and self._wire.quiet

    def carries(self, queue_id: str, tenants: Sequence[int]) -> None:
        if self._wire.transcript is not None:
            self._wire.transcript.message(queue_id, *tenants)

    async def transact(self, mail: bytes, recipients: Sequence[bytes], content: bytes, notify: bool) -> Transaction:
        """`content` is dot-stuffed and ends with its final dot. `notify`: DSN parameters were passed on."""
        outcomes: list[RecipientOutcome | None] = [None] * len(recipients)
        too_many: list[int] = []
        self.messages += 1
        try:
            async with asyncio.timeout(self._timeouts.transaction):
                accepted = await self._envelope(mail, recipients, outcomes, too_many)
                if accepted:
                    outcome = await self._content(content, notify)
                    for position in accepted:
                        outcomes[position] = outcome
        except Broken as broken:
            self.abort()
            return Transaction(tuple(outcomes), broken.outcome)
        except TimeoutError:
            self.abort()
            late = deferred("4.4.2", "The transaction took too long.", self.place.host)
            return Transaction(tuple([outcome or late for outcome in outcomes]), late)
        except BaseException:
            self.abort()
            raise
        return Transaction(tuple(outcomes), None, tuple(too_many))

    async def verify(self, mail: bytes, recipient: bytes) -> tuple[SMTPResponse, SMTPResponse | None]:
        """The replies to MAIL and to RCPT; None if MAIL was refused. No message is sent. Raises Broken."""
        self.messages += 1
        try:
            await self._begin(mail)
            answer = await self._reply("MAIL", self._timeouts.mail)
            if not _positive(answer):
                return answer, None
            self._say(recipient)
            return answer, await self._reply("RCPT", self._timeouts.recipient)
        except BaseException:
            self.abort()
            raise

    async def quit(self) -> None:
        """QUIT, and a moment for its reply; then the connection is closed."""
        try:
            if self._wire.is_connected:
                self._wire.say(b"QUIT")
                await self._wire.read_response(self._timeouts.quit)
        except (SMTPException, OSError):
            pass  # whatever the server does now, everything is settled
        finally:
            self.abort()

    def abort(self) -> None:
        self._usable = False
        self._wire.finish()

    # The steps of a transaction

    async def _envelope(
        self,
        mail: bytes,
        recipients: Sequence[bytes],
        outcomes: list[RecipientOutcome | None],
        too_many: list[int],
    ) -> list[int]:
        """MAIL to DATA; the recipients that were accepted, if the server now waits for the content."""
        if self.server.pipelining:
            await self._begin(mail, *recipients, b"DATA")
        else:
            await self._begin(mail)
        answer = await self._reply("MAIL", self._timeouts.mail)
        taken = _positive(answer)
        if not taken:
            outcomes[:] = [refused(answer, self.place.host)] * len(recipients)
            if not self.server.pipelining:
                return []
        accepted: list[int] = []
        for position, command in enumerate(recipients):
            if not self.server.pipelining:
                self._say(command)
            answer = await self._reply("RCPT", self._timeouts.recipient)
            if not taken:
                continue
            if _positive(answer):
                accepted.append(position)
            elif accepted and too_many_recipients(answer):
                too_many.append(position)
                outcomes[position] = RecipientOutcome(Result.DEFERRED, reply_of(answer, self.place.host))
            else:
                outcomes[position] = refused(answer, self.place.host)
        if not self.server.pipelining:
            if not accepted:
                return []
            self._say(b"DATA")
        answer = await self._reply("DATA", self._timeouts.data)
        if answer.code == 354:
            if not accepted:
                await self._nothing()
        else:
            for position in accepted:
                outcomes[position] = refused(answer, self.place.host)
            accepted = []
            self._usable = answer.code >= 400  # otherwise the dialogue is out of step
        return accepted

    async def _nothing(self) -> None:
        """A server wants content though it took no recipient: it gets none (RFC 2920 §3.1)."""
        self._wire.write(b".\r\n")
        await self._reply("the end of no content", self._timeouts.final)

    async def _content(self, content: bytes, notify: bool) -> RecipientOutcome:
        """The content and its reply, which is the outcome of every accepted recipient."""
        try:
            self._wire.note(f"content of {len(content)} octets")
            await self._wire.send_content(content, self._timeouts.block)
            answer = await self._wire.read_response(self._timeouts.final)
        except (SMTPException, OSError) as error:
            said = self._wire.read_what_came()
            self.abort()
            if said is not None and not _positive(said):  # it refuses and closes before it has read everything
                return refused(said, self.place.host)
            return self._lost(error, "the content").outcome
        if answer.code == SERVICE_CLOSES:
            self.abort()
        elif _positive(answer):
            self._to_reset = False
            return RecipientOutcome(Result.RELAYED, reply_of(answer, self.place.host), notify_passed_on=notify)
        return refused(answer, self.place.host)

    async def _begin(self, *commands: bytes) -> None:
        """The first commands of a transaction; what the last one left is reset ahead of them."""
        if self._to_reset:
            self._say(b"RSET", *(commands if self.server.pipelining else ()))
            answer = await self._reply("RSET", self._timeouts.reset)
            if not _positive(answer):
                raise Broken(deferred("4.5.0", "RSET was refused.", self.place.host))
        if not self._to_reset or not self.server.pipelining:
            self._say(*commands)
        self._to_reset = True

    def _say(self, *commands: bytes) -> None:
        try:
            self._wire.say(*commands)
        except (SMTPException, OSError) as error:
            raise self._lost(error, "a command") from None

    async def _reply(self, step: str, timeout: float) -> SMTPResponse:
        try:
            answer = await self._wire.read_response(timeout)
        except (SMTPException, OSError) as error:
            raise self._lost(error, step) from None
        if answer.code == SERVICE_CLOSES:  # RFC 5321 §3.8
            raise Broken(refused(answer, self.place.host))
        return answer

    def _lost(self, error: Exception, step: str) -> Broken:
        if isinstance(error, SMTPReadTimeoutError):
            outcome = deferred("4.4.2", f"No reply to {step} in time.", self.place.host)
        elif isinstance(error, Garbled):
            outcome = deferred("4.5.0", f"The reply to {step} is not SMTP.", self.place.host)
        else:
            outcome = deferred("4.4.2", f"The connection was lost before the reply to {step}.", self.place.host)
        return Broken(outcome)


def _positive(answer: SMTPResponse) -> bool:
    return 200 <= answer.code <= 299
