"""What can be configured, with its defaults: one TOML file, DATA/cleanmail.toml unless another is given.

The sections of the file are the fields of `Config`; limits of a protocol are the protocol's own dataclass. The comments
beside the fields are the reference (docs/configuration.md is made of them). A file that is missing means the defaults.

Raises: InvalidInput for a file with mistakes (all of them, with their lines), Unavailable if it cannot be read.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from gateway.dns.settings import DnsSettings
from gateway.mx.settings import MxSettings
from gateway.policy.settings import FilterSettings
from gateway.relay.settings import RelaySettings
from gateway.smtp.limits import Limits as SmtpLimits
from hosting import config_checks, config_file
from hosting.auth.oauth_settings import OAuthSettings
from hosting.auth.throttle import ThrottlePolicy
from hosting.imap.limits import Limits as ImapLimits
from hosting.web.limits import Limits as WebLimits
from storage.errors import InvalidInput, Unavailable
from storage.register.folder_rules import FolderRules
from storage.register.periods import BOUNDS, PRESETS, Periods
from storage.sending_limits import SendingLimits
from storage.values import EmailAddress

FILE_NAME = "cleanmail.toml"

EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - a mail server is reached from everywhere

_COUNT = {"least": 0, "most": 1024}
_PORT = {"least": 0, "most": 65535}
_TOLD_PORT = {"least": -1, "most": 65535}
_DAYS = {"least": 0, "most": 3650}


@dataclass(frozen=True, slots=True)
class Server:
    """The installation as a whole."""

    hostname: str = ""  # the name that clients connect to and the certificate carries; empty: this machine's full name
    user: str = ""  # who the processes run as when started as root; empty: whoever started them
    imap_workers: int = field(default=0, metadata=_COUNT)  # processes; 0: one per processor core
    smtp_workers: int = field(default=0, metadata=_COUNT)  # processes; 0: one per processor core
    web_workers: int = field(default=0, metadata=_COUNT)  # processes; 0: one per processor core
    stop_within: float = 30.0  # seconds that commands in flight get to finish when a process is told to stop
    # fork the processes from one that has loaded the program, which halves their memory; false: each loads it by itself
    # and has an address space of a layout that no other has
    preload: bool = True

    @property
    def name(self) -> str:
        return self.hostname or socket.getfqdn()


@dataclass(frozen=True, slots=True)
class Listen:
    """Addresses and ports; a port of 0 is not listened on. Changes need a restart."""

    addresses: tuple[str, ...] = EVERYWHERE  # IP addresses of this machine
    mx: int = field(default=25, metadata=_PORT)  # mail from other servers; STARTTLS
    imap: int = field(default=143, metadata=_PORT)  # STARTTLS
    imaps: int = field(default=993, metadata=_PORT)  # TLS from the start (RFC 8314)
    submission: int = field(default=587, metadata=_PORT)  # STARTTLS
    submissions: int = field(default=465, metadata=_PORT)  # TLS from the start (RFC 8314)
    https: int = field(default=443, metadata=_PORT)  # calendars and contacts, how clients configure themselves
    http: int = field(default=80, metadata=_PORT)  # leads to https; what clients look up before they know better
    operations_address: str = "127.0.0.1"  # where /metrics and /health are served; a loopback address
    operations: int = field(default=9143, metadata=_PORT)  # port of /metrics and /health
    plain_text_sign_in: bool = False  # passwords without TLS, for test tools; only where all addresses are loopback
    proxy_protocol_from: tuple[str, ...] = ()  # networks whose connections begin with a PROXY protocol header


@dataclass(frozen=True, slots=True)
class Tls:
    """Certificates; loaded again by SIGHUP and when the files change. Relative paths begin at the data directory."""

    certificate: str = "tls/certificate.pem"  # with its chain, PEM; for whoever asks for no other name
    key: str = "tls/key.pem"  # PEM, without a passphrase
    # a folder of further certificates: each in a folder of its own, as certificate.pem and key.pem or as fullchain.pem
    # and privkey.pem; who asks for a name that one of them is for gets that one (SNI). Empty: there are none
    directory: str = "tls/names"


@dataclass(frozen=True, slots=True)
class Keys:
    """Where the master key lives (master_file or master_command; neither: keys/master), and where keys are copied to.

    The folders of copies belong on other disks than the data and are made by people.
    """

    master_file: str = ""  # a file (mode 0600) outside the data directory, also as CLEANMAIL_MASTER_KEY=...
    master_command: tuple[str, ...] = ()  # a program and its arguments that print the key
    # a program and its arguments that take a new key on standard input and put it in the place of the old one; without
    # it a master_command's old keys stay, and destroyed keys stay openable to whoever has them and a copy of keys/
    master_store_command: tuple[str, ...] = ()
    # a folder that mirrors all wrapped keys, without the master; a new key is in it before it is used
    backup: str = ""
    backup_copies: str = ""  # a folder for dated copies of the wrapped keys, which are renewed before they expire
    backup_days: int = field(default=7, metadata={"least": 1, "most": 90})  # after which such a copy is removed
    # days in which people have to save a new generation of a master that is a file, and say so (cleanmail keys saved)
    saved_within: int = field(default=3, metadata={"least": 1, "most": 365})


@dataclass(frozen=True, slots=True)
class PasswordCost:
    """argon2id (RFC 9106); a password that was stored at another cost is stored anew at its next sign-in."""

    time_cost: int = 3  # passes
    memory_kib: int = 64 * 1024  # memory of one verification
    lanes: int = 4  # parallelism of one verification


@dataclass(frozen=True, slots=True)
class Auth:
    """Signing in."""

    threads: int = field(default=0, metadata=_COUNT)  # verifications at the same time; 0: one per processor core
    remembered_for: float = 300.0  # seconds that a verified password is known without computing it anew
    # SCRAM-SHA-256 for app passwords. Some programs take it wherever they see it (mbsync, msmtp) and fail if what they
    # have is the account's own password. So "accepted" takes it from programs that are set to it, and tells, with TLS
    # 1.3, of SCRAM-SHA-256-PLUS alone; "offered" tells of it always; "off" takes none
    scram: str = field(default="accepted", metadata={"choices": ("accepted", "offered", "off")})
    # SCRAM knows the accounts' own passwords too, from their next sign-in with PLAIN on, and is offered. Whoever steals
    # databases and keys guesses them at 100,000 rounds of SHA-256 then, which is cheaper than argon2; and programs over
    # Cyrus SASL, which take 65,536 rounds at most, need PLAIN
    scram_for_passwords: bool = False
    argon2: PasswordCost = PasswordCost()
    throttle: ThrottlePolicy = field(default_factory=ThrottlePolicy)


@dataclass(frozen=True, slots=True)
class Storage:
    """Databases and files."""

    open_accounts: int = 256  # account databases that one process keeps open


@dataclass(frozen=True, slots=True)
class Jobs:
    """What runs in the background."""

    index_pause: float = 1.0  # seconds that an account must be quiet before its mail is indexed
    index_patience: float = 30.0  # seconds after which mail is indexed though the account is busy


@dataclass(frozen=True, slots=True)
class Logs:
    """The operational log on standard error, and who reads records; how long those are kept stands in [retention]."""

    # ids only, at any level
    level: str = field(default="info", metadata={"choices": ("debug", "info", "warning", "error")})
    auditors: tuple[str, ...] = ()  # Unix users who may read SMTP transcripts (`cleanmail log transcripts`)


@dataclass(frozen=True, slots=True)
class Retention:
    """How long data is kept, in days: nothing of that kind is older (docs/privacy.md). 0: as the preset says."""

    # short_transcripts keeps SMTP transcripts for 6 months instead of 12
    preset: str = field(default="standard", metadata={"choices": tuple(PRESETS)})
    quarantine: int = 0  # withheld mail, whatever the rule quarantine_days says
    traces: int = 0  # what became of each message; at most 14
    transcripts: int = 0  # SMTP transcripts; 185 to 365
    access: int = 0  # access events; at most 365
    experience: int = 0  # what the filter knows of senders, and lessons that can be taken back
    counts: int = 0  # counts of verdicts, and receipts of retention
    reviews: int = 0  # reviews of withheld mail
    staff: int = 0  # people of the provider after they left
    audit: int = 0  # what administrators did and read; at least 366
    business: int = 0  # contracts, certificates, disclosures; at least 3654, which is 10 years
    backups: int = 0  # backups, and what is known of them
    key_backups: int = 0  # copies of keys
    # "Trash=30": messages leave a folder so many days after they came to it, unless its owner chose otherwise
    folders: tuple[str, ...] = ()

    @property
    def periods(self) -> Periods:
        """Raises InvalidInput for days that the provider's promises do not allow."""
        chosen = {kept: getattr(self, kept.value) for kept in BOUNDS}
        return Periods.of_preset(self.preset, {kept: days for kept, days in chosen.items() if days})

    @property
    def folder_rules(self) -> FolderRules:
        """Raises InvalidInput."""
        return FolderRules.parse(self.folders)


