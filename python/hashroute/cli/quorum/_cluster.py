"""A cluster as its processes describe it: voters, members, writers, routers, and what is wrong."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hashroute.cli.quorum._verdict import degraded_of, reasons_of, without_etcd

Snapshot = dict[str, Any]
Record = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Voter:
    """A voter of the record, or a process that would be one.

    Attributes:
        address: where it is reached.
        id: of its disk, 32 hexadecimal digits; empty if it is not known.
        answers: whether it was reached.
        is_voter: whether the record has it.
        process: what runs there: a pod, ``witness``, or ``etcd``; empty if it was not reached.
        epoch: of its record; None if it was not reached.
        sync_p50_ms: how long writes to its disk took; None if there were none.
        sync_p99_ms: the slowest hundredth of them.
        attending: pods whose members attend.
        problem: what is wrong with it; empty if nothing is.
    """

    address: str
    id: str
    answers: bool
    is_voter: bool
    process: str
    epoch: int | None
    sync_p50_ms: float | None
    sync_p99_ms: float | None
    attending: tuple[str, ...]
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A pod of the record, and what its process says of its lease, if that could be asked.

    Attributes:
        pod: its id.
        state: what the view says.
        incarnation: of its process, 16 hexadecimal digits; None if it has none.
        share: the part of the slots that it owns.
        slots: how many these are.
        term_min: the oldest term of them.
        term_max: the newest.
        since_ms: how long ago it got the newest of them; None if nobody remembers.
        groups: those that it leads.
        attends: how many voters it talks to.
        holds_lease: None if its process was not asked: only voters answer.
        lease_margin_ms: how much of the lease is left.
        renewal_p99_ms: how long its renewals take.
        recovery_promise_ms: what it promises.
        admitted: writes that it admitted.
        refused: writes that it refused, by reason.
    """

    pod: str
    state: str
    incarnation: str | None
    share: float
    slots: int
    term_min: int | None
    term_max: int | None
    since_ms: float | None
    groups: tuple[str, ...]
    attends: int
    holds_lease: bool | None
    lease_margin_ms: float | None
    renewal_p99_ms: float | None
    recovery_promise_ms: float | None
    admitted: int | None
    refused: dict[str, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A group, who leads it, under which term, and since when as far as somebody remembers."""

    name: str
    candidates: tuple[str, ...]
    leader: str | None
    term: int
    since_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """A process that follows and does not vote, and the newest epoch that any voter sent it."""

    name: str
    epoch: int
    is_stale: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """Trouble that a process sees coming."""

    address: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A cluster at one moment.

    ``leases`` says who grants them: ``voters``, or ``etcd``. ``reasons`` say who cannot write, and
    are empty if everybody can; ``degraded`` says what does not work although everybody can write.
    Both say what to do.
    """

    name: str
    cluster_id: str
    engine: str
    leases: str
    epoch: int
    digest: str | None
    lease: dict[str, Any] | None
    voters: tuple[Voter, ...]
    members: tuple[Member, ...]
    groups: tuple[Group, ...]
    routers: tuple[Router, ...]
    recovery_promise_ms: float | None
    reasons: tuple[str, ...]
    degraded: tuple[str, ...]
    warnings: tuple[Warned, ...]

    @property
    def holds(self) -> bool:
        """Whether every slot and group has a writer that may write."""
        return not self.reasons

    def to_dict(self) -> dict[str, Any]:
        """Returns it for JSON, moments as text beside how long ago they were."""
        fields: dict[str, Any] = {"holds": self.holds, **asdict(self)}
        for one in (*fields["members"], *fields["groups"]):
            one["since"] = moment(one["since_ms"])
        return fields


def moment(ms_ago: float | None) -> str | None:
    """Returns when that was by the wall clock, in UTC; None if it is not known."""
    if ms_ago is None:
        return None
    at = datetime.now(UTC) - timedelta(milliseconds=ms_ago)
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")


def cluster_of(
    name: str, answers: list[dict[str, Any]], etcd: frozenset[str] = frozenset()
) -> Cluster:
    """Returns the cluster that ``answers``, one a process, describe; at least one was given.

    Of those at an address of ``etcd`` it is etcd that answers, or does not.
    """
    answers = _without_repeats(answers)
    reached = [answer for answer in answers if "error" not in answer]
    record = max(
        (answer["record"] for answer in reached if answer["record"] is not None),
        key=lambda one: int(one["epoch"]),
        default=None,
    )
    snapshots = [answer["snapshot"] for answer in reached]
    engine = next((it["engine"] for it in snapshots), "")
    is_etcd = engine == "etcd" and (record is None or len(record["voters"]) == 1)
    leases = "etcd" if is_etcd else "voters"
    silent = [it for it in answers if it["address"] in etcd and "error" in it]
    # Where voters grant the leases etcd is none of them.
    voting = [it for it in answers if leases == "etcd" or it["address"] not in etcd]
    voters = _voters(voting, record, leases)
    members = () if record is None else _members(record, snapshots)
    groups = () if record is None else _groups(record, snapshots)
    # Of a cluster that is the largest of those of its processes; 0 is of one that cannot tell.
    promises = [float(it["recovery_promise_ms"]) for it in snapshots if it["recovery_promise_ms"]]
    return Cluster(
        name=name,
        cluster_id="" if record is None else record["cluster_id"],
        engine=engine,
        leases=leases,
        epoch=0 if record is None else record["epoch"],
        digest=None if record is None else record["digest"],
        lease=None if record is None else record["lease"],
        voters=voters,
        members=members,
        groups=groups,
        routers=_routers(snapshots, 0 if record is None else record["epoch"]),
        recovery_promise_ms=max(promises, default=None),
        reasons=tuple(reasons_of(leases, voters, members, groups, is_founded=record is not None)),
        degraded=(
            *(without_etcd(it["error"]) for it in silent),
            *degraded_of(leases, voters, members),
        ),
        warnings=tuple(
            Warned(address=it["address"], text=text)
            for it in reached
            for text in it["snapshot"]["warnings"]
        ),
    )


def since_ms(term: int, snapshots: list[Snapshot]) -> float | None:
    """Returns how long ago the record of epoch ``term`` began to count, as far as anybody knows.

    A process that was told of it late knows the first later record: the true moment was not
    after that, so of several processes the one that knows the earliest moment is believed.
    """
    moments = [
        max(ages)
        for snapshot in snapshots
        if (ages := [it["ms_ago"] for it in snapshot["installed"] if it["epoch"] >= term])
    ]
    return max(moments, default=None)


def _without_repeats(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A process may have been asked at two of its addresses."""
    by_voter = {answer.get("voter_id") or answer["address"]: answer for answer in reversed(answers)}
    return [answer for answer in answers if answer in by_voter.values()]


def _voters(answers: list[dict[str, Any]], record: Record | None, leases: str) -> tuple[Voter, ...]:
    wanted = [] if record is None else record["voters"]
    by_id = {answer.get("voter_id") or "": answer for answer in answers}
    by_address = {answer["address"]: answer for answer in answers}
    voters = [
        _voter(it["address"], it["id"], by_id.get(it["id"]), by_address.get(it["address"]), record)
        for it in wanted
    ]
    known = {it["id"] for it in wanted}
    places = {it["address"] for it in wanted}
    for answer in answers:
        voter_id = answer.get("voter_id") or ""
        if (voter_id in known if voter_id else answer["address"] in places) or not (
            voter_id or "error" in answer
        ):
            continue
        voters.append(_other_voter(answer, record))
    if leases == "etcd":
        return tuple(replace(voter, process=voter.process and "etcd") for voter in voters)
    return tuple(voters)


def _voter(
    address: str,
    voter_id: str,
    answer: dict[str, Any] | None,
    at_address: dict[str, Any] | None,
    record: Record | None,
) -> Voter:
    if answer is None:
        problem = "does not answer"
        if at_address is not None and "error" in at_address:
            problem = str(at_address["error"])
        elif at_address is not None:
            problem = (
                "another disk answers there: this voter's state was lost or moved away; "
                f"`hashroute quorum replace-voter {address} {address}` gives its place to that one"
            )
        return _built(address, voter_id, None, is_voter=True, problem=problem)
    behind = _epoch_of(answer) < (record["epoch"] if record else 0)
    problem = "behind the others" if behind else ""
    return _built(address, voter_id, answer, is_voter=True, problem=problem)


def _other_voter(answer: dict[str, Any], record: Record | None) -> Voter:
    if "error" in answer:
        return _built(answer["address"], "", None, is_voter=False, problem=str(answer["error"]))
    problem = "has no record yet" if record is None else "has no vote: the record does not name it"
    return _built(answer["address"], answer["voter_id"], answer, is_voter=False, problem=problem)


def _built(
    address: str, voter_id: str, answer: dict[str, Any] | None, *, is_voter: bool, problem: str
) -> Voter:
    voter = (answer["snapshot"]["voter"] if answer is not None else None) or {}
    has_synced = bool(voter.get("syncs"))
    return Voter(
        address=address,
        id=voter_id,
        answers=answer is not None,
        is_voter=is_voter,
        process="" if answer is None else _process(answer["snapshot"]),
        epoch=None if answer is None else _epoch_of(answer),
        sync_p50_ms=voter["sync_p50_ms"] if has_synced else None,
        sync_p99_ms=voter["sync_p99_ms"] if has_synced else None,
        attending=() if answer is None else _attending(answer["snapshot"]),
        problem=problem,
    )


def _process(snapshot: Snapshot) -> str:
    member = snapshot["member"]
    return "witness" if member is None else str(member["pod"])


def _epoch_of(answer: dict[str, Any]) -> int:
    return 0 if answer["record"] is None else int(answer["record"]["epoch"])


def _members(record: Record, snapshots: list[Snapshot]) -> tuple[Member, ...]:
    shares = _shares(record)
    told = {it["member"]["pod"]: it for it in snapshots if it["member"] is not None}
    voters = [_attending(it) for it in snapshots if it["voter"] and it["voter"]["is_voter"]]
    members = []
    for pod in record["view"]["pods"]:
        name, share = pod["id"], shares.get(pod["id"], 0.0)
        terms = record["terms"].get(name) if share else None
        facts = {
            "pod": name,
            "state": pod["state"],
            "incarnation": record["writers"].get(name),
            "share": share,
            "slots": round(share * record["view"]["slots"]),
            "term_min": terms["min"] if terms else None,
            "term_max": terms["max"] if terms else None,
            "since_ms": since_ms(terms["max"], snapshots) if terms else None,
            "groups": tuple(it["name"] for it in record["groups"] if it["leader"] == name),
            "attends": sum(name in attending for attending in voters),
        }
        members.append(Member(**facts, **_told(told.get(name))))
    return tuple(members)


def _attending(snapshot: Snapshot) -> tuple[str, ...]:
    """The pods whose members talk to a voter: those that dialled it, and that of its process."""
    dialled = set((snapshot["voter"] or {}).get("attending", ()))
    own = {snapshot["member"]["pod"]} if snapshot["member"] is not None else set()
    return tuple(sorted(dialled | own))


def _told(snapshot: Snapshot | None) -> dict[str, Any]:
    """What the process of a member says itself, if it was asked."""
    member = {} if snapshot is None else snapshot["member"]
    names = ("holds_lease", "lease_margin_ms", "renewal_p99_ms", "admitted", "refused")
    promise = None if snapshot is None else snapshot["recovery_promise_ms"]
    return {**{name: member.get(name) for name in names}, "recovery_promise_ms": promise}


def _shares(record: Record) -> dict[str, float]:
    from hashroute import Ring
    from hashroute.errors import EmptyViewError, FewSlotsWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewSlotsWarning)
        try:
            return Ring.from_json(json.dumps(record["view"])).shares()
        except EmptyViewError:
            return {}


def _groups(record: Record, snapshots: list[Snapshot]) -> tuple[Group, ...]:
    return tuple(
        Group(
            name=it["name"],
            candidates=tuple(it["candidates"]),
            leader=it["leader"],
            term=it["term"],
            since_ms=since_ms(it["term"], snapshots),
        )
        for it in record["groups"]
    )


def _routers(snapshots: list[Snapshot], epoch: int) -> tuple[Router, ...]:
    newest: dict[str, int] = {}
    voters = {snapshot["follows_as"] for snapshot in snapshots if snapshot["voter"] is not None}
    for snapshot in snapshots:
        for router, seen in (snapshot["voter"] or {}).get("routers", {}).items():
            newest[router] = max(seen, newest.get(router, 0))
    return tuple(
        Router(name=name, epoch=seen, is_stale=seen < epoch)
        for name, seen in sorted(newest.items())
        if name not in voters
    )
