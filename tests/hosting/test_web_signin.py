"""Sign-ins that are remembered: for how long, for whom, and what makes them forgotten."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest
from auth_town import CHEAP
from hypothesis import given
from hypothesis import strategies as st
from imap_town import PASSWORD, MailTown, new_mail_town

from hosting.auth.signin import Principal, SignIn
from hosting.web.signin import Credentials, SignIns, parse
from storage.changes import AccountChanged, AccountEnded, Gap, TenantChanged, TenantEnded
from storage.errors import AuthenticationFailed, Throttled, Unavailable

ALICE, BOB = "alice@example.test", "bob@example.test"
HERE, THERE = "192.0.2.1", "198.51.100.7"


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailTown]:
    with new_mail_town(tmp_path_factory.mktemp("town")) as made:
        yield made


@pytest.fixture
def sign_ins(town: MailTown) -> SignIns:
    town.clock.advance(2000.0)  # nobody is slowed down for what another test did
    return SignIns(town.authenticator, town.installation.access_log, town.clock)


def field(login: str, password: str = PASSWORD) -> bytes:
    return b"Basic " + base64.b64encode(f"{login}:{password}".encode())


def sign_in(sign_ins: SignIns, login: str, address: str = HERE, password: str = PASSWORD) -> tuple[bytes, Principal]:
    octets = field(login, password)
    digest = sign_ins.digest(octets, address)
    credentials = parse(octets)
    assert credentials is not None
    return digest, sign_ins.verify(digest, credentials, address, "")


def count(town: MailTown) -> int:
    town.installation.flush_logs()
    return len(list(town.installation.access_log.read(0, 4_000_000_000)))


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"Basic " + base64.b64encode(b"a@b.test:c:d"), ("a@b.test", "c:d")),
        (b"BASIC  " + base64.b64encode(b"a:"), ("a", "")),
        (b"basic " + base64.b64encode("jos\u00e9:\u20ac".encode()), ("jos\u00e9", "\u20ac")),
        (b"Basic " + base64.b64encode("jos\u00e9:\u00fc".encode("latin-1")), ("jos\u00e9", "\u00fc")),
        (b"Basic " + base64.b64encode(b":c"), None),
        (b"Basic " + base64.b64encode(b"a"), None),
        (b"Basic " + base64.b64encode(b"a\0b:c"), None),
        (b"Basic a:b", None),
        (b"Digest x", None),
        (b"", None),
    ],
)
def test_what_a_field_says(octets: bytes, expected: tuple[str, str] | None) -> None:
    assert parse(octets) == (Credentials(*expected) if expected else None)


@given(st.binary(max_size=200))
def test_any_field_says_something_or_nothing(octets: bytes) -> None:
    found = parse(octets)
    assert found is None or (found.login and "\0" not in found.login + found.password)
    assert parse(b"Basic " + base64.b64encode(octets)) is None or b":" in octets


def test_remembered_for_a_minute_for_this_address_and_these_octets(town: MailTown, sign_ins: SignIns) -> None:
    digest, alice = sign_in(sign_ins, ALICE)
    assert sign_ins.recall(digest) == alice
    assert sign_ins.recall(sign_ins.digest(field(ALICE), THERE)) is None
    assert sign_ins.recall(sign_ins.digest(field(ALICE, "another one"), HERE)) is None
    town.clock.advance(59.0)
    assert sign_ins.recall(digest) == alice
    town.clock.advance(2.0)
    assert sign_ins.recall(digest) is None

    before = count(town)
    assert sign_ins.confirm(digest) == alice  # the auth role was asked, without an event
    assert sign_ins.recall(digest) == alice and count(town) == before
    town.clock.advance(3600.0)
    assert sign_ins.confirm(digest) is None  # now the password is compared again


def test_addresses_of_one_ipv6_subscriber_are_one(sign_ins: SignIns) -> None:
    digest, alice = sign_in(sign_ins, ALICE, "2001:db8::1")
    assert sign_ins.recall(sign_ins.digest(field(ALICE), "2001:db8::2")) == alice
    assert digest == sign_ins.digest(field(ALICE), "2001:db8:0:0:9::")


def test_a_failure_makes_forgotten_who_signed_in_from_there(sign_ins: SignIns) -> None:
    here, there, bob = (sign_in(sign_ins, *who)[0] for who in ((ALICE, HERE), (ALICE, THERE), (BOB, HERE)))
    with pytest.raises(AuthenticationFailed):
        sign_in(sign_ins, ALICE.upper(), HERE, "wrong password")
    assert sign_ins.recall(here) is None
    assert sign_ins.recall(there) is not None and sign_ins.recall(bob) is not None


def test_a_silent_auth_role_makes_nobody_forgotten(town: MailTown) -> None:
    """It looked at no password, so nothing was guessed."""

    class Silent:
        answers = True

        def verify(self, asked: SignIn) -> Principal:
            if not self.answers:
                raise Unavailable
            return town.authenticator.verify(asked)

        def still_valid(self, principal: Principal) -> bool:
            return town.authenticator.still_valid(principal)

    auth = Silent()
    made = SignIns(auth, town.installation.access_log, town.clock)
    digest, alice = sign_in(made, ALICE)
    auth.answers = False
    with pytest.raises(Unavailable):
        sign_in(made, ALICE, HERE, "another one")
    assert made.recall(digest) == alice and made.remembers(digest)


def test_the_throttle_is_not_passed_by_what_is_remembered(sign_ins: SignIns) -> None:
    digest, _ = sign_in(sign_ins, BOB)
    for number in range(11):
        with pytest.raises(AuthenticationFailed):
            sign_in(sign_ins, BOB, HERE, f"guess {number}")
    assert sign_ins.recall(digest) is None and sign_ins.confirm(digest) is None
    with pytest.raises(Throttled):
        sign_in(sign_ins, BOB)


def test_changes_make_forgotten_whom_they_concern(town: MailTown, sign_ins: SignIns) -> None:
    tenant_id, alice_id = town.accounts[ALICE]
    other, mallory_id = town.accounts["mallory@other.test"]
    for change, kept in (
        (AccountChanged(tenant_id, alice_id), [BOB, "mallory@other.test"]),
        (AccountEnded(other, mallory_id), [ALICE, BOB]),
        (TenantChanged(tenant_id), ["mallory@other.test"]),
        (TenantEnded(other), [ALICE, BOB]),
        (Gap(), []),
    ):
        digests = {login: sign_in(sign_ins, login)[0] for login in town.accounts}
        sign_ins.changed([change])
        assert [login for login, digest in digests.items() if sign_ins.recall(digest)] == kept


def test_what_changed_while_it_was_asked_is_not_remembered(town: MailTown) -> None:
    tenant_id, alice_id = town.accounts[ALICE]

    class Meanwhile:
        """The change comes between the auth role's answer and its arrival."""

        def verify(self, asked: object) -> Principal:
            found = town.authenticator.verify(asked)  # type: ignore[arg-type]
            made.changed([AccountChanged(tenant_id, alice_id)])
            return found

        def still_valid(self, principal: Principal) -> bool:
            return town.authenticator.still_valid(principal)

    made = SignIns(Meanwhile(), town.installation.access_log, town.clock)
    digest, alice = sign_in(made, ALICE)
    assert alice.account_id == alice_id and made.recall(digest) is None and len(made) == 0


def test_a_password_that_was_changed_unheard_holds_for_a_minute_at_most(town: MailTown, sign_ins: SignIns) -> None:
    digest, _ = sign_in(sign_ins, BOB, THERE)
    town.provisioning.set_password(*town.accounts[BOB], CHEAP.hash("another password"))
    town.clock.advance(61.0)
    assert sign_ins.recall(digest) is None and sign_ins.confirm(digest) is None
    town.provisioning.set_password(*town.accounts[BOB], CHEAP.hash(PASSWORD))


def test_what_nobody_uses_is_forgotten(town: MailTown, sign_ins: SignIns) -> None:
    sign_in(sign_ins, ALICE)
    town.clock.advance(300.0)
    sign_in(sign_ins, BOB, THERE)
    town.clock.advance(400.0)
    sign_ins.expire()
    assert len(sign_ins) == 1
