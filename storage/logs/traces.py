"""The log of traces: events of all processes in daily segments, found by id, addresses, kind, tenant and time.

Nobody is shown an event that is older than 14 days, whoever asks and whatever is still on the disk: the age that counts
is the event's own. `record` keeps an event in memory; it is on the disk after the next `flush`.

Raises: NotPermitted (a time before the horizon is asked for), NotFound and Unavailable of keys.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.clock import Clock
from storage.errors import NotPermitted
from storage.keys.source import KeySource
from storage.logs.buffered import BufferedLog
from storage.logs.classes import TRACES
from storage.logs.frames import Needles, Record, Wanted, record_of
from storage.logs.segments import ServiceKeys
from storage.logs.subjects import Mixed, Subject, Whose, mixed, nobody, owned, packed_text, whole
from storage.logs.trace import SEPARATOR, TO, TraceEvent, TraceKind
from storage.values import AccountId, TenantId

HORIZON = TRACES.ceiling_days * 86_400  # seconds
_SESSION = 86_400  # none lasts longer, so what was refused before it had a queue id is not told over more time

# What happens within the same second in several processes is told in this order.
_SUBMITTED = {TraceKind.RECEIVED, TraceKind.REFUSED}  # with an account: by it
_CLIENT = ("client", "hello")  # details that tell where it was

_ORDER = {TraceKind.RECEIVED: 0, TraceKind.VERDICT: 1, TraceKind.HELD: 2, TraceKind.RELEASED: 3}


@dataclass(frozen=True, slots=True)
class TraceQuery:
    """What a trace must have; everything that is given must be found in it, though not in the same event.

    An address is one with its domain, or @domain, in any case; "<>" as sender is the null reverse-path.
    """

    id: str = ""
    sender: str = ""
    recipient: str = ""
    kind: TraceKind | None = None
    verdict: str = ""  # as a VERDICT event's details name it
    tenant_id: TenantId | None = None

    @property
    def tests(self) -> list[_Test]:
        tests: list[_Test] = []
        if self.id:
            tests.append(_Test(packed_text(self.id), lambda event: event.id == self.id))
        if self.sender:
            tests.append(_Test(_needle(self.sender), lambda event: _is_sender(event, self.sender)))
        if self.recipient:
            tests.append(_Test(_needle(self.recipient), lambda event: _is_for(event, self.recipient)))
        if self.kind is not None:
            tests.append(_Test(packed_text(self.kind.value), lambda event: event.kind is self.kind))
        if self.verdict:
            tests.append(_Test(packed_text(self.verdict), lambda event: event.details.get("verdict") == self.verdict))
        if self.tenant_id is not None:
            tests.append(_Test(b"", lambda event: event.tenant_id == self.tenant_id))
        return tests


@dataclass(frozen=True, slots=True)
class Trace:
    """What became of one message, in the order of time."""

    id: str
    events: tuple[TraceEvent, ...]

    @property
    def begun(self) -> int:
        return self.events[0].time


@dataclass(frozen=True, slots=True)
class _Test:
    """`needle` are octets in lower case that every packed event has which `holds` is true of; empty: not known."""

    needle: bytes
    holds: Callable[[TraceEvent], bool]


def submitted_by(event: TraceEvent, account_id: AccountId | None) -> bool:
    """Whether the account itself sent it; a sender's address alone anybody can claim."""
    return account_id is not None and event.account_id == account_id and event.kind in _SUBMITTED


def details_for(event: TraceEvent, account_id: AccountId | None) -> dict[str, str]:
    """Without from where another account sent it: that is its own, whoever asks about the message."""
    others = event.account_id is not None and event.kind in _SUBMITTED and not submitted_by(event, account_id)
    return {name: text for name, text in event.details.items() if not (others and name in _CLIENT)}


