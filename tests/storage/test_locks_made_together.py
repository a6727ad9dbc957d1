"""Locks that are made many at a time are each their own."""

from __future__ import annotations

from threading import Thread

from storage import locks


def test_every_lock_is_given_to_one_only() -> None:
    made = []

    def take() -> None:
        made.extend([locks.new_lock() for _ in range(1000)])

    threads = [Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, made))) == 4000
    assert all(lock.acquire(blocking=False) for lock in made)


def test_one_that_may_be_entered_again_is_released_as_often() -> None:
    lock = locks.new_rlock()
    with lock, lock:
        assert lock is not locks.new_rlock()
    tried = []
    thread = Thread(target=lambda: tried.append(lock.acquire(blocking=False)))
    thread.start()
    thread.join()
    assert tried == [True]
