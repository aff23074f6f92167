"""Where a gRPC request has its key, and which methods may be sent twice."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

from hashroute._hashroute import field_key
from hashroute._ring import Key
from hashroute.errors import ConfigurationError, MissingKeyError

Metadata: TypeAlias = Iterable[tuple[str, str | bytes]]
KeyFunction: TypeAlias = Callable[[str, Any], Key | None]
"""``key(method, request)``; the request is None for methods with a stream of requests."""
KeySource: TypeAlias = str | Sequence[str] | KeyFunction
Methods: TypeAlias = bool | Collection[str] | Callable[[str], bool]
"""All methods (True), none, those of patterns such as ``/pkg.Service/*``, or a function."""

KEY_METADATA = "x-hashroute-key"


@dataclass(frozen=True, slots=True)
class KeyFinder:
    """Finds the key of a request, in the first of its sources that has one."""

    sources: tuple[_Source, ...] | KeyFunction
    needs_message: bool

    @classmethod
    def of(cls, key: KeySource) -> KeyFinder:
        """Reads ``metadata:NAME``, ``field:PATH``, ``path``, a sequence of these, or a function.

        Raises:
            ConfigurationError: it is none of these.
        """
        if callable(key):
            return cls(key, needs_message=False)
        sources = tuple(_source(text) for text in ([key] if isinstance(key, str) else key))
        return cls(sources, needs_message=any(isinstance(source, _Field) for source in sources))

    def find(
        self, method: str, metadata: Metadata, request: object, message: bytes | None
    ) -> Key | None:
        """Returns the key; None if the request has none. ``message`` is ``request``, serialized."""
        if callable(self.sources):
            return self.sources(method, request)
        for source in self.sources:
            key: Key | None = source.find(method, metadata, request, message)
            if key is not None:
                return key
        return None

    def missing(self, method: str) -> MissingKeyError:
        """Returns the error for a request that has no key, saying what was looked for."""
        sources = ["key(method, request)"] if callable(self.sources) else map(str, self.sources)
        return MissingKeyError(
            f"the request to {method} has no key: looked for {', '.join(sources)}; set one of "
            "these, or let requests without a key go to any pod with on_missing='any'"
        )


@dataclass(frozen=True, slots=True)
class _Metadata:
    name: str

    def find(self, _method: str, metadata: Metadata, _request: object, _: bytes | None) -> Any:
        return next((value for name, value in metadata if name.lower() == self.name), None)

    def __str__(self) -> str:
        return f"metadata:{self.name}"


@dataclass(frozen=True, slots=True)
class _Field:
    path: tuple[str, ...]

    def find(self, _method: str, _: Metadata, request: object, message: bytes | None) -> Any:
        if message is None:
            return None
        numbers = _numbers(self.path, getattr(request, "DESCRIPTOR", None))
        return None if numbers is None else field_key(message, numbers)

    def __str__(self) -> str:
        return f"field:{'.'.join(self.path)}"


@dataclass(frozen=True, slots=True)
class _Path:
    def find(self, method: str, _: Metadata, _request: object, _message: bytes | None) -> Any:
        return method

    def __str__(self) -> str:
        return "path"


_Source: TypeAlias = _Metadata | _Field | _Path


def _source(text: str) -> _Source:
    kind, _, value = text.partition(":")
    if text == "path":
        return _Path()
    if kind == "metadata" and value:
        return _Metadata(value.lower())
    if kind == "field" and value and all(value.split(".")):
        return _Field(tuple(value.split(".")))
    raise ConfigurationError(
        f"{text!r} is no source of a key; write 'metadata:NAME', 'field:PATH' (a protobuf field "
        "by name or number, such as 'field:symbol' or 'field:5.2'), 'path', or a function "
        "key(method, request)"
    )


# Messages of a program have few types, and each client few paths.
@lru_cache(maxsize=1024)
def _numbers(path: tuple[str, ...], descriptor: Any) -> tuple[int, ...] | None:
    """The field numbers of ``path`` in messages of this type; None if they have no such field."""
    numbers = []
    for part in path:
        if part.isdecimal():
            numbers.append(int(part))
            continue
        field = None if descriptor is None else descriptor.fields_by_name.get(part)
        if field is None:
            return None
        numbers.append(field.number)
        descriptor = field.message_type
    return tuple(numbers)


def methods(wanted: Methods, name: str) -> Callable[[str], bool]:
    """Returns the test whether a method is among those that the argument ``name`` says.

    Raises:
        ConfigurationError: a pattern is none of ``/*``, ``/package.Service/*`` and
            ``/package.Service/Method``.
    """
    if isinstance(wanted, bool):
        return lambda _: wanted
    if callable(wanted):
        return wanted
    patterns = {wanted} if isinstance(wanted, str) else set(wanted)
    for pattern in patterns:
        if not pattern.startswith("/") or (pattern != "/*" and pattern.count("/") != 2):  # noqa: PLR2004
            raise ConfigurationError(
                f"{name}: {pattern!r} names no methods; write '/package.Service/Method', "
                "'/package.Service/*' or '/*'"
            )

    def is_among(method: str) -> bool:
        service = f"{method.rpartition('/')[0]}/*"
        return method in patterns or service in patterns or "/*" in patterns

    return is_among


def group_rule(groups: Mapping[str, str]) -> Callable[[str], str | None]:
    """Returns what tells the group that a method writes; None for those of no group.

    Raises:
        ConfigurationError: a pattern names no methods.
    """
    rules = [(methods([pattern], "groups"), name) for pattern, name in groups.items()]
    return lambda method: next((name for is_among, name in rules if is_among(method)), None)
