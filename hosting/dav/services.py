"""What the DAV layer works with, given once when the server is composed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hosting.dav.resources import Share
from hosting.dav.scheduling import Scheduler
from storage.clock import Clock
from storage.collections.values import CollectionId
from storage.directory.shares import ShareRow
from storage.installation import Installation
from storage.values import AccountId, TenantId


@dataclass(frozen=True, slots=True)
class DavLimits:
    """What one request may ask for."""

    xml_body: int = 4 << 20  # octets of a body that is XML
    file_size: int = 1 << 30
    properties: int = 500  # that one request asks for or sets
    property_size: int = 64 << 10  # octets of one property that clients keep here
    infinite_members: int = 1000  # a PROPFIND of infinite depth on more is refused (RFC 4918 §9.1.1)
    report_results: int = 50_000
    expanded: int = 64 << 20  # octets of all recurrences that one answer expands
    path: int = 4096  # octets of a path, percent-encoded
    segment: int = 255  # octets of one name
    lock_seconds: int = 3600  # longest life of a lock that is not refreshed


# Fields of a shared collection that each sharee has for himself.
SHAREES_OWN = frozenset({"display_name", "color", "transparent"})


class Shares(Protocol):
    """Collections that their owners share with others of the tenant."""

    def of_sharee(self, tenant_id: TenantId, sharee_id: AccountId) -> Sequence[Share]:
        """What was shared with him and taken by him, in the order of names."""
        ...

    def of_collection(self, tenant_id: TenantId, owner_id: AccountId, collection_id: CollectionId) -> Sequence[Share]:
        """With whom it is shared."""
        ...

    def change(self, tenant_id: TenantId, share: Share, fields: Mapping[str, object]) -> None:
        """What the sharee sets of his view of it: some of `SHAREES_OWN`."""
        ...

    def leave(self, tenant_id: TenantId, share: Share) -> None:
        """The sharee removed it from his home."""
        ...

    def notices(self, tenant_id: TenantId, account_id: AccountId) -> Sequence[ShareRow]:
        """Invitations that he has not seen to, and answers to his own, the oldest first."""
        ...


class NoShares:
    """Where nothing is shared."""

    def of_sharee(self, tenant_id: TenantId, sharee_id: AccountId) -> Sequence[Share]:
        return ()

    def of_collection(self, tenant_id: TenantId, owner_id: AccountId, collection_id: CollectionId) -> Sequence[Share]:
        return ()

    def change(self, tenant_id: TenantId, share: Share, fields: Mapping[str, object]) -> None:
        return None

    def leave(self, tenant_id: TenantId, share: Share) -> None:
        return None

    def notices(self, tenant_id: TenantId, account_id: AccountId) -> Sequence[ShareRow]:
        return ()


@dataclass(frozen=True, slots=True)
class DavServices:
    installation: Installation
    clock: Clock
    limits: DavLimits = field(default_factory=DavLimits)
    shares: Shares = field(default_factory=NoShares)
    scheduler: Scheduler | None = None
