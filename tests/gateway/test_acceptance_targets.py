"""Which recipients are taken, and one copy per mailbox, server and address elsewhere."""

from __future__ import annotations

import pytest

from gateway.acceptance.targets import NO_LONGER, NO_SUCH_MAILBOX, NOT_NOW, Suspended, refusal, targets
from gateway.smtp.address import ForwardPath
from storage.directory.resolve import LocalMailbox, Outcome, Resolution, Route, RoutedAddress
from storage.directory.rows import State
from storage.values import AccountId, Domain, EmailAddress, TenantId


def path(text: str) -> ForwardPath:
    return ForwardPath(EmailAddress.parse(text))


def mailbox(account: int, state: State = State.ACTIVE, tenant: int = 1) -> LocalMailbox:
    return LocalMailbox(TenantId(tenant), AccountId(account), state)


OUTSIDE = EmailAddress.parse("x@elsewhere.example")
BACK = EmailAddress.parse("back@elsewhere.example")
ROUTED = RoutedAddress(EmailAddress.parse("r@routed.example"), Domain.parse("routed.example"), TenantId(3))


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
        (Resolution(Outcome.LOCAL, routed=(ROUTED,)), None),
        (Resolution(Outcome.LOCAL), NO_SUCH_MAILBOX),
    ],
)
def test_refusal(resolution: Resolution, reply: object) -> None:
    assert refusal(resolution) == reply


@pytest.mark.parametrize(
    ("resolution", "reply"),
    [
        (Resolution(Outcome.LOCAL, mailboxes=(mailbox(1, State.SUSPENDED),)), None),
        (Resolution(Outcome.SUSPENDED, mailboxes=(mailbox(1, State.SUSPENDED),)), None),
        (Resolution(Outcome.SUSPENDED, external=(OUTSIDE,)), None),
        (Resolution(Outcome.LOCAL, mailboxes=(mailbox(1, State.ENDED),)), NO_LONGER),
        (Resolution(Outcome.ENDED), NO_LONGER),
        (Resolution(Outcome.UNKNOWN), NO_SUCH_MAILBOX),
    ],
)
def test_where_suspended_accounts_take_mail(resolution: Resolution, reply: object) -> None:
    assert refusal(resolution, Suspended.TAKE) == reply
    assert len(targets([(path("a@x.example"), resolution)], Suspended.TAKE).mailboxes) == sum(
        each.state is not State.ENDED for each in resolution.mailboxes
    )


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


def test_a_routed_address_goes_once_to_its_tenants_server() -> None:
    first, again = map(path, ("r@routed.example", "alias@x.example"))
    found = targets([(each, Resolution(Outcome.LOCAL, TenantId(1), routed=(ROUTED,))) for each in (first, again)])
    assert [(int(t.tenant_id), t.domain.name, str(t.address), t.path) for t in found.routed] == [
        (3, "routed.example", "r@routed.example", first)
    ]


def test_what_an_alias_forwards_is_its_tenants() -> None:
    alias, direct = path("alias@x.example"), path("far@y.example")
    found = targets(
        [
            (alias, Resolution(Outcome.LOCAL, TenantId(1), Route.ALIAS, external=(OUTSIDE,))),
            (direct, Resolution(Outcome.ELSEWHERE)),
            (
                path("SRS0=x@x.example"),
                Resolution(Outcome.LOCAL, TenantId(1), Route.RETURN, external=(BACK,)),
            ),
        ]
    )
    assert [(t.tenant_id, t.forwarded, t.returned) for t in found.remote] == [
        (1, True, False),
        (None, False, False),
        (1, True, True),
    ]
