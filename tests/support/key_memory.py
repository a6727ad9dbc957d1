"""Where in this process keys are left once their account, then their tenant, was let go of: `key_memory.py DATA`.

Octets that the collector does not follow itself are found in what it follows. A process of its own, so that nothing of
the test holds what is looked for; it prints the kinds of objects that hold a key before and after, as JSON.
"""

from __future__ import annotations

import gc
import json
import sys
from collections import Counter
from pathlib import Path

from ending_town import EndingTown

from storage.database.driver import database_key
from storage.directory.tenant import SCHEMA as TENANT_SCHEMA
from storage.installation import Installation
from storage.keys.source import LocalKeys
from storage.mail.versions import SCHEMA as ACCOUNT_SCHEMA
from storage.values import AccountId, TenantId


def sought_of(keys: LocalKeys, tenant_id: TenantId, account_id: AccountId, *, whole: bool) -> frozenset[int]:
    """Hashes of the octets and texts, so that this does not hold them itself."""
    if whole:
        secret, schema = keys.tenant_key(tenant_id, "test").secret, TENANT_SCHEMA
    else:
        secret, schema = keys.account_key(tenant_id, account_id, "test").secret, ACCOUNT_SCHEMA
    raw = database_key(secret, schema.name)
    return frozenset(hash(form) for each in (secret, raw) for form in (each, each.hex(), each.hex().upper()))


def holders(sought: frozenset[int]) -> dict[str, int]:
    """Kinds of objects that refer to it."""
    found: Counter[str] = Counter()
    seen: set[int] = set()
    left = gc.get_objects()
    while left:
        following = []
        for each in left:
            for referred in gc.get_referents(each):
                if type(referred) in (bytes, str):
                    if hash(referred) in sought:
                        found[type(each).__qualname__] += 1
                elif isinstance(referred, bytearray):
                    if hash(bytes(referred)) in sought:
                        found[type(each).__qualname__] += 1
                elif not gc.is_tracked(referred) and id(referred) not in seen:
                    seen.add(id(referred))
                    following.append(referred)
        left = following
    return dict(found)


def use(installation: Installation, town: EndingTown, tenant_id: TenantId, account_id: AccountId) -> None:
    """As the roles do: mail is delivered, read and searched, messages are queued."""
    town.deliver(tenant_id, account_id, "used", by=installation)
    town.queued(tenant_id, account_id, by=installation)
    with installation.account(tenant_id, account_id) as account:
        mailbox = account.mailboxes.find("INBOX").id
        account.views.load(mailbox)
        account.messages.append(mailbox, b"Subject: one\r\n\r\ntext\r\n")
    installation.tenant(tenant_id).accounts()
    installation.background.settle()


def main(data: Path) -> None:
    town = EndingTown(data)
    tenant_id = town.tenant()
    account_id, ben = town.account(tenant_id), town.account(tenant_id, "ben")
    of_account = sought_of(town.keys, tenant_id, account_id, whole=False)
    of_tenant = sought_of(town.keys, tenant_id, account_id, whole=True)
    town.installation.close()
    town.installation = town.another()
    use(town.installation, town, tenant_id, account_id)
    use(town.installation, town, tenant_id, ben)
    said = {"before": [holders(of_account), holders(of_tenant)]}
    town.installation.forget_account(tenant_id, account_id)
    gc.collect()
    said["account"] = [holders(of_account), holders(of_tenant)]
    town.installation.forget_tenant(tenant_id)
    gc.collect()
    said["tenant"] = [holders(of_account), holders(of_tenant)]
    json.dump(said, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
