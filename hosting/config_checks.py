"""What is wrong with a configuration that no single value shows, in sentences for who wrote it.

Pure: nothing is looked up, no file is opened.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

from gateway.dns_lists import parse_lists
from gateway.policy.settings import FilterSettings
from gateway.scanners.endpoints import clamd_endpoint, rspamd_endpoint
from hosting.access.roles import StaffRole, parse_roles
from hosting.auth.oauth_settings import OAuthSettings, is_https
from hosting.imap.capability_table import TABLE
from storage.errors import InvalidInput
from storage.register.periods import BOUNDS, PRESETS, out_of_bounds
from storage.register.values import Kept
from storage.values import Domain, EmailAddress

if TYPE_CHECKING:
    from hosting.config import Backup, Config, Keys, Retention

_REMINDER_MOST = 3650  # days before the end of a contract, as of all its periods
_PROVIDER_MAX = 60  # what autoconfig and PACC allow


def what_is_wrong(config: Config) -> Mapping[str, str]:
    """What no single value shows, by dotted key."""
    wrong: dict[str, str] = {}
    listen = config.listen
    for address in listen.addresses:
        if not _is_address(address):
            wrong["listen.addresses"] = f"'{address}' in listen.addresses is no IP address."
    if not listen.addresses:
        wrong["listen.addresses"] = "listen.addresses is empty; name at least one address."
    if not _is_loopback(listen.operations_address):
        wrong["listen.operations_address"] = (
            "listen.operations_address must be a loopback address: whoever reaches it sees all metrics."
        )
    if listen.plain_text_sign_in and not all(_is_loopback(address) for address in listen.addresses):
        wrong["listen.plain_text_sign_in"] = (
            "listen.plain_text_sign_in is possible only where every address of listen.addresses is a loopback address."
        )
    for network in listen.proxy_protocol_from:
        try:
            ip_network(network)
        except ValueError:
            wrong["listen.proxy_protocol_from"] = f"'{network}' in listen.proxy_protocol_from is no network."
    services = ("mx", "imap", "imaps", "submission", "submissions", "https", "http")
    ports = [getattr(listen, name) for name in (*services, "operations")]
    for name in services:
        port = getattr(listen, name)
        if port and ports.count(port) > 1:
            wrong[f"listen.{name}"] = f"listen.{name} has a port ({port}) that another listener has too."
    if config.server.user and config.server.user in config.logs.auditors:
        wrong["logs.auditors"] = (
            f"logs.auditors names '{config.server.user}', whom the server runs as; its processes are no auditors."
        )
    for person, names in config.staff.unix.items():
        try:
            roles = parse_roles(names.split())
        except InvalidInput as error:
            wrong[f"staff.unix.{person}"] = f"staff.unix: {error.public}"
            continue
        if StaffRole.TENANT_ADMINISTRATOR in roles:
            wrong[f"staff.unix.{person}"] = "staff.unix: administrators of tenants need accounts (cleanmail staff add)."
        if config.server.user == person and roles & {StaffRole.AUDITOR, StaffRole.REVIEWER}:
            wrong[f"staff.unix.{person}"] = (
                f"staff.unix names '{person}', whom the server runs as; its processes are no auditors or reviewers."
            )
    for days in config.contracts.reminders:
        if not (days.isascii() and days.isdecimal() and 1 <= int(days[:6]) <= _REMINDER_MOST):
            wrong["contracts.reminders"] = f"'{days[:20]}' in contracts.reminders is no number of days from 1 to 3650."
    if config.imap.admin and not re.fullmatch(r"(?:mailto|tel|https):[!-~]+", config.imap.admin):
        wrong["imap.admin"] = "imap.admin must begin with mailto:, tel: or https: and have no spaces."
    known = {row.word.upper() for row in TABLE}
    for program, words in config.imap.hidden.items():
        unknown = [word for word in words.split() if word.upper() not in known]
        if unknown or not program:
            what = f"'{unknown[0]}' is no capability (cleanmail imap capabilities)" if unknown else "a name is empty"
            wrong[f"imap.hidden.{program}"] = f"imap.hidden: {what}."
    for name in ("normalise", "unlimited"):
        for network in getattr(config.mx, name):
            if not _is_network(network):
                wrong[f"mx.{name}"] = f"'{network}' in mx.{name} is no network."
    if config.keys.master_file and config.keys.master_command:
        wrong["keys"] = "[keys] names more than one place of the master key."
    if config.keys.master_store_command and not config.keys.master_command:
        wrong["keys.master_store_command"] = "keys.master_store_command needs a keys.master_command that reads it back."
    for name in ("backup", "backup_copies"):
        if getattr(config.keys, name) and not os.path.isabs(getattr(config.keys, name)):
            wrong[f"keys.{name}"] = f"keys.{name} must be an absolute path: it belongs on another disk than the data."
    if config.keys.backup and config.keys.backup == config.keys.backup_copies:
        wrong["keys.backup_copies"] = "keys.backup_copies must be another folder than keys.backup."
    for name in ("postmaster", "reports"):
        address = getattr(config.mail, name)
        if address:
            try:
                EmailAddress.parse(address)
            except InvalidInput as error:
                wrong[f"mail.{name}"] = f"mail.{name}: {error.public}"
    for host in config.mail.exchangers:
        if not _is_name(host):
            wrong["mail.exchangers"] = f"'{host}' in mail.exchangers is no full domain name."
    # Its first label begins with an underscore in most places.
    if config.mail.spf_include and not _is_name(config.mail.spf_include.lstrip("_")):
        wrong["mail.spf_include"] = f"mail.spf_include: '{config.mail.spf_include}' is no full domain name."
    for authority in config.mail.certificate_authorities:
        if not authority.isascii() or any(character in authority for character in ' "\\'):
            wrong["mail.certificate_authorities"] = f"'{authority}' in mail.certificate_authorities is no CAA value."
    if not config.discovery.provider.isprintable() or len(config.discovery.provider) > _PROVIDER_MAX:
        wrong["discovery.provider"] = f"discovery.provider is more than one line, or longer than {_PROVIDER_MAX}."
    if config.discovery.help and not _is_page(config.discovery.help):
        wrong["discovery.help"] = f"discovery.help: '{config.discovery.help[:80]}' is no https address."
    for server in config.dns.nameservers:
        if not _is_address(server):
            wrong["dns.nameservers"] = f"'{server}' in dns.nameservers is no IP address."
    for address in config.relay.source_addresses:
        if not _is_address(address):
            wrong["relay.source_addresses"] = f"'{address}' in relay.source_addresses is no IP address."
    for network in config.relay.private_networks:
        try:
            ip_network(network)
        except ValueError:
            wrong["relay.private_networks"] = f"'{network}' in relay.private_networks is no network."
    wrong |= _wrong_oauth(config.oauth)
    return wrong | _wrong_filter(config.filter) | _wrong_retention(config.retention, config.backup, config.keys)


def _wrong_oauth(oauth: OAuthSettings) -> dict[str, str]:
    wrong: dict[str, str] = {}
    if not oauth.introspection:
        given = [name for name in ("client_id", "audience", "scope", "issuer") if getattr(oauth, name)]
        if given:
            wrong[f"oauth.{given[0]}"] = f"oauth.{given[0]} means nothing without oauth.introspection."
        return wrong
    if not is_https(oauth.introspection):
        wrong["oauth.introspection"] = "oauth.introspection is no https address without a user's name in it."
    if oauth.configuration and not _is_page(oauth.configuration):
        wrong["oauth.configuration"] = "oauth.configuration is no https address."
    if not oauth.client_id:
        wrong["oauth.client_id"] = "oauth.client_id is missing: the provider tells nothing to strangers."
    if bool(oauth.client_secret_file) == bool(oauth.client_secret_command):
        wrong["oauth"] = "[oauth] needs one of client_secret_file and client_secret_command."
    if not (oauth.audience or oauth.scope.split()):
        wrong["oauth.audience"] = (
            "[oauth] needs an audience or a scope, or tokens for any other service of the provider would sign in here."
        )
    return wrong


def _wrong_retention(retention: Retention, backup: Backup, keys: Keys) -> dict[str, str]:
    wrong: dict[str, str] = {}
    for kept in BOUNDS:
        days = getattr(retention, kept.value)
        reason = out_of_bounds(kept, days) if days else ""
        if reason:
            wrong[f"retention.{kept.value}"] = f"retention.{kept.value}: {reason}"
    key_days = retention.key_backups or PRESETS[retention.preset][Kept.KEY_BACKUPS]
    if keys.backup_days >= key_days:
        wrong["keys.backup_days"] = (
            f"keys.backup_days must be below the period of copies of keys, {key_days} days ([retention] key_backups)."
        )
    longest = max(1, backup.daily, backup.weekly * 7, backup.monthly * 31)
    most = (retention.backups or PRESETS[retention.preset][Kept.BACKUPS]) - 1
    if longest > most:
        wrong["retention.backups"] = (
            f"retention.backups: [backup] keeps backups for up to {longest} days, but nothing of them may be older "
            f"than {most}."
        )
    try:
        retention.folder_rules  # noqa: B018 - parsed to be checked
    except InvalidInput as error:
        wrong["retention.folders"] = f"retention.folders: {error.public}"
    return wrong


def _wrong_filter(settings: FilterSettings) -> dict[str, str]:
    wrong: dict[str, str] = {}
    for network in settings.trusted_networks:
        if not _is_network(network):
            wrong["filter.trusted_networks"] = f"'{network}' in filter.trusted_networks is no network."
    try:
        parse_lists(settings.dns_lists)
    except InvalidInput as error:
        wrong["filter.dns_lists"] = f"filter.dns_lists: {error.public}"
    for sealer in settings.rules.trusted_sealers:
        if not _is_name(sealer):
            wrong["filter.rules.trusted_sealers"] = f"'{sealer}' in filter.rules.trusted_sealers is no domain name."
    least = settings.rules.junk_at
    for name in ("quarantine_at", "reject_at"):
        if 0 < getattr(settings.rules, name) < least:
            wrong[f"filter.rules.{name}"] = f"filter.rules.{name} must be 0 (never), or at least junk_at ({least:g})."
    scanners = settings.scanners
    for name, text, endpoint in (
        ("clamd", scanners.clamd, clamd_endpoint),
        ("rspamd", scanners.rspamd, rspamd_endpoint),
    ):
        try:
            if text:
                endpoint(text)
        except InvalidInput as error:
            wrong[f"filter.scanners.{name}"] = f"filter.scanners.{name}: {error.public}"
    return wrong


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _is_name(text: str) -> bool:
    try:
        Domain.parse(text)
    except InvalidInput:
        return False
    return True


def _is_page(text: str) -> bool:
    return text.startswith("https://") and text.isascii() and text.isprintable() and not set(text) & set(' "<>\\')


def _is_network(text: str) -> bool:
    try:
        ip_network(text)
    except ValueError:
        return False
    return True


def _is_loopback(text: str) -> bool:
    return _is_address(text) and ip_address(text).is_loopback
