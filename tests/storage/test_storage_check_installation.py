"""The check of a whole installation: keys, databases and folders against the directory; and a rebuild in its place."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.check import check_installation
from storage.checks.finding import Finding, Kind
from storage.clock import FixedClock
from storage.directory.provisioning import Provisioning
from storage.errors import NotFound, Unavailable
from storage.installation import Installation
from storage.keys.keystore import KeyStore
from storage.keys.master import Master
from storage.keys.source import LocalKeys
from storage.rebuild import rebuild
from storage.values import AccountId, Domain, EmailAddress, TenantId

Owner = tuple[TenantId, AccountId]


class Town:
    """Two tenants with one account each, both with one message."""

    def __init__(self, data: Path) -> None:
        self.clock = FixedClock()
        self.keystore = KeyStore.create(data / "keys", Master.generate(), self.clock)
        self.data = data
        Installation.create(data, LocalKeys(self.keystore), self.clock)
        self.installation = self.start()
        provisioning = Provisioning(self.installation)
        self.owners: list[Owner] = []
        for slug in ("one", "two"):
            tenant_id = provisioning.create_tenant(slug, slug).tenant_id
            domain = Domain.parse(f"{slug}.example")
            self.installation.control.add_domain(tenant_id, domain)
            address = EmailAddress.parse(f"user@{slug}.example")
            account_id = provisioning.create_account(tenant_id, address).account_id
            self.owners.append((tenant_id, account_id))
            with self.installation.account(tenant_id, account_id) as account:
                account.messages.append(account.mailboxes.find("INBOX").id, b"Subject: x\r\n\r\n")

    def start(self) -> Installation:
        self.installation = Installation(self.data, LocalKeys(self.keystore), self.clock)
        return self.installation

    def restart(self) -> None:
        self.installation.close()
        self.start()

    def folder(self, owner: Owner) -> Path:
        return self.data / "tenants" / str(owner[0]) / "accounts" / str(owner[1])

    def findings(self) -> list[Finding]:
        return list(check_installation(self.installation, contents=True))


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    town = Town(tmp_path / "data")
    yield town
    town.installation.close()


def test_nothing_is_wrong(town: Town) -> None:
    assert town.findings() == []


def test_a_finding_says_whose_it_is(town: Town) -> None:
    owner = town.owners[1]
    for path in (town.folder(owner) / "Maildir" / "cur").iterdir():
        path.unlink()
    (finding,) = town.findings()
    assert (finding.kind, (finding.tenant_id, finding.account_id)) == (Kind.FILE_MISSING, owner)


def test_a_missing_database_is_found_and_the_others_are_checked(town: Town) -> None:
    town.installation.close()
    shutil.rmtree(town.folder(town.owners[0]))
    for path in (town.folder(town.owners[1]) / "Maildir" / "cur").iterdir():
        path.unlink()
    town.start()
    assert [finding.kind for finding in town.findings()] == [Kind.ACCOUNT_MISSING, Kind.FILE_MISSING]


def test_a_damaged_database_is_found_and_rebuilt(town: Town) -> None:
    town.installation.close()
    owner = town.owners[0]
    path = town.folder(owner) / "account.db"
    path.write_bytes(bytes(4096) + path.read_bytes()[4096:])
    town.start()
    (finding,) = town.findings()
    assert (finding.kind, finding.account_id) == (Kind.DATABASE_DAMAGED, owner[1])
    assert rebuild(town.installation, *owner).messages == 1
    assert town.findings() == []


def test_a_missing_key_is_found(town: Town) -> None:
    tenant_id, account_id = town.owners[0]
    town.installation.close()
    (town.data / "keys" / str(tenant_id) / f"{account_id}.key").unlink()
    town.start()
    (finding,) = town.findings()
    assert (finding.kind, finding.account_id) == (Kind.ACCOUNT_MISSING, account_id)


def test_folders_that_belong_to_nobody_are_found(town: Town) -> None:
    (town.data / "tenants" / "99").mkdir()
    (town.folder(town.owners[0]).parent / "98").mkdir()
    assert [(finding.kind, finding.text.split()[2]) for finding in town.findings()] == [
        (Kind.FOLDER_LOOSE, "99"),
        (Kind.FOLDER_LOOSE, "98"),
    ]


def test_only_an_account_that_is_there_and_closed_is_rebuilt(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.rebuild._PATIENCE", 0.05)
    tenant_id, account_id = town.owners[0]
    with pytest.raises(NotFound):
        rebuild(town.installation, tenant_id, AccountId(1234))
    with town.installation.account(tenant_id, account_id), pytest.raises(Unavailable):
        rebuild(town.installation, tenant_id, account_id)
