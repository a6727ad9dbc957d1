"""What a filter does with what it finds: thresholds and choices, of the installation and of those below it.

The installation's rules stand in the configuration, [filter.rules]. A tenant, one of its domains and an account may say
otherwise, as texts by the names of the fields; `DEEPEST` says who may say what: an account cannot let malware in that
its provider or its tenant keeps out. Who is nearer to the recipient wins. A text that means nothing (any more) is
passed over, so that no mail is refused over it; it is refused when it is set.

Pure. Raises: InvalidInput, with one sentence.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import IntEnum
from functools import lru_cache
from typing import Any, TypeAlias

from gateway.policy.verdict import Action
from storage.errors import InvalidInput

Value: TypeAlias = float | int | bool | str | tuple[str, ...]
Layer: TypeAlias = tuple[tuple[str, str], ...]  # names and texts of one scope

NEVER = 0.0  # a threshold that nothing reaches
WEIGH = "weigh"  # a fact counts as evidence beside the content and decides nothing by itself

_SPAM = tuple(action.value for action in (Action.DELIVER, Action.TAG, Action.JUNK, Action.QUARANTINE, Action.REJECT))
_SPAM_ELSEWHERE = tuple(action for action in _SPAM if action != Action.JUNK)
_WITHHELD = (Action.QUARANTINE.value, Action.REJECT.value)
_WEIGHED = (WEIGH, *_SPAM[1:])
_GROUP = "attachment_"


def _one_of(default: str, choices: tuple[str, ...]) -> Any:
    return field(default=default, metadata={"choices": choices})


def _score(default: float, least: float) -> Any:
    return field(default=default, metadata={"least": least, "most": 100.0})


@dataclass(frozen=True, slots=True)
class Rules:
    """What becomes of mail, where tenants, domains and accounts have no rules of their own (`cleanmail filter policy`).
    Actions: deliver, tag (delivered, with a field that says so), junk (into the Junk folder; where the recipient's
    mailboxes are elsewhere, quarantine), quarantine, reject. "weigh" counts as evidence and decides nothing alone.
    """

    # Scores are logits: above 0 spam is likelier, each whole one makes it 2.7 times as likely.
    tag_at: float = _score(3.0, 0.0)  # score from which a message is delivered as suspicious; 0: never
    junk_at: float = _score(4.5, 0.1)  # score from which a message is spam
    quarantine_at: float = _score(NEVER, 0.0)  # score from which spam is quarantined whatever else is chosen; 0: never
    reject_at: float = _score(NEVER, 0.0)  # score from which spam is refused; 0: never
    spam_here: str = _one_of("junk", _SPAM)  # spam for mailboxes of this installation
    spam_routed: str = _one_of("quarantine", _SPAM_ELSEWHERE)  # spam for tenants' own servers and forwarded mail
    malware: str = _one_of("quarantine", _WITHHELD)  # what a malware scanner knows
    malware_suspected: str = _one_of("quarantine", _SPAM[1:])  # what it only suspects, or finds unwanted
    malware_unknown: str = _one_of("deliver", _SPAM[:4])  # what it should have looked at, and could not
    attachment_executable: str = _one_of("quarantine", _SPAM)  # programs, by name or content, also in archives
    attachment_script: str = _one_of("quarantine", _SPAM)  # scripts that a double-click runs
    attachment_shortcut: str = _one_of("quarantine", _SPAM)  # shortcuts that start programs or open pages
    attachment_disk_image: str = _one_of("quarantine", _SPAM)  # images of disks
    attachment_macro: str = _one_of("quarantine", _SPAM)  # documents with macros or embedded objects
    attachment_encrypted_archive: str = _one_of("tag", _SPAM)  # encrypted archives and documents
    attachment_unreadable_archive: str = _one_of("tag", _SPAM)  # archives that cannot be looked into
    attachment_mismatch: str = _one_of("junk", _SPAM)  # files that are not what their names say
    attachment_html_script: str = _one_of("junk", _SPAM)  # web pages that run scripts
    dmarc_reject: str = _one_of("reject", _WEIGHED)  # fails DMARC, and the author's domain asks to refuse that
    # the same, but a trusted sealer vouches, it shows signs of a mailing list, people here write to the author, or DNS
    # did not answer for all of it; never worse than without that
    dmarc_excused: str = _one_of("junk", ("junk", "quarantine"))
    dmarc_quarantine: str = _one_of("junk", _WEIGHED)  # fails DMARC, and the author's domain asks for quarantine
    spf_fail: str = _one_of(WEIGH, _WEIGHED)  # SPF fails, and no signature stands for the author's domain
    forged_own: str = _one_of(WEIGH, _WEIGHED)  # names an author of the recipient's own domain, without proof
    # the same where it would be forwarded: the next server would take our word for it
    forged_own_forwarded: str = _one_of("quarantine", _WEIGHED)
    dns_lists: str = _one_of(
        WEIGH, _WEIGHED
    )  # a DNS list names the client ("reject" beside a list refuses in any case)
    rspamd: str = _one_of("junk", _WEIGHED)  # Rspamd says reject
    malformed: str = _one_of(WEIGH, _WEIGHED)  # its form hides or doubles what it is, as forgeries do
    denied: str = _one_of("reject", _WITHHELD)  # the sender is on a deny list
    greylisting: bool = True  # strangers are put off, where [filter.greylist] is enabled
    learn: bool = True  # what users move into Junk and out of it teaches the filter
    quarantine_days: int = field(default=30, metadata={"least": 1, "most": 365})  # how long withheld mail is kept
    digest: str = _one_of("off", ("off", "recipients", "administrators"))  # who gets a daily list of withheld mail
    # domains whose ARC seals are believed, such as those of forwarders and mailing lists; for the installation only
    trusted_sealers: tuple[str, ...] = ()

    def attachment(self, group: str) -> Action:
        """What becomes of attachments of a group (`gateway.content_facts.GROUPS`)."""
        return Action(getattr(self, _GROUP + group))


DEFAULT = Rules()
NAMES = tuple(each.name for each in fields(Rules))
_FIELDS = {each.name: each for each in fields(Rules)}


class Scope(IntEnum):
    """Whose rules; the nearer to the recipient, the greater."""

    INSTALLATION = 0
    TENANT = 1
    DOMAIN = 2
    ACCOUNT = 3


# The nearest to the recipient that may say otherwise: what protects others than the account, or speaks to senders, is
# not the account's; the quarantine is the tenant's.
DEEPEST: Mapping[str, Scope] = {
    **dict.fromkeys(NAMES, Scope.DOMAIN),
    "tag_at": Scope.ACCOUNT,
    "junk_at": Scope.ACCOUNT,
    "quarantine_at": Scope.ACCOUNT,
    "spam_here": Scope.ACCOUNT,
    "learn": Scope.ACCOUNT,
    "digest": Scope.ACCOUNT,
    "greylisting": Scope.ACCOUNT,
    "trusted_sealers": Scope.INSTALLATION,
}
# And what an account may not choose though the rule is its own to set: nobody is refused in its name.
_NOT_FOR_ACCOUNTS = {("spam_here", Action.REJECT.value)}


def parse_rule(name: str, text: str, scope: Scope = Scope.INSTALLATION) -> Value:
    """The value that `text` gives the rule. Raises InvalidInput, also where `scope` has no say in it."""
    if name not in _FIELDS:
        close = difflib.get_close_matches(name, NAMES, 1, 0.6)
        raise InvalidInput(f"There is no rule '{_shown(name)}'" + (f"; did you mean {close[0]}?" if close else "."))
    if scope > DEEPEST[name]:
        raise InvalidInput(f"The rule {name} is not for {_PLURALS[scope]}; it is set for {_UP_TO[DEEPEST[name]]}.")
    value = _parse(name, text.strip(), DEFAULT)
    if scope is Scope.ACCOUNT and (name, value) in _NOT_FOR_ACCOUNTS:
        raise InvalidInput(f"The rule {name} cannot be '{value}' for an account.")
    return value


def merged(installation: Rules, layers: Sequence[Layer]) -> Rules:
    """The installation's rules with those of the tenant, the domain and the account, in this order."""
    return _merged(installation, tuple(layers)) if any(layers) else installation


