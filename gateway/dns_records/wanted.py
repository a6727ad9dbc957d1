"""Which records a mail domain should have, given what the installation offers under which names. Pure.

Standards: RFC 5321 §5, RFC 7208 §4, RFC 6376 §3.6, RFC 7489 §6.3, RFC 8460 §3, RFC 8461 §3.1, RFC 6186 §3,
RFC 8314 §5.1, RFC 6764 §3, §4 (calendars and contacts), RFC 8659 §4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote

from gateway.dkim.publication import published_text
from storage.directory.dkim_keys import DkimKey, DkimState
from storage.values import Domain, EmailAddress

FIRST_PREFERENCE, STEP = 10, 10  # of MX records


class Importance(StrEnum):
    REQUIRED = "required"  # without it mail is lost, refused or taken for forged
    RECOMMENDED = "recommended"
    OPTIONAL = "optional"


class Kind(StrEnum):
    """What a record is for."""

    OWNERSHIP = "ownership"
    MX = "mx"
    SPF = "spf"
    DKIM = "dkim"
    DMARC = "dmarc"
    TLS_RPT = "tls-rpt"
    MTA_STS = "mta-sts"
    SRV = "srv"
    PATH = "path"  # of calendars and contacts
    ALIAS = "alias"  # names at which programs look for their settings
    AGENT = "agent"  # what vouches for the settings that are found there
    CAA = "caa"
    ADDRESS = "address"  # of our own hosts
    REVERSE = "reverse"


@dataclass(frozen=True, slots=True)
class Record:
    """`value` is the data as in a zone, but a TXT's without quotes and in one piece. Names have no last dot."""

    kind: Kind
    name: str
    rdtype: str
    value: str
    importance: Importance
    purpose: str  # one sentence for whoever has to publish it


@dataclass(frozen=True, slots=True)
class Offer:
    """What the installation offers, and where. A port of 0 is not offered."""

    host: str  # the name that clients connect to, and that outgoing mail comes from
    exchangers: tuple[str, ...]  # names of the MX hosts, best first
    imaps: int = 993
    submissions: int = 465
    submission: int = 587
    imap: int = 143
    https: int = 443
    dav_path: str = "/dav/"
    agent: str = ""  # the text that vouches for the document of PACC; empty: no such record
    serves_policy: bool = True  # the host answers for mta-sts.<domain>
    spf_include: str = ""  # the domain whose SPF record names where mail comes from; empty: named one by one
    reports: EmailAddress | None = None  # who reads reports of receivers; None: the domain's postmaster
    authorities: tuple[str, ...] = ()  # who may issue certificates (CAA); empty: no such record
    senders: tuple[str, ...] = ()  # IP addresses that mail leaves from; empty: those of `host`


def wanted(
    domain: Domain,
    offer: Offer,
    keys: Sequence[DkimKey] = (),
    *,
    ownership: str | None = None,
    sts_id: str | None = None,
) -> list[Record]:
    """The domain's records, the most important first.

    `ownership`: the token of a domain that is not verified. `sts_id`: only where the policy's host answers, since the
    record sends everybody there.
    """
    records = _ownership(domain, ownership) + _mx(domain, offer)
    records.append(_spf(domain, offer))
    records += [dkim_record(key) for key in keys]
    records += _policies(domain, offer, signs=any(key.state is DkimState.SIGNING for key in keys))
    if sts_id is not None:
        purpose = "Servers that send here are to demand TLS with a valid certificate."
        text = f"v=STSv1; id={sts_id}"
        records.append(Record(Kind.MTA_STS, f"_mta-sts.{domain}", "TXT", text, Importance.RECOMMENDED, purpose))
    return records + _aliases(domain, offer) + _srv(domain, offer) + _agent(domain, offer) + _caa(domain, offer)


def spf_text(offer: Offer) -> str:
    """~all: forwarded mail fails SPF, and the domain's DKIM signature is to speak for it (RFC 7208 §2.6.5)."""
    if offer.spf_include:
        return f"v=spf1 include:{offer.spf_include} ~all"
    host = "" if offer.host in offer.exchangers else f"a:{offer.host} "
    return f"v=spf1 mx {host}~all"


def report_uri(domain: Domain, offer: Offer) -> str:
    address = offer.reports or EmailAddress("postmaster", domain)
    # "," and "!" have a meaning in rua= (RFC 7489 §6.2).
    return f"mailto:{quote(address.local, safe='+')}@{address.domain}"


def _ownership(domain: Domain, token: str | None) -> list[Record]:
    if token is None:
        return []
    purpose = "Proves that the domain is yours; not needed any more once it is verified."
    return [Record(Kind.OWNERSHIP, f"_cleanmail.{domain}", "TXT", token, Importance.REQUIRED, purpose)]


