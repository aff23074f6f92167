"""A store that is fenced by the term: what the guard alone cannot do, and why the term can.

    python examples/fenced_store.py

A pod's guard admits a write only while the pod holds its lease, and reads its clock for that very
write. Between that look and the store there is still time: the process may be stopped there, by the
scheduler, a debugger, a machine that is moved. While it stands still its lease runs out, another
pod owns the key and writes. Then the first goes on, exactly where it was, and its write reaches the
store *after* the newer owner's. No lease and no clock can prevent that; a second look at the lease
(``admission.is_valid``) makes the hole smaller. What closes it is the store: it keeps, for each
slot, the highest term that ever wrote, and refuses a lower one, in the transaction of the write.

This program does all that with real processes, and prints what happens: pod-a is admitted, and is
stopped (SIGSTOP) before it reaches the store; pod-b takes over and writes; pod-a goes on.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import hashroute
import hashroute.pod
from hashroute import Pod, _hashroute
from hashroute.cluster import node_settings

CLUSTER, KEY = "example", "EURUSD"
SECONDS_MAX = 30.0


class FencedError(Exception):
    """The store has seen a newer owner's write: this one comes too late, and changes nothing."""


class FencedStore:
    """Prices by key in SQLite, fenced by slot: any number of processes may open the same file."""

    def __init__(self, file: Path) -> None:
        self._database = sqlite3.connect(file, isolation_level=None, timeout=SECONDS_MAX)
        self._database.executescript(
            """
            CREATE TABLE IF NOT EXISTS fence (slot INTEGER PRIMARY KEY, term INTEGER NOT NULL);
            CREATE TABLE IF NOT EXISTS price (key TEXT PRIMARY KEY, value TEXT, writer TEXT);
            """
        )

    def write(self, key: str, value: str, *, writer: str, slot: int, term: int) -> None:
        """Sets the price, if no newer owner of the slot has written.

        Raises:
            FencedError: one has; nothing was changed.
        """
        with self._transaction() as database:
            # PostgreSQL takes this very statement, and tells the same by its count of rows.
            fenced = database.execute(
                """
                INSERT INTO fence (slot, term) VALUES (?, ?)
                ON CONFLICT (slot) DO UPDATE SET term = excluded.term
                WHERE excluded.term >= fence.term
                """,
                (slot, term),
            )
            if fenced.rowcount != 1:
                raise FencedError(
                    f"term {term} of slot {slot} is not the newest: {self.term(slot)}"
                )
            # The effect is a part of the transaction: there is no moment between check and write.
            database.execute(
                "INSERT OR REPLACE INTO price (key, value, writer) VALUES (?, ?, ?)",
                (key, value, writer),
            )

    def read(self, key: str) -> tuple[str, str] | None:
        """Returns the price and who wrote it."""
        found = self._database.execute("SELECT value, writer FROM price WHERE key = ?", (key,))
        row: tuple[str, str] | None = found.fetchone()
        return row

    def term(self, slot: int) -> int | None:
        """Returns the highest term that wrote to the slot."""
        found = self._database.execute("SELECT term FROM fence WHERE slot = ?", (slot,)).fetchone()
        return None if found is None else int(found[0])

    def close(self) -> None:
        """Closes the file."""
        self._database.close()

    @contextlib.contextmanager
    def _transaction(self):  # noqa: ANN202
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield self._database
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")


def pod_program(name: str, voter: str, file: Path) -> None:
    """One pod: sets the price once, and waits for a line of input between guard and store."""
    store = FencedStore(file)
    with join(name, voter) as member:
        member.wait_until_writing(SECONDS_MAX)
        with member.guard.admit(KEY) as admission:
            slot = member.guard.slot(KEY)
            say(f"{name} was admitted under term {admission.term}")
            sys.stdin.readline()
            say(f"{name} goes on; a second look at its lease says {admission.is_valid}")
            try:
                store.write(KEY, "1.0800", writer=name, slot=slot, term=admission.term)
            except FencedError as error:
                say(f"{name} is refused by the store: {error}")
            else:
                say(f"{name} wrote")
    store.close()


def main() -> int:
    """Runs the whole story; returns 0 if it ended as it must."""
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        file, voter = Path(directory) / "prices.sqlite", found(Path(directory), stack)
        first = subprocess.Popen(
            [sys.executable, __file__, "pod-a", voter, file],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.enter_context(first)
        stack.callback(first.kill)
        say(first.stdout.readline().rstrip() if first.stdout else "")
        first.send_signal(signal.SIGSTOP)
        say("pod-a is stopped, between guard and store")

        second = stack.enter_context(join("pod-b", voter))
        store = FencedStore(file)
        stack.callback(store.close)
        with taken_over(second) as admission:
            slot = second.guard.slot(KEY)
            say(f"pod-b was admitted under term {admission.term}")
            store.write(KEY, "1.0900", writer="pod-b", slot=slot, term=admission.term)
            say("pod-b wrote")

        first.send_signal(signal.SIGCONT)
        for line in first.communicate("\n", SECONDS_MAX)[0].splitlines():
            say(line)
        say(f"the price is {store.read(KEY)}, under term {store.term(slot)}")
        return 0 if store.read(KEY) == ("1.0900", "pod-b") else 1


def join(name: str, voter: str) -> hashroute.pod.Member:
    """Joins the cluster of this example as a pod."""
    return hashroute.pod.join(
        cluster=CLUSTER, voters=[voter], pod=Pod(name), stall_check_seconds=0, force=True
    )


def taken_over(member: hashroute.pod.Member) -> hashroute.pod.Admission:
    """Asks for the key until its owner's lease has run out and it is this member's."""
    deadline = time.monotonic() + SECONDS_MAX
    while True:
        try:
            return member.guard.admit(KEY)
        except hashroute.WriteRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def found(directory: Path, stack: contextlib.ExitStack) -> str:
    """Starts a voter in this process and founds the cluster; returns where the voter listens.

    One voter is enough to show a pause. A real cluster has three, on machines of their own:
    `hashroute voter`, and `hashroute quorum init`.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    settings = json.loads(
        node_settings(
            cluster=CLUSTER,
            voters=[address],
            tls=None,
            stale_after_seconds=1.0,
            listen=address,
            data=directory / "voter",
            force=True,
        )
    )
    voter = _hashroute.Node(json.dumps(settings))
    stack.callback(voter.stop, 0.0)
    operator = _hashroute.Operator(
        json.dumps({"cluster": CLUSTER, "voters": [address], "tls": None, "timeout_ms": 10_000})
    )
    view = hashroute.Ring(["pod-a", "pod-b"]).to_json()
    operator.found(view, json.dumps(settings["lease"]), "{}")
    return address


def say(text: str) -> None:
    """Prints a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        pod_program(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
    else:
        sys.exit(main())
