"""Verifiers of passwords, the threads that compute them, and what is remembered of them."""

from __future__ import annotations

import resource
import threading
from concurrent.futures import Future

import pytest

from hosting.auth.passwords import Passwords
from hosting.auth.pool import HashingPool
from hosting.auth.remembered import VerificationCache
from storage.clock import FixedClock
from storage.errors import InvalidInput, Unavailable

CHEAP = Passwords(time_cost=1, memory_kib=8, lanes=1)


def test_right_wrong_and_nobody() -> None:
    verifier = CHEAP.hash("correct horse")
    assert verifier.startswith("$argon2id$")
    assert CHEAP.verify(verifier, "correct horse")
    assert not CHEAP.verify(verifier, "correct horses")
    assert not CHEAP.verify(None, "correct horse")
    assert not CHEAP.verify("no verifier at all", "correct horse")


@pytest.mark.parametrize(
    ("stored", "typed"),
    [
        ("p\u00e4sswort1", "pa\u0308sswort1"),
        ("correct\u00a0horse", "correct horse"),
        ("\u5bc6\u7801" * 4, "\u5bc6\u7801" * 4),
    ],
)
def test_other_encodings_of_the_same_text_are_the_same_password(stored: str, typed: str) -> None:
    """RFC 8265 §4.2.2: NFC, and every space is U+0020."""
    assert CHEAP.verify(CHEAP.hash(stored), typed)


@pytest.mark.parametrize("password", ["", "short12", "x" * 1025, "tab\there12", "nul\0here12"])
def test_passwords_that_cannot_be_set(password: str) -> None:
    with pytest.raises(InvalidInput):
        CHEAP.hash(password)


def test_lone_surrogates_are_compared_not_raised() -> None:
    assert not CHEAP.verify(CHEAP.hash("correct horse"), "\udcff\udc80")


def test_a_password_that_cannot_be_computed_is_not_called_wrong() -> None:
    """As where memory is short: Argon2 is asked for a terabyte, of which it gets nothing."""
    verifier = CHEAP.hash("correct horse").replace("$m=8,", f"$m={1 << 30},")
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 36, before[1]))
    try:
        with pytest.raises(Unavailable):
            CHEAP.verify(verifier, "correct horse")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_rehash_is_asked_for_when_parameters_change() -> None:
    stronger = Passwords(time_cost=2, memory_kib=8, lanes=1)
    verifier = CHEAP.hash("correct horse")
    assert not CHEAP.needs_rehash(verifier)
    assert stronger.needs_rehash(verifier)
    assert stronger.verify(stronger.rehash("correct horse"), "correct horse")


class TestHashingPool:
    def test_never_more_at_once_than_threads_and_known_ones_first(self) -> None:
        pool = HashingPool(1)
        begun, go_on = threading.Event(), threading.Event()
        order: list[str] = []

        def block() -> None:
            begun.set()
            go_on.wait(10)

        first = pool.submit(block, known=False)
        assert begun.wait(10)
        later: list[Future[None]] = [
            pool.submit(lambda: order.append("stranger"), known=False),
            pool.submit(lambda: order.append("known"), known=True),
        ]
        assert order == []
        go_on.set()
        for future in [first, *later]:
            future.result(10)
        assert order == ["known", "stranger"]
        pool.close()

    def test_full_line_refuses_at_once_and_leaves_the_other_open(self) -> None:
        pool = HashingPool(1, waiting=2)
        begun, go_on = threading.Event(), threading.Event()

        def block() -> None:
            begun.set()
            go_on.wait(10)

        pool.submit(block, known=False)
        assert begun.wait(10)
        for _ in range(2):
            pool.submit(lambda: None, known=False)
        with pytest.raises(Unavailable):
            pool.submit(lambda: None, known=False)
        known = pool.submit(lambda: 7, known=True)
        go_on.set()
        assert known.result(10) == 7
        pool.close()
        with pytest.raises(Unavailable):
            pool.submit(lambda: None, known=True)

    def test_what_raises_reaches_who_waits(self) -> None:
        pool = HashingPool(1)
        with pytest.raises(ZeroDivisionError):
            pool.submit(lambda: 1 // 0, known=True).result(10)
        assert pool.submit(lambda: 1, known=True).result(10) == 1
        pool.close()


class TestVerificationCache:
    def test_remembers_right_and_wrong_for_its_time(self) -> None:
        clock = FixedClock()
        cache = VerificationCache(clock, seconds=300)
        right, wrong = cache.digest(b"l", 1, 1, 1, "right"), cache.digest(b"l", 1, 1, 1, "wrong")
        assert cache.get(right) is None
        cache.put(right, True)
        cache.put(wrong, False)
        clock.advance(299)
        assert (cache.get(right), cache.get(wrong)) == (True, False)
        clock.advance(1)
        assert (cache.get(right), cache.get(wrong)) == (None, None)

    def test_every_part_of_the_credential_counts(self) -> None:
        cache = VerificationCache(FixedClock())
        parts = [
            (b"l", 1, 1, 1, "p"),
            (b"m", 1, 1, 1, "p"),
            (b"l", 2, 1, 1, "p"),
            (b"l", 1, 2, 1, "p"),
            (b"l", 1, 1, 2, "p"),
            (b"l", 1, 1, 1, "q"),
            (b"lp", 1, 1, 1, ""),
        ]
        assert len({cache.digest(*part) for part in parts}) == len(parts)
        assert VerificationCache(FixedClock()).digest(*parts[0]) != cache.digest(*parts[0])

    def test_is_bounded_and_holds_no_password(self) -> None:
        cache = VerificationCache(FixedClock(), entries=10)
        for number in range(100):
            cache.put(cache.digest(b"l", 1, 1, 1, f"secret-{number}"), True)
        assert len(cache._answers) == 10
        assert "secret" not in repr(vars(cache))
