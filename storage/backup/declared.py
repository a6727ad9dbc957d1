"""What backup and restore keep in the data directory, as the data register has it; backups themselves lie elsewhere."""

from __future__ import annotations

from storage.register import classes
from storage.register.values import FileClass

FILES = (
    FileClass("run/backup.lock", classes.INSTALLATION, "one backup or restore at a time; empty"),
    FileClass("run/backup/*", classes.INSTALLATION, "locks: files that a backup is reading are not removed; empty"),
    FileClass("run/restore-*/**", classes.MAIL, "databases of a backup while something is restored from it, encrypted"),
    FileClass("run/restored/**", classes.MAIL, "what is left when an installation is restored, until it is removed"),
    FileClass(".restoring/**", classes.MAIL, "an installation that is being restored, encrypted as it was"),
    FileClass("run/proof-*/**", classes.MAIL, "a mailbox that is restored to prove a backup, encrypted"),
)
