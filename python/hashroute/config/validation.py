"""Turns what pydantic found in a document into findings that name line, key and remedy."""

import copy
from collections.abc import Iterable, Mapping
from typing import Any, Final, get_args

from annotated_types import Ge, Le
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from hashroute.config.checks import listening
from hashroute.config.findings import Finding, KeyPath, dotted, nearest, shown
from hashroute.config.models import Configuration, PodSection
from hashroute.config.places import Places
from hashroute.errors import ConfigurationError

Document = dict[str, Any]

_NAMES: Final = {
    "bool_type": "true or false",
    "dict_type": "a table",
    "too_long": "fewer elements",
    "too_short": "at least one element",
    "float_type": "a number",
    "int_type": "an integer",
    "list_type": "an array",
    "model_attributes_type": "a table",
    "model_type": "a table",
    "string_type": "a string",
    "tuple_type": "an array",
}
_RANGE_ERRORS: Final = frozenset({"greater_than_equal", "less_than_equal", "finite_number"})


def validate(document: Document) -> tuple[Configuration | None, list[ErrorDetails]]:
    """Returns the configuration that ``document`` describes, or every error of its values."""
    try:
        return Configuration.model_validate(document), []
    except ValidationError as error:
        return None, error.errors(include_url=False)


def findings_of(errors: Iterable[ErrorDetails], places: Places) -> list[Finding]:
    """Returns one finding for each error, at the place where the value or its key is written."""
    return [_finding(error, places) for error in errors]


def salvage(document: Document, errors: Iterable[ErrorDetails]) -> Configuration | None:
    """Returns what remains without the values in ``errors``, so that more can be checked.

    A value that was taken out has its default. It is nothing to run with.
    """
    remaining = copy.deepcopy(document)
    for error in errors:
        _take_out(remaining, key_of(error))
    configuration, left = validate(remaining)
    if configuration is None:
        # Tables that cannot do without what was taken out go as a whole.
        for error in left:
            _take_out(remaining, key_of(error)[:-1])
        configuration, _ = validate(remaining)
    return configuration


def key_of(error: ErrorDetails) -> KeyPath:
    """Returns the path of the value that is in error."""
    # For a bad name in a mapping pydantic adds a last part that no document has.
    return tuple(part for part in error["loc"] if part != "[key]")


def _finding(error: ErrorDetails, places: Places) -> Finding:
    kind, key = error["type"], key_of(error)
    details = error.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(key, error["input"], places)
    if kind == "missing":
        table = dotted(key[:-1])
        return Finding(
            severity="error",
            code="missing_key",
            key=key,
            message=f"missing: {table} cannot do without it" if table else "missing",
            expected=_meaning(key),
            position=places.of_key(key),
        )
    about_name = "[key]" in error["loc"]
    return Finding(
        severity="error",
        code=kind if "expected" in details and kind != "literal_error" else _code(kind),
        key=key,
        message=_message(kind, error["msg"]),
        expected=_expected(kind, key, details) or error["msg"],
        got=shown(error["input"]),
        suggestion=details.get("suggestion") or _nearest_choice(kind, key, error["input"]),
        position=places.of_key(key) if about_name else places.of_value(key),
    )


def _unknown_key(key: KeyPath, value: object, places: Places) -> Finding:
    table, name = key[:-1], str(key[-1])
    model = _model_at(table)
    names = tuple(model.model_fields) if model is not None else ()
    meant = nearest(name, names)
    return Finding(
        severity="error",
        code="unknown_key",
        key=key,
        message=f"no such key in [{dotted(table)}]" if table else "no such table or key",
        expected=f"one of {', '.join(names)}",
        got=shown({name: value})[1:-1] if not isinstance(value, dict) else f"[{dotted(key)}]",
        suggestion=meant,
        position=places.of_key(key),
    )


def _code(kind: str) -> str:
    if kind in _RANGE_ERRORS:
        return "out_of_range"
    if kind in {"too_short", "too_long"}:
        return "wrong_length"
    return "not_a_choice" if kind == "literal_error" else "wrong_type"


def _message(kind: str, message: str) -> str:
    if kind in _RANGE_ERRORS:
        return "out of range"
    if kind == "literal_error":
        return "not one of the choices"
    if kind in {"too_short", "too_long"}:
        return "empty" if kind == "too_short" else "too many elements"
    return "wrong type" if kind in _NAMES else message


