"""Answers the requests of the auth socket: sign-ins, keys leased for a stated purpose, signatures, ends of keys.

Knows no socket and no event loop. A caller gets only what `hosting.auth.grants` gives its role. Of a tenant or an
account that ends, or has ended, nobody gets a key but who carries out the ending or stops it. Every lease and every
making or destroying of a key is logged, with ids only; so is every process that is ended because it holds keys
(`hosting.auth.holders`).

Operations: verify, scram_begin, scram_finish, verify_token, still_valid, service_key, auditor_key, tenant_key,
account_key, create_tenant_key, create_account_key, destroy_account_key, destroy_tenant_key, rotate_keys, sign,
verifying_key, forget, ready, present, holders, recycle, kill, retire; for staff: staff_sign_in; for reviewers:
reviews, view_review, header_key, decide_review; and those of `hosting.auth.mailbox_rights`.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from typing import Any, get_args

from hosting.access.actions import Action
from hosting.auth import grants
from hosting.auth.exchanges import Exchanges
from hosting.auth.frames import Fields
from hosting.auth.holders import Holders
from hosting.auth.mailbox_rights import RightsDirectory, RightsRequests
from hosting.auth.messages import base64_of, error_reply, number, octets, principal_of, text
from hosting.auth.persons import check_auditor, person_of
from hosting.auth.signin import PROTOCOLS, Principal, ScramOpening, SignIn, SignInProtocol, TokenSignIn
from hosting.auth.staff import SignedIn, StaffEntrance
from hosting.auth.tokens import NO_TOKENS, TokenSignIns
from hosting.auth.verifier import Verifier
from hosting.review.desk import ReviewDesk
from hosting.review.values import Recorded
from storage.ending.scopes import PURPOSE
from storage.errors import Gone, InvalidInput, NotPermitted
from storage.keys.source import Key, KeySource, LocalKeys, ServiceName, SigningPurpose
from storage.values import AccountId, TenantId

_SERVICES: dict[str, ServiceName] = {name: name for name in get_args(ServiceName)}
_SIGNED: dict[str, SigningPurpose] = {name: name for name in get_args(SigningPurpose)}
_PIDS_MAX = 10_000
# What keys are leased for while it ends: carrying that out, and the reason of a legal hold that stops it before.
_WHILE_IT_ENDS = frozenset({PURPOSE, "directory.name"})
Ends = Callable[[TenantId, AccountId | None], bool]  # whether the tenant, or this account of it, ends or has ended

__all__ = ["Caller", "Holders", "Requests"]

_log = logging.getLogger("cleanmail.auth")


@dataclass(frozen=True, slots=True)
class Caller:
    """A process at the other end of the socket, as the kernel and its hello name it."""

    pid: int
    role: grants.Role


def _nobody_ends(tenant_id: TenantId, account_id: AccountId | None) -> bool:
    return False


class Requests:
    """Safe to use from many threads."""

    def __init__(
        self,
        verifier: Verifier,
        keys: KeySource,
        holders: Holders,
        *,
        auditors: Collection[str] = (),
        desk: ReviewDesk | None = None,
        entrance: StaffEntrance | None = None,
        ends: Ends = _nobody_ends,
        mailbox_rights: RightsDirectory | None = None,
        retire: Callable[[], None] | None = None,
        tokens: TokenSignIns = NO_TOKENS,
    ) -> None:
        """`auditors`: the Unix users whose processes may read transcripts; `desk`: None where nothing is reviewed.

        `ends` is asked before each lease. `retire` has this process stop cleanly, after what is under way is answered;
        None where nobody starts it again.
        """
        self._verifier = verifier
        self._exchanges = Exchanges(verifier)
        self._tokens = tokens
        self._keys = keys
        self._holders = holders
        self._auditors = frozenset(auditors)
        self._desk = desk
        self._entrance = entrance
        self._ends = ends
        self._end_of_this = retire
        self._operations: dict[str, Callable[[Caller, Fields], Fields | Future[Fields]]] = {
            "verify": self._verify,
            "scram_begin": self._scram_begin,
            "scram_finish": self._scram_finish,
            "verify_token": self._verify_token,
            "staff_sign_in": self._staff_sign_in,
            "still_valid": self._still_valid,
            "service_key": self._service_key,
            "auditor_key": self._auditor_key,
            "tenant_key": self._tenant_key,
            "account_key": self._account_key,
            "create_tenant_key": self._create_tenant_key,
            "create_account_key": self._create_account_key,
            "destroy_account_key": self._destroy_account_key,
            "destroy_tenant_key": self._destroy_tenant_key,
            "rotate_keys": self._rotate_keys,
            "sign": self._sign,
            "verifying_key": self._verifying_key,
            "forget": self._forget,
            "holders": self._holders_of,
            "ready": self._ready,
            "present": self._present,
            "recycle": self._recycle,
            "kill": self._kill,
            "retire": self._retire,
            "reviews": self._reviews,
            "view_review": self._view_review,
            "header_key": self._header_key,
            "decide_review": self._decide_review,
        }
        for name, perform in RightsRequests(mailbox_rights).operations.items():
            self._operations[name] = lambda _, fields, perform=perform: perform(fields)  # type: ignore[misc]

    def answer(self, caller: Caller, fields: Fields) -> Future[Fields]:
        """The reply, whatever happens: errors are replies too."""
        reply: Future[Fields] = Future()
        try:
            operation = text(fields, "op")
            perform = self._operations.get(operation)
            if perform is None:
                raise InvalidInput("There is no such request.")
            grants.check(caller.role, operation, fields.get("name"))
            result = perform(caller, fields)
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets an answer
            reply.set_result(error_reply(error))
            return reply
        if isinstance(result, Future):
            result.add_done_callback(lambda done: reply.set_result(_outcome(done)))
        else:
            reply.set_result({"ok": result})
        return reply

    def _verify(self, caller: Caller, fields: Fields) -> Future[Fields]:
        given = text(fields, "login"), text(fields, "password"), text(fields, "address"), text(fields, "session")
        return _as_fields(self._verifier.begin(SignIn(_protocol(fields), *given)))

    def _scram_begin(self, caller: Caller, fields: Fields) -> Future[Fields]:
        challenge = self._exchanges.begin(
            ScramOpening(
                _protocol(fields),
                fields.get("plus") is True,
                octets(fields, "message"),
                octets(fields, "channel"),
                text(fields, "address"),
                text(fields, "session"),
            )
        )
        return _with(challenge, lambda done: {"message": base64_of(done.message), "box": base64_of(done.box)})

    def _scram_finish(self, caller: Caller, fields: Fields) -> Future[Fields]:
        done = self._exchanges.finish(octets(fields, "box"), octets(fields, "message"))
        return _with(done, lambda done: {"principal": asdict(done.principal), "message": base64_of(done.message)})

    def _verify_token(self, caller: Caller, fields: Fields) -> Future[Fields]:
        given = text(fields, "login"), text(fields, "token"), text(fields, "address"), text(fields, "session")
        return _as_fields(self._tokens.begin(TokenSignIn(_protocol(fields), *given)))

    def _staff_sign_in(self, caller: Caller, fields: Fields) -> Future[Fields]:
        """The session is of the Unix user whom the kernel names, whatever the process says."""
        if self._entrance is None:
            raise NotPermitted("Staff do not sign in here.")
        given = text(fields, "name"), text(fields, "password"), text(fields, "code")
        return _as_fields(self._entrance.begin(person_of(caller.pid), *given))

    def _still_valid(self, caller: Caller, fields: Fields) -> Fields:
        return {"valid": self._verifier.still_valid(principal_of(fields.get("principal")))}

    def _service_key(self, caller: Caller, fields: Fields) -> Fields:
        name = text(fields, "name")
        secret = self._keys.service_key(_SERVICES[name])
        _log.info("lease service=%s role=%s pid=%d", name, caller.role, caller.pid)
        return {"secret": base64_of(secret)}

    def _auditor_key(self, caller: Caller, fields: Fields) -> Fields:
        """To a person, not to a role alone: any process of our user could say that it is an auditor's."""
        purpose = _purpose(fields)
        if self._entrance is None:
            person = check_auditor(caller.pid, self._auditors)
        else:
            person = person_of(caller.pid)
            self._entrance.premises.check(person, Action.TRANSCRIPTS_READ)
        secret = self._keys.auditor_key(purpose)
        _log.info("lease auditor person=%d purpose=%s role=%s pid=%d", person.uid, purpose, caller.role, caller.pid)
        return {"secret": base64_of(secret)}

    def _tenant_key(self, caller: Caller, fields: Fields) -> Fields:
        tenant_id, purpose = TenantId(number(fields, "tenant")), _purpose(fields)
        self._check_goes_on(caller, tenant_id, None, purpose)
        key = self._keys.tenant_key(tenant_id, purpose)
        return self._lease(caller, key, tenant_id, None, purpose)

    def _account_key(self, caller: Caller, fields: Fields) -> Fields:
        tenant_id, account_id = TenantId(number(fields, "tenant")), AccountId(number(fields, "account"))
        purpose = _purpose(fields)
        self._check_goes_on(caller, tenant_id, account_id, purpose)
        key = self._keys.account_key(tenant_id, account_id, purpose)
        return self._lease(caller, key, tenant_id, account_id, purpose)

    def _create_tenant_key(self, caller: Caller, fields: Fields) -> Fields:
        tenant_id = TenantId(number(fields, "tenant"))
        self._check_goes_on(caller, tenant_id, None, "create")
        return self._lease(caller, self._keys.create_tenant_key(tenant_id), tenant_id, None, "create")

    def _create_account_key(self, caller: Caller, fields: Fields) -> Fields:
        tenant_id, account_id = TenantId(number(fields, "tenant")), AccountId(number(fields, "account"))
        self._check_goes_on(caller, tenant_id, account_id, "create")
        return self._lease(
            caller, self._keys.create_account_key(tenant_id, account_id), tenant_id, account_id, "create"
        )

    def _destroy_account_key(self, caller: Caller, fields: Fields) -> Fields:
        tenant_id, account_id = TenantId(number(fields, "tenant")), AccountId(number(fields, "account"))
        destroyed = self._keys.destroy_account_key(tenant_id, account_id)
        _log.info("destroyed tenant=%d account=%d role=%s pid=%d", tenant_id, account_id, caller.role, caller.pid)
        return {"destroyed": destroyed.fields()}

    def _destroy_tenant_key(self, caller: Caller, fields: Fields) -> Fields:
        tenant_id = TenantId(number(fields, "tenant"))
        destroyed = self._keys.destroy_tenant_key(tenant_id)
        _log.info("destroyed tenant=%d account=- role=%s pid=%d", tenant_id, caller.role, caller.pid)
        return {"destroyed": destroyed.fields()}

    def _rotate_keys(self, caller: Caller, fields: Fields) -> Fields:
        if not isinstance(self._keys, LocalKeys):
            raise NotPermitted("Keys are wrapped anew where they are.")
        generation = self._keys.rotate_keys()
        _log.info("rotated generation=%d role=%s pid=%d", generation, caller.role, caller.pid)
        return {"generation": generation}

    def _sign(self, caller: Caller, fields: Fields) -> Fields:
        purpose = _signing_purpose(fields)
        message = octets(fields, "message")
        signature = self._keys.sign(purpose, message)
        _log.info("signed purpose=%s octets=%d role=%s pid=%d", purpose, len(message), caller.role, caller.pid)
        return {"signature": base64_of(signature)}

    def _verifying_key(self, caller: Caller, fields: Fields) -> Fields:
        """For everybody: it is public."""
        return {"key": base64_of(self._keys.verifying_key(_signing_purpose(fields)))}

    def _forget(self, caller: Caller, fields: Fields) -> Fields:
        tenant_id = TenantId(number(fields, "tenant"))
        self._holders.forgot(tenant_id, caller.pid)
        _log.info("forgotten tenant=%d role=%s pid=%d", tenant_id, caller.role, caller.pid)
        return {}

    def _holders_of(self, caller: Caller, fields: Fields) -> Fields:
        tenant_id = TenantId(number(fields, "tenant"))
        ever = fields.get("ever") is True
        return {"pids": sorted(self._holders.ever(tenant_id) if ever else self._holders.of(tenant_id))}

    def _ready(self, caller: Caller, fields: Fields) -> Fields:
        self._holders.ready(caller.role.value, caller.pid)
        return {}

    def _present(self, caller: Caller, fields: Fields) -> Fields:
        return {"pids": sorted(self._holders.all_ready(text(fields, "of")))}

    def _recycle(self, caller: Caller, fields: Fields) -> Fields:
        return self._end(caller, fields, signal.SIGTERM)

    def _kill(self, caller: Caller, fields: Fields) -> Fields:
        return self._end(caller, fields, signal.SIGKILL)

    def _end(self, caller: Caller, fields: Fields, how: signal.Signals) -> Fields:
        tenant_id, pids = TenantId(number(fields, "tenant")), fields.get("pids")
        if not isinstance(pids, list) or len(pids) > _PIDS_MAX or not all(type(pid) is int for pid in pids):
            raise InvalidInput("The field pids is missing.")
        told = self._holders.signal(tenant_id, set(pids) - {caller.pid}, how)
        for pid in sorted(told):
            _log.info("ended pid=%d by=%s tenant=%d role=%s", pid, how.name, tenant_id, caller.role)
        return {"pids": sorted(told)}

    def _retire(self, caller: Caller, fields: Fields) -> Fields:
        """This process held every key: it ends, and the next one knows only what is left."""
        if self._end_of_this is None:
            return {"retires": False}
        _log.info("retires role=%s pid=%d", caller.role, caller.pid)
        self._end_of_this()
        return {"retires": True}

    # For reviewers: the person behind the process is asked for at each request, and so is his agreement

    def _reviews(self, caller: Caller, fields: Fields) -> Fields:
        return {"reviews": [case.fields() for case in self._at_desk().reviews(person_of(caller.pid))]}

    def _view_review(self, caller: Caller, fields: Fields) -> Fields:
        asked = text(fields, "id"), text(fields, "tenant"), text(fields, "reason")
        return _recorded(self._at_desk().view(person_of(caller.pid), *asked))

    def _header_key(self, caller: Caller, fields: Fields) -> Fields:
        tenant_id, purpose = TenantId(number(fields, "tenant")), _purpose(fields)
        self._check_goes_on(caller, tenant_id, None, purpose)
        key = self._at_desk().header_key(person_of(caller.pid), tenant_id, purpose)
        return self._lease(caller, key, tenant_id, None, purpose)

    def _decide_review(self, caller: Caller, fields: Fields) -> Fields:
        wrong = fields.get("wrong")
        if not isinstance(wrong, bool):
            raise InvalidInput("The field wrong is missing.")
        asked = text(fields, "id"), text(fields, "tenant"), text(fields, "reason")
        return _recorded(self._at_desk().decide(person_of(caller.pid), *asked, wrong=wrong))

    def _at_desk(self) -> ReviewDesk:
        if self._desk is None:
            raise NotPermitted("Nothing is reviewed here.")
        return self._desk

    def _check_goes_on(self, caller: Caller, tenant_id: TenantId, account_id: AccountId | None, purpose: str) -> None:
        """Raises Gone: from its order on an ending is told everybody, but a process may not have heard it yet."""
        needed = purpose in _WHILE_IT_ENDS and grants.GRANTS[caller.role].endings
        if not needed and self._ends(tenant_id, account_id):
            raise Gone(detail=f"tenant {tenant_id}, account {account_id or '-'} ends")

    def _lease(
        self, caller: Caller, key: Key, tenant_id: TenantId, account_id: AccountId | None, purpose: str
    ) -> Fields:
        self._holders.took(tenant_id, caller.pid)
        _log.info(
            "lease tenant=%d account=%s key=%s purpose=%s role=%s pid=%d",
            tenant_id,
            "-" if account_id is None else account_id,
            key.id,
            purpose,
            caller.role,
            caller.pid,
        )
        return {"id": key.id, "secret": base64_of(key.secret)}


