"""How well scores tell spam from ham: the figures that the field compares filters by (TREC spam track).

1-ROCA % is how often a random spam message scores below a random ham message, ties counted half, in percent. A share of
wrongly filtered ham is FPR, of spam that was let through FNR; both at a threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class AtThreshold:
    """What becomes of messages that count as spam from `threshold` on."""

    threshold: float
    ham_filtered: int
    ham_filtered_percent: float
    spam_filtered: int
    spam_filtered_percent: float


@dataclass(frozen=True, slots=True)
class Figures:
    """None where one of the kinds is missing."""

    ham: int
    spam: int
    one_minus_roca_percent: float | None
    spam_missed_percent: float | None  # at the threshold that filters one ham message in a thousand
    thresholds: tuple[AtThreshold, ...]


def figures(scores: Sequence[float], labels: Sequence[bool], thresholds: Sequence[float]) -> Figures:
    """The figures of scores with their true labels (true is spam)."""
    score, is_spam = np.asarray(scores, np.float64), np.asarray(labels, np.bool_)
    ham, spam = np.sort(score[~is_spam]), np.sort(score[is_spam])
    both = len(ham) > 0 and len(spam) > 0
    return Figures(
        ham=len(ham),
        spam=len(spam),
        one_minus_roca_percent=_one_minus_roca(ham, spam) if both else None,
        spam_missed_percent=_percent(_up_to(spam, ham[len(ham) - 1 - len(ham) // 1000]), len(spam)) if both else None,
        thresholds=tuple(_at(threshold, ham, spam) for threshold in thresholds),
    )


def _one_minus_roca(ham: NDArray[np.float64], spam: NDArray[np.float64]) -> float:
    below = int(np.searchsorted(ham, spam, "left").sum())
    equal = int(np.searchsorted(ham, spam, "right").sum()) - below
    return 100.0 - 100.0 * (below + equal / 2) / (len(ham) * len(spam))


def _at(threshold: float, ham: NDArray[np.float64], spam: NDArray[np.float64]) -> AtThreshold:
    ham_filtered, spam_filtered = (len(kind) - int(np.searchsorted(kind, threshold, "left")) for kind in (ham, spam))
    return AtThreshold(
        threshold, ham_filtered, _percent(ham_filtered, len(ham)), spam_filtered, _percent(spam_filtered, len(spam))
    )


def _up_to(ascending: NDArray[np.float64], value: float) -> int:
    return int(np.searchsorted(ascending, value, "right"))


def _percent(part: int, whole: int) -> float:
    return 100.0 * part / whole if whole else 0.0