def _expected(kind: str, key: KeyPath, details: dict[str, Any]) -> str | None:
    if kind in _RANGE_ERRORS:
        return _range_of(key)
    if "expected" in details:
        return str(details["expected"]).replace("'", '"')
    return _NAMES.get(kind)


def _nearest_choice(kind: str, key: KeyPath, value: object) -> str | None:
    if kind == "string_type" and isinstance(value, int | float) and not isinstance(value, bool):
        return f'"{value}"'
    if kind in {"float_type", "int_type"} and isinstance(value, str):
        return value.strip() if value.strip().replace(".", "", 1).isdigit() else None
    if kind != "literal_error":
        return None
    field = _field_at(key)
    choices = get_args(field.annotation) if field is not None else ()
    meant = nearest(str(value), choices)
    return f'"{meant}"' if meant else None


def _range_of(key: KeyPath) -> str | None:
    field = _field_at(key)
    if field is None:
        return None
    least = next((rule.ge for rule in field.metadata if isinstance(rule, Ge)), None)
    most = next((rule.le for rule in field.metadata if isinstance(rule, Le)), None)
    return f"from {_number(least)} to {_number(most)}"


def _number(value: Any) -> str:
    return f"{value:f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def _meaning(key: KeyPath) -> str | None:
    field = _field_at(key)
    return field.description if field is not None else None


def _field_at(key: KeyPath) -> FieldInfo | None:
    model = _model_at(key[:-1])
    return model.model_fields.get(str(key[-1])) if model is not None else None


def _model_at(key: KeyPath) -> type[BaseModel] | None:
    """The model of the table at ``key``; names of pods and indices are steps into the same one."""
    model: type[BaseModel] = Configuration
    for part in key:
        field = model.model_fields.get(str(part))
        if field is None:
            continue
        inner = _models_in(field.annotation)
        if not inner:
            return None
        model = inner[0]
    return model


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]


def _take_out(document: Document, key: KeyPath) -> None:
    """Removes the value at ``key``, or replaces it in an array: the others keep their indices."""
    parent: Any = document
    for part in key[:-1]:
        parent = parent.get(part) if isinstance(parent, dict) else parent[part]
        if parent is None:
            return  # the table around it was taken out before
    last: Any = key[-1]
    if isinstance(parent, list):
        parent[last] = _unmatched_route(last) if key[:-1] == ("routes",) else _UNREAD_SOURCE
    elif last == "match":
        parent["match"] = _unmatched_route(key[1])["match"]
    elif key == ("quorum", "cluster"):
        parent["cluster"] = "hashroute-placeholder"
    else:
        parent.pop(last, None)


_UNREAD_SOURCE: Final = "metadata:hashroute-placeholder"


def _unmatched_route(index: str | int) -> Document:
    """A route that covers no other one."""
    return {"match": f"/hashroute.Placeholder/route{index}"}


def read_pod(name: str, values: Mapping[str, Any], beside: Configuration) -> PodSection:
    """Returns one pod from the values that its table would have, as checked as in a file.

    Args:
        name: its name.
        values: its keys and values as TOML has them; those that are None are left out.
        beside: the configuration that it joins: it needs an address for a transport of it.

    Raises:
        ConfigurationError: something is wrong; the text says what, for each value.

    """
    given = {key: value for key, value in values.items() if value is not None}
    try:
        configuration = Configuration.model_validate({"pods": {name: given}})
    except ValidationError as error:
        findings = findings_of(error.errors(include_url=False), Places(""))
        raise ConfigurationError("\n".join(_in_words(finding) for finding in findings)) from error
    pod = configuration.pods[name]
    served = listening(beside)
    if all(getattr(pod, transport) is None for transport in served):
        raise ConfigurationError(
            f"{dotted(('pods', name))} has no address for {' or '.join(served)}, which the sidecar "
            "serves: nothing could reach it; give one"
        )
    return pod


def _in_words(finding: Finding) -> str:
    text = f"{dotted(finding.key)}: {finding.message}, expected {finding.expected}"
    text += f", got {finding.got}" if finding.got else ""
    return text + (f"; write {finding.suggestion}" if finding.suggestion else "")
