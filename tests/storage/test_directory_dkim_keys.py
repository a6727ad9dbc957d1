"""The life of DKIM keys: every transition by the table, on a real tenant.db."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from directory_premises import Town, new_town

from storage.clock import FixedClock
from storage.directory.dkim_keys import NEXT, RETIRING_FOR, SEEN_FOR, DkimAlgorithm, DkimKeys, DkimState
from storage.errors import AlreadyExists, Conflict, NotFound
from storage.values import Domain

ORG, NET = Domain.parse("example.org"), Domain.parse("example.net")
RSA, ED25519 = DkimAlgorithm.RSA, DkimAlgorithm.ED25519
MADE, SEEN, SIGNING, RETIRING, RETIRED = DkimState


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with new_town(tmp_path) as town:
        town.tenant("one", "example.org", "example.net")
        yield town


@pytest.fixture
def keys(town: Town) -> DkimKeys:
    return town.premises.tenant(town.control.domain(ORG).tenant_id).dkim_keys


@pytest.fixture
def clock(town: Town) -> FixedClock:
    return town.premises.clock


def add(keys: DkimKeys, selector: str, algorithm: DkimAlgorithm = RSA, domain: Domain = ORG) -> None:
    keys.add(domain, selector, algorithm, private_key=b"private " + selector.encode(), public_key=b"public")


def states(keys: DkimKeys, domain: Domain = ORG) -> dict[str, DkimState]:
    return {key.selector: key.state for key in keys.find(domain)}


def signing(keys: DkimKeys, domain: Domain = ORG) -> list[str]:
    return [key.selector for key in keys.signing(domain)]


def test_a_key_is_made_and_signs_nothing(keys: DkimKeys, clock: FixedClock) -> None:
    add(keys, "a")
    key = keys.show(ORG, "a")
    assert (key.state, key.algorithm, key.public_key, key.created) == (MADE, RSA, b"public", clock.now())
    assert key.name == "a._domainkey.example.org"
    assert signing(keys) == []
    assert "private" not in repr(key)


def test_the_first_key_signs_as_soon_as_it_is_seen(keys: DkimKeys) -> None:
    add(keys, "a")
    add(keys, "b", ED25519)
    assert keys.saw(ORG, "b").state is SIGNING
    assert keys.saw(ORG, "a").state is SIGNING
    found = keys.signing(ORG)
    assert [(key.selector, key.algorithm, key.private_key) for key in found] == [
        ("a", RSA, b"private a"),
        ("b", ED25519, b"private b"),
    ]
    assert "private" not in repr(found)


def test_a_successor_waits_until_no_resolver_remembers_that_it_was_not_there(keys: DkimKeys, clock: FixedClock) -> None:
    add(keys, "a")
    keys.saw(ORG, "a")
    add(keys, "b")
    assert keys.saw(ORG, "b").state is SEEN
    clock.advance(SEEN_FOR - 1)
    assert keys.progress() == [] and signing(keys) == ["a"]
    clock.advance(1)
    assert [(key.selector, key.state) for key in keys.progress()] == [("b", SIGNING)]
    assert states(keys) == {"a": RETIRING, "b": SIGNING}


def test_a_retiring_key_is_retired_after_seven_days_and_its_private_half_is_gone(
    keys: DkimKeys, clock: FixedClock, town: Town
) -> None:
    add(keys, "a")
    keys.saw(ORG, "a")
    keys.retire(ORG, "a")
    clock.advance(RETIRING_FOR - 1)
    assert keys.progress() == []
    clock.advance(1)
    assert [(key.selector, key.state) for key in keys.progress()] == [("a", RETIRED)]
    assert keys.progress() == []
    with pytest.raises(Conflict):
        keys.begin(ORG, "a")
    with keys._database.reading() as connection:
        assert connection.driver.execute("SELECT private_key FROM dkim_key").fetchall() == [(None,)]


def test_a_rotation_may_be_taken_back_while_the_old_key_is_published(keys: DkimKeys) -> None:
    for selector in ("a", "b"):
        add(keys, selector)
        keys.saw(ORG, selector)
    keys.begin(ORG, "b")
    assert keys.begin(ORG, "a").state is SIGNING
    assert states(keys) == {"a": SIGNING, "b": RETIRING}


def test_algorithms_and_domains_do_not_touch_each_other(keys: DkimKeys) -> None:
    add(keys, "a")
    add(keys, "a", domain=NET)
    add(keys, "b", ED25519)
    for domain, selector in ((ORG, "a"), (NET, "a"), (ORG, "b")):
        keys.saw(domain, selector)
    add(keys, "c")
    keys.saw(ORG, "c")
    keys.begin(ORG, "c")
    assert states(keys) == {"a": RETIRING, "b": SIGNING, "c": SIGNING}
    assert signing(keys, NET) == ["a"]
    assert len(keys.find()) == 4


def test_what_never_signed_is_discarded(keys: DkimKeys) -> None:
    add(keys, "a")
    assert keys.retire(ORG, "a") is None
    assert keys.find() == []
    add(keys, "a")
    keys.saw(ORG, "a")
    retired = keys.retire(ORG, "a")
    assert retired is not None and retired.state is RETIRING


def test_a_key_in_wrong_hands_is_revoked_at_once(keys: DkimKeys) -> None:
    add(keys, "a")
    keys.saw(ORG, "a")
    revoked = keys.retire(ORG, "a", at_once=True)
    assert revoked is not None and revoked.state is RETIRED
    assert keys.retire(ORG, "a", at_once=True) == revoked
    add(keys, "b")
    keys.saw(ORG, "b")
    keys.retire(ORG, "b")
    revoked = keys.retire(ORG, "b", at_once=True)
    assert revoked is not None and revoked.state is RETIRED and signing(keys) == []


def test_refusals(keys: DkimKeys) -> None:
    add(keys, "a")
    with pytest.raises(Conflict):  # one of its kind waits already
        add(keys, "b")
    with pytest.raises(Conflict):  # never seen
        keys.begin(ORG, "a")
    keys.saw(ORG, "a")
    with pytest.raises(AlreadyExists):  # selectors are never used again
        add(keys, "a")
    for refused in (keys.saw, keys.begin, keys.retire, keys.show):
        with pytest.raises(NotFound):
            refused(ORG, "nobody")


def put(keys: DkimKeys, state: DkimState) -> None:
    """The key "a" in this state, straight into the table."""
    add(keys, "a")
    keys._database.write(lambda t: t.driver.execute("UPDATE dkim_key SET state = ?", (state.value,)))


@pytest.mark.parametrize("state", list(DkimState))
def test_nothing_moves_but_by_the_table(keys: DkimKeys, state: DkimState) -> None:
    """Each step from each state: it ends in a state that the table allows, stays, or is refused."""
    put(keys, state)
    allowed = {state, *NEXT[state]}
    if state is MADE:
        allowed.add(SIGNING)  # by way of SEEN, in one commit
    for step in (keys.saw, keys.retire, keys.begin):
        put_back = states(keys).get("a")
        try:
            step(ORG, "a")
        except Conflict:
            assert states(keys)["a"] is put_back
        now = states(keys).get("a")
        assert now in allowed or (now is None and state in (MADE, SEEN)), step
        keys._database.write(lambda t: t.driver.execute("DELETE FROM dkim_key"))
        put(keys, state)


def test_a_signing_key_was_seen(keys: DkimKeys) -> None:
    """No way leads to SIGNING but from SEEN, or back from RETIRING, which signed before."""
    assert {state for state, following in NEXT.items() if SIGNING in following} == {SEEN, RETIRING}
    assert {state for state, following in NEXT.items() if RETIRING in following} == {SIGNING}
