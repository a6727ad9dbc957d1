"""Whom a message speaks for or against: of results of authentication, and of the fields that we put in front."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from learning_place import LearningPlace, new_learning_place

from gateway.learning.experience import judged, proven_domain, subjects, subjects_of
from gateway.mx.header import Client, authentication_results, received
from gateway.policy.verdict import Action, Reason, Verdict
from storage.filter.reputation import LIGHT, NOTHING, Counts
from storage.values import Domain


@pytest.mark.parametrize(
    ("results", "domain"),
    [
        (["spf=pass smtp.mailfrom=Bounce.Example"], "bounce.example"),
        (["spf=pass smtp.mailfrom=b.example", "dkim=pass header.d=d.example header.s=s"], "d.example"),
        (
            [
                "spf=pass smtp.mailfrom=b.example",
                "dkim=pass header.d=d.example",
                "dmarc=pass (p=none) header.from=a.example",
            ],
            "a.example",
        ),
        (["dkim=fail header.d=evil.example", "dkim=pass header.d=good.example"], "good.example"),
        (
            ["dmarc=fail (p=reject dis=none) header.from=victim.example", "spf=pass smtp.mailfrom=evil.example"],
            "evil.example",
        ),
        (["spf=fail smtp.mailfrom=victim.example"], None),
        (["spf=pass smtp.helo=mx.example"], None),
        (["dmarc=temperror header.from=victim.example"], None),
        (['dkim=fail reason="; dmarc=pass header.from=victim.example" header.d=evil.example'], None),
        (["dkim=pass header.d=not_a_domain"], None),
        ([], None),
    ],
)
def test_the_domain_that_stands_behind_a_message(results: list[str], domain: str | None) -> None:
    assert proven_domain(results) == (Domain(domain) if domain else None)


def prefix(address: str, *results: str, hello: str = "mx.far.example", name: str = "mx.far.example") -> bytes:
    client = Client(address, hello, name, "ESMTPS", "TLSv1.3")
    return received(client, "mx.here.test", "Q1", 1_800_000_000, None) + authentication_results(
        "mx.here.test", *results
    )


@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8::7"])
@pytest.mark.parametrize(("hello", "name"), [("mx.far.example", "mx.far.example"), ("[198.51.100.1]", "")])
def test_what_was_put_in_front_says_the_same(address: str, hello: str, name: str) -> None:
    results = ("spf=pass smtp.mailfrom=b.example", "dmarc=pass (p=none) header.from=a.example")
    found = subjects_of(prefix(address, *results, hello=hello, name=name))
    assert found == subjects(results, address)
    assert len(found) == 2


def test_a_message_that_was_submitted_here_speaks_for_nobody() -> None:
    assert subjects_of(b"Received: by mx.here.test with ESMTPSA id Q1;\r\n\tdate\r\n") == ()
    assert subjects_of(b"") == ()


@given(st.binary(max_size=400))
def test_any_prefix_is_read(octets: bytes) -> None:
    assert len(subjects_of(b"Received: from " + octets + b"\r\nAuthentication-Results: " + octets)) <= 2


@pytest.fixture
def place(tmp_path: Path) -> Iterator[LearningPlace]:
    with new_learning_place(tmp_path) as place:
        yield place


@pytest.mark.parametrize(
    ("action", "reason", "counts"),
    [
        (Action.DELIVER, Reason.NOTHING_AGAINST_IT, Counts(LIGHT, 0.0)),
        (Action.DELIVER, Reason.KNOWN_CORRESPONDENT, Counts(LIGHT, 0.0)),
        (Action.QUARANTINE, Reason.MALWARE, Counts(0.0, 1.0)),
        (Action.TAG, Reason.SPAM, NOTHING),
        (Action.JUNK, Reason.SPAM, NOTHING),
        (Action.REJECT, Reason.BAD_REPUTATION, NOTHING),
    ],
)
def test_what_a_verdict_adds(place: LearningPlace, action: Action, reason: Reason, counts: Counts) -> None:
    judged(
        place.tenant.reputation, Verdict(action, reason, ""), subjects(["dkim=pass header.d=d.example"], "192.0.2.7")
    )
    place.tenant.reputation.flush()
    assert place.tenant.reputation.look(Domain("d.example"), "192.0.2.1") == (counts, counts)
