"""cleanmail acl: what people and scripts see, what is recorded, and what nobody can do with it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from cli_place import CommandPlace

from hosting import composition, config
from storage.logs.access import AccessEvent
from storage.values import AccountId, TenantId

EVA, BO, CY, EVE = "eva@acme.test", "bo@acme.test", "cy@acme.test", "eve@other.test"


def rights(place: CommandPlace, *arguments: str) -> list[tuple[str, str, str, str]]:
    listed = place.done("acl", "list", *arguments)
    return [(each["direction"], each["mailbox"], each["identifier"], each["rights"]) for each in listed]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> CommandPlace:
    return CommandPlace.make(
        tmp_path_factory.mktemp("cli") / "data", {"acme.test": (EVA, BO, CY), "other.test": (EVE,)}
    )


def test_rights_are_set_listed_and_removed(place: CommandPlace) -> None:
    assert place.done("acl", "set", EVA, "inbox", BO, "lrs") == {"mailbox": "INBOX", "identifier": BO, "rights": "lrs"}
    assert place.done("acl", "set", EVA, "INBOX", BO, "+wd")["rights"] == "lrswted"
    assert place.done("acl", "set", EVA, "INBOX", BO, "-ws")["rights"] == "lrted"
    assert place.done("acl", "set", EVA, "Sent", "anyone", "lr")["rights"] == "lr"
    given = [("given", "INBOX", BO, "lrted"), ("given", "Sent", "anyone", "lr")]
    assert rights(place, EVA) == given
    assert rights(place, EVA, "Sent") == given[1:]
    taken = [("taken", f"Other Users/{EVA}/INBOX", BO, "lrted"), ("taken", f"Other Users/{EVA}/Sent", BO, "lr")]
    assert rights(place, BO) == taken
    assert rights(place, CY) == [("taken", f"Other Users/{EVA}/Sent", CY, "lr")]
    status, said = place.run("acl", "list", EVA, as_json=False)
    assert status == 0 and "rights" in said and BO in said
    place.done("acl", "remove", EVA, "INBOX", BO)
    assert place.done("acl", "set", EVA, "Sent", "anyone", "-lr")["rights"] == ""
    assert rights(place, EVA) == rights(place, BO) == []
    assert "no rights" in place.run("acl", "remove", EVA, "INBOX", BO)[1]


def test_an_owner_that_cannot_be_read_does_not_hide_the_others(place: CommandPlace, tmp_path: Path) -> None:
    place.done("acl", "set", EVA, "INBOX", CY, "lr")
    place.done("acl", "set", BO, "INBOX", CY, "lr")
    [database] = place.data.glob("tenants/1/accounts/1/account.db")
    away = database.rename(tmp_path / "away.db")
    for leftover in database.parent.glob("account.db-*"):
        leftover.unlink()
    try:
        assert rights(place, CY) == [
            ("taken", f"Other Users/{BO}/INBOX", CY, "lr"),
            ("not readable", f"Other Users/{EVA}", None, None),
        ]
        status, said = place.run("acl", "list", CY, as_json=False)
        assert status == 0 and f"What {EVA} shares is not listed" in said
    finally:
        away.rename(database)
    place.done("acl", "remove", EVA, "INBOX", CY)
    place.done("acl", "remove", BO, "INBOX", CY)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("set", EVA, "INBOX", EVE, "lr"), "has no account"),  # of another organisation: as if there were none
        (("set", EVA, "INBOX", "no@acme.test", "lr"), "has no account"),
        (("set", EVA, "Nowhere", BO, "lr"), "no such mailbox"),
        (("set", EVA, "INBOX", BO, "lrQ"), "no such right"),
        (("set", EVA, "INBOX", EVA, "lr"), "owner"),
        (("set", EVA, "INBOX", "-bo", "lr"), "bo"),
        (("set", "no@acme.test", "INBOX", BO, "lr"), "no@acme.test"),
        (("remove", EVA, "INBOX", CY), "no rights"),
        (("list", EVA, "Nowhere"), "no such mailbox"),
    ],
)
def test_what_cannot_be(place: CommandPlace, arguments: tuple[str, ...], said: str) -> None:
    status, text = place.run("acl", *arguments)
    assert status != 0 and said.lower() in text.lower()


def test_records_of_both_accounts_without_names(place: CommandPlace) -> None:
    place.done("acl", "set", EVA, "Archive", BO, "lr")
    place.done("acl", "remove", EVA, "Archive", BO)
    records = [each for each in place.done("audit", "list") if each["action"].startswith("acl.")]
    for action in ("acl.set", "acl.remove"):
        accounts = {each["account"] for each in records if each["action"] == action}
        assert {EVA, BO} <= {str(each) for each in accounts} or len(accounts) >= 2
    assert "Archive" not in json.dumps(records)


def test_the_access_log_says_who_opened_what_is_shared(place: CommandPlace) -> None:
    now = int(time.time()) - 60
    with composition.administration(place.data, config.load(place.data / "cleanmail.toml")) as administration:
        log = administration.installation.access_log
        for kind, by in (("sign_in", None), ("mailbox_open", AccountId(2))):
            log.record(AccessEvent(now, kind, "success", "imap", TenantId(1), AccountId(1), b"", "", by))
    [signed_in, opened] = place.done("log", "access", EVA)
    assert (opened["type"], opened["account"], opened["by"], opened["by_account"]) == ("mailbox_open", EVA, BO, 2)
    assert signed_in["by"] is None
    _, said = place.run("log", "access", EVA, as_json=False)
    heading, *rows = said.splitlines()
    assert heading.split()[-1] == "by" and [row.split()[-1] for row in rows] == ["-", BO]
