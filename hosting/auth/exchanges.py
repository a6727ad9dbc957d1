"""SCRAM exchanges in the auth role: it knows the keys, the protocols' processes pass the messages on.

Nothing is kept between the two messages of an exchange: the process that serves the client gets what has to be known
again as a box that only this process can open, and gives it back with the client's answer. So exchanges that are begun
and never ended cost nothing here, whatever their number; a box is good for a minute.

A name that nobody has, and an account without keys, get what everybody gets: salt and rounds that stay the same, as
many comparisons, answers and refusals no earlier than all others. The throttle is asked when an exchange begins and
counts each proof. An exchange that is not ended leaves no event and was no attempt: it taught its client what everybody
may ask.

Raises: InvalidInput (no SCRAM), AuthenticationFailed, Throttled, Suspended, NotIncluded, Unavailable.
Standards: RFC 5802, RFC 7677.
"""

from __future__ import annotations

import json
import os
import secrets
from base64 import b64decode, b64encode
from concurrent.futures import Future
from dataclasses import dataclass

from hosting.auth import scram
from hosting.auth.floor import Floor
from hosting.auth.signin import Principal, ScramChallenge, ScramOpening, SignedInByScram, SignIn, SignInProtocol
from hosting.auth.verifier import APP, PASSWORD, Case, Owner, Verifier
from storage.directory.app_passwords import PER_ACCOUNT
from storage.directory.scram import MAIN, WAYS, ScramCredential, ScramKey, salt_of
from storage.errors import AuthenticationFailed, Corrupt, NotFound
from storage.keys.sealing import new_secret, open_sealed, seal

SECONDS = 60.0  # for the client's second message
_NONCE_SIZE = 24
_COMPARED = PER_ACCOUNT * WAYS + 1  # keys, for everybody
NOT_BEFORE = 0.05  # seconds in which every answer is found, also where a directory has to be opened for it first
_CONTEXT = b"scram exchange"


@dataclass(frozen=True, slots=True)
class _Exchange:
    """What its second message is judged by."""

    sign_in: SignIn
    begun: float  # monotonic
    nonce: bytes
    channel: bytes  # what the client's c= must say
    bare: bytes
    challenge: bytes


class Exchanges:
    """Safe to use from many threads. Blocks for some milliseconds at most; the answers come when it is time."""

    def __init__(self, verifier: Verifier, *, not_before: float = NOT_BEFORE) -> None:
        self._verifier = verifier
        self._floor = Floor(not_before)
        self._key = new_secret()
        self._nobodys = [ScramKey(0, os.urandom(32), os.urandom(32))] * _COMPARED

    def begin(self, opening: ScramOpening) -> Future[ScramChallenge]:
        """The answer to the client's first message."""
        return self._floor.answer(lambda: self._begin(opening))

    def finish(self, box: bytes, message: bytes) -> Future[SignedInByScram]:
        """Who it is that answered the challenge of `box`, and what proves to him that this server knows him."""
        return self._floor.answer(lambda: self._finish(box, message), only_refusals=True)

    def _begin(self, opening: ScramOpening) -> ScramChallenge:
        first = scram.read_first(opening.message)
        sign_in = SignIn(opening.protocol, first.login, "", opening.address, opening.session)
        verifier, case = self._verifier, None
        try:
            scram.check_binding(first, plus=opening.plus, offered=bool(opening.channel))
            scram.check_acting(first)
            case = verifier.case(sign_in)
            verifier.throttle.check(case.login_hash, opening.address)
            salt = None
            if case.owner is not None:
                salt = case.owner.tenant.scram.salt(case.owner.account.account_id)
        except Exception as error:  # noqa: BLE001 - whatever it is, it ended an attempt
            raise verifier.refused(sign_in, case, error) from None
        nonce = first.nonce + b64encode(secrets.token_bytes(_NONCE_SIZE))
        challenge = scram.challenge(nonce, salt or salt_of(case.login_hash), verifier.scram_rounds)
        channel = first.header + (opening.channel if opening.plus else b"")
        exchange = _Exchange(sign_in, self._verifier.clock.monotonic(), nonce, channel, first.bare, challenge)
        box = seal(self._key, _pack(exchange), _CONTEXT)
        return ScramChallenge(opening.protocol, challenge, box)

    def _finish(self, box: bytes, message: bytes) -> SignedInByScram:
        try:
            exchange = _unpack(open_sealed(self._key, box, _CONTEXT))
        except Corrupt:  # begun with an auth role that was replaced
            raise AuthenticationFailed("The exchange is not known any more; begin it anew.") from None
        if self._verifier.clock.monotonic() - exchange.begun > SECONDS:
            raise AuthenticationFailed("The exchange took too long; begin it anew.")
        final = scram.read_final(message)
        case = None
        try:
            case = self._verifier.case(exchange.sign_in)
            found = self._compare(case, exchange, final)
            principal = self._accept(case, found)
        except Exception as error:  # noqa: BLE001 - whatever it is, it ended an attempt
            raise self._verifier.refused(exchange.sign_in, case, error) from None
        said = scram.auth_message(exchange.bare, exchange.challenge, final)
        return SignedInByScram(principal, scram.confirmation(found.key, said))

    def _compare(self, case: Case, exchange: _Exchange, final: scram.Final) -> ScramCredential:
        credentials = self._credentials(case.owner)
        keys = [each.key for each in credentials] + self._nobodys[len(credentials) :]
        attempt = self._verifier.throttle.admit(case.login_hash, case.sign_in.address)
        try:
            said = scram.auth_message(exchange.bare, exchange.challenge, final)
            number = scram.find(keys, said, final.proof)
            same = final.nonce == exchange.nonce and final.channel == exchange.channel
        except BaseException:
            attempt.abandoned()
            raise
        if number is None or number >= len(credentials) or not same:
            attempt.failed()
            raise AuthenticationFailed
        attempt.succeeded()
        return credentials[number]

    def _credentials(self, owner: Owner | None) -> list[ScramCredential]:
        if owner is None:
            return []
        return owner.tenant.scram.credentials(owner.account.account_id, self._verifier.scram_rounds)

    def _accept(self, case: Case, credential: ScramCredential) -> Principal:
        owner = case.owner
        assert owner is not None
        if credential.app_password_id == MAIN:
            return self._verifier.accept(case, owner, PASSWORD, owner.account.credential_version)
        try:
            row = owner.tenant.app_passwords.show(credential.app_password_id)
        except NotFound:
            raise AuthenticationFailed from None
        if row.revoked is not None or not row.allows(case.sign_in.protocol):
            raise AuthenticationFailed
        return self._verifier.accept(case, owner, f"{APP}{row.app_password_id}", row.version)


def _pack(exchange: _Exchange) -> bytes:
    sign_in = exchange.sign_in
    octets = (exchange.nonce, exchange.channel, exchange.bare, exchange.challenge)
    fields = [sign_in.protocol, sign_in.login, sign_in.address, sign_in.session, exchange.begun]
    return json.dumps([*fields, *(b64encode(each).decode("ascii") for each in octets)]).encode("ascii")


def _unpack(packed: bytes) -> _Exchange:
    protocol, login, address, session, begun, *octets = json.loads(packed)
    known: SignInProtocol = protocol
    nonce, channel, bare, challenge = (b64decode(each) for each in octets)
    return _Exchange(SignIn(known, login, "", address, session), begun, nonce, channel, bare, challenge)
