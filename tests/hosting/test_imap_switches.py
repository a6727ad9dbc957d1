"""What is offered only where the operator turned it on: LITERAL-, UIDONLY, UTF8=ACCEPT."""

from __future__ import annotations

from pathlib import Path

from imap_play import CoreClient
from imap_town import PASSWORD, new_mail_town

from hosting.imap.limits import Limits


def test_literal_minus(tmp_path: Path) -> None:
    """RFC 7888 §5: LITERAL- is told in the place of LITERAL+."""
    with new_mail_town(tmp_path, Limits(literal_minus=True)) as town:
        one = CoreClient(town.services)
        told = one.receive(0)[0].split()
        assert "LITERAL-" in told and "LITERAL+" not in told
        one.send(f"a LOGIN {{18+}}\r\nalice@example.test {{{len(PASSWORD)}+}}\r\n{PASSWORD}\r\n".encode())
        assert one.receive(0)[-1].startswith("a OK ")
