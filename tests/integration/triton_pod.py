"""A small inference server for the tests, on the official protobufs of the Triton client.

`python triton_pod.py NAME ADDRESS` prints `ready PORT` once it serves. Its models double their
input; inside a sequence they answer the sum of all inputs so far, which only the pod that saw them
knows. Its name is the version of every model, so callers see who answered.
"""

# The methods have the names that the service gives them.
# ruff: noqa: N802

from __future__ import annotations

import signal
import sys
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc


class InferenceService(service_pb2_grpc.GRPCInferenceServiceServicer):
    """The methods that the client calls here."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sums: dict[tuple[str, int], int] = defaultdict(int)

    def ServerLive(self, _request, _context):
        return service_pb2.ServerLiveResponse(live=True)

    def ModelMetadata(self, request, _context):
        return service_pb2.ModelMetadataResponse(name=request.name, platform="test")

    def ModelInfer(self, request, context):
        if request.model_name == "absent":
            context.abort(grpc.StatusCode.NOT_FOUND, "unknown model: absent")
        return self._infer(request)

    def ModelStreamInfer(self, requests, _context):
        for request in requests:
            yield service_pb2.ModelStreamInferResponse(infer_response=self._infer(request))

    def _infer(self, request) -> service_pb2.ModelInferResponse:
        values = np.frombuffer(request.raw_input_contents[0], dtype=np.int32)
        sequence = request.parameters["sequence_id"].int64_param
        if sequence:
            self.sums[request.model_name, sequence] += int(values.sum())
            answer = np.full_like(values, self.sums[request.model_name, sequence])
        else:
            answer = values * 2
        output = service_pb2.ModelInferResponse.InferOutputTensor(
            name="OUTPUT", datatype="INT32", shape=request.inputs[0].shape
        )
        return service_pb2.ModelInferResponse(
            model_name=request.model_name,
            model_version=self.name,
            id=request.id,
            outputs=[output],
            raw_output_contents=[answer.tobytes()],
        )


def serve(name: str, address: str) -> None:
    """Serves until SIGTERM."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.server(ThreadPoolExecutor(16), options=options)
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(InferenceService(name), server)
    port = server.add_insecure_port(address)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    server.start()
    sys.stdout.write(f"ready {port}\n")
    sys.stdout.flush()
    stop.wait()
    server.stop(grace=10).wait()


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2])
