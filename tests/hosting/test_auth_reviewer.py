"""Who may see headers of withheld mail: a role that can nothing else, behind it a person with a secrecy agreement in
force, and for each view a record that was made before; everybody else, and every other key, not."""

from __future__ import annotations

import base64
import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from review_town import EVE, PID, RITA, SERVER, becoming

from hosting.auth.frames import encode
from hosting.auth.grants import GRANTS, Role
from hosting.auth.messages import error_of
from hosting.auth.persons import Person, check_reviewer, person_of
from hosting.auth.requests import Caller, Holders, Requests
from hosting.review.desk import DECIDE, KEY_WITHIN, VIEW, ReviewDesk
from hosting.review.keys import ReviewerKeys
from hosting.review.local import LocalReviews, local_reviews
from hosting.review.values import LISTED_MAX, REASON_MAX, ReviewCase, purpose_of, record_of
from storage.clock import FixedClock
from storage.directory.provisioning import Provisioning
from storage.directory.reviews import ReviewState
from storage.errors import CleanmailError, Conflict, Gone, InvalidInput, NotFound, NotPermitted
from storage.filter.counts import Counted
from storage.installation import Installation
from storage.keys.keystore import KeyStore
from storage.keys.master import Master
from storage.keys.sealing import Key, derive
from storage.keys.source import KeySource, LocalKeys, ServiceName
from storage.values import AccountId, TenantId

ME = str(RITA)
ONE, TWO = TenantId(1), TenantId(2)
DOCUMENT = bytes(32)


