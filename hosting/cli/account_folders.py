"""cleanmail account folders: for how long messages stay in the folders of an account, as its owner wants it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hosting.cli import invocation
from storage.errors import InvalidInput
from storage.mail.mailboxes import Mailbox
from storage.register.folder_rules import NEVER, UNSET, FolderRules, parse_rule


def folders(
    context: typer.Context,
    address: Annotated[str, typer.Argument(help="The account's address.")],
    keep: Annotated[
        list[str] | None,
        typer.Option(help="Trash=30: messages leave it after 30 days there. Trash=never, Trash=default. Repeatable."),
    ] = None,
    inbox: Annotated[bool, typer.Option("--inbox", help="A rule for the INBOX is meant.")] = False,
) -> None:
    """List the folders of an account, or choose how long messages stay in them."""
    run = invocation.of(context)
    rules = [parse_rule(each) for each in keep or []]
    if any(name.casefold() == "inbox" and days > 0 for name, days in rules) and not inbox:
        raise InvalidInput("Messages would leave the INBOX by themselves; say --inbox if that is meant.")
    with run.administration() as administration:
        whose = invocation.find_account(administration, address)
        installation = administration.installation
        tenant_id, account_id = whose.tenant.tenant_id, whose.account.account_id
        with installation.account(tenant_id, account_id) as account:
            for name, _ in rules:
                account.mailboxes.find(name)  # all of them, or none
            if rules:
                # Names of folders are their owner's: the record says how many were changed.
                details = {"folders": str(len(rules))}
                installation.audit.append("account.folders", run.operator, tenant_id, account_id, details)
            for name, days in rules:
                account.mailboxes.keep(name, days)
            found = account.mailboxes.list()
        values = [_values(each, installation.folder_rules) for each in found]
    columns = {"name": "folder", "messages": "messages", "chosen": "chosen", "days": "messages leave after days"}
    run.output.rows(columns, values, "The account has no folder.")


def _values(mailbox: Mailbox, rules: FolderRules) -> dict[str, Any]:
    chosen = {UNSET: "", NEVER: "never"}.get(mailbox.keep_days, str(mailbox.keep_days))
    days = rules.of(mailbox.name, mailbox.special_use, mailbox.keep_days)
    return {"name": mailbox.name, "messages": mailbox.messages, "chosen": chosen, "days": days or None}
