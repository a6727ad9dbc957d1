"""What frames of the auth socket mean to both of its ends: errors, principals, and fields that must be there."""

from __future__ import annotations

import base64
import logging
from typing import Any

from hosting.auth.frames import Fields
from hosting.auth.signin import Principal
from storage import errors
from storage.errors import CleanmailError, InvalidInput, Unavailable
from storage.values import AccountId, TenantId

VERSION = 1

_log = logging.getLogger("cleanmail.auth")


def error_reply(error: BaseException) -> Fields:
    """What a caller is told; of anything unexpected only that it failed for now."""
    if not isinstance(error, CleanmailError):
        _log.error("request failed: %s", type(error).__name__)
        error = Unavailable()
    return {"error": type(error).__name__, "public": error.public, "detail": error.detail}


def error_of(reply: Fields) -> CleanmailError:
    """The error that an `error_reply` stands for."""
    kind = getattr(errors, str(reply.get("error")), None)
    if not (isinstance(kind, type) and issubclass(kind, CleanmailError)):
        kind = Unavailable
    return kind(str(reply.get("public") or "") or None, detail=str(reply.get("detail") or ""))


def principal_of(fields: Any) -> Principal:
    """Raises InvalidInput."""
    if not isinstance(fields, dict):
        raise InvalidInput("A principal is missing.")
    return Principal(
        TenantId(number(fields, "tenant_id")),
        AccountId(number(fields, "account_id")),
        text(fields, "login"),
        text(fields, "credential"),
        number(fields, "credential_version"),
        number(fields, "state_version"),
        number(fields, "quota_bytes"),
        number(fields, "quota_messages"),
        number(fields, "read_only_from"),
        fields.get("full") is True,
        number(fields, "until"),
    )


def text(fields: Fields, name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise InvalidInput(f"The field {name} is missing.")
    return value


def number(fields: Fields, name: str) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise InvalidInput(f"The field {name} is missing.")
    return value


def base64_of(octets: bytes) -> str:
    return base64.b64encode(octets).decode("ascii")


def octets(fields: Fields, name: str) -> bytes:
    try:
        return base64.b64decode(text(fields, name), validate=True)
    except ValueError:
        raise InvalidInput(f"The field {name} is no base64.") from None
