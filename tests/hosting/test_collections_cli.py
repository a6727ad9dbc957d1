"""cleanmail collection: what is shared, linked and subscribed to, as people and scripts see it, and its records."""

from __future__ import annotations

import json

import pytest
from cli_place import CommandPlace

EVA, BO, EVE = "eva@acme.test", "bo@acme.test", "eve@other.test"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> CommandPlace:
    return CommandPlace.make(tmp_path_factory.mktemp("cli") / "data", {"acme.test": (EVA, BO), "other.test": (EVE,)})


def test_shares(place: CommandPlace) -> None:
    listed = place.done("collection", "list", EVA)
    assert [each["name"] for each in listed] == ["calendar", "tasks", "notes", "contacts"]
    assert place.done("collection", "share", EVA, "calendar", BO, "--write")["access"] == "read-write"
    assert place.done("collection", "share", EVA, "contacts", BO)["access"] == "read"
    given = place.done("collection", "shares", EVA)
    assert {(each["direction"], each["name"], each["with"], each["state"]) for each in given} == {
        ("given", "calendar", BO, "accepted"),
        ("given", "contacts", BO, "accepted"),
    }
    assert {(each["direction"], each["with"]) for each in place.done("collection", "shares", BO)} == {("taken", EVA)}
    assert place.done("collection", "list", EVA)[0]["shared"] == 1
    assert place.done("collection", "share", EVA, "calendar", BO)["access"] == "read"  # changed
    place.done("collection", "unshare", EVA, "calendar", BO)
    status, said = place.run("collection", "unshare", EVA, "calendar", BO)
    assert status == 1 and "not shared" in said
    for name, sharee in (("calendar", EVE), ("calendar", "nobody@acme.test"), ("calendar", EVA), ("none", BO)):
        assert place.run("collection", "share", EVA, name, sharee)[0] == 1
    strangers = [place.run("collection", "share", EVA, "calendar", each)[1] for each in (EVE, "no@other.test")]
    assert strangers[0].replace(EVE, "x") == strangers[1].replace("no@other.test", "x")
    records = place.done("audit", "list", "--since", "1h")
    about = [each for each in records if each["action"] == "collection.share"]
    assert len({each["account"] for each in about}) == 2  # the owner's and the sharee's


def test_what_it_is_called_will_do_too(place: CommandPlace) -> None:
    assert place.done("collection", "share", EVA, "Tasks", BO)["name"] == "tasks"
    place.done("collection", "unshare", EVA, "Tasks", BO)
    for url in ("https://example.org/a.ics", "https://example.org/b.ics"):
        place.done("collection", "subscribe", EVA, url, "--name", "Contacts")
    status, said = place.run("collection", "share", EVA, "Contacts", BO)
    assert status == 1 and "say --kind" in said
    assert place.done("collection", "share", EVA, "Contacts", BO, "--kind", "address-book")["name"] == "contacts"
    place.done("collection", "unshare", EVA, "Contacts", BO, "--kind", "address-book")
    status, said = place.run("collection", "unsubscribe", EVA, "Contacts")
    assert status == 1 and "Several are called" in said
    for name in ("contacts", "contacts-2"):
        place.done("collection", "unsubscribe", EVA, name)


def test_links_are_shown_once(place: CommandPlace) -> None:
    made = place.done("collection", "link", EVA, "calendar")
    assert made["url"].startswith("https://mail.acme.test/public/") and made["url"].endswith(".ics")
    assert made["webcal"] == made["url"].replace("https", "webcal")
    secret = made["url"].rpartition("/")[2].removesuffix(".ics")
    listed = place.done("collection", "links", EVA)
    assert [(each["number"], each["name"]) for each in listed] == [(made["number"], "calendar")]
    assert secret not in json.dumps([listed, place.done("audit", "list", "--since", "1h")])
    for path in place.data.rglob("*.log"):
        assert secret.encode() not in path.read_bytes()
    assert place.run("collection", "unlink", BO, made["number"])[0] == 1
    place.done("collection", "unlink", EVA, made["number"])
    assert place.done("collection", "links", EVA) == []
    assert place.run("collection", "link", EVA, "contacts")[0] == 1  # no calendar
    status, said = place.run("collection", "link", EVA, "calendar", as_json=False)
    assert status == 0 and "not shown again" in said and "https://mail.acme.test/public/" in said


def test_subscriptions_and_birthdays(place: CommandPlace) -> None:
    made = place.done("collection", "subscribe", EVA, "webcal://example.org/team.ics?key=s3cret", "--name", "Team & Co")
    assert made["name"] == "team-co"
    again = place.done("collection", "subscribe", EVA, "https://example.org/other.ics", "--hours", "24")
    assert again["name"] == "example-org"
    listed = {each["name"]: each for each in place.done("collection", "list", EVA)}
    assert listed["team-co"]["source"] == "feed" and listed["team-co"]["display_name"] == "Team & Co"
    assert listed["team-co"]["fetched"] is None and listed["team-co"]["due"]
    assert "s3cret" not in json.dumps([list(listed.values()), place.done("audit", "list", "--since", "1h")])
    for url in ("ftp://example.org/", "https://u:p@example.org/", "no"):
        assert place.run("collection", "subscribe", EVA, url)[0] == 1
    assert place.run("collection", "unsubscribe", EVA, "calendar")[0] == 1
    place.done("collection", "unsubscribe", EVA, "team-co")
    assert "team-co" not in {each["name"] for each in place.done("collection", "list", EVA)}
    assert place.done("collection", "birthdays", EVA)["shown"] is True
    assert place.done("collection", "birthdays", EVA, "--hide")["shown"] is False
