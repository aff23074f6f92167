"""What a check finds: where, which key, what was expected, what was there, what to write."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

KeyPath = tuple[str | int, ...]
"""The way to a value: names of tables and keys, and indices of arrays, from the root."""

Severity = Literal["error", "warning"]

_BARE_NAME = re.compile(r"[A-Za-z0-9_-]+")
_SHOWN_CHARACTERS_MAX = 80


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a file; both numbers count from 1, the column in characters."""

    line: int
    column: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong (an error) or probably not meant (a warning).

    ``code`` is stable; the texts are for people. ``related`` are other keys that the finding
    rests on: it says nothing if one of them is itself in error.
    """

    severity: Severity
    code: str
    key: KeyPath
    message: str
    expected: str | None = None
    got: str | None = None
    suggestion: str | None = None
    position: Position | None = None
    related: tuple[KeyPath, ...] = ()

    def render(self, file: str) -> str:
        """Returns the finding as text: one line to jump to, then what to know and to write."""
        place = f"{self.position.line}:{self.position.column}:" if self.position else ""
        where = f"{dotted(self.key)}: " if self.key else ""
        lines = [f"{file}:{place} {self.severity}: {where}{self.message}"]
        details = (("expected", self.expected), ("got", self.got), ("write", self.suggestion))
        lines += [f"    {label:<9} {text}" for label, text in details if text is not None]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Returns the finding for JSON: every field, absent ones as null."""
        fields = asdict(self)
        del fields["related"]
        fields["key"] = dotted(self.key)
        return fields


def finding(  # every check says at least these
    severity: Severity,
    code: str,
    key: KeyPath,
    message: str,
    *related: KeyPath,
    **details: str | None,
) -> Finding:
    """Returns a finding of a check; ``details`` are ``expected``, ``got`` and ``suggestion``."""
    return Finding(
        severity=severity,
        code=code,
        key=key,
        message=message,
        related=related,
        expected=details.get("expected"),
        got=details.get("got"),
        suggestion=details.get("suggestion"),
    )


def dotted(key: KeyPath) -> str:
    """Returns ``key`` as one writes it in TOML, with ``[i]`` for the i-th element of an array."""
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        name = part if _BARE_NAME.fullmatch(part) else json.dumps(part, ensure_ascii=False)
        text += f".{name}" if text else name
    return text


def shown(value: object) -> str:
    """Returns ``value`` as it looks in TOML, cut to a length that fits a message."""
    text = _toml(value)
    if len(text) > _SHOWN_CHARACTERS_MAX:
        return text[: _SHOWN_CHARACTERS_MAX - 1] + "…"
    return text


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Returns the one of ``names`` that ``name`` was probably meant to be, or None."""
    by_folded = {candidate.lower(): candidate for candidate in names}
    matches = difflib.get_close_matches(name.lower(), by_folded, n=1, cutoff=0.6)
    return by_folded[matches[0]] if matches else None


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        pairs = (f"{dotted((name,))} = {_toml(item)}" for name, item in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return str(value)
