"""cleanmail import: mail, calendars and contacts from elsewhere, or what `cleanmail export` took along.

May be interrupted and run again: nothing comes in twice. Every import leaves an audit record. In the read-only window
before a contract's end nothing is imported.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from gateway.policy.rules import Scope, parse_rule
from hosting.administration import Administration
from hosting.cli import invocation
from hosting.cli.export import read_key
from hosting.cli.invocation import Invocation, Whose
from hosting.cli.output import size
from storage.archives.entries import EntryFiles, are_entries
from storage.archives.maildir import is_maildir
from storage.errors import InvalidInput
from storage.export import values
from storage.export.archive import is_export
from storage.export.restore import Restored, restore_archive
from storage.export.restore_tenant import RestoredTenant, restore_tenant
from storage.filter.rules import RuleScope
from storage.importing import Progress, Report, import_archive, open_archive
from storage.importing_entries import EntryReport, import_entries
from storage.values import TenantId

ARCHIVE_INCOMPLETE = 5  # exit status: some messages were not imported

Kind = Literal["auto", "mbox", "maildir", "eml", "entries", "export"]


def import_(
    context: typer.Context,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[ADDRESS] SOURCE",
            help="The account; and an archive that cleanmail export made, an mbox file, a Maildir, a folder of .eml"
            " files, or an .ics or .vcf file, a folder or a zip of them (entries).",
        ),
    ],
    mailbox: Annotated[str, typer.Option(help="Where the messages go; folders of the archive stand below.")] = "INBOX",
    kind: Annotated[Kind, typer.Option(help="What the source is.")] = "auto",
    collection: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Where events, tasks, notes or cards go, made if there is none of that name. Without it, to the"
            " account's own calendar, tasks, notes and contacts.",
        ),
    ] = "",
    replace: Annotated[
        bool, typer.Option("--replace", help="Entries that are there already (the same UID) get what the file says.")
    ] = False,
    tenant: Annotated[
        str, typer.Option(metavar="SLUG", help="A tenant's archive: its accounts, aliases and settings into this one.")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be imported; not for mail from elsewhere.")
    ] = False,
    key: Annotated[
        str, typer.Option(metavar="FILE|HEX", help="Demand that the archive was signed with this public key.")
    ] = "",
) -> None:
    """Import mail, calendars and contacts; run it again to go on after an interruption."""
    run = invocation.of(context)
    if len(words) != (1 if tenant else 2):
        raise InvalidInput("Say: cleanmail import ADDRESS SOURCE, or: cleanmail import --tenant SLUG SOURCE.")
    source = Path(words[-1]).absolute()
    ours = bool(tenant) or kind == "export" or (kind == "auto" and is_export(source))
    entries = not ours and (kind == "entries" or (kind == "auto" and source.exists() and _are_entries(source)))
    if not ours and (key or (dry_run and not entries)):
        raise InvalidInput("--dry-run and --key are for archives that cleanmail export made; this is none.")
    if not entries and (collection or replace):
        raise InvalidInput("--collection and --replace are for .ics and .vcf files.")
    if entries and mailbox != "INBOX":
        raise InvalidInput("Events and cards go to no mailbox; --collection says where they go.")
    if ours and mailbox != "INBOX":
        raise InvalidInput("An archive of cleanmail export goes to its own folders; --mailbox is for other mail.")
    with run.administration() as administration:
        if tenant:
            _import_tenant(run, administration, tenant, source, dry_run, key)
            return
        whose = invocation.find_account(administration, words[0])
        _check_open(administration, whose.tenant.tenant_id, dry_run)
        _record(run, administration, whose, "export" if ours else "entries" if entries else kind, dry_run)
        if ours:
            _import_export(run, administration, whose, source, dry_run, key)
        elif entries:
            _import_entries(run, administration, whose, source, collection, replace=replace, dry_run=dry_run)
        else:
            _import_mail(run, administration, whose, source, mailbox, kind)


def _check_open(administration: Administration, tenant_id: TenantId, dry_run: bool) -> None:
    if not dry_run:
        administration.control.contracts.check_open(tenant_id)


def _record(run: Invocation, administration: Administration, whose: Whose, kind: str, dry_run: bool) -> None:
    details = {"kind": kind, "dry_run": "yes" if dry_run else "no"}
    administration.installation.audit.append(
        "account.import", run.operator, whose.tenant.tenant_id, whose.account.account_id, details
    )


# Mail from elsewhere


def _import_mail(
    run: Invocation, administration: Administration, whose: Whose, source: Path, mailbox: str, kind: Kind
) -> None:
    assert kind != "export"
    assert kind != "entries"
    archive = open_archive(source, kind)
    with (
        administration.installation.account(whose.tenant.tenant_id, whose.account.account_id) as account,
        run.output.progress() as bar,
    ):
        task = bar.add_task("importing", total=None)

        def show(progress: Progress) -> None:
            bar.update(task, completed=progress.done, total=progress.total)

        report = import_archive(account, archive, mailbox, progress=show)
    run.output.done(
        f"{report.imported} messages ({size(report.octets)}) were imported, {report.present} were there already"
        + (f", {len(report.failed)} failed." if report.failed else "."),
        {
            "imported": report.imported,
            "present": report.present,
            "octets": report.octets,
            "failed": [{"origin": failure.origin, "reason": failure.reason} for failure in report.failed],
            "stopped": report.stopped,
        },
    )
    _failures(run, report)


# Calendars and contacts from elsewhere


def _are_entries(source: Path) -> bool:
    """Of folders only those that are no Maildir."""
    return not (source.is_dir() and is_maildir(source)) and are_entries(source)


def _import_entries(
    run: Invocation,
    administration: Administration,
    whose: Whose,
    source: Path,
    collection: str,
    *,
    replace: bool,
    dry_run: bool,
) -> None:
    files = EntryFiles(source)
    with (
        administration.installation.account(whose.tenant.tenant_id, whose.account.account_id) as account,
        run.output.progress() as bar,
    ):
        task = bar.add_task("importing", total=None)

        def show(progress: Progress) -> None:
            bar.update(task, completed=progress.done, total=progress.total)

        report = import_entries(account, files, collection, replace=replace, dry_run=dry_run, progress=show)
    would = "would be" if dry_run else "were"
    replaced = f", {report.replaced} {would} replaced" if replace else ""
    run.output.done(
        f"{report.imported} entries ({size(report.octets)}) {would} imported{replaced}, {report.present} were there"
        " already" + (f", {len(report.failed)} failed." if report.failed else "."),
        {
            "dry_run": dry_run,
            "imported": report.imported,
            "replaced": report.replaced,
            "present": report.present,
            "octets": report.octets,
            "made": report.made,
            "failed": [{"origin": failure.origin, "reason": failure.reason} for failure in report.failed],
            "stopped": report.stopped,
        },
    )
    for name in report.made:
        run.output.note(f"'{name}' {'would be' if dry_run else 'was'} made.")
    _failures(run, report)


def _failures(run: Invocation, report: Report | EntryReport) -> None:
    for failure in report.failed:
        run.output.note(f"{failure.origin}: {failure.reason}")
    if report.stopped:
        run.output.note(f"The import stopped: {report.stopped}")
    if report.failed or report.stopped:
        raise typer.Exit(ARCHIVE_INCOMPLETE)


# What cleanmail export made


def _import_export(
    run: Invocation, administration: Administration, whose: Whose, source: Path, dry_run: bool, key: str
) -> None:
    with run.output.progress() as bar:
        task = bar.add_task("importing", total=None)

        def show(progress: values.Progress) -> None:
            bar.update(task, completed=progress.done, total=progress.total)

        restored = restore_archive(
            administration.installation,
            whose.tenant.tenant_id,
            whose.account.account_id,
            source,
            key=read_key(key),
            dry_run=dry_run,
            check_rule=_check_rule,
            progress=show,
        )
    run.output.done(f"{_sentence(restored, dry_run)}.", {"dry_run": dry_run, **_numbers(restored)})
    _notes(run, restored)
    if restored.stopped:
        raise typer.Exit(ARCHIVE_INCOMPLETE)


def _import_tenant(
    run: Invocation, administration: Administration, slug: str, source: Path, dry_run: bool, key: str
) -> None:
    row = invocation.find_tenant(administration, slug)
    _check_open(administration, row.tenant_id, dry_run)
    details = {"kind": "export", "dry_run": "yes" if dry_run else "no"}
    administration.installation.audit.append("tenant.import", run.operator, row.tenant_id, None, details)
    with run.output.progress() as bar:
        task = bar.add_task("importing", total=None)

        def show(progress: values.Progress) -> None:
            bar.update(task, completed=progress.done, total=progress.total)

        restored = restore_tenant(
            administration.installation,
            administration.provisioning,
            row.tenant_id,
            source,
            key=read_key(key),
            dry_run=dry_run,
            check_rule=_check_rule,
            progress=show,
        )
    total = _together(restored)
    would = "would be" if dry_run else "were"
    made, domains = [str(each) for each in restored.made], [str(each) for each in restored.domains]
    run.output.done(
        f"{_sentence(total, dry_run)}; {len(made)} accounts {would} made"
        + ("." if dry_run else f", and {restored.aliases} aliases."),
        {
            "dry_run": dry_run,
            **_numbers(total),
            "accounts": {address: _numbers(each) for address, each in restored.accounts.items()},
            "made": made,
            "domains": domains,
            "aliases": restored.aliases,
        },
    )
    _notes(run, total)
    if made and not dry_run:
        run.output.note(
            "The accounts that were made have no password, since an archive holds none. Give each one:"
            f" cleanmail account passwd {made[0]}{' …' if len(made) > 1 else ''}"
        )
    for domain in domains if not dry_run else ():
        run.output.note(f"The domain {domain} is pending: cleanmail domain verify {domain}")
    if restored.stopped:
        raise typer.Exit(ARCHIVE_INCOMPLETE)


def _check_rule(scope: RuleScope, name: str, text: str) -> None:
    level = Scope.ACCOUNT if scope.startswith("account:") else Scope.DOMAIN if scope else Scope.TENANT
    parse_rule(name, text, level)


def _together(restored: RestoredTenant) -> Restored:
    total = Restored()
    for address, each in restored.accounts.items():
        total.imported += each.imported
        total.present += each.present
        total.placed += each.placed
        total.octets += each.octets
        total.folders += each.folders
        total.collections += each.collections
        total.objects += each.objects
        total.objects_present += each.objects_present
        total.object_octets += each.object_octets
        for note in each.notes:
            total.note(f"{address}: {note}")
        if each.stopped:
            total.stopped = f"{address}: {each.stopped}"
    for note in restored.beside.notes:
        total.note(note)
    return total


def _sentence(restored: Restored, dry_run: bool) -> str:
    would = "would be" if dry_run else "were"
    return (
        f"{restored.imported} messages ({size(restored.octets)}) {would} imported, {restored.present} are there"
        f" already; {restored.folders} folders {would} made; {restored.objects} entries of calendars, address books"
        f" and folders of files ({size(restored.object_octets)}) {would} imported, {restored.objects_present} are there"
        " already"
    )


def _numbers(restored: Restored) -> dict[str, Any]:
    return {
        "imported": restored.imported,
        "present": restored.present,
        "placed": restored.placed,
        "octets": restored.octets,
        "folders": restored.folders,
        "collections": restored.collections,
        "objects": restored.objects,
        "objects_present": restored.objects_present,
        "object_octets": restored.object_octets,
        "notes": restored.notes,
        "stopped": restored.stopped,
    }


def _notes(run: Invocation, restored: Restored) -> None:
    for note in restored.notes:
        run.output.note(note)
    if restored.stopped:
        run.output.note(f"The import stopped: {restored.stopped}")
