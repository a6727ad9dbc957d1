"""The command line; `main` is the program `cleanmail`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hosting.faults import describe
from storage.errors import CleanmailError

REFUSED, USAGE, UNAVAILABLE, UNEXPECTED, INTERRUPTED = 1, 2, 3, 70, 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status; errors are one sentence on standard error, never a traceback."""
    sys.exit(run(list(sys.argv[1:] if arguments is None else arguments)))


def run(arguments: list[str]) -> int:
    """The exit status of one command."""
    from hosting.cli import application, output  # noqa: PLC0415 - `import hosting.cli` alone stays cheap

    as_json = "--json" in arguments
    if as_json:  # an option of the whole program, wherever it stands
        arguments = ["--json", *(argument for argument in arguments if argument != "--json")]
    try:
        application.app(args=arguments, prog_name="cleanmail")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except CleanmailError as error:
        return refuse(error, as_json=as_json)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone, and does not want to hear of it
        return REFUSED
    except Exception as error:  # noqa: BLE001 - the last border: nobody is shown a traceback
        output.fail(f"An unexpected error stopped this ({describe(error)}).", "unexpected", as_json=as_json)
        return UNEXPECTED
    return 0


def refuse(error: CleanmailError, *, as_json: bool) -> int:
    """Say why a command was not carried out; its exit status."""
    from hosting.cli import output  # noqa: PLC0415

    output.fail(error.public, _code(error), as_json=as_json)
    return UNAVAILABLE if error.temporary else REFUSED


def _code(error: CleanmailError) -> str:
    """NotFound is not-found."""
    name = type(error).__name__
    return "".join(f"-{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))
