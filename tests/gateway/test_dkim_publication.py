"""DKIM keys are looked for in DNS, on a real name server, and sign only if they are found as they are."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from directory_premises import Town, new_town
from dns_server import DnsServer, Lie

from gateway.dkim.publication import Seen, Sighting, look, make, progress, published_text
from gateway.dns.resolver import Resolver
from gateway.dns.settings import DnsSettings
from storage.directory.dkim_keys import RETIRING_FOR, SEEN_FOR, DkimAlgorithm, DkimKey, DkimKeys, DkimState
from storage.errors import Conflict
from storage.values import Domain

DOMAIN = Domain.parse("example.org")
BOTH = list(DkimAlgorithm)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with new_town(tmp_path) as town:
        town.tenant("one", "example.org")
        yield town


@pytest.fixture
def keys(town: Town) -> DkimKeys:
    return town.premises.tenant(town.control.domain(DOMAIN).tenant_id).dkim_keys


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with DnsServer() as server:
        yield server


def looked(server: DnsServer, keys: list[DkimKey]) -> list[Seen]:
    async def ask() -> list[Seen]:
        return await look(Resolver(DnsSettings(nameservers=("127.0.0.1",), port=server.port, timeout=1.0)), keys)

    return asyncio.run(ask())


def test_selectors_are_never_the_same(keys: DkimKeys, town: Town) -> None:
    seen: set[str] = set()
    for _ in range(20):
        [made] = make(keys, DOMAIN, [DkimAlgorithm.ED25519], town.premises.clock)
        assert made.selector.startswith("e20250615") and made.selector.isalnum()
        seen.add(made.selector)
        keys.retire(DOMAIN, made.selector)
    assert len(seen) == 20


def test_nothing_is_made_if_one_of_the_kinds_waits(keys: DkimKeys, town: Town) -> None:
    make(keys, DOMAIN, [DkimAlgorithm.ED25519], town.premises.clock)
    with pytest.raises(Conflict):
        make(keys, DOMAIN, BOTH, town.premises.clock)
    assert len(keys.find(DOMAIN)) == 1


def test_from_made_to_retired(keys: DkimKeys, town: Town, server: DnsServer) -> None:
    """The whole life of a key with its successor, as DNS and time let it go on."""
    clock = town.premises.clock
    [first] = make(keys, DOMAIN, [DkimAlgorithm.ED25519], clock)
    assert progress(keys, looked(server, keys.find(DOMAIN))) == []
    server.put(first.name, TXT=published_text(first))
    assert [key.state for key in progress(keys, looked(server, keys.find(DOMAIN)))] == [DkimState.SIGNING]

    clock.advance(1)  # keys of one second stand in the order of their selectors
    [second] = make(keys, DOMAIN, [DkimAlgorithm.ED25519], clock)
    server.put(second.name, TXT=published_text(second))
    assert [key.state for key in progress(keys, looked(server, keys.find(DOMAIN)))] == [DkimState.SEEN]
    clock.advance(SEEN_FOR)
    assert [key.state for key in progress(keys, [])] == [DkimState.SIGNING]
    assert [key.state for key in keys.find(DOMAIN)] == [DkimState.RETIRING, DkimState.SIGNING]
    clock.advance(RETIRING_FOR)
    [retired] = progress(keys, [])
    assert (retired.selector, retired.state) == (first.selector, DkimState.RETIRED)
    assert published_text(retired) == "v=DKIM1; k=ed25519; p="


@pytest.mark.parametrize(
    ("records", "sighting"),
    [
        (None, Sighting.ABSENT),
        ("{right}", Sighting.PUBLISHED),
        ("{right}; t=s", Sighting.PUBLISHED),
        ("v=DKIM1; k=rsa; p=", Sighting.REVOKED),
        ("v=DKIM1; k=rsa; p=AAAA", Sighting.OTHER),
        ("v=DKIM1; k=ed25519; p={key}", Sighting.OTHER),
        ("something else", Sighting.OTHER),
        ("v=DKIM1; k=rsa; p=not base64", Sighting.OTHER),
        (["{right}", "{right}; t=s"], Sighting.OTHER),  # RFC 6376 §3.6.2.2: two records mean nothing
    ],
)
def test_sightings(
    keys: DkimKeys, town: Town, server: DnsServer, records: str | list[str] | None, sighting: Sighting
) -> None:
    [key] = make(keys, DOMAIN, [DkimAlgorithm.RSA], town.premises.clock)
    right = published_text(key)
    if records is not None:
        texts = [records] if isinstance(records, str) else records
        server.put(key.name, TXT=[text.format(right=right, key=right.partition("p=")[2]) for text in texts])
    [seen] = looked(server, [key])
    assert seen.sighting is sighting
    moved = progress(keys, [seen])
    assert bool(moved) is (sighting is Sighting.PUBLISHED)


@pytest.mark.parametrize("lie", [Lie(rcode="SERVFAIL"), Lie(silent=True), Lie(garbage=True)])
def test_what_dns_does_not_say_is_unknown(keys: DkimKeys, town: Town, server: DnsServer, lie: Lie) -> None:
    made = make(keys, DOMAIN, [DkimAlgorithm.ED25519], town.premises.clock)
    server.put(made[0].name, TXT=published_text(made[0]))
    server.lie(made[0].name, lie)
    [seen] = looked(server, made)
    assert (seen.sighting, seen.texts) == (Sighting.UNKNOWN, ())
    assert progress(keys, [seen]) == []
