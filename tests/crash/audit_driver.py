"""Kills a process at each step of something that the audit chain is about, lets another repeat it, and tells what is.

    audit_driver.py OPERATION FOLDER

It imports everything once and opens nothing itself: each try is a fork, on a copy of the same data. A step is each
commit of a database and each renaming, before it and behind it. Prints a line of JSON for each step, what was there
after the death and what is there after the repetition, until the operation comes to its end alive.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hosting.cli import application  # noqa: F401 - what is imported once is not imported by each fork
from hosting.disclosure.cases import Demand, Person, hand_over, record_case
from hosting.disclosure.extract import read_extract
from hosting.journal_round import JournalRound
from storage.check import check_installation
from storage.checks.finding import Severity
from storage.clock import FixedClock
from storage.database.database import Database
from storage.directory.disclosures import Authority, Scope, What
from storage.directory.provisioning import Provisioning
from storage.installation import Installation
from storage.keys.keystore import KeyStore
from storage.keys.master import Master, read_master_file, write_master_file
from storage.keys.source import LocalKeys
from storage.mail import journal
from storage.sending import Sending
from storage.sending_limits import SendingLimits
from storage.values import AccountId, Domain, EmailAddress, TenantId

TENANT, ANN, BEA = TenantId(1), AccountId(1), AccountId(2)
ADA, BO = Person("ada", "ada"), Person("bo", "bo")
DAY = 86_400


def opened(data: Path) -> Installation:
    clock = FixedClock()
    clock.advance(10 * DAY)
    return Installation(data, LocalKeys(KeyStore(data / "keys", read_master_file(data / "master"), clock)), clock)


def fill(data: Path) -> None:
    data.mkdir()
    clock = FixedClock()
    write_master_file(data / "master", Master.generate())
    keys = LocalKeys(KeyStore.create(data / "keys", read_master_file(data / "master"), clock))
    Installation.create(data, keys, clock)
    installation = Installation(data, keys, clock)
    provisioning = Provisioning(installation)
    provisioning.create_tenant("one", "one")
    domain = Domain.parse("one.test")
    installation.control.add_domain(TENANT, domain)
    installation.control.verify_domain(domain, None)
    for name in ("ann", "bea"):
        provisioning.create_account(TENANT, EmailAddress.parse(f"{name}@one.test"))
    for account in (ANN, BEA, ANN):
        installation.audit.append("account.show", "ada", TENANT, account, {"reason": "why"})
    clock.advance(9 * DAY)
    scope = Scope(frozenset({What.ACCOUNT}), 1, clock.now())
    demand = Demand(Authority.COURT, "A court", "A law", bytes(32), TENANT, ANN, scope)
    _, request = record_case(installation, demand, ADA, "it is right")
    installation.control.approvals.decide(request.approval_id, BO.name, True, unix=BO.unix)
    installation.close()


# The operations


def write_journals(installation: Installation, data: Path) -> None:
    JournalRound(installation, "mx.test").run()


def extract(installation: Installation, data: Path) -> None:
    (case,) = installation.control.disclosures.all()
    if case.closed is None:
        hand_over(installation, case.case_id, data / "out", ADA, bytes)


def cut(installation: Installation, data: Path) -> None:
    installation.audit.cut(installation.clock.now() - 5 * DAY)


def freeze(installation: Installation, data: Path) -> None:
    installation.audit.append("account.freeze", "ada", TENANT, BEA, {"reason": "spam"})
    Sending(installation, SendingLimits()).freeze(TENANT, BEA, "spam")


OPERATIONS: dict[str, Callable[[Installation, Path], None]] = {
    "journal": write_journals,
    "extract": extract,
    "cut": cut,
    "freeze": freeze,
}


def seen(data: Path) -> dict[str, Any]:
    """What there is."""
    installation = opened(data)
    found: dict[str, Any] = {"journals": []}
    for account_id in (ANN, BEA):
        with installation.account(TENANT, account_id) as account:
            mailbox = journal.find(account)
            rows = [] if mailbox is None else account.messages.fetch_rows(mailbox.id, 1, 1000, ("message_id",))
            found["journals"].append(len(rows))
    audit = installation.audit
    found["position"] = audit.positions.of("journal")
    found["behind"] = audit.positions.under("journal of ")
    verified = audit.examine()
    found["first"], found["signed"] = verified.first, verified.signed
    found["actions"] = [record.action for record in audit.read(after=3)]
    (case,) = installation.control.disclosures.all()
    handed = read_extract(installation, case, data / "out")
    found["case"], found["items"] = case.state.value, case.items
    found["out"] = handed is not None and (case.extract in {None, handed.hash})
    found["there"] = (data / "out").exists()
    found["rubbish"] = [each.name for each in data.iterdir() if each.name.endswith(".unfinished")]
    found["frozen"] = installation.tenant(TENANT).frozen.find(BEA) is not None
    found["wrong"] = [each.text for each in check_installation(installation) if each.severity is not Severity.NOTE]
    installation.close()
    return found


def dying_at(step: int) -> None:
    """From now on this process is killed at that step."""
    left = step

    def pass_by() -> None:
        nonlocal left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    def guarded(real: Callable[..., Any]) -> Callable[..., Any]:
        def deed(*given: Any, **named: Any) -> Any:
            pass_by()
            done = real(*given, **named)
            pass_by()
            return done

        return deed

    Database.write = guarded(Database.write)  # type: ignore[method-assign]
    os.rename = guarded(os.rename)


def in_fork(work: Callable[[], Any]) -> tuple[int, Any]:
    """Its status, and what it gives."""
    answers, answer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(answers)
        status = 1
        try:
            os.write(answer, json.dumps(work()).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(answer)
    with open(answers, "rb") as told:
        text = told.read()
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), json.loads(text) if text else None


STRIDE = {"journal": 3, "extract": 2}  # steps between two deaths: every one would take a minute


def main(operation: str, folder: Path) -> None:
    template = folder / "template"
    assert in_fork(lambda: fill(template))[0] == 0
    for step in range(0, 1000, STRIDE.get(operation, 1)):
        data = folder / "data"
        shutil.copytree(template, data)

        def attempt(step: int | None = step, data: Path = data) -> dict[str, Any]:
            installation = opened(data)
            if step is not None:
                dying_at(step)
            OPERATIONS[operation](installation, data)
            installation.close()
            return seen(data)

        status, _ = in_fork(attempt)
        assert status in {0, -signal.SIGKILL}, (step, status)
        _, after_death = in_fork(lambda data=data: seen(data))
        repeated, again = in_fork(lambda data=data: attempt(None, data))
        print(json.dumps({"died": status != 0, "after": after_death, "repeated": repeated, "again": again}), flush=True)
        shutil.rmtree(data)
        if status == 0:
            return


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
