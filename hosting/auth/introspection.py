"""Asks the configured OpenID provider what a token is worth (RFC 7662), over HTTPS.

The provider is of the operator's choice, so his address may be a private one; his certificate has to be valid for his
name all the same. Redirects are not followed, since they would carry token and secret elsewhere. An answer is one JSON
object of at most 64 KiB, not compressed, in the time that is configured for all of it. Connections are kept for what is
asked next. Neither token nor secret nor what the provider says reaches a log; what went wrong does.

Raises: Unavailable (no answer, or none that can be understood).
Standards: RFC 7662 §2, RFC 6749 §2.3.1 (the client's secret), RFC 7519 §4.1 (claims), RFC 9112.
"""

from __future__ import annotations

import json
import math
import socket
import ssl
import threading
import time
from base64 import b64encode
from typing import Any
from urllib.parse import quote_plus, urlsplit

import h11

from hosting.auth.oauth_settings import ClientSecret, OAuthSettings
from hosting.auth.signin import LOGIN_MAX
from hosting.auth.tokens import Claims, Silent
from storage.clock import Clock
from storage.errors import Unavailable

OCTETS = 64 * 1024  # of an answer
HEAD_OCTETS = 16 * 1024

_READ = 16 * 1024
_KEPT = 4  # connections that wait for the next question
_KEPT_FOR = 30.0  # seconds
_SKEW = 60  # seconds that clocks differ
_INFORMATIONAL = 3  # answers ahead of the answer


class Introspection:
    """A `hosting.auth.tokens.Provider`. Safe to use from many threads. `context` verifies certificates and names."""

    def __init__(self, settings: OAuthSettings, secret: ClientSecret, context: ssl.SSLContext, clock: Clock) -> None:
        self._settings = settings
        self._secret = secret
        self._context = context
        self._clock = clock
        parts = urlsplit(settings.introspection)
        self._host, self._port = parts.hostname or "", parts.port or 443
        self._authority = parts.netloc
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._lock = threading.Lock()
        self._kept: list[_Connection] = []

    def look_up(self, token: str) -> Claims | None:
        """What the provider says of it, if it is good for us."""
        deadline = time.monotonic() + self._settings.timeout
        try:
            status, body = self._ask(self._request(token), deadline)
        except TimeoutError:
            raise Silent(detail="OpenID provider: no answer in time") from None
        except ssl.SSLCertVerificationError:
            raise Silent(detail="OpenID provider: its certificate is not valid") from None
        except (OSError, UnicodeError):  # ssl.SSLError is an OSError; a host name may be none
            raise Silent(detail="OpenID provider: it cannot be reached") from None
        except h11.ProtocolError:
            raise Unavailable(detail="OpenID provider: what it answers is not HTTP") from None
        if status in (401, 403):
            self._secret.forget()
        if status != 200:
            raise Unavailable(detail=f"OpenID provider: it answers with status {status}")
        return self._judge(_object(body))

    def close(self) -> None:
        with self._lock:
            kept, self._kept = self._kept, []
        for connection in kept:
            connection.close()

    def _request(self, token: str) -> tuple[list[tuple[str, str]], bytes]:
        pair = f"{quote_plus(self._settings.client_id)}:{quote_plus(self._secret.read())}"
        body = f"token={quote_plus(token, errors='replace')}&token_type_hint=access_token".encode("ascii")
        headers = [
            ("Host", self._authority),
            ("Authorization", "Basic " + b64encode(pair.encode("ascii")).decode("ascii")),
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("Content-Length", str(len(body))),
            ("Accept", "application/json"),
            ("Accept-Encoding", "identity"),
            ("User-Agent", "Cleanmail"),
        ]
        return headers, body

    def _ask(self, request: tuple[list[tuple[str, str]], bytes], deadline: float) -> tuple[int, bytes]:
        kept = self._take()
        if kept is not None:
            try:
                return self._ask_over(kept, request, deadline)
            except (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError, _Closed):
                pass  # it was closed while it waited; to ask twice changes nothing
        return self._ask_over(_Connection(self._host, self._port, self._context, deadline), request, deadline)

    def _ask_over(
        self, connection: _Connection, request: tuple[list[tuple[str, str]], bytes], deadline: float
    ) -> tuple[int, bytes]:
        try:
            answer = connection.ask(self._target, *request, deadline)
        except BaseException:
            connection.close()
            raise
        self._give_back(connection)
        return answer

    def _take(self) -> _Connection | None:
        now = time.monotonic()
        with self._lock:
            while self._kept:
                connection = self._kept.pop()
                if now - connection.used < _KEPT_FOR:
                    return connection
                connection.close()
        return None

    def _give_back(self, connection: _Connection) -> None:
        if connection.may_go_on():
            with self._lock:
                if len(self._kept) < _KEPT:
                    self._kept.append(connection)
                    return
        connection.close()

    def _judge(self, said: dict[str, Any]) -> Claims | None:
        """Whether it is a token for us, and whose."""
        settings, now = self._settings, self._clock.now()
        if said.get("active") is not True or said.get("token_use", "access_token") not in ("access_token", "access"):
            return None
        until, since = said.get("exp"), said.get("nbf")
        if not _is_time(until) or not _is_time(since):
            return None
        if (until is not None and until <= now) or (since is not None and since > now + _SKEW):
            return None
        scopes, audience = said.get("scope"), said.get("aud")
        if not set(settings.scope.split()) <= set(scopes.split() if isinstance(scopes, str) else ()):
            return None
        if settings.audience and settings.audience not in (audience if isinstance(audience, list) else [audience]):
            return None
        if settings.issuer and said.get("iss") != settings.issuer:
            return None
        login = said.get(settings.login_claim)
        if not isinstance(login, str) or not login or len(login) > LOGIN_MAX:
            return None
        if settings.login_claim == "email" and said.get("email_verified", True) is not True:
            return None  # whoever may write an address into his profile is not whom it belongs to
        return Claims(login, until)


