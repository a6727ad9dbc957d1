"""The demonstration behind scripts/serve: an installation with a tenant, two accounts and some mail, on loopback only.

Makes what is missing in the data directory, then serves it with the same supervisor as `cleanmail serve` and tells,
when all is listening, how to point a mail program at it. Passwords are generated and printed at the first start, since
they are not kept; --demo-password sets them instead.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from hosting import composition, tls
from hosting.cli import secrets_input
from hosting.config import FILE_NAME, Config, load
from hosting.roles import serving, start
from hosting.roles.only_server import only_server
from storage.errors import CleanmailError, NotFound
from storage.importing import import_archive, open_archive
from storage.values import Domain, EmailAddress

ROOT = Path(__file__).resolve().parents[1]
MAIL = ROOT / "scripts" / "demo" / "mail"
TENANT, DOMAIN = "example", "example.test"
ACCOUNTS = {"alice": "Alice Janssens", "bob": "Bob Öztürk"}
MARK = "# Written by scripts/serve at every start. Without this line it is yours, and is left as it is.\n"
PORTS = {
    "mx": 25,
    "imap": 143,
    "imaps": 993,
    "submission": 587,
    "submissions": 465,
    "https": 443,
    "http": 80,
    "operations": 880,
}


def write_configuration(path: Path, offset: int, *, plain: bool) -> None:
    """Loopback addresses and shifted ports; a file that somebody made their own stays."""
    if path.exists() and not path.read_text(encoding="utf-8").startswith(MARK):
        print(f"{path} is your own: --port-offset and --plain are left to it.", file=sys.stderr)
        return
    settings = [f"{name} = {port + offset}" for name, port in PORTS.items()]
    settings += [f"addresses = {json.dumps(loopback_addresses())}", f"plain_text_sign_in = {str(plain).lower()}"]
    path.write_text(
        f'{MARK}[server]\nhostname = "localhost"\n\n[logs]\nlevel = "warning"\n\n'
        '[relay]\nprivate_networks = ["127.0.0.0/8", "::1/128"]\n\n[listen]\n'
        + "".join(f"{setting}\n" for setting in settings),
        encoding="utf-8",
    )


def loopback_addresses() -> list[str]:
    """127.0.0.1, and ::1 where the machine has it."""
    addresses = ["127.0.0.1"]
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
        probe.bind(("::1", 0))
        addresses.append("::1")
    return addresses


def make_certificate(folder: Path) -> None:
    certificate = folder / "certificate.pem"
    if not certificate.exists() or tls.expires(certificate) - datetime.now(UTC) < tls.RENEW_BEFORE:
        tls.make_self_signed(folder, ["localhost", "127.0.0.1", "::1"])


def make_accounts(data: Path, config: Config, password: str | None) -> dict[str, str]:
    """Tenant, domain and accounts with their mail, where they are missing; the passwords that were set, by address."""
    passwords = composition.passwords_of(config)
    set_now: dict[str, str] = {}
    with composition.administration(data, config) as administration:
        control, provisioning = administration.control, administration.provisioning
        try:
            tenant = control.tenant_by_slug(TENANT)
        except NotFound:
            tenant = provisioning.create_tenant(TENANT, "Example Ltd")
            control.add_domain(tenant.tenant_id, Domain.parse(DOMAIN))
            control.verify_domain(Domain.parse(DOMAIN), None)
        store = administration.installation.tenant(tenant.tenant_id)
        for local, name in ACCOUNTS.items():
            address = EmailAddress.parse(f"{local}@{DOMAIN}")
            try:
                account = store.account_by_address(address)
            except NotFound:
                chosen = password or secrets_input.generate()
                account = provisioning.create_account(
                    tenant.tenant_id, address, name=name, password_hash=passwords.hash(chosen)
                )
                set_now[str(address)] = chosen
                with administration.installation.account(tenant.tenant_id, account.account_id) as mailboxes:
                    for folder in sorted((MAIL / local).iterdir()):
                        import_archive(mailboxes, open_archive(folder, "eml"), folder.name)
                continue
            kept = store.credentials(account.account_id)
            if password and not (kept and passwords.verify(kept.password_hash, password)):
                provisioning.set_password(tenant.tenant_id, account.account_id, passwords.hash(password))
                set_now[str(address)] = password
    return set_now


def instructions(data: Path, config: Config, passwords: dict[str, str]) -> str:
    listen = config.listen
    shown = [f"    {address:24} {password}" for address, password in passwords.items()] or [
        *(f"    {f'{local}@{DOMAIN}':24} (password as printed at the first start)" for local in ACCOUNTS),
        f"    a new one: {program()} --data {data} account passwd alice@{DOMAIN} --generate",
    ]
    lines = [
        "",
        "Cleanmail is listening. To open it in Thunderbird:",
        "",
        "  1. Settings, Privacy & Security, Manage Certificates, Authorities, Import:",
        f"       {data / 'tls' / 'ca.pem'}",
        "     and let it identify websites (it signs this server's certificate and nothing else).",
        "  2. New account, Email; enter the address and the password, then Manual configuration:",
        f"       incoming  IMAP  localhost  {listen.imaps}  SSL/TLS   Normal password",
        f"       outgoing  SMTP  localhost  {listen.submissions}  SSL/TLS   Normal password",
        f"     (STARTTLS: IMAP {listen.imap}, SMTP {listen.submission})",
        f"  Calendars, tasks, notes and contacts (CalDAV, CardDAV):  https://localhost:{listen.https}/dav/",
        f"  Mail from other servers is taken on port {listen.mx} (MX).",
        "",
        "  Accounts" + (", passwords shown this once:" if passwords else ":"),
        *shown,
        "",
        f"  Administer it while it runs:  {program()} --data {data} account list",
        f"  Metrics and health:           http://127.0.0.1:{listen.operations}/metrics  /health",
        "  Ctrl-C stops it.",
    ]
    if listen.plain_text_sign_in:
        lines.append("  Passwords are taken without TLS too (--plain): for test tools, on loopback only.")
    return "\n".join(lines)


def program() -> Path:
    return Path(sys.executable).with_name("cleanmail")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/serve", description="Starts Cleanmail to try it out, on loopback.")
    parser.add_argument(
        "--data", type=Path, default=ROOT / "demo-data", metavar="DIR", help="data directory (default: %(default)s)"
    )
    parser.add_argument(
        "--port-offset", type=int, default=10000, metavar="N", help="added to all ports (default: %(default)s)"
    )
    parser.add_argument("--plain", action="store_true", help="take passwords without TLS, for test tools")
    parser.add_argument("--single", action="store_true", help="all roles in one process")
    parser.add_argument("--demo-password", metavar="PASSWORD", help="for both accounts, in place of generated ones")
    parser.add_argument("--prepare", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if not 0 <= given.port_offset <= 65535 - max(PORTS.values()):
        parser.error(f"--port-offset must be between 0 and {65535 - max(PORTS.values())}")
    return given


def prepare(data: Path, given: argparse.Namespace) -> dict[str, str]:
    """All that has to be there before it is served; a server that runs on the data already is found here."""
    with only_server(data):
        write_configuration(data / FILE_NAME, given.port_offset, plain=given.plain)
        config = load(data / FILE_NAME)
        serving.check_ports(config)  # before passwords are made that nobody would see
        if not composition.is_initialised(data):
            composition.create(data, config)
        make_certificate(data / "tls")
        return make_accounts(data, config, given.demo_password)


def serve(data: Path, *, single: bool, passwords: dict[str, str]) -> None:
    def ready(config: Config) -> None:
        print(start.ready_line(config))
        print(instructions(data, config, passwords), flush=True)

    start.run(data, data / FILE_NAME, single=single, on_ready=ready)


def main() -> int:
    given = arguments()
    data = given.data.absolute()
    os.umask(0o077)
    try:
        if given.prepare:
            composition.make_data_directory(data, Config())
            json.dump(prepare(data, given), sys.stdout)
            return 0
        # In a process of its own: the supervisor never holds a key or an open database.
        prepared = subprocess.run([sys.executable, *sys.argv, "--prepare"], stdout=subprocess.PIPE, check=False)
        if prepared.returncode:
            return prepared.returncode
        serve(data, single=given.single, passwords=json.loads(prepared.stdout))
    except CleanmailError as error:
        print(f"scripts/serve: {error.public}", file=sys.stderr)
        return 3 if error.temporary else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
