"""What is known of the request messages of gRPC services: finds field numbers for field names.

Two sources know messages: the presets below, for services whose messages are published and
stable, and a descriptor set that the user gives.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto

DESCRIPTOR_SET_BYTES_MAX: Final = 64 << 20
"""A larger file is not the descriptors of a few services."""


class FieldNameError(Exception):
    """A name leads to no field that can be a key; ``names`` are those that it could have been."""

    def __init__(self, message: str, *, names: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.names = names


class DescriptorSetError(Exception):
    """A file is not a descriptor set, or lacks the service; ``names`` are the services it has."""

    def __init__(self, message: str, *, names: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.names = names


Resolver = Callable[[tuple[str, ...]], tuple[int, ...]]
"""Gives the numbers of a path of names in one request message, or raises `FieldNameError`."""


@dataclass(frozen=True, slots=True)
class Service:
    """The methods of one service, and how names resolve in the request of each."""

    name: str
    methods: Mapping[str, Resolver]


# The fields of a preset: a number, or the reason why the field cannot be a key.
_PresetMessage = Mapping[str, int | str]

_MAP = "is a map: it has many values, and no one of them is the key"
_REPEATED = "is repeated: it has many values, and no one of them is the key"
_BULK = "holds tensors: they are data, not a key"

_MODEL_INFER: _PresetMessage = {
    "model_name": 1,
    "model_version": 2,
    "id": 3,
    "parameters": _MAP,
    "inputs": _REPEATED,
    "outputs": _REPEATED,
    "raw_input_contents": _BULK,
}
# These requests name the same thing `name`; as `model_name` it leads there too, so that a model's
# metadata comes from the pod that serves its inference.
_MODEL: _PresetMessage = {"model_name": 1, "model_version": 2, "name": 1, "version": 2}
_REPOSITORY_MODEL: _PresetMessage = {"model_name": 2, "repository_name": 1, "parameters": _MAP}
_NOTHING: _PresetMessage = {}

_FEAST_ONLINE: _PresetMessage = {
    "feature_service": 1,
    "features": _REPEATED,
    "entities": "is a map from join keys to lists: one request asks for many entities",
    "full_feature_names": 4,
}

PRESETS: Final[Mapping[str, Mapping[str, _PresetMessage]]] = {
    # The Open Inference Protocol with Triton's extensions: MLServer, Triton, KServe, OVMS.
    "inference.GRPCInferenceService": {
        "ModelInfer": _MODEL_INFER,
        "ModelStreamInfer": _MODEL_INFER,
        "ServerLive": _NOTHING,
        "ServerReady": _NOTHING,
        "ServerMetadata": _NOTHING,
        "ModelReady": _MODEL,
        "ModelMetadata": _MODEL,
        "ModelConfig": _MODEL,
        "ModelStatistics": _MODEL,
        "RepositoryIndex": {"repository_name": 1},
        "RepositoryModelLoad": _REPOSITORY_MODEL,
        "RepositoryModelUnload": _REPOSITORY_MODEL,
    },
    # Feast's Python server has no package name; the Go and Java servers use the other one.
    "GrpcFeatureServer": {"GetOnlineFeatures": _FEAST_ONLINE},
    "feast.serving.ServingService": {"GetOnlineFeatures": _FEAST_ONLINE},
}
"""Service -> method -> the fields of its request message."""


def preset(service: str) -> Service | None:
    """Returns what is built in about ``service``, or None."""
    messages = PRESETS.get(service)
    if messages is None:
        return None
    return Service(service, {name: _preset_resolver(fields) for name, fields in messages.items()})


def _preset_resolver(fields: _PresetMessage) -> Resolver:
    def resolve(path: tuple[str, ...]) -> tuple[int, ...]:
        usable = tuple(name for name, number in fields.items() if isinstance(number, int))
        found = fields.get(path[0])
        if found is None:
            raise FieldNameError(f"no field `{path[0]}` in the request message", names=usable)
        if isinstance(found, str):
            raise FieldNameError(f"`{path[0]}` {found}", names=())
        if len(path) > 1:
            raise FieldNameError(f"`{path[0]}` has no fields inside it", names=())
        return (found,)

    return resolve


def described(file: Path, service: str) -> Service:
    """Returns what the descriptor set in ``file`` says of ``service``.

    Raises:
        DescriptorSetError: the file cannot be read, is something else, or lacks the service.

    """
    from google.protobuf.descriptor_pb2 import FileDescriptorSet
    from google.protobuf.message import DecodeError

    try:
        with file.open("rb") as stream:
            data = stream.read(DESCRIPTOR_SET_BYTES_MAX + 1)
    except OSError as error:
        raise DescriptorSetError(f"cannot read {file}: {error.strerror}") from error
    if len(data) > DESCRIPTOR_SET_BYTES_MAX:
        raise DescriptorSetError(f"{file} is larger than {DESCRIPTOR_SET_BYTES_MAX} bytes")
    try:
        descriptors = FileDescriptorSet.FromString(data)
    except DecodeError as error:
        raise DescriptorSetError(f"{file} is not a descriptor set: {error}") from error
    messages: dict[str, DescriptorProto] = {}
    methods: dict[str, dict[str, str]] = {}
    for entry in descriptors.file:
        scope = f".{entry.package}" if entry.package else ""
        for message in entry.message_type:
            _collect(message, scope, messages)
        for declared in entry.service:
            full_name = f"{scope}.{declared.name}".lstrip(".")
            methods[full_name] = {method.name: method.input_type for method in declared.method}
    if service not in methods:
        message_text = f"{file} does not describe the service {service}"
        raise DescriptorSetError(message_text, names=tuple(methods))
    resolvers = {
        name: _described_resolver(messages, input_type)
        for name, input_type in methods[service].items()
    }
    return Service(service, resolvers)


def _collect(message: "DescriptorProto", scope: str, into: dict[str, "DescriptorProto"]) -> None:
    full_name = f"{scope}.{message.name}"
    into[full_name] = message
    for nested in message.nested_type:
        _collect(nested, full_name, into)


def _described_resolver(messages: Mapping[str, "DescriptorProto"], input_type: str) -> Resolver:
    def resolve(path: tuple[str, ...]) -> tuple[int, ...]:
        numbers: list[int] = []
        type_name = input_type
        for depth, name in enumerate(path):
            message = messages.get(type_name)
            if message is None:
                raise FieldNameError(
                    f"the descriptor set lacks {type_name.lstrip('.')}: make it with "
                    "`--include_imports`"
                )
            fields = {field.name: field for field in message.field}
            if name not in fields:
                prefix = ".".join((*path[:depth], ""))
                raise FieldNameError(
                    f"no field `{name}` in {type_name.lstrip('.')}",
                    names=tuple(f"{prefix}{candidate}" for candidate in fields),
                )
            field = fields[name]
            _check_single(field, messages, is_last=depth == len(path) - 1)
            numbers.append(field.number)
            type_name = field.type_name
        return tuple(numbers)

    return resolve


def _check_single(
    field: "FieldDescriptorProto", messages: Mapping[str, "DescriptorProto"], *, is_last: bool
) -> None:
    """Raises `FieldNameError` unless the field is one value, or one message on the way to it."""
    if field.label == field.LABEL_REPEATED:
        entry = messages.get(field.type_name)
        is_map = entry is not None and entry.options.map_entry
        raise FieldNameError(f"`{field.name}` {_MAP if is_map else _REPEATED}")
    if field.type == field.TYPE_GROUP:
        raise FieldNameError(f"`{field.name}` is a group, which cannot be read as a key")
    is_message = field.type == field.TYPE_MESSAGE
    if is_last and is_message:
        inside = messages.get(field.type_name)
        names = tuple(f"{field.name}.{inner.name}" for inner in inside.field) if inside else ()
        raise FieldNameError(f"`{field.name}` is a message: name a field inside it", names=names)
    if not is_last and not is_message:
        raise FieldNameError(f"`{field.name}` has no fields inside it")
