"""control.db: ids, tenants and their states, domains and their proof, login names as keyed hashes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from directory_premises import Town, new_town

from storage.changes import TenantChanged
from storage.directory.control import Control
from storage.directory.rows import DomainState, State
from storage.errors import AlreadyExists, CleanmailError, Conflict, InvalidInput, NotFound, Unavailable
from storage.values import AccountId, Domain, EmailAddress, TenantId

EXAMPLE = Domain.parse("example.test")


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with new_town(tmp_path) as town:
        yield town


def test_tenants_are_listed_with_their_sealed_names(town: Town, tmp_path: Path) -> None:
    first, second = town.tenant("acme"), town.tenant("zebra")
    assert [(row.tenant_id, row.slug, row.name, row.state) for row in town.control.tenants()] == [
        (first, "acme", "Acme", State.ACTIVE),
        (second, "zebra", "Zebra", State.ACTIVE),
    ]
    assert town.control.tenant_by_slug("zebra") == town.control.tenant(second)
    again = Control.open(tmp_path / "control.db", town.premises.keys, town.premises.clock)
    assert again.tenants() == town.control.tenants()
    again.close()


@pytest.mark.parametrize("slug", ["", "-a", "a-", "A", "a b", "ä", "a" * 64, "a.b"])
def test_short_names_that_are_none(town: Town, slug: str) -> None:
    with pytest.raises(InvalidInput):
        town.tenant(slug)


def test_short_name_is_unique_and_a_refused_tenant_leaves_nothing(town: Town) -> None:
    town.tenant("acme")
    with pytest.raises(AlreadyExists):
        town.tenant("acme")
    assert len(town.control.tenants()) == 1


def test_what_is_not_there(town: Town) -> None:
    for look in (
        lambda: town.control.tenant(TenantId(9)),
        lambda: town.control.tenant_state(TenantId(9)),
        lambda: town.control.tenant_by_slug("nobody"),
        lambda: town.control.domain(EXAMPLE),
        lambda: town.control.change_tenant_state(TenantId(9), State.SUSPENDED),
        lambda: town.control.add_domain(TenantId(9), EXAMPLE),
    ):
        with pytest.raises(NotFound):
            look()
    assert town.control.find_domain(EXAMPLE) is None


def test_ids_only_rise_under_concurrency(town: Town) -> None:
    with ThreadPoolExecutor(8) as threads:
        ids = list(threads.map(lambda _: town.control.next_account_id(), range(40)))
    assert sorted(ids) == list(range(1, 41))


def test_suspend_and_resume_count_versions_and_are_announced(town: Town) -> None:
    tenant_id = town.tenant("acme")
    versions = [town.control.tenant_state(tenant_id)]
    town.provisioning.suspend_tenant(tenant_id)
    versions.append(town.control.tenant_state(tenant_id))
    town.provisioning.suspend_tenant(tenant_id)
    versions.append(town.control.tenant_state(tenant_id))
    town.provisioning.resume_tenant(tenant_id)
    versions.append(town.control.tenant_state(tenant_id))
    assert versions == [(State.ACTIVE, 1), (State.SUSPENDED, 2), (State.SUSPENDED, 2), (State.ACTIVE, 3)]
    assert set(town.premises.announced) == {TenantChanged(tenant_id)}


def test_ended_is_final(town: Town) -> None:
    tenant_id = town.tenant("acme")
    town.control.change_tenant_state(tenant_id, State.ENDED)
    with pytest.raises(Conflict):
        town.provisioning.resume_tenant(tenant_id)
    with pytest.raises(Conflict):
        town.control.add_domain(tenant_id, EXAMPLE)


def test_domain_is_pending_until_its_record_is_seen(town: Town) -> None:
    tenant_id = town.tenant("acme")
    row = town.control.add_domain(tenant_id, EXAMPLE)
    assert (row.state, row.record_name, row.verified) == (DomainState.PENDING, "_cleanmail.example.test", None)
    with pytest.raises(NotFound, match=row.token):
        town.control.verify_domain(EXAMPLE, lambda domain: {"v=spf1 -all"})
    assert town.control.domain(EXAMPLE).state is DomainState.PENDING
    town.premises.clock.advance(60)
    verified = town.control.verify_domain(EXAMPLE, lambda domain: {"v=spf1 -all", row.token})
    assert (verified.state, verified.verified) == (DomainState.VERIFIED, town.premises.clock.now())
    assert town.control.verify_domain(EXAMPLE, lambda domain: ()) == verified


def test_operators_word_needs_no_record(town: Town) -> None:
    town.control.add_domain(town.tenant("acme"), EXAMPLE)
    assert town.control.verify_domain(EXAMPLE, None).state is DomainState.VERIFIED


def test_dns_without_an_answer_changes_nothing(town: Town) -> None:
    town.control.add_domain(town.tenant("acme"), EXAMPLE)

    def silent(domain: Domain) -> set[str]:
        raise Unavailable("DNS gave no answer.")

    with pytest.raises(Unavailable, match="DNS gave no answer"):
        town.control.verify_domain(EXAMPLE, silent)
    assert town.control.domain(EXAMPLE).state is DomainState.PENDING


def test_domain_belongs_to_one_tenant(town: Town) -> None:
    acme, zebra = town.tenant("acme", "example.test", "b.test"), town.tenant("zebra", "z.test")
    for tenant_id in (acme, zebra):
        with pytest.raises(AlreadyExists):
            town.control.add_domain(tenant_id, Domain.parse("EXAMPLE.test."))
    assert [row.domain.name for row in town.control.domains()] == ["b.test", "example.test", "z.test"]
    assert [row.domain.name for row in town.control.domains(acme)] == ["b.test", "example.test"]


def test_two_who_claim_a_domain_at_once(town: Town) -> None:
    tenants = [town.tenant(f"t{n}") for n in range(6)]

    def claim(tenant_id: TenantId) -> bool:
        try:
            town.control.add_domain(tenant_id, EXAMPLE)
        except CleanmailError:
            return False
        return True

    with ThreadPoolExecutor(6) as threads:
        assert sum(threads.map(claim, tenants)) == 1


def test_login_names_are_hashes_of_canonical_addresses(town: Town) -> None:
    acme, zebra = town.tenant("acme"), town.tenant("zebra")
    address = EmailAddress.parse("J\u00fcrgen@example.test")
    town.control.claim_login(address, acme, AccountId(7))
    for text in ("ju\u0308rgen@EXAMPLE.test", "J\u00dcRGEN@example.test.", str(address)):
        login = town.control.find_login(town.control.login_hash(text))
        assert login is not None
        assert (login.tenant_id, login.account_id) == (acme, 7)
    for text in ("jurgen@example.test", "", "my secret password", "\udcff"):
        assert town.control.find_login(town.control.login_hash(text)) is None
    with pytest.raises(AlreadyExists):
        town.control.claim_login(address, zebra, AccountId(8))
    town.control.release_login(AccountId(7))
    assert town.control.find_login(town.control.login_hash(str(address))) is None
