r"""HTML of notes to text, text to the HTML that Apple's Notes writes, and foreign HTML to what is safe to show.

One pass makes both: `read_html` walks over the tags once and keeps of them only a few that format, without attributes
but links to http, https, mailto and tel. What runs or loads something is not among them, and the content of scripts and
styles goes with its tag. Lines are as a reader sees them: blocks and `<br>` break, an empty `<div><br></div>` is an
empty line, white space collapses, a no-break space is a space that stays. So `read_html(write_html(text)).text` is
`text` for every text without control characters.

Never fails, linear in time; no recursion: tags nest `DEPTH_MAX` deep, deeper ones are left out and their text stays.
"""

from __future__ import annotations

import html
import re
from typing import NamedTuple

DEPTH_MAX = 64
MARKS_MAX = 200_000  # tags of one text; a note has some thousands

_MARK = re.compile(r"<(?=/?[A-Za-z]|[!?])")
_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9:-]*+)([^<>]*+)>?")
_HREF = re.compile(r"""\bhref\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s"'>]++))""", re.IGNORECASE)
_SCHEMES = ("http://", "https://", "mailto:", "tel:")
_WHITE = re.compile(r"[ \t\r\n\f]+")
_CONTROLS = re.compile("[\x00-\x08\x0a-\x1f\x7f\ufffe\uffff\ud800-\udfff]")
_STAYING_SPACE = re.compile("(?<= ) |^ | $")
_NO_BREAK = "\xa0"

_INLINE = frozenset(("a", "b", "strong", "i", "em", "u", "s", "strike", "del", "ins", "sub", "sup", "code", "tt"))
_BLOCK_NAMES = (
    "div p h1 h2 h3 h4 h5 h6 ul ol li blockquote pre table thead tbody tfoot tr dl dt dd address article section"
)
_BLOCKS = frozenset(_BLOCK_NAMES.split())
_CELLS = frozenset(("td", "th"))
_KEPT = _INLINE | _BLOCKS | _CELLS
# Their content is no text of the note. Each ends at its end tag, or never.
_FOREIGN = (
    "script style head title iframe frameset noscript noembed noframes template textarea select svg math xml applet "
    "audio video canvas xmp"
)
_WITHOUT_CONTENT = {
    name: re.compile(rf"</{name}(?![A-Za-z0-9:-])[^<>]*+>?", re.IGNORECASE) for name in _FOREIGN.split()
}


class Markup(NamedTuple):
    """What a reader sees of an HTML text, and the HTML without what could do harm."""

    text: str
    html: str


def read_html(source: str) -> Markup:
    """Both faces of any HTML."""
    reader = _Reader()
    at, size = 0, len(source)
    while at < size:
        match = _MARK.search(source, at)
        if match is None:
            reader.characters(source[at:])
            break
        found = match.start()
        if found > at:
            reader.characters(source[at:found])
        at = _markup(reader, source, found)
    return reader.done()


def is_readable(source: str, most: int) -> bool:
    """Whether `read_html` makes short work of it."""
    return len(source) <= most and source.count("<") <= MARKS_MAX


def write_html(text: str) -> str:
    """Lines as Apple's Notes writes them: the first bare, each other one in a div."""
    first, *others = [_line(line) for line in text.split("\n")]
    start = first or ("<div><br></div>" if others else "")
    return start + "".join(f"<div>{line or '<br>'}</div>" for line in others)


