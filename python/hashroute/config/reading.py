"""Reads a configuration file: every finding of it, or the configuration."""

import re
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from hashroute.config.checks import cross_check
from hashroute.config.findings import Finding, KeyPath, Position
from hashroute.config.models import Configuration
from hashroute.config.places import Places
from hashroute.config.quorum_checks import missing_files
from hashroute.config.routes import ResolvedRoute, resolve_routes
from hashroute.config.validation import findings_of, key_of, salvage, validate
from hashroute.errors import ConfigurationFileError

FILE_BYTES_MAX: Final = 4 << 20
"""A larger file is not a configuration; 65,535 pods fit."""

_SYNTAX_PLACE: Final = re.compile(r" \((?:at line (\d+), column (\d+)|at end of document)\)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A configuration without errors, with what was looked up for it.

    Attributes:
        file: where it was read from.
        configuration: its values.
        routes: its routes with field numbers in place of names.
        warnings: what was probably not meant.
    """

    file: Path
    configuration: Configuration
    routes: tuple[ResolvedRoute, ...]
    warnings: tuple[Finding, ...]


def load(file: str | Path) -> Loaded:
    """Returns the configuration in ``file``.

    Raises:
        ConfigurationFileError: the file cannot be read, or holds errors; its ``findings`` are all
            of them, the warnings too.

    """
    path = Path(file)
    loaded, findings = check(path)
    if loaded is None:
        errors = [finding for finding in findings if finding.severity == "error"]
        raise ConfigurationFileError(
            "\n".join(finding.render(str(path)) for finding in errors),
            file=str(path),
            findings=findings,
        )
    return loaded


def check(file: str | Path) -> tuple[Loaded | None, tuple[Finding, ...]]:
    """Returns the configuration if ``file`` holds no errors, and everything found, in its order.

    Raises:
        ConfigurationFileError: the file cannot be read at all.

    """
    path = Path(file)
    text, problem = _text(path)
    if problem is not None:
        return None, (problem,)
    document, problem = _document(text)
    if problem is not None:
        return None, (problem,)
    places = Places(text)
    configuration, errors = validate(document)
    findings = findings_of(errors, places)
    usable = configuration or salvage(document, errors)
    routes: tuple[ResolvedRoute, ...] = ()
    if usable is not None:
        routes, of_routes = resolve_routes(usable.routes, path.parent)
        broken = [key_of(error) for error in errors]
        findings += [
            replace(finding, position=finding.position or places.of_value(finding.key))
            for finding in (*cross_check(usable), *missing_files(usable, path.parent), *of_routes)
            if not _rests_on(finding, broken)
        ]
    ordered = tuple(sorted(findings, key=_place))
    if configuration is None or any(finding.severity == "error" for finding in ordered):
        return None, ordered
    loaded = Loaded(file=path, configuration=configuration, routes=routes, warnings=ordered)
    return loaded, ordered


def _text(path: Path) -> tuple[str, Finding | None]:
    try:
        with path.open("rb") as stream:
            data = stream.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigurationFileError(
            f"{path}: cannot read it: {error.strerror}", file=str(path), findings=()
        ) from error
    if len(data) > FILE_BYTES_MAX:
        return "", Finding(
            severity="error",
            code="file_too_large",
            key=(),
            message="too large for a configuration",
            expected=f"at most {FILE_BYTES_MAX} bytes",
        )
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        return "", _not_utf8(data, error.start)
    if text.startswith("\ufeff"):
        return "", Finding(
            severity="error",
            code="byte_order_mark",
            key=(),
            message="begins with a byte order mark, which TOML does not allow",
            expected="UTF-8 without a byte order mark",
            position=Position(line=1, column=1),
        )
    return text, None


def _not_utf8(data: bytes, offset: int) -> Finding:
    line_start = data.rfind(b"\n", 0, offset) + 1
    # All before the offset is good UTF-8, so its characters can be counted.
    column = len(data[line_start:offset].decode()) + 1
    return Finding(
        severity="error",
        code="not_utf8",
        key=(),
        message=f"not UTF-8: byte 0x{data[offset]:02x} at offset {offset}",
        expected="a file in UTF-8",
        suggestion="save it as UTF-8 (from Latin-1: `iconv -f latin1 -t utf-8`)",
        position=Position(line=data.count(b"\n", 0, offset) + 1, column=column),
    )


def _document(text: str) -> tuple[dict[str, Any], Finding | None]:
    try:
        return tomllib.loads(text), None
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        match = _SYNTAX_PLACE.search(message)
        line, column = (match[1], match[2]) if match else (None, None)
        if line is None or column is None:
            last = text.splitlines() or [""]
            position = Position(line=len(last), column=len(last[-1]) + 1)
        else:
            position = Position(line=int(line), column=int(column))
        written = _SYNTAX_PLACE.sub("", message)
        return {}, Finding(
            severity="error",
            code="syntax",
            key=(),
            message=f"not TOML: {written[:1].lower()}{written[1:]}",
            expected=_advice(written),
            position=position,
        )
    except RecursionError:
        return {}, Finding(
            severity="error",
            code="syntax",
            key=(),
            message="nested too deep",
            expected="tables of at most two levels",
        )


def _advice(message: str) -> str:
    if "Cannot declare" in message or "Cannot overwrite" in message:
        return "each table and each key once"
    if "Invalid value" in message:
        return 'a value: "text" in quotes, a number, true or false, or an [array]'
    return 'lines such as key = "value" and [table]'


def _rests_on(finding: Finding, broken: list[KeyPath]) -> bool:
    """Whether the finding may follow from a value that is itself in error."""
    return any(
        key[: len(one)] == one[: len(key)]
        for key in (finding.key, *finding.related)
        for one in broken
    )


def _place(finding: Finding) -> tuple[int, int]:
    if finding.position is None:
        return (0, 0)
    return (finding.position.line, finding.position.column)
