"""An account of its own for each test that asks for one; files with other wishes have fixtures of these names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from accounts import AccountPlace

from storage.mail.account import Account
from storage.values import MailboxId


@pytest.fixture
def place(tmp_path: Path) -> Iterator[AccountPlace]:
    place = AccountPlace(tmp_path)
    yield place
    place.close()


@pytest.fixture
def account(place: AccountPlace) -> Account:
    return place.account


@pytest.fixture
def inbox(account: Account) -> MailboxId:
    return account.mailboxes.find("INBOX").id
