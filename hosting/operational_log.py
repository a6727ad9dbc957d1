"""The operational log: one line for each event on stderr, for journald or a terminal; ids only, never content.

A line reads `level role[index] logger: event`. Of an exception its type and the places it came through are written
(`hosting.faults`). Twisted's log goes the same way; aiosmtpd's loggers, which write addresses, are silenced where it is
used (`gateway.smtp.dialogue`).

Under journald a line begins with its priority, as sd-daemon(3) has it; elsewhere with the time in UTC.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import cast

from twisted.logger import ILogObserver, STDLibLogObserver, globalLogBeginner
from twisted.python.failure import Failure

from hosting.faults import describe

_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
_QUIET = ("asyncio", "aiosmtpd", "mail.log", "mail.error", "mail.debug", "twisted")


class LineFormatter(logging.Formatter):
    def __init__(self, process: str, *, journal: bool) -> None:
        super().__init__()
        self._process = process
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        text = " ".join(record.getMessage().split("\n"))
        if record.exc_info and record.exc_info[1] is not None:
            text += f" [{describe(record.exc_info[1])}]"
        if self._journal:
            head = f"<{_PRIORITIES.get(record.levelno, 5)}>"
        else:
            moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            head = f"{moment}.{int(record.msecs):03d}Z {record.levelname.lower()} "
        return f"{head}{self._process} {record.name}: {text}"


class _TwistedFilter(logging.Filter):
    """Twisted's own notices name peers; its errors are told by type and place."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.ERROR:
            return False
        if record.exc_info and record.exc_info[1] is not None:
            record.msg, record.args = "unexpected error", None
        return True


def begin(process: str, level: str) -> None:
    """Send everything that this process logs to stderr from now on."""
    stderr = logging.StreamHandler(sys.stderr)
    stderr.setFormatter(LineFormatter(process, journal="JOURNAL_STREAM" in os.environ))
    root = logging.getLogger()
    root.handlers[:] = [stderr]
    root.setLevel(level.upper())
    logging.raiseExceptions = False  # a broken stderr must not write tracebacks of log records
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("twisted").addFilter(_TwistedFilter())
    globalLogBeginner.beginLoggingTo(
        [cast(ILogObserver, STDLibLogObserver("twisted"))], redirectStandardIO=False, discardBuffer=True
    )


def log_failure(log: logging.Logger, event: str, failure: Failure) -> None:
    """The end of a Deferred that nobody else looks at."""
    log.error("%s [%s]", event, describe(failure.value) if failure.value is not None else "?")
