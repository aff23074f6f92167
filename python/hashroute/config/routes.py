"""Turns the routes of a file into those of the data plane: field names become field numbers.

A name can stand at different numbers in the requests of different methods. So a route for a
whole service becomes one route a method where that matters, each with its own numbers.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hashroute.config.findings import Finding, KeyPath, nearest, shown
from hashroute.config.keys import DEFAULT_SOURCE, FieldSource, KeySource
from hashroute.config.messages import (
    PRESETS,
    DescriptorSetError,
    FieldNameError,
    Resolver,
    Service,
    described,
    preset,
)
from hashroute.config.models import RouteSection


@dataclass(frozen=True, slots=True)
class ResolvedRoute:
    """A route whose field sources hold numbers."""

    pattern: str
    sources: tuple[KeySource, ...]
    on_missing: Literal["reject", "any"]
    idempotent: bool
    write: bool
    group: str | None


def resolve_routes(
    routes: tuple[RouteSection, ...], directory: Path
) -> tuple[tuple[ResolvedRoute, ...], tuple[Finding, ...]]:
    """Returns the routes with numbers, in order, and what is wrong with those that have none.

    Descriptor sets are looked for relative to ``directory``.
    """
    resolved: list[ResolvedRoute] = []
    findings: list[Finding] = []
    for index, route in enumerate(routes):
        resolution = _Resolution(route, ("routes", index))
        resolved += resolution.run(directory)
        findings += resolution.findings
    return tuple(resolved), tuple(findings)


class _Resolution:
    """The resolution of one route."""

    def __init__(self, route: RouteSection, key: KeyPath) -> None:
        self._route = route
        self._key = key
        self.findings: list[Finding] = []

    def run(self, directory: Path) -> list[ResolvedRoute]:
        route = self._route
        if route.group is not None:
            return [self._resolved(route.match, (DEFAULT_SOURCE,))]
        if not any(_is_named(source) for source in route.key):
            return [self._resolved(route.match, route.key)]
        service_name, _, method = route.match[1:].rpartition("/")
        if not service_name:
            self._error_of_names(
                "a field name says nothing about every service",
                expected="field numbers, or a route for one service",
            )
            return []
        service = self._service(service_name, directory)
        if service is None:
            return []
        if method == "*":
            return self._whole_service(service)
        return self._one_method(service, method)

    def _service(self, name: str, directory: Path) -> Service | None:
        route = self._route
        if route.descriptor_set is not None:
            try:
                return described(directory / route.descriptor_set, name)
            except DescriptorSetError as error:
                meant = nearest(name, error.names)
                self._error(
                    "descriptor_set",
                    (*self._key, "descriptor_set"),
                    error.message,
                    expected=f"a descriptor set with {name}",
                    suggestion=f'match = "/{meant}/*"' if meant else None,
                )
                return None
        service = preset(name)
        if service is None:
            known = nearest(name, PRESETS)
            self._error_of_names(
                f"the messages of {name} are not known",
                expected="field numbers, or a descriptor_set for this route",
                suggestion=f'match = "/{known}/*"' if known else None,
            )
        return service

    def _one_method(self, service: Service, method: str) -> list[ResolvedRoute]:
        resolver = service.methods.get(method)
        if resolver is None:
            meant = nearest(method, service.methods)
            self._error(
                "unknown_method",
                (*self._key, "match"),
                f"{service.name} has no method {method} whose messages are known",
                expected=f"one of {', '.join(service.methods)}",
                got=shown(self._route.match),
                suggestion=f'"/{service.name}/{meant}"' if meant else None,
            )
            return []
        sources: list[KeySource] = []
        for index, source in enumerate(self._route.key):
            found = _resolve(source, resolver)
            if isinstance(found, FieldNameError):
                self._error_of_field(index, source, [found])
            else:
                sources.append(found)
        return [] if self.findings else [self._resolved(self._route.match, tuple(sources))]

    def _whole_service(self, service: Service) -> list[ResolvedRoute]:
        """One route for each method that needs its own, then one for methods not known here."""
        by_method: dict[str, list[KeySource]] = {name: [] for name in service.methods}
        for index, source in enumerate(self._route.key):
            found = {name: _resolve(source, by) for name, by in service.methods.items()}
            errors = [item for item in found.values() if isinstance(item, FieldNameError)]
            if len(errors) == len(found):
                self._error_of_field(index, source, errors)
            for name, item in found.items():
                if not isinstance(item, FieldNameError):
                    by_method[name].append(item)
        if self.findings:
            return []
        rest = _or_default([source for source in self._route.key if not _is_named(source)])
        self._warn_of_keyless([name for name, sources in by_method.items() if not sources])
        routes = [
            self._resolved(f"/{service.name}/{name}", _or_default(sources))
            for name, sources in by_method.items()
            if _or_default(sources) != rest
        ]
        return [*routes, self._resolved(self._route.match, rest)]

    def _warn_of_keyless(self, methods: list[str]) -> None:
        if not methods or self._route.on_missing == "any":
            return
        self.findings.append(
            Finding(
                severity="warning",
                code="method_without_key",
                key=(*self._key, "key"),
                message=f"requests of {', '.join(methods)} have no such field: those without "
                f"{DEFAULT_SOURCE} are rejected",
                expected="a route of their own before this one, or a source that they have",
                suggestion='on_missing = "any" in that route',
            )
        )

    def _error_of_names(
        self, message: str, *, expected: str, suggestion: str | None = None
    ) -> None:
        for index, source in enumerate(self._route.key):
            if _is_named(source):
                self._error(
                    "unresolved_field",
                    (*self._key, "key", index),
                    message,
                    expected=expected,
                    got=shown(str(source)),
                    suggestion=suggestion,
                )

    def _error_of_field(self, index: int, source: KeySource, errors: list[FieldNameError]) -> None:
        """Reports the error that teaches most: one about a field that exists, if there is any."""
        error = min(errors, key=lambda candidate: candidate.message.startswith("no field"))
        names = tuple(dict.fromkeys(name for one in errors for name in one.names))
        meant = nearest(str(source).removeprefix("field:"), names)
        self._error(
            "unresolved_field",
            (*self._key, "key", index),
            error.message,
            expected=f"one of {', '.join(names)}" if names else "a field with one value",
            got=shown(str(source)),
            suggestion=f'"field:{meant}"' if meant else None,
        )

    def _error(
        self,
        code: str,
        key: KeyPath,
        message: str,
        *,
        expected: str,
        got: str | None = None,
        suggestion: str | None = None,
    ) -> None:
        self.findings.append(
            Finding(
                severity="error",
                code=code,
                key=key,
                message=message,
                expected=expected,
                got=got,
                suggestion=suggestion,
                related=((*self._key, "match"),),
            )
        )

    def _resolved(self, pattern: str, sources: tuple[KeySource, ...]) -> ResolvedRoute:
        route = self._route
        return ResolvedRoute(
            pattern=pattern,
            sources=sources,
            on_missing=route.on_missing,
            idempotent=route.idempotent,
            write=route.write or route.group is not None,
            group=route.group,
        )


def _or_default(sources: list[KeySource]) -> tuple[KeySource, ...]:
    """A method that no source is for is keyed like one that no route is for."""
    return tuple(sources) or (DEFAULT_SOURCE,)


def _is_named(source: KeySource) -> bool:
    return isinstance(source, FieldSource) and isinstance(source.path[0], str)


def _resolve(source: KeySource, resolver: Resolver) -> KeySource | FieldNameError:
    if not isinstance(source, FieldSource) or isinstance(source.path[0], int):
        return source
    try:
        return FieldSource(resolver(tuple(str(name) for name in source.path)))
    except FieldNameError as error:
        return error
