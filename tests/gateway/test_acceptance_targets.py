"""Which recipients are taken, and one copy per mailbox."""

from __future__ import annotations

import pytest

from gateway.acceptance.targets import NO_LONGER, NO_SUCH_MAILBOX, NOT_NOW, refusal, targets
from gateway.smtp.address import ForwardPath
from storage.directory.resolve import LocalMailbox, Outcome, Resolution
from storage.directory.rows import State
from storage.values import AccountId, EmailAddress, TenantId


def path(text: str) -> ForwardPath:
    return ForwardPath(EmailAddress.parse(text))


def mailbox(account: int, state: State = State.ACTIVE, tenant: int = 1) -> LocalMailbox:
    return LocalMailbox(TenantId(tenant), AccountId(account), state)


OUTSIDE = EmailAddress.parse("x@elsewhere.example")


@pytest.mark.parametrize(
    ("resolution", "reply"),
    [
        (Resolution(Outcome.ELSEWHERE), None),
        (Resolution(Outcome.LOCAL, mailboxes=(mailbox(1),)), None),
        (Resolution(Outcome.LOCAL, external=(OUTSIDE,)), None),
        (Resolution(Outcome.LOCAL, mailboxes=(mailbox(1, State.SUSPENDED), mailbox(2))), None),
        (Resolution(Outcome.LOCAL, mailboxes=(mailbox(1, State.SUSPENDED),)), NOT_NOW),
        (Resolution(Outcome.LOCAL, mailboxes=(mailbox(1, State.ENDED),)), NO_LONGER),
        (Resolution(Outcome.UNKNOWN), NO_SUCH_MAILBOX),
        (Resolution(Outcome.SUSPENDED), NOT_NOW),
        (Resolution(Outcome.ENDED), NO_LONGER),
    ],
)
def test_refusal(resolution: Resolution, reply: object) -> None:
    assert refusal(resolution) == reply


def test_one_copy_each() -> None:
    first, alias, far, again = map(path, ("a@x.example", "all@x.example", "Far@Y.example", "far@y.example"))
    sorted_out = targets(
        [
            (first, Resolution(Outcome.LOCAL, mailboxes=(mailbox(1),))),
            (
                alias,
                Resolution(
                    Outcome.LOCAL,
                    mailboxes=(mailbox(1), mailbox(2), mailbox(3, State.SUSPENDED), mailbox(1, tenant=2)),
                    external=(OUTSIDE,),
                ),
            ),
            (far, Resolution(Outcome.ELSEWHERE)),
            (again, Resolution(Outcome.ELSEWHERE)),
        ]
    )
    assert [(int(t.tenant_id), int(t.account_id), t.path) for t in sorted_out.mailboxes] == [
        (1, 1, first),
        (1, 2, alias),
        (2, 1, alias),
    ]
    assert [(str(t.address), t.path) for t in sorted_out.remote] == [
        ("x@elsewhere.example", alias),
        ("Far@y.example", far),
    ]
