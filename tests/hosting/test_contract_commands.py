"""cleanmail contract and hold at the command line: what was agreed, two persons, and what an audit record keeps."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from review_town import ADAM, EVE
from staff_town import StaffTown, make_town, runtime_folder

from hosting.cli.contracts import last_moment
from storage.errors import InvalidInput


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("agreed") / "data"
    make_town(data)
    return data


@pytest.fixture
def town(
    template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[StaffTown]:
    data = tmp_path / "data"
    shutil.copytree(template, data)
    with runtime_folder() as runtime:
        yield StaffTown(data, capsys, monkeypatch, runtime)


def day(days: int) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).date().isoformat()


def test_a_day_ends_at_midnight() -> None:
    assert last_moment("2026-12-31") == last_moment("2026-12-31T23:59:59")
    assert last_moment("2026-12-31T12:00") == last_moment("2026-12-31") - 43_199
    with pytest.raises(InvalidInput):
        last_moment("someday")


def test_what_was_agreed_is_set_and_shown(town: StaffTown) -> None:
    before = town.run("contract", "show", "acme", "--json").json
    assert (before["accounts_limit"], before["ends"], before["features"]) == ("unlimited", None, "all")
    said = town.run(
        "contract", "set", "acme", "--accounts", "1", "--storage", "2G", "--domains", "1", "--feature", "imap",
        "--started", "2026-01-01", "--contact", "boss@elsewhere.example", "--json",
    ).json  # fmt: skip
    assert (said["accounts_limit"], said["storage_limit"], said["features"]) == (1, "2.0 GB", ["imap"])
    assert (said["started"], said["contact"]) == ("2026-01-01T00:00:00Z", "boss@elsewhere.example")
    refusals = (
        (["account", "create", "new@acme.test", "--without-password"], "allows 1 accounts"),
        (["domain", "add", "acme", "more.test"], "allows 1 domains"),
        (["route", "set", "acme.test", "--server", "192.0.2.1"], "does not include 'routes'"),
        (["filter", "allow", "add", "friend@far.test", "--tenant", "acme"], "does not include 'filter'"),
        (["filter", "policy", "set", "digest", "recipients", "--tenant", "acme"], "does not include 'filter'"),
        (["export", "--tenant", "acme", str(town.data / "taken")], "does not include 'export'"),
    )
    for arguments, sentence in refusals:
        refused = town.run(*arguments)
        assert (refused.status, sentence in refused.err) == (1, True), refused.err
    said = town.run("contract", "set", "acme", "--all-features", "--contact", "none", "--json").json
    assert (said["features"], said["contact"], said["accounts_limit"]) == ("all", None, 1)
    assert [each["slug"] for each in town.run("contract", "list", "--json").json] == ["acme"]
    assert [action for action, _ in town.audited("contract.set")] == ["contract.set"] * 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["set", "acme"], "Nothing was said"),
        (["set", "acme", "--feature", "telnet"], "no feature"),
        (["set", "acme", "--feature", "imap", "--all-features"], "Say either"),
        (["set", "acme", "--contact", "nobody"], "no"),
        (["set", "acme", "--accounts", "99999999999999999999"], "A limit is"),
        (["set", "acme", "--storage", "99999999999G"], "A limit is"),
        (["set", "nobody", "--accounts", "1"], "There is no tenant"),
        (["end", "acme"], "Say on which day"),
        (["end", "acme", "2020-01-01"], "lies ahead"),
        (["end", "acme", "2099-01-01", "--never"], "Say on which day"),
        (["remind", "acme"], "has no end"),
    ],
)
def test_what_is_not_agreed_changes_nothing(town: StaffTown, arguments: list[str], sentence: str) -> None:
    refused = town.run("contract", *arguments)
    assert (refused.status, refused.out) == (1, "")
    assert sentence in refused.err
    assert town.run("contract", "list", "--json").json == []


def test_a_person_sets_the_end_and_takes_it_back(town: StaffTown) -> None:
    town.configure("[contracts]\nnotice_days = 20\nread_only_days = 5\n")
    said = town.run("contract", "end", "acme", day(40), "--json").json
    assert (said["ends"], said["notice_days"]) == (f"{day(40)}T23:59:59Z", 20)
    assert (said["read_only_from"], said["new_mail"]) == (f"{day(35)}T23:59:59Z", "taken")
    assert town.run("contract", "remind", "acme").out == "1 was reminded.\n"
    assert town.run("contract", "end", "acme", "--never", "--json").json["ends"] is None
    assert [action for action, _ in town.audited("contract.end")] == ["contract.end"] * 2


def test_nothing_is_imported_while_mail_can_only_be_read(town: StaffTown, tmp_path: Path) -> None:
    box = tmp_path / "box.mbox"
    box.write_bytes(b"From a@b.test Thu Jan  1 00:00:00 2026\nSubject: one\n\ntext\n")
    archive = tmp_path / "archive"
    town.configure("[contracts]\nnotice_days = 0\nread_only_days = 5\n")
    assert town.run("export", "--tenant", "acme", str(archive)).status == 0
    assert town.run("contract", "end", "acme", day(3)).status == 0
    for arguments in (["ann@acme.test", str(box)], ["ann@acme.test", str(archive)], ["--tenant", "acme", str(archive)]):
        refused = town.run("import", *arguments)
        assert (refused.status, "nothing is stored" in refused.err) == (1, True), refused.err
    assert town.audited("account.import") == town.audited("tenant.import") == []
    assert town.run("import", "--tenant", "acme", str(archive), "--dry-run").status == 0  # says what would be


def test_an_early_end_needs_another_person(town: StaffTown) -> None:
    town.configure("[contracts]\nnotice_days = 30\n")
    early = ("contract", "end", "acme", day(10), "--early")
    assert "period of notice is 30 days" in town.run("contract", "end", "acme", day(10)).err
    assert "needs a --reason" in town.run(*early).err
    town.become(ADAM)
    asked = town.run(*early, "--reason", "moved already", "--json").json
    assert "waits for a second person" in town.run(*early).err
    assert town.run("request", "approve", asked["request"]).status == 1  # by the same
    town.become(EVE)
    assert town.run("request", "approve", asked["request"]).status == 0
    assert town.run(*early).status == 1  # who approved is not who asked
    town.become(ADAM)
    assert town.run("contract", "end", "acme", day(11), "--early").status == 1  # it was approved for another day
    assert town.run(*early, "--json").json["ends"] == f"{day(10)}T23:59:59Z"
    assert town.run(*early).status == 1  # an approval is used once


def test_less_notice_needs_another_person_too(town: StaffTown) -> None:
    """Otherwise one person sets it to nothing, then the end to this moment, and all is erased."""
    town.become(ADAM)
    assert town.run("contract", "set", "acme", "--notice-days", "30").status == 0
    shorter = ("contract", "set", "acme", "--notice-days", "0")
    assert "needs a --reason" in town.run(*shorter).err
    asked = town.run(*shorter, "--reason", "a new contract", "--json").json
    assert "waits for a second person" in town.run(*shorter).err
    assert town.run("contract", "show", "acme", "--json").json["notice_days"] == 30
    assert town.run("contract", "end", "acme", day(1)).status == 1
    town.become(EVE)
    assert town.run("request", "approve", asked["request"]).status == 0
    town.become(ADAM)
    assert town.run("contract", "set", "acme", "--notice-days", "1").status == 1  # it was approved for another period
    assert town.run(*shorter, "--json").json["notice_days"] == 0
    assert town.run("contract", "set", "acme", "--notice-days", "60", "--json").json["notice_days"] == 60


def test_a_hold_is_asked_for_by_one_and_approved_by_another(town: StaffTown) -> None:
    town.become(ADAM)
    asked = town.run("hold", "add", "acme", "--until", day(30), "--reason", "case 12/34", "--json").json
    for command in (["hold", "add", "acme"], ["request", "ask", "hold", "--tenant", "acme"]):
        again = town.run(*command, "--until", day(30), "--reason", "case 12/34, again")
        assert again.status == 0 and asked["request"] in again.out
    other = town.run("hold", "add", "acme", "--until", day(31), "--reason", "case 12/34", "--json").json
    assert {each["id"] for each in town.run("request", "list", "--json").json} == {asked["request"], other["request"]}
    assert town.run("request", "withdraw", other["request"]).status == 0
    assert town.run("hold", "list", "--json").json == []
    assert town.run("request", "approve", asked["request"]).status == 1
    town.become(EVE)
    approved = town.run("request", "approve", asked["request"])
    assert "is in force until" in approved.out
    [hold] = town.run("hold", "list", "--json").json
    assert (hold["hold"], hold["tenant"], hold["account"], hold["reason"], hold["in_force"]) == (
        asked["request"],
        "acme",
        None,
        "case 12/34",
        True,
    )
    assert (hold["asked_by"], hold["approved_by"]) == (str(ADAM), str(EVE))


def held(town: StaffTown) -> str:
    """The number of a hold on a customer, which ADAM asked for and EVE approved."""
    town.become(ADAM)
    asked = town.run("hold", "add", "acme", "--until", day(30), "--reason", "case 12/34", "--json").json
    town.become(EVE)
    assert town.run("request", "approve", asked["request"]).status == 0
    return str(asked["request"])


def test_a_hold_is_lifted_by_two_persons_too(town: StaffTown) -> None:
    """Otherwise one person lifts it, then ends the tenant, and all is erased that had to be kept."""
    number = held(town)
    assert town.run("hold", "lift", number).status == 2  # no reason
    assert town.run("hold", "lift", number, "--reason", " ").status == 1
    asked = town.run("hold", "lift", number, "--reason", "the case is closed", "--json").json
    again = town.run("hold", "lift", number, "--reason", "the case is closed", "--json").json
    assert again["request"] == asked["request"]
    assert town.run("request", "approve", asked["request"]).status == 1  # who asked
    [hold] = town.run("hold", "list", "--json").json
    assert hold["in_force"] and "legal hold" in town.run("tenant", "end", "acme", "--yes").err
    town.become(ADAM)
    assert "is lifted" in town.run("request", "approve", asked["request"]).out
    assert town.run("hold", "list", "--json").json == []
    [lifted] = town.run("hold", "list", "--all", "--json").json
    assert (lifted["hold"], lifted["lifted_by"], lifted["in_force"]) == (number, str(EVE), False)
    assert town.audited("hold.lift") == [("hold.lift", str(EVE))]
    assert town.run("request", "show", asked["request"], "--json").json["state"] == "used"
    assert "is over" in town.run("hold", "lift", number, "--reason", "again").err
    assert town.run("hold", "lift", "none", "--reason", "again").status == 1


def test_a_lifting_that_is_refused_changes_nothing(town: StaffTown) -> None:
    number = held(town)
    asked = town.run("hold", "lift", number, "--reason", "no longer needed", "--json").json
    town.become(ADAM)
    assert town.run("request", "refuse", asked["request"]).status == 0
    assert [each["hold"] for each in town.run("hold", "list", "--json").json] == [number]
    assert town.audited("hold.lift") == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["acme", "--until", "2020-01-01", "--reason", "case"],
        ["acme", "--until", "2099-01-01", "--reason", "case"],
        ["acme", "--until", "someday", "--reason", "case"],
        ["nobody", "--until", "2027-01-01", "--reason", "case"],
        ["nobody@acme.test", "--until", "2027-01-01", "--reason", "case"],
    ],
)
def test_what_is_no_hold(town: StaffTown, arguments: list[str]) -> None:
    assert town.run("hold", "add", *arguments).status == 1
    assert town.run("request", "list", "--json").json == []
