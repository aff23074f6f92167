"""Field names become field numbers, by the presets or a descriptor set, or an error says why."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc
from hashroute.config.messages import PRESETS
from hashroute.config.models import RouteSection
from hashroute.config.routes import resolve_routes
from tritonclient.grpc import service_pb2

if TYPE_CHECKING:
    from hashroute.config.findings import Finding

INFERENCE = "inference.GRPCInferenceService"

QUOTES = """\
syntax = "proto3";
package quotes;
message Instrument { string symbol = 7; int64 id = 9; }
message Quote {
  Instrument instrument = 3;
  repeated string tags = 4;
  map<string, string> labels = 5;
  bytes client = 6;
}
message Subscribe { string symbol = 2; bytes client = 6; }
message Nothing {}
service Quotes {
  rpc Put(Quote) returns (Nothing);
  rpc Watch(Subscribe) returns (stream Quote);
  rpc Ping(Nothing) returns (Nothing);
}
"""


@pytest.fixture(scope="module")
def quotes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("protos")
    (directory / "quotes.proto").write_text(QUOTES)
    arguments = ["protoc", f"-I{directory}", f"--descriptor_set_out={directory}/quotes.pb"]
    assert protoc.main([*arguments, "--include_imports", "quotes.proto"]) == 0
    return directory


def resolve(
    match: str, *key: str, directory: Path = Path(), **more: object
) -> tuple[dict[str, list[str]], tuple[Finding, ...]]:
    route = RouteSection.model_validate({"match": match, "key": [*key], **more})
    routes, findings = resolve_routes((route,), directory)
    return {route.pattern: [str(source) for source in route.sources] for route in routes}, findings


def test_routes_without_names_stay_as_they_are() -> None:
    assert resolve("/*", "metadata:k", "field:4.1", "path", "peer") == (
        {"/*": ["metadata:k", "field:4.1", "path", "peer"]},
        (),
    )


def test_the_presets_agree_with_the_published_messages_of_the_inference_protocol() -> None:
    service = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    aliases = {"model_name": "name", "model_version": "version"}
    for method_name, fields in PRESETS[INFERENCE].items():
        message = service.methods_by_name[method_name].input_type
        for name, number in fields.items():
            published = message.fields_by_name.get(name) or message.fields_by_name[aliases[name]]
            if isinstance(number, int):
                assert (published.number, published.is_repeated) == (number, False)
            else:
                assert published.is_repeated


@pytest.mark.parametrize("service", ["GrpcFeatureServer", "feast.serving.ServingService"])
def test_feast_is_known_under_both_of_its_names(service: str) -> None:
    match = f"/{service}/GetOnlineFeatures"
    assert resolve(match, "field:feature_service") == ({match: ["field:1"]}, ())
    routes, (finding,) = resolve(match, "field:entities")
    assert routes == {}
    assert "one request asks for many entities" in finding.message


def test_a_route_for_a_service_resolves_a_name_in_each_method() -> None:
    routes, findings = resolve(f"/{INFERENCE}/*", "metadata:k", "field:model_name")
    assert findings == ()
    assert routes[f"/{INFERENCE}/ModelInfer"] == ["metadata:k", "field:1"]
    assert routes[f"/{INFERENCE}/RepositoryModelLoad"] == ["metadata:k", "field:2"]
    assert list(routes)[-1] == f"/{INFERENCE}/*"
    assert routes[f"/{INFERENCE}/*"] == ["metadata:k"]
    assert f"/{INFERENCE}/ServerLive" not in routes, "the route for the rest serves it"


def test_methods_that_no_source_gives_a_key_are_named() -> None:
    _, (finding,) = resolve(f"/{INFERENCE}/*", "field:model_name")
    assert finding.severity == "warning"
    assert "ServerLive, ServerReady, ServerMetadata" in finding.message
    _, findings = resolve(f"/{INFERENCE}/*", "field:model_name", on_missing="any")
    assert findings == ()


def test_a_descriptor_set_gives_the_numbers_of_any_service(quotes: Path) -> None:
    def run(match: str, *key: str) -> tuple[dict[str, list[str]], tuple[Finding, ...]]:
        return resolve(match, *key, directory=quotes, descriptor_set="quotes.pb")

    assert run("/quotes.Quotes/Put", "field:instrument.symbol") == (
        {"/quotes.Quotes/Put": ["field:3.7"]},
        (),
    )
    routes, (warning,) = run("/quotes.Quotes/*", "field:instrument.id", "field:symbol")
    assert routes == {
        "/quotes.Quotes/Put": ["field:3.9"],
        "/quotes.Quotes/Watch": ["field:2"],
        "/quotes.Quotes/*": ["metadata:x-hashroute-key"],
    }
    assert warning.severity == "warning"
    assert "Ping" in warning.message


@pytest.mark.parametrize(
    ("match", "key", "message", "suggestion"),
    [
        ("/quotes.Quotes/Put", "field:instrument", "is a message", '"field:instrument.id"'),
        ("/quotes.Quotes/Put", "field:tags", "is repeated", None),
        ("/quotes.Quotes/Put", "field:labels", "is a map", None),
        ("/quotes.Quotes/Put", "field:client.name", "has no fields inside it", None),
        (
            "/quotes.Quotes/Put",
            "field:instrument.symbl",
            "no field `symbl` in quotes.Instrument",
            '"field:instrument.symbol"',
        ),
        ("/quotes.Quotes/Put", "field:clent", "no field `clent`", '"field:client"'),
        ("/quotes.Quotes/*", "field:labels", "is a map", None),
        ("/quotes.Quotes/Pot", "field:client", "has no method Pot", '"/quotes.Quotes/Put"'),
        ("/quotes.Quote/*", "field:client", "does not describe", 'match = "/quotes.Quotes/*"'),
        ("/*", "field:client", "says nothing about every service", None),
    ],
)
def test_a_name_that_leads_to_no_key_is_an_error_that_explains(
    quotes: Path, match: str, key: str, message: str, suggestion: str | None
) -> None:
    routes, findings = resolve(match, key, directory=quotes, descriptor_set="quotes.pb")
    assert routes == {}
    (finding,) = findings
    assert finding.severity == "error"
    assert message in finding.message
    if suggestion is not None or "field" not in key:
        assert finding.suggestion == suggestion


def test_a_name_without_known_messages_asks_for_numbers_or_descriptors() -> None:
    _, (finding,) = resolve("/quotes.Quotes/*", "field:client")
    assert finding.expected == "field numbers, or a descriptor_set for this route"
    _, (finding,) = resolve("/inference.GrpcInferenceService/*", "field:model_name")
    assert finding.suggestion == f'match = "/{INFERENCE}/*"'


def test_a_descriptor_set_that_cannot_be_used_says_why(tmp_path: Path) -> None:
    def message(name: str) -> str:
        _, (finding,) = resolve(
            "/quotes.Quotes/Put", "field:client", directory=tmp_path, descriptor_set=name
        )
        assert finding.key == ("routes", 0, "descriptor_set")
        return finding.message

    assert "cannot read" in message("absent.pb")
    (tmp_path / "text.pb").write_text(dedent(QUOTES))
    assert "is not a descriptor set" in message("text.pb")


def test_a_descriptor_set_without_its_imports_says_how_to_make_it(tmp_path: Path) -> None:
    (tmp_path / "a.proto").write_text('syntax = "proto3"; package a; message M { string k = 1; }')
    (tmp_path / "b.proto").write_text(
        'syntax = "proto3"; package b; import "a.proto"; service S { rpc R(a.M) returns (a.M); }'
    )
    output = tmp_path / "b.pb"
    assert (
        protoc.main(["protoc", f"-I{tmp_path}", f"--descriptor_set_out={output}", "b.proto"]) == 0
    )
    assert len(FileDescriptorSet.FromString(output.read_bytes()).file) == 1
    _, (finding,) = resolve("/b.S/R", "field:k", directory=tmp_path, descriptor_set="b.pb")
    assert "--include_imports" in finding.message
