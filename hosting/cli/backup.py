"""cleanmail backup and cleanmail restore: copies of the running installation, and what comes back from them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from hosting import composition
from hosting.administration import Administration
from hosting.auth.client import AuthClient
from hosting.backup_round import keep_of, secret_places
from hosting.cli import invocation
from hosting.cli.invocation import Invocation
from hosting.cli.output import moment, size
from hosting.config import FILE_NAME, load
from hosting.roles import privileges
from storage.backup.backup import BackupRun, Progress
from storage.backup.place import Place, Stored, place_and_time
from storage.backup.pruning import prune
from storage.backup.restoring import AccountOutcome, Lost, Restored, apply, folder_of, lost, restore_account
from storage.backup.restoring import restore_tenant as restore_all
from storage.backup.saved import SavedTenant
from storage.backup.verifying import verify as verify_backup
from storage.backup.whole import restore_installation
from storage.clock import SystemClock
from storage.clock_guard import ClockGuard
from storage.errors import Gone, InvalidInput, NotFound
from storage.keys.source import LocalKeys
from storage.mail.quota import Limits
from storage.values import AccountId, EmailAddress, TenantId

# How a time may be written, and how many seconds what is written lasts.
_TIMES = {"%Y-%m-%d": 86_399, "%Y-%m-%d %H:%M": 59, "%Y-%m-%dT%H:%M:%SZ": 0, "%Y%m%dT%H%M%SZ": 0}

INCOMPLETE = 6  # exit status: something was left out, or is wrong with a backup


class _Backup(TyperGroup):
    """`cleanmail backup TO` is `cleanmail backup to TO`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["to", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Backup,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Back up the installation, running or not: cleanmail backup TO. Keys are not in it (cleanmail keys backup).",
)

From = Annotated[
    Path | None,
    typer.Argument(help="A folder of backups, or one backup; [backup] directory of the configuration if not given."),
]


@app.command("to")
def to(
    context: typer.Context,
    to: Annotated[
        Path | None,
        typer.Argument(
            metavar="TO", help="The folder of backups, best on another disk; [backup] directory if not given."
        ),
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Copy everything anew, also what has not changed since the last backup.")
    ] = False,
) -> None:
    """Back up everything but the keys; what has not changed is shared with the backup before."""
    run = invocation.of(context)
    folder = _source(run, to)
    place = Place(folder)
    with run.administration() as administration, run.output.progress() as bar:
        installation = administration.installation
        place.prepare(run.data)
        installation.audit.append("backup.make", run.operator, details={"place": str(folder)})
        task = bar.add_task("backing up customers", total=None)

        def show(progress: Progress) -> None:
            bar.update(task, completed=progress.done, total=progress.total)

        keys = installation.keys
        backup = BackupRun(
            installation,
            place,
            keep_of(run.config),
            excluded=secret_places(run.data, run.config),
            whole=whole,
            forget=keys.forget if isinstance(keys, AuthClient) else None,
            progress=show,
        )
        made = backup.make()
        removed = prune(installation, place, check=ClockGuard(run.data, installation.clock).check)
    manifest = made.stored.manifest
    run.output.done(
        f"{manifest.files} files ({size(manifest.bytes)}) are in {made.stored.root}, {made.linked} of them shared with "
        f"the backup before; it is kept until {moment(manifest.expires)}.",
        {
            **_values(made.stored),
            "shared": made.linked,
            "new": made.taken,
            "snapshots": made.snapshots,
            "removed": removed,
            "missing": list(manifest.missing),
            "skipped": list(manifest.skipped),
        },
    )
    for name in removed:
        run.output.note(f"The backup {name} has had its time and was removed.")
    for path in manifest.missing:
        run.output.note(f"A row names this file, but it is not there (see cleanmail check): {path}")
    for part in manifest.skipped:
        run.output.note(f"This could not be copied, and is not in the backup: {part}")
    if manifest.missing or manifest.skipped:
        raise typer.Exit(INCOMPLETE)


