"""One submission session's decisions, asynchronous around the blocking parts: who signs in, who is sent for, to whom.

Every message that was accepted or refused leaves an access event, and so do a refused reverse-path and the end of a
session; sign-ins leave theirs in the auth role. Whatever is refused leaves a trace event as well.

Standards: RFC 6409 §4.3, §6.1 (submission rights), RFC 5321 §3.6.2.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.acceptance.targets import too_many
from gateway.smtp.address import ForwardPath
from gateway.smtp.content import Content
from gateway.smtp.replies import RECIPIENT_OK, SENDER_OK, TOO_MANY_RECIPIENTS, SmtpReply, reply_for
from gateway.smtp.session import Exchange, SmtpSession, Transaction
from gateway.work import Work
from hosting.auth import sasl
from hosting.auth.signin import Principal, SaslAuthenticator, SignIn
from hosting.submission.acceptance import Acceptance, Envelope
from hosting.submission.counters import Counters
from storage.clock import Clock
from storage.errors import Throttled
from storage.logs.access import AccessEvent, AccessLog, AccessResult, AccessType
from storage.logs.trace import TraceEvent, TraceKind, TraceSink


class _Exchange:
    """A `gateway.smtp.session.Exchange`, off the loop."""

    def __init__(self, exchange: sasl.Exchange, work: Work, signed_in: Callable[[Principal], Principal]) -> None:
        self._exchange = exchange
        self._work = work
        self._signed_in = signed_in

    async def respond(self, message: bytes) -> bytes | Principal:
        step = await self._work.run(lambda: self._exchange.respond(message))
        return self._signed_in(step) if isinstance(step, Principal) else step


class SubmissionHandler:
    """A `gateway.smtp.session.Handler`."""

    def __init__(
        self,
        session: SmtpSession,
        authenticator: SaslAuthenticator,
        acceptance: Acceptance,
        access_log: AccessLog,
        traces: TraceSink,
        counters: Counters,
        work: Work,
        clock: Clock,
    ) -> None:
        self._session = session
        self._authenticator = authenticator
        self._acceptance = acceptance
        self._access_log = access_log
        self._traces = traces
        self._counters = counters
        self._work = work
        self._clock = clock
        self._counted: Principal | None = None  # the session forgets who signed in when TLS begins

    async def connect(self, session: SmtpSession) -> SmtpReply | None:
        return None

    async def sign_in(self, session: SmtpSession, login: str, password: str) -> Principal:
        attempt = SignIn("submission", login, password, session.address, session.id)
        return self._signed_in(await self._work.run(lambda: self._authenticator.verify(attempt)))

    def exchange(self, session: SmtpSession, mechanism: str) -> Exchange:
        client = sasl.Client("submission", session.address, session.id)
        exchange = sasl.begin(mechanism, self._authenticator, client)
        return _Exchange(exchange, self._work, self._signed_in)

    def _signed_in(self, principal: Principal) -> Principal:
        self._sign_out()
        if not self._counters.enter(principal.account_id):
            raise Throttled("Too many connections of this account; try again later.")
        self._counted = principal
        return principal

    async def mail(self, session: SmtpSession, transaction: Transaction) -> SmtpReply:
        address = transaction.reverse_path.address
        principal: Principal = session.principal
        refused = await self._work.run(lambda: self._acceptance.sender_refusal(principal, address))
        if refused is not None:
            self._note(refused)
            self._trace_refusal(transaction, "", refused)
            return refused
        return SENDER_OK

    async def rcpt(self, session: SmtpSession, transaction: Transaction, path: ForwardPath) -> SmtpReply:
        resolution = await self._work.run(lambda: self._acceptance.resolve(path.address))
        refused = self._acceptance.refusal(resolution)
        if refused is None and too_many(transaction.resolved, resolution):
            refused = TOO_MANY_RECIPIENTS
        if refused is not None:
            self._trace_refusal(transaction, str(path.address), refused)
            return refused
        transaction.resolved.append(resolution)
        return RECIPIENT_OK

    async def data(self, session: SmtpSession, transaction: Transaction, content: Content) -> SmtpReply:
        envelope = Envelope(
            session.principal,
            session.protocol,
            transaction.reverse_path,
            list(zip(transaction.recipients, transaction.resolved, strict=True)),
        )
        try:
            queue_id = await self._work.run_on(content.size, lambda: self._acceptance.accept(envelope, content.read()))
        except Exception as error:
            reply = reply_for(error)
            self._note(reply)
            for path in transaction.recipients:
                self._trace_refusal(transaction, str(path.address), reply)
            raise
        if session.transcript is not None:
            session.transcript.message(queue_id, envelope.principal.tenant_id)
        accepted = SmtpReply(250, "2.6.0", f"Accepted as {queue_id}")
        self._note(accepted)
        return accepted

    def closed(self, session: SmtpSession) -> None:
        self._sign_out()

    def _sign_out(self) -> None:
        if self._counted is not None:
            self._counters.leave(self._counted.account_id)
            self._record(AccessType.SIGN_OUT, AccessResult.SUCCESS)
            self._counted = None

    def _note(self, reply: SmtpReply) -> None:
        """An access event of a message, and the counter of its result."""
        result = (
            AccessResult.SUCCESS
            if reply.accepted
            else AccessResult.UNAVAILABLE
            if reply.temporary
            else AccessResult.REFUSED
        )
        self._counters.messages[result] += 1
        self._record(AccessType.SUBMIT, result)

    def _trace_refusal(self, transaction: Transaction, recipient: str, reply: SmtpReply) -> None:
        principal: Principal = self._session.principal
        self._traces.record(
            TraceEvent(
                self._clock.now(),
                self._session.id,
                TraceKind.REFUSED,
                principal.tenant_id,
                principal.account_id,
                str(transaction.reverse_path.address or ""),
                recipient,
                {"reply": f"{reply.code} {reply.status} {reply.text}"},
            )
        )

    def _record(self, type_: AccessType, result: AccessResult) -> None:
        principal = self._counted
        assert principal is not None, "only who signed in does anything"
        self._access_log.record(
            AccessEvent(
                self._clock.now(),
                type_,
                result,
                "submission",
                principal.tenant_id,
                principal.account_id,
                b"",
                self._session.address,
            )
        )
