"""The rules of the tree that no type checker holds: the way of imports, what storage may know, what tables declare."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from sqlalchemy import MetaData

import storage.schema

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("storage", "gateway", "hosting", "scripts")
OUTSIDE_STORAGE = {"asyncio", "twisted", "uvloop", "aiosmtpd", "typer", "rich", "prometheus_client"}


def modules(layer: str) -> list[Path]:
    return sorted(path for path in (ROOT / layer).rglob("*.py"))


@dataclass(frozen=True, slots=True)
class Read:
    """What these rules ask of one module."""

    imports: tuple[tuple[int, str], ...]  # with their lines; in functions and under TYPE_CHECKING too
    asynchronous: tuple[int, ...]  # lines
    is_described: bool


@cache
def read(path: Path) -> Read:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imports: list[tuple[int, str]] = []
    asynchronous: list[int] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imports.append((node.lineno, "." * node.level + (node.module or "")))
        elif isinstance(node, (ast.AsyncFunctionDef, ast.Await)):
            asynchronous.append(node.lineno)
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, (ast.Name, ast.Attribute))
            and (node.func.id if isinstance(node.func, ast.Name) else node.func.attr) in ("import_module", "__import__")
            and node.args
            and isinstance(node.args[0], (ast.Constant, ast.JoinedStr))
        ):
            first = node.args[0].values[0] if isinstance(node.args[0], ast.JoinedStr) else node.args[0]
            if isinstance(first, ast.Constant):
                imports.append((node.lineno, str(first.value)))
    return Read(tuple(imports), tuple(asynchronous), bool(ast.get_docstring(tree)))


def wrong_imports(layer: str) -> list[str]:
    forbidden = set(LAYERS[LAYERS.index(layer) + 1 :])
    return [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in modules(layer)
        for line, name in read(path).imports
        if name.split(".")[0] in forbidden or name.startswith(".")
    ]


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_go_to_the_left_only(layer: str) -> None:
    assert modules(layer)
    assert wrong_imports(layer) == []


def test_there_is_no_other_folder_of_code() -> None:
    folders = {path.parent.name for path in ROOT.glob("*/*.py") if not path.parent.name.startswith(".")}
    assert folders == {*LAYERS, "tests"}


def test_storage_is_synchronous_and_knows_no_protocol_library() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in modules("storage")
        for line, name in read(path).imports
        if name.split(".")[0] in OUTSIDE_STORAGE
    ]
    found += [
        f"{path.relative_to(ROOT)}:{line} is async" for path in modules("storage") for line in read(path).asynchronous
    ]
    assert found == []


def test_twisted_stays_out_of_the_gateway() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in modules("gateway")
        for line, name in read(path).imports
        if name.split(".")[0] == "twisted"
    ]
    assert found == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for layer in LAYERS
        for path in modules(layer)
        if path.stat().st_size and not read(path).is_described
    ]
    assert silent == []


def schemas() -> list[tuple[str, MetaData]]:
    modules = {
        module.name: importlib.import_module(f"storage.schema.{module.name}")
        for module in pkgutil.iter_modules(storage.schema.__path__)
    }
    return [(name, module.metadata) for name, module in modules.items() if hasattr(module, "VERSION")]


# Columns of text and octets that hold nothing of a person: states, tokens, keyed hashes, file names, packed numbers.
# A new column of text or octets either declares whose data it holds or is thought about and listed here.
TECHNICAL = {
    "account.counter.name account.info.name account.info.value account.mailbox.special_use",
    "account.message.delivery_id",
    "account.message.email_id account.message.file account.message.thread_id account.snapshot.columns",
    "account.flag_change.changes account.mailbox.flag_changes",
    "account.snapshot.rows account.thread_reference.reference account.thread_reference.thread_id account.unlink.file",
    "audit.info.name audit.info.value audit.record.action audit.record.hash audit.record.previous",
    "control.counter.name control.domain.state control.domain.token control.info.name control.info.value",
    "control.login.login_hash control.tenant.state",
    "queue.entry.file queue.entry.origin queue.entry.queue_id queue.info.name queue.info.value",
    "queue.recipient.queue_id queue.recipient.state queue.counter.name queue.destination.status",
    "queue.destination.text queue.sts_policy.policy_id queue.sts_policy.mode",
    "queue.unlink.file queue.tls_result.policy_type queue.tls_result.result_type",
    "tenant.account.state tenant.address.kind tenant.app_password.protocols tenant.info.name tenant.info.value",
    "tenant.setting.name tenant.dkim_key.selector tenant.dkim_key.algorithm tenant.dkim_key.private_key",
    "tenant.dkim_key.public_key tenant.dkim_key.state tenant.route.mode tenant.route.tls tenant.srs.token",
    "tenant.quarantine.quarantine_id tenant.quarantine.fingerprint tenant.quarantine.reason tenant.quarantine.file",
    "tenant.quarantine_recipient.quarantine_id tenant.quarantine_recipient.reason tenant.quarantine_recipient.sentence",
    "tenant.quarantine_recipient.counterfactual tenant.quarantine_recipient.state tenant.filter_setting.name",
    "tenant.quarantine_recipient.release_id tenant.quarantine_recipient.released_by",
    "tenant.quarantine_recipient.releaser tenant.quarantine_unlink.file",
    "tenant.filter_list.kind tenant.correspondent.address_hash tenant.reputation.subject_hash",
    "tenant.lesson.message_hash tenant.lesson.spoke",
    "control.secrecy_agreement.document control.review.quarantine_id control.review.state",
    "control.review.reason",
    "control.judged.what",
    "control.contract.features control.ending.ending_id control.ending.step control.ending.reason",
    "control.ending.progress control.legal_hold.hold_id control.key_backup.backup_id control.key_backup.place",
    "control.backup.backup_id control.backup.place control.receipt.data_class control.staff.roles",
    "control.staff_session.token_hash control.approval.approval_id control.approval.kind control.approval.state",
    "control.disclosure.case_id control.disclosure.kind control.disclosure.authority control.disclosure.legal_basis",
    "control.disclosure.document control.disclosure.state control.disclosure.approval_id control.disclosure.extract",
    "account.collection.kind account.collection.color account.collection.timezone account.collection.components",
    "account.collection.source account.object.component account.object.etag account.object.schedule_tag",
    "account.object.content_type account.object_data.file account.dav_lock.token account.object_unlink.file",
    "account.scheduling.method account.scheduling.queue_id account.scheduled.key",
    "account.feed.validators account.feed.problem",
    "tenant.scram_salt.salt tenant.mailbox_right.rights",
    "tenant.share.kind tenant.share.state tenant.share.name tenant.share.color control.public_link.digest",
    "audit.checkpoint.hash audit.checkpoint.signature audit.origin.hash audit.origin.signature",
}


@pytest.mark.parametrize(("name", "metadata"), schemas())
def test_every_table_and_column_declares_whose_data_it_holds(name: str, metadata: MetaData) -> None:
    listed = {column for line in TECHNICAL for column in line.split()}
    assert metadata.tables
    for table in metadata.tables.values():
        assert table.info.get("purpose"), f"{name}.{table.name} declares no info"
        for column in table.columns:
            if column.info:
                assert column.info["personal"] in ("user", "correspondent", "customer", "staff"), f"{name}.{column}"
                assert column.info["purpose"], f"{name}.{column}"
            elif type(column.type).__name__ in ("Text", "String", "LargeBinary") and not table.info["personal"]:
                assert f"{name}.{column}" in listed, f"{name}.{column} declares nothing"
