"""Passwords on their way in: from a prompt, from standard input, or generated; never from the command line.

Raises: InvalidInput (empty, the two entries differ, no terminal to ask on).
"""

from __future__ import annotations

import getpass
import secrets
import sys
from pathlib import Path

from storage.errors import InvalidInput

_ALPHABET = "abcdefghjkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # without those that look alike
_LENGTH = 20
_LINE_MAX = 4096


def generate() -> str:
    """116 random bits, in four groups."""
    text = "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))
    return "-".join(text[start : start + 5] for start in range(0, _LENGTH, 5))


def read_from_stdin() -> str:
    """The first line, without its end."""
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        raise InvalidInput("Standard input has no password in its first line.")
    return line


def ask(prompt: str) -> str:
    """Twice, on the terminal, unseen."""
    if not sys.stdin.isatty():
        raise InvalidInput("There is no terminal to ask for a password on; use --password-stdin or --generate.")
    password = getpass.getpass(f"{prompt}: ")
    if not password:
        raise InvalidInput("A password cannot be empty.")
    if getpass.getpass("Once more: ") != password:
        raise InvalidInput("The two entries differ.")
    return password


def lines_of(source: Path, count: int) -> list[str]:
    """The first lines of a file, or of standard input (`-`), without their ends."""
    try:
        if str(source) == "-":
            lines = [sys.stdin.readline(_LINE_MAX) for _ in range(count)]
        else:
            with source.open(encoding="utf-8") as file:
                lines = [file.readline(_LINE_MAX) for _ in range(count)]
    except OSError as error:
        raise InvalidInput(f"{source} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"{source} is not UTF-8.") from None
    found = [line.rstrip("\r\n") for line in lines]
    if not all(found):
        raise InvalidInput(f"{'Standard input' if str(source) == '-' else source} has no {count} lines.")
    return found
