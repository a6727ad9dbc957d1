"""The If header of WebDAV: lists of conditions about lock tokens and entity tags, for one resource or several. Pure.

Read in one pass without backtracking; what the grammar does not allow is refused.

Raises: Refused (400).
Standards: RFC 4918 §10.4.
"""

from __future__ import annotations

from dataclasses import dataclass

from hosting.dav.errors import Refused

_MOST = 200  # conditions in one header


@dataclass(frozen=True, slots=True)
class Condition:
    """Exactly one of `token` and `etag` is set."""

    negated: bool
    token: str = ""  # a state token, without its angle brackets
    etag: str = ""  # with its quotes


@dataclass(frozen=True, slots=True)
class ConditionList:
    """All of them have to hold. `tag` is the resource they are about; "": that of the request."""

    tag: str
    conditions: tuple[Condition, ...]


def read_if(header: str) -> tuple[ConditionList, ...]:
    """The lists, of which one has to hold; none for an empty header. Raises Refused."""
    lists: list[ConditionList] = []
    at, tag, count = 0, "", 0
    while at < len(header):
        letter = header[at]
        if letter in " \t,":
            at += 1
        elif letter == "<":
            tag, at = _until(header, at, ">")
        elif letter == "(":
            conditions, at = _list(header, at + 1)
            count += len(conditions)
            if count > _MOST:
                raise Refused(400, why="The If header has too many conditions.")
            lists.append(ConditionList(tag, conditions))
        else:
            raise _malformed()
    if header.strip() and not lists:
        raise _malformed()
    return tuple(lists)


def _list(header: str, at: int) -> tuple[tuple[Condition, ...], int]:
    found: list[Condition] = []
    negated = False
    while at < len(header):
        letter = header[at]
        if letter in " \t":
            at += 1
        elif letter == ")":
            if not found or negated:
                raise _malformed()
            return tuple(found), at + 1
        elif letter == "<":
            token, at = _until(header, at, ">")
            found.append(Condition(negated, token=token))
            negated = False
        elif letter == "[":
            etag, at = _until(header, at, "]")
            found.append(Condition(negated, etag=etag.strip()))
            negated = False
        elif header[at : at + 3].lower() == "not" and not negated:
            negated, at = True, at + 3
        else:
            raise _malformed()
        if len(found) > _MOST:
            raise Refused(400, why="The If header has too many conditions.")
    raise _malformed()


def _until(header: str, at: int, closing: str) -> tuple[str, int]:
    """What stands between the bracket at `at` and the next `closing`, and where it goes on."""
    end = header.find(closing, at + 1)
    if end < 0 or end == at + 1:
        raise _malformed()
    return header[at + 1 : end].strip(), end + 1


def _malformed() -> Refused:
    return Refused(400, why="The If header is not valid.")


def read_etags(header: str) -> tuple[str, ...] | None:
    """The entity tags of If-Match or If-None-Match as they stand there, ("*",) for any; None without one.

    RFC 9110 §13.1.1; a tag may hold commas.
    """
    header = header.strip()
    if not header:
        return None
    if header == "*":
        return ("*",)
    found: list[str] = []
    at = 0
    while at < len(header) and len(found) < _MOST:
        if header[at] in " \t,":
            at += 1
            continue
        start = at
        quote = header.find('"', at)
        comma = header.find(",", at)
        if quote >= 0 and (comma < 0 or quote < comma):
            end = header.find('"', quote + 1)
            at = len(header) if end < 0 else end + 1
        else:
            at = len(header) if comma < 0 else comma
        found.append(header[start:at].strip())
    return tuple(found)
