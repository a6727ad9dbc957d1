"""The views of one account that are in memory, one for each mailbox at most."""

from __future__ import annotations

from weakref import ref

from storage.background import Background
from storage.database.database import Connection
from storage.locks import new_lock
from storage.mail.ledger import Delta
from storage.mail.snapshots import Found, Picture
from storage.mail.view import MailboxView
from storage.mail.view_rows import FarBehind, MailboxState, ViewRows
from storage.values import AccountId, MailboxId

_KEPT = 2  # views that stay although no session uses them
_WORTH_IT = 500  # messages from which on a snapshot is kept
_UNPACKED = 300_000  # messages up to which the UIDs of a snapshot are unpacked in an event loop
_MANY = 5000  # messages whose sizes and dates are read while the view is loaded, not when the event loop wants them


class Views:
    def __init__(self, account_id: AccountId, rows: ViewRows, background: Background) -> None:
        self._account_id = account_id
        self._rows = rows
        self._background = background
        self._lock = new_lock()
        # Those that nobody uses are gone: a WeakValueDictionary does the same, and takes half a kilobyte of an account.
        self._views: dict[MailboxId, ref[MailboxView]] = {}
        self._kept: list[MailboxView] = []

    def loaded(self, mailbox_id: MailboxId) -> MailboxView | None:
        """The view, if it is in memory; as it is, so call its `refresh`."""
        found = self._views.get(mailbox_id)
        return None if found is None else found()

    def load(self, mailbox_id: MailboxId) -> MailboxView:
        """The view, from the last snapshot and what changed since, or from the rows. Raises Gone.

        It may be called on any thread. A view that was in memory comes back as it is.
        """
        view = self.loaded(mailbox_id)
        return self._taken_up(view if view is not None else self._read(mailbox_id))

    def quickly(self, mailbox_id: MailboxId) -> MailboxView | None:
        """The same for an event loop; None: that takes more than a millisecond or two. Raises Gone."""
        view = self.loaded(mailbox_id)
        try:
            return self._taken_up(view if view is not None else self._read(mailbox_id, quick=True))
        except FarBehind:
            return None

    def _taken_up(self, view: MailboxView) -> MailboxView:
        with self._lock:
            there = self.loaded(view.mailbox_id)
            if there is None:
                self._views = {one: each for one, each in self._views.items() if each() is not None}
                self._views[view.mailbox_id] = ref(view)
            else:
                view = there
            if view not in self._kept:
                self._kept = [*self._kept, view][-_KEPT:]
        return view

    def tell(self, mailbox_id: MailboxId, delta: Delta) -> None:
        """This process has committed a change; called on the thread that did it."""
        view = self.loaded(mailbox_id)
        if view is not None:
            view.tell(delta)

    def forget_answers(self) -> None:
        """Nothing that was searched for is remembered."""
        for each in list(self._views.values()):
            view = each()
            if view is not None:
                view.forget_answers()

    def _read(self, mailbox_id: MailboxId, *, quick: bool = False) -> MailboxView:
        """`quick`: raises FarBehind rather than take long."""
        rows = self._rows
        with rows.database.snapshot() as connection:
            state = rows.state(connection, mailbox_id)
            found = rows.snapshots.rows(connection, mailbox_id)
            if found is not None and found.modseq < state.expunged_horizon:
                found = None
            if quick and not self._is_little(connection, state, mailbox_id, found):
                raise FarBehind
            keywords = rows.keywords(connection, mailbox_id)
            if found is not None:  # brought up to date within the same state of the database
                past = MailboxState(found.modseq, state.uidnext, state.uidvalidity, state.expunged_horizon)
                view = MailboxView(mailbox_id, rows, past, found.rows, keywords, self._save)
                view.refresh()
                return view
            view = MailboxView(mailbox_id, rows, state, rows.everything(connection, mailbox_id), keywords, self._save)
        if len(view) >= _MANY:  # rows are read anyway; else whoever needs sizes reads them
            view.prepare_columns()
            view.columns()
            view.save_snapshot()
        elif len(view) >= _WORTH_IT:
            view.save_snapshot()
        return view

    def _is_little(
        self, connection: Connection, state: MailboxState, mailbox_id: MailboxId, found: Found | None
    ) -> bool:
        """Whether a mailbox is read in a millisecond or two, by its snapshot or without one."""
        if found is None:
            return state.uidnext <= _WORTH_IT
        return found.rows.count < _UNPACKED and (
            found.modseq == state.highest_modseq
            or self._rows.few_since(connection, mailbox_id, found.modseq, found.rows.count)
        )

    def _save(self, mailbox_id: MailboxId, picture: Picture) -> None:
        snapshots = self._rows.snapshots
        self._background.submit((self._account_id, "snapshot", mailbox_id), lambda: snapshots.save(mailbox_id, picture))