class _Closed(Exception):  # noqa: N818
    """The other side ended the connection before it answered."""


class _Connection:
    """One TLS connection; one question at a time."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext, deadline: float) -> None:
        plain = _connected(host, port, deadline)
        try:
            plain.settimeout(_left(deadline))
            self._socket = context.wrap_socket(plain, server_hostname=host)
        except BaseException:
            plain.close()
            raise
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_OCTETS)
        self.used = time.monotonic()

    def ask(self, target: str, headers: list[tuple[str, str]], body: bytes, deadline: float) -> tuple[int, bytes]:
        """Raises OSError, TimeoutError, _Closed, h11.ProtocolError, Unavailable (too large)."""
        protocol = self._h11
        request = h11.Request(method="POST", target=target, headers=headers)
        octets = protocol.send(request) or b""
        octets += protocol.send(h11.Data(data=body)) or b""
        octets += protocol.send(h11.EndOfMessage()) or b""
        self._socket.settimeout(_left(deadline))
        self._socket.sendall(octets)
        status, read, answer, ahead = 0, 0, bytearray(), 0
        while True:
            event = protocol.next_event()
            if event is h11.NEED_DATA:
                self._socket.settimeout(_left(deadline))
                data = self._socket.recv(_READ)
                if not data and not read:
                    raise _Closed
                read += len(data)
                if read > OCTETS + HEAD_OCTETS:
                    raise Unavailable(detail="OpenID provider: its answer is too large")
                protocol.receive_data(data)
            elif isinstance(event, h11.Response):
                status = event.status_code
                if status != 200:
                    return status, b""
                _check_encoding(event)
            elif isinstance(event, h11.Data):
                answer += event.data
                if len(answer) > OCTETS:
                    raise Unavailable(detail="OpenID provider: its answer is too large")
            elif isinstance(event, h11.EndOfMessage):
                return status, bytes(answer)
            elif isinstance(event, h11.InformationalResponse) and ahead < _INFORMATIONAL:
                ahead += 1
            else:
                raise h11.RemoteProtocolError("the connection was ended")

    def may_go_on(self) -> bool:
        """Whether another question may be asked."""
        if self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
            return False
        self._h11.start_next_cycle()
        self.used = time.monotonic()
        return True

    def close(self) -> None:
        self._socket.close()


def _connected(host: str, port: int, deadline: float) -> socket.socket:
    """To the first of its addresses that answers."""
    failed: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        plain = socket.socket(family, kind, protocol)
        try:
            plain.settimeout(_left(deadline))
            plain.connect(address)
        except OSError as error:
            plain.close()
            failed = error
        else:
            return plain
    raise failed or OSError("no address")


def trusting(authority: str) -> ssl.SSLContext:
    """A context that verifies; `authority`: a PEM file, or empty for whom this machine trusts. Raises Unavailable."""
    try:
        context = ssl.create_default_context(cafile=authority or None)
    except (OSError, ssl.SSLError):
        raise Unavailable("The file of [oauth] certificate_authority cannot be read.") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _check_encoding(response: h11.Response) -> None:
    """A few octets could become any number of them."""
    for name, value in response.headers:
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise Unavailable(detail="OpenID provider: its answer is compressed")


def _object(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise Unavailable(detail="OpenID provider: its answer is no JSON object")
    return said


def _is_time(value: object) -> bool:
    if value is None:
        return True
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
