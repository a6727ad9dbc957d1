"""What the people of one tenant taught, as arithmetic: lessons of an account, their contribution to the tenant, scores.

Each account has a vector of its own over `PLACES` places, to which features are folded. A message is a vector of length
1 there. A lesson goes a step along it; the step is stored with the lesson, and undoing subtracts what was added, to the
bit, in whatever order lessons come and go (vectors are integers).

What others feel of an account is its contribution: its vector, scaled to a length of at most `BOUND` (B). The score
that it adds to somebody else's message of length 1 is an inner product, so by Cauchy-Schwarz it is at most B in either
direction, whatever and however often the account learned. The tenant's aggregate is the sum of all contributions, exact
in integers, so that taking one out leaves nothing of it. A score is

    shared + clamp(the tenant without the own account, ±C) + clamp(own, -D to E)

and a clamp never enlarges a difference, so the bound holds for the total as well.

The constants. A lesson moves a message that was judged quite wrongly by SPAM_RATE or HAM_RATE towards the other side;
one that has half of its features in common moves half as far. Mail that was wrongly filtered costs more than spam that
was let through, so its lessons are twice as long. BORDER lies between the model's 0 and Junk's threshold: lessons fade
on the right side of it. BOUND: one account alone moves nobody else's message by more than half a logit, five accounts
that agree are a vote that counts. C: all of them together can turn what is uncertain, not what the shared model is sure
of. D: for its own mail an account may overrule anything that was called spam. E: towards spam it turns what the shared
model is not sure of. Who calls a thousand messages spam says also what spam has in common with mail: without a limit
ten of 4,150 wanted messages of the public corpus came to score 3 to 8 higher, and were Junk. Whom an account never
wants to hear of again stands in a deny list.

No I/O; deterministic; every input gives finite numbers.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import zstandard
from numpy.typing import NDArray

from gateway.classifier.features import Features, folded, views
from gateway.classifier.model import sigmoid
from storage.errors import Corrupt

Vector: TypeAlias = NDArray[np.int32]  # of an account, in units of 1 / LESSON_UNIT
Contribution: TypeAlias = NDArray[np.int32]  # and an aggregate, in units of 1 / SHARE_UNIT

PLACES_BITS = 17
PLACES = 1 << PLACES_BITS
LESSON_UNIT = 1 << 12
SHARE_UNIT = 1 << 16  # 65,535 accounts that all put B into one place are still below 2**31

SPAM_RATE = 4.0
HAM_RATE = 8.0
BORDER = 1.0
BOUND = 0.5
TENANT_LIMIT = 3.0
OWN_HAM_LIMIT, OWN_SPAM_LIMIT = 8.0, 2.5

_INT32_MAX = 2**31 - 1
_HEAD = struct.Struct("<4sB")
_MAGIC = b"CMCV"
_OCTETS = 4 * PLACES
_LEVEL = 3


@dataclass(frozen=True, slots=True)
class Score:
    """A message's logit and what it is made of: the shared model, the tenant's other accounts, the own account."""

    shared: float
    tenant: float
    own: float

    @property
    def total(self) -> float:
        return self.shared + self.tenant + self.own


def empty() -> Vector:
    """Of an account that taught nothing, and of a tenant without accounts."""
    return np.zeros(PLACES, np.int32)


def lesson_step(total: float, is_spam: bool) -> float:
    """How far one lesson goes, for a message whose score is `total` now; to be stored with the lesson.

    Positive towards spam. A message that is judged rightly already teaches little.
    """
    probability = sigmoid(total - BORDER)
    return SPAM_RATE * (1.0 - probability) if is_spam else -HAM_RATE * probability


def apply(vector: Vector, features: Features, step: float) -> Vector:
    """The vector after a lesson; the one given stays as it is.

    Values end at ±2**31 units, which takes 65,536 full lessons on messages of one and the same single feature.
    """
    changed = vector.copy()
    for at, length in _vector_of(features):
        sums = vector[at].astype(np.int64) + round(step * LESSON_UNIT / length)
        changed[at] = np.clip(sums, -_INT32_MAX, _INT32_MAX).astype(np.int32)
    return changed


def undo(vector: Vector, features: Features, step: float) -> Vector:
    """The vector as if the lesson of that step had not been."""
    return apply(vector, features, -step)


def contribution(vector: Vector) -> Contribution:
    """What others feel of an account: its vector with a length of at most `BOUND`."""
    values = vector.astype(np.float64)
    length = math.sqrt(float(np.dot(values, values))) / LESSON_UNIT
    if length == 0.0:
        return empty()
    scale = SHARE_UNIT / LESSON_UNIT * min(1.0, BOUND / length)
    # Towards zero: rounding never makes it longer than the bound.
    return np.trunc(values * scale).astype(np.int32)


def changed_aggregate(aggregate: Contribution, before: Contribution, after: Contribution) -> Contribution:
    """A tenant's aggregate after one account's contribution changed; `empty()` stands for none."""
    return aggregate - before + after


def corrected(shared: float, features: Features, aggregate: Contribution, own: Vector, share: Contribution) -> Score:
    """The score of a message for one account: `own` is its vector, `share` its contribution within `aggregate`.

    For a message that is for no account here, `own` and `share` are `empty()`.
    """
    others = mine = 0.0
    for at, length in _vector_of(features):
        others += int((aggregate[at].astype(np.int64) - share[at]).sum()) / (SHARE_UNIT * length)
        mine += int(own[at].sum(dtype=np.int64)) / (LESSON_UNIT * length)
    return Score(shared, _clamped(others, -TENANT_LIMIT, TENANT_LIMIT), _clamped(mine, -OWN_HAM_LIMIT, OWN_SPAM_LIMIT))


def pack(vector: Vector | Contribution) -> bytes:
    """A vector or an aggregate as octets, exactly; some 10 kB after one lesson, some 200 kB after thousands."""
    # Signs into the lowest bit and octets of one weight beside each other: the upper ones are nearly all zero.
    wide = vector.astype(np.int64)
    zigzag = np.where(wide < 0, -2 * wide - 1, 2 * wide).astype("<u4")
    planes = np.ascontiguousarray(zigzag.view(np.uint8).reshape(PLACES, 4).T)
    return _HEAD.pack(_MAGIC, PLACES_BITS) + zstandard.ZstdCompressor(level=_LEVEL).compress(planes.tobytes())


def unpack(octets: bytes) -> Vector:
    """The vector of packed octets. Raises Corrupt."""
    if octets[: _HEAD.size] != _HEAD.pack(_MAGIC, PLACES_BITS):
        raise Corrupt(detail="a filter correction of another format")
    frame = octets[_HEAD.size :]
    try:
        if zstandard.frame_content_size(frame) != _OCTETS:
            raise Corrupt(detail="a filter correction of another size")
        planes = zstandard.ZstdDecompressor().decompress(frame)
    except zstandard.ZstdError:
        raise Corrupt(detail="a filter correction that cannot be unpacked") from None
    zigzag = np.ascontiguousarray(np.frombuffer(planes, np.uint8).reshape(4, PLACES).T).view("<u4").reshape(PLACES)
    half = (zigzag >> np.uint32(1)).astype(np.int64)
    return np.where(zigzag & np.uint32(1), -half - 1, half).astype(np.int32)


def _vector_of(features: Features) -> list[tuple[Features, float]]:
    """A message as a vector of length 1: for each view its places, and 1 / the value that all of them have.

    Both views have the same share of the length, however many places they have.
    """
    present = [at for at in views(folded(features, PLACES_BITS), PLACES) if len(at)]
    return [(at, math.sqrt(len(present) * len(at))) for at in present]


def _clamped(value: float, least: float, most: float) -> float:
    return max(least, min(most, value))