@dataclass(frozen=True, slots=True)
class Privacy:
    """Who answers for the data: stands in the privacy statement and in the records of processing."""

    controller: str = ""  # name and address of the provider
    contact: str = ""  # how persons reach him about their data: an e-mail address or a page
    representative: str = ""  # in the European Union or in Switzerland, if he is established elsewhere
    officer: str = ""  # name and address of the data protection officer, if there is one


@dataclass(frozen=True, slots=True)
class Staff:
    """Who works here. While nobody is staff and `unix` is empty, whoever can read the keys is an operator."""

    required: bool = False  # once there are staff, commands need `cleanmail sign-in`; false: Unix users may do without
    # roles of Unix users who did not sign in, as in {anna = "support billing"}; root and the server's own operate
    unix: dict[str, str] = field(default_factory=dict)
    session: float = 8 * 3600.0  # seconds after which one has to sign in again
    session_idle: float = 3600.0  # seconds without a command after which one has to
    approval_days: int = field(default=7, metadata={"least": 1, "most": 90})  # in which a request is approved and used


@dataclass(frozen=True, slots=True)
class Mail:
    """Addresses, and names that stand in the DNS records of mail domains."""

    postmaster: str = ""  # who gets postmaster@ and abuse@ where a tenant names nobody; empty: the first account
    exchangers: tuple[str, ...] = ()  # names of this installation's MX hosts, best first; empty: server.hostname
    spf_include: str = ""  # a domain whose SPF record names all addresses that mail leaves from; empty: mx and host
    reports: str = ""  # who gets DMARC and TLS reports about the tenants' domains; empty: each domain's postmaster
    certificate_authorities: tuple[str, ...] = ("letsencrypt.org",)  # for CAA records; empty: none is suggested


