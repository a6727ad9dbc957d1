"""An installation that commands are run on in this process, with two customers whose accounts have no passwords."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from hosting import cli

_CONFIGURATION = '[server]\nhostname = "mail.acme.test"\n[auth.argon2]\ntime_cost = 1\nmemory_kib = 64\nlanes = 1\n'


class CommandPlace:
    def __init__(self, data: Path) -> None:
        self.data = data

    @classmethod
    def make(cls, data: Path, customers: Mapping[str, Sequence[str]]) -> CommandPlace:
        """A new one; `customers` are accounts by domain, of which the first label is the customer's name."""
        data.mkdir(mode=0o700)
        (data / "cleanmail.toml").write_text(_CONFIGURATION)
        made = cls(data)
        made.done("init")
        for domain, people in customers.items():
            slug = domain.partition(".")[0]
            made.done("tenant", "create", slug, "--name", slug)
            made.done("domain", "add", slug, domain, "--verified")
            for each in people:
                made.done("account", "create", each, "--without-password")
        return made

    def run(self, *arguments: str, as_json: bool = True) -> tuple[int, Any]:
        """The exit status, and what was said: as a value where there is one."""
        said = StringIO()
        with redirect_stdout(said), redirect_stderr(said):
            status = cli.run(["--data", str(self.data), *(["--json"] if as_json else []), *arguments])
        return status, said.getvalue() if status or not as_json else json.loads(said.getvalue())

    def done(self, *arguments: str) -> Any:
        """Of a command that must succeed."""
        status, said = self.run(*arguments)
        assert status == 0, said
        return said
