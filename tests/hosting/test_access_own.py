"""What a tenant's administrator is given: one tenant, whatever is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from directory_premises import Town, new_town

from hosting.access.own import KeysOfOne
from storage.errors import NotFound, NotPermitted
from storage.values import AccountId, Domain, TenantId


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with new_town(tmp_path) as town:
        for slug in ("acme", "bolt"):
            tenant_id = town.tenant(slug, f"{slug}.test")
            town.account(tenant_id, f"ann@{slug}.test")
        yield town


def test_keys_are_of_one_tenant(town: Town) -> None:
    keys = KeysOfOne(town.premises.keys, TenantId(1))
    assert keys.tenant_key(TenantId(1), "x") == town.premises.keys.tenant_key(TenantId(1), "x")
    assert keys.tenant_key(tenant=TenantId(1), purpose="x").secret
    assert keys.account_key(TenantId(1), AccountId(1), "x").secret
    assert keys.service_key("control") == town.premises.keys.service_key("control")
    for ask in (
        lambda: keys.tenant_key(TenantId(2), "x"),
        lambda: keys.tenant_key(tenant=TenantId(2), purpose="x"),
        lambda: keys.account_key(TenantId(2), AccountId(2), "x"),
        lambda: keys.create_tenant_key(TenantId(3)),
        lambda: keys.header_key(TenantId(2), "x"),
        lambda: keys.destroy_account_key(TenantId(2), AccountId(2)),
        lambda: keys.auditor_key("x"),
        lambda: keys.sign("audit", b"x"),
        lambda: keys.tenant_key(True, "x"),
    ):
        with pytest.raises(NotPermitted):
            ask()


def test_the_directory_is_of_one_tenant(town: Town) -> None:
    control = town.control
    login = control.login_hash("ann@bolt.test")
    assert control.find_login(login) is not None
    control.show_only(TenantId(1))
    assert [row.slug for row in control.tenants()] == ["acme"]
    assert [str(row.domain) for row in control.domains()] == ["acme.test"]
    assert control.domains(TenantId(2)) == []
    assert list(control.active_tenant_ids()) == [1]
    assert control.find_domain(Domain.parse("bolt.test")) is None
    assert control.find_login(login) is None
    assert control.tenant(TenantId(1)).slug == "acme"
    for ask in (
        lambda: control.tenant(TenantId(2)),
        lambda: control.tenant_by_slug("bolt"),
        lambda: control.tenant_state(TenantId(2)),
        lambda: control.domain(Domain.parse("bolt.test")),
    ):
        with pytest.raises(NotFound):
            ask()
