"""What an erasure keeps in the data directory while it is under way, as the data register has it."""

from __future__ import annotations

from storage.register import classes
from storage.register.values import FileClass

FILES = (
    FileClass("run/endings/*", classes.INSTALLATION, "locks: who carries out an erasure; empty"),
    FileClass("erasing/**", classes.MAIL, "folders whose keys are destroyed, while they are being removed"),
)
