"""cleanmail collection: calendars and address books of an account: shares, public links, calendars elsewhere.

A share is made at once, since whoever runs the command decides it. A link's address is printed once and kept nowhere.
Every command leaves an audit record of the account, those about shares one of the sharee too; no record and no log has
a link's secret or the address of a calendar elsewhere.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any

import typer

from hosting.administration import Administration
from hosting.cli import invocation
from hosting.cli.invocation import Invocation, Whose
from hosting.cli.output import moment
from hosting.cli.recording import record, record_all
from hosting.web.places import Places
from hosting.web.public import url_of
from storage.collections.feeds import EVERY, SOURCE, Feed
from storage.collections.values import Collection, Kind
from storage.directory.rows import AccountRow, State
from storage.directory.shares import ShareRow
from storage.directory.tenant import Tenant
from storage.directory.terms import Feature
from storage.errors import InvalidInput, NotFound
from storage.mail.account import Account
from storage.pool import Lease
from storage.values import EmailAddress

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Calendars and address books: list, share, unshare, shares, link, unlink, links, subscribe, unsubscribe,"
    " birthdays.",
)

_HOUR = 3600
_UNFIT = re.compile(r"[^a-z0-9]+")


class Of(StrEnum):
    """What a name is of, where both have it."""

    CALENDAR = "calendar"
    ADDRESS_BOOK = "address-book"


_KINDS = {Of.CALENDAR: Kind.CALENDAR, Of.ADDRESS_BOOK: Kind.ADDRESS_BOOK}
Address = Annotated[str, typer.Argument(help="The account's address.")]
Name = Annotated[str, typer.Argument(help="Its name, or what it is called, as `collection list` shows them.")]
KindOption = Annotated[Of | None, typer.Option("--kind", help="Of what, if a calendar and an address book have it.")]
Sharee = Annotated[str, typer.Argument(metavar="WITH", help="Address of an account of the same organisation.")]


@app.command("list")
def list_(context: typer.Context, address: Address) -> None:
    """List the account's calendars and address books."""
    run = invocation.of(context)
    with run.administration() as administration:
        whose = invocation.find_account(administration, address)
        record(run, administration, "collection.list", whose)
        shares = _tenant(administration, whose).shares.of_owner(whose.account.account_id)
        with _opened(administration, whose) as account:
            feeds = {feed.collection_id: feed for feed in account.feeds.list()}
            found = [each for kind in _KINDS.values() for each in account.collections.list(kind)]
        rows = [_values(each, feeds.get(each.id), shares) for each in found]
    columns = {"name": "name", "kind": "kind", "display_name": "called", "objects": "entries", "source": "from"}
    columns |= {"shared": "shared with", "problem": "problem"}
    run.output.rows(columns, rows, "The account has no calendars and no address books.")


@app.command()
def share(
    context: typer.Context,
    address: Address,
    name: Name,
    with_: Sharee,
    write: Annotated[bool, typer.Option("--write", help="Not only to be read.")] = False,
    kind: KindOption = None,
) -> None:
    """Share it with another account of the organisation; again, to change what that one may do."""
    run = invocation.of(context)
    with run.administration() as administration:
        whose = invocation.find_account(administration, address)
        sharee = _sharee(administration, whose, with_)
        with _opened(administration, whose) as account:
            found = _find(account, name, kind)
        administration.control.contracts.check_open(whose.tenant.tenant_id)
        details = {"collection": str(found.id), "sharee": str(sharee.account_id), "write": "yes" if write else ""}
        _record_both(run, administration, "collection.share", whose, sharee, details)
        row = _tenant(administration, whose).shares.invite(
            whose.account.account_id, found.id, sharee.account_id, found.kind, may_write=write, at_once=True
        )
        may = "may read and change" if write else "may read"
        run.output.done(f"{sharee.login} {may} '{found.name}' of {whose.account.login}.", _given(row, found.name))


@app.command()
def unshare(context: typer.Context, address: Address, name: Name, with_: Sharee, kind: KindOption = None) -> None:
    """Stop sharing it with an account; that one sees it no more from the next request on."""
    run = invocation.of(context)
    with run.administration() as administration:
        whose = invocation.find_account(administration, address)
        sharee = _sharee(administration, whose, with_)
        with _opened(administration, whose) as account:
            found = _find(account, name, kind)
        details = {"collection": str(found.id), "sharee": str(sharee.account_id)}
        _record_both(run, administration, "collection.unshare", whose, sharee, details)
        shares = _tenant(administration, whose).shares
        if not shares.remove(whose.account.account_id, found.id, sharee.account_id):
            raise NotFound(f"'{found.name}' is not shared with {sharee.login}.")
        values = {"name": found.name, "with": str(sharee.login)}
        run.output.done(f"'{found.name}' is not shared with {sharee.login} any more.", values)


