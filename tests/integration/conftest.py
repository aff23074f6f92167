"""Pods and sidecars for the tests of this directory."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import grpc
import pytest

from tests.integration.processes import UNLIMITED, Pod, Sidecar, configuration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

POD_NAMES = ("pod-a", "pod-b", "pod-c")


@pytest.fixture(scope="session")
def shared_pods() -> Iterator[list[Pod]]:
    """Three pods for all tests that leave them as they are."""
    pods: list[Pod] = []
    try:
        pods.extend(Pod(name) for name in POD_NAMES)
        yield pods
    finally:
        for pod in pods:
            pod.close()


@pytest.fixture(scope="session")
def shared_sidecar(
    shared_pods: list[Pod], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sidecar]:
    """A sidecar before the shared pods, for all tests that leave it as it is."""
    sidecar = Sidecar(tmp_path_factory.mktemp("sidecar"), configuration(shared_pods))
    yield sidecar
    sidecar.close()


@pytest.fixture
def channel(shared_sidecar: Sidecar) -> Iterator[grpc.Channel]:
    """A channel to the shared sidecar."""
    with grpc.insecure_channel(shared_sidecar.address, options=UNLIMITED) as channel:
        yield channel


@pytest.fixture
def pods() -> Iterator[list[Pod]]:
    """Three pods of the test's own, to do anything to."""
    pods: list[Pod] = []
    try:
        pods.extend(Pod(name) for name in POD_NAMES)
        yield pods
    finally:
        for pod in pods:
            pod.close()


@pytest.fixture
def start_sidecar(tmp_path: Path) -> Iterator[Callable[[str], Sidecar]]:
    """Starts sidecars from texts of a configuration; they end with the test."""
    started: list[Sidecar] = []
    numbers = itertools.count()

    def start(text: str) -> Sidecar:
        sidecar = Sidecar(tmp_path / f"sidecar-{next(numbers)}", text)
        started.append(sidecar)
        return sidecar

    yield start
    for sidecar in started:
        sidecar.close()
