"""Where etcd's leader is, seen from a host that no fault cuts off, and how to move it.

A program: ``python -m tests.soak.etcd LOG HOST=ADDRESS…``. It asks each member of etcd all the time
whom it takes for the leader, and writes ``{"at", "host", "id", "leader", "term"}`` down whenever
that has changed; ``leader`` is null while the member knows of none. It reads the names of hosts,
one a line, makes each the leader, and answers with the same name when it is.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CLIENT_PORT = 2379
POLL_SECONDS = 0.01
ANSWER_SECONDS = 0.5
"""A member answers from what it knows itself; one that takes longer is not running."""
MOVE_SECONDS = 20.0
"""Longer than an election takes; it only bounds a trial that has failed."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """Whom a member of etcd takes for the leader, from this moment on."""

    at: float
    host: str
    leader: str | None
    """None while it knows of none."""
    term: int


class Leaders:
    """The log, followed: who led etcd at what time, in the eyes of whom."""

    def __init__(self, log: Path) -> None:
        self._stream = log.open(encoding="utf-8")
        self._part = ""
        self._hosts: dict[str, str] = {}
        self._lines: list[dict[str, Any]] = []

    def opinions(self) -> Iterator[Opinion]:
        """Every opinion so far, in the order of time."""
        while line := self._stream.readline():
            self._part += line
            if line.endswith("\n"):
                found, self._part = json.loads(self._part), ""
                self._hosts[found["id"]] = found["host"]
                self._lines.append(found)
        for line in self._lines:
            leader = self._hosts.get(line["leader"])
            yield Opinion(line["at"], line["host"], leader, line["term"])

    def leader(self, at: float) -> str | None:
        """The host whose member of etcd led at that time: in its own eyes, of the newest term."""
        held = self._held(at)
        claims = [it for it in held.values() if it.leader == it.host]
        return max(claims, key=lambda it: it.term).host if claims else None

    def led_again(self, at: float, without: str) -> float | None:
        """From when on all hosts but one had a leader that is not on that one; in seconds after.

        None if that did not come about.
        """
        held = self._held(at)
        for moment, opinion in [(at, None), *((it.at, it) for it in self.opinions() if it.at > at)]:
            if opinion is not None:
                held[opinion.host] = opinion
            others = {it.leader for host, it in held.items() if host != without}
            if len(others) == 1 and not others & {None, without}:
                return moment - at
        return None

    def _held(self, at: float) -> dict[str, Opinion]:
        return {it.host: it for it in self.opinions() if it.at <= at}


class _Member:
    """A member of etcd, asked over its gateway."""

    def __init__(self, host: str, address: str) -> None:
        self.host = host
        self.id = ""
        self.leader: str | None = None
        self._connection = http.client.HTTPConnection(address, CLIENT_PORT, timeout=ANSWER_SECONDS)

    def ask(self, path: str, **body: str) -> dict[str, Any]:
        """Asks; an error is an empty answer."""
        try:
            self._connection.request("POST", f"/v3/maintenance/{path}", json.dumps(body))
            answer: dict[str, Any] = json.loads(self._connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError):
            self._connection.close()
            return {}
        return answer

    def follow(self, log: Log) -> None:
        """Writes down what has changed, for ever."""
        before: tuple[str | None, int] | None = None
        while True:
            status = self.ask("status")
            if not status:
                time.sleep(POLL_SECONDS)  # poll
                continue
            header = status.get("header", {})
            self.id = header.get("member_id", self.id)
            leader = status.get("leader", "0")
            self.leader = None if leader == "0" else leader
            term = int(status.get("raftTerm", 0))
            if self.id and (self.leader, term) != before:
                before = (self.leader, term)
                log.write(self, term)
            time.sleep(POLL_SECONDS)  # poll


class Log:
    """The log, written by one thread for each member."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._stream = path.open("a", buffering=1, encoding="utf-8")

    def write(self, member: _Member, term: int) -> None:
        """Writes down what a member says now."""
        with self._lock:
            line = {
                "at": time.monotonic(), "host": member.host, "id": member.id,
                "leader": member.leader, "term": term,
            }  # fmt: skip
            self._stream.write(json.dumps(line) + "\n")


def make_leader(host: str, addresses: dict[str, str], members: dict[str, _Member]) -> None:
    """Moves the leadership to a host; returns when all members know it.

    Raises:
        SystemExit: it did not go there.

    """
    end = time.monotonic() + MOVE_SECONDS
    while any(it.leader != members[host].id for it in members.values()):
        if time.monotonic() > end:
            raise SystemExit(f"etcd's leader could not be moved to {host}")
        leading = [it.host for it in members.values() if it.id and it.leader == it.id]
        for name in leading:
            if name != host:
                asked = _Member(name, addresses[name])
                asked.ask("transfer-leadership", targetID=members[host].id)
        time.sleep(POLL_SECONDS)  # poll


def main(log: str, *hosts: Iterable[str]) -> None:
    """Follows until there is nothing more to read."""
    addresses = dict(str(it).split("=", 1) for it in hosts)
    members = {host: _Member(host, address) for host, address in addresses.items()}
    stream = Log(Path(log))
    for member in members.values():
        threading.Thread(target=member.follow, args=(stream,), daemon=True).start()
    print("ready", flush=True)
    for line in sys.stdin:
        make_leader(line.strip(), addresses, members)
        print(line.strip(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
