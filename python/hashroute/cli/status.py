"""``hashroute status``: the pods of a running sidecar."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from hashroute.cli._common import (
    UNREACHED,
    as_exit,
    call,
    control_option,
    epilog,
    json_option,
    plain,
    print_json,
    stub,
    table,
)
from hashroute.cli._watching import interval_option, show_lines, show_screens

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hashroute._proto.v1 import control_pb2 as pb

HEAD = (
    "pod",
    "state",
    "health",
    "zone",
    "share",
    "in flight",
    "requests",
    "errors",
    "spills",
    "failovers",
    "retries",
    "last down",
)
RIGHT = {4, 5, 6, 7, 8, 9, 10}


@click.command(
    epilog=epilog(
        """
hashroute status
hashroute status --watch
hashroute status --watch --interval-ms 200 --json
hashroute status --ready && echo "pods are up"
""",
        held="the status is shown (with --ready: each transport has a pod that is up)",
        failed="only with --ready: a transport has none",
        unknown=UNREACHED,
    )
)
@control_option
@interval_option
@click.option("--ready", is_flag=True, help="Exit with 1 unless each transport has a pod up.")
@json_option
def status(control: str, interval_ms: int, *, watch: bool, ready: bool, as_json: bool) -> None:
    """Show the pods of a running sidecar: health, shares, requests.

    Counts are since the start of the sidecar. A pod's health is the worst of its transports.
    """
    if watch:
        with suppress(KeyboardInterrupt):
            _watch(control, interval_ms, as_json=as_json)
        return
    from hashroute._proto.v1 import control_pb2 as pb

    with stub(control) as service:
        now = call(service.GetStatus, pb.GetStatusRequest(), control).status
    if as_json:
        print_json(_fields(now))
    else:
        click.echo(render(now))
    if ready and not _is_ready(now):
        raise SystemExit(1)


def render(now: pb.Status) -> str:
    """Returns the status as text: a line on the sidecar, and a table of the pods."""
    totals = now.totals
    ring = f"epoch {now.epoch}  digest {now.digest}  {now.slots:,} slots"
    process = f"up {now.uptime_seconds:,.0f} s  hashroute {now.version}"
    listen = "  ".join(f"{name} {address}" for name, address in sorted(now.listen.items()))
    requests = f"{totals.requests:,} requests  {totals.retries:,} retries"
    turned_away = f"{totals.refused:,} turned away"
    unpaid = f"{totals.retry_budget_exhausted:,} not retried for want of budget"
    lines = [f"{ring}  {process}", listen, f"{requests}  {unpaid}  {turned_away}"]
    if now.HasField("quorum"):
        lines += _quorum_lines(json.loads(now.quorum))
    pods = table(HEAD, [_row(pod) for pod in now.pods], right=RIGHT)
    return "\n".join([*lines, "", pods])


def _fields(now: pb.Status) -> dict[str, Any]:
    """Returns the status as JSON has it, with the figures of the quorum as what they are."""
    return plain(now) | {"quorum": json.loads(now.quorum) if now.HasField("quorum") else None}


def _quorum_lines(node: dict[str, Any]) -> list[str]:
    record, member = node["record"], node["member"]
    warnings = [f"warning: {text}" for text in node["warnings"]]
    if record is None:
        return [f"quorum {node['cluster']}  not founded yet, or no voter is reached", *warnings]
    connected = sum(voter["is_connected"] for voter in node["voters"])
    facts = [f"quorum {node['cluster']}", f"epoch {node['epoch']}"]
    lost = [voter["address"] for voter in node["voters"] if not voter["is_connected"]]
    without = f", not {', '.join(lost)}" if lost else ""
    facts.append(f"{connected} of {len(node['voters'])} voters connected{without}")
    if node["is_stale"]:
        facts.append("stale: no majority of voters is heard")
    if member is not None:
        facts.append(_lease(member))
        facts.append(f"{member['admitted']:,} writes admitted")
        facts.append(f"{sum(member['refused'].values()):,} refused")
        facts.append(f"a new writer within {node['recovery_promise_ms']:.0f} ms")
    groups = [
        f"{group['name']} is led by {group['leader'] or 'nobody'} (term {group['term']})"
        for group in record["groups"]
    ]
    writers = [
        f"{pod} ({_terms(terms['min'], terms['max'])})"
        for pod, terms in sorted(record["terms"].items())
    ]
    slots = f"slots are written by {', '.join(writers) or 'nobody'}"
    return ["  ".join(facts), slots, *groups, *warnings]


def _terms(oldest: int, newest: int) -> str:
    return f"term {newest}" if oldest == newest else f"terms {oldest} to {newest}"


def _lease(member: dict[str, Any]) -> str:
    if member["holds_lease"]:
        return f"{member['pod']} holds its lease, {member['lease_margin_ms']:.0f} ms left"
    return f"{member['pod']} holds no lease: it writes nothing"


def _row(pod: pb.PodStatus) -> tuple[str, ...]:
    down = f"{pod.down_since_ms / 1000:,.1f} s" if pod.HasField("down_since_ms") else ""
    return (
        pod.id,
        pod.state,
        pod.health,
        pod.zone,
        f"{pod.share:.2%}",
        f"{sum(pod.in_flight.values()):,}",
        f"{sum(ended.ok + ended.error for ended in pod.requests.values()):,}",
        f"{sum(ended.error for ended in pod.requests.values()):,}",
        f"{pod.spills:,}",
        f"{pod.failovers:,}",
        f"{pod.retries:,}",
        " ".join(text for text in (down, pod.last_down_reason) if text),
    )


def _is_ready(now: pb.Status) -> bool:
    owning = [pod for pod in now.pods if pod.state in {"active", "joining"}]
    return all(
        any(pod.health_by_transport.get(transport, "down") != "down" for pod in owning)
        for transport in ("grpc", "zmq")
        if transport in now.listen
    )


def _watch(control: str, interval_ms: int, *, as_json: bool) -> None:
    with stub(control) as service:
        looks = _looks(service, interval_ms, control)
        if as_json:
            show_lines(json.dumps(_fields(now)) for now in looks)
        else:
            show_screens(render(now) for now in looks)


def _looks(service: Any, interval_ms: int, control: str) -> Iterator[pb.Status]:
    import grpc

    from hashroute._proto.v1 import control_pb2 as pb

    try:
        for answer in service.WatchStatus(pb.WatchStatusRequest(interval_ms=interval_ms)):
            yield answer.status
    except grpc.RpcError as error:
        raise as_exit(error, control) from error
