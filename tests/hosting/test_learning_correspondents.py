"""Whom an account writes to by its own hand is known afterwards; what programs send in its name makes nobody known.

Standards: RFC 6409 (submission), RFC 3834 §5 (Auto-Submitted), RFC 8098 §3 (read receipts).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from submission_town import RunningService, SubmissionTown

from storage.filter.correspondents import Acquaintance
from storage.values import EmailAddress

ALICE, FAR, BOB, TEAM = "alice@example.test", "friend@far.example", "bob@example.test", "team@example.test"
STRANGER, TENANT, ACCOUNT = Acquaintance.STRANGER, Acquaintance.TENANT, Acquaintance.ACCOUNT


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningService]:
    town = SubmissionTown(tmp_path)
    service = RunningService(town)
    yield service
    service.stop()
    town.close()


def letter(*fields: str) -> bytes:
    return "\r\n".join([f"From: {ALICE}", f"To: {FAR}", "Subject: Hello", *fields, "", "Text.", ""]).encode()


def known(running: RunningService, address: str, whose: str = "alice") -> Acquaintance:
    installation = running.town.installation
    installation.flush_tenants()
    tenant_id, account_id = running.town.accounts[whose]
    return installation.tenant(tenant_id).correspondents.standing(EmailAddress.parse(address), account_id)


def test_who_is_written_to_is_known(running: RunningService) -> None:
    with running.client() as client:
        client.sendmail(ALICE, [FAR, BOB, TEAM, "Second+tag@far.example"], letter())
    assert [known(running, each) for each in (FAR, BOB, TEAM, "second@far.example")] == [ACCOUNT] * 4
    assert known(running, FAR, "bob") is TENANT
    assert known(running, FAR, "mallory") is STRANGER
    assert known(running, "other@far.example") is STRANGER


@pytest.mark.parametrize(
    "field",
    [
        "Auto-Submitted: auto-replied",
        "Auto-Submitted: auto-generated (vacation)",
        'Content-Type: multipart/report; report-type="disposition-notification"; boundary=b',
    ],
)
def test_what_programs_send_makes_nobody_known(running: RunningService, field: str) -> None:
    with running.client() as client:
        client.sendmail(ALICE, [FAR], letter(field))
    assert known(running, FAR) is STRANGER


def test_reports_make_nobody_known(running: RunningService) -> None:
    with running.client() as client:
        client.sendmail("", [FAR], letter())
    assert known(running, FAR) is STRANGER


@pytest.mark.parametrize("field", ["Auto-Submitted: no", "Content-Type: text/plain; charset=utf-8"])
def test_what_a_person_sends_counts(running: RunningService, field: str) -> None:
    with running.client() as client:
        client.sendmail(ALICE, [FAR], letter(field))
    assert known(running, FAR) is ACCOUNT


def test_what_is_refused_makes_nobody_known(running: RunningService) -> None:
    with running.client() as client:
        client.mail(ALICE)
        client.rcpt(FAR)
        code, _ = client.data(letter().replace(b"From: alice", b"From: bob"))
    assert code == 550
    assert known(running, FAR) is STRANGER
