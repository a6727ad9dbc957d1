"""Builds everything out of its parts: the one place where constructors of the whole server meet.

`Parts` is what the roles are made of (`hosting/roles/*.py` make the services); `administration` opens the stores for
the command line, while a server runs or not. A worker gets its keys from the auth role; the auth role, `serve
--single`, and the command line when nothing runs hold the key store themselves.

Raises: Unavailable (not initialised, no master key, no auth role), AlreadyExists (initialised already).
"""

from __future__ import annotations

import os
import pwd
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from prometheus_client import CollectorRegistry

from hosting.access.actions import Action
from hosting.access.decide import may
from hosting.access.identity import Premises
from hosting.access.roles import Who
from hosting.administration import Administration
from hosting.auth import sockets as auth_sockets
from hosting.auth.client import AuthClient
from hosting.auth.grants import Role
from hosting.auth.introspection import Introspection, trusting
from hosting.auth.local import LocalAuth
from hosting.auth.oauth_settings import ClientSecret
from hosting.auth.passwords import Passwords
from hosting.auth.persons import Person, user_name
from hosting.auth.pool import HashingPool
from hosting.auth.remembered import VerificationCache
from hosting.auth.signin import Offers, SaslAuthenticator
from hosting.auth.staff import LocalEntrance, StaffEntrance, StaffSigningIn
from hosting.auth.throttle import Throttle
from hosting.auth.tokens import NO_TOKENS, ProviderSignIns, TokenSignIns
from hosting.auth.verifier import Verifier
from hosting.config import Config
from hosting.metrics import CountingAuthenticator, Metrics
from hosting.review.local import local_reviews
from hosting.review.values import Reviewing
from hosting.roles.only_server import server_runs
from storage.changes import Subscriber
from storage.clock import Clock, SystemClock
from storage.directory.provisioning import Provisioning
from storage.directory.resolve import Resolver
from storage.errors import AlreadyExists, Unavailable
from storage.installation import Installation
from storage.keys.keystore import KeyStore
from storage.keys.master import Master, write_master_file
from storage.keys.places import MasterCommand, MasterFile, MasterPlace
from storage.keys.source import KeySource, LocalKeys

_REPLACED_WITHIN = 10.0  # seconds in which an auth role that ended is there again

Sockets = list[tuple[str, socket.socket]]


@dataclass
class Parts:
    """What one process is built of."""

    reactor: Any
    role: str
    index: int
    data: Path
    config: Config
    clock: Clock
    sockets: Sockets
    keys: KeySource
    authenticator: SaslAuthenticator | None
    installation: Installation
    metrics: Metrics
    verifier: Verifier | None = None  # where sign-ins are decided in this process
    supervised: bool = False  # started again when it ends
    subscribers: list[Subscriber] = field(default_factory=list)

    @classmethod
    def of_worker(cls, reactor: Any, role: str, index: int, data: Path, config: Config, sockets: Sockets) -> Self:
        """For one role in a process of its own."""
        clock = SystemClock()
        metrics = Metrics(CollectorRegistry())
        if role == "auth":
            keys = LocalKeys(open_keystore(data, config, clock))
            installation = open_installation(data, config, keys, clock)
            verifier = make_verifier(installation, config, clock)
            return cls(
                reactor,
                role,
                index,
                data,
                config,
                clock,
                sockets,
                keys,
                None,
                installation,
                metrics,
                verifier,
                supervised=True,
            )
        client = AuthClient(auth_socket(data), Role(role), offers=offers_of(config))
        installation = open_installation(data, config, client, clock)
        counting = CountingAuthenticator(client, metrics)
        return cls(
            reactor, role, index, data, config, clock, sockets, client, counting, installation, metrics, supervised=True
        )

    @classmethod
    def of_everything(cls, reactor: Any, data: Path, config: Config, sockets: Sockets, metrics: Metrics) -> Self:
        """For all roles in one process, with the keys at hand."""
        clock = SystemClock()
        keys = LocalKeys(open_keystore(data, config, clock))
        installation = open_installation(data, config, keys, clock)
        verifier = make_verifier(installation, config, clock)
        local = LocalAuth(keys, verifier, offers=offers_of(config), tokens=make_tokens(data, config, verifier))
        authenticator = CountingAuthenticator(local, metrics)
        return cls(
            reactor, "single", 0, data, config, clock, sockets, keys, authenticator, installation, metrics, verifier
        )

    def for_role(self, role: str) -> Parts:
        """The same parts under a role's name."""
        return replace(self, role=role)

    def subscribe(
        self, *, mailboxes: bool = True, queue: bool = False, collections: bool = False, only_watched: bool = False
    ) -> Subscriber:
        """A place on the change feed, closed with the parts, for accounts and tenants, and what else is asked for."""
        subscriber = Subscriber(
            self.data,
            self.clock,
            mailboxes=mailboxes,
            queue=queue,
            collections=collections,
            only_watched=only_watched,
        )
        self.subscribers.append(subscriber)
        return subscriber

    def tell_ready(self) -> None:
        """Blocking: the auth role learns that this process does its work, for who replaces others one by one."""
        if isinstance(self.keys, AuthClient):
            with suppress(Unavailable):  # then they wait for nothing, and not for long
                self.keys.ready()

    def close(self) -> None:
        for subscriber in self.subscribers:
            subscriber.close()
        self.installation.close()
        if isinstance(self.keys, AuthClient):
            self.keys.close()

    def listeners(self, name: str) -> list[socket.socket]:
        """The bound sockets of a field of [listen]."""
        return [sock for of, sock in self.sockets if of == name]


