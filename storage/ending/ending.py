"""Ends a tenant's contract, or one account, and proves it: the fence, the keys, what is removed, the certificate.

An ending is ordered in one commit, from which there is no way back, and carried out step by step by whoever comes
first: every step is durable before the next begins and may be repeated, so after a crash `carry_out` goes on and comes
to the same certificate. Everything is unreadable when the keys are destroyed, seconds after the order whatever there
is to remove; what follows takes its time. It costs the same however many other tenants there are, but for the search,
which reads the installation's own databases, logs and files.

Who writes to a tenant that ends either commits while its databases are still open, and is answered, or fails: the
databases are closed before the lease is given, and nothing is opened afterwards.

Raises: NotFound, Conflict (a legal hold; remains were found), Busy (another process carries it out), Unavailable (a
process does not let go; the clock is wrong; the search failed), StorageFull. Whatever it raises, it goes on later.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from typing import Any

from storage.certificates.certificate import Certificate
from storage.certificates.issuing import issue_and_keep, pages
from storage.certificates.store import Certificates
from storage.directory.endings import EndingRow
from storage.ending import folder
from storage.ending.certifying import certificate_of
from storage.ending.processes import Processes
from storage.ending.remains import Found
from storage.ending.scopes import scope_of, still_in_use
from storage.ending.search import search
from storage.ending.sought import Sought, SoughtBox, keys_without_ending
from storage.ending.steps import Step
from storage.errors import Busy, CleanmailError, Conflict, Gone, NotFound, StorageFull, Unavailable
from storage.files import durable
from storage.installation import Installation

_log = logging.getLogger("cleanmail.storage")

LET_GO = 5.0  # seconds that other processes have to let go; who has not is killed
_ALONE = 5.0  # seconds more until an ending is put off
_POLL = 0.1
_TELL_EACH = 1.0  # seconds
_LOGS = 10.0  # seconds to find a moment at which nobody reads
_NOTE_EACH = 1.0  # seconds after which progress is written down
_ORDER_TAKES = 3600  # seconds, at the very most, from the making of its key to its commit

_PASSING = ("steps", "now", "failure")  # parts of the row's progress that are no counts

Progress = Callable[[Step, int, int], None]
"""The step that is worked on, how much of it is done, of how much (0: unknown). What it raises stops the work there."""


def carry_out(
    installation: Installation,
    ending_id: str,
    *,
    people: Processes,
    progress: Progress | None = None,
    issuer: str = "",
) -> Certificate:
    """Do what is left of it; the certificate, also if it was done before. One process at a time."""
    with _turn(installation, ending_id):
        row = installation.control.endings.find(ending_id)
        if row.finished is None:
            work = _Work(installation, row, people, progress or _nobody_looks)
            try:
                work.carry_out(issuer)
            except (CleanmailError, OSError) as raised:
                error = durable.translated(raised) if isinstance(raised, OSError) else raised
                work.note_failure(error.public)
                raise error from None
    return Certificates(installation.data).show(ending_id)


def tidy(installation: Installation) -> int:
    """Remove keys of orders that a crash kept from being made; how many."""
    before = installation.clock.now() - _ORDER_TAKES
    paths = keys_without_ending(installation.data, {row.ending_id for row in installation.control.endings.open()})
    return sum(durable.remove_file(path) for path in paths if path.stat().st_mtime < before)


@contextmanager
def _turn(installation: Installation, ending_id: str) -> Iterator[None]:
    installation.control.endings.find(ending_id)  # so that no file is made for what is no ending
    directory = installation.data / "run" / "endings"
    durable.make_directory(directory)
    path = directory / ending_id
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy("Another process carries out this ending.", detail=f"ending {ending_id}") from None
        yield
        if installation.control.endings.find(ending_id).finished is not None:
            with suppress(OSError):
                path.unlink()
    finally:
        os.close(descriptor)


class _Work:
    def __init__(self, installation: Installation, row: EndingRow, people: Processes, progress: Progress) -> None:
        self._installation = installation
        self._endings = installation.control.endings
        self._people = people
        self._progress = progress
        self._noted = installation.clock.monotonic()
        self._row = row
        self._box = SoughtBox(installation.data, row.ending_id)
        self._scope = scope_of(installation, row.tenant_id, row.account_id)
        self._counted: dict[str, Any] = {name: each for name, each in row.progress.items() if name not in _PASSING}

    def carry_out(self, issuer: str) -> None:
        certificates = Certificates(self._installation.data)
        with suppress(NotFound):  # it is issued already
            certificates.keep(document := certificates.document(self._row.ending_id), pages(document))
            self._finish()
            return
        self._fence()
        if not self._row.has(Step.MOVED):
            with self._alone():
                self._gather()
                self._destroy()
                self._take_away()
        self._count()
        self._remove_rows()
        self._remove_files()
        self._search()
        certificate = certificate_of(self._installation, self._row, self._sought(), self._counted, issuer)
        issue_and_keep(certificate, self._installation.keys, self._installation.data)
        self._finish()

    def note_failure(self, sentence: str) -> None:
        """For whoever looks why it does not go on."""
        with suppress(CleanmailError):
            self._note(failure=sentence)

    def _tell(self, step: Step, done: int, total: int) -> None:
        self._progress(step, done, total)
        now = self._installation.clock.monotonic()
        if now - self._noted >= _NOTE_EACH:
            self._noted = now
            self._note(now=[step.value, done, total])

    def _note(self, **passing: Any) -> None:
        steps = self._row.progress.get("steps", {})
        self._endings.note(self._row.ending_id, {**self._counted, "steps": steps, **passing})

    # The steps

    def _fence(self) -> None:
        if not self._row.has(Step.KEYS_DESTROYED):
            self._tell(Step.FENCED, 0, 0)
            self._scope.check_holds()
            self._scope.fence()
            self._scope.tell()
            self._done(Step.FENCED)

    def _alone(self) -> ExitStack:
        """A context in which nobody has anything of it open. Who does not let go in time is killed."""
        begun = told = self._installation.clock.monotonic()
        killed = False
        while True:
            left = self._people.holding(self._scope.tenant_id, self._scope.folder, keys=self._scope.holds_keys)
            waited = self._installation.clock.monotonic() - begun
            self._tell(Step.ALONE, int(waited), int(LET_GO + _ALONE))
            if left and waited > LET_GO and not killed:
                killed = True
                self._counted["killed"] = self._counted.get("killed", 0) + self._people.kill(
                    self._scope.tenant_id, left
                )
                _log.warning("ending %s: %d processes did not let go and were killed", self._row.ending_id, len(left))
            if not left or waited > LET_GO:
                alone = ExitStack()
                try:
                    alone.enter_context(self._scope.alone(_POLL))
                    return alone
                except StorageFull:
                    raise
                except Unavailable:
                    pass  # a moment later
            if waited > LET_GO + _ALONE:
                raise still_in_use(self._scope)
            threading.Event().wait(_POLL)
            if self._installation.clock.monotonic() - told >= _TELL_EACH:
                told = self._installation.clock.monotonic()
                self._scope.tell()

    def _gather(self) -> None:
        if not self._row.has(Step.ALONE):
            waiting = self._scope.waiting()
            sought, entries = self._scope.gather(self._sought())
            domains = len(sought.domains) if self._scope.account_id is None else 0
            self._counted["waiting"] = asdict(waiting)
            self._counted["rows"] = len(sought.accounts) + domains + waiting.entries + waiting.recipients
            self._counted["accounts"] = len(sought.accounts)
            self._counted["entries"] = entries
            self._done(Step.ALONE, sought)

    def _destroy(self) -> None:
        if not self._row.has(Step.KEYS_DESTROYED):
            self._tell(Step.KEYS_DESTROYED, 0, 0)
            self._scope.check_holds()
            self._counted["destroyed"] = self._scope.destroy().fields()
            self._done(Step.KEYS_DESTROYED)

    def _take_away(self) -> None:
        self._tell(Step.MOVED, 0, 0)
        folder.take_away(self._installation.data, self._scope.folder, self._row.ending_id)
        self._done(Step.MOVED)

    def _count(self) -> None:
        """Before anything is removed, so that it comes to the same however often it is interrupted."""
        if "counts" not in self._counted:
            erasing = folder.take_away(self._installation.data, self._scope.folder, self._row.ending_id)
            found = folder.count(erasing, lambda files: self._tell(Step.MOVED, files, 0))
            self._counted["counts"] = {
                **asdict(found),
                "accounts": self._counted["accounts"],
                "queue_entries": self._counted["waiting"]["entries"],
                "rows": self._counted["rows"],
                "entries": self._counted.get("entries"),  # an ending that an older version began has none
            }
            self._note()

    def _remove_rows(self) -> None:
        if not self._row.has(Step.ROWS_REMOVED):
            self._tell(Step.ROWS_REMOVED, 0, 0)
            self._scope.remove_rows(self._sought())
            self._done(Step.ROWS_REMOVED)

    def _remove_files(self) -> None:
        if not self._row.has(Step.FILES_REMOVED):
            files = self._counted["counts"]["files"]
            self._tell(Step.FILES_REMOVED, 0, files)
            folder.remove(
                self._installation.data / folder.ERASING / self._row.ending_id,
                lambda removed: self._tell(Step.FILES_REMOVED, removed, files),
            )
            self._done(Step.FILES_REMOVED)

    def _search(self) -> None:
        if not self._row.has(Step.SEARCHED):
            octets = self._octets()
            self._tell(Step.SEARCHED, 0, octets)
            if self._scope.account_id is None:  # an account's end is no reason to end everybody's sessions
                recycled = self._people.recycle(self._scope.tenant_id)
                self._counted["recycled"] = self._counted.get("recycled", 0) + recycled
            self._scope.remove_rows(self._sought())  # of writers that were late
            self._truncate_logs()
            searched = search(
                self._scope,
                self._sought(),
                self._row.ending_id,
                lambda _, done: self._tell(Step.SEARCHED, done, octets),
                thorough=self._row.thorough,
            )
            if searched.remains:
                _log.error("ending %s: %s", self._row.ending_id, _places(searched.remains))
                raise Conflict(
                    f"The search found remains: {_places(searched.remains)}. Nothing is certified until they are gone."
                )
            values = asdict(searched.result)
            self._counted["search"] = {**values, "found": len(searched.result.found), "thorough": self._row.thorough}
            if self._scope.account_id is not None:
                self._counted["replaced_until"] = self._people.replaced_until(self._installation.clock.now())
            else:  # the last of them, since the search and those that were replaced before asked it for keys
                self._counted["recycled"] += self._people.recycle_key_holder()
            self._done(Step.SEARCHED)

    def _truncate_logs(self) -> None:
        begun = self._installation.clock.monotonic()
        while not self._scope.truncate_logs():
            if self._installation.clock.monotonic() - begun > _LOGS:
                raise Unavailable("The databases are too busy to be searched now; it is tried again.")
            threading.Event().wait(_POLL)

    def _octets(self) -> int:
        """What the search reads of databases, to show how far it is."""
        data = self._installation.data
        return sum((data / f"{name}.db").stat().st_size for name in ("control", "queue", "audit"))

    def _finish(self) -> None:
        with suppress(Gone, NotFound):
            self._installation.audit.append(
                "ending.certify", "cleanmail", details={"ending": self._row.ending_id, "scope": self._scope_number()}
            )
        self._row = self._endings.finish(self._row, self._counted)
        self._box.remove_key()
        self._tell(Step.CERTIFIED, 1, 1)

    def _scope_number(self) -> str:
        tenant_id, account_id = self._row.tenant_id, self._row.account_id
        return f"tenant {tenant_id}" if account_id is None else f"tenant {tenant_id}, account {account_id}"

    def _done(self, step: Step, sought: Sought | None = None) -> None:
        if not self._row.has(step):
            box = self._row.sought if sought is None else self._box.seal(sought)
            self._row = self._endings.advance(self._row, step, self._counted, box)

    def _sought(self) -> Sought:
        """If its key was lost, what is gathered counts: nothing may keep the erasure from going on."""
        with suppress(Gone):
            if self._row.sought is not None:
                return self._box.open(self._row.sought)
        if not self._box.has_key:
            self._box.make_key()
        return Sought(f"ended-{self._row.tenant_id}", ())


def _nobody_looks(step: Step, done: int, total: int) -> None:
    return None


def _places(remains: tuple[Found, ...]) -> str:
    """How many places of which kind; what they are called may say whose they were."""
    kinds = Counter(kind for _, kind, _ in {(each.where, each.kind, each.table) for each in remains})
    return ", ".join(f"{number} in {kind}s" for kind, number in sorted(kinds.items()))
