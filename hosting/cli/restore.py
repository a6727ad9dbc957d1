"""cleanmail restore: what comes back from a backup."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from hosting import composition
from hosting.administration import Administration
from hosting.cli import invocation
from hosting.cli.backup_finding import INCOMPLETE, find, time_of
from hosting.cli.invocation import Invocation
from hosting.cli.output import size
from hosting.config import FILE_NAME, load
from hosting.roles import privileges
from storage.backup.place import Stored, place_and_time
from storage.backup.restoring import AccountOutcome, Lost, Restored, apply, folder_of, lost, restore_account
from storage.backup.restoring import restore_tenant as restore_all
from storage.backup.saved import SavedTenant
from storage.backup.whole import restore_installation
from storage.clock import SystemClock
from storage.errors import Gone, NotFound
from storage.keys.source import LocalKeys
from storage.mail.quota import Limits
from storage.values import AccountId, EmailAddress, TenantId


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
        stored = find(run, installation.keys.verifying_key("manifest"), source, at)
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
        stored = find(run, installation.keys.verifying_key("manifest"), source, at)
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
    place, time = place_and_time(source, time_of(at))
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


@contextmanager
def _saved(administration: Administration, stored: Stored, tenant_id: TenantId) -> Iterator[SavedTenant]:
    installation = administration.installation
    with SavedTenant(stored, tenant_id, installation.keys, installation.clock, installation.data) as saved:
        yield saved


# Telling


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
