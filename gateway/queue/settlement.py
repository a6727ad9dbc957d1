"""Writes down what came of attempts: final states, next attempts, the reports that follow, traces.

When `record` returns, all of it is durable: what is final together with its reports in one commit, so that neither a
crash nor a repetition makes a second report. If a report cannot be made now, be it for a fault of ours, a success is
noted without it, since another attempt would deliver twice; a failure waits, since its sender must hear of it.

Blocking: for worker threads. Raises: StorageFull, Unavailable and others of the queue; then nothing more is noted.
Standards: RFC 5321 §4.5.4.1, §6.1 (a failure is told), RFC 3461 §4.1 (DELAY, SUCCESS).
"""

from __future__ import annotations

import logging
import random
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from gateway.dsn.follow_ups import Case, FollowUps, Telling
from gateway.dsn.report import Told
from gateway.dsn.rules import Action, Audience, audience, known_as, success, wanted
from gateway.queue.attempt import Attempted, Ending, status_of
from gateway.queue.backoff import ELSEWHERE, HERE
from storage.clock import Clock
from storage.directory.resolve import is_role
from storage.errors import CleanmailError, Corrupt, NotFound
from storage.logs.trace import TraceEvent, TraceKind, TraceSink
from storage.queue.entries import LOCAL, ROUTED, Entry, NewEntry, Origin, Recipient, RecipientState, Reply
from storage.queue.queue import Queue

log = logging.getLogger(__name__)

EXPIRED = "5.4.7"  # RFC 3463 §3.5: delivery time expired
GIVEN_UP = Reply(0, EXPIRED, "It could not be delivered within the time that messages are tried.")
_NOT_TOLD = Reply(0, "4.3.0", "It failed for good, but its sender could not be told yet.")

_KINDS = {
    Ending.DELIVERED: TraceKind.DELIVERED,
    Ending.RELAYED: TraceKind.RELAYED,
    Ending.DEFERRED: TraceKind.DEFERRED,
    Ending.FAILED: TraceKind.FAILED,
}


