"""Changes an account's collections, and dies at a step that was asked for: `python collections_child.py DATA`.

A fork server like `crash_child.py`; an account of its own, without an installation around it.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

from accounts import ACCOUNT, KEY, TENANT
from collections_place import file
from crash_child import Steps, say, serve

from storage.background import Background
from storage.clock import SystemClock
from storage.collections.values import Kind
from storage.errors import CleanmailError
from storage.files.incarnation import Incarnation
from storage.mail.account import Account, Surroundings
from storage.sweep import sweep_account


def put(account: Account, incarnation: Incarnation, request: dict[str, Any]) -> None:
    where = account.collections.find(Kind.FOLDER, request["folder"])
    account.objects.put(where.id, request["name"], file(request["data"].encode() * request["times"]))


def delete(account: Account, incarnation: Incarnation, request: dict[str, Any]) -> None:
    account.objects.delete(account.collections.find(Kind.FOLDER, request["folder"]).id, request["name"])


def move(account: Account, incarnation: Incarnation, request: dict[str, Any]) -> None:
    where = account.collections.find(Kind.FOLDER, request["folder"])
    account.transfers.move(account.objects.find(where.id, request["name"]), where.id, request["to"])


def copy_folder(account: Account, incarnation: Incarnation, request: dict[str, Any]) -> None:
    where = account.collections.find(Kind.FOLDER, request["folder"])
    account.transfers.copy_collection(where.id, 0, request["to"], overwrite=True)


def delete_folder(account: Account, incarnation: Incarnation, request: dict[str, Any]) -> None:
    account.collections.delete(account.collections.find(Kind.FOLDER, request["folder"]).id)


def sweep(account: Account, incarnation: Incarnation, request: dict[str, Any]) -> None:
    sweep_account(account, incarnation)


OPERATIONS = {each.__name__: each for each in (put, delete, move, copy_folder, delete_folder, sweep)}


def carry_out(data: Path, request: dict[str, Any], steps: Steps) -> None:
    incarnation, background = Incarnation(data), Background()
    surroundings = Surroundings(SystemClock(), incarnation.name, background, boot="boot")
    account = Account.open(data / "account", TENANT, ACCOUNT, KEY, surroundings)
    account.background.settle()
    steps.counting = True
    try:
        OPERATIONS[request["operation"]](account, incarnation, request)
    except CleanmailError as error:
        say({"refused": type(error).__name__})
    else:
        say({"acknowledged": True})
    background.settle()
    steps.counting = False
    account.close()
    background.close()
    incarnation.close()


if __name__ == "__main__":
    serve(partial(carry_out, Path(sys.argv[1])))
