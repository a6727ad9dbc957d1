"""What the files of keys/ are called."""

from __future__ import annotations

import re

from storage.values import AccountId, TenantId

SERVICE = "service.key"
GROUPS = "groups.key"
TOP = (SERVICE, GROUPS)

GROUP_COUNT = 256

ACCOUNT_KEY = re.compile(r"([1-9][0-9]*)\.key\Z")
NUMBER = re.compile(r"[1-9][0-9]*\Z")
TENANT_MARKER = re.compile(r"[1-9][0-9]*\.destroyed\Z")
IN_GROUPS = re.compile(r"(?:0|[1-9][0-9]{0,2})\.key\Z")
IN_TENANT = re.compile(r"(?:tenant\.key|[1-9][0-9]*\.(?:key|destroyed))\Z")
# What a process that was killed while it wrote a file leaves beside it; never the master's.
LEFTOVER = re.compile(r"\.[a-z0-9]+\.(?:key|destroyed|json)\.[0-9a-f]{12}\Z")


def group_of(tenant: TenantId) -> int:
    return int(tenant) % GROUP_COUNT


def rings_file(number: int) -> str:
    return f"groups/{number}.key"


def tenant_folder(tenant: TenantId) -> str:
    return str(int(tenant))


def tenant_file(tenant: TenantId) -> str:
    return f"{int(tenant)}/tenant.key"


def account_file(tenant: TenantId, account: AccountId) -> str:
    return f"{int(tenant)}/{int(account)}.key"


def tenant_marker(tenant: TenantId) -> str:
    return f"{int(tenant)}.destroyed"


def account_marker(tenant: TenantId, account: AccountId) -> str:
    return f"{int(tenant)}/{int(account)}.destroyed"
