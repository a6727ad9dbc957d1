"""Corrects what is wrong about a person: the name that is shown, the address of an account, the contact of a contract.

What was there before and what is there now stand in an audit record under the person's own key, which is written first.
A new address takes effect in one commit with its sign-in name; killed in between, the same call goes on.

Raises: NotFound, AlreadyExists, NotPermitted, InvalidInput, Conflict (the customer's contract has ended), Unavailable.
Standards: GDPR Art. 16, revFADP Art. 32.
"""

from __future__ import annotations

from sqlalchemy import bindparam, delete, insert, select, update

from storage.changes import AccountChanged
from storage.database.database import Transaction
from storage.database.prepared import prepare
from storage.directory.addresses import ALIAS
from storage.directory.rows import DomainState
from storage.errors import AlreadyExists, InvalidInput, NotFound, NotPermitted
from storage.persons import requests
from storage.persons.sought import Sought
from storage.schema import tenant as schema
from storage.values import EmailAddress

NAME_MAX = 200  # characters

_account, _address, _target = schema.account, schema.address, schema.target
_SET_NAME = prepare(update(_account).where(_account.c.account_id == bindparam("id")).values(name=bindparam("shown")))
_SET_LOGIN = prepare(
    update(_account)
    .where(_account.c.account_id == bindparam("id"))
    .values(login=bindparam("text"), login_key=bindparam("canonical"))
)
_FIND = prepare(select(_address.c.kind).where(_address.c.address_key == bindparam("key")))
_DELETE = prepare(delete(_address).where(_address.c.address_key == bindparam("key")))
_DELETE_TARGETS = prepare(delete(_target).where(_target.c.address_key == bindparam("key")))
_INSERT = prepare(insert(_address))
_INSERT_TARGET = prepare(insert(_target))
_LEADS_TO = prepare(
    update(_target).where(_target.c.target_address == bindparam("old")).values(target_address=bindparam("new"))
)


def correct_name(sought: Sought, name: str, by: str) -> int:
    """The account's display name; the number of the audit record."""
    account, tenant_id = sought.account, sought.tenant_id
    if account is None or tenant_id is None:
        raise NotFound(f"Nobody here has the address {sought.address}.")
    if len(name) > NAME_MAX or any(ord(each) < 32 for each in name):
        raise InvalidInput(f"A name has at most {NAME_MAX} characters, in one line.")
    number = requests.record(sought, requests.CORRECT, by, {"what": "name", "before": account.name, "after": name})
    database = sought.installation.tenant(tenant_id).database
    database.write(lambda transaction: _SET_NAME.run(transaction, id=account.account_id, shown=name))
    sought.installation.announce(AccountChanged(tenant_id, account.account_id))
    return number


def correct_address(sought: Sought, new: EmailAddress, by: str, *, keep_alias: bool = False) -> list[int]:
    """The address of the account, and of contracts whose contact it is; the numbers of the audit records.

    With `keep_alias` mail to the old address still comes.
    """
    numbers = _contacts(sought, new, by)
    if sought.account is not None:
        numbers.append(_login(sought, new, by, keep_alias=keep_alias))
    if not numbers:
        raise NotFound(f"Nobody here has the address {sought.address}, and no contract names it as its contact.")
    return numbers


def _contacts(sought: Sought, new: EmailAddress, by: str) -> list[int]:
    contracts, audit = sought.installation.control.contracts, sought.installation.audit
    numbers = []
    for row in sought.living():
        contact = contracts.contact(row.tenant_id)
        if contact is not None and contact.key == sought.address.key:
            details = {requests.PERSON: sought.mark, "what": "contact", "before": str(contact), "after": str(new)}
            numbers.append(audit.append(requests.CORRECT, by, row.tenant_id, None, details))
            contracts.set_contact(row.tenant_id, new)
    return numbers


def _login(sought: Sought, new: EmailAddress, by: str, *, keep_alias: bool) -> int:
    installation, account, tenant_id = sought.installation, sought.account, sought.tenant_id
    assert account is not None and tenant_id is not None
    old, account_id = account.login, account.account_id
    if old.key != sought.address.key:
        raise InvalidInput(f"{sought.address} is an alias; the account's own address is {old}.")
    domain = installation.control.find_domain(new.domain)
    if domain is None or domain.tenant_id != tenant_id or domain.state is not DomainState.VERIFIED:
        raise NotPermitted(f"{new.domain} is no verified domain of this customer.")
    tenant, control = installation.tenant(tenant_id), installation.control
    known = control.find_login(control.login_hash(str(new)))
    if tenant.addresses.find(new.key) is not None or (known is not None and known.account_id != account_id):
        raise AlreadyExists(f"{new} exists already.")
    details = {"what": "address", "before": str(old), "after": str(new)}
    number = requests.record(sought, requests.CORRECT, by, details)

    def work(transaction: Transaction) -> None:
        if _FIND.one(transaction, key=new.key) is not None:
            raise AlreadyExists(f"{new} exists already.")
        _DELETE_TARGETS.run(transaction, key=old.key)
        _DELETE.run(transaction, key=old.key)
        for address, kind in ((new, "account"), *([(old, ALIAS)] if keep_alias else [])):
            _INSERT.run(transaction, address_key=address.key, address=str(address), kind=kind)
            _INSERT_TARGET.run(
                transaction, address_key=address.key, position=0, account_id=account_id, target_address=None
            )
        if not keep_alias:
            _LEADS_TO.run(transaction, old=str(old), new=str(new))
        _SET_LOGIN.run(transaction, id=account_id, text=str(new), canonical=new.key)
        control.release_login(account_id)
        control.claim_login(new, tenant_id, account_id)

    tenant.database.write(work)
    installation.announce(AccountChanged(tenant_id, account_id))
    return number
