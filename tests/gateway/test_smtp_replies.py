"""Replies on the wire, and the table from our errors to them (RFC 5321 §4.2.1, RFC 3463)."""

from __future__ import annotations

import inspect

import pytest

from gateway.smtp.replies import LOCAL_ERROR, OK, Refused, SmtpReply, reply_for
from storage import errors


def test_lines() -> None:
    assert SmtpReply(250, "2.1.0", "OK").encode() == b"250 2.1.0 OK\r\n"
    assert SmtpReply(250, "", "a\nb\nc").encode() == b"250-a\r\n250-b\r\n250 c\r\n"
    assert SmtpReply(550, "5.7.1", "a\nb").encode() == b"550-5.7.1 a\r\n550 5.7.1 b\r\n"


KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.CleanmailError) and kind is not errors.CleanmailError
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_has_a_reply(kind: type[errors.CleanmailError]) -> None:
    reply = reply_for(kind(detail="tenant 7"))
    assert reply.status.split(".")[0] == str(reply.code)[0]
    assert "tenant 7" not in reply.text
    if kind not in {errors.LimitReached, errors.Conflict}:  # the same command may do later
        assert reply.temporary == kind.temporary


def test_the_unexpected_is_temporary_and_says_nothing() -> None:
    assert reply_for(KeyError("alice@example.test")) is LOCAL_ERROR
    assert reply_for(Refused(OK)) is OK