def _as_fields(answer: Future[Principal] | Future[SignedIn]) -> Future[Fields]:
    return _with(answer, asdict)


def _with(answer: Future[Any], fields_of: Callable[[Any], Fields]) -> Future[Fields]:
    fields: Future[Fields] = Future()

    def settle(done: Future[Any]) -> None:
        error = done.exception()
        if error is not None:
            fields.set_exception(error)
        else:
            fields.set_result(fields_of(done.result()))

    answer.add_done_callback(settle)
    return fields


def _outcome(done: Future[Fields]) -> Fields:
    error = done.exception()
    return error_reply(error) if error is not None else {"ok": done.result()}


def _recorded(done: Recorded) -> Fields:
    return {"record": done.record, "review": done.case.fields()}


def _protocol(fields: Fields) -> SignInProtocol:
    for protocol in PROTOCOLS:
        if fields.get("protocol") == protocol:
            return protocol
    raise InvalidInput("There is no such protocol.")


def _signing_purpose(fields: Fields) -> SigningPurpose:
    purpose = _SIGNED.get(text(fields, "purpose"))
    if purpose is None:
        raise InvalidInput("Nothing is signed for such a purpose.")
    return purpose


def _purpose(fields: Fields) -> str:
    """A word or two of ours, so that nothing else reaches the log."""
    purpose = text(fields, "purpose")
    if not purpose or len(purpose) > 64 or not all(c.isascii() and (c.isalnum() or c in "._- ") for c in purpose):
        raise InvalidInput("A purpose is a short name.")
    return purpose
