"""What is counted, for Prometheus: no label ever holds a tenant, an account, an address or anything else of a person.

Worker processes count into memory-mapped files (prometheus_client's multiprocess mode), which cost no message between
processes; the supervisor reads them all when it is asked, so one port shows the whole installation and counters go on
when a worker is replaced. The files are in memory (/dev/shm; DATA/run/metrics leads there), since a full disk ends a
process that touches a new page of a mapped file (SIGBUS). `serve --single` counts in its own memory.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from hosting.auth.signin import (
    Offers,
    Principal,
    SaslAuthenticator,
    ScramChallenge,
    ScramOpening,
    SignedInByScram,
    SignIn,
    TokenSignIn,
)
from storage.errors import AuthenticationFailed, CleanmailError, Suspended, Throttled
from storage.queue.entries import Totals

T = TypeVar("T")

DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

_MEMORY = Path("/dev/shm")  # noqa: S108 - the folder in it has a name of its own and belongs to nobody else
_PREFIX = "cleanmail-metrics-"

_SECONDS = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0)


class Metrics:
    """The counters of one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.sign_ins = Counter("cleanmail_sign_ins", "Attempts to sign in", ["protocol", "result"], registry=registry)
        self.sign_in_seconds = Histogram(
            "cleanmail_sign_in_seconds", "Time to decide a sign-in", ["protocol"], buckets=_SECONDS, registry=registry
        )
        self.connections = Gauge(
            "cleanmail_connections",
            "Open connections",
            ["protocol"],
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._totals: dict[str, dict[str, int]] = {}
        self._events = Counter(
            "cleanmail_events", "What happened to a protocol, by kind", ["protocol", "kind"], registry=registry
        )
        self.idle = Gauge(
            "cleanmail_idle_sessions", "IMAP sessions in IDLE", multiprocess_mode="livesum", registry=registry
        )
        self.indexed = Counter(
            "cleanmail_indexed_messages", "Messages that entered the search index", registry=registry
        )
        self.swept = Counter(
            "cleanmail_swept_files", "Files of interrupted writers that were removed", registry=registry
        )
        self.queue_entries = Gauge(
            "cleanmail_queue_entries",
            "Messages in the queue",
            ["state"],
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.queue_oldest = Gauge(
            "cleanmail_queue_oldest_seconds",
            "Age of the message that waits longest",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.queue_failing = Gauge(
            "cleanmail_queue_failing_destinations",
            "Destinations that do not answer",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.scheduling_messages = Counter(
            "cleanmail_scheduling_messages",
            "Attempts to bring an invitation or an answer to one person, by what became of it",
            ["result"],
            registry=registry,
        )
        self.scheduling_waiting = Gauge(
            "cleanmail_scheduling_waiting",
            "Invitations and answers under way",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.feeds_failing = Gauge(
            "cleanmail_feeds_failing",
            "Calendars elsewhere that could not be taken over three times in a row or more",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.filter_reviewed = Gauge(
            "cleanmail_filter_reviewed_share",
            "Share of all mail of the last 30 days that a person had to look at (0.0002 is 0.02 percent)",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.filter_wrong = Gauge(
            "cleanmail_filter_wrong_share",
            "Share of all mail of the last 30 days that was found to be wrongly withheld (0.0002 is 0.02 percent)",
            multiprocess_mode="livesum",
            registry=registry,
        )

        self.key_backup_left = Gauge(
            "cleanmail_key_backup_seconds_left",
            "Until the newest copy of the keys that opens with the master of now expires; 0: there is none",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.key_backup_alarms = Gauge(
            "cleanmail_key_backup_alarms",
            "What somebody has to do for the copies of the keys (cleanmail keys status)",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.master_unsaved = Gauge(
            "cleanmail_master_unsaved_seconds",
            "Since when nobody has said that he saved the master key in use (cleanmail keys saved); 0: it is saved",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.quarantine_fill = Gauge(
            "cleanmail_quarantine_fill",
            "How much of its limits the fullest tenant's quarantine has used up (1 is full)",
            multiprocess_mode="livesum",
            registry=registry,
        )

        self.retention_overdue = Gauge(
            "cleanmail_retention_overdue",
            "1 while something of this class of data is older than its ceiling, or could not be looked at",
            ["class"],
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.retention_run = Gauge(
            "cleanmail_retention_last_run_seconds",
            "When retention last looked at everything (Unix time)",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.ending_waits = Gauge(
            "cleanmail_ending_waits_seconds",
            "How long the oldest erasure that is not certified was ordered ago (0: none is open)",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.clock_doubted = Gauge(
            "cleanmail_clock_doubted",
            "1 while the clock is not believed, so that nothing is removed by time (cleanmail clock confirm)",
            multiprocess_mode="livesum",
            registry=registry,
        )

    def show_queue(self, totals: Totals, now: int) -> None:
        """How much waits, from one process for the whole installation."""
        self.queue_entries.labels("queued").set(totals.queued)
        self.queue_entries.labels("held").set(totals.held)
        self.queue_oldest.set(0 if totals.oldest is None else max(0, now - totals.oldest))
        self.queue_failing.set(totals.failing)

    def count_up_to(self, protocol: str, totals: Mapping[str, int]) -> None:
        """Take over numbers that a protocol counts by itself and that only grow, by kind."""
        before = self._totals.setdefault(protocol, {})
        for kind, total in totals.items():
            self._events.labels(protocol, kind).inc(total - before.get(kind, 0))
            before[kind] = total


class CountingAuthenticator:
    """A SaslAuthenticator that counts what another one answers."""

    def __init__(self, inner: SaslAuthenticator, metrics: Metrics) -> None:
        self._inner = inner
        self._metrics = metrics

    @property
    def offers(self) -> Offers:
        return self._inner.offers

    def verify(self, sign_in: SignIn) -> Principal:
        return self._counted(sign_in.protocol, lambda: self._inner.verify(sign_in))

    def scram_begin(self, opening: ScramOpening) -> ScramChallenge:
        return self._inner.scram_begin(opening)

    def scram_finish(self, challenge: ScramChallenge, message: bytes) -> SignedInByScram:
        return self._counted(challenge.protocol, lambda: self._inner.scram_finish(challenge, message))

    def verify_token(self, sign_in: TokenSignIn) -> Principal:
        return self._counted(sign_in.protocol, lambda: self._inner.verify_token(sign_in))

    def _counted(self, protocol: str, decide: Callable[[], T]) -> T:
        started, result = time.perf_counter(), "unavailable"
        try:
            decided = decide()
            result = "success"
        except CleanmailError as error:
            result = _result(error)
            raise
        else:
            return decided
        finally:
            self._metrics.sign_ins.labels(protocol, result).inc()
            self._metrics.sign_in_seconds.labels(protocol).observe(time.perf_counter() - started)

    def still_valid(self, principal: Principal) -> bool:
        return self._inner.still_valid(principal)


def _result(error: CleanmailError) -> str:
    if isinstance(error, AuthenticationFailed):
        return "failed"
    if isinstance(error, Throttled):
        return "throttled"
    return "suspended" if isinstance(error, Suspended) else "unavailable"


def prepare_directory(path: Path) -> None:
    """An empty folder for the counters of a new run, at or behind `path`; to be called before any worker starts."""
    remove_directory(path)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.access(_MEMORY, os.W_OK):
        path.symlink_to(tempfile.mkdtemp(prefix=_PREFIX, dir=_MEMORY))
    else:
        path.mkdir(mode=0o700)
    os.environ[DIRECTORY_VARIABLE] = str(path)


def remove_directory(path: Path) -> None:
    """The counters of a run that ended, however it ended."""
    if path.is_symlink():
        target = path.readlink()
        if target.parent == _MEMORY and target.name.startswith(_PREFIX):
            shutil.rmtree(target, ignore_errors=True)
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def shared_registry(path: Path) -> CollectorRegistry:
    """Reads what all workers counted."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(path))  # type: ignore[no-untyped-call]
    return registry


def forget_process(path: Path, pid: int) -> None:
    """A worker has ended: its gauges end, its counters stay."""
    mark_process_dead(pid, str(path))  # type: ignore[no-untyped-call]


class RoleCollector(Collector):
    """The processes as the supervisor sees them: which run, how often they were started again, their memory."""

    def __init__(
        self, processes: Callable[[], Iterable[tuple[str, int, int | None]]], restarts: Mapping[str, int]
    ) -> None:
        """`processes` gives (role, index, pid or None) of each."""
        self._processes = processes
        self._restarts = restarts

    def collect(self) -> Iterable[Metric]:
        up = GaugeMetricFamily("cleanmail_process_up", "1 while the process is ready", labels=["role", "index"])
        memory = GaugeMetricFamily(
            "cleanmail_process_resident_bytes", "Memory of the process", labels=["role", "index"]
        )
        for role, index, pid in self._processes():
            up.add_metric([role, str(index)], 0 if pid is None else 1)
            if pid is not None:
                memory.add_metric([role, str(index)], resident_bytes(pid))
        restarts = GaugeMetricFamily("cleanmail_process_restarts", "Times a process was started again", labels=["role"])
        for role, count in self._restarts.items():
            restarts.add_metric([role], count)
        return [up, memory, restarts]


def resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    except (OSError, IndexError, ValueError):
        return 0
