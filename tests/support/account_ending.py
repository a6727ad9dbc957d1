"""An account that is gone, as `cleanmail account delete` lets it go."""

from __future__ import annotations

from storage.certificates.certificate import Certificate
from storage.ending.ending import carry_out
from storage.ending.orders import order_account
from storage.ending.processes import Nobody
from storage.installation import Installation
from storage.values import AccountId, TenantId


def end_account(installation: Installation, tenant_id: TenantId, account_id: AccountId) -> Certificate:
    return carry_out(installation, order_account(installation, tenant_id, account_id, "root", "test"), people=Nobody())
