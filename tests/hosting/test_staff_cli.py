"""Staff at the command line: accounts and sign-ins, who may run what, and what administrators of customers reach."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from review_town import ADAM, EVE, RITA
from staff_town import PASSWORD, StaffTown, code_of, make_town, runtime_folder

from hosting.access import session_file
from storage.directory.approvals import ApprovalState

OTHERS = ("bolt", "2", "ben@bolt.test", "bolt.test")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once; every test works on a copy."""
    data = tmp_path_factory.mktemp("staff") / "data"
    make_town(data)
    return data


@pytest.fixture
def town(
    template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[StaffTown]:
    data = tmp_path / "data"
    shutil.copytree(template, data)
    with runtime_folder() as runtime:
        yield StaffTown(data, capsys, monkeypatch, runtime)


class TestBootstrapping:
    def test_while_nobody_is_staff_whoever_can_read_the_keys_operates(self, town: StaffTown) -> None:
        for required in ("", "[staff]\nrequired = true\n"):
            town.configure(required)
            for uid in (town.uid, ADAM):
                town.become(uid)
                assert town.run("tenant", "list").status == 0
        said = town.run("whoami", "--json").json
        assert (said["name"], said["roles"], said["signed_in"]) == (str(ADAM), ["operator"], False)

    def test_afterwards_root_and_the_servers_user_go_on_and_others_need_a_role(self, town: StaffTown) -> None:
        home = town.uid
        town.person("anna", "operator")
        assert town.run("tenant", "list").status == 0
        town.become(ADAM)
        refused = town.run("tenant", "list")
        assert refused.status == 1
        assert "has no such role" in refused.err
        town.configure(f'[staff.unix]\n{ADAM} = "support"\n')
        assert town.run("tenant", "list").status == 0
        assert town.run("tenant", "create", "third").status == 1
        town.become(home)
        town.configure("[staff]\nrequired = true\n")
        refused = town.run("tenant", "list")
        assert (refused.status, "sign-in" in refused.err) == (1, True)
        assert town.run("check").status == 0  # the machine's own
        town.become(ADAM)
        for command in (["check"], ["upgrade", "--check"], ["serve"], ["init"]):
            refused = town.run(*command)  # by sudo: that is not root
            assert (refused.status, "sign-in" in refused.err) == (1, True)
        town.signed_in("anna")
        assert town.run("check").status == 0

    def test_roles_of_unix_users_alone_end_the_freedom_of_others(self, town: StaffTown) -> None:
        town.configure(f'[staff.unix]\n{ADAM} = "billing"\n')
        for uid, status in ((ADAM, 0), (EVE, 1)):
            town.become(uid)
            assert town.run("tenant", "list").status == status
        town.become(ADAM)
        assert town.run("account", "list").status == 1

    def test_root_gives_back_a_lost_second_factor(self, town: StaffTown) -> None:
        if os.geteuid():
            pytest.skip("needs root")
        town.configure("[staff]\nrequired = true\n")
        town.person("anna", "operator")
        assert town.run("staff", "reset-totp", "anna").status == 0
        assert town.run("staff", "list").status == 1
        town.become(ADAM)
        assert town.run("staff", "reset-totp", "anna").status == 1
        assert town.audited("staff.reset_totp") == [("staff.reset_totp", "root")]


class TestSigningIn:
    def test_from_the_account_to_the_end(self, town: StaffTown) -> None:
        made = town.run(
            "staff", "add", "anna", "--role", "support", "--role", "billing", "--secrets-from", "-", "--json",
            stdin=f"{PASSWORD}\n",
        ).json  # fmt: skip
        assert (made["roles"], made["confirmed"]) == (["billing", "support"], False)
        address = made["otpauth"]
        assert address.startswith("otpauth://totp/")
        town.become(ADAM)
        assert town.run("tenant", "list").status == 1
        wrong = town.run("sign-in", "anna", "--secrets-from", "-", stdin=f"{PASSWORD}\n000000\n")
        assert (wrong.status, "wrong" in wrong.err) == (1, True)
        code = code_of(address)
        secrets = f"{PASSWORD}\n{code}\n"
        done = town.run("sign-in", "anna", "--secrets-from", "-", "--json", stdin=secrets).json
        assert (done["name"], done["failures"]) == ("anna", 1)
        assert town.run("tenant", "list").status == 0
        assert town.run("tenant", "create", "third").status == 1
        assert town.run("whoami", "--json").json == {
            "name": "anna",
            "roles": ["billing", "support"],
            "tenant": None,
            "unix_user": str(ADAM),
            "signed_in": True,
            "must_sign_in": False,
        }
        again = town.run("sign-in", "anna", "--secrets-from", "-", stdin=secrets)
        assert again.status == 1  # a code works once
        (file,) = (town.runtime / str(ADAM) / "cleanmail").iterdir()
        assert file.stat().st_mode & 0o777 == 0o600
        town.become(EVE)
        assert town.run("tenant", "list").status == 1  # a session is of one Unix user
        town.become(ADAM)
        assert town.run("sign-out", "--json").json == {"ended": True}
        assert town.run("tenant", "list").status == 1
        assert town.run("sign-out", "--json").json == {"ended": False}
        assert town.audited("staff.add", "staff.sign_in", "staff.sign_in_failed") == [
            ("staff.add", town.audited("staff.add")[0][1]),
            ("staff.sign_in_failed", str(ADAM)),
            ("staff.sign_in", "anna"),
            ("staff.sign_in_failed", str(ADAM)),
        ]

    def test_everything_is_recorded_with_the_persons_name(self, town: StaffTown) -> None:
        town.person("anna", "operator")
        town.become(ADAM)
        town.signed_in("anna")
        assert town.run("account", "freeze", "ann@acme.test", "--reason", "abuse").status == 0
        assert town.audited("account.freeze") == [("account.freeze", "anna")]

    def test_a_password_of_ones_own(self, town: StaffTown) -> None:
        made = town.run(
            "staff", "add", "anna", "--role", "support", "--secrets-from", "-", "--json", stdin=f"{PASSWORD}\n"
        ).json
        town.become(ADAM)
        secrets = f"{PASSWORD}\n{code_of(made['otpauth'])}\nanother good one\n"
        assert town.run("sign-in", "anna", "--change-password", "--secrets-from", "-", stdin=secrets).status == 0
        for password, status in ((PASSWORD, 1), ("another good one", 0)):
            secrets = f"{password}\n{code_of(made['otpauth'], 1)}\n"
            assert town.run("sign-in", "anna", "--secrets-from", "-", stdin=secrets).status == status

    @pytest.mark.parametrize("new", ["short", ""])
    def test_a_password_that_is_refused_leaves_no_session(self, town: StaffTown, new: str) -> None:
        """The auth role believes the Unix user, who could not end it: its token is nowhere."""
        made = town.run(
            "staff", "add", "anna", "--role", "support", "--secrets-from", "-", "--json", stdin=f"{PASSWORD}\n"
        ).json
        town.become(ADAM)
        secrets = f"{PASSWORD}\n{code_of(made['otpauth'])}\n{new}\n"
        assert town.run("sign-in", "anna", "--change-password", "--secrets-from", "-", stdin=secrets).status == 1
        with town.installation() as installation:
            assert installation.control.staff.signed_in_as(ADAM, 3600) == []

    def test_nobody_signs_in_where_his_session_cannot_be_kept(self, town: StaffTown) -> None:
        town.person("anna", "operator")
        made = town.run("staff", "reset-totp", "anna", "--json").json
        town.run("staff", "password", "anna", "--secrets-from", "-", stdin=f"{PASSWORD}\n")
        town.become(ADAM)
        town.signed_in("anna")
        (file,) = (town.runtime / str(ADAM) / "cleanmail").iterdir()
        file.chmod(0o644)
        secrets = f"{PASSWORD}\n{code_of(made['otpauth'])}\n"
        assert town.run("sign-in", "anna", "--secrets-from", "-", stdin=secrets).status == 1
        file.unlink()
        assert town.run("sign-in", "anna", "--secrets-from", "-", stdin=secrets).status == 0  # the code was not used up

    @pytest.mark.parametrize("change", ["roles", "password", "reset-totp", "end"])
    def test_a_change_ends_the_session(self, town: StaffTown, change: str) -> None:
        home = town.uid
        town.person("anna", "support")
        town.become(ADAM)
        town.signed_in("anna")
        assert town.run("tenant", "list").status == 0
        town.become(home)
        more = {"roles": ["--role", "operator"], "password": ["--secrets-from", "-"]}.get(change, [])
        assert town.run("staff", change, "anna", *more, stdin=f"{PASSWORD}\n").status == 0
        town.become(ADAM)
        assert town.run("tenant", "list").status == 1

    def test_a_session_that_others_can_read_is_not_believed(self, town: StaffTown) -> None:
        town.person("anna", "operator")
        town.become(ADAM)
        town.signed_in("anna")
        (file,) = (town.runtime / str(ADAM) / "cleanmail").iterdir()
        file.chmod(0o644)
        refused = town.run("tenant", "list")
        assert (refused.status, "read by others" in refused.err) == (1, True)
        if os.geteuid() == 0:
            file.chmod(0o600)
            os.chown(file, EVE, EVE)
            assert town.run("tenant", "list").status == 1

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
    def test_a_configuration_of_ones_own_is_not_root_s(self, town: StaffTown, tmp_path: Path) -> None:
        """By sudo he could give himself every role by it, or a command that prints the master key."""
        town.person("anna", "operator")
        town.become(ADAM)
        mine = tmp_path / "mine.toml"
        mine.write_text(f'[staff.unix]\n{ADAM} = "operator"\n')
        os.chown(mine, ADAM, ADAM)
        refused = town.run("--config", str(mine), "tenant", "list")
        assert (refused.status, "who may do what" in refused.err) == (1, True)
        os.chown(mine, 0, 0)
        assert town.run("--config", str(mine), "tenant", "list").status == 0
        mine.chmod(0o666)
        assert town.run("--config", str(mine), "tenant", "list").status == 1

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
    def test_an_empty_configuration_of_root_s_makes_nobody_an_operator(self, town: StaffTown, tmp_path: Path) -> None:
        """Where no staff but [staff.unix] alone gives roles, by sudo."""
        empty = tmp_path / "empty.toml"
        empty.write_text("")
        home = town.uid
        town.become(EVE)
        assert town.run("--config", str(empty), "tenant", "list").status == 0  # nobody has a role yet
        town.configure(f'[staff.unix]\n{ADAM} = "operator"\n')
        town.become(ADAM)
        assert town.run("tenant", "list").status == 0
        for uid in (EVE, ADAM):
            town.become(uid)
            refused = town.run("--config", str(empty), "tenant", "list")
            assert (refused.status, "has no such role" in refused.err) == (1, True)
        town.become(home)
        assert town.run("--config", str(empty), "hold", "list").status == 0  # root at the console

    def test_a_configuration_that_is_not_there_is_not_the_defaults(self, town: StaffTown, tmp_path: Path) -> None:
        """Roles of Unix users stand in it; without them everybody would be an operator."""
        town.configure(f'[staff.unix]\n{ADAM} = "billing"\n')
        town.become(EVE)
        assert town.run("tenant", "create", "third").status == 1
        refused = town.run("--config", str(tmp_path / "none.toml"), "tenant", "create", "third")
        assert (refused.status, "no configuration file" in refused.err) == (1, True)

    def test_a_token_of_another_unix_user_opens_nothing(self, town: StaffTown) -> None:
        town.person("anna", "operator")
        town.become(ADAM)
        token = town.signed_in("anna")
        town.become(EVE)
        session_file.write(town.data, EVE, token)
        assert town.run("tenant", "list").status == 1

    def test_nobody_changes_his_own_roles(self, town: StaffTown) -> None:
        town.person("anna", "operator")
        town.signed_in("anna")
        assert town.run("staff", "roles", "anna", "--role", "auditor").status == 1
        assert town.run("staff", "end", "anna").status == 1

    @pytest.mark.parametrize(
        ("arguments", "stdin"),
        [
            (["--role", "support"], ""),  # nowhere to ask for a password
            (["--role", "support", "--secrets-from", "-"], "\n"),
            (["--role", "support", "--secrets-from", "-"], "short\n"),
            (["--role", "support", "--secrets-from", "/nowhere"], ""),
            (["--role", "support", "--tenant", "acme", "--secrets-from", "-"], f"{PASSWORD}\n"),
            (["--role", "tenant_administrator", "--secrets-from", "-"], f"{PASSWORD}\n"),
            (["--role", "tenant_administrator", "--tenant", "none", "--secrets-from", "-"], f"{PASSWORD}\n"),
            (["--role", "tenant_administrator", "--role", "support", "--tenant", "acme"], f"{PASSWORD}\n"),
            (["--role", "user", "--secrets-from", "-"], f"{PASSWORD}\n"),
        ],
    )
    def test_wrong_accounts(self, town: StaffTown, arguments: list[str], stdin: str) -> None:
        refused = town.run("staff", "add", "anna", *arguments, stdin=stdin)
        assert refused.status == 1, refused.out
        assert "unexpected" not in refused.err
        assert town.run("staff", "list", "--json").json == []


class TestTenantAdministrators:
    """Of acme. Every way to bolt is tried."""

    @pytest.fixture
    def acme(self, town: StaffTown) -> StaffTown:
        town.configure("[staff]\nrequired = true\n")
        town.person("tina", "tenant_administrator", tenant=1)
        town.become(RITA)
        town.signed_in("tina")
        return town

    def test_lists_hold_what_is_theirs(self, acme: StaffTown) -> None:
        assert acme.run("whoami", "--json").json["tenant"] == "acme"
        for command in (["tenant"], ["domain"], ["account"], ["alias"], ["dkim"], ["route"], ["quarantine"]):
            said = acme.run(*command, "list", "--json")
            assert said.status == 0, (command, said.err)
            assert "bolt" not in said.out
            if command[0] in {"tenant", "domain", "account"}:
                assert "acme" in said.out
        assert [row["slug"] for row in acme.run("tenant", "list", "--json").json] == ["acme"]
        summary = acme.run("quarantine", "summary", "--json").json
        assert [row["tenant"] for row in summary] == ["acme"]

    @pytest.mark.parametrize(
        "command",
        [
            ["tenant", "show", "bolt"],
            ["tenant", "show", "2"],
            ["tenant", "mail", "bolt", "--postmaster", "ann@acme.test"],
            ["tenant", "mail", "2", "--reset"],
            ["domain", "list", "bolt"],
            ["dns", "records", "bolt.test"],
            ["account", "list", "bolt"],
            ["account", "list", "2"],
            ["account", "show", "ben@bolt.test"],
            ["account", "create", "eve@bolt.test", "--without-password"],
            ["account", "suspend", "ben@bolt.test"],
            ["account", "freeze", "ben@bolt.test", "--reason", "x"],
            ["account", "quota", "ben@bolt.test", "--storage", "1G"],
            ["account", "passwd", "ben@bolt.test", "--generate"],
            ["account", "delete", "ben@bolt.test", "--yes"],
            ["alias", "add", "x@bolt.test", "ann@acme.test"],
            ["alias", "list", "bolt"],
            ["app-password", "create", "ben@bolt.test", "phone"],
            ["app-password", "list", "ben@bolt.test"],
            ["import", "ben@bolt.test", "/dev/null"],
            ["filter", "policy", "show", "--tenant", "bolt"],
            ["filter", "policy", "show", "--domain", "bolt.test"],
            ["filter", "allow", "add", "x@far.test", "--tenant", "2"],
            ["filter", "deny", "list", "--account", "ben@bolt.test"],
            ["quarantine", "list", "--tenant", "bolt"],
            ["quarantine", "list", "--account", "ben@bolt.test"],
            ["route", "show", "bolt.test"],
        ],
    )
    def test_other_tenants_do_not_exist(self, acme: StaffTown, command: list[str]) -> None:
        refused = acme.run(*command)
        assert refused.status == 1, refused.out
        assert "no such role" not in refused.err
        assert "unexpected" not in refused.err
        mine = [{"bolt": "acme", "2": "1"}.get(each, each.replace("ben@bolt", "ann@acme")) for each in command]
        mine = [each.replace("bolt.test", "acme.test") for each in mine]
        if (
            command[0] not in {"import", "dns", "route"} and "delete" not in command
        ):  # the same is allowed where it is theirs
            assert acme.run(*mine).status == 0, mine

    @pytest.mark.parametrize(
        "command",
        [
            ["tenant", "create", "third"],
            ["tenant", "suspend", "acme"],
            ["domain", "add", "acme", "more.test", "--verified"],
            ["queue", "list"],
            ["trace"],
            ["log", "access"],
            ["log", "audit"],
            ["log", "transcripts", "--reason", "x"],
            ["staff", "list"],
            ["staff", "add", "eve", "--role", "operator"],
            ["request", "list"],
            ["ending", "list"],
            ["hold", "list"],
            ["keys", "status"],
            ["import", "ann@acme.test", "/dev/null"],
            ["account", "delete", "ann@acme.test", "--yes"],
            ["message", "show", "ann@acme.test", "INBOX", "1"],
            ["review", "list"],
            ["filter", "status"],
        ],
    )
    def test_what_is_the_providers_is_not_theirs(self, acme: StaffTown, command: list[str]) -> None:
        refused = acme.run(*command)
        assert refused.status == 1, refused.out
        assert "unexpected" not in refused.err

    def test_what_they_do_is_recorded_with_their_name(self, acme: StaffTown) -> None:
        assert acme.run("tenant", "mail", "acme", "--postmaster", "ann@acme.test").status == 0
        assert acme.audited("tenant.mail") == [("tenant.mail", "tina")]
        assert acme.run("alias", "add", "sales@acme.test", "far@elsewhere.test").status == 0
        assert acme.run("alias", "remove", "sales@acme.test").status == 0
        assert acme.audited("alias.add", "alias.remove") == [("alias.add", "tina"), ("alias.remove", "tina")]
        before = acme.audited()
        assert acme.run("alias", "list").status == acme.run("account", "list").status == 0
        assert acme.audited() == before  # who reads what is his leaves none


class TestRequests:
    """Anna asks, Bert approves; both are staff."""

    @pytest.fixture
    def people(self, town: StaffTown) -> StaffTown:
        town.person("anna", "support")
        town.person("bert", "auditor")
        with town.installation() as installation, installation.account(1, 1) as account:  # type: ignore[arg-type]
            inbox = account.mailboxes.find("INBOX")
            account.messages.append(inbox.id, b"From: far@far.test\r\nSubject: secret\r\n\r\nbody-4711\r\n")
        self.sit(town, RITA, "anna")
        return town

    def sit(self, town: StaffTown, uid: int, name: str) -> None:
        town.become(uid)
        town.signed_in(name)

    def test_body_access_in_an_emergency(self, people: StaffTown) -> None:
        ask = ["request", "ask", "body_access", "--account", "ann@acme.test", "--message", "INBOX/1"]
        read = ["message", "show", "ann@acme.test", "INBOX", "1"]
        refused = people.run(*read)
        assert (refused.status, "request ask body_access" in refused.err) == (1, True)
        assert "body-4711" not in refused.out
        for folder, uid in (("INBOX", "2"), ("Divorce", "1")):  # nor is it told what there is
            said = people.run("message", "show", "ann@acme.test", folder, uid).err
            assert said == refused.err.replace("INBOX/1", f"{folder}/{uid}")
        assert shlex.join([*ask, "--reason", "say why here"]) in refused.err
        asked = people.run(*ask, "--reason", "bombs", "--json").json
        assert people.run(*read).err == refused.err  # nor by its having been asked for
        assert people.run("request", "approve", asked["id"]).status == 1  # support is no approver
        self.sit(people, ADAM, "bert")
        (waiting,) = people.run("request", "list", "--json").json
        assert (waiting["asked_by"], waiting["asked_as"], waiting["reason"]) == ("anna", str(RITA), "bombs")
        assert people.run("request", "approve", asked["id"]).status == 0
        assert people.run(*read).status == 1  # who approved may not read
        people.become(RITA)
        assert people.run("message", "show", "ann@acme.test", "INBOX", "2").status == 1
        assert people.run("message", "show", "ann@acme.test", "Sent", "1").status == 1
        (shown,) = people.run(*read, "--json").json
        assert "body-4711" in shown["text"]
        again = people.run(*read)
        assert (again.status, "body-4711" in again.out) == (1, False)
        actions = people.audited("approval.ask", "approval.approve", "approval.use", "message.read")
        assert actions == [
            ("approval.ask", "anna"),
            ("approval.approve", "bert"),
            ("approval.use", "anna"),
            ("message.read", "anna"),
        ]
        with people.installation() as installation:
            (record,) = installation.audit.read(action="message.read")
            assert (record.tenant_id, record.account_id, record.number) == (1, 1, shown["audit_record"])
            assert record.details is not None
            assert (record.details["approved_by"], record.details["reason"]) == ("bert", "bombs")

    def test_an_approval_is_for_the_message_that_was_there(self, people: StaffTown) -> None:
        """Not for one that comes to its place later; nor is it told at the request whether there is one."""
        asked = {}
        for place in ("INBOX/1", "INBOX/2", "Divorce/1"):
            ask = ["request", "ask", "body_access", "--account", "ann@acme.test", "--message", place]
            asked[place] = people.run(*ask, "--reason", "bombs", "--json").json
        assert len({each["scope"]["message"] for each in asked.values()}) == 3
        assert {len(each["scope"]["message"]) for each in asked.values()} == {32}
        self.sit(people, ADAM, "bert")
        for each in asked.values():
            assert people.run("request", "approve", each["id"]).status == 0
        with people.installation() as installation, installation.account(1, 1) as account:  # type: ignore[arg-type]
            for mailbox in (account.mailboxes.find("INBOX"), account.mailboxes.create("Divorce")):
                account.messages.append(mailbox.id, b"Subject: later\r\n\r\nbody-4712\r\n")
        people.become(RITA)
        assert people.run("message", "show", "ann@acme.test", "INBOX", "2").status == 1
        assert people.run("message", "show", "ann@acme.test", "Divorce", "1").status == 1
        assert people.run("message", "show", "ann@acme.test", "INBOX", "1").status == 0

    def test_who_asked_withdraws_it(self, people: StaffTown) -> None:
        ask = ["request", "ask", "body_access", "--account", "ann@acme.test", "--message", "INBOX/1"]
        number = people.run(*ask, "--reason", "bombs", "--json").json["id"]
        assert people.run("request", "withdraw", number, "--json").json["state"] == "withdrawn"
        assert people.run("request", "list", "--json").json == []
        assert people.run("request", "withdraw", number).status == 1

    def test_the_asker_does_not_approve_in_any_disguise(self, people: StaffTown) -> None:
        people.person("olga", "operator")
        self.sit(people, EVE, "olga")
        asked = people.run("request", "ask", "early_erasure", "--tenant", "acme", "--reason", "law", "--json").json
        assert people.run("request", "approve", asked["id"]).status == 1
        people.become(ADAM)
        people.signed_in("olga")  # from another Unix user
        assert people.run("request", "approve", asked["id"]).status == 1
        people.signed_out()
        people.become(EVE)
        people.signed_out()
        people.configure(f'[staff.unix]\n{EVE} = "operator"\n')  # without the session
        refused = people.run("request", "approve", asked["id"])
        assert (refused.status, "another person" in refused.err) == (1, True)
        self.sit(people, RITA, "bert")
        assert people.run("request", "refuse", asked["id"], "--json").json["state"] == "refused"
        assert people.run("request", "list", "--json").json == []
        assert [row["state"] for row in people.run("request", "list", "--all", "--json").json] == ["refused"]

    def test_two_unix_users_are_two_persons_where_nobody_is_staff(self, town: StaffTown) -> None:
        town.become(ADAM)
        asked = town.run("request", "ask", "early_erasure", "--tenant", "2", "--reason", "they asked", "--json").json
        assert asked["scope"] == {"tenant": "2"}
        assert town.run("request", "approve", asked["id"]).status == 1
        town.become(EVE)
        assert town.run("request", "approve", asked["id"]).status == 0
        with town.installation() as installation:
            assert installation.control.approvals.find(asked["id"]).state is ApprovalState.APPROVED

    def test_a_hold_is_in_force_once_another_person_agreed(self, people: StaffTown) -> None:
        people.person("olga", "operator")
        self.sit(people, EVE, "olga")
        until = str(datetime.now(UTC).date() + timedelta(days=300))
        ask = ["request", "ask", "hold", "--account", "ann@acme.test", "--until", until, "--reason", "case 5"]
        asked = people.run(*ask, "--json").json
        assert people.run("hold", "list", "--json").json == []
        self.sit(people, ADAM, "bert")
        assert people.run("request", "approve", asked["id"]).status == 0
        (hold,) = people.run("hold", "list", "--json").json
        assert (hold["asked_by"], hold["approved_by"]) == ("olga", "bert")

    def test_a_process_of_the_servers_own_is_no_second_person(self, town: StaffTown) -> None:
        town.become(ADAM)
        asked = town.run("request", "ask", "early_erasure", "--tenant", "2", "--reason", "law", "--json").json
        town.configure(f'[server]\nuser = "{EVE}"\n')
        town.become(EVE)
        refused = town.run("request", "approve", asked["id"])
        assert (refused.status, "somebody else" in refused.err) == (1, True)

    @pytest.mark.parametrize(
        "arguments",
        [
            ["body_access", "--reason", "x"],
            ["body_access", "--account", "ann@acme.test", "--reason", "x"],
            ["body_access", "--message", "INBOX/1", "--reason", "x"],
            ["body_access", "--account", "ann@acme.test", "--message", "INBOX", "--reason", "x"],
            ["body_access", "--account", "ann@acme.test", "--message", "INBOX/x", "--reason", "x"],
            ["hold", "--account", "ann@acme.test", "--message", "INBOX/1", "--reason", "x"],
            ["hold", "--reason", "x"],
            ["hold", "--tenant", "acme", "--reason", "x"],
            ["hold", "--tenant", "acme", "--reason", " ", "--until", "2999-01-01"],
            ["hold", "--tenant", "acme", "--reason", "x", "--until", "2020-01-01"],
            ["early_erasure", "--tenant", "acme", "--reason", "x", "--until", "2999-01-01"],
            ["early_erasure", "--tenant", "acme", "--reason", " "],
            ["early_erasure", "--tenant", "acme", "--reason", "x", "--detail", "until"],
            ["early_erasure", "--tenant", "acme", "--reason", "x", "--detail", "tenant=2"],  # recorded with acme alone
            ["early_erasure", "--tenant", "acme", "--reason", "x", "--detail", "tenant_id=2"],
            ["early_erasure", "--tenant", "acme", "--reason", "x", "--detail", "a=1", "--detail", "a=2"],
            [
                "body_access",
                "--account",
                "ann@acme.test",
                "--message",
                "INBOX/1",
                "--reason",
                "x",
                "--detail",
                "account=2",
            ],
            ["hold", "--tenant", "acme", "--reason", "x", "--until", "2030-01-01", "--detail", "only=mail"],
            ["hold", "--tenant", "bolt", "--account", "ann@acme.test", "--reason", "x"],
            ["disclosure", "--tenant", "acme", "--reason", "x"],
        ],
    )
    def test_wrong_requests(self, town: StaffTown, arguments: list[str]) -> None:
        refused = town.run("request", "ask", *arguments)
        assert (refused.status, "unexpected" in refused.err) == (1, False), refused.out
        assert town.run("request", "list", "--all", "--json").json == []


def test_errors_are_json_too(town: StaffTown) -> None:
    town.person("anna", "operator")
    town.become(ADAM)
    assert json.loads(town.run("tenant", "list", "--json").err)["error"] == "not-permitted"
