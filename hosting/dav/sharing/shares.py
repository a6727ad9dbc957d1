"""The shares of a tenant as the DAV layer asks for them, from its directory: each request sees what holds now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hosting.dav.resources import Person, Share
from storage.directory.shares import Answer, ShareRow
from storage.directory.shares import Shares as ShareRows
from storage.installation import Installation
from storage.values import AccountId, TenantId


class DirectoryShares:
    """See `hosting.dav.services.Shares`."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation

    def rows(self, tenant_id: TenantId) -> ShareRows:
        return self._installation.tenant(tenant_id).shares

    def of_sharee(self, tenant_id: TenantId, sharee_id: AccountId) -> Sequence[Share]:
        return [_share(tenant_id, row) for row in self.rows(tenant_id).of_sharee(sharee_id) if _is_taken(row)]

    def of_collection(self, tenant_id: TenantId, owner_id: AccountId, collection_id: int) -> Sequence[Share]:
        rows = self.rows(tenant_id).of_collection(owner_id, collection_id)
        return [_share(tenant_id, row) for row in rows if _is_taken(row)]

    def change(self, tenant_id: TenantId, share: Share, fields: Mapping[str, object]) -> None:
        self.rows(tenant_id).change(share.owner.account_id, share.collection_id, share.sharee_id, fields)

    def leave(self, tenant_id: TenantId, share: Share) -> None:
        """Its owner sees that it was declined, and may ask again."""
        self.rows(tenant_id).answer(share.owner.account_id, share.collection_id, share.sharee_id, accepted=False)

    def notices(self, tenant_id: TenantId, account_id: AccountId) -> Sequence[ShareRow]:
        rows = self.rows(tenant_id)
        asked = [each for each in rows.of_sharee(account_id) if each.state is Answer.INVITED and not each.told_sharee]
        answered = [each for each in rows.of_owner(account_id) if not each.told_owner and each.answered]
        return sorted(asked + answered, key=lambda row: (row.answered or row.invited, row.collection_id))


def _is_taken(row: ShareRow) -> bool:
    return row.state is Answer.ACCEPTED


def _share(tenant_id: TenantId, row: ShareRow) -> Share:
    return Share(
        Person(tenant_id, row.owner_id, row.owner_login),
        row.collection_id,
        row.sharee_id,
        row.kind,
        row.may_write,
        row.name,
        row.display_name,
        row.color,
        row.transparent,
    )
