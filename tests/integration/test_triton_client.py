"""An unmodified third-party client, `tritonclient.grpc`: only the address it is given changes."""

from __future__ import annotations

import queue
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from hashroute import Ring
from tritonclient.utils import InferenceServerException

from tests.integration.conftest import POD_NAMES
from tests.integration.processes import SECONDS_MAX, Pod, Sidecar, configuration

RING = Ring(POD_NAMES)
MODELS = [f"model-{number}" for number in range(24)]
ROUTES = """
[[routes]]
match = "/inference.GRPCInferenceService/ModelInfer"
key = ["metadata:x-hashroute-key", "field:model_name"]
idempotent = true

[[routes]]
match = "/inference.GRPCInferenceService/ModelStreamInfer"
key = ["metadata:x-hashroute-key", "field:model_name"]
"""


@pytest.fixture(scope="module")
def servers():
    pods: list[Pod] = []
    try:
        program = Path(__file__).with_name("triton_pod.py")
        pods.extend(Pod(name, program) for name in POD_NAMES)
        yield pods
    finally:
        for pod in pods:
            pod.close()


@pytest.fixture(scope="module")
def address(servers, tmp_path_factory):
    directory = tmp_path_factory.mktemp("triton")
    sidecar = Sidecar(directory, configuration(servers, routes=ROUTES))
    yield sidecar.address
    sidecar.close()


@pytest.fixture
def client(address):
    with triton.InferenceServerClient(address) as client:
        yield client


def tensor(*values: int) -> list[triton.InferInput]:
    """The one input of the models."""
    infer_input = triton.InferInput("INPUT", [len(values)], "INT32")
    infer_input.set_data_from_numpy(np.array(values, dtype=np.int32))
    return [infer_input]


def answered_by(result: triton.InferResult) -> str:
    return result.get_response().model_version


def test_the_server_is_live_and_describes_its_models(client):
    assert client.is_server_live()
    assert client.get_model_metadata("model-1").name == "model-1"


def test_each_model_is_inferred_by_its_owner(client):
    for model in MODELS:
        result = client.infer(model, tensor(1, 2, 3))
        assert result.as_numpy("OUTPUT").tolist() == [2, 4, 6]
        assert answered_by(result) == RING.owner(model)


def test_metadata_comes_before_the_model(client):
    for key in MODELS:
        result = client.infer("model-1", tensor(1), headers={"x-hashroute-key": f"client-{key}"})
        assert answered_by(result) == RING.owner(f"client-{key}")


def test_a_large_tensor_passes_both_ways(client):
    values = np.arange(1 << 20, dtype=np.int32)
    result = client.infer("model-1", tensor(*values))
    assert np.array_equal(result.as_numpy("OUTPUT"), values * 2)


def test_the_error_of_a_server_is_the_clients(client):
    with pytest.raises(InferenceServerException) as raised:
        client.infer("absent", tensor(1))
    assert raised.value.message() == "unknown model: absent"
    assert raised.value.status() == "StatusCode.NOT_FOUND"


def test_asynchronous_calls_are_answered(client):
    answers: queue.SimpleQueue = queue.SimpleQueue()
    for model in MODELS:
        client.async_infer(
            model, tensor(1), callback=lambda result, error: answers.put((result, error))
        )
    received = [answers.get(timeout=SECONDS_MAX) for _ in MODELS]
    assert [error for _, error in received if error] == []
    owners = {result.get_response().model_name: answered_by(result) for result, _ in received}
    assert owners == {model: RING.owner(model) for model in MODELS}


def test_a_sequence_of_calls_stays_on_one_pod(client):
    """The sum grows with every call only if the same pod sees them all."""
    for sequence, model in enumerate(MODELS, start=1):
        for number in range(1, 6):
            result = client.infer(
                model,
                tensor(number),
                sequence_id=sequence,
                sequence_start=number == 1,
                sequence_end=number == 5,
            )
            assert result.as_numpy("OUTPUT").tolist() == [sum(range(number + 1))]


def test_a_sequence_in_a_stream_stays_on_one_pod(client):
    answers: queue.SimpleQueue = queue.SimpleQueue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for number in range(1, 11):
        client.async_stream_infer(
            "model-2",
            tensor(number),
            sequence_id=1000,
            sequence_start=number == 1,
            sequence_end=number == 10,
        )
    received = [answers.get(timeout=SECONDS_MAX) for _ in range(10)]
    client.stop_stream()
    assert [error for _, error in received if error] == []
    sums = [result.as_numpy("OUTPUT").item() for result, _ in received]
    assert sums == [sum(range(number + 1)) for number in range(1, 11)]
    assert {answered_by(result) for result, _ in received} == {RING.owner("model-2")}
