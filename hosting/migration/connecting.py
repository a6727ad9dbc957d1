"""Connects to an IMAP server and signs in, and what becomes of everything that may go wrong on the way.

No password is sent over a connection that is not encrypted, but to loopback. What the server said is not shown: it is a
stranger's text.

Raises: ServerLost (connect again), AuthenticationFailed, InvalidInput (name, certificate).
Standards: RFC 9051 §6.2, RFC 4959, RFC 5530 (response codes), RFC 7628 (OAUTHBEARER).
"""

from __future__ import annotations

import imaplib
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from hosting.migration.answers import Refused
from hosting.migration.source import Login, Source
from hosting.migration.wire import BoundedClient, ServerLost
from storage.errors import AuthenticationFailed, InvalidInput

_CODE = re.compile(r"\[([A-Z]+)")
_PERMANENT = {"AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED", "EXPIRED", "PRIVACYREQUIRED", "CONTACTADMIN", "ALERT"}
_TEMPORARY = {"UNAVAILABLE", "INUSE", "LIMIT", "OVERQUOTA", "SERVERBUG"}
_NONSENSE = "It sends what is no IMAP."


def connect(source: Source) -> BoundedClient:
    """Encrypted; to loopback it need not be."""
    try:
        client = BoundedClient(source)
    except ssl.SSLCertVerificationError as error:
        raise InvalidInput(
            f"The certificate of {source} does not verify ({error.verify_message}); with --ca FILE its authority's is"
            " trusted."
        ) from None
    except socket.gaierror as error:
        if error.errno == socket.EAI_NONAME:
            raise InvalidInput(f"There is no server named {source.host}.") from None
        raise
    if source.tls:
        return client
    try:
        if client.has_capability("STARTTLS"):
            client.wire.starttls(source.context())
            client._starttls_done = True
        elif not source.is_loopback:
            raise InvalidInput("The server does not encrypt connections; no password is sent to it.")
    except ssl.SSLCertVerificationError as error:
        client.wire.shutdown()
        raise InvalidInput(f"The certificate of {source} does not verify ({error.verify_message}).") from None
    except BaseException:
        with suppress(OSError):
            client.wire.shutdown()
        raise
    return client


def sign_in(client: BoundedClient, source: Source, login: Login) -> None:
    """One attempt and no other, whatever the answer."""
    secret = login.secret()
    try:
        if login.is_token:
            if client.has_capability("AUTH=OAUTHBEARER"):
                client.oauthbearer_login(login.user, secret)
            else:
                client.oauth2_login(login.user, secret)
        elif login.master:
            client.plain_login(login.master, secret, login.user)
        elif client.has_capability("AUTH=PLAIN") or not (login.user.isascii() and secret.isascii()):
            client.plain_login(login.user, secret)
        else:
            client.login(login.user, secret)
    except imaplib.IMAP4.abort:
        raise
    except imaplib.IMAP4.error as error:
        if isinstance(error.__context__, imaplib.IMAP4.abort):  # IMAPClient makes one of both
            raise error.__context__ from None
        code = next((code for code in _CODE.findall(str(error)) if code in _PERMANENT | _TEMPORARY), "")
        if code in _TEMPORARY:
            raise ServerLost("It signs nobody in for the moment.") from None
        raise AuthenticationFailed(f"{source} does not sign this user in; nothing more was tried.") from None


@contextmanager
def guarded() -> Iterator[None]:
    """Whatever goes wrong on the way is ServerLost or Refused; what the server said is not shown."""
    try:
        yield
    except (ServerLost, Refused):
        raise
    except imaplib.IMAP4.abort:
        raise ServerLost("It ended the connection.") from None
    except imaplib.IMAP4.error:
        raise ServerLost("It refused a command that every server knows.") from None
    except TimeoutError:
        raise ServerLost("It does not answer.") from None
    except OSError:
        raise ServerLost("The connection failed.") from None
    except (ValueError, TypeError, LookupError, AssertionError, AttributeError, RecursionError):
        raise ServerLost(_NONSENSE) from None
