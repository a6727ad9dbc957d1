"""cleanmail account calendar: by whose invitations that come by mail something new gets into an account's calendar."""

from __future__ import annotations

from typing import Annotated

import typer

from hosting.cli import invocation
from hosting.cli.recording import record
from storage.errors import InvalidInput
from storage.itip.store import Scheduling, Trust

_SENTENCES = {
    Trust.KNOWN: "of people that the account has written to, and of its organisation",
    Trust.EVERYBODY: "of everybody whose mail is authentic",
    Trust.NOBODY: "of nobody",
}


def calendar(
    context: typer.Context,
    address: Annotated[str, typer.Argument(help="The account's address.")],
    invitations: Annotated[
        str | None,
        typer.Option(help="Whose invitations by mail go into the calendar: known, everybody, nobody."),
    ] = None,
) -> None:
    """Show or choose whose invitations that come by mail go into the calendar; the mail comes in any case."""
    run = invocation.of(context)
    if invitations is not None and invitations not in list(Trust):
        raise InvalidInput(f"--invitations is one of: {', '.join(Trust)}.")
    with run.administration() as administration:
        whose = invocation.find_account(administration, address)
        record(run, administration, "account.calendar", whose, {"invitations": invitations or ""})
        tenant_id, account_id = whose.tenant.tenant_id, whose.account.account_id
        with administration.installation.account(tenant_id, account_id) as account:
            scheduling = Scheduling(account, administration.installation.clock)
            if invitations is not None:
                scheduling.trust = Trust(invitations)
            trust = scheduling.trust
        sentence = f"Invitations by mail go into the calendar of {whose.account.login}: {_SENTENCES[trust]}."
        run.output.done(sentence, {"address": str(whose.account.login), "invitations": trust.value})
