"""What the documents say is what the program does: the configuration reference, and the files that the README names."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


def test_the_configuration_reference_is_what_the_settings_are() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "configuration_reference.py"), "--check"]
    assert subprocess.run(command, check=False).returncode == 0, "run scripts/configuration_reference.py"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8"))
    assert [link for link in links if "://" not in link and not (document.parent / link).exists()] == []


def test_the_demo_mail_is_whole() -> None:
    from email import message_from_bytes, policy

    mail = sorted((ROOT / "scripts" / "demo" / "mail").rglob("*.eml"))
    assert len(mail) >= 10
    for path in mail:
        message = message_from_bytes(path.read_bytes(), policy=policy.default)
        assert not message.defects and message["From"] and message["Date"] and message["Message-ID"], path.name
