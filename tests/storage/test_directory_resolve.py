"""Where addresses lead, in the order of the rules, and who may send as what."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from directory_premises import Town, new_town

from storage.directory.resolve import Outcome, Resolution, Resolver, Route
from storage.directory.rows import State
from storage.directory.tenant import Tenant
from storage.errors import AlreadyExists, Conflict, InvalidInput, LimitReached, NotFound, NotPermitted
from storage.values import AccountId, Domain, EmailAddress, TenantId


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with new_town(tmp_path) as town:
        yield town


@pytest.fixture
def acme(town: Town) -> TenantId:
    return town.tenant("acme", "acme.test", "acme.example")


def resolve(town: Town, address: str) -> Resolution:
    return town.resolver.resolve(EmailAddress.parse(address))


def reached(town: Town, address: str) -> list[AccountId]:
    return [mailbox.account_id for mailbox in resolve(town, address).mailboxes]


def may_send(town: Town, tenant_id: TenantId, account_id: AccountId, address: str) -> bool:
    return town.resolver.may_send_as(tenant_id, account_id, EmailAddress.parse(address))


def test_exact_then_alias_then_subaddress_then_catch_all(town: Town, acme: TenantId) -> None:
    ann, bob, eve = (town.account(acme, f"{name}@acme.test").account_id for name in ("ann", "bob", "eve"))
    town.alias(acme, "sales@acme.test", "bob@acme.test")
    town.alias(acme, "ann+list@acme.test", "bob@acme.test")
    town.catch_all(acme, "acme.test", "eve@acme.test")
    table = [
        ("ann@acme.test", Route.ACCOUNT, ann, ""),
        ("ANN@Acme.Test.", Route.ACCOUNT, ann, ""),
        ("Sales@acme.test", Route.ALIAS, bob, ""),
        ("ann+list@acme.test", Route.ALIAS, bob, ""),
        ("ann+News@acme.test", Route.SUBADDRESS, ann, "News"),
        ("ann+a+b@acme.test", Route.SUBADDRESS, ann, "a+b"),
        ("sales+x@acme.test", Route.SUBADDRESS, bob, "x"),
        ("+ann@acme.test", Route.CATCH_ALL, eve, ""),
        ("nobody+x@acme.test", Route.CATCH_ALL, eve, ""),
    ]
    for address, route, account_id, tag in table:
        resolution = resolve(town, address)
        assert (resolution.outcome, resolution.route, resolution.tag) == (Outcome.LOCAL, route, tag), address
        assert [mailbox.account_id for mailbox in resolution.mailboxes] == [account_id], address
    assert resolve(town, "nobody@acme.example").outcome is Outcome.UNKNOWN


def test_local_parts_are_nfc_and_caseless(town: Town, acme: TenantId) -> None:
    account = town.account(acme, "J\u00fcrgen.Stra\u00dfe@acme.test").account_id
    for address in ("ju\u0308rgen.stra\u00dfe@acme.test", "J\u00dcRGEN.STRASSE@acme.test"):
        assert reached(town, address) == [account]


def test_domains_that_are_not_ours_or_not_verified_are_elsewhere(town: Town, acme: TenantId) -> None:
    town.control.add_domain(acme, Domain.parse("pending.test"))
    account = town.account(acme, "ann@pending.test").account_id
    for address in ("ann@pending.test", "postmaster@pending.test", "ann@gmail.test"):
        assert resolve(town, address) == Resolution(Outcome.ELSEWHERE)
        assert not may_send(town, acme, account, address)
    town.control.verify_domain(Domain.parse("pending.test"), None)
    assert reached(town, "ann@pending.test") == [account]
    assert may_send(town, acme, account, "ann@pending.test")


def test_alias_with_several_targets_here_and_elsewhere_gives_each_once(town: Town, acme: TenantId) -> None:
    ann, bob = (town.account(acme, f"{name}@acme.test").account_id for name in ("ann", "bob"))
    town.alias(acme, "inner@acme.test", "bob@acme.test", "x@far.test")
    town.alias(acme, "all@acme.test", "ann@acme.test", "inner@acme.test", "ann+t@acme.test", "X@FAR.test", "y@far.test")
    resolution = resolve(town, "all@acme.test")
    assert [mailbox.account_id for mailbox in resolution.mailboxes] == [ann, bob]
    assert [str(address) for address in resolution.external] == ["x@far.test", "y@far.test"]


def test_alias_that_leads_only_elsewhere_is_local_with_external_targets(town: Town, acme: TenantId) -> None:
    town.alias(acme, "away@acme.test", "x@far.test")
    resolution = resolve(town, "away@acme.test")
    assert (resolution.outcome, resolution.mailboxes) == (Outcome.LOCAL, ())
    assert [str(address) for address in resolution.external] == ["x@far.test"]


def test_alias_into_another_tenant_reaches_its_mailbox(town: Town, acme: TenantId) -> None:
    zebra = town.tenant("zebra", "zebra.test")
    zoe = town.account(zebra, "zoe@zebra.test").account_id
    town.alias(acme, "zoe@acme.test", "zoe@zebra.test")
    (mailbox,) = resolve(town, "zoe@acme.test").mailboxes
    assert (mailbox.tenant_id, mailbox.account_id) == (zebra, zoe)
    town.provisioning.suspend_tenant(zebra)
    (mailbox,) = resolve(town, "zoe@acme.test").mailboxes
    assert mailbox.state is State.SUSPENDED


def test_states_are_told(town: Town, acme: TenantId) -> None:
    account = town.account(acme, "ann@acme.test").account_id
    town.provisioning.suspend_account(acme, account)
    assert [mailbox.state for mailbox in resolve(town, "ann@acme.test").mailboxes] == [State.SUSPENDED]
    assert not may_send(town, acme, account, "ann@acme.test")
    town.provisioning.resume_account(acme, account)
    assert may_send(town, acme, account, "ann@acme.test")
    town.provisioning.suspend_tenant(acme)
    suspended = resolve(town, "ann@acme.test")
    assert (suspended.outcome, suspended.tenant_id) == (Outcome.SUSPENDED, acme)
    assert [(mailbox.account_id, mailbox.state) for mailbox in suspended.mailboxes] == [(account, State.SUSPENDED)]
    assert resolve(town, "nobody@acme.test").outcome is Outcome.UNKNOWN
    assert not may_send(town, acme, account, "ann@acme.test")
    town.control.change_tenant_state(acme, State.ENDED)
    assert resolve(town, "ann@acme.test") == Resolution(Outcome.ENDED, acme)


@pytest.mark.parametrize("role", ["postmaster", "Abuse", "postmaster+dmarc"])
def test_postmaster_and_abuse_always_resolve(town: Town, acme: TenantId, role: str) -> None:
    """RFC 5321 §4.5.1, RFC 2142 §4 and §5."""
    assert resolve(town, f"{role}@acme.test").outcome is Outcome.UNKNOWN  # nobody lives there yet
    first, second = (town.account(acme, f"{name}@acme.test").account_id for name in ("ann", "bob"))
    assert resolve(town, f"{role}@acme.test").route is Route.ROLE
    assert reached(town, f"{role}@acme.test") == [first]
    operator = Resolver(town.premises, EmailAddress.parse("op@far.test"))
    assert [str(a) for a in operator.resolve(EmailAddress.parse(f"{role}@acme.test")).external] == ["op@far.test"]
    town.premises.tenant(acme).set_setting("postmaster", "bob@acme.test")
    assert reached(town, f"{role}@acme.test") == [second]
    town.premises.tenant(acme).set_setting("postmaster", "no address")
    assert reached(town, f"{role}@acme.test") == [first]
    town.premises.tenant(acme).set_setting("postmaster", None)
    town.provisioning.suspend_account(acme, first)
    assert reached(town, f"{role}@acme.test") == [second]


def test_own_postmaster_alias_comes_first(town: Town, acme: TenantId) -> None:
    town.account(acme, "ann@acme.test")
    bob = town.account(acme, "bob@acme.test").account_id
    town.alias(acme, "postmaster@acme.test", "bob@acme.test")
    assert reached(town, "postmaster@acme.test") == [bob]


def test_postmaster_alias_that_leads_nowhere_loses_no_mail(town: Town, acme: TenantId) -> None:
    """RFC 5321 §4.5.1."""
    ann, bob = (town.account(acme, f"{name}@acme.test").account_id for name in ("ann", "bob"))
    town.alias(acme, "postmaster@acme.test", "bob@acme.test")
    town.catch_all(acme, "acme.test", "bob@acme.test")
    town.premises.end_account(acme, bob)
    assert reached(town, "postmaster@acme.test") == [ann]
    assert reached(town, "abuse@acme.test") == [ann]
    assert resolve(town, "nobody@acme.test").outcome is Outcome.UNKNOWN


class TestCycles:
    @pytest.mark.parametrize(
        ("standing", "alias", "targets"),
        [
            ([], "a@acme.test", ["a@acme.test"]),
            ([], "a@acme.test", ["a+x@acme.test"]),
            ([("a@acme.test", ["b@zebra.test"])], "b@zebra.test", ["a@acme.test"]),
            ([("a@acme.test", ["ann@acme.test", "b@zebra.test"])], "b@zebra.test", ["zoe@zebra.test", "A+t@acme.test"]),
            ([("a@acme.test", ["b@zebra.test"]), ("c@acme.test", ["a@acme.test"])], "b@zebra.test", ["c@acme.test"]),
            ([("a@acme.test", ["ann+t@acme.test"])], "ann+t@acme.test", ["a@acme.test"]),
        ],
    )
    def test_are_refused_when_made_across_tenants_too(
        self, town: Town, acme: TenantId, standing: list[tuple[str, list[str]]], alias: str, targets: list[str]
    ) -> None:
        town.account(acme, "ann@acme.test")
        zebra = town.tenant("zebra", "zebra.test")
        town.account(zebra, "zoe@zebra.test")
        # Room for targets that come to be aliases later.
        town.catch_all(zebra, "zebra.test", "zoe@zebra.test")
        owners = {"acme.test": acme, "zebra.test": zebra}
        for address, leads in standing:
            town.alias(owners[address.rpartition("@")[2]], address, *leads)
        with pytest.raises(Conflict, match="back to itself"):
            town.alias(owners[alias.rpartition("@")[2]], alias, *targets)

    def test_of_a_catch_all_are_refused(self, town: Town, acme: TenantId) -> None:
        zebra = town.tenant("zebra", "zebra.test")
        town.alias(zebra, "z@zebra.test", "whoever@acme.test")
        with pytest.raises(Conflict):
            town.catch_all(acme, "acme.test", "z@zebra.test")
        with pytest.raises(Conflict):
            town.catch_all(acme, "acme.test", "other@acme.test")

    def test_count_pending_domains(self, town: Town, acme: TenantId) -> None:
        town.control.add_domain(acme, Domain.parse("pending.test"))
        town.alias(acme, "a@pending.test", "b@far.test")
        town.alias(acme, "b@acme.test", "a@pending.test")
        town.provisioning.remove_alias(acme, EmailAddress.parse("a@pending.test"))
        with pytest.raises(Conflict):
            town.alias(acme, "a@pending.test", "b@acme.test")

    def test_that_a_deletion_brings_about_cost_nothing(self, town: Town, acme: TenantId) -> None:
        zebra = town.tenant("zebra", "zebra.test")
        town.account(acme, "ann@acme.test")
        bob = town.account(acme, "bob@acme.test").account_id
        town.alias(zebra, "z@zebra.test", "bob@acme.test", "ann@acme.test")
        town.catch_all(acme, "acme.test", "z@zebra.test")
        ann = town.premises.tenant(acme).account_by_address(EmailAddress.parse("ann@acme.test"))
        town.premises.end_account(acme, ann.account_id)
        assert reached(town, "ann@acme.test") == [bob]


def test_long_chain_of_aliases_is_followed(town: Town, acme: TenantId) -> None:
    ann = town.account(acme, "ann@acme.test").account_id
    town.alias(acme, "a0@acme.test", "ann@acme.test")
    for number in range(1, 60):
        town.alias(acme, f"a{number}@acme.test", f"a{number - 1}@acme.test")
    assert reached(town, "a59@acme.test") == [ann]
    assert may_send(town, acme, ann, "a59@acme.test")


class TestAliases:
    def test_need_a_domain_of_the_tenant_and_a_free_address(self, town: Town, acme: TenantId) -> None:
        zebra = town.tenant("zebra", "zebra.test")
        town.account(acme, "ann@acme.test")
        with pytest.raises(NotPermitted):
            town.alias(zebra, "x@acme.test", "y@far.test")
        with pytest.raises(NotFound):
            town.alias(acme, "x@unknown.test", "y@far.test")
        with pytest.raises(AlreadyExists):
            town.alias(acme, "Ann@acme.test", "y@far.test")
        with pytest.raises(NotFound, match="Nobody has"):
            town.alias(acme, "x@acme.test", "nobody@acme.test")
        with pytest.raises(InvalidInput):
            town.alias(acme, "x@acme.test")
        with pytest.raises(LimitReached):
            town.alias(acme, "x@acme.test", *(f"y{number}@far.test" for number in range(201)))
        with pytest.raises(NotFound):
            town.provisioning.remove_alias(acme, EmailAddress.parse("x@acme.test"))
        with pytest.raises(NotFound):
            town.provisioning.remove_alias(acme, EmailAddress.parse("ann@acme.test"))

    def test_are_listed_and_removed(self, town: Town, acme: TenantId) -> None:
        ann = town.account(acme, "ann@acme.test").account_id
        town.alias(acme, "Sales@acme.test", "x@far.test", "ann@acme.test", "ann@acme.test")
        town.catch_all(acme, "acme.test", "ann@acme.test")
        catch_all, sales = town.premises.tenant(acme).addresses.aliases()
        assert (catch_all.address, catch_all.catch_all, catch_all.accounts) == ("@acme.test", True, (ann,))
        assert (sales.address, sales.catch_all, sales.accounts) == ("Sales@acme.test", False, (ann,))
        assert [str(address) for address in sales.addresses] == ["x@far.test"]
        town.provisioning.remove_alias(acme, EmailAddress.parse("sales@acme.test"))
        town.provisioning.remove_catch_all(acme, Domain.parse("acme.test"))
        assert town.premises.tenant(acme).addresses.aliases() == []
        assert resolve(town, "sales@acme.test").outcome is Outcome.UNKNOWN


class TestMaySendAs:
    def test_own_address_alias_and_subaddress(self, town: Town, acme: TenantId) -> None:
        ann, bob = (town.account(acme, f"{name}@acme.test").account_id for name in ("ann", "bob"))
        town.alias(acme, "sales@acme.example", "ann@acme.test", "x@far.test")
        town.alias(acme, "shop@acme.test", "sales@acme.example")
        for address in (
            "Ann@acme.test",
            "ann+tag@acme.test",
            "sales@acme.example",
            "sales+q@acme.example",
            "shop@acme.test",
        ):
            assert may_send(town, acme, ann, address), address
            assert not may_send(town, acme, bob, address), address
        for address in ("bob@acme.test", "nobody@acme.test", "postmaster@acme.test", "ann@far.test", "x@far.test"):
            assert not may_send(town, acme, ann, address), address

    def test_catch_all_only_if_granted_and_never_over_what_somebody_has(self, town: Town, acme: TenantId) -> None:
        ann, bob = (town.account(acme, f"{name}@acme.test").account_id for name in ("ann", "bob"))
        town.alias(acme, "sales@acme.test", "bob@acme.test")
        town.alias(acme, "far@acme.test", "x@far.test")
        town.catch_all(acme, "acme.test", "ann@acme.test")
        assert not may_send(town, acme, ann, "anything@acme.test")
        for account_id in (ann, bob):
            town.provisioning.allow_catch_all_sender(acme, account_id, True)
        assert may_send(town, acme, ann, "anything@acme.test")
        assert not may_send(town, acme, bob, "anything@acme.test")
        for address in ("bob@acme.test", "bob+x@acme.test", "sales@acme.test", "far@acme.test", "any@acme.example"):
            assert not may_send(town, acme, ann, address), address

    def test_never_by_way_of_another_tenant(self, town: Town, acme: TenantId) -> None:
        zebra = town.tenant("zebra", "zebra.test")
        ann = town.account(acme, "ann@acme.test").account_id
        zoe = town.account(zebra, "zoe@zebra.test").account_id
        town.alias(acme, "zoe@acme.test", "zoe@zebra.test", "back@zebra.test")
        town.alias(zebra, "back@zebra.test", "ann@acme.test")
        assert not may_send(town, zebra, zoe, "zoe@acme.test")
        assert not may_send(town, acme, ann, "zoe@acme.test")
        assert not may_send(town, acme, ann, "back@zebra.test")
        assert not may_send(town, acme, zoe, "zoe@zebra.test")
        assert not may_send(town, TenantId(99), ann, "ann@acme.test")


def test_a_deleted_accounts_targets_are_gone(town: Town, acme: TenantId) -> None:
    ann, bob = (town.account(acme, f"{name}@acme.test").account_id for name in ("ann", "bob"))
    town.alias(acme, "both@acme.test", "ann@acme.test", "bob@acme.test")
    town.alias(acme, "only@acme.test", "ann@acme.test")
    town.premises.end_account(acme, ann)
    assert reached(town, "both@acme.test") == [bob]
    assert resolve(town, "only@acme.test").outcome is Outcome.UNKNOWN
    tenant: Tenant = town.premises.tenant(acme)
    assert [alias.address for alias in tenant.addresses.aliases()] == ["both@acme.test"]