@dataclass(frozen=True, slots=True)
class Discovery:
    """What programs are told that look for their server by themselves, and the MTA-STS policy (docs/clients.md).

    Ports are those that clients reach, where something in front of this server has others than [listen]; -1: those of
    [listen]; 0: not offered.
    """

    provider: str = ""  # how programs call the account; empty: server.hostname
    help: str = ""  # the https address of a page that says how to set up programs
    imap: int = field(default=-1, metadata=_TOLD_PORT)  # STARTTLS
    imaps: int = field(default=-1, metadata=_TOLD_PORT)  # TLS from the start
    submission: int = field(default=-1, metadata=_TOLD_PORT)  # STARTTLS
    submissions: int = field(default=-1, metadata=_TOLD_PORT)  # TLS from the start
    https: int = field(default=-1, metadata=_TOLD_PORT)  # calendars and contacts
    # what servers that send here do when TLS fails: report it (testing), keep the mail back (enforce), nothing (none:
    # takes a policy back); off: no policy is served
    mta_sts: str = field(default="testing", metadata={"choices": ("testing", "enforce", "none", "off")})
    mta_sts_days: int = field(default=7, metadata={"least": 1, "most": 365})  # for which the policy is remembered


@dataclass(frozen=True, slots=True)
class Backup:
    """Backups of the running installation (`cleanmail backup`); without the keys, which have a place of their own."""

    directory: str = ""  # where they are made by themselves, best on another disk; empty: none is made by itself
    every_hours: int = field(default=24, metadata={"least": 1, "most": 8760})  # between two that are made by themselves
    daily: int = field(default=7, metadata=_COUNT)  # days that the backups of a day are kept
    weekly: int = field(default=4, metadata=_COUNT)  # weeks that the first backup of a week is kept
    monthly: int = field(default=6, metadata=_COUNT)  # months that the first backup of a month is kept


