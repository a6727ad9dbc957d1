"""The shared model: one file of weights that every process maps, and its maturity.

The file is a page with a line of JSON (format, counts, time, parameters, SHA-256) and two tables of little-endian
float32: the weights, and what training goes on from, which processes that only score never read. It is replaced in one
step and never changed in place, so who has it mapped goes on with the old one. `Models.current` looks for a new file
every few seconds; a file that does not verify is told to the operator once and is no model: mail flows without content
scores then.

Raises: Corrupt for a file that is no model or a damaged one, NotFound without one, Unavailable for one that cannot be
read now; StorageFull and Unavailable on writing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import sys
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gateway.classifier.features import Features, folded, views
from storage.clock import Clock
from storage.errors import CleanmailError, Corrupt, NotFound, Unavailable
from storage.files.durable import make_directory, write_file
from storage.register import classes
from storage.register.values import FileClass

Table: TypeAlias = NDArray[np.float32]

FILE = Path("filter") / "model"  # in the data directory
FILES = (FileClass(str(FILE), classes.INSTALLATION, "the shared model of the filter: weights, no words"),)
FORMAT = "cleanmail-filter-model"
VERSION = 1
BITS = 22
TRAINED_FROM = 1000  # messages of each kind: below that scores are a guess

# Logits that policies begin with, chosen on one corpus (docs/decisions/0016-classifier.md).
TAG_FROM = 3.0
JUNK_FROM = 4.5  # filtered there below one ham message in a thousand
QUARANTINE_FROM = 7.0  # filtered none there, in any order

_PAGE = 4096
_LOOK_EVERY = 5.0  # seconds
_BITS_TAKEN = range(8, 25)
_NUMBER_MAX = 1e9  # no training gives larger ones; sums of them stay finite

_TIME_MAX = 253_402_300_799  # the end of the year 9999

_log = logging.getLogger("cleanmail.classifier")


class Maturity(Enum):
    """How much the shared model may be trusted."""

    NONE = "none"  # there is no model
    LEARNING = "learning"  # it has seen too little: tag, do not withhold
    TRAINED = "trained"


@dataclass(frozen=True, slots=True)
class Learned:
    """What a model has learned from, in messages."""

    ham: int = 0
    spam: int = 0

    @property
    def maturity(self) -> Maturity:
        return Maturity.TRAINED if min(self.ham, self.spam) >= TRAINED_FROM else Maturity.LEARNING


@dataclass(frozen=True, slots=True)
class SharedModel:
    """Weights with what is known of them; read-only."""

    weights: Table
    energy: Table  # what learning goes on from; scores don't need it
    learned: Learned
    trained_at: int  # Unix seconds
    parameters: dict[str, float]

    @property
    def maturity(self) -> Maturity:
        return self.learned.maturity

    def score(self, features: Features) -> float:
        """The logit of a message: above 0 spam is likelier. 0 for one without features."""
        return mean_logit(self.weights, places(features, self.weights))


def places(features: Features, table: Table) -> tuple[Features, ...]:
    """Where the features of each view stand in a table."""
    return views(folded(features, len(table).bit_length() - 1), len(table))


def logit(weights: Table, at: Features) -> float:
    """One view's score: the sum of its weights, for a message that is scaled to length 1."""
    return float(weights[at].sum(dtype=np.float64)) / math.sqrt(max(1, len(at)))


def mean_logit(weights: Table, at: tuple[Features, ...]) -> float:
    """A message's score: each view is a learner of its own, and both have the same say."""
    return sum(logit(weights, view) for view in at) / len(at)


def sigmoid(value: float) -> float:
    """The probability of a logit."""
    return 1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, value))))


def write_model(path: Path, model: SharedModel) -> None:
    """Put the model in the place of the one at `path`; durable and visible to all processes on return."""
    make_directory(path.parent)
    write_file(path, encode_model(model))


def encode_model(model: SharedModel) -> bytes:
    """The file of a model."""
    tables = [np.ascontiguousarray(table, "<f4").tobytes() for table in (model.weights, model.energy)]
    header = {
        "format": FORMAT,
        "version": VERSION,
        "bits": len(model.weights).bit_length() - 1,
        **asdict(model.learned),
        "trained_at": model.trained_at,
        "parameters": model.parameters,
        "sha256": [hashlib.sha256(table).hexdigest() for table in tables],
    }
    return b"".join([(json.dumps(header) + "\n").encode("ascii").ljust(_PAGE, b"\n"), *tables])


