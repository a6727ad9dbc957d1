"""cleanmail migrate: brings an account, or a list of them, over from another provider's IMAP server.

Each account that is written to has an audit record first, which its owner sees. No secret stands on the command line or
in a log; files of secrets are read with the rights of the server, and never from the data directory. May be interrupted
and run again, as often as it takes until the cut-over.
"""

from __future__ import annotations

import getpass
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from functools import partial
from pathlib import Path
from threading import Event, Lock
from typing import Annotated, Any

import typer
from rich.progress import Progress as Bar

from hosting.administration import Administration
from hosting.cli import invocation
from hosting.cli.archives import ARCHIVE_INCOMPLETE
from hosting.cli.invocation import Invocation
from hosting.cli.output import size
from hosting.migration.account import migrate as move
from hosting.migration.folders import Choice
from hosting.migration.report import Progress, Report
from hosting.migration.run import Orders, Stopped
from hosting.migration.source import Login, Source, secret_in, secret_of, source_of
from hosting.migration.table import Row, read_table
from storage.errors import CleanmailError, InvalidInput
from storage.mail.quota import Limits

_TOGETHER_MAX = 32
_SECRET_MAX = 16_384


def migrate(
    context: typer.Context,
    address: Annotated[str, typer.Argument(help="The account here; none with --list.")] = "",
    server: Annotated[
        str, typer.Option("--from", metavar="URL", help="imaps://host[:port], or imap://host[:port] for STARTTLS.")
    ] = "",
    user: Annotated[str, typer.Option(metavar="LOGIN", help="Who signs in there.")] = "",
    password_file: Annotated[Path | None, typer.Option(help="Its first line is the password there.")] = None,
    password_fd: Annotated[
        int, typer.Option(show_default=False, help="An open file descriptor with the password there.")
    ] = -1,
    master_user: Annotated[
        str, typer.Option(metavar="LOGIN", help="Sign in as this user, whose password it is, on behalf of --user.")
    ] = "",
    oauth_token_file: Annotated[
        Path | None, typer.Option(help="An OAuth 2 access token; the file is read again for each connection.")
    ] = None,
    ca: Annotated[Path | None, typer.Option(help="Trust these authorities (PEM) instead of the system's.")] = None,
    insecure_tls: Annotated[
        bool, typer.Option("--insecure-tls", help="Do not verify the certificate; of a server on this machine only.")
    ] = False,
    folder: Annotated[list[str] | None, typer.Option(help="Only this folder; may be given several times.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Not this folder; may be given several times.")] = None,
    place: Annotated[
        list[str] | None, typer.Option("--map", metavar="OLD=NEW", help="Where a folder goes; several times.")
    ] = None,
    since: Annotated[str, typer.Option(metavar="DATE", help="Only what came there on that day or later.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    delete_gone: Annotated[
        bool, typer.Option("--delete-gone", help="What came from there and is gone there goes here too.")
    ] = False,
    final: Annotated[
        bool,
        typer.Option(
            "--final", help="The last one, after the cut-over: once all is here, forget what came from where."
        ),
    ] = False,
    table: Annotated[
        Path | None, typer.Option("--list", metavar="FILE.csv", help="Accounts: address, user, password or its file.")
    ] = None,
    together: Annotated[int, typer.Option(min=1, max=_TOGETHER_MAX, help="Accounts of a list at a time.")] = 4,
) -> None:
    """Pull an account over IMAP from another provider; run it again to go on, and to bring what is new."""
    run = invocation.of(context)
    orders = Orders(_day(since), dry_run, delete_gone, final, _choice(folder, exclude, place))
    if bool(address) == (table is not None):
        raise InvalidInput("Say: cleanmail migrate ADDRESS --from URL --user LOGIN, or: cleanmail migrate --list FILE.")
    with run.administration() as administration:
        if table is not None:
            if user or password_file or password_fd >= 0 or oauth_token_file:
                raise InvalidInput("With --list, who signs in and with which password stands in the file.")
            rows = read_table(table, run.data)
        else:
            if not server or not user:
                raise InvalidInput("Say from which server (--from) and as whom (--user).")
            secret, is_token = _secret(run, password_file, password_fd, oauth_token_file)
            rows = [Row(address, user, secret, "", is_token)]
        moves = _Moves(run, administration, orders)
        jobs = [
            (
                row.address,
                source_of(row.server or server, ca, verify=not insecure_tls),
                Login(row.user, row.secret, master_user, row.is_token),
            )
            for row in rows
        ]
        complete = moves.several(jobs, together) if table is not None else moves.one(*jobs[0])
    if not complete:
        raise typer.Exit(ARCHIVE_INCOMPLETE)


Job = tuple[str, Source, Login]


class _Moves:
    def __init__(self, run: Invocation, administration: Administration, orders: Orders) -> None:
        self._run = run
        self._administration = administration
        self._orders = orders
        self._interrupted = Event()
        self._audit = Lock()

    def one(self, address: str, source: Source, login: Login) -> bool:
        with self._run.output.progress() as bar:
            report = self._move(address, source, login, _Speed(bar, address))
        _print(self._run, address, report, self._orders)
        return report.is_complete

    def several(self, jobs: list[Job], together: int) -> bool:
        """An account that fails does not keep the others from moving."""
        found: dict[str, Report | str] = {}
        with self._run.output.progress() as bar, ThreadPoolExecutor(together) as pool:

            def work(job: Job) -> None:
                try:
                    found[job[0]] = self._move(*job, _Speed(bar, job[0]))
                except (CleanmailError, Stopped) as error:
                    found[job[0]] = error.public if isinstance(error, CleanmailError) else error.said

            waiting = [pool.submit(work, job) for job in jobs]
            try:
                for each in waiting:
                    each.result()
            except BaseException:
                self._interrupted.set()
                pool.shutdown(cancel_futures=True)
                raise
        _print_all(self._run, [address for address, _, _ in jobs], found)
        return all(isinstance(each, Report) and each.is_complete for each in found.values())

    def _move(self, address: str, source: Source, login: Login, tell: Callable[[Progress], None]) -> Report:
        administration = self._administration
        whose = invocation.find_account(administration, address)
        tenant_id, row = whose.tenant.tenant_id, whose.account
        contracts = administration.control.contracts
        contracts.check_open(tenant_id)
        details = {"from": str(source), "user": login.user, "dry_run": "yes" if self._orders.is_dry else "no"}
        with self._audit:
            administration.installation.audit.append(
                "account.migrate", self._run.operator, tenant_id, row.account_id, details
            )

        def check() -> None:
            if self._interrupted.is_set():
                raise Stopped("It was interrupted.")
            contracts.check_open(tenant_id)

        limits = Limits(row.quota_bytes, row.quota_messages)
        with administration.installation.account(tenant_id, row.account_id, limits=limits) as account:
            return move(account, source, login, self._orders, run=self._run.data / "run", check=check, tell=tell)


class _Speed:
    """A line for the folder at hand, with messages a second."""

    def __init__(self, bar: Bar, address: str) -> None:
        self._bar = bar
        self._address = address
        self._task = bar.add_task(address, total=None)
        self._folder = ""
        self._begun = 0.0
        self._first = 0

    def __call__(self, progress: Progress) -> None:
        if progress.waits:
            waits = f"{self._address} lost the connection; it is tried again in {progress.waits:.0f} s"
            self._bar.update(self._task, description=waits)
            return
        now = time.monotonic()
        if progress.folder != self._folder:
            self._folder, self._begun, self._first = progress.folder, now, progress.done
        passed = now - self._begun
        speed = f", {(progress.done - self._first) / passed:,.0f}/s" if passed > 0.5 else ""
        self._bar.update(
            self._task,
            description=f"{self._address} {progress.folder[:40]}{speed}",
            completed=progress.done,
            total=progress.total,
        )


# What was asked for


def _secret(run: Invocation, file: Path | None, descriptor: int, token: Path | None) -> tuple[Callable[[], str], bool]:
    if (file is not None) + (descriptor >= 0) + (token is not None) > 1:
        raise InvalidInput("Give one of --password-file, --password-fd and --oauth-token-file.")
    if token is not None or file is not None:
        path = token or file
        assert path is not None
        secret = partial(secret_of, path.absolute(), run.data)
        secret()
        return secret, token is not None
    if descriptor >= 0:
        try:
            with os.fdopen(os.dup(descriptor), "rb") as opened:
                text = secret_in(opened.readline(_SECRET_MAX), f"File descriptor {descriptor}")
        except OSError as error:
            raise InvalidInput(f"File descriptor {descriptor} cannot be read: {error.strerror}.") from None
    elif sys.stdin.isatty():
        text = getpass.getpass("Password on the other server: ")
        if not text:
            raise InvalidInput("A password cannot be empty.")
    else:
        raise InvalidInput("There is no terminal to ask for a password on; use --password-file or --password-fd.")
    return (lambda: text), False


def _choice(only: list[str] | None, without: list[str] | None, places: list[str] | None) -> Choice:
    pairs: dict[str, str] = {}
    for each in places or ():
        old, equals, new = each.partition("=")
        if not equals or not old or not new:
            raise InvalidInput(f"'{each[:80]}' is no OLD=NEW.")
        pairs[old] = new
    return Choice(frozenset(only or ()), frozenset(without or ()), pairs)


def _day(text: str) -> date | None:
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InvalidInput(f"'{text[:40]}' is no date; write 2026-05-01.") from None


# What is said of it


def _sentence(report: Report) -> str:
    if report.is_dry:
        return (
            f"{report.total('there')} messages are there, {report.total('pending')} of them"
            f" ({size(report.total('octets'))}) would be pulled"
        )
    return (
        f"{report.total('pulled')} messages ({size(report.total('octets'))}) were pulled, {report.total('present')}"
        f" were here already. There {report.total('there')}, here {report.total('here')},"
        f" missing {report.total('missing')}"
    )


def _print(run: Invocation, address: str, report: Report, orders: Orders) -> None:
    if run.output.as_json:
        run.output.done("", {"address": address, **report.values()})
        return
    columns = {"folder": "FOLDER", "mailbox": "HERE", "there": "THERE", "here": "HERE NOW", "missing": "MISSING"}
    columns |= {"pending": "NEW"} if report.is_dry else {"pulled": "PULLED"}
    rows = [each.values() for each in report.folders if not each.left_out]
    run.output.rows(columns, rows, "The other server shows no folder that could move.")
    run.output.done(f"{address}: {_sentence(report)}.", {})
    for each in report.folders:
        if each.left_out:
            run.output.note(f"{each.folder} stays: {each.left_out}.")
        if each.failed:
            run.output.note(f"{each.folder}: {each.failed.rstrip('.')}.")
        for reason, count in each.skipped.items():
            run.output.note(f"{each.folder}: {count} messages are missing: {reason.rstrip('.')}.")
        if each.older:
            run.output.note(f"{each.folder}: {each.older} messages are older than was asked for.")
        if each.removed_here:
            run.output.note(f"{each.folder}: {each.removed_here} messages moved in and were removed here since.")
        if each.gone:
            kept = "removed here too" if each.deleted else "kept here; --delete-gone removes them"
            run.output.note(f"{each.folder}: {each.gone} messages are gone there: {kept}.")
    for note in report.notes:
        run.output.note(note)
    if report.stopped:
        run.output.note(f"It stopped: {report.stopped}")
    if report.is_final:
        run.output.note("All is here, and nothing more is kept of the move: do not run it again for this account.")
    elif orders.is_final and not report.is_dry:
        run.output.note("Not all is here: what came from where is kept, so that it can go on.")


def _print_all(run: Invocation, addresses: list[str], found: dict[str, Report | str]) -> None:
    values: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for address in addresses:
        each = found.get(address, "It was not reached.")
        if isinstance(each, Report):
            values.append({"address": address, "error": None, **each.values()})
            said = "complete" if each.is_complete else each.stopped or "messages or folders are missing"
            numbers = {name: each.total(name) for name in ("there", "here", "missing", "pulled")}
        else:
            values.append({"address": address, "error": each, "complete": False})
            said, numbers = each, dict.fromkeys(("there", "here", "missing", "pulled"), 0)
        rows.append({"address": address, **numbers, "said": said})
    if run.output.as_json:
        run.output.rows({}, values, "")
        return
    columns = {"address": "ACCOUNT", "there": "THERE", "here": "HERE", "missing": "MISSING", "pulled": "PULLED"}
    run.output.rows(columns | {"said": "RESULT"}, rows, "The list has no accounts.")