@app.command()
def shares(context: typer.Context, address: Address) -> None:
    """List what the account shares with others, and what others share with it."""
    run = invocation.of(context)
    with run.administration() as administration:
        whose = invocation.find_account(administration, address)
        record(run, administration, "collection.shares", whose)
        directory, account_id = _tenant(administration, whose).shares, whose.account.account_id
        with _opened(administration, whose) as account:
            names = {int(each.id): each.name for each in account.collections.list()}
        given = directory.of_owner(account_id)
        rows = [_given(row, names[row.collection_id]) for row in given if row.collection_id in names]
        rows += [_taken(row) for row in directory.of_sharee(account_id)]
    columns = {"direction": "direction", "name": "name", "kind": "kind", "with": "with", "access": "access"}
    run.output.rows(columns | {"state": "state"}, rows, "Nothing is shared.")


@app.command()
def link(context: typer.Context, address: Address, name: Name) -> None:
    """Make a link under which anybody who has it may read a calendar; it is printed once."""
    run = invocation.of(context)
    with run.administration() as administration:
        whose = invocation.find_account(administration, address)
        tenant_id, account_id = whose.tenant.tenant_id, whose.account.account_id
        with _opened(administration, whose) as account:
            found = _find(account, name, Of.CALENDAR)
        administration.control.contracts.check_open(tenant_id)
        record(run, administration, "collection.link", whose, {"collection": str(found.id)})
        made, secret = administration.control.public_links.create(tenant_id, account_id, found.id)
        listen = run.config.listen
        url = url_of(Places(run.config.server.name, listen.https, listen.plain_text_sign_in).origin, secret)
        values = {"number": made.number, "name": found.name, "url": url, "webcal": f"webcal{url[len('https') :]}"}
        run.output.done(
            f"Whoever has this link may read '{found.name}'; it is not shown again (link {made.number}):\n{url}", values
        )


@app.command()
def links(context: typer.Context, address: Address) -> None:
    """List the account's public links, without what opens them."""
    run = invocation.of(context)
    with run.administration() as administration:
        whose = invocation.find_account(administration, address)
        record(run, administration, "collection.links", whose)
        with _opened(administration, whose) as account:
            names = {int(each.id): each.name for each in account.collections.list(Kind.CALENDAR)}
        found = administration.control.public_links.of_account(whose.tenant.tenant_id, whose.account.account_id)
        rows = [
            {"number": each.number, "name": names.get(each.collection_id), "created": moment(each.created)}
            for each in found
        ]
    run.output.rows({"number": "link", "name": "calendar", "created": "made"}, rows, "There are no public links.")


@app.command()
def unlink(
    context: typer.Context,
    address: Address,
    number: Annotated[str, typer.Argument(help="The link's number, as `collection links` shows it.")],
) -> None:
    """Revoke a public link."""
    run = invocation.of(context)
    with run.administration() as administration:
        whose = invocation.find_account(administration, address)
        record(run, administration, "collection.unlink", whose, {"link": number[:40]})
        administration.control.public_links.revoke(whose.tenant.tenant_id, whose.account.account_id, number)
        run.output.done(f"The link {number} leads nowhere any more.", {"number": number})


@app.command()
def subscribe(
    context: typer.Context,
    address: Address,
    url: Annotated[str, typer.Argument(help="Where the calendar is: https, http or webcal.")],
    name: Annotated[str, typer.Option(help="What it is called; the server's name if not given.")] = "",
    hours: Annotated[int, typer.Option(help="Hours between two fetches.", min=1)] = EVERY // _HOUR,
) -> None:
    """Subscribe to a calendar elsewhere: the server fetches it, and the account reads it as one of its own."""
    run = invocation.of(context)
    with run.administration() as administration:
        whose = invocation.find_account(administration, address)
        administration.control.contracts.check_open(whose.tenant.tenant_id)
        administration.control.contracts.check_feature(whose.tenant.tenant_id, Feature.DAV)
        with _opened(administration, whose) as account:
            place = account.feeds.checked(url, hours * _HOUR)
            called = name or place.partition("://")[2].partition("/")[0].partition(":")[0]
            segment = _free_name(account, called)
            record(run, administration, "collection.subscribe", whose)
            made = account.feeds.subscribe(segment, place, display_name=called, every=hours * _HOUR)
        values = {"name": made.name, "display_name": called, "hours": hours}
        run.output.done(f"'{made.name}' was subscribed to; it is fetched within a minute.", values)


