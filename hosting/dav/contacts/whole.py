"""A whole address book as one file of cards, for GET and for whoever gives one away (RFC 6350 §3.3)."""

from __future__ import annotations

from collections.abc import Iterator

from hosting.dav.calendars.whole import answered, batched
from hosting.dav.contacts.bodies import version_accepted
from hosting.dav.context import Context
from hosting.dav.request import DavResponse
from hosting.dav.resources import Resource
from storage.collections.values import Collection
from storage.errors import InvalidInput
from storage.mail.account import Account
from storage.vcard.partial import AddressData, partial

_BOM = b"\xef\xbb\xbf"


def download(context: Context, resource: Resource) -> DavResponse:
    """GET of an address book."""
    version = version_accepted(context.request.header("accept"))
    parts = whole_book(resource.data, resource.row, version or "")
    return answered(context, resource, "text/vcard; charset=utf-8", "contacts.vcf", batched(parts))


def whole_book(account: Account, collection: Collection, version: str = "") -> Iterator[bytes]:
    """The octets of its cards one after the other; of one version, where one is named and they can be converted."""
    asked = AddressData(version=version)
    for _, data in account.objects.read_many(account.objects.list(collection.id)):
        try:
            card = partial(data, asked)
        except InvalidInput:
            card = data
        card = card.removeprefix(_BOM)
        yield card if card.endswith(b"\n") else card + b"\r\n"
