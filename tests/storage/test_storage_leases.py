"""Leases of tenants, in one process and between processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from storage.errors import Unavailable
from storage.leases import TenantLease
from storage.values import TenantId

TENANT = TenantId(7)


def test_users_share_it_and_the_end_waits_for_all(tmp_path: Path) -> None:
    here, elsewhere = TenantLease(tmp_path, TENANT), TenantLease(tmp_path, TENANT)
    here.acquire()
    here.acquire()
    with elsewhere.shared():
        assert elsewhere.held
    here.release()
    with pytest.raises(Unavailable), elsewhere.exclusive(0.05):
        pass
    here.release()
    with elsewhere.exclusive(0):
        for timeout in (0.0, 0.05):
            with pytest.raises(Unavailable):
                here.acquire(timeout)
        assert not here.held
    with here.shared():
        pass
    with pytest.raises(RuntimeError):
        here.release()


def test_tenants_have_leases_of_their_own(tmp_path: Path) -> None:
    with TenantLease(tmp_path, TENANT).exclusive(0), TenantLease(tmp_path, TenantId(8)).shared():
        pass


def test_it_ends_with_its_process(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from storage.leases import TenantLease
lease = TenantLease(Path({str(tmp_path)!r}), 7)
lease.acquire()
print("held", flush=True)
sys.stdin.read()
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as child:
        assert child.stdout is not None and child.stdout.readline() == "held\n"
        lease = TenantLease(tmp_path, TENANT)
        with pytest.raises(Unavailable), lease.exclusive(0):
            pass
        child.kill()
        child.wait()
        with lease.exclusive(0):
            pass
