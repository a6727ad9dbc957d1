"""Bodies of requests as trees of elements, and elements back to XML.

`parse` reads a body that a stranger wrote: DOCTYPE, and with it every entity, and processing instructions are refused,
and size, depth, elements, attributes and text are bounded, so it takes time and memory in proportion to the body
and no more. What clients keep as properties is written again by `serialised` with the namespaces, language and mixed
content that it had (RFC 4918 §4.3, §4.4).

Raises: BadXml.
Standards: XML 1.0, Namespaces in XML 1.0, RFC 4918 §8.2, §20.6.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

from hosting.dav.names import attribute, split, text
from storage.errors import InvalidInput

DEPTH_MAX = 64
ELEMENTS_MAX = 40_000  # a multiget names its objects one by one
ATTRIBUTES_MAX = 64
NAME_MAX = 1024

XML_NAMESPACE = "http://www.w3.org/XML/1998/namespace"
LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"


class BadXml(InvalidInput):
    """The body is not XML that is taken here."""

    default = "The body is not valid XML."


@dataclass(slots=True)
class Element:
    """An element as it was sent: `text` stands before its first child, `tail` after its own end."""

    name: str  # "{namespace}local"
    attributes: dict[str, str] = field(default_factory=dict)
    text: str = ""
    children: list[Element] = field(default_factory=list)
    tail: str = ""

    def find(self, name: str) -> Element | None:
        for child in self.children:
            if child.name == name:
                return child
        return None

    def all(self, name: str) -> list[Element]:
        return [child for child in self.children if child.name == name]

    def content(self, name: str) -> str | None:
        """The text of the first child of this name, without white space around it."""
        child = self.find(name)
        return None if child is None else child.text.strip()

    def __iter__(self) -> Iterator[Element]:
        return iter(self.children)


class _Reader:
    """What expat calls. Text is collected in parts, so that a long one costs its length only."""

    __slots__ = ("_count", "_parts", "_stack", "root")

    def __init__(self) -> None:
        self.root: Element | None = None
        self._stack: list[Element] = []
        self._parts: list[str] = []
        self._count = 0

    def start(self, name: str, attributes: list[str]) -> None:
        self._count += 1
        if self._count > ELEMENTS_MAX or len(self._stack) >= DEPTH_MAX or len(attributes) > 2 * ATTRIBUTES_MAX:
            raise BadXml("The body has more elements than are taken here, or they are nested too deep.")
        self._take_text()
        pairs = {_clark(attributes[i]): attributes[i + 1] for i in range(0, len(attributes), 2)} if attributes else {}
        made = Element(_clark(name), pairs)
        if self._stack:
            self._stack[-1].children.append(made)
        else:
            self.root = made
        self._stack.append(made)

    def end(self, _: str) -> None:
        self._take_text()
        self._stack.pop()

    def characters(self, data: str) -> None:
        self._parts.append(data)

    def _take_text(self) -> None:
        if not self._parts or not self._stack:
            self._parts.clear()
            return
        found, within = "".join(self._parts), self._stack[-1]
        self._parts.clear()
        if within.children:
            within.children[-1].tail += found
        else:
            within.text += found


def _clark(name: str) -> str:
    if len(name) > NAME_MAX:
        raise BadXml("A name in the body is too long.")
    return "{" + name if "}" in name else name


def _refuse(*_: object) -> None:
    raise BadXml("Document types, entities and processing instructions are not taken.")


def parse(body: bytes) -> Element:
    """The document's root. Raises BadXml."""
    reader = _Reader()
    parser = expat.ParserCreate(namespace_separator="}")
    parser.ordered_attributes = True
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.characters
    parser.StartDoctypeDeclHandler = _refuse
    parser.EntityDeclHandler = _refuse
    parser.ProcessingInstructionHandler = _refuse
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, LookupError, ValueError):  # LookupError: an encoding that nobody knows
        raise BadXml from None
    if reader.root is None:
        raise BadXml
    return reader.root


def serialised(element: Element, language: str = "") -> bytes:
    """The element on its own, with every namespace declared; `language` is the xml:lang it stood under."""
    parts: list[bytes] = []
    pending: list[Element | bytes] = [element]
    while pending:
        current = pending.pop()
        if isinstance(current, bytes):
            parts.append(current)
            continue
        opened, closed = _tags(current, language if current is element else "")
        parts.append(opened + text(current.text))
        if current is not element:
            closed += text(current.tail)
        pending.append(closed)
        pending.extend(reversed(current.children))
    return b"".join(parts)


def _tags(element: Element, language: str) -> tuple[bytes, bytes]:
    """Prefixes count from ns0 in each element: an element declares what it uses itself."""
    prefixes: dict[str, str] = {}

    def qualified(name: str) -> str:
        namespace, local = split(name)
        if not namespace:
            return local
        if namespace == XML_NAMESPACE:
            return "xml:" + local
        return prefixes.setdefault(namespace, f"ns{len(prefixes)}") + ":" + local

    name = qualified(element.name)
    written = [_written(qualified(key), value) for key, value in element.attributes.items()]
    if language and LANGUAGE not in element.attributes:
        written.append(_written("xml:lang", language))
    declared = [_written(f"xmlns:{prefix}", namespace) for namespace, prefix in prefixes.items()]
    return b"<" + b"".join([name.encode(), *declared, *written]) + b">", f"</{name}>".encode()


def _written(name: str, value: str) -> bytes:
    return b" " + name.encode() + b'="' + attribute(value) + b'"'
