"""Paths and parameters of MAIL and RCPT (RFC 5321 §4.1.2, RFC 1870, 3461, 6531)."""

from __future__ import annotations

import pytest

from gateway.smtp.address import ForwardPath, ReversePath, read_mail, read_rcpt
from gateway.smtp.replies import Refused
from storage.values import Domain, EmailAddress

HERE = Domain("here.example")


def address(text: str) -> EmailAddress:
    return EmailAddress.parse(text)


@pytest.mark.parametrize(
    ("argument", "path"),
    [
        ("FROM:<a@b.example>", ReversePath(address("a@b.example"))),
        ("from: <A.b+c@B.example>", ReversePath(address("A.b+c@b.example"))),  # Outlook's space
        ("FROM:<>", ReversePath(None)),
        ("FROM:<> BODY=8BITMIME SIZE=10", ReversePath(None, 10, "8BITMIME")),
        ("FROM:<@x.example,@y.example:a@b.example>", ReversePath(address("a@b.example"))),  # source route
        ('FROM:<"a b"@c.example>', ReversePath(address('"a b"@c.example'))),
        ('FROM:<"a>@\\"b"@c.example>', ReversePath(address('"a>@\\"b"@c.example'))),
        ("FROM:<a@b.example> size=5 body=7bit", ReversePath(address("a@b.example"), 5)),
        ("FROM:<jö@bücher.example> SMTPUTF8", ReversePath(address("jö@bücher.example"), smtputf8=True)),
        ("FROM:<a@b.example> RET=HDRS ENVID=x+2B1", ReversePath(address("a@b.example"), ret="HDRS", envid="x+2B1")),
        ("FROM:<a@b.example> AUTH=<>", ReversePath(address("a@b.example"))),
    ],
)
def test_mail(argument: str, path: ReversePath) -> None:
    assert read_mail(argument) == path


@pytest.mark.parametrize(
    ("argument", "code", "status"),
    [
        ("", 501, "5.1.7"),
        ("<a@b.example>", 501, "5.1.7"),
        ("FROM:a@b.example", 501, "5.1.7"),  # aiosmtpd issue 563
        ("FROM:<a>", 501, "5.1.7"),
        ("FROM:<a@b>", 501, "5.1.7"),
        ("FROM:<a@[127.0.0.1]>", 501, "5.1.7"),
        ("FROM:<a@b.example", 501, "5.1.7"),
        ("FROM:<a@b.example>x", 501, "5.1.7"),
        ("FROM:<a..b@c.example>", 501, "5.1.7"),
        ("FROM:<a b@c.example>", 501, "5.1.7"),
        ("FROM:<" + "a" * 65 + "@b.example>", 501, "5.1.7"),
        ("FROM:<jö@b.example>", 553, "5.6.7"),
        ("FROM:<a@b.example> SIZE=", 501, "5.5.4"),
        ("FROM:<a@b.example> SIZE=x", 501, "5.5.4"),
        ("FROM:<a@b.example> SIZE=1 SIZE=2", 501, "5.5.4"),
        ("FROM:<a@b.example> SIZE=" + "9" * 21, 501, "5.5.4"),
        ("FROM:<a@b.example> SMTPUTF8=1", 501, "5.5.4"),
        ("FROM:<a@b.example> BODY=BINARYMIME", 501, "5.5.4"),
        ("FROM:<a@b.example> RET=ALL", 501, "5.5.4"),
        ("FROM:<a@b.example> ENVID=" + "x" * 101, 501, "5.5.4"),
        ("FROM:<a@b.example> FUTURE=1", 555, "5.5.4"),
    ],
)
def test_mail_refused(argument: str, code: int, status: str) -> None:
    with pytest.raises(Refused) as refused:
        read_mail(argument)
    assert (refused.value.reply.code, refused.value.reply.status) == (code, status)
    assert refused.value.reply.text.isascii()  # nothing of the argument is echoed


@pytest.mark.parametrize(
    ("argument", "path"),
    [
        ("TO:<a@b.example>", ForwardPath(address("a@b.example"))),
        ("to: <a@b.example>", ForwardPath(address("a@b.example"))),
        ("TO:<Postmaster>", ForwardPath(address("postmaster@here.example"))),
        ("TO:<a@b.example> NOTIFY=never", ForwardPath(address("a@b.example"), ("NEVER",))),
        (
            "TO:<a@b.example> NOTIFY=DELAY,SUCCESS ORCPT=rfc822;x+40y",
            ForwardPath(address("a@b.example"), ("SUCCESS", "DELAY"), "rfc822;x+40y"),
        ),
    ],
)
def test_rcpt(argument: str, path: ForwardPath) -> None:
    assert read_rcpt(argument, smtputf8=False, postmaster=HERE) == path


@pytest.mark.parametrize(
    ("argument", "code"),
    [
        ("TO:<>", 501),
        ("TO:<a>", 501),
        ("TO:a@b.example", 501),
        ("TO:<jö@b.example>", 553),
        ("TO:<a@b.example> NOTIFY=NEVER,DELAY", 501),
        ("TO:<a@b.example> NOTIFY=", 501),
        ("TO:<a@b.example> NOTIFY=SOON", 501),
        ("TO:<a@b.example> ORCPT=x", 501),
        ("TO:<a@b.example> ORCPT=rfc822;a=b", 501),
        ("TO:<a@b.example> SIZE=1", 555),
    ],
)
def test_rcpt_refused(argument: str, code: int) -> None:
    with pytest.raises(Refused) as refused:
        read_rcpt(argument, smtputf8=False, postmaster=HERE)
    assert refused.value.reply.code == code


def test_no_parameters_after_helo() -> None:
    with pytest.raises(Refused):
        read_mail("FROM:<a@b.example> SIZE=1", extended=False)
    assert read_mail("FROM:<a@b.example>", extended=False).address == address("a@b.example")
