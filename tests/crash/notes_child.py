"""Edits a note on real storage, over one face or the other, and dies at each step: `python notes_child.py FOLDER`.

It imports everything once and opens nothing itself: each try is a fork, on a copy of the same account. The steps are
those of crash_child.py. Prints a line of JSON for each try: how it ended, what both faces said after the death, once
the account was opened, swept and settled again, and what was wrong; until the edit comes to its end alive.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from audit_driver import in_fork
from crash_child import Steps
from notes_place import NotesPlace, journal

from storage.check import check_account
from storage.checks.finding import Severity
from storage.sweep import sweep_account

ONE = "0F5CB8A7-0000-4000-8000-000000000001"
LARGE = "y" * 70_000  # its journal entry stands in a file


def put(place: NotesPlace) -> None:
    place.put("a.ics", journal("uid-1", "Shopping", "Eggs"))


def append(place: NotesPlace) -> None:
    place.append("uid-1", "Shopping\nEggs")


def append_large(place: NotesPlace) -> None:
    place.append("uid-1", f"Shopping\n{LARGE}")


def expunge(place: NotesPlace) -> None:
    [(uid, _)] = place.messages()
    place.expunge(uid)


WAYS: dict[str, Callable[[NotesPlace], None]] = {each.__name__: each for each in (put, append, append_large, expunge)}


def fill(data: Path) -> None:
    data.mkdir()
    place = NotesPlace(data)
    place.put("a.ics", journal("uid-1", "Shopping", "Milk", "CATEGORIES:home\r\n"))
    place.settle()
    place.close()


def seen(data: Path) -> dict[str, Any]:
    """What there is for the next process."""
    place = NotesPlace(data, new=False)
    place.settle()
    sweep_account(place.account, place.incarnation)
    at_once = sorted(each.said.whole for _, each in place.journals())
    place.pass_grace()
    wrong = [
        each.text
        for each in check_account(place.account, place.incarnation, contents=True)
        if each.severity is not Severity.NOTE
    ]
    wrong += [each.why for each in place.account.note_settling.disagreements()]
    left = [name for folder in ("tmp", "new") for name in place.account.maildir.names(folder)]
    left += [name for folder in ("tmp", "new") for name in place.account.octets.files.names(folder)]
    files = len(list(place.account.maildir.names("cur")))
    texts = place.texts()
    place.close()
    return {
        "at_once": [each[:20] for each in at_once],
        "settled": [each[:20] for each in texts],
        "wrong": wrong,
        "left": left,
        "files": files,
    }


def main(folder: Path) -> None:
    template = folder / "template"
    assert in_fork(lambda: fill(template))[0] == 0
    for way in WAYS:
        die_on_the_way(way, folder, template)


def die_on_the_way(way: str, folder: Path, template: Path) -> None:
    for stop in range(1, 1000):
        data = folder / "data"
        shutil.copytree(template, data)

        def attempt(data: Path = data, stop: int = stop) -> bool:
            steps = Steps(stop, "kill")
            steps.watch()
            place = NotesPlace(data, new=False)
            place.settle()
            steps.counting = True
            WAYS[way](place)
            os._exit(0)

        status, _ = in_fork(attempt)
        found, answer = in_fork(lambda data=data: seen(data))
        assert found == 0, (way, stop)
        print(json.dumps({"way": way, "status": status, **answer}), flush=True)
        shutil.rmtree(data)
        if status == 0:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]))
