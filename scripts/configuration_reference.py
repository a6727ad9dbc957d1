#!/usr/bin/env python3
"""Writes docs/configuration.md from the settings themselves: their tables, types, defaults, bounds and comments.

scripts/configuration_reference.py           writes the file
scripts/configuration_reference.py --check   exit status 1 if the file is not what would be written
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import io
import json
import sys
import tokenize
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from hosting.config import Config  # noqa: E402

TARGET = ROOT / "docs" / "configuration.md"

HEAD = """\
# Configuration

<!-- Written by scripts/configuration_reference.py from the settings and their comments in the code. -->

One TOML file: `cleanmail.toml` in the data directory, or the one that `--config` names. Every setting has a default, so
the file may be missing or hold only what differs. An unknown key or a bad value is an error that names the line and
what was probably meant; nothing starts, and nothing is reloaded, with a file that has a mistake.

    $ cleanmail --data /var/lib/cleanmail serve
    cleanmail: cleanmail.toml:3: unknown key 'idle_timout' in [imap]; did you mean 'idle_timeout'?

`SIGHUP` (`systemctl reload cleanmail`) reads the file again: processes whose settings changed are replaced one after
the other, while their sockets stay open. Addresses, ports, numbers of workers and the user take a restart.

Times are seconds, sizes are octets.
"""


def tables(value: Any, name: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every table of the file with its defaults, outer ones first."""
    if name:
        yield ".".join(name), value
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        if dataclasses.is_dataclass(inner):
            yield from tables(inner, (*name, field.name))


def comments(kind: type) -> dict[str, str]:
    """What stands beside or above each field in the class's source."""
    source = inspect.getsource(kind)
    texts = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found: dict[str, str] = {}
    lines = source.split("\n")
    body = ast.parse(source).body[0]
    assert isinstance(body, ast.ClassDef)
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            above, number = [], node.lineno - 1
            while number in texts and lines[number - 1].strip().startswith("#"):
                above.insert(0, texts[number])
                number -= 1
            found[node.target.id] = texts.get(node.end_lineno or node.lineno) or " ".join(above)
    return found


def type_name(kind: Any) -> str:
    if typing.get_origin(kind) is tuple:
        return "list of texts"
    if typing.get_origin(kind) is dict:
        return "table of texts"
    return {int: "whole number", float: "number", str: "text", bool: "true or false"}.get(kind, str(kind))


def shown(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10000:
        return f"{value:_}"
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def bounds(metadata: typing.Mapping[str, Any]) -> str:
    if "choices" in metadata:
        return ": " + ", ".join(metadata["choices"])
    least, most = metadata.get("least"), metadata.get("most")
    return f", {least} to {most}" if least is not None and most is not None else ""


def reference() -> str:
    parts = [HEAD]
    for name, defaults in tables(Config()):
        said = comments(type(defaults))
        kinds = typing.get_type_hints(type(defaults))
        rows = [
            f"| `{field.name}` | {type_name(kinds[field.name])}{bounds(field.metadata)} | "
            f"`{shown(getattr(defaults, field.name))}` | {said.get(field.name, '')} |"
            for field in dataclasses.fields(defaults)
            if not dataclasses.is_dataclass(getattr(defaults, field.name))
        ]
        about = (inspect.getdoc(type(defaults)) or "").split("\n\n")[0].replace("\n", " ")
        made_up = about.startswith(f"{type(defaults).__name__}(")  # what dataclass writes where nobody did
        parts.append(f"\n## [{name}]\n" + ("" if made_up else f"\n{about}\n"))
        if rows:
            parts.append("\n| key | value | default | |\n|---|---|---|---|\n" + "\n".join(rows) + "\n")
    return "".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    text = reference()
    if parser.parse_args().check:
        return int(not TARGET.exists() or TARGET.read_text(encoding="utf-8") != text)
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