@dataclass(frozen=True, slots=True)
class Contracts:
    """Contracts with customers: what counts where a contract says nothing else, and reminders of its end."""

    reminders: tuple[str, ...] = ("90", "30", "7", "1")  # days before the end on which customers are reminded of it
    notice_days: int = field(default=0, metadata=_DAYS)  # how long before its end a contract has to be ended
    # days before the end from which on mail can be read and exported, but nothing is stored, changed or sent; 0: none
    read_only_days: int = field(default=0, metadata=_DAYS)

    @property
    def days(self) -> tuple[int, ...]:
        return tuple(int(each) for each in self.reminders)


@dataclass(frozen=True, slots=True)
class Config:
    server: Server = Server()
    listen: Listen = Listen()
    tls: Tls = Tls()
    keys: Keys = Keys()
    auth: Auth = Auth()
    oauth: OAuthSettings = field(default_factory=OAuthSettings)
    imap: ImapLimits = field(default_factory=ImapLimits)
    web: WebLimits = field(default_factory=WebLimits)
    submission: SmtpLimits = field(default_factory=SmtpLimits)
    mx: MxSettings = field(default_factory=MxSettings)
    filter: FilterSettings = field(default_factory=FilterSettings)
    mail: Mail = Mail()
    discovery: Discovery = Discovery()
    storage: Storage = Storage()
    backup: Backup = Backup()
    jobs: Jobs = Jobs()
    logs: Logs = Logs()
    staff: Staff = field(default_factory=Staff)
    retention: Retention = Retention()
    privacy: Privacy = Privacy()
    contracts: Contracts = Contracts()
    sending: SendingLimits = field(default_factory=SendingLimits)
    relay: RelaySettings = field(default_factory=RelaySettings)
    dns: DnsSettings = field(default_factory=DnsSettings)

    @property
    def imap_workers(self) -> int:
        return self.server.imap_workers or _cores()

    @property
    def smtp_workers(self) -> int:
        return self.server.smtp_workers or _cores()

    @property
    def web_workers(self) -> int:
        """None where nothing is listened on."""
        if not (self.listen.https or self.listen.http):
            return 0
        return self.server.web_workers or _cores()

    @property
    def auth_threads(self) -> int:
        return self.auth.threads or _cores()

    @property
    def postmaster(self) -> EmailAddress | None:
        return EmailAddress.parse(self.mail.postmaster) if self.mail.postmaster else None

    @property
    def proxies(self) -> tuple[IPv4Network | IPv6Network, ...]:
        return tuple(ip_network(text) for text in self.listen.proxy_protocol_from)

    def certificate(self, data: Path) -> Path:
        return data / self.tls.certificate

    def certificate_key(self, data: Path) -> Path:
        return data / self.tls.key

    def certificates(self, data: Path) -> Path | None:
        """The folder of certificates that are chosen by name."""
        return data / self.tls.directory if self.tls.directory else None


def parse(text: str, name: str = FILE_NAME) -> Config:
    """The configuration in `text`; `name` is how messages call it."""
    return config_file.read(text, Config(), name, config_checks.what_is_wrong)


def read_text(path: Path) -> str:
    """The file's text; empty if there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError:
        raise InvalidInput(f"{path} is not UTF-8.") from None
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror}.") from None


def load(path: Path) -> Config:
    return parse(read_text(path), path.name)


def _cores() -> int:
    return len(os.sched_getaffinity(0))
