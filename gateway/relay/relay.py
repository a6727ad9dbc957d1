"""Hands a message to its next hop: the client side of SMTP, as the queue's runner uses it.

When `send` returns, every recipient has an outcome. RELAYED means that a server took responsibility with its reply to
the content; FAILED that it, DNS or the message itself says no for good; everything else is DEFERRED. A session that
breaks before the content was sent is followed by the next one that can be had, for those who were not answered.

Never raises but for cancellation.
Standards: RFC 5321 §3.3, §4.2.1, §5.1 and §6.1, RFC 3461 §5.2.2, RFC 6531 §3.5.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from contextlib import aclosing

from gateway.relay.envelope import mail_command, rcpt_command, transactions
from gateway.relay.hosts import Unroutable
from gateway.relay.next_hops import NextHops
from gateway.relay.outcome import NextHop, RecipientOutcome, RelayMessage, Signer
from gateway.relay.outgoing import NotSendable, Octets, Outgoing
from gateway.relay.replies import deferred, failed
from gateway.relay.session import Session
from gateway.work import Work
from storage.errors import CleanmailError

SENDING = 3600.0  # seconds after which no further session is begun for a message; what is left waits

_log = logging.getLogger(__name__)

_NO_ADDRESSES = failed("5.6.7", "The next server takes no internationalised addresses.")
_NOT_TRIED = deferred("4.5.3", "The next server took no more recipients for now.")
_NO_KEYS = deferred("4.3.0", "The message cannot be signed at this moment.")
_OUR_FAULT = deferred("4.3.0", "The message could not be sent for a reason of ours.")


class SmtpRelay:
    """Implements `gateway.relay.outcome.Relay`."""

    def __init__(self, hops: NextHops, work: Work, signer: Signer | None = None) -> None:
        self._hops = hops
        self._work = work
        self._signer = signer

    async def send(self, hop: NextHop, message: RelayMessage, *, more: bool = False) -> Sequence[RecipientOutcome]:
        outcomes: list[RecipientOutcome | None] = [None] * len(message.recipients)
        rest = _NOT_TRIED
        end = asyncio.get_running_loop().time() + SENDING
        try:
            outgoing = Outgoing(message, self._signer, self._work)
            waiting = len(outcomes)
            while waiting:
                rest = await self._send(hop, message, outgoing, outcomes, end, more=more) or rest
                before, waiting = waiting, outcomes.count(None)
                if waiting == before or _is_over(end):
                    break
        except Unroutable as error:
            rest = error.outcome
        except CleanmailError:
            rest = _NO_KEYS
        except Exception as error:  # noqa: BLE001 - the runner has to know how it stands, whatever happened
            _log.error("message %s: relaying failed: %s", message.queue_id, type(error).__name__)
            rest = _OUR_FAULT
        return [outcome or rest for outcome in outcomes]

    async def close(self) -> None:
        await self._hops.close()

    async def _send(
        self,
        hop: NextHop,
        message: RelayMessage,
        outgoing: Outgoing,
        outcomes: list[RecipientOutcome | None],
        end: float,
        *,
        more: bool,
    ) -> RecipientOutcome | None:
        """Fills in `outcomes`, over as many sessions as it takes; what those who are left have to thank for it."""
        trouble: RecipientOutcome | None = None
        async with aclosing(self._hops.sessions(hop)) as sessions:
            async for session in sessions:
                try:
                    trouble = await _hand_over(session, message, outgoing, outcomes)
                except BaseException:
                    session.abort()
                    raise
                self._hops.release(hop, session, more=more)
                if None not in outcomes or trouble is None or _is_over(end):
                    break
        return trouble


def _is_over(end: float) -> bool:
    return asyncio.get_running_loop().time() >= end


async def _hand_over(
    session: Session, message: RelayMessage, outgoing: Outgoing, outcomes: list[RecipientOutcome | None]
) -> RecipientOutcome | None:
    """All transactions that one session takes; what broke it, if anything did."""
    server = session.server
    if not session.reusable:
        return deferred("4.4.2", "The connection was lost before a message could be begun.", session.place.host)
    try:
        octets = await outgoing.form(server)
    except NotSendable as error:
        outcomes[:] = [outcome or error.outcome for outcome in outcomes]
        return None
    sender_is_ascii = message.reverse_path is None or message.reverse_path.is_ascii
    for position, recipient in enumerate(message.recipients):
        if not server.smtputf8 and not (sender_is_ascii and recipient.address.is_ascii):
            outcomes[position] = outcomes[position] or _NO_ADDRESSES
    session.carries(message.queue_id, message.tenants)
    waiting = deque((position, message.recipients[position]) for position, it in enumerate(outcomes) if it is None)
    while waiting and session.reusable:
        group = next(transactions(waiting, server))
        for _ in group:
            waiting.popleft()
        broken = await _transact(session, message, octets, [position for position, _ in group], outcomes)
        waiting.extend((position, message.recipients[position]) for position, _ in group if outcomes[position] is None)
        if broken is not None:
            return broken
    return None


async def _transact(
    session: Session,
    message: RelayMessage,
    octets: Octets,
    positions: Sequence[int],
    outcomes: list[RecipientOutcome | None],
) -> RecipientOutcome | None:
    """One transaction for the recipients at `positions`; those who belong in another one keep None."""
    server = session.server
    recipients = [message.recipients[position] for position in positions]
    smtputf8 = octets.smtputf8 or not all(
        address is None or address.is_ascii
        for address in (message.reverse_path, *(recipient.address for recipient in recipients))
    )
    result = await session.transact(
        mail_command(message, server, octets.size, eight_bit=octets.eight_bit, smtputf8=smtputf8),
        [rcpt_command(recipient, server, smtputf8=smtputf8) for recipient in recipients],
        octets.data,
        server.dsn,
    )
    for index, position in enumerate(positions):
        if index not in result.too_many or result.broken is not None:
            outcomes[position] = result.outcomes[index]
    return result.broken
