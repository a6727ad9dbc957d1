"""The files of keys/ as the data register has them: wrapped keys, markers of destroyed ones, the master."""

from __future__ import annotations

from storage.register import classes
from storage.register.values import FileClass

FILES = (
    FileClass("keys/master", classes.INSTALLATION, "the master key, unless it lives elsewhere"),
    FileClass("keys/service.key", classes.INSTALLATION, "the root of the installation's own keys, wrapped"),
    FileClass("keys/groups.key", classes.KEYS, "secrets of groups of tenants, wrapped"),
    FileClass("keys/groups/*.key", classes.KEYS, "rings of a group's tenants, wrapped"),
    FileClass("keys/[0-9]*/tenant.key", classes.KEYS, "a tenant's key, wrapped"),
    FileClass("keys/[0-9]*/[0-9]*.key", classes.KEYS, "an account's key, wrapped"),
    FileClass("keys/[0-9]*.destroyed", classes.INSTALLATION, "a tenant's key was destroyed; ids and times only"),
    FileClass("keys/[0-9]*/[0-9]*.destroyed", classes.INSTALLATION, "the same of an account's key"),
    FileClass("keys/endings/*.key", classes.ERASURE_SEARCH, "opens what an erasure under way searches for"),
    FileClass("keys/unfinished.json", classes.KEYS, "changes of keys that go on after a crash; ids only"),
    FileClass("keys/.master.*", classes.INSTALLATION, "the master while it is replaced; overwritten afterwards"),
    FileClass(".keys.restoring/**", classes.KEYS, "a copy of keys while the master opens it, wrapped"),
    FileClass("keys/.lock", classes.INSTALLATION, "the lock of who changes keys; empty"),
)
