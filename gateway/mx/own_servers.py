"""What a tenant's own server says about a recipient, as the reply that the sender hears.

A refusal carries the server's status and none of its words, which are written for us. As long as nobody knows, the
sender has to try again: nothing is accepted here that the server would refuse.

Standards: RFC 5321 §3.6.2, RFC 3463 §3.2.
"""

from __future__ import annotations

import re

from gateway.relay.callout import Callout, CalloutSettings, Verdict
from gateway.relay.next_hops import NextHops
from gateway.relay.outcome import OwnServer
from gateway.smtp.replies import SmtpReply
from storage.clock import Clock
from storage.values import EmailAddress

NOT_KNOWN = SmtpReply(450, "4.1.1", "Whether the mailbox exists cannot be said for the moment; try again later")

_FAILURE = re.compile(r"5\.\d{1,3}\.\d{1,3}\Z")


class OwnServers:
    def __init__(self, hops: NextHops, clock: Clock, settings: CalloutSettings | None = None) -> None:
        """`hops` opens the connections, and is closed with this."""
        self._hops = hops
        self._callout = Callout(hops, clock, settings)

    async def verify(self, server: OwnServer, address: EmailAddress) -> SmtpReply | None:
        """None if the server takes mail for the address."""
        result = await self._callout.check(server, address)
        if result.verdict is Verdict.TAKEN:
            return None
        if result.verdict is Verdict.UNKNOWN:
            return NOT_KNOWN
        status = result.reply.status if _FAILURE.match(result.reply.status) else "5.1.1"
        return SmtpReply(550, status, "The mail server of that domain does not take mail for this address")

    async def close(self) -> None:
        """Questions end without an answer, connections with QUIT."""
        await self._callout.close()
        await self._hops.close()