class TraceLog(BufferedLog[TraceEvent]):
    """One for each process; any thread may use it. A `TraceSink`."""

    def __init__(self, data: Path, keys: KeySource, process: str, clock: Clock, whose: Whose = nobody) -> None:
        """`whose` tells which account an address belongs to; it is asked where events are written, and may block."""
        super().__init__(
            data,
            TRACES,
            lambda event: pack(event, whose),
            lambda: ServiceKeys(keys.service_key("logs")),
            process,
            clock,
        )

    def read(
        self, since: int | None = None, until: int | None = None, *, wanted: Wanted | None = None
    ) -> Iterator[TraceEvent]:
        """The events of all processes with since <= time < until, in the order of time; from the horizon if not given.

        Raises NotPermitted when it is called, not when it is iterated.
        """
        now = self._clock.now()
        if since is None:
            since = now - HORIZON
        if since < now - HORIZON or (until is not None and until <= now - HORIZON):
            raise NotPermitted(f"Traces are shown for {TRACES.ceiling_days} days; older ones nobody may see.")
        return map(unpack, self.records(self._keys(), since, now + 1 if until is None else until, wanted))

    def find(self, query: TraceQuery, since: int | None = None, until: int | None = None) -> list[Trace]:
        """Traces that have an event in that time, whole as far as the horizon allows, the earliest first."""
        horizon = self._clock.now() - HORIZON
        if since is None and query.id:
            since = max(_begun(query.id, horizon), horizon)
        ids = self._ids(query.tests, since, until)
        if not ids:
            return []
        # What happened to the messages outside of that time belongs to their traces.
        earliest = min(_begun(id_, (horizon if since is None else since) - _SESSION) for id_ in ids)
        events: dict[str, list[TraceEvent]] = {}
        for event in self.read(max(earliest, horizon), wanted=_any_of(ids)):
            if event.id in ids:
                events.setdefault(event.id, []).append(event)
        traces = [Trace(id_, tuple(sorted(found, key=_place))) for id_, found in events.items()]
        return sorted(traces, key=lambda trace: (trace.begun, trace.id))

    def _ids(self, tests: list[_Test], since: int | None, until: int | None) -> set[str]:
        """Those for which every test holds of some event."""
        if not tests:
            return {event.id for event in self.read(since, until)}
        passed: list[set[str]] = [set() for _ in tests]
        for event in self.read(since, until, wanted=_contains([test.needle for test in tests])):
            for test, ids in zip(tests, passed, strict=True):
                if test.holds(event):
                    ids.add(event.id)
        return set.intersection(*passed)


def pack(event: TraceEvent, whose: Whose = nobody) -> Record:
    """What is personal in it belongs to the accounts whose addresses it has, as far as somebody here has them."""
    acting = None
    if event.account_id is not None and event.tenant_id is not None:
        acting = Subject(int(event.tenant_id), int(event.account_id))
    sender, recipient = _whose(event.sender, whose), _whose(event.recipient, whose)
    details: dict[str, Mixed] = {name: mixed(text, whose) for name, text in event.details.items()}
    if acting is not None and event.kind in _SUBMITTED:
        sender = sender or acting
        details |= {name: owned(event.details[name], sender) for name in _CLIENT if name in event.details}
    elif acting is not None and event.kind is TraceKind.DELIVERED:
        recipient = recipient or acting
    values = [event.id, event.kind.value, event.tenant_id, event.account_id]
    return record_of(event.time, [*values, owned(event.sender, sender), owned(event.recipient, recipient), details])


def _whose(address: str, whose: Whose) -> Subject | None:
    return whose(address) if "@" in address else None


def unpack(record: Record) -> TraceEvent:
    values: list[Any] = record.values()
    id_, kind, tenant_id, account_id, sender, recipient, details = values
    return TraceEvent(
        record.time,
        id_,
        TraceKind(kind),
        None if tenant_id is None else TenantId(tenant_id),
        None if account_id is None else AccountId(account_id),
        sender,
        recipient,
        {name: whole(text) for name, text in details.items()},
    )


def _begun(id_: str, otherwise: int) -> int:
    """When a queue id was made (`storage.queue.entries.new_queue_id`); of another id nothing is known."""
    try:
        octets = base64.b32hexdecode(id_, casefold=True)
    except ValueError:
        return otherwise
    return int.from_bytes(octets[:6], "big") // 1000 if len(octets) == 10 else otherwise


def _place(event: TraceEvent) -> tuple[int, int]:
    return event.time, _ORDER.get(event.kind, len(_ORDER))


def _is_sender(event: TraceEvent, sought: str) -> bool:
    if sought == "<>":
        return event.kind in {TraceKind.RECEIVED, TraceKind.REFUSED} and not event.sender
    return _is_address(event.sender, sought)


def _is_for(event: TraceEvent, sought: str) -> bool:
    if _is_address(event.recipient, sought):
        return True
    everybody = event.details.get(TO, "") if event.kind is TraceKind.RECEIVED else ""
    return any(_is_address(address, sought) for address in everybody.split(SEPARATOR))


def _is_address(address: str, sought: str) -> bool:
    address, sought = address.casefold(), sought.casefold()
    return address.endswith(sought) if sought.startswith("@") else address == sought


def _needle(address: str) -> bytes:
    """Empty where octets in lower case would not find what differs in case only."""
    return packed_text(address) if address.isascii() and address != "<>" else b""


def _contains(needles: Iterable[bytes]) -> Wanted | None:
    sought = tuple(needles)
    return Needles(sought) if all(sought) else None


def _any_of(ids: set[str]) -> Wanted:
    """Of a record by its beginning, which is its id; of a frame of records only if the ids are few."""
    beginnings = {f"[{json.dumps(id_, ensure_ascii=False)}".encode() for id_ in ids}
    few = tuple(beginnings) if len(beginnings) <= 8 else ()

    def wanted(octets: bytes) -> bool:
        if octets[:2] == b'["':  # a record
            return octets[: octets.find(b'"', 2) + 1] in beginnings
        return not few or any(beginning in octets for beginning in few)

    return wanted