@app.command()
def unsubscribe(context: typer.Context, address: Address, name: Name) -> None:
    """Remove a calendar that comes from elsewhere."""
    run = invocation.of(context)
    with run.administration() as administration:
        whose = invocation.find_account(administration, address)
        with _opened(administration, whose) as account:
            found = _find(account, name, Of.CALENDAR)
            if found.source != SOURCE:
                raise InvalidInput(f"'{found.name}' comes from nowhere else.")
            record(run, administration, "collection.unsubscribe", whose, {"collection": str(found.id)})
            account.collections.delete(found.id)
        run.output.done(f"'{found.name}' is not subscribed to any more.", {"name": found.name})


@app.command()
def birthdays(
    context: typer.Context,
    address: Address,
    show: Annotated[bool | None, typer.Option("--show/--hide", help="Whether there is such a calendar.")] = None,
) -> None:
    """Show or choose whether the account has a calendar with the birthdays of its contacts."""
    run = invocation.of(context)
    with run.administration() as administration:
        whose = invocation.find_account(administration, address)
        chosen = {} if show is None else {"shown": "yes" if show else "no"}
        record(run, administration, "collection.birthdays", whose, chosen)
        with _opened(administration, whose) as account:
            if show is True:
                account.birthdays.show()
            elif show is False:
                account.birthdays.hide()
            shown = account.birthdays.are_shown
        login = str(whose.account.login)
        sentence = "are in a calendar" if shown else "are in no calendar"
        run.output.done(f"Birthdays of contacts of {login} {sentence}.", {"address": login, "shown": shown})


def _tenant(administration: Administration, whose: Whose) -> Tenant:
    return administration.installation.tenant(whose.tenant.tenant_id)


def _opened(administration: Administration, whose: Whose) -> Lease:
    return administration.installation.account(whose.tenant.tenant_id, whose.account.account_id)


def _record_both(
    run: Invocation,
    administration: Administration,
    action: str,
    whose: Whose,
    sharee: AccountRow,
    details: dict[str, str],
) -> None:
    tenant_id = whose.tenant.tenant_id
    both = [(tenant_id, whose.account.account_id), (tenant_id, sharee.account_id)]
    record_all(run, administration, action, both, details, owner_too=True)


def _sharee(administration: Administration, whose: Whose, address: str) -> AccountRow:
    """Of the same tenant; everybody else is as if he did not exist."""
    parsed = EmailAddress.parse(address)
    tenant = administration.installation.tenant(whose.tenant.tenant_id)
    try:
        found = tenant.account_by_address(parsed)
    except NotFound:
        raise NotFound(f"The organisation of {whose.account.login} has no account {parsed}.") from None
    if found.state is State.ENDED:
        raise NotFound(f"The organisation of {whose.account.login} has no account {parsed}.")
    return found


def _find(account: Account, name: str, of: Of | None) -> Collection:
    """By the name in its path, else by what it is called."""
    kinds = [_KINDS[of]] if of is not None else list(_KINDS.values())
    there = [each for kind in kinds for each in account.collections.list(kind)]
    found = [each for each in there if each.name == name] or [each for each in there if each.display_name == name]
    if not found:
        raise NotFound(f"The account has no calendar or address book '{name[:80]}'.")
    if len({each.kind for each in found}) > 1:
        raise InvalidInput(f"A calendar and an address book are called '{name[:80]}'; say --kind.")
    if len(found) > 1:
        raise InvalidInput(f"Several are called '{name[:80]}'; give the first column of `collection list`.")
    return found[0]


def _free_name(account: Account, called: str) -> str:
    """The last segment of a new calendar's path."""
    base = _UNFIT.sub("-", called.lower()).strip("-")[:60] or "subscription"
    taken = {each.name for each in account.collections.list(Kind.CALENDAR)}
    names = (base, *(f"{base}-{number}" for number in range(2, len(taken) + 3)))
    return next(each for each in names if each not in taken)


def _values(found: Collection, feed: Feed | None, shares: list[ShareRow]) -> dict[str, Any]:
    sharees = sum(row.collection_id == found.id for row in shares)
    values: dict[str, Any] = {
        "name": found.name,
        "kind": found.kind.value.replace("_", "-"),
        "display_name": found.display_name,
        "objects": found.objects,
        "source": found.source or None,
        "shared": sharees,
        "problem": (feed.problem or None) if feed is not None else None,
    }
    if feed is not None:
        values |= {"fetched": moment(feed.fetched), "due": moment(feed.due), "failures": feed.failures}
    return values


def _given(row: ShareRow, name: str) -> dict[str, Any]:
    return _of_share(row) | {"direction": "given", "name": name, "with": row.sharee_login}


def _taken(row: ShareRow) -> dict[str, Any]:
    return _of_share(row) | {"direction": "taken", "name": row.name, "with": row.owner_login}


def _of_share(row: ShareRow) -> dict[str, Any]:
    return {
        "kind": row.kind.value.replace("_", "-"),
        "access": "read-write" if row.may_write else "read",
        "state": row.state.value,
    }
