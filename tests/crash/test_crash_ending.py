"""Whoever carries out an ending is killed at each of its steps; the next one goes on and comes to the same certificate.

Each process dies one step later than the one before, counted from where that one left it, until one gets through. What
it certifies is what a twin of the installation certifies that nobody disturbed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ending_town import TOKEN, EndingTown
from whole_server import environment

from storage.certificates.certificate import Certificate
from storage.certificates.store import Certificates
from storage.ending.ending import tidy
from storage.files.durable import EXIT_FSYNC_FAILED
from storage.values import AccountId, TenantId

STEPS_MAX = 400  # a bound for the test, not for the server


def prepared(data: Path) -> tuple[TenantId, AccountId]:
    town = EndingTown(data)
    tenant_id = town.tenant()
    anna = town.account(tenant_id)
    town.account(tenant_id, "ben")
    town.queued(tenant_id, anna)
    town.installation.control.installation_id()
    town.close()
    return tenant_id, anna


def facts(certificate: Certificate) -> Certificate:
    """All that does not depend on which ending it is, and on what the databases around it took up."""
    search = replace(certificate.search, bytes=0, files=0)
    return replace(certificate, certificate_id="", search=search, steps=(), counts=replace(certificate.counts, bytes=0))


@pytest.mark.parametrize(
    ("whole", "at", "stride"),
    [(True, "kill", 1), (False, "kill", 3), (True, "full", 3)],
    ids=["tenant is killed", "account is killed", "tenant has no space"],
)
def test_an_ending_is_interrupted_at_each_step(tmp_path: Path, whole: bool, at: str, stride: int) -> None:
    data, twin = tmp_path / "data", tmp_path / "twin"
    tenant_id, anna = prepared(data)
    shutil.copytree(data, twin)
    undisturbed = EndingTown(twin, anew=False)
    expected = undisturbed.end(tenant_id, None if whole else anna)
    undisturbed.close()

    command = [sys.executable, str(Path(__file__).with_name("ending_child.py")), str(data)]
    deaths = 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()) as child:
        for stop in range(1, STEPS_MAX, stride):
            if run(child, {"tenant": tenant_id, "account": 0 if whole else anna, "stop": stop, "at": at}):
                break
            deaths += 1
        else:
            pytest.fail("it never got through")
        assert child.stdin is not None
        child.stdin.close()
    assert deaths > 5
    town = EndingTown(data, anew=False)
    try:
        assert town.installation.control.endings.open() == []
        assert town.installation.queue.what_waits(tenant_id).entries == 0
        for path in (data / "keys" / "endings").iterdir():  # of orders that were not made
            os.utime(path, (0, 0))
        tidy(town.installation)
    finally:
        town.close()

    [certificate] = Certificates(data).all()
    assert facts(certificate) == facts(expected)
    left = [str(path.relative_to(data)) for path in data.rglob("*")]
    gone = f"tenants/{tenant_id}" if whole else f"tenants/{tenant_id}/accounts/{anna}"
    assert [path for path in left if path.startswith((gone, "erasing/", "run/endings/", "keys/endings/"))] == []
    assert [path for path in left if TOKEN in path] == []


def run(child: subprocess.Popen[bytes], request: dict[str, Any]) -> bool:
    """Whether it got through undisturbed."""
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(json.dumps(request).encode() + b"\n")
    child.stdin.flush()
    acknowledged, taken = False, 0
    while True:
        words = json.loads(child.stdout.readline())
        acknowledged |= "acknowledged" in words
        taken = words.get("steps", taken)
        if "ended" in words:
            assert words["ended"] in (0, -signal.SIGKILL, EXIT_FSYNC_FAILED)
            return acknowledged and 0 < taken < request["stop"]
