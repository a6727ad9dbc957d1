"""What came of attempting a recipient, wherever it was to go. Pure values.

Standards: RFC 3463 (status codes; the class says whether it is for good).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from gateway.relay.outcome import RecipientOutcome, Result
from storage.queue.entries import Recipient, RecipientState, Reply


class Ending(Enum):
    DELIVERED = "delivered"
    RELAYED = "relayed"
    DEFERRED = "deferred"
    FAILED = "failed"

    @property
    def state(self) -> RecipientState | None:
        """None: it waits on."""
        return None if self is Ending.DEFERRED else RecipientState(self.value)


@dataclass(frozen=True, slots=True)
class Attempted:
    recipient: Recipient
    ending: Ending
    reply: Reply
    passed_on: bool = False  # the next hop reports a success itself
    tried: bool = True  # False: given up without an attempt


def relayed(recipient: Recipient, outcome: RecipientOutcome) -> Attempted:
    return Attempted(recipient, Ending(outcome.result.value), outcome.reply, outcome.notify_passed_on)


def deferred(recipient: Recipient, reply: Reply) -> Attempted:
    return Attempted(recipient, Ending.DEFERRED, reply)


def failed(recipient: Recipient, reply: Reply) -> Attempted:
    return Attempted(recipient, Ending.FAILED, reply)


_NOT_ITS_FAULT = ("4.3.", "4.5.3")  # of our own replies: something here, or the number of recipients


def destination_failed(outcomes: Sequence[RecipientOutcome]) -> bool:
    """Whether what went wrong is the destination's as a whole, so that other messages need not be tried now."""
    return bool(outcomes) and all(
        outcome.result is Result.DEFERRED
        and (outcome.host_unwilling or (not outcome.reply.code and not outcome.reply.status.startswith(_NOT_ITS_FAULT)))
        for outcome in outcomes
    )


def status_of(ending: Ending, reply: Reply) -> str:
    """The reply's status where its class fits the ending; else the general one of the class."""
    wanted = {Ending.FAILED: "5", Ending.DEFERRED: "4"}.get(ending, "2")
    return reply.status if reply.status.startswith(f"{wanted}.") else f"{wanted}.0.0"
