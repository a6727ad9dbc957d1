"""A list of accounts that move: a CSV file with the columns address, user, and password or password_file.

Optional: from (imaps://host, where it differs), token_file. Files are named as seen from the list. Raises InvalidInput.
"""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from hosting.migration.source import secret_in, secret_of
from storage.errors import InvalidInput

ROWS_MAX = 100_000
_COLUMNS = {"address", "user", "password", "password_file", "token_file", "from"}


@dataclass(frozen=True, slots=True)
class Row:
    address: str
    user: str
    secret: Callable[[], str] = field(repr=False)
    server: str = ""  # imaps://host; "": the one of all
    is_token: bool = False


def read_table(file: Path, data: Path) -> list[Row]:
    """The rows; secrets in files are read when they are needed."""
    if file.resolve().is_relative_to(data.resolve()):
        raise InvalidInput("No file of the data directory is sent to another server.")
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            reader = csv.DictReader(opened, strict=True)
            names = {str(name).strip() for name in reader.fieldnames or ()}
            if not {"address", "user"} <= names or not names <= _COLUMNS:
                raise InvalidInput(f"{file} begins with a line of columns: address,user,password (or password_file).")
            if "password" in names and mode & 0o077:
                raise InvalidInput(f"{file} holds passwords, and others may read it: chmod 600 {file}")
            rows = []
            for number, values in enumerate(reader, start=2):
                if number > ROWS_MAX:
                    raise InvalidInput(f"{file} has more than {ROWS_MAX} lines.")
                rows.append(_row(file, number, {str(k).strip(): (v or "").strip() for k, v in values.items()}, data))
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}.") from None
    except (csv.Error, UnicodeDecodeError, AttributeError):
        raise InvalidInput(f"{file} is no CSV file in UTF-8.") from None
    counts = Counter(row.address.casefold() for row in rows)
    for address, count in counts.items():
        if count > 1:
            raise InvalidInput(f"{file} names {address[:80]} twice.")
    return rows


def _row(file: Path, number: int, values: dict[str, str], data: Path) -> Row:
    address, user = values.get("address", ""), values.get("user", "")
    given = [name for name in ("password", "password_file", "token_file") if values.get(name)]
    if not address or not user or len(given) != 1:
        raise InvalidInput(f"Line {number} of {file} needs an address, a user, and one password or file.")
    if given == ["password"]:
        secret: Callable[[], str] = partial(secret_in, values["password"].encode(), f"Line {number}")
    else:
        secret = partial(secret_of, file.parent / values[given[0]], data)
    return Row(address, user, secret, values.get("from", ""), given == ["token_file"])
