"""The steps of an ending, in their order. Each is durable before the next begins, and may be repeated."""

from __future__ import annotations

from enum import StrEnum


class Step(StrEnum):
    """What is done; a row of control.db names the last one."""

    ORDERED = "ordered"  # from here on there is no way back
    FENCED = "fenced"  # nobody signs in, delivers or sends any more; every process was told
    ALONE = "alone"  # no process has anything of it open; it was counted what there is
    KEYS_DESTROYED = "keys_destroyed"  # unreadable
    MOVED = "moved"  # its folder has no name any more by which it could be found
    ROWS_REMOVED = "rows_removed"  # of databases that go on
    FILES_REMOVED = "files_removed"
    SEARCHED = "searched"  # and nothing was found
    CERTIFIED = "certified"

    @property
    def number(self) -> int:
        return _ORDER[self]

    @property
    def sentence(self) -> str:
        """For people who wait: what is being done until this step is reached."""
        return _SENTENCES[self]


_ORDER = {step: number for number, step in enumerate(Step)}
_SENTENCES = {
    Step.ORDERED: "Writing down what is to be ended",
    Step.FENCED: "Closing the entrances",
    Step.ALONE: "Waiting until nobody has it open",
    Step.KEYS_DESTROYED: "Destroying the keys",
    Step.MOVED: "Taking the folder away",
    Step.ROWS_REMOVED: "Removing rows elsewhere",
    Step.FILES_REMOVED: "Removing files",
    Step.SEARCHED: "Searching for remains",
    Step.CERTIFIED: "Signing the certificate",
}
