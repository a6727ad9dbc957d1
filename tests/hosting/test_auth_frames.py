"""Frames of the auth socket, and what each role may ask."""

from __future__ import annotations

import struct

import pytest

from hosting.auth.frames import FRAME_MAX, FrameReader, encode
from hosting.auth.grants import GRANTS, Role, check
from hosting.auth.messages import error_of, error_reply
from storage.errors import AuthenticationFailed, InvalidInput, NotPermitted, Throttled, Unavailable


def test_frames_arrive_whole_however_they_are_cut() -> None:
    sent = [{"op": "hello"}, {"op": "verify", "password": "pä\udcff"}, {}]
    stream = b"".join(encode(fields) for fields in sent)
    for size in (1, 3, 7, len(stream)):
        reader, got = FrameReader(), []
        for start in range(0, len(stream), size):
            reader.feed(stream[start : start + size])
            while (fields := reader.next()) is not None:
                got.append(fields)
        assert got == sent
        assert not reader.partial


@pytest.mark.parametrize(
    "octets",
    [
        struct.pack(">I", FRAME_MAX + 1),
        b"\xff\xff\xff\xff",
        struct.pack(">I", 2) + b"[]",
        struct.pack(">I", 1) + b"{",
        struct.pack(">I", 2) + b"\xff\xfe",
        struct.pack(">I", 30000) + b"[" * 30000,
    ],
)
def test_what_is_no_frame(octets: bytes) -> None:
    reader = FrameReader()
    reader.feed(octets)
    with pytest.raises(InvalidInput):
        reader.next()


def test_overlong_requests_are_not_sent() -> None:
    with pytest.raises(InvalidInput):
        encode({"password": "x" * FRAME_MAX})


@pytest.mark.parametrize(
    "error", [AuthenticationFailed(), Throttled(), NotPermitted("Not you."), Unavailable(detail="x")]
)
def test_errors_cross_the_socket(error: NotPermitted) -> None:
    back = error_of(error_reply(error))
    assert (type(back), back.public, back.detail) == (type(error), error.public, error.detail)


@pytest.mark.parametrize(
    "reply", [{}, {"error": "Any"}, {"error": "annotations"}, {"error": "ClassVar"}, {"error": None}]
)
def test_unknown_errors_are_temporary(reply: dict[str, str]) -> None:
    assert isinstance(error_of(reply), Unavailable)


def test_unexpected_errors_show_nothing() -> None:
    reply = error_reply(RuntimeError("secret path"))
    assert "secret" not in str(reply)
    assert reply["error"] == "Unavailable"


def allowed(role: Role, operation: str, service: str | None = None) -> bool:
    try:
        check(role, operation, service)
    except NotPermitted:
        return False
    return True


@pytest.mark.parametrize(
    ("role", "tenants", "sign_in", "provision", "services"),
    [
        (Role.IMAP, False, True, False, {"logs"}),
        (Role.SMTP, True, True, False, {"control", "directory", "queue", "logs"}),
        (Role.QUEUE, True, False, False, {"control", "directory", "queue", "logs"}),
        (Role.WEB, True, True, False, {"control", "directory", "queue", "logs"}),
        (Role.JOBS, True, False, True, {"control", "directory", "queue", "logs", "audit"}),
        (Role.ADMIN, True, False, True, {"control", "directory", "queue", "logs", "audit"}),
    ],
)
def test_each_role_gets_what_the_design_says(
    role: Role, tenants: bool, sign_in: bool, provision: bool, services: set[str]
) -> None:
    assert allowed(role, "account_key")
    assert allowed(role, "still_valid")
    assert allowed(role, "tenant_key") is tenants
    assert allowed(role, "verify") is sign_in
    for operation in ("create_tenant_key", "create_account_key", "destroy_account_key"):
        assert allowed(role, operation) is provision
    for service in ("control", "directory", "queue", "logs", "audit", "master", "service", None):
        assert allowed(role, "service_key", service) is (service in services)
    assert set(GRANTS) == set(Role)
