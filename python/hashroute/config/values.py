"""The kinds of values in a configuration: durations, sizes, names, counts of slots.

Each kind reads one TOML value or says what it expects and, where it can be guessed, what to
write; and it gives the JSON Schema of what it accepts.
"""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

_MILLISECONDS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}
_BYTES: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_DURATION: Final = r"[0-9]+(\.[0-9]+)?(ms|s|m|h)"
_SIZE: Final = r"[0-9]+(B|KiB|MiB|GiB)"
_QUANTITY: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")

NAME_BYTES_MAX: Final = 255
"""The longest name of a pod or a zone."""


def invalid(
    code: str, message: str, *, expected: str, suggestion: str | None = None
) -> PydanticCustomError:
    """Returns the error of one value: what is wrong, what was expected, and what to write."""
    details = {"expected": expected}
    if suggestion is not None:
        details["suggestion"] = suggestion
    return PydanticCustomError(code, message, details)


class Kind(ABC):
    """A kind of value that TOML has no type for; used as ``Annotated[PythonType, Kind(…)]``.

    A subclass reads a TOML value (:meth:`parse`, raising what :func:`invalid` returns), writes
    it back (:meth:`write`) and describes what it accepts (:meth:`json_schema`).
    """

    @abstractmethod
    def parse(self, value: object) -> Any:
        """Returns the Python value that the TOML ``value`` stands for."""

    @abstractmethod
    def write(self, value: Any) -> Any:
        """Returns the TOML value that stands for ``value``."""

    @abstractmethod
    def json_schema(self) -> dict[str, Any]:
        """Returns the JSON Schema of the TOML values that :meth:`parse` may accept."""

    def __get_pydantic_core_schema__(self, _: Any, __: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.parse, serialization=core_schema.plain_serializer_function_ser_schema(self.write)
        )

    def __get_pydantic_json_schema__(
        self, _: CoreSchema, __: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return self.json_schema()


@dataclass(frozen=True, slots=True)
class DurationBetween(Kind):
    """A time such as ``"50ms"``, from ``least`` to ``most``, both included."""

    least: str
    most: str

    def parse(self, value: object) -> timedelta:
        """Returns the duration that ``value`` names."""
        duration = parse_duration(value)
        if not parse_duration(self.least) <= duration <= parse_duration(self.most):
            limits = f'from "{self.least}" to "{self.most}"'
            raise invalid("out_of_range", "out of range", expected=limits)
        return duration

    def write(self, value: timedelta) -> str:
        """Returns ``value`` in the largest unit that gives a whole number."""
        return format_duration(value)

    def json_schema(self) -> dict[str, Any]:
        """Returns the pattern of a duration; JSON Schema cannot say its range."""
        return {"type": "string", "pattern": f"^{_DURATION}$", "x-range": [self.least, self.most]}


@dataclass(frozen=True, slots=True)
class SizeBetween(Kind):
    """A number of bytes such as ``65536`` or ``"64KiB"``, from ``least`` to ``most``."""

    least: str
    most: str

    def parse(self, value: object) -> int:
        """Returns the number of bytes that ``value`` names."""
        size = parse_size(value)
        if not parse_size(self.least) <= size <= parse_size(self.most):
            limits = f'from "{self.least}" to "{self.most}"'
            raise invalid("out_of_range", "out of range", expected=limits)
        return size

    def write(self, value: int) -> str:
        """Returns ``value`` in the largest unit that gives a whole number."""
        return format_size(value)

    def json_schema(self) -> dict[str, Any]:
        """Returns the two ways to write a size; only the integer's range can be said."""
        least, most = parse_size(self.least), parse_size(self.most)
        return {
            "anyOf": [
                {"type": "string", "pattern": f"^{_SIZE}$"},
                {"type": "integer", "minimum": least, "maximum": most},
            ],
            "x-range": [self.least, self.most],
        }


def parse_duration(value: object) -> timedelta:
    """Reads ``"50ms"``, ``"1.5s"``, ``"2m"`` or ``"1h"``: whole milliseconds, one unit."""
    expected = 'a duration such as "50ms", "1.5s", "2m" or "1h"'
    if not isinstance(value, str):
        number = value if isinstance(value, int) and not isinstance(value, bool) else None
        suggestion = None if number is None else f'"{number}ms" or "{number}s"'
        raise invalid("duration", "not a duration", expected=expected, suggestion=suggestion)
    match = _QUANTITY.fullmatch(value)
    if match is None or re.fullmatch(_DURATION, value) is None:
        unit = match and _time_unit(match[2])
        suggestion = f'"{match[1]}{unit}"' if match and unit else None
        raise invalid("duration", "not a duration", expected=expected, suggestion=suggestion)
    milliseconds = float(match[1]) * _MILLISECONDS[match[2]]
    if not milliseconds.is_integer():
        raise invalid("duration", "finer than a millisecond", expected="whole milliseconds")
    return timedelta(milliseconds=milliseconds)


def _time_unit(unit: str) -> str | None:
    """The unit that somebody who wrote ``sec`` or ``Minutes`` probably meant."""
    beginnings = {"ms": "ms", "mil": "ms", "s": "s", "m": "m", "h": "h"}
    lowered = unit.lower()
    return next((one for start, one in beginnings.items() if lowered.startswith(start)), None)


def format_duration(duration: timedelta) -> str:
    """Returns ``duration`` in the largest unit that gives a whole number."""
    return _in_largest_unit(milliseconds_of(duration), _MILLISECONDS)


def milliseconds_of(duration: timedelta) -> int:
    """Returns ``duration`` as whole milliseconds, the finest that a configuration can say."""
    return round(duration / timedelta(milliseconds=1))


def parse_size(value: object) -> int:
    """Reads bytes as an integer, or ``"64KiB"`` and the like: units are powers of two."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if match is None or not isinstance(value, str) or re.fullmatch(_SIZE, value) is None:
        unit = match and _binary_unit(match[2])
        raise invalid(
            "size",
            "not a size",
            expected='bytes, or a size such as "64KiB" or "1MiB"',
            suggestion=f'"{match[1]}{unit}"' if match and unit and match[1].isdigit() else None,
        )
    return int(match[1]) * _BYTES[match[2]]


def format_size(size: int) -> str:
    """Returns ``size`` bytes in the largest unit that gives a whole number."""
    return _in_largest_unit(size, _BYTES)


def _in_largest_unit(amount: int, units: dict[str, int]) -> str:
    fitting = [unit for unit, factor in units.items() if amount and amount % factor == 0]
    unit = fitting[-1] if fitting else next(iter(units))
    return f"{amount // units[unit]}{unit}"


def _binary_unit(unit: str) -> str | None:
    """The power of two that somebody who wrote ``kB`` or ``M`` probably meant."""
    by_initial = {"": "B", "b": "B", "k": "KiB", "m": "MiB", "g": "GiB"}
    return by_initial.get(unit[:1].lower())


def _check_slots(value: int) -> int:
    if value & (value - 1):
        below, above = 1 << (value.bit_length() - 1), 1 << value.bit_length()
        expected = "a power of two from 2 to 16777216"
        raise invalid(
            "slots", "not a power of two", expected=expected, suggestion=f"{below} or {above}"
        )
    return value


Slots = Annotated[int, Field(ge=2, le=1 << 24), AfterValidator(_check_slots)]
"""A number of slots: a power of two."""


def _check_name(value: str) -> str:
    if not 1 <= len(value.encode()) <= NAME_BYTES_MAX:
        raise invalid("name", "empty or too long", expected=f"1 to {NAME_BYTES_MAX} bytes")
    # A name travels in metadata and stands in logs and metrics: it must be one visible word.
    if re.fullmatch(r"[!-~]+", value) is None:
        plain = re.sub(r"[^!-~]+", "-", value).strip("-")
        raise invalid(
            "name",
            "a character that has no place in a name",
            expected="printable ASCII without spaces",
            suggestion=f'"{plain}"' if plain else None,
        )
    return value


Name = Annotated[
    str,
    AfterValidator(_check_name),
    WithJsonSchema({"type": "string", "pattern": f"^[!-~]{{1,{NAME_BYTES_MAX}}}$"}),
]
"""The name of a pod or a zone."""


class NameOrNone(Kind):
    """A name, or an empty string for none."""

    def parse(self, value: object) -> str | None:
        """Returns the name, or None."""
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            raise invalid("wrong_type", "wrong type", expected="a name in quotes")
        return _check_name(value)

    def write(self, value: str | None) -> str | None:
        """Returns the name as it is."""
        return value

    def json_schema(self) -> dict[str, Any]:
        """Returns the pattern of a name or nothing."""
        return {"type": "string", "pattern": f"^[!-~]{{0,{NAME_BYTES_MAX}}}$"}
