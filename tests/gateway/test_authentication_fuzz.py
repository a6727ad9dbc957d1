"""The fuzzer of who stands behind a message, briefly."""

from __future__ import annotations

from scripts.fuzz.authentication import fuzz


def test_fuzz() -> None:
    assert fuzz(7, rounds=40) == 40
