"""One connection to one ZeroMQ pod, as a machine that tells what happens to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import zmq
from zmq.utils.monitor import recv_monitor_message

if TYPE_CHECKING:
    from hashroute.router import HealthOptions

Change: TypeAlias = Literal["ready", "refused", "lost"]

# A pod on this network shakes hands within a round trip; one that does not for so long stands
# still, or is no ZeroMQ peer.
HANDSHAKE_MS = 1_000
READY = zmq.Event.HANDSHAKE_SUCCEEDED
REFUSED = (
    zmq.Event.CONNECT_RETRIED
    | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
    | zmq.Event.HANDSHAKE_FAILED_PROTOCOL
    | zmq.Event.HANDSHAKE_FAILED_AUTH
)
LOST = zmq.Event.DISCONNECTED


class PodSocket:
    """A DEALER to one pod, and the monitor of its connection. Used by one thread.

    libzmq connects, and connects again when that takes longer than the health timeout; it asks the
    pod for a sign of life at each health interval and gives the connection up when none comes
    within the timeout.

    Raises:
        zmq.ZMQError: the address is none that libzmq can connect to.
    """

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], address: str, health: HealthOptions
    ) -> None:
        self.is_ready = False
        self.socket = context.socket(zmq.DEALER)
        self.socket.linger = 0
        # Nothing may wait in a queue for a connection: who is not sent at once goes elsewhere.
        self.socket.immediate = 1
        # The client bounds the requests in flight; a second bound would only hide it.
        self.socket.sndhwm = 0
        self.socket.rcvhwm = 0
        interval_ms = max(1, round(health.interval_seconds * 1000))
        timeout_ms = max(1, round(health.timeout_seconds * 1000))
        self.socket.heartbeat_ivl = interval_ms
        self.socket.heartbeat_timeout = timeout_ms
        self.socket.reconnect_ivl = interval_ms
        # What the network lost of a connection's first word the system would say again after a
        # second at the earliest, however soon the pod can be reached again.
        self.socket.connect_timeout = timeout_ms
        self.socket.handshake_ivl = HANDSHAKE_MS
        self.monitor = self.socket.get_monitor_socket(READY | REFUSED | LOST)
        try:
            self.socket.connect(address)
        except zmq.ZMQError:
            self.close()
            raise

    def changes(self) -> list[Change]:
        """Returns what happened to the connection since the last call, in order."""
        changes: list[Change] = []
        while self.monitor.poll(0):
            event = recv_monitor_message(self.monitor)["event"]
            if event & READY:
                self.is_ready = True
                changes.append("ready")
            elif event & REFUSED:
                changes.append("refused")
            elif event & LOST:
                # A handshake that breaks off ends a connection that nothing was sent on.
                changes.append("lost" if self.is_ready else "refused")
                self.is_ready = False
        return changes

    def send(self, frames: list[bytes]) -> bool:
        """Sends a message; returns False if there is no connection to send it on."""
        try:
            self.socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def receive(self) -> list[bytes] | None:
        """Returns the next message; None if there is none now."""
        try:
            return self.socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None

    def close(self) -> None:
        """Ends the connection; what is not sent yet is dropped."""
        self.socket.disable_monitor()
        self.monitor.close(linger=0)
        self.socket.close(linger=0)
