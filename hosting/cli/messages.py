"""cleanmail message show: the content of one message, in an emergency, after a second person approved it.

The approval is for this message alone, not for another that has its folder and UID later, and is used up by showing
it. An audit record under the account's key comes first, so its owner sees in his journal who read what and why.
"""

from __future__ import annotations

import secrets
from typing import Annotated

import typer

from hosting.administration import Administration
from hosting.cli import invocation
from storage.directory.approvals import Kind, scope_of
from storage.errors import NotFound
from storage.keys.sealing import derive, keyed_hash
from storage.mail.arrivals import email_id
from storage.values import AccountId, MessageId, TenantId

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="The content of a message, with the approval of a second person."
)

_MARK = 16  # octets


@app.command()
def show(
    context: typer.Context,
    address: Annotated[str, typer.Argument(help="The account's address.")],
    folder: Annotated[str, typer.Argument(help="The folder.")],
    uid: Annotated[int, typer.Argument(help="The message's UID in it.", min=1)],
) -> None:
    """Show a message once, after `request ask body_access` was approved. Its owner sees that you did."""
    run = invocation.of(context)
    with run.administration() as administration:
        whose = invocation.find_account(administration, address)
        tenant_id, account_id = whose.tenant.tenant_id, whose.account.account_id
        message = mark_of(administration, tenant_id, account_id, folder, uid)
        scope = scope_of(tenant_id, account_id, folder=folder, uid=str(uid), message=message)
        options = ("--account", address, "--message", f"{folder}/{uid}")
        administration.control.approvals.check(Kind.BODY_ACCESS, scope, run.operator, options)
        with administration.installation.account(tenant_id, account_id) as account:
            rows = account.messages.fetch_rows(account.mailboxes.find(folder).id, uid, uid, ("message_id",))
            if not rows:  # before an approval is used up for nothing
                raise NotFound("There is no such message.")
            used = administration.control.approvals.use(Kind.BODY_ACCESS, scope, run.operator, options)
            details = {
                "folder": folder,
                "uid": str(uid),
                "request": used.approval_id,
                "approved_by": used.decided_by or "",
                "reason": used.reason or "",
            }
            number = administration.installation.audit.append(
                "message.read", run.operator, tenant_id, account_id, details
            )
            octets = account.messages.read_message(MessageId(rows[0][0]))
    text = octets.decode("utf-8", "replace").replace("\r\n", "\n")
    run.output.note(f"This reading is audit record {number}; the account's owner sees it.")
    run.output.blocks(
        [(f"{address} {folder} {uid}", text.split("\n"))],
        [{"address": address, "folder": folder, "uid": uid, "audit_record": number, "text": text}],
        "",
    )


def mark_of(administration: Administration, tenant_id: TenantId, account_id: AccountId, folder: str, uid: int) -> str:
    """Stands for the message that is there now: its folder's UIDVALIDITY and its email id, under the account's key.

    Where there is none it stands for nothing, and nobody can tell: who asks for an approval does not learn what there
    is. What is found later in its place has another mark.
    """
    with administration.installation.account(tenant_id, account_id) as account:
        try:
            found = account.mailboxes.find(folder)
            rows = account.messages.fetch_rows(found.id, uid, uid, ("message_id",))
        except NotFound:
            rows = []
        if not rows:
            return secrets.token_hex(_MARK)
        key = administration.installation.keys.account_key(tenant_id, account_id, "approval").secret
        what = f"{found.uidvalidity} {uid} {email_id(account_id, MessageId(rows[0][0]))}"
        return keyed_hash(derive(key, "approval", "message"), what.encode())[:_MARK].hex()