def text_of(value: Value) -> str:
    """A value as `parse_rule` reads it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ", ".join(value)
    if isinstance(value, float):
        return "never" if value == NEVER else f"{value:g}"
    return str(value)


_PLURALS = {Scope.TENANT: "tenants", Scope.DOMAIN: "domains", Scope.ACCOUNT: "accounts"}
_UP_TO = {
    Scope.INSTALLATION: "the installation, in its configuration",
    Scope.TENANT: "tenants",
    Scope.DOMAIN: "tenants and domains",
}
_SWITCH = {"on": True, "yes": True, "true": True, "off": False, "no": False, "false": False}


def _parse(name: str, text: str, defaults: Rules) -> Value:
    default, metadata = getattr(defaults, name), _FIELDS[name].metadata
    if isinstance(default, bool):
        if text.lower() not in _SWITCH:
            raise InvalidInput(f"The rule {name} is on or off, not '{_shown(text)}'.")
        return _SWITCH[text.lower()]
    if isinstance(default, (int, float)):
        return _number(name, text, metadata, whole=isinstance(default, int))
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if text.lower() not in metadata["choices"]:
        raise InvalidInput(f"The rule {name} is one of {', '.join(metadata['choices'])}, not '{_shown(text)}'.")
    return text.lower()


def _shown(text: str) -> str:
    """What somebody wrote, as part of a sentence in one line."""
    return "".join(character if character.isprintable() else " " for character in text[:40])


def _number(name: str, text: str, metadata: Mapping[str, Any], *, whole: bool) -> float | int:
    least, most = metadata["least"], metadata["most"]
    if text.lower() == "never" and not least:
        return NEVER
    try:
        number: float = int(text) if whole else float(text)
    except ValueError:
        number = math.nan
    if not least <= number <= most:  # NaN is not either
        kind = "a whole number" if whole else "a number"
        never = ", or never" if not least else ""
        raise InvalidInput(f"The rule {name} is {kind} from {least:g} to {most:g}{never}, not '{_shown(text)}'.")
    return number


@lru_cache(maxsize=1024)
def _merged(installation: Rules, layers: tuple[Layer, ...]) -> Rules:
    changed: dict[str, Any] = {}
    for scope, layer in zip((Scope.TENANT, Scope.DOMAIN, Scope.ACCOUNT), layers, strict=False):
        for name, text in layer:
            try:
                changed[name] = parse_rule(name, text, scope)
            except InvalidInput:
                continue
    return replace(installation, **changed)
