"""Every command of the program has an action, and no action names a command that is not there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from hosting.access.actions import COMMANDS, FOR_EVERYBODY, Action
from hosting.cli import application


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    if hasattr(command, "list_commands"):
        for name in command.list_commands(None):
            yield from commands(command.get_command(None, name), (*path, name))
    else:
        yield " ".join(path)


def test_every_command_has_its_action() -> None:
    found = set(commands(get_command(application.app)))
    assert found - COMMANDS.keys() == set(), "these have no line in hosting.access.actions.COMMANDS"
    assert COMMANDS.keys() - found == set(), "these are no commands"


def test_what_everybody_may_is_little() -> None:
    assert {command for command, action in COMMANDS.items() if action in FOR_EVERYBODY} == {
        "sign-in",
        "sign-out",
        "whoami",
        "filter evaluate",
        "certificate key",
        "certificate verify",
        "export key",
        "export verify",
        "imap capabilities",
        "person verify",
    }
    assert {command for command, action in COMMANDS.items() if action is Action.MACHINE} == {
        "keys restore",
        "init",
        "serve",
        "check",
        "upgrade",
    }