@app.command("list")
def list_(context: typer.Context, source: From = None) -> None:
    """Which backups there are, and until when they are kept."""
    run = invocation.of(context)
    place, _ = place_and_time(_source(run, source), None)
    with run.administration() as administration:
        rows = {row.backup_id: row for row in administration.control.backups.all()}
        public = administration.installation.keys.verifying_key("manifest")
        listed = []
        for name in place.names():
            try:
                stored = place.open(name, public)
            except InvalidInput as error:
                run.output.note(error.public)
                continue
            row = rows.get(stored.manifest.id)
            listed.append(_values(stored) | {"verified": moment(row.verified if row else None)})
    for name in place.incomplete():
        run.output.note(f"{name} is incomplete, and no backup; the next one removes it.")
    columns = {
        "name": "backup",
        "made": "made",
        "files": "files",
        "size": "size",
        "expires": "kept until",
        "verified": "verified",
    }
    run.output.rows(columns, listed, "There are no backups.")


@app.command()
def verify(
    context: typer.Context,
    source: From = None,
    every: Annotated[bool, typer.Option("--all", help="Read every file, not a sample.")] = False,
    at: Annotated[str, typer.Option(help="The newest backup of this time or before: 2026-05-01 [12:00].")] = "",
) -> None:
    """Prove that a backup is whole: files are what its manifest says, and a random mailbox is restored and compared."""
    run = invocation.of(context)
    with run.administration() as administration, run.output.progress() as bar:
        installation = administration.installation
        stored = _find(run, installation.keys.verifying_key("manifest"), source, at)
        task = bar.add_task("reading", total=stored.manifest.files)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        found = verify_backup(installation, stored, every=every, progress=show)
    proof = f"{found.messages} messages of {found.mailbox} came back whole" if found.mailbox else "there was no mail"
    sentence = f"The backup {stored.name} is right: {found.files} files, {found.hashed} of them read; {proof}."
    if not found.is_right:
        sentence = f"{len(found.wrong)} things are wrong with the backup {stored.name}."
    run.output.done(
        sentence,
        {
            "name": stored.name,
            "right": found.is_right,
            "files": found.files,
            "read": found.hashed,
            "octets": found.octets,
            "mailbox": found.mailbox,
            "messages": found.messages,
            "accounts_without_key": found.unreadable,
            "wrong": found.wrong,
        },
    )
    for wrong in found.wrong:
        run.output.note(wrong)
    if not found.is_right:
        raise typer.Exit(INCOMPLETE)


def restore(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="FROM", help="A folder of backups, or one backup.")],
    at: Annotated[str, typer.Option(help="The newest backup of this time or before: 2026-05-01 [12:00].")] = "",
    tenant: Annotated[str, typer.Option(help="All accounts of this tenant, into their Restored folders.")] = "",
    account: Annotated[str, typer.Option(help="This account, into its folder Restored.")] = "",
    folder: Annotated[
        tuple[str, str], typer.Option(metavar="ADDRESS FOLDER", help="One folder of an account, likewise.")
    ] = ("", ""),
    whole: Annotated[
        Path | None, typer.Option("--installation", help="Everything, into this data directory, where its keys are.")
    ] = None,
    queue: Annotated[
        bool, typer.Option("--queue", help="With --installation: queued mail too, though it may have been sent since.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="With --tenant: make aliases and settings that are gone again, unasked.")
    ] = False,
) -> None:
    """Bring back a folder, an account, a tenant's mail, or a whole installation from a backup."""
    run = invocation.of(context)
    if sum(map(bool, (tenant, account, folder[0], whole))) != 1:
        raise typer.BadParameter("Say what comes back: one of --tenant, --account, --folder and --installation.")
    if queue and whole is None:
        raise typer.BadParameter("--queue needs --installation.")
    source = source.absolute()
    if whole is not None:
        _restore_installation(run, source, at, whole.absolute(), queue=queue)
    elif account or folder[0]:
        _restore_account(run, source, at, account or folder[0], folder[1] or None)
    else:
        _restore_tenant(run, source, at, tenant, yes=yes)


def _restore_account(run: Invocation, source: Path, at: str, address: str, folder: str | None) -> None:
    login = EmailAddress.parse(address)
    with run.administration() as administration, run.output.progress() as bar:
        installation = administration.installation
        stored = _find(run, installation.keys.verifying_key("manifest"), source, at)
        tenant_id = administration.control.domain(login.domain).tenant_id
        task = bar.add_task("restoring", total=None)
        with _saved(administration, stored, tenant_id) as saved:
            account_id = _same_account(administration, saved, login, stored)
            then = saved.account(account_id)
            details = {"backup": stored.name, "folder": folder or ""}
            installation.audit.append("backup.restore", run.operator, tenant_id, account_id, details)
            row = installation.tenant(tenant_id).account(account_id)
            limits = Limits(row.quota_bytes, row.quota_messages)
            with installation.account(tenant_id, account_id, limits=limits) as opened:
                found = restore_account(then, opened, folder=folder, progress=lambda n: bar.advance(task, n))
                usage = opened.usage()
    values = _restored(found) | {"folder": folder_of(stored), "bytes_used": usage.bytes}
    run.output.done(f"{_sentence(found)} in {folder_of(stored)}; the account stores {size(usage.bytes)} now.", values)
    _tell(run, address, found)
    if found.stopped or found.unreadable:
        raise typer.Exit(INCOMPLETE)


