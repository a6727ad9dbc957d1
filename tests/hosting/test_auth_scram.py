"""SCRAM in the auth role: what an exchange is worth, what counts as an attempt, and what is left behind."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from auth_town import CHEAP, AuthTown, new_auth_town
from hypothesis import given
from hypothesis import strategies as st
from scram_client import ScramClient

from hosting.auth import scram
from hosting.auth.exchanges import SECONDS, Exchanges
from hosting.auth.signin import ScramChallenge, ScramOpening, SignedInByScram, SignInProtocol
from storage.directory.scram import FEW_ROUNDS, MAIN, MANY_ROUNDS, ScramKey, make_key
from storage.errors import AuthenticationFailed, CleanmailError, InvalidInput, NotIncluded, Suspended, Throttled
from storage.values import AccountId, TenantId

HOME = "192.0.2.1"
ANN, PASSWORD = "ann@acme.test", "correct horse"


class ScramTown:
    def __init__(self, town: AuthTown) -> None:
        self.town = town
        self.acme: TenantId = town.tenant("acme", "acme.test")
        self.ann: AccountId = town.account_with(self.acme, ANN, PASSWORD)
        self.exchanges = Exchanges(town.verifier, not_before=0)

    def app_password(self, *protocols: str) -> tuple[int, str]:
        row, text = self.town.provisioning.create_app_password(self.acme, self.ann, "phone", protocols)
        return row.app_password_id, text

    def begin(self, client: ScramClient, protocol: SignInProtocol = "imap", address: str = HOME) -> ScramChallenge:
        return self.exchanges.begin(ScramOpening(protocol, False, client.first(), b"", address, "s1")).result()

    def sign_in(
        self, login: str, password: str, protocol: SignInProtocol = "imap", address: str = HOME
    ) -> SignedInByScram:
        client = ScramClient(login, password)
        challenge = self.begin(client, protocol, address)
        done = self.exchanges.finish(challenge.box, client.final(challenge.message)).result()
        assert client.believes(done.message)
        return done

    def results(self) -> list[str]:
        return [event.result for event in self.town.events()]


@pytest.fixture
def town(tmp_path: Path) -> Iterator[ScramTown]:
    with new_auth_town(tmp_path) as town:
        yield ScramTown(town)


def test_the_app_password_that_was_used_is_the_credential(town: ScramTown) -> None:
    _, one = town.app_password()
    number, other = town.app_password()
    principal = town.sign_in(ANN, other).principal
    assert (principal.credential, principal.credential_version) == (f"app:{number}", 1)
    assert principal == town.town.sign_in(ANN, other)
    assert town.results() == ["success", "success"]
    assert town.town.passwords.runs == 0
    town.town.provisioning.revoke_app_password(town.acme, town.ann, number)
    assert not town.town.verifier.still_valid(principal)
    with pytest.raises(AuthenticationFailed):
        town.sign_in(ANN, other)
    assert town.sign_in("ANN@acme.test", one).principal.account_id == town.ann


def test_revoked_between_the_two_messages(town: ScramTown) -> None:
    number, text = town.app_password()
    client = ScramClient(ANN, text)
    challenge = town.begin(client)
    town.town.provisioning.revoke_app_password(town.acme, town.ann, number)
    with pytest.raises(AuthenticationFailed):
        town.exchanges.finish(challenge.box, client.final(challenge.message)).result()


def test_app_password_for_another_protocol(town: ScramTown) -> None:
    _, text = town.app_password("submission")
    assert town.sign_in(ANN, text, "submission")
    with pytest.raises(AuthenticationFailed):
        town.sign_in(ANN, text, "imap")


def test_suspension_is_told_to_who_proved_himself_alone(town: ScramTown) -> None:
    _, text = town.app_password()
    town.town.provisioning.suspend_account(town.acme, town.ann)
    with pytest.raises(Suspended):
        town.sign_in(ANN, text)
    with pytest.raises(AuthenticationFailed) as refused:
        town.sign_in(ANN, "wrong")
    assert not isinstance(refused.value, (Suspended, NotIncluded))
    assert town.results() == ["suspended", "wrong_password"]


def test_each_attempt_leaves_one_event_as_with_plain(town: ScramTown) -> None:
    _, text = town.app_password()
    for login, password in ((ANN, text), (ANN, "wrong"), ("nobody@acme.test", "wrong"), ("my-other-password", "wrong")):
        try:
            town.sign_in(login, password)
        except AuthenticationFailed as refused:
            assert refused.public == AuthenticationFailed.default
    events = town.town.events()
    assert [(event.result, event.account_id) for event in events] == [
        ("success", town.ann),
        ("wrong_password", town.ann),
        ("unknown", None),
        ("unknown", None),
    ]
    assert events[3].login_hash == town.town.control.login_hash("my-other-password")
    assert "my-other-password" not in repr(events)


def test_throttle_counts_each_proof(town: ScramTown) -> None:
    """Of known and of unknown names; with PLAIN together. Exchanges that are only begun are no guesses."""
    _, text = town.app_password()
    abroad = "198.51.100.7"
    for login in (ANN, "nobody@acme.test"):
        for _ in range(30):
            town.begin(ScramClient(login, "wrong"), address=abroad)
        failures = 0
        while True:
            try:
                town.sign_in(login, "wrong", address=abroad)
            except Throttled:
                break
            except AuthenticationFailed:
                failures += 1
        assert failures == 11
        with pytest.raises(Throttled):
            town.begin(ScramClient(login, text), address=abroad)
        with pytest.raises(Throttled):
            town.town.sign_in(login, text, address=abroad)
        town.town.clock.advance(4000)
    assert set(town.results()) == {"wrong_password", "unknown", "throttled"}


def test_an_exchange_is_good_for_a_minute(town: ScramTown) -> None:
    _, text = town.app_password()
    for seconds, good in ((SECONDS - 1, True), (SECONDS + 1, False)):
        client = ScramClient(ANN, text)
        challenge = town.begin(client)
        town.town.clock.advance(seconds)
        if good:
            assert town.exchanges.finish(challenge.box, client.final(challenge.message)).result()
        else:
            with pytest.raises(AuthenticationFailed, match="too long"):
                town.exchanges.finish(challenge.box, client.final(challenge.message)).result()


@pytest.mark.parametrize("login", [ANN, "nobody@acme.test", "=wrong"])
def test_no_answer_comes_before_its_time(town: ScramTown, login: str) -> None:
    """Whether a directory had to be opened for the name is not seen; whoever waits holds no thread."""
    exchanges = Exchanges(town.town.verifier, not_before=0.03)
    first = b"n,,n=" + login.encode() + b",r=abcdefgh"
    started = time.monotonic()
    answers = [exchanges.begin(ScramOpening("imap", False, first, b"", HOME, "s1")) for _ in range(50)]
    told = [answer.exception() for answer in answers]
    assert time.monotonic() - started >= 0.03
    assert [error is not None for error in told] == [login == "=wrong"] * 50


def test_a_box_is_of_one_auth_role_and_nobody_changes_it(town: ScramTown) -> None:
    _, text = town.app_password()
    client = ScramClient(ANN, text)
    challenge = town.begin(client)
    final = client.final(challenge.message)
    assert ANN.encode() not in challenge.box
    another = Exchanges(town.town.verifier, not_before=0)
    others = another.begin(ScramOpening("imap", False, client.first(), b"", HOME, "s1")).result().box
    changed = challenge.box[:-1] + bytes([challenge.box[-1] ^ 1])
    for box in (others, changed, b"", challenge.box[:20]):
        with pytest.raises(AuthenticationFailed, match="begin it anew"):
            town.exchanges.finish(box, final).result()
    assert town.exchanges.finish(challenge.box, final).result().principal.account_id == town.ann


def test_the_box_of_one_name_is_not_that_of_another(town: ScramTown) -> None:
    """Whose exchange it is stands in the box, whatever the second message says."""
    _, text = town.app_password()
    anns, others = ScramClient(ANN, text), ScramClient("bob@acme.test", text)
    challenge = town.begin(anns)
    bobs = town.begin(others)
    with pytest.raises(AuthenticationFailed):
        town.exchanges.finish(bobs.box, anns.final(challenge.message)).result()


# Main passwords


def test_main_passwords_where_the_operator_wants_it(town: ScramTown) -> None:
    """Known from their next verification on; a new password takes the key of the old one along."""
    verifier, keys = town.town.verifier, town.town.premises.tenant(town.acme).scram
    town.town.sign_in(ANN, PASSWORD)
    assert keys.having(town.ann) == frozenset()
    verifier.scram_for_passwords = True
    with pytest.raises(AuthenticationFailed):
        town.sign_in(ANN, PASSWORD)
    town.town.clock.advance(301)  # what is remembered of the password is forgotten: argon2 runs
    town.town.sign_in(ANN, PASSWORD)
    assert keys.having(town.ann) == {MAIN}
    done = town.sign_in(ANN, PASSWORD)
    assert done.principal == town.town.sign_in(ANN, PASSWORD)
    assert done.principal.credential == "password"
    town.town.provisioning.set_password(town.acme, town.ann, CHEAP.hash("another horse"))
    assert not verifier.still_valid(done.principal)
    for password in (PASSWORD, "another horse"):
        with pytest.raises(AuthenticationFailed):
            town.sign_in(ANN, password)
    town.town.sign_in(ANN, "another horse")
    assert town.sign_in(ANN, "another horse").principal.credential_version == 2


def test_keys_of_main_passwords_go_where_they_are_not_wanted_any_more(town: ScramTown) -> None:
    verifier, tenant = town.town.verifier, town.town.premises.tenant(town.acme)
    verifier.scram_for_passwords = True
    town.town.sign_in(ANN, PASSWORD)
    assert town.sign_in(ANN, PASSWORD)
    verifier.scram_for_passwords = False
    with pytest.raises(AuthenticationFailed):
        town.sign_in(ANN, PASSWORD)
    assert tenant.scram.having(town.ann) == {MAIN}
    town.town.clock.advance(301)
    town.town.sign_in(ANN, PASSWORD)
    assert tenant.scram.having(town.ann) == frozenset()


def test_both_kinds_share_salt_and_rounds(town: ScramTown) -> None:
    town.town.verifier.scram_for_passwords = True
    town.town.sign_in(ANN, PASSWORD)
    _, text = town.app_password()
    before = town.begin(ScramClient(ANN, "")).message.split(b",")[1:]
    assert before[1] == b"i=%d" % MANY_ROUNDS
    assert town.begin(ScramClient("nobody@acme.test", "")).message.endswith(before[1])
    assert town.sign_in(ANN, PASSWORD).principal.credential == "password"
    assert town.sign_in(ANN, text).principal.credential.startswith("app:")
    assert town.begin(ScramClient(ANN, "")).message.split(b",")[1:] == before
    town.town.verifier.scram_for_passwords = False  # taken back: few rounds for everybody, with the same app password
    assert town.begin(ScramClient(ANN, "")).message.endswith(b"i=%d" % FEW_ROUNDS)
    assert town.sign_in(ANN, text).principal.credential.startswith("app:")


def test_password_that_is_none_of_scram_is_left_to_plain(town: ScramTown) -> None:
    """RFC 4013 prohibits an unassigned character; argon2 takes it."""
    town.town.verifier.scram_for_passwords = True
    strange = "correct \u0378 horse"
    town.town.provisioning.set_password(town.acme, town.ann, CHEAP.hash(strange))
    assert town.town.sign_in(ANN, strange)
    assert town.town.premises.tenant(town.acme).scram.having(town.ann) == frozenset()


def test_new_password_is_known_at_once_where_it_is_set(town: ScramTown) -> None:
    """By the command line, which has it in clear; not if another one was set meanwhile."""
    town.town.verifier.scram_for_passwords = True
    provisioning, verifier = town.town.provisioning, CHEAP.hash("another horse")
    provisioning.make_scram_key(town.acme, town.ann, verifier, "another horse")
    with pytest.raises(AuthenticationFailed):
        town.sign_in(ANN, "another horse")
    provisioning.set_password(town.acme, town.ann, verifier)
    provisioning.make_scram_key(town.acme, town.ann, verifier, "another horse")
    assert town.sign_in(ANN, "another horse").principal.credential == "password"


# The messages


@given(st.binary(max_size=200))
def test_no_octets_are_a_first_message_by_accident(octets: bytes) -> None:
    for message in (octets, b"n,," + octets, b"n,a=x,n=y,r=" + octets):
        try:
            first = scram.read_first(message)
        except (InvalidInput, AuthenticationFailed):
            continue
        assert message == first.header + first.bare
        assert first.nonce
        assert b"," not in first.nonce


@given(st.binary(max_size=200))
def test_no_octets_are_a_final_message_by_accident(octets: bytes) -> None:
    for message in (octets, b"c=biws,r=a," + octets, octets + b",p=AAAA"):
        try:
            final = scram.read_final(message)
        except InvalidInput:
            continue
        assert message.startswith(final.without_proof + b",p=")


@given(st.text(max_size=50), st.text(max_size=50))
def test_names_come_back_as_they_were(login: str, acting_as: str) -> None:
    client = ScramClient(login, "", acting_as=acting_as)
    if "\0" in login + acting_as:
        return
    first = scram.read_first(client.first())
    assert (first.login, first.acting_as) == (login, acting_as)


def test_a_proof_of_another_length_proves_nothing() -> None:
    key = make_key("pencil", b"salt", 4096)
    assert key is not None
    for proof in (b"", b"x" * 31, b"x" * 33):
        assert not scram.prove(key, b"said", proof)
    assert scram.find([ScramKey(4096, b"x" * 32, b"y" * 32)] * 3, b"said", b"p" * 32) is None


def test_errors_are_ours(town: ScramTown) -> None:
    with pytest.raises(CleanmailError):
        town.exchanges.begin(ScramOpening("imap", True, b"p=tls-exporter,,n=a,r=b", b"", HOME)).result()
    with pytest.raises(InvalidInput):
        town.exchanges.begin(ScramOpening("imap", False, b"", b"", HOME)).result()
