"""What a reload finds: what cannot change, what it undid, where the record says otherwise."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hashroute.config import ConfigurationFileError, Finding, dotted, view_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from hashroute._ring import Ring
    from hashroute.config import Configuration, Loaded
    from hashroute.errors import HashrouteError

__all__ = ["fixed", "refused", "undone", "unlike_the_record", "unreadable"]


def fixed(before: Loaded, after: Loaded) -> list[Finding]:
    """Returns what the file changes and a running sidecar cannot."""
    was, now = (one.configuration.model_dump(mode="json") for one in (before, after))
    on_these_terms = "callers are connected on these terms"
    findings = [
        _fixed((section, name), old, now[section][name], on_these_terms)
        for section in ("listen", "limits", "guard")
        for name, old in was[section].items()
        if old != now[section][name] and name != "shutdown_grace"
    ]
    old, new = was["quorum"] or {}, now["quorum"] or {}
    if bool(old) != bool(new):
        return [*findings, _fixed(("quorum",), bool(old), bool(new), "its part in the quorum")]
    part = "the process has its part in the quorum by these"
    # Groups are for the founding: the record has them.
    names = [name for name in old if old[name] != new[name] and name != "groups"]
    return findings + [_fixed(("quorum", name), old[name], new[name], part) for name in names]


def unlike_the_record(configuration: Configuration, record: Mapping[str, Any]) -> list[Finding]:
    """Returns a warning for what the file says otherwise than the record, which is what counts."""
    view = view_of(configuration, epoch=record["epoch"])
    findings = [
        _record_counts(("ring", name), view[name], record["view"][name], "it is fixed since then")
        for name in ("slots", "epsilon", "seed")
        if view[name] != record["view"][name]
    ]
    findings += _pods_unlike(view["pods"], record["view"]["pods"])
    groups = configuration.quorum.groups if configuration.quorum is not None else {}
    known = {group["name"]: group["candidates"] for group in record["groups"]}
    for name, group in groups.items():
        if name not in known:
            command = f"`hashroute quorum add-group {name} {' '.join(group.candidates)}`"
            findings.append(
                _warning(("quorum", "groups", name), "the record has no such group", command)
            )
        elif list(group.candidates) != known[name]:
            findings.append(
                _record_counts(
                    ("quorum", "groups", name, "candidates"),
                    list(group.candidates),
                    known[name],
                    "candidates are fixed since the group was added",
                )
            )
    return findings


def undone(before: Ring, after: Ring, touched: frozenset[str]) -> tuple[str, ...]:
    """Says what became of pods ``touched`` at runtime, where the file says otherwise."""
    was = {pod.id: pod for pod in before.pods}
    now = {pod.id: pod for pod in after.pods}
    texts: list[str] = []
    for pod in sorted(touched):
        if pod not in now and pod in was:
            texts.append(f"{pod}: added at runtime, gone again")
        elif pod in now and pod not in was:
            texts.append(f"{pod}: removed at runtime, back again")
        elif pod in now:
            texts += [
                f"{pod}: {field} {old} at runtime, {new} again"
                for field in ("state", "weight", "zone", "grpc", "zmq")
                if (old := getattr(was[pod], field)) != (new := getattr(now[pod], field))
            ]
    return tuple(texts)


def unreadable(error: ConfigurationFileError) -> Finding:
    """Returns the finding of a file that cannot be read at all."""
    return Finding(severity="error", code="unreadable", key=(), message=str(error))


def refused(error: HashrouteError) -> Finding:
    """Returns the finding of settings that the sidecar itself refused."""
    return Finding(severity="error", code=error.code, key=(), message=str(error))


def _fixed(key: tuple[str, ...], old: object, new: object, reason: str) -> Finding:
    return Finding(
        severity="error",
        code="fixed_setting",
        key=key,
        message=f"cannot change while the sidecar runs: {reason}",
        expected=json.dumps(old or ""),
        got=json.dumps(new or ""),
        suggestion="set it back, or start another sidecar and stop this one",
    )


def _pods_unlike(wanted: list[dict[str, Any]], recorded: list[dict[str, Any]]) -> Iterator[Finding]:
    by_id = {pod["id"]: pod for pod in recorded}
    for pod in wanted:
        key = ("pods", pod["id"])
        known = by_id.pop(pod["id"], None)
        if known is None:
            yield _warning(key, "the record has no such pod", "it is added when its process joins")
            continue
        if pod["weight"] != known["weight"]:
            command = f"`hashroute reweight {pod['id']} {pod['weight']:g}`"
            yield _record_counts((*key, "weight"), pod["weight"], known["weight"], command)
        for name, instead in (
            ("zone", "restart its process"),
            ("addresses", "restart its process"),
            ("state", f"`hashroute drain {pod['id']}`"),
        ):
            is_wanted = name != "state" or pod["state"] == "draining" != known["state"]
            if pod[name] != known[name] and is_wanted:
                yield _record_counts((*key, name), pod[name], known[name], instead)
    for pod_id in by_id:
        command = f"`hashroute remove {pod_id}`"
        yield _warning(("pods", pod_id), "the record has this pod, and the file has not", command)


def _record_counts(key: tuple[str, ...], got: object, expected: object, instead: str) -> Finding:
    return Finding(
        severity="warning",
        code="record_counts",
        key=key,
        message=f"the quorum's record counts, not the file: {dotted(key)} stays as it is",
        expected=json.dumps(expected),
        got=json.dumps(got),
        suggestion=instead,
    )


def _warning(key: tuple[str, ...], message: str, instead: str) -> Finding:
    return Finding(
        severity="warning", code="record_counts", key=key, message=message, suggestion=instead
    )