def passwords_of(config: Config) -> Passwords:
    cost = config.auth.argon2
    return Passwords(time_cost=cost.time_cost, memory_kib=cost.memory_kib, lanes=cost.lanes)


def make_verifier(installation: Installation, config: Config, clock: Clock) -> Verifier:
    """What decides who signs in; one in the whole server."""
    return Verifier(
        installation,
        passwords_of(config),
        HashingPool(config.auth_threads),
        Throttle(clock, config.auth.throttle),
        VerificationCache(clock, seconds=config.auth.remembered_for),
        installation.access_log,
        clock,
        scram_for_passwords=scram_for_passwords(config),
    )


def offers_of(config: Config) -> Offers:
    """Ways of signing in beside passwords."""
    told = config.auth.scram == "offered" or scram_for_passwords(config)
    return Offers(config.auth.scram != "off", told, config.oauth.offer)


def scram_for_passwords(config: Config) -> bool:
    """Whether main passwords are for SCRAM too."""
    return config.auth.scram != "off" and config.auth.scram_for_passwords


def make_tokens(data: Path, config: Config, verifier: Verifier) -> TokenSignIns:
    """Who decides about tokens, where sign-ins are decided. Raises Unavailable."""
    oauth = config.oauth
    if not oauth.introspection:
        return NO_TOKENS
    context = trusting(str(data / oauth.certificate_authority) if oauth.certificate_authority else "")
    provider = Introspection(oauth, ClientSecret(oauth, data), context, verifier.clock)
    return ProviderSignIns(verifier, provider, seconds=oauth.remembered_for)


def make_entrance(
    installation: Installation, data: Path, config: Config, clock: Clock, verifier: Verifier | None = None
) -> StaffEntrance:
    """Where staff sign in; with the pool and the throttle of `verifier`, where sign-ins of accounts are decided."""
    premises = Premises(installation.control, config.staff, server_users(data, config), config.logs.auditors)
    passwords = verifier.passwords if verifier else passwords_of(config)
    pool = verifier.pool if verifier else HashingPool(1)
    throttle = verifier.throttle if verifier else Throttle(clock, config.auth.throttle)
    return StaffEntrance(premises, installation.audit, passwords, pool, throttle, config.auth.throttle, clock)


@contextmanager
def staff_signing_in(data: Path, config: Config, person: Person) -> Iterator[StaffSigningIn]:
    """Where staff sign in: the auth role if it answers, else this process, for the person who runs it."""
    check_initialised(data)
    with key_source(data, config) as keys:
        if isinstance(keys, AuthClient):
            yield keys
            return
        clock = SystemClock()
        installation = open_installation(data, config, keys, clock)
        entrance = make_entrance(installation, data, config, clock)
        try:
            yield LocalEntrance(entrance, person)
        finally:
            entrance.close()
            installation.close()


def auth_socket(data: Path) -> Path:
    return data / "run" / "auth.sock"


def open_installation(data: Path, config: Config, keys: KeySource, clock: Clock) -> Installation:
    periods, folders = config.retention.periods, config.retention.folder_rules
    installation = Installation(
        data, keys, clock, max_open=config.storage.open_accounts, periods=periods, folder_rules=folders
    )

    def copies_until() -> int | None:
        return installation.control.key_backups.until()  # control.db is opened when it is asked

    if isinstance(keys, LocalKeys):
        keys.copies_until(copies_until)
    return installation


# Keys


def master_place(data: Path, config: Config) -> str:
    """Where the master key lives, for people."""
    if config.keys.master_command:
        return "what [keys] master_command prints"
    return str(_master_file(data, config))


def open_keystore(data: Path, config: Config, clock: Clock) -> KeyStore:
    return KeyStore(data / "keys", place_of_master(data, config), clock, mirror=mirror_of(config))


