"""cleanmail acl: who may do what with the mailboxes of an account.

What is set counts at once, in sessions that are open too. Every command leaves an audit record of the account, and one
of the account that is let do something; no record has the name of a mailbox.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hosting.administration import Administration
from hosting.auth.mailbox_rights import EVERYBODY, DirectoryRights, Who
from hosting.cli import invocation
from hosting.cli.invocation import Invocation, Whose
from hosting.cli.output import moment
from hosting.cli.recording import record, record_all
from hosting.imap.sharing import rights
from hosting.imap.sharing.other_users import PREFIX
from storage.directory.mailbox_rights import ANYONE, RightsRow, SharedRow
from storage.errors import CleanmailError, NotFound
from storage.mail.mailboxes import Mailbox
from storage.values import AccountId, EmailAddress, MailboxId

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Who may do what with the mailboxes of an account: list, set, remove.",
)

Address = Annotated[str, typer.Argument(help="The address of the account whose mailbox it is.")]
MailboxName = Annotated[str, typer.Argument(help="The name of the mailbox, as its owner calls it.")]
Identifier = Annotated[
    str, typer.Argument(help="Address of an account of the same organisation, or 'anyone' for all of them.")
]
Rights = Annotated[
    str,
    typer.Argument(
        help="Letters of RFC 4314: l see, r read, s seen, w flags, i insert, p post, k create, x delete, t and e delete"
        " messages, a administer. +… adds, -… takes away."
    ),
]


@app.command("list")
def list_(
    context: typer.Context,
    address: Address,
    mailbox: Annotated[str, typer.Argument(help="Of this mailbox only.")] = "",
) -> None:
    """List who may do what with the account's mailboxes, and what others let it do with theirs."""
    run = invocation.of(context)
    with run.administration() as administration:
        whose = invocation.find_account(administration, address)
        record(run, administration, "acl.list", whose)
        tenant_id, account_id = whose.tenant.tenant_id, whose.account.account_id
        stored = administration.installation.tenant(tenant_id).mailbox_rights
        unread: list[str] = []
        if mailbox:
            found = _find(administration, whose, mailbox)
            rows = [_given(row, found.name) for row in stored.of_mailbox(account_id, found.id)]
        else:
            names = _names(administration, whose)
            rows = [
                _given(row, names[row.mailbox_id]) for row in stored.of_owner(account_id) if row.mailbox_id in names
            ]
            taken, unread = _taken(administration, whose, stored.shared_with(account_id))
            rows += taken + [_unread(login) for login in unread]
    columns = {"direction": "direction", "mailbox": "mailbox", "identifier": "who", "rights": "rights"}
    run.output.rows(columns | {"changed": "changed"}, rows, "Nothing is shared.")
    for login in unread:
        run.output.note(f"What {login} shares is not listed: the account cannot be read now.")


@app.command("set", context_settings={"ignore_unknown_options": True})
def set_(
    context: typer.Context, address: Address, mailbox: MailboxName, identifier: Identifier, letters: Rights
) -> None:
    """Let somebody do something with a mailbox, or take some of it away; it counts at once."""
    how, asked = rights.modification(letters)
    run = invocation.of(context)
    with run.administration() as administration:
        whose, found, who = _meant(administration, address, mailbox, identifier)
        administration.control.contracts.check_open(whose.tenant.tenant_id)
        details = {"mailbox": str(found.id), "identifier": str(int(who.id)), "rights": letters}
        _record_both(run, administration, "acl.set", whose, who, details)
        directory = DirectoryRights(administration.installation)
        owner = whose.account
        _, now = directory.change(whose.tenant.tenant_id, owner.account_id, found.id, who.id, how, asked)
        values = {"mailbox": found.name, "identifier": who.name, "rights": rights.told(now)}
        if now:
            run.output.done(f"{who.name} has the rights {rights.told(now)} to '{found.name}' of {owner.login}.", values)
        else:
            run.output.done(f"{who.name} has no rights to '{found.name}' of {owner.login}.", values)


