"""Checks of an account's files against its rows: every row has its file, every file its row, and each says the same.

Writers may be at work: what looks wrong is looked at again, and files of living writers are theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import bindparam, select

from storage.checks.finding import Finding, Kind, Severity
from storage.database.prepared import prepare
from storage.errors import Corrupt, NotFound, Unavailable
from storage.files.incarnation import Incarnation
from storage.files.maildir import incarnation_of
from storage.mail.account import Account
from storage.schema.account import message, unlink

_mine = message.c.account_id == bindparam("account_id")
_columns = (message.c.file, message.c.message_id, message.c.size, message.c.internal_date)
_all_rows = prepare(select(*_columns).where(_mine))
_one_row = prepare(select(*_columns).where(_mine, message.c.message_id == bindparam("message_id")))
_by_file = prepare(select(message.c.file).where(_mine, message.c.file == bindparam("file")))
_my_unlink = unlink.c.account_id == bindparam("account_id")
_unlinks = prepare(select(unlink.c.file).where(_my_unlink))
_unlink = prepare(select(unlink.c.file).where(_my_unlink, unlink.c.file == bindparam("file")))


class _Row(NamedTuple):
    file: str
    message_id: int
    size: int
    internal_date: int


def check_files(account: Account, incarnation: Incarnation, *, contents: bool) -> Iterator[Finding]:
    """Files against rows; with `contents` every file is decrypted and compared with its row."""
    folders = {folder: set(account.maildir.names(folder)) for folder in ("tmp", "new", "cur")}
    with account.database.reading() as connection:
        rows = [_Row(*row) for row in _all_rows.rows(connection, account_id=account.account_id)]
        unlinks = {row[0] for row in _unlinks.rows(connection, account_id=account.account_id)}
    here = folders["new"] | folders["cur"]
    for row in rows:
        if row.file not in here and _is_missing(account, row):
            yield Finding(
                Kind.FILE_MISSING,
                Severity.ALARM,
                f"The file of message {row.message_id} is gone: {row.file}.",
                message_id=row.message_id,
                file=row.file,
            )
        elif contents:
            yield from _check_content(account, row)
    named = {row.file for row in rows}
    for folder, names in folders.items():
        for name in sorted(names - named):
            yield from _check_unnamed(account, incarnation, folder, name, is_to_go=name in unlinks)


def _is_missing(account: Account, row: _Row) -> bool:
    """Whether the file is gone and the row still there."""
    if account.maildir.has(row.file):
        return False
    with account.database.reading() as connection:
        return _one_row.one(connection, account_id=account.account_id, message_id=row.message_id) is not None


def _is_known(account: Account, name: str) -> bool:
    """Whether a row names the file now, to keep it or to remove it."""
    with account.database.reading() as connection:
        return any(each.one(connection, account_id=account.account_id, file=name) for each in (_by_file, _unlink))


def _check_unnamed(
    account: Account, incarnation: Incarnation, folder: str, name: str, *, is_to_go: bool
) -> Iterator[Finding]:
    """A file that no row named when the rows were read."""
    if is_to_go:
        text = f"A file waits for its removal: {name}."
        yield Finding(Kind.FILE_TO_REMOVE, Severity.NOTE, text, file=name)
        return
    if incarnation.is_alive(incarnation_of(name)) and folder != "cur":
        return
    if folder == "tmp":
        text = f"A file of a writer that died lies in tmp/; the sweep removes it: {name}."
        yield Finding(Kind.FILE_UNFINISHED, Severity.NOTE, text, file=name)
        return
    if _is_known(account, name) or not account.maildir.has(name):
        return  # it was committed or expunged meanwhile
    if folder == "new":
        text = f"A file of a writer that died lies in new/ without a row; the sweep removes it: {name}."
        yield Finding(Kind.FILE_UNFINISHED, Severity.NOTE, text, file=name)
    else:
        text = f"No row names this file; a rebuild would bring its message back: {name}."
        yield Finding(Kind.FILE_WITHOUT_ROW, Severity.ERROR, text, file=name)


def _check_content(account: Account, row: _Row) -> Iterator[Finding]:
    """The file itself: it decrypts, and says of itself what the row says."""
    try:
        meta, data = account.maildir.read(row.file, account.key)
    except NotFound:
        if _is_missing(account, row):
            yield Finding(
                Kind.FILE_MISSING,
                Severity.ALARM,
                f"The file of message {row.message_id} is gone: {row.file}.",
                message_id=row.message_id,
                file=row.file,
            )
        return
    except (Corrupt, Unavailable) as error:
        yield Finding(
            Kind.FILE_UNREADABLE,
            Severity.ALARM,
            f"The file of message {row.message_id} cannot be read ({error.detail}): {row.file}.",
            message_id=row.message_id,
            file=row.file,
        )
        return
    compared = (
        ("account", meta.account_id, account.account_id),
        ("message", meta.message_id, row.message_id),
        ("INTERNALDATE", meta.internal_date, row.internal_date),
        ("size", len(meta.prefix) + len(data), row.size),
    )
    for what, in_file, in_row in compared:
        if in_file != in_row:
            yield Finding(
                Kind.FILE_DIFFERS,
                Severity.ERROR,
                f"The file of message {row.message_id} says {what} {in_file}, its row {in_row}.",
                message_id=row.message_id,
                file=row.file,
            )