class Place:
    """An installation with two tenants, of whose withheld messages some were reported."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.clock = FixedClock()
        self.keystore = KeyStore.create(data / "keys", Master.generate(), self.clock)
        self.keys = LocalKeys(self.keystore)
        Installation.create(data, self.keys, self.clock)
        self.installation = Installation(data, self.keys, self.clock)
        provisioning = Provisioning(self.installation)
        for slug in ("acme", "zeta"):
            provisioning.create_tenant(slug, slug.title())
        self.reviews = self.installation.control.reviews
        self.reviews.ask(ONE, "q1", received=5, reason="spam")
        self.reviews.ask(TWO, "q2", received=6, reason="malware")
        self.agreements = self.installation.control.agreements
        self.holders = Holders()
        desk = ReviewDesk(self.installation, self.keys, self.clock, server_users={str(SERVER)})
        self.requests = Requests(None, self.keys, self.holders, desk=desk)  # type: ignore[arg-type]

    def agree(self, person: int = RITA) -> None:
        self.agreements.record(str(person), DOCUMENT, signed=self.clock.now() - 5, recorded_by="adam")

    def ask(self, role: Role = Role.REVIEWER, **fields: Any) -> dict[str, Any]:
        reply = self.requests.answer(Caller(PID, role), fields).result()
        if "ok" not in reply:
            raise error_of(reply)
        ok: dict[str, Any] = reply["ok"]
        return ok

    def view(self, quarantine_id: str = "q1", tenant: str = "", reason: str = "ticket 5") -> int:
        record: int = self.ask(op="view_review", id=quarantine_id, tenant=tenant, reason=reason)["record"]
        return record

    def decide(self, *, wrong: bool, quarantine_id: str = "q1", reason: str = "an invoice") -> dict[str, Any]:
        return self.ask(op="decide_review", id=quarantine_id, tenant="", reason=reason, wrong=wrong)

    def records(self) -> list[tuple[str, str, TenantId | None, dict[str, str]]]:
        found = self.installation.audit.read()
        return [(each.action, each.actor, each.tenant_id, dict(each.details or {})) for each in found]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    becoming(monkeypatch, tmp_path / "proc", RITA)
    (tmp_path / "data").mkdir()
    place = Place(tmp_path / "data")
    yield place
    place.installation.close()


def allowed() -> set[str]:
    return {"reviews", "view_review", "header_key", "decide_review"}


class TestRole:
    @pytest.mark.parametrize("role", list(Role))
    def test_only_the_reviewers_role_reviews(self, place: Place, role: Role) -> None:
        place.agree()
        for operation in allowed():
            if role is not Role.REVIEWER:
                with pytest.raises(NotPermitted, match="may not ask"):
                    place.ask(role, op=operation)
        assert GRANTS[role].reviews is (role is Role.REVIEWER)

    def test_every_other_key_is_refused(self, place: Place) -> None:
        """Every request that there is, with a view recorded and all its fields right."""
        place.agree()
        fields = {"tenant": 1, "account": 1, "purpose": purpose_of(place.view()), "protocol": "imap"}
        operations = set(place.requests._operations) - allowed() - {"forget", "ready", "still_valid", "verifying_key"}
        assert {"tenant_key", "account_key", "auditor_key", "service_key", "create_tenant_key", "verify"} <= operations
        for operation in operations:
            for name in get_args(ServiceName) if operation == "service_key" else ("",):
                with pytest.raises(NotPermitted):
                    place.ask(op=operation, name=name, **fields)

    def test_what_is_given_opens_headers_and_is_no_other_key(self, place: Place) -> None:
        place.agree()
        reply = place.ask(op="header_key", tenant=1, purpose=purpose_of(place.view()))
        given = place.keys.header_key(ONE, "test")
        client_key = Key(reply["id"], base64.b64decode(reply["secret"]))
        assert client_key == given
        secret = place.keys.tenant_key(ONE, "test").secret
        assert given.secret == derive(secret, "quarantine", "header")
        assert given.secret not in (secret, derive(secret, "quarantine", "body"))
        assert given.secret != place.keys.header_key(TWO, "test").secret
        assert set(reply) == {"id", "secret"}

    def test_the_lease_is_known_and_logged(self, place: Place, caplog: pytest.LogCaptureFixture) -> None:
        place.agree()
        number = place.view()
        with caplog.at_level("INFO"):
            place.ask(op="header_key", tenant=1, purpose=purpose_of(number))
        assert f"purpose=audit record {number} role=reviewer pid={PID}" in caplog.text
        assert "ticket" not in caplog.text

    def test_an_auth_role_without_a_desk_reviews_nothing(self, place: Place) -> None:
        place.agree()
        requests = Requests(None, place.keys, Holders())  # type: ignore[arg-type]
        reply = requests.answer(Caller(PID, Role.REVIEWER), {"op": "reviews"}).result()
        assert isinstance(error_of(reply), NotPermitted)


REQUESTS: dict[str, dict[str, Any]] = {
    "reviews": {},
    "view_review": {"id": "q1", "tenant": "", "reason": "x"},
    "header_key": {"tenant": 1, "purpose": "audit record 1"},
    "decide_review": {"id": "q1", "tenant": "", "reason": "x", "wrong": True},
}


class TestPerson:
    @pytest.mark.parametrize("operation", REQUESTS)
    def test_without_an_agreement_nothing_is_seen(self, place: Place, operation: str) -> None:
        place.agree(EVE)
        with pytest.raises(NotPermitted, match="secrecy agreement"):
            place.ask(op=operation, **REQUESTS[operation])
        assert place.records() == []

    @pytest.mark.parametrize("operation", REQUESTS)
    def test_the_agreement_is_asked_for_at_each_request(self, place: Place, operation: str) -> None:
        place.agree()
        assert place.view() == 1
        place.agreements.end(ME)
        with pytest.raises(NotPermitted, match="secrecy agreement"):
            place.ask(op=operation, **REQUESTS[operation])
        assert len(place.records()) == 1
        place.agree()
        place.ask(op=operation, **REQUESTS[operation])

    @pytest.mark.parametrize("operation", REQUESTS)
    def test_the_servers_own_user_is_no_reviewer(
        self, place: Place, operation: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        becoming(monkeypatch, place.data.parent / "proc", SERVER)
        place.agree(SERVER)
        with pytest.raises(NotPermitted, match="somebody else"):
            place.ask(op=operation, **REQUESTS[operation])

    def test_a_process_that_has_ended_is_nobody(self, place: Place) -> None:
        place.agree()
        reply = place.requests.answer(Caller(8, Role.REVIEWER), {"op": "reviews"}).result()
        assert isinstance(error_of(reply), NotPermitted)

    def test_check(self) -> None:
        rita = Person(RITA, ME)
        check_reviewer(rita, agreed=True, server_users={str(SERVER)})
        for agreed, servers in ((False, {str(SERVER)}), (True, {ME}), (False, {ME})):
            with pytest.raises(NotPermitted):
                check_reviewer(rita, agreed=agreed, server_users=servers)


class TestViews:
    def test_a_view_is_recorded_before_there_is_a_key(self, place: Place) -> None:
        place.agree()
        reply = place.ask(op="view_review", id="q1", tenant="", reason="  ticket 5 ")
        case = ReviewCase.from_fields(reply["review"])
        assert (reply["record"], case.tenant, case.quarantine_id, case.reason) == (1, "acme", "q1", "spam")
        assert (case.received, case.viewed, case.state) == (5, place.clock.now(), ReviewState.WAITING)
        assert place.records() == [(VIEW, ME, ONE, {"message": "q1", "reason": "ticket 5"})]
        place.installation.audit.verify()

    def test_every_view_is_a_record_and_the_first_is_counted(self, place: Place) -> None:
        place.agree()
        assert [place.view(), place.view()] == [1, 2]
        assert place.installation.control.judged.sums(1)[Counted.VIEWED] == 1

    @pytest.mark.parametrize("reason", ["", "   ", "x" * (REASON_MAX + 1), None, 5])
    def test_a_reason_is_needed(self, place: Place, reason: object) -> None:
        place.agree()
        for operation in ("view_review", "decide_review"):
            with pytest.raises(InvalidInput):
                place.ask(op=operation, id="q1", tenant="", reason=reason, wrong=True)
        assert place.records() == []

    def test_what_nobody_reported_is_not_seen(self, place: Place) -> None:
        place.agree()
        for quarantine_id, tenant in (("q3", ""), ("q1", "zeta"), ("q1", "nobody")):
            with pytest.raises(NotFound):
                place.view(quarantine_id, tenant)
        assert place.records() == []

    def test_what_is_gone_is_not_seen(self, place: Place) -> None:
        place.agree()
        place.reviews.gone(ONE, "q1")
        with pytest.raises(Conflict):
            place.view()
        assert place.records() == []

    def test_a_number_of_two_tenants_needs_the_tenant(self, place: Place) -> None:
        place.agree()
        place.reviews.ask(TWO, "q1")
        with pytest.raises(Conflict, match="say of which"):
            place.view("q1")
        assert place.view("q1", "zeta") == 1
        assert place.records()[0][2] == TWO

    def test_the_key_of_a_tenant_that_ended_is_gone(self, place: Place) -> None:
        place.agree()
        place.keystore.destroy_tenant(ONE)
        with pytest.raises(Gone):
            place.view("q1")

    def test_a_key_is_given_for_ones_own_fresh_view_of_that_tenant_only(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place.agree()
        place.agree(EVE)
        number = place.view()
        foreign = place.installation.audit.append("review.decide", ME, ONE)

        def key(tenant: int, record: int) -> None:
            place.ask(op="header_key", tenant=tenant, purpose=purpose_of(record))

        for tenant, record in ((TWO, number), (ONE, foreign), (ONE, 99), (ONE, 0)):
            with pytest.raises(NotPermitted):
                key(tenant, record)
        key(ONE, number)
        place.clock.advance(KEY_WITHIN)
        key(ONE, number)
        becoming(monkeypatch, place.data.parent / "proc", EVE)
        with pytest.raises(NotPermitted):
            key(ONE, number)
        becoming(monkeypatch, place.data.parent / "proc", RITA)
        place.clock.advance(1)
        with pytest.raises(NotPermitted, match="too long ago"):
            key(ONE, number)

    @pytest.mark.parametrize(
        "purpose", ["", "review", "audit record", "audit record x", "audit record -1", "x 1", None]
    )
    def test_a_key_is_asked_for_under_a_record(self, place: Place, purpose: object) -> None:
        place.agree()
        place.view()
        with pytest.raises(InvalidInput):
            place.ask(op="header_key", tenant=1, purpose=purpose)

    def test_purposes(self) -> None:
        assert record_of(purpose_of(12)) == 12
        with pytest.raises(InvalidInput):
            record_of("audit record " + "9" * 19)


class TestDecisions:
    @pytest.mark.parametrize(("wrong", "word"), [(True, "wrong"), (False, "right")])
    def test_a_decision_is_recorded(self, place: Place, wrong: bool, word: str) -> None:
        place.agree()
        with pytest.raises(Conflict, match="looked"):
            place.decide(wrong=wrong)
        assert place.records() == []
        place.view()
        reply = place.decide(wrong=wrong)
        assert (reply["record"], ReviewCase.from_fields(reply["review"]).state) == (2, word)
        assert place.records()[1] == (
            DECIDE,
            ME,
            ONE,
            {"message": "q1", "decision": word, "reason": "an invoice"},
        )
        assert place.reviews.find("q1").decided_by == ME
        with pytest.raises(Conflict, match="over"):
            place.decide(wrong=wrong)
        assert len(place.records()) == 2

    @pytest.mark.parametrize("wrong", [None, 1, "true"])
    def test_a_decision_says_what(self, place: Place, wrong: Any) -> None:
        place.agree()
        place.view()
        with pytest.raises(InvalidInput):
            place.decide(wrong=wrong)


def test_what_waits_is_listed_without_a_word_of_a_message(place: Place) -> None:
    place.agree()
    place.clock.advance(5)
    place.reviews.ask(ONE, "q3", received=9, reason="spam")
    place.view("q2")
    place.decide(wrong=False, quarantine_id="q2")
    cases = [ReviewCase.from_fields(fields) for fields in place.ask(op="reviews")["reviews"]]
    assert [(case.tenant, case.quarantine_id, case.reason) for case in cases] == [
        ("acme", "q1", "spam"),
        ("acme", "q3", "spam"),
    ]
    assert len(place.records()) == 2, "looking at the list is no view"


def test_the_longest_list_fits_into_a_frame(place: Place) -> None:
    place.agree()
    for number in range(LISTED_MAX + 1):
        place.reviews.ask(ONE, f"{number:016d}" + "q" * 10, received=1_750_000_000, reason="forbidden-attachment")
    reply = place.ask(op="reviews")
    assert len(reply["reviews"]) == LISTED_MAX
    assert encode({"ok": reply})


@pytest.mark.parametrize("fields", [None, 5, {}, {"state": "waiting"}, {"tenant_id": "x", "state": "waiting"}])
def test_what_is_no_review_is_refused(fields: object) -> None:
    with pytest.raises(InvalidInput):
        ReviewCase.from_fields(fields)


class TestWithoutAServer:
    @pytest.fixture
    def local(self, place: Place) -> Iterator[LocalReviews]:
        with local_reviews(place.data, place.keys, place.clock, server_users={str(SERVER)}) as local:
            yield local

    def test_the_same_rules_hold(self, place: Place, local: LocalReviews) -> None:
        with pytest.raises(NotPermitted, match="secrecy agreement"):
            local.reviews()
        place.agree()
        assert [case.quarantine_id for case in local.reviews()] == ["q1", "q2"]
        done = local.view_review("q1", "", "ticket 5")
        assert local.header_key(ONE, purpose_of(done.record)) == place.keys.header_key(ONE, "test")
        with pytest.raises(NotPermitted):
            local.header_key(TWO, purpose_of(done.record))
        assert local.decide_review("q1", "acme", "spam indeed", wrong=False).case.state is ReviewState.RIGHT
        assert [(action, actor) for action, actor, _, _ in place.records()] == [(VIEW, ME), (DECIDE, ME)]

    def test_its_keys_open_headers_and_the_directory_only(self, place: Place) -> None:
        keys = ReviewerKeys(place.keys)
        assert keys.header_key(ONE, "x") == place.keys.header_key(ONE, "x")
        tried = 0
        for name, _ in inspect.getmembers(KeySource, inspect.isfunction):
            if name.startswith("_") or name in ("header_key", "service_key"):
                continue
            arguments: list[Any] = [TenantId(1), AccountId(1), "x"]
            count = len(inspect.signature(getattr(keys, name)).parameters)
            with pytest.raises(NotPermitted):
                getattr(keys, name)(*(["x"] if name == "auditor_key" else arguments[:count]))
            tried += 1
        assert tried >= 6
        for service in get_args(ServiceName):
            if service in ("control", "directory"):
                assert keys.service_key(service) == place.keys.service_key(service)
            else:
                with pytest.raises(NotPermitted):
                    keys.service_key(service)
        installation = Installation(place.data, keys, place.clock)
        try:
            with pytest.raises(CleanmailError):
                installation.tenant(ONE)
            assert installation.control.tenant(ONE).name == ""
        finally:
            installation.close()


def test_who_runs_this_is_found_by_the_kernel() -> None:
    assert person_of(os.getpid()) == person_of()
