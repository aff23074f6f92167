"""The gRPC channels to the pods: made when first needed, shared, closed when their pod has left."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hashroute.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hashroute._hashroute import Route
    from hashroute.router import Router

C = TypeVar("C")

DEFAULT_OPTIONS: tuple[tuple[str, Any], ...] = (
    # Channels of one process share connections to an address, and with them the pause before the
    # next try to connect. A pod that is back must not wait for the pause of a channel of before.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Also how long a connection may take to be made: a pod that accepts one and then says nothing
    # stands still, and a request that waits for its connection has reached nobody.
    ("grpc.min_reconnect_backoff_ms", 1_000),
)


class PodChannel(Generic[C]):
    """One channel and who uses it."""

    def __init__(self, channel: C, key: tuple[str, str]) -> None:
        self.channel = channel
        self.key = key
        self.users = 0
        self.is_retired = False


class PodChannels(Generic[C]):
    """The channels of one client. Thread-safe."""

    def __init__(
        self, router: Router, dial: Callable[[str], C], hang_up: Callable[[C], None]
    ) -> None:
        self._router = router
        self._dial = dial
        self._hang_up = hang_up
        self._lock = threading.Lock()
        self._channels: dict[tuple[str, str], PodChannel[C]] = {}
        self._epoch = 0
        self.is_closed = False

    def lease(self, route: Route) -> PodChannel[C]:
        """Returns the channel to the pod of ``route``; to be given back with :meth:`release`.

        Raises:
            ClosedError: the client was closed.
        """
        # A gRPC router chooses no pod without an address.
        key = (route.pod, route.address or "")
        with self._lock:
            if self.is_closed:
                raise ClosedError("the channel was closed; make another one")
            if route.epoch > self._epoch:
                self._epoch = route.epoch
                self._retire_strangers()
            pod = self._channels.get(key)
            if pod is None:
                pod = self._channels[key] = PodChannel(self._dial(key[1]), key)
            pod.users += 1
            return pod

    def release(self, pod: PodChannel[C]) -> None:
        """Gives back a lease; the last one of a retired channel closes it."""
        with self._lock:
            pod.users -= 1
            is_over = pod.is_retired and pod.users == 0
        if is_over:
            self._hang_up(pod.channel)

    def retire(self, pod: PodChannel[C]) -> None:
        """Uses the channel for nothing new."""
        with self._lock:
            self._retire(pod)

    def all(self) -> list[C]:
        """Returns the channels in use."""
        with self._lock:
            return [pod.channel for pod in self._channels.values()]

    def close(self) -> list[C]:
        """Returns all channels, for the caller to close; what they carry ends with them."""
        with self._lock:
            self.is_closed = True
            channels = [pod.channel for pod in self._channels.values()]
            self._channels.clear()
        return channels

    def _retire_strangers(self) -> None:
        known = {(pod.id, pod.grpc) for pod in self._router.ring.pods}
        for pod in list(self._channels.values()):
            if pod.key not in known:
                self._retire(pod)

    def _retire(self, pod: PodChannel[C]) -> None:
        if self._channels.get(pod.key) is pod:
            del self._channels[pod.key]
        if not pod.is_retired:
            pod.is_retired = True
            if pod.users == 0:
                self._hang_up(pod.channel)
