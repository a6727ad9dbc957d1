"""The responses of the SASL mechanisms PLAIN and LOGIN as octets, pure.

Raises: Refused (not what the mechanism says), AuthenticationFailed (acting as somebody else, text that is no UTF-8).
Standards: RFC 4616 (PLAIN), RFC 4954 §4 (initial response), draft-murchison-sasl-login (LOGIN).
"""

from __future__ import annotations

from base64 import b64decode

from gateway.smtp.replies import Refused, SmtpReply
from storage.errors import AuthenticationFailed

_NOT_BASE64 = SmtpReply(501, "5.5.2", "The initial response is not base64")
_NOT_PLAIN = SmtpReply(501, "5.5.2", "The response is not that of PLAIN")


def decode_initial_response(word: str) -> bytes:
    """The octets of an initial response; a lone "=" is an empty one."""
    if word == "=":
        return b""
    try:
        return b64decode(word.encode(), validate=True)
    except ValueError:
        raise Refused(_NOT_BASE64) from None


def plain_credentials(message: bytes) -> tuple[bytes, bytes]:
    """(login, password) of: authorization identity, NUL, authentication identity, NUL, password."""
    fields = message.split(b"\0")
    if len(fields) != 3:
        raise Refused(_NOT_PLAIN)
    authorization, login, password = fields
    if authorization not in {b"", login}:
        raise AuthenticationFailed("Acting as somebody else is not possible.")
    return login, password


def as_text(login: bytes, password: bytes) -> tuple[str, str]:
    """Both as text, neither empty."""
    try:
        name, secret = login.decode(), password.decode()
    except UnicodeDecodeError:
        raise AuthenticationFailed from None
    if not name or not secret:
        raise AuthenticationFailed
    return name, secret