def _same_account(administration: Administration, saved: SavedTenant, login: EmailAddress, stored: Stored) -> AccountId:
    """The account that the address was at that time has to be the one that it is now: nothing opens another's."""
    try:
        then = saved.directory().account_by_address(login)
    except NotFound:
        raise NotFound(f"There was no account {login} when the backup {stored.name} was made.") from None
    try:
        now = administration.installation.tenant(saved.tenant_id).account_by_address(login)
    except NotFound:
        now = None
    if now is None or then.account_id != now.account_id:
        today = "" if now is None else " The account of today is another one."
        raise Gone(
            f"The account {login} of that time was deleted and its key destroyed: what the backup holds of it can "
            f"never be read again.{today}"
        )
    return then.account_id


def _restore_tenant(run: Invocation, source: Path, at: str, name: str, *, yes: bool) -> None:
    with run.administration() as administration, run.output.progress() as bar:
        installation = administration.installation
        stored = _find(run, installation.keys.verifying_key("manifest"), source, at)
        tenant_id = invocation.find_tenant(administration, name).tenant_id
        task = bar.add_task("restoring", total=None)
        with _saved(administration, stored, tenant_id) as saved:
            gone = lost(installation, saved)
            installation.audit.append("backup.restore", run.operator, tenant_id, details={"backup": stored.name})
            outcomes = restore_all(installation, saved, progress=lambda n: bar.advance(task, n))
            bar.stop()
            refused = _make_again(run, administration, tenant_id, gone, yes=yes) if gone else None
    total = Restored()
    for outcome in outcomes:
        if outcome.restored is not None:
            total.add(outcome.restored)
            _tell(run, outcome.address, outcome.restored)
        else:
            run.output.note(f"{outcome.address}: {outcome.reason}")
    back = sum(outcome.restored is not None for outcome in outcomes)
    run.output.done(
        f"{_sentence(total)} in {folder_of(stored)} of {back} accounts.",
        {
            **_restored(total),
            "folder": folder_of(stored),
            "accounts": [_outcome(outcome) for outcome in outcomes],
            "aliases": [alias.address for alias in gone.aliases],
            "settings": [name for name, _ in gone.settings],
            "made_again": refused is not None,
            "refused": refused or [],
        },
    )
    if total.stopped or total.unreadable or refused:
        raise typer.Exit(INCOMPLETE)


def _make_again(
    run: Invocation, administration: Administration, tenant_id: TenantId, gone: Lost, *, yes: bool
) -> list[str] | None:
    """None: it is not wanted."""
    run.output.note("These were there at the time of the backup and are gone:")
    for alias in gone.aliases:
        run.output.note(f"  alias {alias.address}")
    for name, _ in gone.settings:
        run.output.note(f"  setting {name}")
    if not yes and (run.output.as_json or not typer.confirm("Make them again?", default=False, err=True)):
        run.output.note("They were left as they are; --yes makes them again.")
        return None
    tenant = administration.installation.tenant(tenant_id)
    refused = apply(administration.provisioning, tenant, gone)
    for sentence in refused:
        run.output.note(sentence)
    return refused


