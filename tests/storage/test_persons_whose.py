"""Whose an address is: of one account alone, or nobody's."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from ending_town import EndingTown

from storage.logs.subjects import Subject
from storage.persons.whose import Owners
from storage.values import Domain, EmailAddress


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EndingTown]:
    town = EndingTown(tmp_path_factory.mktemp("whose") / "data")
    tenant_id = town.tenant("acme", "acme.test")
    other = town.tenant("other", "other.test")
    town.installation.control.add_domain(tenant_id, Domain.parse("pending.test"))
    for name in ("ada", "bo"):
        town.provisioning.create_account(tenant_id, address(f"{name}@acme.test"))
    for alias, targets in (
        ("nick@acme.test", ["ada@acme.test"]),
        ("nicknick@acme.test", ["nick@acme.test"]),
        ("list@acme.test", ["ada@acme.test", "bo@acme.test"]),
        ("away@acme.test", ["ada@far.test"]),
    ):
        town.provisioning.add_alias(tenant_id, address(alias), [address(each) for each in targets])
    town.provisioning.add_alias(other, address("ada@other.test"), [address("ada@acme.test")])
    town.provisioning.set_catch_all(other, Domain.parse("other.test"), [address("bo@acme.test")])
    yield town
    town.close()


def address(text: str) -> EmailAddress:
    return EmailAddress.parse(text)


@pytest.mark.parametrize(
    ("text", "account"),
    [
        ("ada@acme.test", 1),
        ("ADA@Acme.Test", 1),
        ("ada+shop@acme.test", 1),
        ("bo@acme.test", 2),
        ("nick@acme.test", 1),
        ("nicknick@acme.test", 1),
        ("ada@other.test", 1),
        ("list@acme.test", None),
        ("away@acme.test", None),
        ("anybody@other.test", None),
        ("nobody@acme.test", None),
        ("ada@pending.test", None),
        ("ada@far.test", None),
        ("no address", None),
        ("@acme.test", None),
        ("", None),
    ],
)
def test_an_address_is_one_account_s_or_nobody_s(town: EndingTown, text: str, account: int | None) -> None:
    found = Owners(town.installation, town.clock)(text)
    assert found == (None if account is None else Subject(1, account))


def test_answers_are_remembered_for_a_minute(town: EndingTown) -> None:
    owners = Owners(town.installation, town.clock)
    assert owners("new@acme.test") is None
    account = town.provisioning.create_account(
        town.installation.control.tenant_by_slug("acme").tenant_id, address("new@acme.test")
    )
    assert owners("new@acme.test") is None
    town.clock.advance(61)
    assert owners("new@acme.test") == Subject(1, int(account.account_id))


def test_what_cannot_be_looked_up_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    town = EndingTown(tmp_path / "data")
    town.tenant("acme", "acme.test")
    town.close()
    shutil.rmtree(tmp_path / "data" / "tenants" / "1")
    (tmp_path / "data" / "tenants" / "1").write_text("no folder")
    town = EndingTown(tmp_path / "data", anew=False)
    try:
        owners = Owners(town.installation, town.clock)
        assert [owners(f"{name}@acme.test") for name in ("ada", "bo")] == [None, None]
        assert len(caplog.records) <= 1 and "acme.test" not in caplog.text
    finally:
        town.close()
