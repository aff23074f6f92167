"""A driver that speaks the wire protocol of the quorum to one voter, and keeps its own books."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Any

import grpc
from hashroute._proto.v1 import quorum_pb2 as pb
from hashroute._proto.v1 import quorum_pb2_grpc as pb_grpc

from tests.integration.processes import SECONDS_MAX, UNLIMITED

if TYPE_CHECKING:
    from collections.abc import Iterator

PROPOSER = 7


class Books:
    """What a voter has said yes to, by the number of the ballot. None of it may be forgotten."""

    def __init__(self) -> None:
        self.promised = 0
        self.accepted = 0
        self.answers = 0


class Conversation:
    """One conversation with a voter, as the member of `pod-a`, until either side ends it."""

    def __init__(self, address: str, cluster: str, books: Books) -> None:
        self.books = books
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._channel = grpc.insecure_channel(address, options=UNLIMITED)
        hello = pb.Hello(
            version=pb.VERSION_1,
            cluster=cluster,
            writer=pb.Writer(pod="pod-a", incarnation=99),
        )
        self._requests.put(pb.AttendRequest(hello=hello))
        self._answers = pb_grpc.QuorumStub(self._channel).Attend(
            iter(self._requests.get, None), timeout=SECONDS_MAX, wait_for_ready=True
        )
        welcome = self._next("welcome")
        self.record = welcome.record

    def record_of(self, number: int) -> Any:
        """The record that is proposed by ballot `number`; no other ballot proposes it."""
        record = pb.Record()
        record.CopyFrom(self.record)
        record.view.epoch += 1
        record.view.pods[0].weight = number
        # Slots that nobody owns begin their term anew with each record.
        record.slot_terms.terms[:] = [record.view.epoch]
        return record

    def prepare(self, number: int) -> None:
        epoch = self.record.view.epoch + 1
        ballot = pb.Ballot(round=number, proposer=PROPOSER)
        self._requests.put(pb.AttendRequest(prepare=pb.Prepare(epoch=epoch, ballot=ballot)))

    def accept(self, number: int) -> None:
        ballot = pb.Ballot(round=number, proposer=PROPOSER)
        accept = pb.Accept(ballot=ballot, record=self.record_of(number))
        self._requests.put(pb.AttendRequest(accept=accept))

    def answers(self) -> Iterator[tuple[str, Any]]:
        """What the voter says of ballots, written down as it comes; ends with the conversation."""
        try:
            for answer in self._answers:
                kind = answer.WhichOneof("message")
                if kind is None:
                    continue  # a beat
                said = getattr(answer, kind)
                self._write_down(kind, said)
                yield kind, said
        except grpc.RpcError:
            return

    def _write_down(self, kind: str, said: Any) -> None:
        books = self.books
        if kind == "promised":
            books.promised = max(books.promised, said.ballot.round)
            books.answers += 1
        elif kind == "accepted":
            books.accepted = max(books.accepted, said.ballot.round)
            books.promised = max(books.promised, said.ballot.round)
            books.answers += 1

    def ask(self, number: int) -> tuple[str, Any]:
        """What the voter says to a Prepare of this ballot."""
        self.prepare(number)
        for kind, said in self.answers():
            if kind == "promised" and said.ballot.round == number:
                return kind, said
            if kind == "outbid":
                return kind, said
        raise AssertionError("the conversation ended")

    def close(self) -> None:
        self._requests.put(None)
        self._channel.close()

    def _next(self, wanted: str) -> Any:
        for answer in self._answers:
            if answer.WhichOneof("message") == wanted:
                return getattr(answer, wanted)
        raise AssertionError(f"no {wanted}")
