"""A stand-in for a cluster with one writer at a time: one record, changed at once."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

from hashroute import Pod, Ring
from hashroute.errors import ChangeRefusedError, EmptyViewError, UnavailableError, UnknownPodError

ADDRESSES = ("127.0.0.1:9010", "127.0.0.1:9011", "127.0.0.1:9012")
CLUSTER_ID = "0123456789abcdef0123456789abcdef"
LEASE = {"ttl_ms": 300.0, "renewal_interval_ms": 50.0, "drift_ppm": 1000, "margin_ms": 10.0}


def voter_id(address: str) -> str:
    return address.rpartition(":")[2].rjust(32, "f")


def view_of(*pods: str, down: tuple[str, ...] = ()) -> dict[str, Any]:
    members = [
        Pod(pod, grpc=f"127.0.0.1:{1001 + index}", zmq=f"tcp://127.0.0.1:{2001 + index}")
        for index, pod in enumerate(pods)
    ]
    view: dict[str, Any] = json.loads(Ring(members).to_json())
    for pod in view["pods"]:
        pod["state"] = "down" if pod["id"] in down else "active"
    return view


class ClusterDouble:
    """A founded cluster of three voters, of which two run beside the pods that write."""

    def __init__(self, *pods: str) -> None:
        pods = pods or ("pod-a", "pod-b")
        self.members = dict(zip(ADDRESSES, pods, strict=False))
        self.unreachable: set[str] = set()
        self.ids = {address: voter_id(address) for address in ADDRESSES}
        self.without_lease: set[str] = set()
        self.warnings: dict[str, list[str]] = {}
        self.routers: dict[str, int] = {}
        self.changes: list[dict[str, Any]] = []
        self.refuses: Exception | None = None
        self.worst_lately_ms = 4.5
        self.is_stale = False
        self.is_silent = False
        self.installed: list[tuple[int, float]] = [(1, 90_000.0)]
        self.record: dict[str, Any] | None = {
            "epoch": 1,
            "cluster_id": CLUSTER_ID,
            "lease": LEASE,
            "voters": [{"id": self.ids[it], "address": it} for it in ADDRESSES],
            "view": {**view_of(*pods), "epoch": 1},
            "writers": {pod: f"{index + 1:016x}" for index, pod in enumerate(pods)},
            "groups": [{"name": "fix", "candidates": [*pods], "leader": pods[0], "term": 1}],
            "digest": "",
            "terms": {pod: {"min": 1, "max": 1} for pod in pods},
        }
        self._digest()

    def _digest(self) -> None:
        assert self.record is not None
        try:
            self.record["digest"] = Ring.from_json(json.dumps(self.record["view"])).digest
        except EmptyViewError:
            self.record["digest"] = None

    def change(self, change: dict[str, Any]) -> int:
        if self.refuses is not None:
            raise self.refuses
        assert self.record is not None
        self.changes.append(change)
        ((kind, facts),) = change.items()
        record = deepcopy(self.record)
        epoch = record["epoch"] + 1
        if kind in {"drain", "activate", "remove", "reweight"}:
            self._change_pod(record, kind, facts, epoch)
        elif kind == "add_group":
            group = {**facts, "leader": facts["candidates"][0], "term": epoch}
            record["groups"].append(group)
        elif kind == "lead":
            self._lead(record, facts, epoch)
        else:
            self._replace(record, facts)
        record["view"]["epoch"] = epoch
        self.record = record | {"epoch": epoch}
        self.installed = [(number, age + 1_000) for number, age in self.installed]
        self.installed.append((epoch, 500.0))
        self._digest()
        return epoch

    def _change_pod(
        self, record: dict[str, Any], kind: str, facts: dict[str, Any], epoch: int
    ) -> None:
        pods = {pod["id"]: pod for pod in record["view"]["pods"]}
        pod = facts["pod"]
        if pod not in pods:
            raise UnknownPodError(f"no pod {pod!r}", pod=pod)
        if kind in {"drain", "activate"}:
            pods[pod]["state"] = "draining" if kind == "drain" else "active"
        elif kind == "reweight":
            pods[pod]["weight"] = facts["weight"]
        else:
            del pods[pod]
            record["writers"].pop(pod, None)
        record["view"]["pods"] = [*pods.values()]
        record["terms"] = {pod: {"min": 1, "max": epoch} for pod in pods}

    def _lead(self, record: dict[str, Any], facts: dict[str, Any], epoch: int) -> None:
        group = next((it for it in record["groups"] if it["name"] == facts["group"]), None)
        if group is None:
            raise ChangeRefusedError(f"no group {facts['group']!r} in the record: add it first")
        others = [pod for pod in group["candidates"] if pod != group["leader"]]
        leader = facts["leader"] or others[0]
        if leader not in group["candidates"]:
            raise ChangeRefusedError(f"pod {leader!r} is not a candidate of {group['name']!r}")
        group |= {"leader": leader, "term": epoch}

    def _replace(self, record: dict[str, Any], facts: dict[str, Any]) -> None:
        for voter in record["voters"]:
            if facts["old"] in voter.values():
                new = facts["new"]
                voter |= {"address": new, "id": self.ids.setdefault(new, voter_id(new))}
                return
        raise ChangeRefusedError(f"no voter {facts['old']} in the record")

    def describe(self, address: str) -> dict[str, Any]:
        if address in self.unreachable or address not in self.ids:
            return {"address": address, "error": "connection refused"}
        return {
            "address": address,
            "cluster": "desk-7",
            "voter_id": self.ids[address],
            "record": self.record,
            "snapshot": self.snapshot(self.members.get(address), address),
        }

    def snapshot(self, pod: str | None, address: str | None = None) -> dict[str, Any]:
        """The figures of a node: the member of `pod`, with the voter at `address`."""
        record = self.record
        return {
            "cluster": "desk-7",
            "cluster_id": "" if record is None else CLUSTER_ID,
            "engine": "embedded",
            "epoch": 0 if record is None else record["epoch"],
            "is_stale": self.is_stale,
            "record": None if self.is_silent else record,
            "record_age_ms": None if record is None else self.installed[-1][1],
            "installed": [{"epoch": it, "ms_ago": age} for it, age in self.installed],
            "voters": [self._link(it) for it in (record or {"voters": []})["voters"]],
            "voter": None if address is None else self._voter(address),
            "member": None if pod is None else self._member(pod),
            "follows_as": "rack-3:7" if pod is None else None,
            "stalls": {
                "is_realtime": True,
                "worst_ms": 4.5,
                "worst_lately_ms": self.worst_lately_ms,
                "p99_ms": 0.2,
                "budget_ms": 237.4,
            },
            "recovery_promise_ms": 480.0,
            "warnings": self.warnings.get(address or "", []),
        }

    def _link(self, voter: dict[str, Any]) -> dict[str, Any]:
        is_connected = voter["address"] not in self.unreachable
        return {
            "id": voter["id"],
            "address": voter["address"],
            "is_connected": is_connected,
            "heard_ms_ago": 12.0 if is_connected else None,
            "epoch": self.record["epoch"] if self.record else 0,
            "round_trip_ms": 0.4 if is_connected else None,
            "drift_ppm": 3.0 if is_connected else None,
        }

    def _voter(self, address: str) -> dict[str, Any]:
        record = self.record
        epoch = 0 if record is None else record["epoch"]
        return {
            "id": self.ids[address],
            "address": address,
            "epoch": epoch,
            "is_voter": record is not None
            and self.ids[address] in {voter["id"] for voter in record["voters"]},
            "grants": 1_200,
            "refusals": {"behind": 1},
            "syncs": 7,
            "last_sync_ms": 0.5,
            "sync_p50_ms": 0.4,
            "sync_p99_ms": 1.25,
            "attending": [] if record is None else sorted(record["writers"]),
            "routers": self.routers,
            "stale_routers": sum(seen < epoch for seen in self.routers.values()),
        }

    def _member(self, pod: str) -> dict[str, Any]:
        record = self.record
        holds = record is not None and pod not in self.without_lease
        groups = [] if record is None else record["groups"]
        ring = Ring.from_json(json.dumps(record["view"])) if record and record["digest"] else None
        return {
            "pod": pod,
            "incarnation": "0000000000000001",
            "is_named": record is not None and pod in record["writers"],
            "holds_lease": holds,
            "lease_age_ms": 90_000.0 if holds else None,
            "lease_margin_ms": 240.5 if holds else None,
            "lease_margin_least_ms": 201.0 if holds else None,
            "renewal_p50_ms": 0.6,
            "renewal_p99_ms": 1.8,
            "elections": 2,
            "slots": 0 if ring is None else round(ring.shares().get(pod, 0.0) * ring.slots),
            "groups": [it["name"] for it in groups if it["leader"] == pod],
            "admitted": 40,
            "under_way": 1,
            "refused": {"not-owner": 3, "no-lease": 0},
        }


class OperatorDouble:
    """Answers as the native operator does."""

    def __init__(self, cluster: ClusterDouble, settings_json: str) -> None:
        self.cluster, self.settings = cluster, json.loads(settings_json)

    def describe(self) -> str:
        return json.dumps([self.cluster.describe(address) for address in self.settings["voters"]])

    def found(self, view_json: str, lease_json: str, groups_json: str) -> str:
        missing = set(self.settings["voters"]) - set(self.cluster.ids) | self.cluster.unreachable
        if missing:
            raise UnavailableError(f"{min(missing)} does not answer")
        view, lease, groups = map(json.loads, (view_json, lease_json, groups_json))
        if self.cluster.record is None:
            pods = [pod["id"] for pod in view["pods"]]
            self.cluster.record = {
                "epoch": 1,
                "cluster_id": CLUSTER_ID,
                "lease": LEASE | {"ttl_ms": lease["ttl_us"] / 1_000},
                "voters": [
                    {"id": self.cluster.ids[it], "address": it} for it in self.settings["voters"]
                ],
                "view": {**view_of(*pods, down=tuple(pods)), "epoch": 1},
                "writers": {},
                "groups": [
                    {"name": name, "candidates": pods, "leader": None, "term": 1}
                    for name, pods in groups.items()
                ],
                "digest": None,
                "terms": {},
            }
        return json.dumps(self.cluster.record)

    def change(self, change_json: str) -> int:
        majority = len(set(self.settings["voters"]) - self.cluster.unreachable) >= 2
        if not majority:
            raise UnavailableError("no process that can change the record can be reached")
        return self.cluster.change(json.loads(change_json))
