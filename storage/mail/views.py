"""The views of one account that are in memory, one for each mailbox at most."""

from __future__ import annotations

from threading import Lock
from weakref import WeakValueDictionary

from storage.background import Background
from storage.mail.ledger import Delta
from storage.mail.snapshots import Picture
from storage.mail.view import MailboxView
from storage.mail.view_rows import MailboxState, ViewRows
from storage.values import AccountId, MailboxId

_KEPT = 2  # views that stay although no session uses them
_WORTH_IT = 500  # messages from which on a snapshot is kept
_MANY = 5000  # messages whose sizes and dates are read while the view is loaded, not when the event loop wants them


class Views:
    def __init__(self, account_id: AccountId, rows: ViewRows, background: Background) -> None:
        self._account_id = account_id
        self._rows = rows
        self._background = background
        self._lock = Lock()
        self._views: WeakValueDictionary[MailboxId, MailboxView] = WeakValueDictionary()
        self._kept: list[MailboxView] = []

    def loaded(self, mailbox_id: MailboxId) -> MailboxView | None:
        """The view, if it is in memory; as it is, so call its `refresh`."""
        with self._lock:
            return self._views.get(mailbox_id)

    def load(self, mailbox_id: MailboxId) -> MailboxView:
        """The view, from the last snapshot and what changed since, or from the rows. Raises Gone.

        It may be called on any thread. A view that was in memory comes back as it is.
        """
        view = self.loaded(mailbox_id)
        if view is None:
            view = self._read(mailbox_id)
            with self._lock:
                view = self._views.setdefault(mailbox_id, view)
        with self._lock:
            if view not in self._kept:
                self._kept = [*self._kept, view][-_KEPT:]
        return view

    def tell(self, mailbox_id: MailboxId, delta: Delta) -> None:
        """This process has committed a change; called on the thread that did it."""
        view = self._views.get(mailbox_id)
        if view is not None:
            view.tell(delta)

    def forget_answers(self) -> None:
        """Nothing that was searched for is remembered."""
        with self._lock:
            views = list(self._views.values())
        for view in views:
            view.forget_answers()

    def _read(self, mailbox_id: MailboxId) -> MailboxView:
        with self._rows.database.snapshot() as connection:
            state = self._rows.state(connection, mailbox_id)
            keywords = self._rows.keywords(connection, mailbox_id)
            picture = self._rows.snapshots.rows(connection, mailbox_id)
            if picture is not None and picture.modseq >= state.expunged_horizon:
                view = self._of_picture(mailbox_id, state, picture, keywords)
            else:
                arrays = self._rows.everything(connection, mailbox_id)
                view = MailboxView(mailbox_id, self._rows, state, arrays, keywords, self._save)
                picture = None
        if len(view) >= _MANY and picture is None:  # rows are read anyway; else whoever needs sizes reads them
            view.prepare_columns()
            view.columns()
            view.save_snapshot()
        elif picture is None and len(view) >= _WORTH_IT:
            view.save_snapshot()
        return view

    def _of_picture(
        self,
        mailbox_id: MailboxId,
        state: MailboxState,
        picture: Picture,
        keywords: dict[int, str],
    ) -> MailboxView:
        """The snapshot, brought up to date within the same state of the database."""
        past = MailboxState(picture.modseq, state.uidnext, state.uidvalidity, state.expunged_horizon)
        view = MailboxView(mailbox_id, self._rows, past, picture.rows, keywords, self._save)
        view.refresh()
        return view

    def _save(self, mailbox_id: MailboxId, picture: Picture) -> None:
        snapshots = self._rows.snapshots
        self._background.submit((self._account_id, "snapshot", mailbox_id), lambda: snapshots.save(mailbox_id, picture))
