"""cleanmail filter train, evaluate, export, import and status, on a small corpus."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.classifier.features import features_of
from gateway.classifier.model import FILE, map_model
from hosting import cli

Run = Callable[..., Any]

HAM_WORDS = b"meeting lunch report thanks regards project minutes agenda draft holiday".split()
SPAM_WORDS = b"pills cheap winner casino prize credit offer viagra loan click".split()
COUNT = 40


class Outcome:
    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def message(number: int, words: list[bytes]) -> bytes:
    text = b" ".join(words[(number * factor + number // 10) % 10] for factor in (1, 3, 7))
    date = b"Date: %d Jan 2024 %02d:00:00 +0000" % (number % 28 + 1, number % 24)
    return b"From: %d@example.test\n%s\nSubject: %d\n\n%s\n" % (number, date, number, text)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    for name, words in (("ham", HAM_WORDS), ("spam", SPAM_WORDS)):
        (tmp_path / "corpus" / name).mkdir(parents=True)
        for number in range(COUNT):
            (tmp_path / "corpus" / name / f"{number}.eml").write_bytes(message(number, words))
    return tmp_path / "corpus"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def cleanmail(data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr("sys.stdin", io.StringIO())
        capsys.readouterr()
        status = cli.run(["--data", str(data), *map(str, arguments)])
        said = capsys.readouterr()
        return Outcome(status, said.out, said.err)

    assert run("init").status == 0
    return run


def test_a_fresh_installation_has_none(cleanmail: Run) -> None:
    shown = cleanmail("filter", "status", "--json").json
    assert (shown["state"], shown["ham"], shown["spam"], shown["trained_at"]) == ("none", 0, 0, None)
    assert "none" in cleanmail("filter", "status").out
    for command in (["export", "file"], ["evaluate", "--with-model", "x"]):
        outcome = cleanmail("filter", *command)
        assert outcome.status == 1
        assert "no model yet" in outcome.err


def test_training_goes_on_from_the_model_that_is_there(cleanmail: Run, corpus: Path, data: Path) -> None:
    first = cleanmail("filter", "train", corpus, "--json").json
    assert first["before"]["state"] == "none"
    assert first["after"] | {"trained_at": ""} == {"state": "learning", "ham": COUNT, "spam": COUNT, "trained_at": ""}
    model = map_model(data / FILE, whole=True)
    assert model.score(features_of(message(99, SPAM_WORDS))) > 0 > model.score(features_of(message(99, HAM_WORDS)))
    said = cleanmail("filter", "train", corpus)
    assert f"Before: learning, {COUNT} ham" in said.out
    assert f"Now: learning, {2 * COUNT} ham" in said.out
    assert "only tagged" in said.err
    shown = cleanmail("filter", "status", "--json").json
    assert (shown["state"], shown["ham"], shown["spam"]) == ("learning", 2 * COUNT, 2 * COUNT)
    assert cleanmail("filter", "train", corpus, "--fresh", "--json").json["after"]["ham"] == COUNT


def test_archives_may_be_named_by_what_they_hold(cleanmail: Run, corpus: Path) -> None:
    arguments = ["--ham", corpus / "ham", "--spam", corpus / "spam", "--passes", 2]
    after = cleanmail("filter", "train", *arguments, "--json").json["after"]
    assert (after["ham"], after["spam"]) == (COUNT, COUNT)  # a second pass is no second message


def test_many_messages_make_it_trained(cleanmail: Run, tmp_path: Path) -> None:
    for name, words in (("ham", HAM_WORDS), ("spam", SPAM_WORDS)):
        box = b"".join(b"From \n" + message(number, words) + b"\n" for number in range(1000))
        (tmp_path / name).write_bytes(box)
    outcome = cleanmail("filter", "train", "--ham", tmp_path / "ham", "--spam", tmp_path / "spam")
    assert "Now: trained, 1000 ham and 1000 spam" in outcome.out
    assert outcome.err == ""


def test_an_import_says_what_was_there_before(cleanmail: Run, corpus: Path, data: Path, tmp_path: Path) -> None:
    file = tmp_path / "exported"
    cleanmail("filter", "train", corpus)
    cleanmail("filter", "export", file)
    for name, words in (("ham", HAM_WORDS), ("spam", SPAM_WORDS)):
        box = b"".join(b"From \n" + message(number, words) + b"\n" for number in range(1000))
        (tmp_path / name).write_bytes(box)
    cleanmail("filter", "train", "--fresh", "--ham", tmp_path / "ham", "--spam", tmp_path / "spam")
    lesser = cleanmail("filter", "import", file)
    assert "Before: trained, 1000 ham and 1000 spam" in lesser.out
    assert f"Now: learning, {COUNT} ham" in lesser.out
    assert "only tagged" in lesser.err
    (data / FILE).write_bytes(b"no model")
    assert "Before: damaged. Now: learning" in cleanmail("filter", "import", file).out
    (data / FILE).unlink()
    assert cleanmail("filter", "import", file, "--json").json["before"]["state"] == "none"


def test_evaluating_online_changes_nothing(cleanmail: Run, corpus: Path, data: Path) -> None:
    measured = cleanmail("filter", "evaluate", corpus, "--json").json
    assert (measured["mode"], measured["ham"], measured["spam"]) == ("online", COUNT, COUNT)
    assert 0 <= measured["one_minus_roca_percent"] < 30
    assert [at["threshold"] for at in measured["thresholds"]] == [0.0, 2.0, 3.0, 4.5, 7.0]
    assert not (data / FILE).exists()
    table = cleanmail("filter", "evaluate", corpus).out
    assert "1-ROCA %" in table
    assert "quarantine" in table


def test_evaluating_the_model_that_is_there(cleanmail: Run, corpus: Path, data: Path) -> None:
    cleanmail("filter", "train", corpus)
    before = (data / FILE).read_bytes()
    measured = cleanmail("filter", "evaluate", "--with-model", corpus, "--json").json
    assert (measured["mode"], measured["one_minus_roca_percent"]) == ("model", 0.0)  # it has seen them all
    assert measured["thresholds"][0]["spam_filtered_percent"] == 100.0
    assert (data / FILE).read_bytes() == before


def test_a_model_goes_to_another_installation(cleanmail: Run, corpus: Path, data: Path, tmp_path: Path) -> None:
    cleanmail("filter", "train", corpus)
    file = tmp_path / "exported"
    assert cleanmail("filter", "export", file).status == 0
    assert file.read_bytes() == (data / FILE).read_bytes()
    assert "is there already" in cleanmail("filter", "export", file).err
    cleanmail("filter", "train", corpus)
    assert cleanmail("filter", "import", file, "--json").json["ham"] == COUNT
    assert cleanmail("filter", "status", "--json").json["ham"] == COUNT
    assert "no folder" in cleanmail("filter", "export", tmp_path / "none" / "file").err


@pytest.mark.parametrize("cut", [0, 100, 5000, -1])
def test_a_damaged_file_is_not_imported(cleanmail: Run, corpus: Path, data: Path, tmp_path: Path, cut: int) -> None:
    cleanmail("filter", "train", corpus)
    before = (data / FILE).read_bytes()
    (tmp_path / "file").write_bytes(before[:cut])
    outcome = cleanmail("filter", "import", tmp_path / "file")
    assert outcome.status == 1
    assert "no model of the filter" in outcome.err
    assert (data / FILE).read_bytes() == before


def test_foreign_files_are_not_imported(cleanmail: Run, corpus: Path, data: Path, tmp_path: Path) -> None:
    assert cleanmail("filter", "import", corpus / "ham" / "0.eml").status == 1
    assert cleanmail("filter", "import", corpus).status == 1
    missing = cleanmail("filter", "import", tmp_path / "missing")
    assert (missing.status, "There is nothing at" in missing.err) == (1, True)
    assert not (data / FILE).exists()


def test_a_damaged_model_is_told(cleanmail: Run, corpus: Path, data: Path) -> None:
    cleanmail("filter", "train", corpus)
    (data / FILE).write_bytes((data / FILE).read_bytes()[:-1])
    for command in (["status"], ["train", corpus], ["export", data / "file"]):
        outcome = cleanmail("filter", *command)
        assert outcome.status == 1
        assert "The model here is damaged" in outcome.err
    assert cleanmail("filter", "train", corpus, "--fresh").status == 0
    assert cleanmail("filter", "status").status == 0


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_corpus_has_to_be_named(cleanmail: Run, tmp_path: Path, command: str) -> None:
    assert "Name a corpus" in cleanmail("filter", command).err
    assert "There is nothing at" in cleanmail("filter", command, tmp_path / "none").err
    (tmp_path / "empty").mkdir()
    assert "no message" in cleanmail("filter", command, "--ham", tmp_path / "empty").err


def test_help_says_from_what_it_learns(cleanmail: Run) -> None:
    assert "never learns from the mail of this installation's tenants" in " ".join(
        cleanmail("filter", "train", "--help").out.split()
    )


def test_without_an_installation_nothing_is_made(
    tmp_path: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["--data", str(tmp_path / "none"), "filter", "train", str(corpus)]) == 3
    assert "no installation" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