def _restore_installation(run: Invocation, source: Path, at: str, data: Path, *, queue: bool) -> None:
    clock = SystemClock()
    if not data.is_dir():
        raise NotFound(f"There is no data directory {data} with keys; bring those back first (cleanmail keys restore).")
    privileges.become_owner(data)
    place, time = place_and_time(source, _moment(at))
    config = load(data / FILE_NAME) if (data / FILE_NAME).exists() else run.config
    keys = LocalKeys(composition.open_keystore(data, config, clock))
    stored = place.at(time)
    with run.output.progress() as bar:
        task = bar.add_task("restoring files", total=stored.manifest.files)
        found = restore_installation(
            place, stored, data, keys, clock, queue=queue, progress=lambda done, _: bar.update(task, completed=done)
        )
    run.output.done(
        f"{found.tenants} tenants with {found.accounts} accounts are in {data} ({found.files} files, "
        f"{size(found.bytes)}); what ended since was left out: {found.erased_tenants} tenants, "
        f"{found.erased_accounts} accounts.",
        {
            "backup": stored.name,
            "tenants": found.tenants,
            "accounts": found.accounts,
            "files": found.files,
            "bytes": found.bytes,
            "queued": found.queued,
            "erased_tenants": found.erased_tenants,
            "erased_accounts": found.erased_accounts,
            "keys_destroyed": found.keys_destroyed,
            "without_key": found.without_key,
            "without_part": found.without_part,
        },
    )
    if queue:
        run.output.note(f"{found.queued} messages are queued again; those that were sent since are sent twice.")
    if found.keys_destroyed:
        run.output.note(
            f"The keys are older than erasures that are certified: {found.keys_destroyed} keys of what was erased were "
            "in them, and were destroyed again."
        )
    for what in found.without_part:
        run.output.note(f"The backup holds nothing of {what}, though its directory names it: restore a newer one.")
    for what in found.without_key:
        run.output.note(f"No key opens {what}: it was left out. Bring back newer keys, and restore again.")
    run.output.note("Mail clients load every folder anew: each has a new UIDVALIDITY.")
    if found.without_key or found.without_part:
        raise typer.Exit(INCOMPLETE)


# Finding


@contextmanager
def _saved(administration: Administration, stored: Stored, tenant_id: TenantId) -> Iterator[SavedTenant]:
    installation = administration.installation
    with SavedTenant(stored, tenant_id, installation.keys, installation.clock, installation.data) as saved:
        yield saved


def _source(run: Invocation, source: Path | None) -> Path:
    if source is None:
        if not run.config.backup.directory:
            raise InvalidInput("Say where the backups are; the configuration has no [backup] directory.")
        return run.data / run.config.backup.directory
    return source.absolute()


def _find(run: Invocation, public: bytes, source: Path | None, at: str) -> Stored:
    place, time = place_and_time(_source(run, source), _moment(at))
    return place.at(time, public)


def _moment(text: str) -> int | None:
    """A time in UTC, of a day its end."""
    if not text:
        return None
    for form, length in _TIMES.items():
        try:
            return int(datetime.strptime(text, form).replace(tzinfo=UTC).timestamp()) + length
        except ValueError:
            continue
    raise InvalidInput(f"'{text[:40]}' is no time; write 2026-05-01, or '2026-05-01 12:00' (UTC).")


# Telling


def _values(stored: Stored) -> dict[str, Any]:
    manifest = stored.manifest
    return {
        "name": stored.name,
        "id": manifest.id,
        "made": moment(manifest.made),
        "finished": moment(manifest.finished),
        "files": manifest.files,
        "bytes": manifest.bytes,
        "size": size(manifest.bytes),
        "expires": moment(manifest.expires),
        "path": str(stored.root),
    }


def _restored(found: Restored) -> dict[str, Any]:
    return {
        "mailboxes": found.mailboxes,
        "messages": found.messages,
        "present": found.present,
        "octets": found.octets,
        "collections": found.collections,
        "objects": found.objects,
        "objects_present": found.objects_present,
        "object_octets": found.object_octets,
        "unreadable": found.unreadable,
        "stopped": found.stopped,
    }


def _outcome(outcome: AccountOutcome) -> dict[str, Any]:
    values: dict[str, Any] = {"account": outcome.account_id, "address": outcome.address}
    return values | (_restored(outcome.restored) if outcome.restored is not None else {"reason": outcome.reason})


def _sentence(found: Restored) -> str:
    entries = f" and {found.objects} entries ({size(found.object_octets)}) of calendars, address books and files"
    text = (
        f"{found.messages} messages ({size(found.octets)}) of {found.mailboxes} folders"
        f"{entries if found.objects else ''} were restored"
    )
    present = found.present + found.objects_present
    return f"{text}, {present} were there already," if present else text


def _tell(run: Invocation, address: str, found: Restored) -> None:
    for name in found.unreadable:
        what = name if name.startswith("entry ") else f"the message file {name}"
        run.output.note(f"{address}: {what} cannot be read and was left out.")
    if found.stopped:
        run.output.note(f"{address}: the restore stopped: {found.stopped} Raise the quota and run it again.")