@app.command()
def remove(context: typer.Context, address: Address, mailbox: MailboxName, identifier: Identifier) -> None:
    """Take everything away that somebody may do with a mailbox; open sessions that read it end."""
    run = invocation.of(context)
    with run.administration() as administration:
        whose, found, who = _meant(administration, address, mailbox, identifier)
        details = {"mailbox": str(found.id), "identifier": str(int(who.id))}
        _record_both(run, administration, "acl.remove", whose, who, details)
        directory = DirectoryRights(administration.installation)
        owner = whose.account
        before, _ = directory.change(whose.tenant.tenant_id, owner.account_id, found.id, who.id, "replace", "")
        if not before:
            raise NotFound(f"{who.name} has no rights to '{found.name}'.")
        values = {"mailbox": found.name, "identifier": who.name}
        run.output.done(f"{who.name} has no rights to '{found.name}' of {owner.login} any more.", values)


def _meant(administration: Administration, address: str, mailbox: str, identifier: str) -> tuple[Whose, Mailbox, Who]:
    whose = invocation.find_account(administration, address)
    directory = DirectoryRights(administration.installation)
    if identifier != EVERYBODY:
        identifier = str(EmailAddress.parse(identifier))
    try:
        who = directory.find(whose.tenant.tenant_id, identifier)
    except NotFound:
        raise NotFound(f"The organisation of {whose.account.login} has no account {identifier}.") from None
    return whose, _find(administration, whose, mailbox), who


def _find(administration: Administration, whose: Whose, mailbox: str) -> Mailbox:
    with administration.installation.account(whose.tenant.tenant_id, whose.account.account_id) as account:
        return account.mailboxes.find(mailbox)


def _names(administration: Administration, whose: Whose, account_id: AccountId | None = None) -> dict[MailboxId, str]:
    owner = whose.account.account_id if account_id is None else account_id
    with administration.installation.account(whose.tenant.tenant_id, owner) as account:
        return {each.id: each.name for each in account.mailboxes.list()}


def _record_both(
    run: Invocation, administration: Administration, action: str, whose: Whose, who: Who, details: dict[str, str]
) -> None:
    tenant_id = whose.tenant.tenant_id
    subjects = [(tenant_id, whose.account.account_id)]
    if who.id != ANYONE:
        subjects.append((tenant_id, who.id))
    record_all(run, administration, action, subjects, details, owner_too=True)


def _given(row: RightsRow, name: str) -> dict[str, Any]:
    return {
        "direction": "given",
        "mailbox": name,
        "identifier": row.login or EVERYBODY,
        "rights": rights.told(row.rights),
        "changed": moment(row.changed),
    }


def _unread(login: str) -> dict[str, Any]:
    """In the place of what an account shares that cannot be read."""
    return {
        "direction": "not readable", "mailbox": f"{PREFIX}{login}", "identifier": None, "rights": None, "changed": None,
    }  # fmt: skip


def _taken(
    administration: Administration, whose: Whose, rows: list[SharedRow]
) -> tuple[list[dict[str, Any]], list[str]]:
    """By mailbox: what is let do by name and as one of all. Only what the account may see has a name here.

    With the logins of owners whose accounts cannot be read: one of them does not hide what the others share.
    """
    letters: dict[tuple[AccountId, MailboxId], str] = {}
    for row in rows:
        key = (row.owner_id, row.mailbox_id)
        letters[key] = rights.union(letters.get(key, ""), row.rights)
    logins = {row.owner_id: row.owner_login for row in rows}
    names: dict[AccountId, dict[MailboxId, str]] = {}
    unread: list[str] = []
    for owner_id, login in logins.items():
        try:
            names[owner_id] = _names(administration, whose, owner_id)
        except CleanmailError:
            names[owner_id] = {}
            unread.append(str(login))
    taken = [
        {
            "direction": "taken",
            "mailbox": f"{PREFIX}{logins[owner_id]}/{names[owner_id][mailbox_id]}",
            "identifier": str(whose.account.login),
            "rights": rights.told(granted),
            "changed": None,
        }
        for (owner_id, mailbox_id), granted in letters.items()
        if mailbox_id in names[owner_id] and any(letter in granted for letter in rights.ANY_OF_MYRIGHTS)
    ]
    return taken, unread
