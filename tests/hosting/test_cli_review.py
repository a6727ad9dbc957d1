"""cleanmail review at the command line where no server runs: agreements, looks that are recorded, decisions."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from review_town import (
    ADAM,
    BODY,
    COUNTERFACTUAL,
    EVE,
    MESSAGE,
    RITA,
    SENTENCE,
    SUBJECT,
    ask_for_review,
    becoming,
    withhold,
)

from hosting import cli, composition, config
from storage.installation import Installation
from storage.quarantine.files import BODY as BODY_ENDING
from storage.values import AccountId, TenantId

MADE = 4  # audit records of what the installation was made by
CHEAP = "[auth.argon2]\ntime_cost = 1\nmemory_kib = 64\nlanes = 1\n"
TENANT, ANN = TenantId(1), AccountId(1)


class Said:
    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def json(self) -> Any:
        assert self.status == 0, self.err
        return json.loads(self.out)


class Place:
    """An installation whose only account has withheld mail, and a person at its command line."""

    def __init__(self, data: Path, run: Callable[..., Said], become: Callable[[int], None]) -> None:
        self.data = data
        self.run = run
        self.become = become
        self.document = data.parent / "signed.pdf"
        self.document.write_bytes(b"I keep secret what I see.")

    @contextmanager
    def installation(self) -> Iterator[Installation]:
        with composition.administration(self.data, config.load(self.data / "cleanmail.toml")) as administration:
            yield administration.installation

    def withheld(self, *, reported: bool = True) -> str:
        with self.installation() as installation:
            message = MESSAGE if reported else MESSAGE + b"another\r\n"  # the same again would be kept once
            quarantine_id = withhold(installation, TENANT, ANN, "ann@acme.test", message)
            if reported:
                ask_for_review(installation, TENANT, quarantine_id)
        return quarantine_id

    def agree(self, person: int = RITA) -> None:
        """Adam records it; afterwards the person sits at the command line."""
        self.become(ADAM)
        said = self.run("review", "agreement", "record", str(person), "--document", str(self.document))
        assert said.status == 0, said.err
        self.become(person)

    def audited(self) -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = self.run("log", "audit", "--json").json
        return [record for record in records if record["action"].startswith("review.")]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once; every test works on a copy."""
    data = tmp_path_factory.mktemp("review") / "data"
    data.mkdir(mode=0o700)
    (data / "cleanmail.toml").write_text(CHEAP)
    for arguments in (
        ["init"],
        ["tenant", "create", "acme"],
        ["domain", "add", "acme", "acme.test", "--verified"],
        ["account", "create", "ann@acme.test", "--without-password"],
    ):
        assert cli.run(["--data", str(data), *arguments]) == 0
    return data


