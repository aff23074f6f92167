"""Finds where each key and value of a TOML document is written.

The standard library's parser gives values without places, so a second, small scan of the same
text finds them. It relies on the text being valid TOML 1.0: :mod:`tomllib` has parsed it before.
"""

from __future__ import annotations

import bisect
import re
import tomllib
from typing import TYPE_CHECKING

from hashroute.config.findings import KeyPath, Position
from hashroute.errors import InternalError

if TYPE_CHECKING:
    from collections.abc import Mapping

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACES = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}(?!")'
    r"|'''.*?'{3,5}(?!')"
    r'|"(?:[^"\\]|\\.)*"'
    r"|'[^']*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}#\r\n]+")


class Places:
    """The places of all keys and values of one document.

    Args:
        text: a valid TOML document, with the line ends it has in the file.

    """

    def __init__(self, text: str) -> None:
        scan = _Scan(text)
        scan.document()
        self._keys: Mapping[KeyPath, int] = scan.keys
        self._values: Mapping[KeyPath, int] = scan.values
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def of_key(self, path: KeyPath) -> Position | None:
        """Returns where the key is written; if it is not, where its nearest table is."""
        return self._nearest(self._keys, path)

    def of_value(self, path: KeyPath) -> Position | None:
        """Returns where the value begins; if it is not written, where its nearest table is."""
        if path in self._values:
            return self._position(self._values[path])
        return self.of_key(path)

    def paths(self) -> frozenset[KeyPath]:
        """Returns every path that has a place: tables, arrays, their elements, and values."""
        return frozenset(self._keys) | frozenset(self._values)

    def _nearest(self, offsets: Mapping[KeyPath, int], path: KeyPath) -> Position | None:
        for length in range(len(path), 0, -1):
            offset = offsets.get(path[:length])
            if offset is not None:
                return self._position(offset)
        return None

    def _position(self, offset: int) -> Position:
        line = bisect.bisect_right(self._line_starts, offset)
        return Position(line=line, column=offset - self._line_starts[line - 1] + 1)


class _Scan:
    """One pass over a document, with the offset that it has reached."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._tables_of_array: dict[KeyPath, int] = {}
        self.keys: dict[KeyPath, int] = {}
        self.values: dict[KeyPath, int] = {}

    def document(self) -> None:
        table: KeyPath = ()
        while True:
            self._skip(_BLANK)
            if self._at == len(self._text):
                return
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> KeyPath:
        start = self._at
        is_array = self._text.startswith("[[", start)
        self._at += 2 if is_array else 1
        names = [name for name, _ in self._dotted_key()]
        self._at += 2 if is_array else 1
        path: KeyPath = ()
        for name in names[:-1]:
            path = self._in_last_table((*path, name))
            self.keys.setdefault(path, start)
        path = (*path, names[-1])
        if is_array:
            self.keys.setdefault(path, start)
            index = self._tables_of_array.get(path, 0)
            self._tables_of_array[path] = index + 1
            path = (*path, index)
        self.keys[path] = start
        return path

    def _in_last_table(self, path: KeyPath) -> KeyPath:
        """A name inside an array of tables means its last table so far."""
        count = self._tables_of_array.get(path)
        return path if count is None else (*path, count - 1)

    def _pair(self, table: KeyPath) -> None:
        path = table
        for name, start in self._dotted_key():
            path = (*path, name)
            self.keys.setdefault(path, start)
        self._at += 1  # the equals sign
        self._skip(_SPACES)
        self._value(path)

    def _dotted_key(self) -> list[tuple[str, int]]:
        """Reads `a."b".c`; returns each name and where it starts, and stops after the spaces."""
        names: list[tuple[str, int]] = []
        while True:
            self._skip(_SPACES)
            start = self._at
            if self._text[start] in "\"'":
                quoted = self._take(_STRING)
                names.append((tomllib.loads(f"name = {quoted}")["name"], start))
            else:
                names.append((self._take(_BARE_KEY), start))
            self._skip(_SPACES)
            if self._text[self._at] != ".":
                return names
            self._at += 1

    def _value(self, path: KeyPath) -> None:
        self.values[path] = self._at
        opening = self._text[self._at]
        if opening == "[":
            self._array(path)
        elif opening == "{":
            self._inline_table(path)
        elif opening in "\"'":
            self._take(_STRING)
        else:
            self._take(_SCALAR)

    def _array(self, path: KeyPath) -> None:
        index = 0
        self._at += 1
        while True:
            self._skip(_BLANK)
            if self._text[self._at] == "]":
                break
            if self._text[self._at] == ",":
                index += 1
                self._at += 1
            else:
                self._value((*path, index))
        self._at += 1

    def _inline_table(self, path: KeyPath) -> None:
        self._at += 1
        while True:
            self._skip(_BLANK)
            if self._text[self._at] == "}":
                break
            if self._text[self._at] == ",":
                self._at += 1
            else:
                self._pair(path)
        self._at += 1

    def _skip(self, pattern: re.Pattern[str]) -> None:
        self._take(pattern)

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise InternalError(
                f"places: no {pattern.pattern!r} at offset {self._at} of valid TOML"
            )
        self._at = match.end()
        return match.group()
