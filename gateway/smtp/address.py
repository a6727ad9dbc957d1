"""Reads the arguments of MAIL and RCPT: paths and their parameters.

Pure. What is refused is refused with the reply that the RFC names, as `Refused`; nothing of the argument is echoed.

Standards: RFC 5321 §4.1.2 (paths) and §4.1.1.11 (parameters), RFC 1870 (SIZE), RFC 6152 (BODY), RFC 6531 (SMTPUTF8),
RFC 3461 §4 (RET, ENVID, NOTIFY, ORCPT), RFC 4954 §5 (AUTH).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from gateway.smtp.replies import Refused, SmtpReply
from storage.errors import InvalidInput
from storage.values import Domain, EmailAddress

# A space after the colon is taken: Outlook sends one. A source route is taken and ignored (RFC 5321 §3.3, appendix C).
_PATH = re.compile(
    r"""(?:FROM|TO):\ *                         # the keyword; the caller has checked which
        <(?:@[^:<>\s]*:)?                       # a source route
        (?P<mailbox>(?P<local>"(?:[^"\\\r\n]|\\.){0,128}"|[^\s<>@"\\]{1,256})(?:@(?P<domain>[^\s<>@]{1,512}))?)?>
        (?:\ +(?P<parameters>.*))?\Z""",
    re.VERBOSE | re.IGNORECASE,
)
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([^\x00-\x20=\x7f]+))?\Z")
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*\Z")  # RFC 3461 §4
_ORIGINAL = re.compile(r"[A-Za-z0-9-]+;(.+)\Z")

_DSN_PARAMETERS = frozenset({"RET", "ENVID", "NOTIFY", "ORCPT"})  # RFC 3461 §4

_BAD_SENDER = SmtpReply(501, "5.1.7", "The reverse-path is not an address in <>")
_BAD_RECIPIENT = SmtpReply(501, "5.1.3", "The forward-path is not an address in <>")
_NEEDS_UTF8 = SmtpReply(553, "5.6.7", "An internationalised address needs SMTPUTF8")
_BAD_PARAMETER = SmtpReply(501, "5.5.4", "A parameter is not valid")
_UNKNOWN_PARAMETER = SmtpReply(555, "5.5.4", "A parameter is not known here")

Notify = Literal["NEVER", "SUCCESS", "FAILURE", "DELAY"]


@dataclass(frozen=True, slots=True)
class ReversePath:
    """MAIL FROM. `address` is None for the null reverse-path <>."""

    address: EmailAddress | None
    size: int = 0  # announced; 0 if not
    body: Literal["7BIT", "8BITMIME"] = "7BIT"
    smtputf8: bool = False
    ret: Literal["", "FULL", "HDRS"] = ""
    envid: str = ""  # xtext, as given


@dataclass(frozen=True, slots=True)
class ForwardPath:
    """RCPT TO."""

    address: EmailAddress
    notify: tuple[Notify, ...] = ()
    orcpt: str = ""  # "addr-type;xtext", as given


def read_mail(argument: str, *, extended: bool = True, dsn: bool = True) -> ReversePath:
    """The argument of MAIL ("FROM:<...> ..."). `extended` is False after HELO, `dsn` where it is not offered.

    Raises Refused.
    """
    if argument[:5].upper() != "FROM:":
        raise Refused(_BAD_SENDER)
    local, domain, parameters = _read_path(argument, _BAD_SENDER, extended=extended)
    if not dsn and not _DSN_PARAMETERS.isdisjoint(parameters):
        raise Refused(_UNKNOWN_PARAMETER)
    mail = _mail_parameters(parameters) if parameters else _NO_MAIL_PARAMETERS
    if not local:
        address = None
    elif domain:
        address = _address(local, domain, _BAD_SENDER)
    else:
        raise Refused(_BAD_SENDER)
    if not mail.smtputf8 and not (local.isascii() and domain.isascii()):
        raise Refused(_NEEDS_UTF8)  # RFC 6531 §3.5
    return ReversePath(address, mail.size, mail.body, mail.smtputf8, mail.ret, mail.envid)


def read_rcpt(
    argument: str, *, smtputf8: bool, postmaster: Domain, extended: bool = True, dsn: bool = True
) -> ForwardPath:
    """The argument of RCPT ("TO:<...> ..."). A bare <postmaster> is that of the domain `postmaster`. Raises Refused."""
    if argument[:3].upper() != "TO:":
        raise Refused(_BAD_RECIPIENT)
    local, domain, parameters = _read_path(argument, _BAD_RECIPIENT, extended=extended)
    if not dsn and not _DSN_PARAMETERS.isdisjoint(parameters):
        raise Refused(_UNKNOWN_PARAMETER)
    if not smtputf8 and not (local.isascii() and domain.isascii()):
        raise Refused(_NEEDS_UTF8)
    if domain:
        address = _address(local, domain, _BAD_RECIPIENT)
    elif local.lower() == "postmaster":  # RFC 5321 §4.5.1
        address = EmailAddress("postmaster", postmaster)
    else:
        raise Refused(_BAD_RECIPIENT)
    return ForwardPath(address, *_rcpt_parameters(parameters)) if parameters else ForwardPath(address)


def _read_path(argument: str, bad: SmtpReply, *, extended: bool) -> tuple[str, str, dict[str, str | None]]:
    match = _PATH.match(argument)
    if match is None:
        raise Refused(bad)
    _, local, domain, parameters = match.groups()
    if not parameters:
        return local or "", domain or "", {}
    if not extended:
        raise Refused(_UNKNOWN_PARAMETER)
    return local or "", domain or "", _split_parameters(parameters)


@lru_cache(maxsize=4096)
def _domain(text: str) -> Domain:
    return Domain.parse(text)


def _address(local: str, domain: str, bad: SmtpReply) -> EmailAddress:
    try:
        known = _domain(domain)
        if (
            local.isascii() and local.isalnum() and len(local) <= 64
        ):  # what nearly all are; the rest is EmailAddress.parse
            return EmailAddress(local, known)
        return EmailAddress(EmailAddress.parse(f"{local}@{known.name}").local, known)
    except InvalidInput:
        raise Refused(bad) from None


def _split_parameters(text: str) -> dict[str, str | None]:
    parameters: dict[str, str | None] = {}
    for word in text.split():
        match = _PARAMETER.match(word)
        if match is None or match[1].upper() in parameters:
            raise Refused(_BAD_PARAMETER)
        parameters[match[1].upper()] = match[2]
    return parameters


_NO_MAIL_PARAMETERS = ReversePath(None)


def _mail_parameters(given: Mapping[str, str | None]) -> ReversePath:
    """A ReversePath without its address: the parameters of MAIL."""
    for name, value in given.items():
        valid = _MAIL_PARAMETERS.get(name)
        if valid is None:
            raise Refused(_UNKNOWN_PARAMETER)
        if not valid(value):
            raise Refused(_BAD_PARAMETER)
    body = (given.get("BODY") or "7BIT").upper()
    ret = (given.get("RET") or "").upper()
    return ReversePath(
        None,
        int(given.get("SIZE") or 0),
        "8BITMIME" if body == "8BITMIME" else "7BIT",
        "SMTPUTF8" in given,
        "FULL" if ret == "FULL" else "HDRS" if ret == "HDRS" else "",
        given.get("ENVID") or "",
    )


def _is_size(value: str | None) -> bool:
    return value is not None and value.isascii() and value.isdigit() and len(value) <= 20  # RFC 1870 §4


def _is_xtext(value: str | None, longest: int) -> bool:
    return value is not None and len(value) <= longest and _XTEXT.match(value) is not None


_MAIL_PARAMETERS: dict[str, Callable[[str | None], bool]] = {
    "SIZE": _is_size,
    "BODY": lambda value: value is not None and value.upper() in {"7BIT", "8BITMIME"},
    "SMTPUTF8": lambda value: value is None,
    "RET": lambda value: value is not None and value.upper() in {"FULL", "HDRS"},
    "ENVID": lambda value: _is_xtext(value, 100),  # RFC 3461 §4.4
    "AUTH": lambda value: _is_xtext(value, 500),  # RFC 4954 §5: taken, not believed
}


def _rcpt_parameters(given: Mapping[str, str | None]) -> tuple[tuple[Notify, ...], str]:
    if not given.keys() <= {"NOTIFY", "ORCPT"}:
        raise Refused(_UNKNOWN_PARAMETER)
    notify: tuple[Notify, ...] = ()
    if "NOTIFY" in given:
        words = (given["NOTIFY"] or "").upper().split(",")
        kinds: tuple[Notify, ...] = ("NEVER", "SUCCESS", "FAILURE", "DELAY")
        notify = tuple(kind for kind in kinds if kind in words)
        if len(notify) != len(words) or ("NEVER" in words and len(words) > 1):  # RFC 3461 §4.1
            raise Refused(_BAD_PARAMETER)
    orcpt = given.get("ORCPT") or ""
    if "ORCPT" in given:
        match = _ORIGINAL.match(orcpt)
        if match is None or len(orcpt) > 500:
            raise Refused(_BAD_PARAMETER)
        # RFC 6533 §3: an utf-8 original recipient carries UTF-8 as it is; the others are xtext.
        if not orcpt.lower().startswith("utf-8;") and not _is_xtext(match[1], 500):
            raise Refused(_BAD_PARAMETER)
    return notify, orcpt
