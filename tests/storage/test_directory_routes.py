"""Routes and what they do to resolution; rewritten paths' tokens; the server's own postmaster."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from directory_premises import Town, new_town

from storage.directory.resolve import Outcome, Resolution, Resolver
from storage.directory.resolve import Route as By
from storage.directory.routes import Mode, Route, RouteTls
from storage.directory.rows import State
from storage.directory.srs import DAY, TOKEN_DAYS
from storage.errors import InvalidInput, NotFound
from storage.values import Domain, EmailAddress, TenantId

ACME = Domain.parse("acme.test")
SERVER = Route(ACME, Mode.SERVER, "mail.acme.test", 2525, RouteTls.VERIFIED, verify=False)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with new_town(tmp_path) as town:
        yield town


@pytest.fixture
def acme(town: Town) -> TenantId:
    tenant_id = town.tenant("acme", "acme.test", "acme.example")
    town.account(tenant_id, "ann@acme.test")
    return tenant_id


def resolve(town: Town, address: str) -> Resolution:
    return town.resolver.resolve(EmailAddress.parse(address))


def routed(resolution: Resolution) -> list[str]:
    return [str(each.address) for each in resolution.routed]


class TestStore:
    def test_one_route_for_each_domain(self, town: Town, acme: TenantId) -> None:
        routes = town.premises.tenant(acme).routes
        assert routes.find(ACME) is None and routes.all() == []
        other = Route(Domain.parse("acme.example"), Mode.SPLIT, "2001:db8::1")
        for route in (SERVER, other, replace(SERVER, host="192.0.2.1", verify=True)):
            routes.set(route)
        assert routes.all() == [other, replace(SERVER, host="192.0.2.1", verify=True)]
        routes.remove(ACME)
        assert routes.find(ACME) is None
        with pytest.raises(NotFound):
            routes.remove(ACME)

    @pytest.mark.parametrize("host", ["", "a b", "-x.test", "x..test", "x-.test", "a/b", "x" * 300, "[::1]", "a:25"])
    def test_a_host_is_a_name_or_an_address(self, town: Town, acme: TenantId, host: str) -> None:
        with pytest.raises(InvalidInput):
            town.premises.tenant(acme).routes.set(replace(SERVER, host=host))

    @pytest.mark.parametrize("host", ["localhost", "mail", "a-b.c--d.test.", "127.0.0.1", "::1", "MX1.Example.COM"])
    def test_whichever_it_is(self, town: Town, acme: TenantId, host: str) -> None:
        town.premises.tenant(acme).routes.set(replace(SERVER, host=host))

    @pytest.mark.parametrize("port", [0, -1, 65536])
    def test_ports(self, town: Town, acme: TenantId, port: int) -> None:
        with pytest.raises(InvalidInput):
            town.premises.tenant(acme).routes.set(replace(SERVER, port=port))


class TestResolution:
    def test_everything_of_a_routed_domain_is_the_servers(self, town: Town, acme: TenantId) -> None:
        town.premises.tenant(acme).routes.set(SERVER)
        for address in ("ann@acme.test", "who.ever@acme.test", "ann+tag@acme.test", "postmaster@acme.test"):
            found = resolve(town, address)
            assert (found.outcome, found.route, found.mailboxes) == (Outcome.LOCAL, By.SERVER, ())
            assert routed(found) == [address]
            assert found.routed[0].tenant_id == acme and found.routed[0].domain == ACME
        assert resolve(town, "nobody@acme.example").outcome is Outcome.UNKNOWN  # the other domain is as it was

    def test_split(self, town: Town, acme: TenantId) -> None:
        town.alias(acme, "sales@acme.test", "ann@acme.test")
        town.catch_all(acme, "acme.test", "ann@acme.test")
        town.premises.tenant(acme).routes.set(replace(SERVER, mode=Mode.SPLIT))
        for address in ("ann@acme.test", "Ann+tag@acme.test", "sales@acme.test"):
            assert len(resolve(town, address).mailboxes) == 1 and not resolve(town, address).routed
        for address in ("bob@acme.test", "postmaster@acme.test"):  # not the catch-all
            assert routed(resolve(town, address)) == [address] and not resolve(town, address).mailboxes

    def test_aliases_lead_to_servers_too(self, town: Town, acme: TenantId) -> None:
        zebra = town.tenant("zebra", "zebra.test")
        town.premises.tenant(acme).routes.set(replace(SERVER, mode=Mode.SPLIT))
        town.alias(acme, "two@acme.test", "ann@acme.test", "carol@acme.test")  # who may live there
        town.alias(zebra, "all@zebra.test", "two@acme.test", "carol@acme.test", "x@far.test")
        found = resolve(town, "all@zebra.test")
        assert (len(found.mailboxes), routed(found), len(found.external)) == (1, ["carol@acme.test"], 1)

    def test_postmaster_has_a_way_around_the_server(self, town: Town, acme: TenantId) -> None:
        town.premises.tenant(acme).routes.set(SERVER)
        assert len(town.resolver.resolve_here(EmailAddress.parse("postmaster@acme.test")).mailboxes) == 1

    def test_mode_here_is_no_route(self, town: Town, acme: TenantId) -> None:
        town.premises.tenant(acme).routes.set(Route(ACME, Mode.HERE))
        assert len(resolve(town, "ann@acme.test").mailboxes) == 1

    def test_a_route_changes_nothing_about_sending(self, town: Town, acme: TenantId) -> None:
        town.premises.tenant(acme).routes.set(SERVER)
        ann = EmailAddress.parse("ann@acme.test")
        account_id = town.premises.tenant(acme).account_by_address(ann).account_id
        assert town.resolver.may_send_as(acme, account_id, ann)


class TestOwnName:
    HOST = Domain("mx.provider.test")

    def resolve(self, town: Town, address: str, postmaster: str = "") -> Resolution:
        operator = EmailAddress.parse(postmaster) if postmaster else None
        return Resolver(town.premises, operator, self.HOST).resolve(EmailAddress.parse(address))

    def test_postmaster_is_the_operators_or_the_oldest_tenants_first_account(self, town: Town, acme: TenantId) -> None:
        """RFC 5321 §4.5.1."""
        zebra = town.tenant("zebra", "zebra.test")
        zoe = town.account(zebra, "zoe@zebra.test").account_id
        for address in ("postmaster@mx.provider.test", "Abuse@mx.provider.test"):
            [mailbox] = self.resolve(town, address).mailboxes
            assert mailbox.tenant_id == acme
            [mailbox] = self.resolve(town, address, "zoe@zebra.test").mailboxes
            assert mailbox.account_id == zoe
            found = self.resolve(town, address, "op@far.test")
            assert [str(each) for each in found.external] == ["op@far.test"] and found.tenant_id == acme
        for broken in ("nobody@zebra.test", "someone@mx.provider.test"):  # a setting that leads nowhere
            assert self.resolve(town, "postmaster@mx.provider.test", broken).mailboxes
        town.control.change_tenant_state(acme, State.SUSPENDED)
        [mailbox] = self.resolve(town, "postmaster@mx.provider.test").mailboxes
        assert mailbox.account_id == zoe

    def test_nobody_else_lives_there(self, town: Town, acme: TenantId) -> None:
        assert self.resolve(town, "ann@mx.provider.test") == Resolution(Outcome.UNKNOWN)
        assert resolve(town, "ann@mx.provider.test").outcome is Outcome.ELSEWHERE

    def test_without_anybody(self, town: Town) -> None:
        assert self.resolve(town, "postmaster@mx.provider.test").outcome is Outcome.UNKNOWN

    def test_owners(self, town: Town, acme: TenantId) -> None:
        town.control.add_domain(acme, Domain.parse("pending.test"))
        resolver = Resolver(town.premises, None, self.HOST)
        assert [resolver.owner(Domain.parse(d)) for d in ("acme.test", "mx.provider.test", "pending.test")] == [
            acme,
            acme,
            None,
        ]
        assert [resolver.is_ours(Domain.parse(d)) for d in ("acme.test", "mx.provider.test", "far.test")] == [
            True,
            True,
            False,
        ]


def test_tokens_last_as_long_as_they_are_used(town: Town, acme: TenantId) -> None:
    srs = town.premises.tenant(acme).srs
    address = EmailAddress.parse("a.very.long.name@far.test")
    token = srs.token(address)
    assert len(token) == 16 and srs.token(address) == token
    assert srs.address(token) == srs.address(token.upper()) == address
    assert srs.address("aaaaaaaaaaaaaaaa") is None
    clock = town.premises.clock
    clock.advance(20 * DAY)
    assert srs.token(address) == token
    clock.advance((TOKEN_DAYS - 1) * DAY)
    assert srs.address(token) == address and srs.remove_expired() == 0
    clock.advance(DAY)
    assert srs.address(token) is None and srs.remove_expired() == 1


def test_each_tenant_has_keys_of_its_own(town: Town, acme: TenantId) -> None:
    zebra = town.premises.tenant(town.tenant("zebra", "zebra.test"))
    address = EmailAddress.parse("someone@far.test")
    assert zebra.srs.token(address) != town.premises.tenant(acme).srs.token(address)
