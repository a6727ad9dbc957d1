"""Carries out one operation on real storage, and dies at a step that was asked for: `python crash_child.py DATA`.

A fork server: the imports are paid once, by a process that never opens a database; each request on stdin (a JSON line)
is carried out by a fork of it. The fork counts its calls of fsync, rename, replace, link, unlink and write and both
sides of every COMMIT; at step `stop` it kills itself with SIGKILL, or halts until a line comes (`at` is "halt"), or is
told that the disk is full ("full"; a COMMIT is no step then). A write is two steps: before it, and with half of it
done. Lines on stdout: {"halted"}, {"acknowledged": ...} when the operation returned, {"refused": ...} when it raised
one of our errors, {"steps": n}, and {"ended": exit status, or minus the signal}.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import sqlcipher3
from crash_town import WHOSE, mail, opened, receive, submit

from gateway.classifier.model import Models
from gateway.policy.rules import DEFAULT
from hosting.learning_round import LearningRound
from storage.errors import CleanmailError
from storage.installation import Installation
from storage.mail.account import Account
from storage.mail.messages import NewMessage
from storage.sweep import sweep_account
from storage.values import MailboxId, UidSet

_write, _read = os.write, os.read
_CALLS = ("fsync", "rename", "replace", "link", "unlink", "write")


class Steps:
    def __init__(self, stop: int, at: str) -> None:
        self._stop = stop
        self._at = at
        self._lock = threading.Lock()
        self.counting = False
        self.count = 0

    def step(self, before_end: Callable[[], object] | None = None) -> None:
        """`before_end` is what is still done when the process dies here."""
        with self._lock:
            if not self.counting:
                return
            self.count += 1
            if self.count != self._stop:
                return
            if self._at == "full":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if self._at == "halt":
                say({"halted": self.count})
                hear()
                return
            if before_end is not None:
                before_end()
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self) -> None:
        """From here on, every call in this process is counted."""
        for name in _CALLS:
            setattr(os, name, self._counted(name, getattr(os, name)))
        steps = self

        class Counted(sqlcipher3.Connection):  # type: ignore[misc]
            def execute(self, sql: str, *parameters: Any) -> Any:
                if sql != "COMMIT" or steps._at == "full":
                    return super().execute(sql, *parameters)
                steps.step()
                result = super().execute(sql)
                steps.step()
                return result

        connect = sqlcipher3.connect
        sqlcipher3.connect = lambda *a, **k: connect(*a, factory=Counted, **k)

    def _counted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            self.step()
            if name == "write":
                descriptor, octets = arguments
                self.step(lambda: call(descriptor, bytes(octets)[: len(octets) // 2]))
            return call(*arguments, **options)

        return counted


def say(words: dict[str, Any]) -> None:
    _write(1, json.dumps(words).encode() + b"\n")


def hear() -> dict[str, Any]:
    """The next line of stdin; nothing beyond it is read, since forks share it."""
    line = b""
    while not line.endswith(b"\n"):
        octet = _read(0, 1)
        if not octet:
            sys.exit(0)
        line += octet
    words: dict[str, Any] = json.loads(line)
    return words


def mailbox_of(account: Account, name: str) -> MailboxId:
    return account.mailboxes.find(name).id


def append(installation: Installation, account: Account, request: dict[str, Any]) -> dict[str, Any]:
    done = account.messages.append(mailbox_of(account, "INBOX"), mail(request["token"], request["size"]))
    return {"uid": done.uid, "modseq": done.modseq}


def append_some(installation: Installation, account: Account, request: dict[str, Any]) -> dict[str, Any]:
    new = (NewMessage(mail(token)) for token in request["tokens"])
    return {"uids": [done.uid for done in account.messages.append_many(mailbox_of(account, "INBOX"), new)]}


def replace(installation: Installation, account: Account, request: dict[str, Any]) -> dict[str, Any]:
    inbox = mailbox_of(account, "INBOX")
    done = account.messages.replace(inbox, request["uid"], inbox, NewMessage(mail(request["token"])))
    return {"uid": done.uid}


def deliver(installation: Installation, account: Account, request: dict[str, Any]) -> dict[str, Any]:
    return {"queue_id": submit(installation, request["recipients"], mail(request["token"]))}


def accept(installation: Installation, account: Account, request: dict[str, Any]) -> dict[str, Any]:
    return {"queue_ids": receive(installation, request["recipients"], mail(request["token"]))}


def move(installation: Installation, account: Account, request: dict[str, Any]) -> dict[str, Any]:
    source, target = mailbox_of(account, request["source"]), mailbox_of(account, request["target"])
    done = account.messages.move(source, UidSet.of(request["uids"]), target)
    return {"pairs": done.pairs}


def expunge(installation: Installation, account: Account, request: dict[str, Any]) -> dict[str, Any]:
    source = mailbox_of(account, request["source"])
    done = account.messages.expunge(source, UidSet.of(request["uids"]), only_deleted=False)
    return {"uids": done.uids, "modseq": done.modseq}


def sweep(installation: Installation, account: Account, request: dict[str, Any]) -> dict[str, Any]:
    swept = sweep_account(account, installation.incarnation)
    return {"tmp": swept.tmp, "new": swept.new}


def learn(installation: Installation, account: Account, request: dict[str, Any]) -> dict[str, Any]:
    models = Models(installation.data / "no model", installation.clock)
    outcomes = LearningRound(installation, models, DEFAULT).learn(*WHOSE["alice@one.test"])
    return {outcome.value: count for outcome, count in outcomes.items()}


OPERATIONS = {
    each.__name__: each for each in (append, append_some, replace, deliver, accept, move, expunge, sweep, learn)
}


def carry_out(data: Path, request: dict[str, Any], steps: Steps) -> None:
    with opened(data) as installation:
        installation.queue  # noqa: B018 - opened before the counting begins
        with installation.account(*WHOSE["alice@one.test"]) as account:
            steps.counting = True
            try:
                acknowledged = OPERATIONS[request["operation"]](installation, account, request)
            except CleanmailError as error:
                say({"refused": type(error).__name__, "temporary": error.temporary})
            else:
                say({"acknowledged": acknowledged})
            installation.background.settle()
            steps.counting = False


def serve(carry_out: Callable[[dict[str, Any], Steps], None], *, counted: bool = True) -> None:
    """Carry out each request in a fork that dies at the step it names; `counted`: who comes through says its steps."""
    while True:
        request = hear()
        steps = Steps(request.get("stop", 0), request.get("at", "kill"))
        child = os.fork()
        if not child:
            steps.watch()
            status = 1
            try:
                carry_out(request, steps)
                if counted:
                    say({"steps": steps.count})
                status = 0
            finally:
                sys.stderr.flush()
                if status:
                    sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
                os._exit(status)
        _, ended = os.waitpid(child, 0)
        say({"ended": os.waitstatus_to_exitcode(ended)})


if __name__ == "__main__":
    serve(partial(carry_out, Path(sys.argv[1])))
