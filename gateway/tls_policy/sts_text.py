"""The two texts of MTA-STS: the TXT record that says that there is a policy, and the policy. Pure.

Raises: PolicyInvalid, with a reason for people.
Standards: RFC 8461 §3.1 (record), §3.2 (policy), §4.1 (patterns).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from storage.queue.sts import StsMode

MAX_AGE = 31_557_600  # seconds: a year, the most that §3.2 allows
PATTERNS = 200  # of one policy

_RECORD = re.compile(rb"v[ \t]*=[ \t]*STSv1[ \t]*;")
_ID = re.compile(rb"[A-Za-z0-9]{1,32}\Z")
_LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,31}):[ \t]*(.*?)[ \t]*\Z")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_PATTERN = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*\Z")


class PolicyInvalid(ValueError):  # noqa: N818 - what the text is
    pass


@dataclass(frozen=True, slots=True)
class PolicyText:
    mode: StsMode
    max_age: int
    mx: tuple[str, ...]  # lower case


def policy_id(texts: Iterable[bytes]) -> str | None:
    """The id in a domain's TXT records; None if it has no policy, or says so in a way that nobody can rely on."""
    records = [text for text in texts if _RECORD.match(text)]
    if len(records) != 1:  # §3.1: several are none
        return None
    for field in records[0].split(b";")[1:]:
        name, equals, value = field.partition(b"=")
        if equals and name.strip(b" \t") == b"id":
            value = value.strip(b" \t")
            return value.decode("ascii") if _ID.match(value) else None
    return None


def parse(text: str) -> PolicyText:
    """A policy as its host answered."""
    fields: dict[str, str] = {}
    patterns: list[str] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        if not line.strip(" \t"):
            continue
        found = _LINE.match(line)
        if found is None:
            raise PolicyInvalid("a line of the policy is no field")
        name, value = found.groups()
        if name == "mx":
            if not _PATTERN.match(value):
                raise PolicyInvalid("mx is no host name and no pattern of one")
            patterns.append(value.lower())
        else:
            fields.setdefault(name, value)  # §3.2: the first one counts
    if fields.get("version") != "STSv1":
        raise PolicyInvalid("the policy has no version that is known")
    try:
        mode = StsMode(fields.get("mode", ""))
    except ValueError:
        raise PolicyInvalid("the policy has no mode that is known") from None
    max_age = fields.get("max_age", "")
    if not re.fullmatch(r"[0-9]{1,10}", max_age):
        raise PolicyInvalid("max_age is no number of seconds")
    if mode is not StsMode.NONE and not patterns:
        raise PolicyInvalid("the policy names no mx")
    if len(patterns) > PATTERNS:
        raise PolicyInvalid("the policy names too many mx")
    return PolicyText(mode, min(int(max_age), MAX_AGE), tuple(dict.fromkeys(patterns)))


def matches(host: str, patterns: Iterable[str]) -> bool:
    """§4.1: a wildcard stands for the leftmost label, a whole one and only one."""
    host = host.lower().rstrip(".")
    label, _, parent = host.partition(".")
    return any(pattern == host or (bool(label) and pattern == f"*.{parent}") for pattern in patterns)
