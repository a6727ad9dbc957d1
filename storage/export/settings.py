"""What belongs to an account or a tenant beside mail, as documents: account.json and tenant.json.

Passwords and verifiers are in neither, nor private halves of DKIM keys. What the filter learned is not exported: it is
numbers that mean something beside this tenant's keys and this installation's model alone, and it is learned again.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any

from storage.directory.control import Control
from storage.directory.rows import AccountRow, AliasRow, TenantRow
from storage.directory.tenant import Tenant
from storage.export.annotations import written as annotations_of
from storage.filter.rules import ListEntry, RuleScope, of_account
from storage.mail.account import Account
from storage.values import AccountId, EmailAddress


def document(values: Mapping[str, Any]) -> bytes:
    """For people too: one value a line."""
    return (json.dumps(values, ensure_ascii=False, indent=1) + "\n").encode("utf-8", "replace")


def of_the_account(tenant: Tenant, row: AccountRow, account: Account) -> dict[str, Any]:
    """account.json."""
    logins = {each.account_id: str(each.login) for each in tenant.accounts()}
    aliases = leading_to(tenant.addresses.aliases(), row)
    frozen = tenant.frozen.find(row.account_id)
    return {
        "address": str(row.login),
        "name": row.name,
        "state": row.state.value,
        "created": row.created,
        "quota_bytes": row.quota_bytes,
        "quota_messages": row.quota_messages,
        "catch_all_sender": row.catch_all_sender,
        "frozen": frozen is not None,
        "aliases": [_alias(alias, logins) for alias in aliases],
        "forwardings": sorted(
            {
                str(address)
                for alias in aliases
                for address in alias.addresses
                if tenant.addresses.find(address.key) is None
            }
        ),
        "app_passwords": [
            {
                "name": each.name,
                "protocols": sorted(each.protocols),
                "created": each.created,
                "revoked": each.revoked,
            }
            for each in tenant.app_passwords.list(row.account_id)
        ],
        "filter": _filter(tenant, of_account(row.account_id)),
        "subscriptions": sorted(account.mailboxes.subscriptions()),
        "annotations": annotations_of(account),
        "shares": _shares(tenant, row.account_id, account),
        "mailbox_rights": _mailbox_rights(tenant, row.account_id, account),
    }


def _shares(tenant: Tenant, account_id: AccountId, account: Account) -> list[dict[str, Any]]:
    """What the account shares, for people to read: with whom is for its owner to say anew."""
    names: dict[int, str] = {each.id: each.name for each in account.collections.list()}
    return [
        {
            "collection": names[each.collection_id],
            "kind": each.kind.value,
            "with": each.sharee_login,
            "may_write": each.may_write,
            "state": each.state.value,
            "invited": each.invited,
        }
        for each in tenant.shares.of_owner(account_id)
        if each.collection_id in names
    ]


def _mailbox_rights(tenant: Tenant, account_id: AccountId, account: Account) -> list[dict[str, Any]]:
    """Who may do what with the account's mailboxes (RFC 4314), likewise for people to read."""
    names: dict[int, str] = {each.id: each.name for each in account.mailboxes.list()}
    return [
        {
            "mailbox": names[each.mailbox_id],
            "identifier": each.login or "anyone",
            "rights": each.rights,
            "changed": each.changed,
        }
        for each in tenant.mailbox_rights.of_owner(account_id)
        if each.mailbox_id in names
    ]


def of_the_tenant(
    control: Control,
    tenant: Tenant,
    row: TenantRow,
    folders: Mapping[AccountId, str],
    gone: Iterable[Mapping[str, Any]],
) -> dict[str, Any]:
    """tenant.json; `folders` are those of the accounts in the archive."""
    accounts = {each.account_id: each for each in tenant.accounts() if each.account_id in folders}
    logins = {account_id: str(each.login) for account_id, each in accounts.items()}
    domains = control.domains(row.tenant_id)
    scopes = [RuleScope(""), *(RuleScope(f"domain:{each.domain.name}") for each in domains)]
    return {
        "slug": row.slug,
        "name": row.name,
        "state": row.state.value,
        "created": row.created,
        "domains": [
            {
                "domain": each.domain.name,
                "state": each.state.value,
                "created": each.created,
                "verified": each.verified,
            }
            for each in domains
        ],
        "accounts": [{"address": logins[number], "folder": folder} for number, folder in folders.items()],
        "gone": list(gone),
        "aliases": [_alias(alias, logins) for alias in tenant.addresses.aliases()],
        "routes": [
            {
                "domain": each.domain.name,
                "mode": each.mode.value,
                "host": each.host,
                "port": each.port,
                "tls": each.tls.value,
                "verify": each.verify,
            }
            for each in tenant.routes.all()
        ],
        "settings": dict(sorted(tenant.settings("").items())),
        "filter": {scope: found for scope in scopes if any((found := _filter(tenant, scope)).values())},
        "dkim": [
            {
                "domain": each.domain.name,
                "selector": each.selector,
                "algorithm": each.algorithm.value,
                "state": each.state.value,
                "public_key": base64.b64encode(each.public_key).decode("ascii"),
                "created": each.created,
            }
            for each in tenant.dkim_keys.find()
        ],
    }


def leading_to(aliases: Iterable[AliasRow], row: AccountRow) -> list[AliasRow]:
    """Aliases whose mail comes to the account, over other aliases too."""
    reached, left = {row.login.key}, list(aliases)
    found: list[AliasRow] = []
    while True:
        leads = [
            alias
            for alias in left
            if row.account_id in alias.accounts or any(address.key in reached for address in alias.addresses)
        ]
        if not leads:
            return sorted(found, key=lambda alias: alias.address)
        found += leads
        left = [alias for alias in left if alias not in leads]
        reached |= {EmailAddress.parse(alias.address).key for alias in leads if not alias.catch_all}


def _alias(alias: AliasRow, logins: Mapping[AccountId, str]) -> dict[str, Any]:
    targets = [logins[each] for each in alias.accounts if each in logins]
    return {"address": alias.address, "targets": targets + [str(each) for each in alias.addresses]}


def _filter(tenant: Tenant, scope: RuleScope) -> dict[str, Any]:
    return {
        "rules": dict(sorted(tenant.filter_rules.rules(scope).items())),
        "lists": [_entry(entry) for entry in tenant.filter_rules.entries(scope)],
    }


def _entry(entry: ListEntry) -> dict[str, Any]:
    return {"pattern": entry.pattern, "list": entry.kind.value, "unproven": entry.unproven, "created": entry.created}