def map_model(path: Path, *, whole: bool = False) -> SharedModel:
    """The verified model at `path`, its pages shared with every process that maps it.

    `whole` verifies also what only training reads.
    """
    if sys.byteorder != "little":
        raise Corrupt("The model is of another kind of machine.")
    try:
        with path.open("rb") as file:
            header = _header(file.read(_PAGE))
            count = 1 << header["bits"]
            if os.fstat(file.fileno()).st_size != _PAGE + 2 * 4 * count:
                raise _no_model("it is cut off, or too long")
            tables = [np.memmap(file, np.float32, "r", _PAGE + at * 4 * count, (count,)) for at in range(2)]
    except FileNotFoundError:
        raise NotFound("There is no model.") from None
    except IsADirectoryError:
        raise _no_model("it is a folder") from None
    except OSError as error:
        raise Unavailable(f"The model cannot be read: {error.strerror}.") from None
    for table, checksum in zip(tables[: 2 if whole else 1], header["sha256"], strict=False):
        if hashlib.sha256(table.data).hexdigest() != checksum:
            raise _no_model("its numbers are not the ones that were written")
        if not bool(np.all(np.abs(table) <= _NUMBER_MAX)):  # NaN compares false
            raise _no_model("its numbers are none of a model")
    learned = Learned(header["ham"], header["spam"])
    return SharedModel(tables[0], tables[1], learned, header["trained_at"], header["parameters"])


def _header(page: bytes) -> dict[str, Any]:
    line, _, _ = page.partition(b"\n")
    try:
        header = json.loads(line)
    except (ValueError, RecursionError):
        raise _no_model("it does not begin as one") from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise _no_model("it does not begin as one")
    if header.get("version") != VERSION:
        raise _no_model("it is of another version")
    numbers = [header.get(name) for name in ("bits", "ham", "spam", "trained_at")]
    parameters = header.get("parameters")
    if (
        any(not isinstance(number, int) or isinstance(number, bool) or number < 0 for number in numbers)
        or header["bits"] not in _BITS_TAKEN
        or not isinstance(parameters, dict)
        or header["trained_at"] > _TIME_MAX
        or any(not isinstance(value, (int, float)) for value in parameters.values())
        or not all(0 < value <= _NUMBER_MAX for value in parameters.values())  # NaN compares false
        or not isinstance(header.get("sha256"), list)
        or len(header["sha256"]) != 2
    ):
        raise _no_model("its first line is not valid")
    return header


def _no_model(why: str) -> Corrupt:
    return Corrupt(f"This is no model of the filter: {why}.", detail=f"filter model: {why}")


class Models:
    """The model of an installation as one process sees it; may be asked from any thread."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._lock = Lock()
        self._looked: float | None = None
        self._seen: tuple[int, int, int] | None = None
        self._model: SharedModel | None = None

    @property
    def due(self) -> bool:
        """Whether `current` looks for a new file, which may take some hundredths of a second: no event loop's work."""
        return self._looked is None or self._clock.monotonic() - self._looked >= _LOOK_EVERY

    def current(self) -> SharedModel | None:
        """The model to score with; None if there is none, or a damaged one.

        Who asks while another one looks gets what was known before.
        """
        with self._lock:
            if not self.due:
                return self._model
            self._looked = self._clock.monotonic()
            if self._model is None:  # the first is waited for
                self._look()
                return self._model
        self._look()
        return self._model

    def _look(self) -> None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._seen = self._model = None
            return
        except OSError as error:
            self._keep(type(error).__name__)
            return
        seen = (status.st_ino, status.st_mtime_ns, status.st_size)
        if seen == self._seen:
            return
        try:
            self._model = map_model(self._path)
            self._seen = seen
        except Unavailable as error:  # too many files are open: the next look may be luckier
            self._keep(error.public)
            return
        except CleanmailError as error:
            self._seen = seen
            self._model = None
            _log.error("the filter's model cannot be used, mail is judged without it: %s", error.public)
            return
        learned = self._model.learned
        _log.info("the filter's model is in use: %d ham and %d spam learned", learned.ham, learned.spam)

    def _keep(self, why: str) -> None:
        """What is known goes on."""
        _log.warning("the filter's model cannot be looked at: %s", why)


def maturity_of(model: SharedModel | None) -> Maturity:
    """Also of no model."""
    return Maturity.NONE if model is None else model.maturity
