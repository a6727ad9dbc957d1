"""The shared model's file: what is written is read, what is damaged is no model, and a replaced one is taken up."""

from __future__ import annotations

import logging
import resource
from pathlib import Path

import numpy as np
import pytest

from gateway.classifier.features import features_of
from gateway.classifier.model import TRAINED_FROM, Learned, Maturity, Models, map_model, maturity_of, write_model
from gateway.classifier.trainer import Trainer
from storage.clock import FixedClock
from storage.errors import Corrupt, NotFound

SPAM = features_of(b"Subject: pills\n\nBuy cheap pills here.")
HAM = features_of(b"Subject: lunch\n\nAre you coming to lunch?")


def trained(times: int = 1) -> Trainer:
    trainer = Trainer(bits=12)
    for _ in range(times):
        trainer.learn(SPAM, True)
        trainer.learn(HAM, False)
    return trainer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "filter" / "model"
    trained().save(path, 1_700_000_000)
    return path


def test_what_is_written_is_read(path: Path) -> None:
    model = map_model(path, whole=True)
    assert model.learned == Learned(ham=1, spam=1)
    assert model.trained_at == 1_700_000_000
    assert model.score(SPAM) == trained().score(SPAM) > 0 > model.score(HAM)
    assert not model.weights.flags.writeable


def test_the_file_is_for_its_owner_alone(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("ham", "spam", "maturity"),
    [
        (0, 0, Maturity.LEARNING),
        (TRAINED_FROM, TRAINED_FROM - 1, Maturity.LEARNING),
        (TRAINED_FROM, TRAINED_FROM, Maturity.TRAINED),
    ],
)
def test_maturity(ham: int, spam: int, maturity: Maturity) -> None:
    assert Learned(ham, spam).maturity is maturity


def test_no_model_has_a_maturity() -> None:
    assert maturity_of(None) is Maturity.NONE


def flipped(octets: bytes, at: int) -> bytes:
    return octets[:at] + bytes([octets[at] ^ 0x40]) + octets[at + 1 :]


DAMAGE = {
    "empty": lambda octets: b"",
    "cut in the header": lambda octets: octets[:100],
    "cut": lambda octets: octets[:-1],
    "longer": lambda octets: octets + b"\0",
    "weight": lambda octets: flipped(octets, 4096 + 17),
    "foreign": lambda octets: b"\x89PNG\r\n" + octets[6:],
    "no object": lambda octets: b"[1]\n" + octets[4:],
    "nested": lambda octets: b"[" * len(octets),
    "other format": lambda octets: octets.replace(b"cleanmail-filter-model", b"cleanmail-filter-madel"),
    "other version": lambda octets: octets.replace(b'"version": 1', b'"version": 2'),
    "bits": lambda octets: octets.replace(b'"bits": 12', b'"bits": 99'),
    "negative": lambda octets: octets.replace(b'"ham": 1', b'"ham":-1'),
    "text": lambda octets: octets.replace(b'"spam": 1', b'"spam":""'),
    "no number": lambda octets: octets.replace(b'"rate": 16.0', b'"rate": NaN '),
    "no time": lambda octets: octets.replace(b'"trained_at": ', b'"trained_at": 9999999'),
    "no checksum": lambda octets: octets.replace(b'"sha256"', b'"sha512"'),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file_is_no_model(path: Path, name: str) -> None:
    octets = path.read_bytes()
    damaged = DAMAGE[name](octets)
    assert damaged != octets
    path.write_bytes(damaged)
    with pytest.raises(Corrupt, match="no model"):
        map_model(path)


def test_what_only_training_reads_is_verified_for_training(path: Path) -> None:
    octets = path.read_bytes()
    path.write_bytes(flipped(octets, len(octets) - 3))
    assert map_model(path).score(SPAM) == trained().score(SPAM)
    with pytest.raises(Corrupt):
        map_model(path, whole=True)


@pytest.mark.parametrize("number", [np.nan, np.inf, -1e30])
def test_weights_are_numbers(path: Path, number: float) -> None:
    model = trained().model(5)
    model.weights[7] = number
    write_model(path, model)
    with pytest.raises(Corrupt, match="none of a model"):
        map_model(path)


def test_without_a_file_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        map_model(tmp_path / "model")
    assert Models(tmp_path / "model", FixedClock()).current() is None


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(Corrupt):
        map_model(tmp_path)


def test_a_new_model_is_taken_up_after_seconds(path: Path) -> None:
    clock = FixedClock()
    models = Models(path, clock)
    first = models.current()
    assert first is not None
    before = first.score(SPAM)
    trained(3).save(path, 1_700_000_001)
    assert models.current() is first  # not looked yet
    clock.advance(5)
    second = models.current()
    assert second is not None
    assert second.learned == Learned(3, 3)
    assert second.score(SPAM) > before
    assert first.score(SPAM) == before  # who has it mapped goes on with it
    clock.advance(5)
    assert models.current() is second


def test_a_removed_model_is_gone_and_may_come_back(path: Path) -> None:
    clock = FixedClock()
    models = Models(path, clock)
    assert models.current() is not None
    octets = path.read_bytes()
    path.unlink()
    clock.advance(5)
    assert models.current() is None
    path.write_bytes(octets)
    clock.advance(5)
    assert models.current() is not None


def test_a_model_that_cannot_be_read_for_a_moment_comes_back(path: Path) -> None:
    clock = FixedClock()
    models, other = Models(path, clock), Models(path, clock)
    before = other.current()
    assert before is not None
    trained(3).save(path, 1_700_000_001)
    clock.advance(5)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        assert models.current() is None
        assert other.current() is before
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    clock.advance(5)
    for each in (models, other):
        found = each.current()
        assert found is not None
        assert found.learned == Learned(3, 3)


def test_a_damaged_model_is_told_once_and_stops_no_mail(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = FixedClock()
    path.write_bytes(path.read_bytes()[:-1])
    models = Models(path, clock)
    with caplog.at_level(logging.WARNING, "cleanmail.classifier"):
        for _ in range(3):
            assert models.current() is None
            clock.advance(5)
    assert len(caplog.records) == 1
    assert "cut off" in caplog.records[0].getMessage()
    trained().save(path, 1)
    assert models.current() is not None