class Settlement:
    def __init__(
        self,
        queue: Queue,
        telling: Telling,
        clock: Clock,
        *,
        traces: TraceSink | None = None,
        delay_notice: int = 0,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`delay_notice`: seconds after which a sender hears of a delay; 0: never. `chance` jitters the pauses."""
        self._queue = queue
        self._telling = telling
        self._clock = clock
        self._traces = traces
        self._delay_notice = delay_notice
        self.chance = chance
        self._counting = threading.Lock()
        self.counts: Counter[Ending] = Counter()  # of recipients that were attempted or given up

    def record(
        self,
        entry: Entry,
        header: bytes,
        attempts: Iterable[Attempted],
        *,
        follow_ups: Sequence[NewEntry] = (),
    ) -> list[NewEntry]:
        """What was queued because of it. `header` are the message's fields, `follow_ups` what has to be queued too."""
        now = self._clock.now()
        final: list[Attempted] = []
        waiting: list[Attempted] = []
        for each in attempts:
            ended = self._ended(entry, each, now)
            (waiting if ended.ending is Ending.DEFERRED else final).append(ended)
        queued: list[NewEntry] = []
        if final:
            made, late = self._reports(entry, header, final, now)
            waiting += late
            final = [each for each in final if each.recipient.position not in {one.recipient.position for one in late}]
            if final:
                queued += self._settle(entry, final, [*follow_ups, *made.entries])
                self._record([*self._events(entry, final, now), *made.events])
        if waiting:
            queued += self._postpone(entry, header, waiting, now)
        with self._counting:
            self.counts.update(each.ending for each in (*final, *waiting))
        return queued

    def record_together(self, relayed: Sequence[tuple[Entry, Sequence[Attempted]]]) -> list[list[NewEntry] | Exception]:
        """`record` of attempts that nothing follows from (`is_plain`), in one commit; for each what kept it out."""
        now = self._clock.now()
        outcomes = self._queue.settle_together([(entry, _reached(attempts)) for entry, attempts in relayed])
        told: list[list[NewEntry] | Exception] = []
        for (entry, attempts), error in zip(relayed, outcomes, strict=True):
            told.append(error or [])
            if error is None:
                self._record(self._events(entry, attempts, now))
                with self._counting:
                    self.counts.update(each.ending for each in attempts)
        return told

    def _ended(self, entry: Entry, attempted: Attempted, now: int) -> Attempted:
        """An attempt that failed for now fails for good when the entry's time is over."""
        if attempted.ending is not Ending.DEFERRED or now < entry.expires:
            return attempted
        return Attempted(attempted.recipient, Ending.FAILED, attempted.reply, tried=attempted.tried)

    def _settle(self, entry: Entry, final: Sequence[Attempted], follow_ups: list[NewEntry]) -> list[NewEntry]:
        self._queue.settle(entry, _reached(final), follow_ups)
        return follow_ups

    def _postpone(self, entry: Entry, header: bytes, waiting: Sequence[Attempted], now: int) -> list[NewEntry]:
        until = {each.recipient.position: (self._again(entry, each.recipient, now), each.reply) for each in waiting}
        self._queue.postpone(entry, until)
        self._record(self._events(entry, waiting, now))
        return self._warn(entry, header, waiting, now)

    def _again(self, entry: Entry, recipient: Recipient, now: int) -> int:
        backoff = HERE if recipient.destination == LOCAL else ELSEWHERE
        return backoff.next_attempt(now, recipient.attempts + 1, self.chance(), entry.expires)

    # Telling

    def _reports(
        self, entry: Entry, header: bytes, final: Sequence[Attempted], now: int
    ) -> tuple[FollowUps, list[Attempted]]:
        """The reports, and the failures that cannot be told now and therefore wait."""
        if entry.origin is Origin.NOTICE:
            return self._handed_over(entry, final)
        asked = any("SUCCESS" in each.recipient.parameters.notify for each in final)
        whole = self._whole(entry) if asked else entry
        try:
            cases = [case for each in final if (case := _case(whole, each, now)) is not None]
            return self._telling.follow_ups(entry, header, cases), []
        except Exception as error:  # noqa: BLE001 - what was handed over must be noted, whatever is wrong with us
            _not_told(entry, error, "no report can be made now")
        failures = [each for each in final if each.ending is Ending.FAILED]
        return FollowUps(), [Attempted(each.recipient, Ending.DEFERRED, _NOT_TOLD) for each in failures]

    def _handed_over(self, entry: Entry, final: Sequence[Attempted]) -> tuple[FollowUps, list[Attempted]]:
        """What administrators were to read at their own server, if it does not take it, and what waits for that."""
        failures = [each for each in final if each.ending is Ending.FAILED and _is_for_administrators(each.recipient)]
        if not failures:
            return FollowUps(), []
        try:
            content = self._queue.content(entry)
        except (Corrupt, NotFound):  # there is nothing that anybody could read
            return FollowUps(), []
        try:
            return self._telling.handed_over(entry, content, [each.recipient for each in failures]), []
        except Exception as error:  # noqa: BLE001 - what was handed over must be noted, whatever is wrong with us
            _not_told(entry, error, "nobody can be told now")
        return FollowUps(), [Attempted(each.recipient, Ending.DEFERRED, _NOT_TOLD) for each in failures]

    def _whole(self, entry: Entry) -> Entry:
        """With the recipients of all destinations: an alias may have several."""
        try:
            return self._queue.show(entry.queue_id)
        except NotFound:
            return entry

    def _warn(self, entry: Entry, header: bytes, waiting: Sequence[Attempted], now: int) -> list[NewEntry]:
        """Reports on a delay, once for each recipient."""
        if not self._delay_notice or now - entry.arrived < self._delay_notice:
            return []
        late = [
            each
            for each in waiting
            if not each.recipient.warned and wanted(each.recipient.parameters.notify, Action.DELAYED)
        ]
        cases = [
            Case(
                each.recipient,
                _told(
                    each.recipient,
                    Action.DELAYED,
                    status_of(Ending.DEFERRED, each.reply),
                    each.reply,
                    last=now,
                    until=entry.expires,
                ),
            )
            for each in late
        ]
        if not cases:
            return []
        try:
            made = self._telling.follow_ups(entry, header, cases)
        except Exception as error:  # noqa: BLE001 - what was handed over must be noted, whatever is wrong with us
            _not_told(entry, error, "no notice of its delay can be made now")
            return []
        self._queue.warn(entry, [each.recipient.position for each in late], made.entries)
        self._record(made.events)
        return made.entries

    # Traces

    def _events(self, entry: Entry, attempts: Sequence[Attempted], now: int) -> list[TraceEvent]:
        return [
            TraceEvent(
                now,
                entry.queue_id,
                _KINDS[each.ending],
                entry.tenant_id,
                each.recipient.account_id if each.recipient.account_id is not None else entry.account_id,
                str(entry.reverse_path or ""),
                str(each.recipient.address),
                {"reply": str(each.reply)} if str(each.reply) else {},
            )
            for each in attempts
        ]

    def _record(self, events: Iterable[TraceEvent]) -> None:
        if self._traces is not None:
            for event in events:
                self._traces.record(event)


def is_plain(attempts: Sequence[Attempted]) -> bool:
    """All were taken by the next hop, and nobody asked to hear of that: nothing is to be queued or tried again."""
    return all(each.ending is Ending.RELAYED and "SUCCESS" not in each.recipient.parameters.notify for each in attempts)


def _reached(final: Iterable[Attempted]) -> dict[int, tuple[RecipientState, Reply]]:
    reached: dict[int, tuple[RecipientState, Reply]] = {}
    for each in final:
        state = each.ending.state
        assert state is not None
        reached[each.recipient.position] = (state, each.reply)
    return reached


def _not_told(entry: Entry, error: Exception, what: str) -> None:
    if isinstance(error, CleanmailError):
        log.warning("entry %s: %s: %s", entry.queue_id, what, type(error).__name__)
    else:
        log.error("entry %s: %s", entry.queue_id, what, exc_info=error)


def _is_for_administrators(recipient: Recipient) -> bool:
    return recipient.destination.startswith(ROUTED) and is_role(recipient.address)


def expired(recipient: Recipient) -> Attempted:
    """A recipient whose time is over, without another attempt; its last reply, or the operator's reason, says why."""
    return Attempted(recipient, Ending.FAILED, recipient.reply or GIVEN_UP, tried=False)


def _case(entry: Entry, attempted: Attempted, now: int) -> Case | None:
    recipient = attempted.recipient
    action = Action(attempted.ending.value)
    if action.is_success:
        if attempted.passed_on or audience(entry, recipient, action) is Audience.NOBODY:
            return None
        told_as = success(entry, recipient, action)
        if told_as is None:
            return None
        action = told_as
    reply = attempted.reply
    late = attempted.ending is Ending.FAILED and (400 <= reply.code < 500 or reply.status.startswith("4."))
    status = EXPIRED if late else status_of(attempted.ending, reply)
    last = now if attempted.tried else None
    return Case(recipient, _told(recipient, action, status, reply, last=last))


def _told(
    recipient: Recipient, action: Action, status: str, reply: Reply, *, last: int | None, until: int | None = None
) -> Told:
    """As the sender may know it: what an alias leads to is not shown, not even in another server's reply."""
    address, text = known_as(recipient), reply.text
    hidden = str(recipient.address)
    if address != hidden:
        for secret in (hidden, recipient.address.local + "@" + recipient.address.domain.unicode):
            text = re.sub(re.escape(secret), lambda _: address, text, flags=re.IGNORECASE)
    shown = Reply(reply.code, reply.status, text, reply.mta)
    return Told(action, address, recipient.parameters.orcpt, status, shown, last, until)
