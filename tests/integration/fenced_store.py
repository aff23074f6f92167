"""A store beside the pods: fenced by term, and a witness of everything that it took."""

from __future__ import annotations

import itertools
import json
import socket
import socketserver
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import grpc
import hashroute

from tests.integration.processes import SECONDS_MAX


class Store:
    """Serves on a port of the system's choice, in a thread of the test, until its block ends."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, int, int, str]] = []
        self._terms: dict[int, int] = {}
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.store = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        host, port = self._server.server_address[:2]
        self.address = f"{host}:{port}"

    def take(self, entry: str, slot: int, term: int, writer: str) -> bool:
        """Adds a row, unless a newer owner of the slot has written."""
        with self._lock:
            if term < self._terms.get(slot, 0):
                return False
            self._terms[slot] = term
            self._rows.append((entry, slot, term, writer))
            return True

    def rows(self) -> list[tuple[str, int, int, str]]:
        """All rows, in the order in which they were written: entry, slot, term, writer."""
        with self._lock:
            return list(self._rows)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(SECONDS_MAX)


class _Handler(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True

    def handle(self) -> None:
        # A pod that is killed may have left without reading its answer.
        with suppress(ConnectionResetError):
            for line in self.rfile:
                is_taken = self.server.store.take(*json.loads(line))
                self.wfile.write(b"taken\n" if is_taken else b"fenced\n")


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    store: Store


class StoreClient:
    """What a pod has of the store; each thread has a connection of its own."""

    def __init__(self, address: str) -> None:
        host, port = address.rsplit(":", 1)
        self._address = (host, int(port))
        self._threads = threading.local()

    def write(self, entry: str, slot: int, term: int, writer: str) -> None:
        """Adds a row; fails if a newer owner of the slot has written."""
        if not hasattr(self._threads, "lines"):
            connection = socket.create_connection(self._address, SECONDS_MAX)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._threads.lines = connection.makefile("rwb", buffering=0)
        lines = self._threads.lines
        lines.write(json.dumps([entry, slot, term, writer]).encode() + b"\n")
        if lines.readline() != b"taken\n":
            raise RuntimeError(f"fenced: term {term} of slot {slot}")


def check(store, acknowledged, unknown=()):
    """Every acknowledged write is there once, nothing is there twice, and no term ever fell."""
    rows = store.rows()
    counted = Counter(entry for entry, *_ in rows)
    assert all(count == 1 for count in counted.values()), counted.most_common(3)
    assert set(acknowledged) <= counted.keys() <= {*acknowledged, *unknown}
    for slot in {slot for _, slot, *_ in rows}:
        terms = [term for _, its_slot, term, _ in rows if its_slot == slot]
        assert terms == sorted(terms)
        owners = {(term, writer) for _, its_slot, term, writer in rows if its_slot == slot}
        assert len(owners) == len({term for term, _ in owners}), "two writers under one term"


class Load:
    """Writes one entry after the other, on several threads, until the end of its block.

    `write` returns the answer of the pod: its name and the term.
    """

    def __init__(self, write, threads=4):
        self._write = write
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(threads)
        self.acknowledged = {}
        self.failed = {}
        self._changed = threading.Condition()
        self.threads = threads

    def _run(self):
        while not self._stop.is_set():
            entry = f"entry-{next(self._numbers)}"
            try:
                answer = self._write(entry)
            except (grpc.RpcError, hashroute.RequestError) as error:
                with self._changed:
                    self.failed[entry] = error
            else:
                with self._changed:
                    self.acknowledged[entry] = answer
                    self._changed.notify_all()

    def until_written(self, count, by=None):
        """Waits for so many more acknowledged writes, by this pod if one is named."""

        def written():
            pods = [answer["pod"] for answer in self.acknowledged.values()]
            return len(pods) if by is None else pods.count(by)

        with self._changed:
            before = written()
            assert self._changed.wait_for(lambda: written() >= before + count, SECONDS_MAX)

    def __enter__(self):
        self._runs = [self._pool.submit(self._run) for _ in range(self.threads)]
        return self

    def __exit__(self, *_):
        self._stop.set()
        for run in self._runs:
            run.result(SECONDS_MAX)
        self._pool.shutdown()
