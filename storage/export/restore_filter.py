"""Brings the filter's rules and lists of an archive back, where there are none of that name yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from storage.directory.tenant import Tenant
from storage.errors import CleanmailError, InvalidInput
from storage.filter.rules import ListKind, RuleScope

CheckRule = Callable[[RuleScope, str, str], object]  # raises InvalidInput for a rule that means nothing


def restore_filter(
    tenant: Tenant, scope: RuleScope, values: object, note: Callable[[str], object], check: CheckRule | None
) -> None:
    """Rules and lists of a scope, where it has none of that name yet. `note` is told what was left out, and why."""
    if not isinstance(values, Mapping):
        return
    rules, lists = values.get("rules"), values.get("lists")
    there = tenant.filter_rules.rules(scope)
    for name, text in rules.items() if isinstance(rules, Mapping) else ():
        if name in there:
            continue
        try:
            if check is None or not isinstance(text, str):
                raise InvalidInput(f"The rule {str(name)[:40]} of the filter was left out.")
            check(scope, name, text)
        except InvalidInput as error:
            note(error.public)
        else:
            tenant.filter_rules.set_rule(scope, name, text)
    listed = {entry.pattern for entry in tenant.filter_rules.entries(scope)}
    for entry in lists if isinstance(lists, list) else ():
        try:
            pattern, kind = str(entry["pattern"]), ListKind(entry["list"])
            if pattern not in listed:
                tenant.filter_rules.add(scope, pattern, kind, unproven=entry.get("unproven") is True)
        except (KeyError, TypeError, ValueError, AttributeError):
            note("An entry of a list of the filter cannot be read; it was left out.")
        except CleanmailError as error:
            note(error.public)
