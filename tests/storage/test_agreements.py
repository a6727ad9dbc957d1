"""Secrecy agreements: who may record one, when one is in force, and what is kept of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from directory_premises import DirectoryPremises

from storage.clock import FixedClock
from storage.directory.agreements import Agreement, Agreements
from storage.errors import AlreadyExists, InvalidInput, NotFound, NotPermitted

DOCUMENT = hashlib.sha256(b"I keep secret what I see.").digest()


@pytest.fixture
def premises(tmp_path: Path) -> Iterator[DirectoryPremises]:
    premises = DirectoryPremises(tmp_path)
    yield premises
    premises.close()


@pytest.fixture
def agreements(premises: DirectoryPremises) -> Agreements:
    return premises.control.agreements


def test_an_agreement_is_in_force_until_it_ends(premises: DirectoryPremises, agreements: Agreements) -> None:
    clock: FixedClock = premises.clock
    now = clock.now()
    assert agreements.in_force("rita") is None
    recorded = agreements.record("rita", DOCUMENT, signed=now - 50, recorded_by="adam")
    assert recorded == Agreement(1, "rita", now - 50, DOCUMENT, now, "adam")
    assert agreements.in_force("rita") == recorded
    assert agreements.in_force("adam") is None
    clock.advance(10)
    ended = agreements.end("rita")
    assert ended.ended == now + 10
    assert agreements.in_force("rita") is None
    again = agreements.record("rita", DOCUMENT, signed=now + 5, recorded_by="adam")
    assert agreements.all() == [ended, again]
    assert (again.agreement_id, agreements.in_force("rita")) == (2, again)


def test_nobody_records_his_own(agreements: Agreements) -> None:
    with pytest.raises(NotPermitted, match="of his own"):
        agreements.record("rita", DOCUMENT, signed=5, recorded_by="rita")
    assert agreements.all() == []


def test_one_is_in_force_at_a_time(agreements: Agreements) -> None:
    agreements.record("rita", DOCUMENT, signed=5, recorded_by="adam")
    with pytest.raises(AlreadyExists):
        agreements.record("rita", DOCUMENT, signed=6, recorded_by="eve")
    agreements.end("rita")
    for person in ("rita", "adam"):
        with pytest.raises(NotFound):
            agreements.end(person)


def test_what_will_be_signed_tomorrow_is_no_agreement(premises: DirectoryPremises, agreements: Agreements) -> None:
    for signed in (premises.clock.now() + 1, -1):
        with pytest.raises(InvalidInput, match="after it was signed"):
            agreements.record("rita", DOCUMENT, signed=signed, recorded_by="adam")


@pytest.mark.parametrize("person", ["", "rita smith", "-rita", "r\nita", "x" * 65, "r\x1b[1m"])
def test_a_person_is_a_unix_user(agreements: Agreements, person: str) -> None:
    with pytest.raises(InvalidInput):
        agreements.record(person, DOCUMENT, signed=5, recorded_by="adam")


def test_of_the_document_a_hash_is_kept(agreements: Agreements) -> None:
    with pytest.raises(InvalidInput):
        agreements.record("rita", b"I keep secret what I see.", signed=5, recorded_by="adam")
