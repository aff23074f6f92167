"""Where the key of a request is found, and which methods a rule is for: as written in a route."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import AfterValidator, WithJsonSchema

from hashroute.config.findings import nearest
from hashroute.config.values import Kind, invalid

if TYPE_CHECKING:
    from collections.abc import Callable

FIELD_DEPTH_MAX: Final = 8
"""The most fields in one path: a key that lies deeper is a message to think over again."""

_FIELD_NUMBER_MAX: Final = (1 << 29) - 1
_METADATA_NAME: Final = r"[0-9a-z_.-]{1,128}"
_FIELD_PATH: Final = r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*|[0-9]+(\.[0-9]+)*"
_PATTERN: Final = r"/(\*|[A-Za-z_][A-Za-z0-9_.]*/(\*|[A-Za-z_][A-Za-z0-9_]*))"

# The sidecar drops these from requests before it writes its own, so they can never hold a key.
_OWN_METADATA: Final = frozenset(
    {
        "x-hashroute-slot",
        "x-hashroute-group",
        "x-hashroute-epoch",
        "x-hashroute-term",
        "x-hashroute-pod",
    }
)


@dataclass(frozen=True, slots=True)
class MetadataSource:
    """The key is the value of one metadata entry."""

    name: str

    def __str__(self) -> str:
        return f"metadata:{self.name}"


DEFAULT_SOURCE: Final = MetadataSource("x-hashroute-key")
"""Where the key is looked for if nothing else is said."""


@dataclass(frozen=True, slots=True)
class FieldSource:
    """The key is a field of the first request message; ``path`` is all names or all numbers."""

    path: tuple[int, ...] | tuple[str, ...]

    def __str__(self) -> str:
        return "field:" + ".".join(str(part) for part in self.path)


@dataclass(frozen=True, slots=True)
class PathSource:
    """The key is the full name of the method."""

    def __str__(self) -> str:
        return "path"


@dataclass(frozen=True, slots=True)
class PeerSource:
    """The key is the address of the caller, without its port."""

    def __str__(self) -> str:
        return "peer"


KeySource = MetadataSource | FieldSource | PathSource | PeerSource


class KeySourceKind(Kind):
    """One element of a route's ``key``."""

    _EXPECTED: Final = '"metadata:NAME", "field:PATH", "path" or "peer"'

    def parse(self, value: object) -> KeySource:
        """Returns the source that ``value`` names."""
        if not isinstance(value, str):
            raise invalid("key_source", "not a key source", expected=self._EXPECTED)
        kind, separator, rest = value.partition(":")
        readers: dict[str, Callable[[str], KeySource]] = {"metadata": _metadata, "field": _field}
        if kind in readers and separator:
            return readers[kind](rest)
        if value in {"path", "peer"}:
            return PathSource() if value == "path" else PeerSource()
        raise invalid(
            "key_source",
            "not a key source",
            expected=self._EXPECTED,
            suggestion=_meant(kind, rest),
        )

    def write(self, value: KeySource) -> str:
        """Returns the source as it is written."""
        return str(value)

    def json_schema(self) -> dict[str, Any]:
        """Returns the pattern of a source."""
        pattern = f"^(metadata:{_METADATA_NAME}|field:({_FIELD_PATH})|path|peer)$"
        return {"type": "string", "pattern": pattern}


def _meant(kind: str, rest: str) -> str | None:
    if kind == "header":
        return f'"metadata:{rest.lower() or "x-hashroute-key"}"'
    known = nearest(kind, ("metadata", "field", "path", "peer"))
    if known in {"metadata", "field"}:
        return f'"{known}:{rest or "NAME"}"'
    return known and f'"{known}"'


def _metadata(name: str) -> MetadataSource:
    if re.fullmatch(_METADATA_NAME, name) is None:
        fits = re.fullmatch(_METADATA_NAME, name.lower()) is not None
        raise invalid(
            "metadata_name",
            "not a metadata name",
            expected="lower-case letters, digits, and _ . -",
            suggestion=f'"metadata:{name.lower()}"' if fits else None,
        )
    if name in _OWN_METADATA or name.startswith("grpc-"):
        raise invalid(
            "metadata_name",
            "gRPC or the sidecar itself writes this entry",
            expected="an entry that the caller sets",
            suggestion='"metadata:x-hashroute-key"',
        )
    return MetadataSource(name)


def _field(path: str) -> FieldSource:
    if re.fullmatch(_FIELD_PATH, path) is None:
        expected = "field names, or field numbers, joined by dots"
        raise invalid("field_path", "not a path of fields", expected=expected)
    parts = tuple(path.split("."))
    if len(parts) > FIELD_DEPTH_MAX:
        raise invalid("field_path", "too deep", expected=f"at most {FIELD_DEPTH_MAX} fields")
    if not parts[0].isdigit():
        return FieldSource(parts)
    numbers = tuple(int(part) for part in parts)
    if not all(1 <= number <= _FIELD_NUMBER_MAX for number in numbers):
        expected = f"numbers from 1 to {_FIELD_NUMBER_MAX}"
        raise invalid("field_path", "not a field number", expected=expected)
    return FieldSource(numbers)


def _check_pattern(value: str) -> str:
    if re.fullmatch(_PATTERN, value) is not None:
        return value
    rooted = "/" + value.strip("/")
    candidates = (rooted, f"{rooted}/*")
    fitting = [text for text in candidates if re.fullmatch(_PATTERN, text) is not None]
    raise invalid(
        "pattern",
        "not a pattern of methods",
        expected='"/package.Service/Method", "/package.Service/*" or "/*"',
        suggestion=f'"{fitting[0]}"' if fitting else None,
    )


MethodPattern = Annotated[
    str,
    AfterValidator(_check_pattern),
    WithJsonSchema({"type": "string", "pattern": f"^{_PATTERN}$"}),
]
"""A method, all methods of a service, or all methods."""


def covers(pattern: str, other: str) -> bool:
    """Returns whether every method that ``other`` matches is matched by ``pattern`` too."""
    if pattern in {"/*", other}:
        return True
    return pattern.endswith("/*") and other.startswith(pattern[:-1])