@pytest.fixture
def place(template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Place:
    data = tmp_path / "data"
    shutil.copytree(template, data)

    def run(*arguments: str) -> Said:
        monkeypatch.setattr("sys.stdin", io.StringIO(""))
        capsys.readouterr()
        status = cli.run(["--data", str(data), *arguments])
        said = capsys.readouterr()
        return Said(status, said.out, said.err)

    def become(uid: int) -> None:
        becoming(monkeypatch, tmp_path / "proc", uid)

    become(RITA)
    return Place(data, run, become)


class TestAgreements:
    def test_another_one_records_and_ends_it(self, place: Place) -> None:
        place.become(ADAM)
        arguments = ["agreement", "record", str(RITA), "--document", str(place.document), "--signed", "2026-01-05"]
        said = place.run("review", *arguments, "--json").json
        digest = hashlib.sha256(place.document.read_bytes()).hexdigest()
        assert (said["person"], said["recorded_by"], said["document"]) == (str(RITA), str(ADAM), digest)
        assert (said["signed"], said["ended"]) == ("2026-01-05T00:00:00Z", None)
        assert place.run("review", *arguments).status == 1, "one is in force"
        ended = place.run("review", "agreement", "end", str(RITA), "--json").json
        assert ended["ended"] and ended["audit_record"] == MADE + 2
        assert place.run("review", "agreement", "end", str(RITA)).status == 1
        assert [each["number"] for each in place.run("review", "agreement", "list", "--json").json] == [1]
        records = place.run("log", "audit", "--action", "agreement", "--json").json
        assert [(each["action"], each["actor"], each["details"]["person"]) for each in records] == [
            ("agreement.record", str(ADAM), str(RITA)),
            ("agreement.end", str(ADAM), str(RITA)),
        ]
        assert records[0]["details"]["document"] == digest

    def test_nobody_records_his_own(self, place: Place) -> None:
        said = place.run("review", "agreement", "record", str(RITA), "--document", str(place.document))
        assert said.status == 1 and "of his own" in said.err
        assert place.run("log", "audit", "--action", "agreement", "--json").json == []

    def test_the_servers_user_gets_none(self, place: Place) -> None:
        with (place.data / "cleanmail.toml").open("a") as file:
            file.write('[server]\nuser = "cleanmail"\n')
        said = place.run("review", "agreement", "record", "cleanmail", "--document", str(place.document))
        assert said.status == 1 and "somebody else" in said.err

    @pytest.mark.parametrize("change", ["missing", "empty", "future"])
    def test_what_is_no_agreement(self, place: Place, change: str) -> None:
        document = place.data.parent / "missing" if change == "missing" else place.document
        if change == "empty":
            place.document.write_bytes(b"")
        arguments = ["--signed", "2999-01-01"] if change == "future" else []
        said = place.run("review", "agreement", "record", str(EVE), "--document", str(document), *arguments)
        assert said.status == 1
        assert place.run("review", "agreement", "list", "--json").json == []
        assert place.run("log", "audit", "--action", "agreement", "--json").json == []


def test_without_an_agreement_nothing_is_shown(place: Place) -> None:
    number = place.withheld()
    for arguments in (["list"], ["show", number, "--reason", "x"], ["decide", number, "wrong", "--reason", "x"]):
        said = place.run("review", *arguments)
        assert (said.status, said.out) == (1, "") and "secrecy agreement" in said.err
    place.agree()
    place.become(ADAM)
    assert place.run("review", "agreement", "end", str(RITA)).status == 0
    place.become(RITA)
    assert place.run("review", "list").status == 1
    assert place.audited() == []


def test_what_was_reported_is_listed_without_a_word_of_it(place: Place) -> None:
    number, silent = place.withheld(), place.withheld(reported=False)
    place.agree()
    [case] = place.run("review", "list", "--json").json
    assert (case["id"], case["tenant"], case["reason"], case["viewed"]) == (number, "acme", "spam", None)
    said = place.run("review", "list")
    assert number in said.out and "far.test" not in said.out and SUBJECT not in said.out
    assert place.audited() == []
    assert place.run("review", "show", silent, "--reason", "curiosity").status == 1
    assert place.audited() == []


def test_a_look_shows_the_header_and_why_and_is_recorded_first(place: Place) -> None:
    number = place.withheld()
    place.agree()
    said = place.run("review", "show", number, "--reason", "ticket 5")
    assert said.status == 0, said.err
    assert said.err == f"This look is audit record {MADE + 2}.\n"
    for text in (SENTENCE, COUNTERFACTUAL, "From: Far <far@far.test>", "to: @acme.test", "score: 5.5", "spf: fail"):
        assert text in said.out
    assert f"Subject: {SUBJECT} [2J" in said.out, "decoded, and nothing of it acts on a terminal"
    assert "X-Cleanmail-Verdict: quarantine" in said.out
    assert BODY not in said.out and "ann@acme.test" in said.out  # its To field
    assert max(map(len, said.out.splitlines())) <= 102 and "\x1b" not in said.out
    [record] = place.audited()
    assert (record["number"], record["action"], record["actor"]) == (MADE + 2, "review.view", str(RITA))
    assert (record["tenant"], record["details"]) == ("acme", {"message": number, "reason": "ticket 5"})
    assert SUBJECT not in json.dumps(record)
    [case] = place.run("review", "list", "--json").json
    assert case["viewed"]
    shown = place.run("review", "show", number, "--reason", "again", "--json").json
    assert (shown["audit_record"], shown["recipient_domains"], shown["facts"]["spf"]) == (
        MADE + 4,
        ["acme.test"],
        "fail",
    )
    assert ["From", "Far <far@far.test>"] in shown["header"] and BODY not in json.dumps(shown)


def test_the_body_need_not_even_be_there(place: Place) -> None:
    number = place.withheld()
    place.agree()
    [body] = (place.data / "tenants/1/quarantine").glob(f"{number}.*{BODY_ENDING}")
    body.unlink()
    assert place.run("review", "show", number, "--reason", "x").status == 0


@pytest.mark.parametrize("reason", [[], ["--reason", " "], ["--reason", "x" * 501]])
def test_a_reason_is_needed(place: Place, reason: list[str]) -> None:
    number = place.withheld()
    place.agree()
    assert place.run("review", "show", number, *reason).status in (1, 2)
    assert place.run("review", "decide", number, "wrong", *reason).status in (1, 2)
    assert place.audited() == []


def test_nothing_is_shown_without_its_record(place: Place) -> None:
    number = place.withheld()
    place.agree()
    (place.data / "audit.db").rename(place.data / "audit.db.away")
    (place.data / "audit.db").mkdir()
    said = place.run("review", "show", number, "--reason", "x")
    assert said.status != 0 and said.out == ""


def test_what_was_released_meanwhile_is_not_there(place: Place) -> None:
    number = place.withheld()
    place.agree()
    with place.installation() as installation:
        rows = installation.tenant(TENANT).quarantine
        rows.delete(number, [0])
    said = place.run("review", "show", number, "--reason", "x")
    assert said.status == 1 and "not in the quarantine any more" in said.err
    assert place.run("review", "show", "nothing", "--reason", "x").status == 1
    assert place.run("review", "show", "../../x", "--reason", "x").status == 1


@pytest.mark.parametrize(("decision", "sentence"), [("wrong", "releases it"), ("right", "stays")])
def test_a_decision_follows_a_look_and_is_recorded(place: Place, decision: str, sentence: str) -> None:
    number = place.withheld()
    place.agree()
    arguments = ["review", "decide", number, decision, "--reason", "an invoice"]
    said = place.run(*arguments)
    assert said.status == 1 and "Nobody has looked" in said.err
    place.run("review", "show", number, "--reason", "x")
    said = place.run(*arguments)
    assert said.status == 0 and sentence in said.out and f"audit record {MADE + 3}" in said.out
    record = place.audited()[-1]
    assert (record["action"], record["actor"]) == ("review.decide", str(RITA))
    assert record["details"] == {"message": number, "decision": decision, "reason": "an invoice"}
    assert place.run(*arguments).status == 1
    assert place.run("review", "list", "--json").json == []
    assert place.run("review", "decide", number, "maybe", "--reason", "x").status == 2


def test_another_persons_agreement_is_not_ones_own(place: Place) -> None:
    number = place.withheld()
    place.agree()
    place.become(EVE)
    assert place.run("review", "show", number, "--reason", "x").status == 1
    assert place.audited() == []