def place_of_master(data: Path, config: Config) -> MasterPlace:
    if config.keys.master_command:
        return MasterCommand(config.keys.master_command, config.keys.master_store_command)
    return MasterFile(_master_file(data, config), data / "keys")


def mirror_of(config: Config) -> Path | None:
    """The folder that all wrapped keys are in too."""
    return Path(config.keys.backup) if config.keys.backup else None


def _master_file(data: Path, config: Config) -> Path:
    return data / config.keys.master_file if config.keys.master_file else data / "keys" / "master"


# Initialisation


def make_data_directory(data: Path, config: Config) -> None:
    """The folder, owned by whom the server will run as."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.geteuid() == 0 and config.server.user:
            owner = pwd.getpwnam(config.server.user)
            os.chown(data, owner.pw_uid, owner.pw_gid)
    except KeyError:
        raise Unavailable(f"server.user: this machine has no user '{config.server.user}'.") from None
    except OSError as error:
        raise Unavailable(f"{data} cannot be made: {error.strerror}.") from None


def create(data: Path, config: Config) -> None:
    """Master key (unless it is there), keys and databases of a new installation."""
    if is_initialised(data):
        raise AlreadyExists(f"There is an installation in {data} already.")
    clock = SystemClock()
    master_file = _master_file(data, config)
    if not config.keys.master_command and not master_file.exists():
        write_master_file(master_file, Master.generate())
    mirror = mirror_of(config)
    if (data / "keys" / "service.key").exists():  # an init that was interrupted
        keystore = open_keystore(data, config, clock)
    else:
        keystore = KeyStore.create(data / "keys", place_of_master(data, config), clock, mirror=mirror)
    Installation.create(data, LocalKeys(keystore), clock)


def is_initialised(data: Path) -> bool:
    return (data / "control.db").exists() and (data / "queue.db").exists()


def check_initialised(data: Path) -> None:
    if not is_initialised(data):
        raise Unavailable(f"There is no installation in {data}; make one with: cleanmail --data {data} init.")


# The command line


@contextmanager
def key_source(data: Path, config: Config) -> Iterator[KeySource]:
    """The auth role if it answers, else the key store itself."""
    check_initialised(data)
    if not auth_role_answers(data):
        yield LocalKeys(open_keystore(data, config, SystemClock()))
        return
    client = AuthClient(auth_socket(data), Role.ADMIN, connections=4)
    try:
        yield client
    finally:
        client.close()


def auditor_key(data: Path, config: Config, purpose: str, who: Who) -> bytes:
    """What opens SMTP transcripts, for the person who runs this process. Raises NotPermitted if that is no auditor."""
    may(who, Action.TRANSCRIPTS_READ)
    if not auth_role_answers(data):
        return LocalKeys(open_keystore(data, config, SystemClock())).auditor_key(purpose)
    client = AuthClient(auth_socket(data), Role.AUDITOR, connections=1)
    try:
        return client.auditor_key(purpose)
    finally:
        client.close()


@contextmanager
def reviewing(data: Path, config: Config) -> Iterator[Reviewing]:
    """What a reviewer may ask, for the person who runs this process: no key but of headers comes to it.

    Where no server runs the process has to hold the key store, but nothing else of it can be asked for.
    """
    check_initialised(data)
    if not auth_role_answers(data):
        clock = SystemClock()
        keys = LocalKeys(open_keystore(data, config, clock))
        users = server_users(data, config)
        with local_reviews(data, keys, clock, server_users=users, staff=config.staff) as reviews:
            yield reviews
        return
    client = AuthClient(auth_socket(data), Role.REVIEWER, connections=1)
    try:
        yield client
    finally:
        client.close()


def server_users(data: Path, config: Config) -> frozenset[str]:
    """The Unix users whom the server's processes belong to, or would: who asks in their names is no known person."""
    owners = {user_name(uid) for uid in (data.stat().st_uid, os.geteuid())}
    return frozenset(owners | {config.server.user} - {""})


@contextmanager
def administration(data: Path, config: Config) -> Iterator[Administration]:
    """The stores of an installation, whether its server runs or not."""
    with key_source(data, config) as keys:
        installation = open_installation(data, config, keys, SystemClock())
        try:
            yield Administration(installation, Provisioning(installation), Resolver(installation, config.postmaster))
        finally:
            installation.close()


def auth_role_answers(data: Path) -> bool:
    """Where a server runs, one that is being replaced is waited for: who went on without it would hold all keys."""
    deadline = time.monotonic() + _REPLACED_WITHIN
    while True:
        try:
            auth_sockets.connect(auth_socket(data), 5.0).close()
        except OSError:
            if time.monotonic() >= deadline or not server_runs(data):
                return False
            time.sleep(0.05)
        else:
            return True
