"""The table of commands: who runs each, in which states, and what news its answer may carry.

Standards: RFC 9051 §6 (states), §7.5.1 (EXPUNGE), RFC 2177 with IDLE before any SELECT (Outlook); the rule about new
messages is `docs/decisions/0006-imap.md`: what others bring is told in NOOP, CHECK, SELECT and IDLE only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from hosting.imap import commands as c
from hosting.imap import general, signin
from hosting.imap.at_once import plainly
from hosting.imap.fetching import fetch
from hosting.imap.mailboxes import creating, listing, metadata, quota, selecting
from hosting.imap.mailboxes import status as status_command
from hosting.imap.mailboxes.metadata_grammar import GetMetadata, SetMetadata
from hosting.imap.news import notify
from hosting.imap.news.notify_grammar import Notify
from hosting.imap.searching import multisearch, search, uid_batches
from hosting.imap.searching import search_commands as sc
from hosting.imap.searching.uid_batches_grammar import UidBatches
from hosting.imap.session import News, Rule, Session, State
from hosting.imap.sharing import acl, acl_grammar
from hosting.imap.shell import layers
from hosting.imap.shell.layer_grammar import Compress, Unauthenticate
from hosting.imap.storing import append, copying, expunge, replace
from hosting.imap.storing import store as store_command
from hosting.imap.storing.append_commands import Append, Replace

_ANY = frozenset({State.GREETED, State.SIGNED_IN, State.SELECTED})
_GREETED = frozenset({State.GREETED})
_SIGNED_IN = frozenset({State.SIGNED_IN, State.SELECTED})
_SELECTED = frozenset({State.SELECTED})


def _none(_: c.Command) -> News:
    return News.NONE


def _expunges(_: c.Command) -> News:
    return News.EXPUNGES


def _all(_: c.Command) -> News:
    return News.ALL


def _by_number(command: Any) -> News:
    """By UID an EXPUNGE hurts nobody; by number the client still uses the numbers it knows."""
    return News.EXPUNGES if command.by_uid else News.FLAGS


def _rule(run: Callable[..., Any], states: frozenset[State], news: Callable[[c.Command], News]) -> Rule:
    return Rule(run, states, news)


def _short(
    run: Callable[..., Any],
    states: frozenset[State],
    news: Callable[[c.Command], News],
    at_once: Callable[[Session, bytes, Any], bytes | None],
) -> Rule:
    """Mostly answered at once."""
    return Rule(run, states, news, at_once=plainly(at_once))


def _write(run: Callable[..., Any], states: frozenset[State], news: Callable[[c.Command], News]) -> Rule:
    """Not in the window before a contract's end; SELECT and CLOSE see to it themselves."""
    return Rule(run, states, news, writes=True)


RULES: Final[Mapping[type[c.Command], Rule]] = {
    c.Capability: _rule(general.capability, _ANY, _expunges),
    c.Noop: _short(general.noop, _ANY, _all, general.noop_at_once),
    c.Logout: _rule(general.logout, _ANY, _none),
    c.Identify: _rule(general.identify, _ANY, _expunges),
    c.StartTls: _rule(signin.start_tls, _GREETED, _none),
    c.Login: _rule(signin.login, _GREETED, _none),
    c.Authenticate: _rule(signin.authenticate, _GREETED, _none),
    Notify: _rule(notify.notify, _SIGNED_IN, _none),
    Compress: _rule(layers.compress, _SIGNED_IN, _none),
    Unauthenticate: _rule(layers.unauthenticate, _SIGNED_IN, _none),
    c.Enable: _rule(general.enable, _SIGNED_IN, _expunges),
    c.Namespace: _rule(general.namespace, _SIGNED_IN, _expunges),
    c.Select: _rule(selecting.select, _SIGNED_IN, _none),
    c.Create: _write(creating.create, _SIGNED_IN, _expunges),
    c.Delete: _write(creating.delete, _SIGNED_IN, _expunges),
    c.Rename: _write(creating.rename, _SIGNED_IN, _expunges),
    c.Subscribe: _rule(creating.subscribe, _SIGNED_IN, _expunges),
    c.Unsubscribe: _rule(creating.unsubscribe, _SIGNED_IN, _expunges),
    c.ListMailboxes: _rule(listing.list_mailboxes, _SIGNED_IN, _expunges),
    c.ListSubscribed: _rule(listing.list_subscribed, _SIGNED_IN, _expunges),
    c.Status: _rule(status_command.status, _SIGNED_IN, _expunges),
    Append: _write(append.append, _SIGNED_IN, _expunges),
    Replace: _write(replace.replace, _SELECTED, _expunges),
    c.Idle: _rule(general.idle, _SIGNED_IN, _all),
    acl_grammar.SetAcl: _write(acl.set_acl, _SIGNED_IN, _expunges),
    acl_grammar.DeleteAcl: _write(acl.delete_acl, _SIGNED_IN, _expunges),
    acl_grammar.GetAcl: _rule(acl.get_acl, _SIGNED_IN, _expunges),
    acl_grammar.ListRights: _rule(acl.list_rights, _SIGNED_IN, _expunges),
    acl_grammar.MyRights: _rule(acl.my_rights, _SIGNED_IN, _expunges),
    GetMetadata: _rule(metadata.get_metadata, _SIGNED_IN, _expunges),
    SetMetadata: _write(metadata.set_metadata, _SIGNED_IN, _expunges),
    c.GetQuota: _rule(quota.get_quota, _SIGNED_IN, _expunges),
    c.GetQuotaRoot: _rule(quota.get_quota_root, _SIGNED_IN, _expunges),
    c.SetQuota: _rule(quota.set_quota, _SIGNED_IN, _expunges),
    c.Check: _short(general.noop, _SELECTED, _all, general.noop_at_once),
    c.Close: _rule(selecting.close, _SELECTED, _none),
    c.Unselect: _rule(selecting.unselect, _SELECTED, _none),
    c.Expunge: _write(expunge.expunge, _SELECTED, _expunges),
    c.Fetch: _short(fetch.fetch, _SELECTED, _by_number, fetch.fetch_at_once),
    c.Store: _write(store_command.store, _SELECTED, _by_number),
    c.Copy: _write(copying.copy, _SELECTED, _expunges),
    sc.Search: _rule(search.search, _SELECTED, _by_number),
    sc.Sort: _rule(search.sort, _SELECTED, _by_number),
    sc.Thread: _rule(search.thread, _SELECTED, _by_number),
    sc.MultiSearch: _rule(multisearch.multisearch, _SIGNED_IN, _expunges),
    sc.CancelUpdate: _rule(search.cancel_update, _SELECTED, _expunges),
    UidBatches: _rule(uid_batches.uid_batches, _SELECTED, _expunges),
}
