"""The background checkpointer ends when it is told to, whatever it is doing at that moment."""

from __future__ import annotations

import threading

from storage.clock import FixedClock
from storage.database.checkpointer import Checkpointer


class Database:
    def checkpoint(self) -> None:
        """Nothing is left in its log."""


class StoppedMeanwhile(FixedClock):
    """While a round asks for the time, somebody stops the checkpointer."""

    def __init__(self) -> None:
        super().__init__()
        self.checkpointer: Checkpointer | None = None
        self.stopping: threading.Thread | None = None

    def monotonic(self) -> float:
        if (
            threading.current_thread().name == "checkpointer"
            and self.stopping is None
            and self.checkpointer is not None
        ):
            self.stopping = threading.Thread(target=self.checkpointer.stop, daemon=True)
            self.stopping.start()
            self.checkpointer._stopped.wait(5)
        return super().monotonic()


def test_a_stop_in_the_middle_of_a_round_is_heard() -> None:
    clock = StoppedMeanwhile()
    checkpointer = Checkpointer(clock, interval=0.01, commits=1)
    clock.checkpointer = checkpointer
    checkpointer.start()
    checkpointer.note(Database())
    thread = checkpointer._thread
    assert thread is not None
    thread.join(5)
    assert not thread.is_alive()
    assert clock.stopping is not None
    clock.stopping.join(10)
    assert not clock.stopping.is_alive()