def _mx(domain: Domain, offer: Offer) -> list[Record]:
    return [
        Record(
            Kind.MX,
            domain.name,
            "MX",
            f"{FIRST_PREFERENCE + number * STEP} {host}.",
            Importance.REQUIRED,
            "Mail for the domain comes here.",
        )
        for number, host in enumerate(offer.exchangers)
    ]


def _spf(domain: Domain, offer: Offer) -> Record:
    purpose = "Mail of the domain comes from here (SPF)."
    return Record(Kind.SPF, domain.name, "TXT", spf_text(offer), Importance.REQUIRED, purpose)


def dkim_record(key: DkimKey) -> Record:
    importance = Importance.RECOMMENDED if key.state is DkimState.RETIRED else Importance.REQUIRED
    return Record(Kind.DKIM, key.name, "TXT", published_text(key), importance, _DKIM_PURPOSE[key.state])


_DKIM_PURPOSE = {
    DkimState.MADE: "A new DKIM key; it signs once it was seen here.",
    DkimState.SEEN: "A new DKIM key; it begins to sign soon.",
    DkimState.SIGNING: "The DKIM key that signs the domain's mail.",
    DkimState.RETIRING: "A DKIM key that signed until lately: mail on its way still needs it.",
    DkimState.RETIRED: "A DKIM key that is revoked.",
}


def _policies(domain: Domain, offer: Offer, *, signs: bool) -> list[Record]:
    uri = report_uri(domain, offer)
    # Before mail is signed, a policy would let what is forwarded be refused.
    dmarc = f"v=DMARC1; p={'quarantine' if signs else 'none'}; rua={uri}"
    return [
        Record(
            Kind.DMARC,
            f"_dmarc.{domain}",
            "TXT",
            dmarc,
            Importance.RECOMMENDED,
            "What receivers are to do with mail that only pretends to be the domain's (DMARC).",
        ),
        Record(
            Kind.TLS_RPT,
            f"_smtp._tls.{domain}",
            "TXT",
            f"v=TLSRPTv1; rua={uri}",
            Importance.RECOMMENDED,
            "Where servers report that TLS did not work with ours (TLS-RPT).",
        ),
    ]


def _aliases(domain: Domain, offer: Offer) -> list[Record]:
    """Of these only autoconfig is asked for by most programs; the others have SRV records or come later."""
    names = []
    if offer.https:
        names += [
            ("autoconfig", Importance.RECOMMENDED, "Thunderbird and many others find their settings here."),
            ("autodiscover", Importance.OPTIONAL, "Outlook finds its settings here; needs a certificate for the name."),
        ]
    if offer.agent:
        names.append(("ua-auto-config", Importance.OPTIONAL, "Programs to come find their settings here (PACC)."))
    if offer.https and offer.serves_policy:
        purpose = "Where servers find the policy about TLS (MTA-STS); needs a certificate for the name."
        names.append(("mta-sts", Importance.OPTIONAL, purpose))
    return [
        Record(Kind.ALIAS, f"{name}.{domain}", "CNAME", f"{offer.host}.", importance, purpose)
        for name, importance, purpose in names
    ]


def _srv(domain: Domain, offer: Offer) -> list[Record]:
    mail = "Mail programs find their server by it."
    services = [
        ("_imaps", offer.imaps, Importance.RECOMMENDED, mail),
        ("_imap", offer.imap, Importance.OPTIONAL, mail),
        ("_submissions", offer.submissions, Importance.RECOMMENDED, mail),
        ("_submission", offer.submission, Importance.RECOMMENDED, mail),
        ("_autodiscover", offer.https, Importance.RECOMMENDED, "Outlook finds its settings by it."),
        ("_caldavs", offer.https, Importance.RECOMMENDED, "Programs find calendars and tasks by it."),
        ("_carddavs", offer.https, Importance.RECOMMENDED, "Programs find contacts by it."),
    ]
    records = [
        Record(Kind.SRV, f"{service}._tcp.{domain}", "SRV", f"0 1 {port} {offer.host}.", importance, purpose)
        for service, port, importance, purpose in services
        if port
    ]
    purpose = "Where calendars and contacts are on their server."
    return records + [
        Record(Kind.PATH, record.name, "TXT", f"path={offer.dav_path}", Importance.OPTIONAL, purpose)
        for record in records
        if record.name.startswith(("_caldavs.", "_carddavs."))
    ]


def _agent(domain: Domain, offer: Offer) -> list[Record]:
    if not offer.agent:
        return []
    purpose = "Vouches for what ua-auto-config says; to be renewed when the server's settings change."
    return [Record(Kind.AGENT, f"_ua-auto-config.{domain}", "TXT", offer.agent, Importance.OPTIONAL, purpose)]


def _caa(domain: Domain, offer: Offer) -> list[Record]:
    purpose = "Who may issue certificates for names of the domain; add those of your web sites, or leave it out."
    return [
        Record(Kind.CAA, domain.name, "CAA", f'0 issue "{authority}"', Importance.OPTIONAL, purpose)
        for authority in offer.authorities
    ]
