"""cleanmail check and cleanmail upgrade."""

from __future__ import annotations

from typing import Annotated

import typer

from hosting.cli import invocation
from storage.check import check_account, check_installation
from storage.checks.finding import Finding, Severity
from storage.clock import SystemClock
from storage.upgrade import Found, outdated
from storage.upgrade import upgrade as upgrade_all

DAMAGE = 4  # exit status: something is wrong


def check(
    context: typer.Context,
    address: Annotated[str | None, typer.Argument(help="Only this account; everything if not given.")] = None,
    contents: Annotated[bool, typer.Option("--contents", help="Read every message file as well.")] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Make the account anew from its message files alone; needs an address.")
    ] = False,
) -> None:
    """Compare message files, rows, keys and counters with each other."""
    run = invocation.of(context)
    if rebuild and address is None:
        raise typer.BadParameter("--rebuild needs the address of one account.")
    with run.administration() as administration:
        whose = invocation.find_account(administration, address) if address else None
        if whose is not None and rebuild:
            rebuilt = administration.rebuild(whose.tenant.tenant_id, whose.account.account_id)
            run.output.note(f"{rebuilt.messages} messages were found in the files, in {rebuilt.mailboxes} mailboxes.")
            for name in rebuilt.unreadable:
                run.output.note(f"The file {name} does not verify under the account's key and was left out.")
            if rebuilt.annotations or rebuilt.annotations_left_out:
                run.output.note(
                    f"{rebuilt.annotations} annotations of mail clients were kept, {rebuilt.annotations_left_out} were "
                    "left out, since their mailbox is not there any more."
                )
            if not rebuilt.annotations_read:
                run.output.note("The old database could not be read: annotations of mail clients are lost with it.")
            run.output.note("What others might do with its mailboxes has to be set anew ('cleanmail acl').")
        if whose is not None:
            installation = administration.installation
            with installation.account(whose.tenant.tenant_id, whose.account.account_id) as account:
                findings = list(check_account(account, installation.incarnation, contents=contents))
        else:
            findings = list(check_installation(administration.installation, contents=contents))
    rows = [_values(finding) for finding in findings]
    columns = {"severity": "severity", "kind": "kind", "account": "account", "text": "finding"}
    run.output.rows(columns, rows, "Nothing is wrong.")
    if any(finding.severity is not Severity.NOTE for finding in findings):
        raise typer.Exit(DAMAGE)


def _values(finding: Finding) -> dict[str, object]:
    return {
        "severity": finding.severity.value,
        "kind": finding.kind.value,
        "tenant": finding.tenant_id,
        "account": finding.account_id,
        "mailbox": finding.mailbox_id,
        "message": finding.message_id,
        "uid": finding.uid,
        "file": finding.file,
        "text": finding.text,
    }


def upgrade(
    context: typer.Context,
    only_check: Annotated[bool, typer.Option("--check", help="Only say what would be done.")] = False,
) -> None:
    """Bring every database to this version; each is migrated at its first use anyway."""
    run = invocation.of(context)
    changed: list[Found] = []
    with run.keys() as keys:
        if only_check:
            changed.extend(outdated(run.data, keys))
        else:
            upgrade_all(run.data, keys, SystemClock(), done=changed.append)
    rows = [{"database": found.name, "version": found.schema.version} for found in changed]
    columns = {"database": "database", "version": "would become version" if only_check else "is now of version"}
    run.output.rows(columns, rows, "Every database is of this version.")