def cleaned(text: str) -> str:
    """Without what neither face can hold: control characters other than tabs and line ends."""
    return "\n".join(_CONTROLS.sub("", line) for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"))


def _line(line: str) -> str:
    line = html.escape(_CONTROLS.sub("", line), quote=False)
    if " " in line:
        line = _STAYING_SPACE.sub("&nbsp;", line)
    if "\t" in line:
        line = line.replace("\t", '<span class="Apple-tab-span" style="white-space:pre">&#9;</span>')
    return line


def _markup(reader: _Reader, source: str, at: int) -> int:
    """What begins with the "<" at `at`; where it ends."""
    match = _TAG.match(source, at)
    if match is None:
        if source.startswith("<!--", at):
            end = source.find("-->", at + 4)
            return len(source) if end < 0 else end + 3
        end = source.find(">", at)
        return len(source) if end < 0 else end + 1
    name = match[2].lower()
    if match[1]:
        reader.end(name)
    elif name in _WITHOUT_CONTENT:
        closed = match[3].endswith("/")
        end_tag = None if closed else _WITHOUT_CONTENT[name].search(source, match.end())
        return match.end() if closed else len(source) if end_tag is None else end_tag.end()
    else:
        reader.start(name, match[3])
    return match.end()


class _Reader:
    """The state of one pass: the lines so far, and the tags that are open in the HTML that comes out."""

    __slots__ = ("_begun", "_break", "_current", "_html", "_lines", "_lists", "_open")

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._current: list[str] = []
        self._begun = False  # there is something on the current line, be it a <br>
        self._break = False  # what comes next stands on a new line
        self._html: list[str] = []
        self._open: list[str] = []
        self._lists: list[int] = []  # of each open list the number of its last item; -1: they have no numbers

    def characters(self, raw: str) -> None:
        raw = raw if "pre" in self._open else _WHITE.sub(" ", raw)
        if "pre" in self._open and "\n" in raw:
            first, *others = raw.replace("\r", "").split("\n")
            self._text(first)
            for line in others:
                self._new_line()
                self._text(line)
            self._html.append(html.escape(html.unescape(raw), quote=False))
            return
        at_start = self._break or not self._begun
        if at_start or (self._current and self._current[-1].endswith(" ")):
            raw = raw.removeprefix(" ")
        if raw:
            self._text(raw)
            self._html.append(html.escape(html.unescape(raw), quote=False).replace("\t", "&#9;"))

    def start(self, name: str, attributes: str) -> None:
        if name == "br":
            self._new_line()
            self._html.append("<br>")
            return
        if name in _BLOCKS or name == "hr":
            self._break = self._break or self._begun
        if name == "hr":
            self._html.append("<hr>")
            return
        if name not in _KEPT:
            return
        if name in ("ul", "ol") and len(self._lists) < DEPTH_MAX:
            self._lists.append(0 if name == "ol" else -1)
        if name in _CELLS and self._begun and not self._break:
            self._text("\t")
        if len(self._open) < DEPTH_MAX and not attributes.endswith("/"):
            self._open.append(name)
            self._html.append(f"<{name}{_link(attributes) if name == 'a' else ''}>")
        if name == "li":
            self._item()

    def end(self, name: str) -> None:
        if name == "p" and name not in self._open:
            return
        if name in _BLOCKS:
            self._break = self._break or self._begun
        if name in ("ul", "ol") and self._lists:
            self._lists.pop()
        if name in self._open:
            while self._open:
                last = self._open.pop()
                self._html.append(f"</{last}>")
                if last == name:
                    return

    def done(self) -> Markup:
        while self._open:
            self._html.append(f"</{self._open.pop()}>")
        if self._begun:
            self._flush()
        return Markup("\n".join(self._lines), "".join(self._html))

    def _item(self) -> None:
        mark = "- "
        if self._lists and self._lists[-1] >= 0:
            self._lists[-1] += 1
            mark = f"{self._lists[-1]}. "
        self._text(_NO_BREAK * 2 * (len(self._lists) - 1) + mark)

    def _text(self, raw: str) -> None:
        if not raw:
            return
        if self._break:
            self._flush()
        self._begun = True
        self._current.append(_CONTROLS.sub(" ", html.unescape(raw)) if "&" in raw else _CONTROLS.sub("", raw))

    def _new_line(self) -> None:
        if self._break:
            self._flush()
        self._begun = self._break = True

    def _flush(self) -> None:
        self._lines.append("".join(self._current).rstrip(" ").replace(_NO_BREAK, " "))
        self._current = []
        self._begun = self._break = False


def _link(attributes: str) -> str:
    match = _HREF.search(attributes)
    if match is None:
        return ""
    address = html.unescape(match[1] or match[2] or match[3] or "").strip()
    if not address.lower().startswith(_SCHEMES) or _CONTROLS.search(address):
        return ""
    return f' href="{html.escape(address)}"'
