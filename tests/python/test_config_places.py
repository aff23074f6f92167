"""Every key and value of a TOML document is found where it is written."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest
from hashroute.config.findings import KeyPath, Position
from hashroute.config.places import Places
from hypothesis import given
from hypothesis import strategies as st

DOCUMENT = '''\
# [ring] in a comment = 1
top.level = 1   # dotted

[ring]
slots = 65536
text = """
[not.a.table]
key = 1 \\""" still text"""""
raw = \'\'\'
'it' = 2\'\'\'

[pods."pod.a"]
grpc="127.0.0.1:1"
  zmq   =   'tcp://h:2'

[[routes]]
match = "/a/*"
key = [
  "path", # first ]
  "peer",
]
[routes.extra]
a = { b.c = [1, {d = 2}], "e f" = 3 }
[[routes]]
match = "/b/*"
quoted = \'\'\'ends in a quote\'\'\'\'
after = 1
'''


@pytest.mark.parametrize(
    ("path", "line", "column"),
    [
        (("top", "level"), 2, 13),
        (("ring", "slots"), 5, 9),
        (("ring", "text"), 6, 8),
        (("ring", "raw"), 9, 7),
        (("pods", "pod.a", "grpc"), 13, 6),
        (("pods", "pod.a", "zmq"), 14, 13),
        (("routes", 0, "match"), 17, 9),
        (("routes", 0, "key", 1), 20, 3),
        (("routes", 0, "extra", "a", "b", "c", 1, "d"), 23, 22),
        (("routes", 0, "extra", "a", "e f"), 23, 35),
        (("routes", 1, "match"), 25, 9),
        (("routes", 1, "after"), 27, 9),
    ],
)
def test_a_value_is_found_where_it_begins(path: KeyPath, line: int, column: int) -> None:
    assert Places(DOCUMENT).of_value(path) == Position(line=line, column=column)


@pytest.mark.parametrize(
    ("path", "line", "column"),
    [
        (("top",), 2, 1),
        (("top", "level"), 2, 5),
        (("ring",), 4, 1),
        (("pods", "pod.a"), 12, 1),
        (("pods", "pod.a", "zmq"), 14, 3),
        (("routes", 0), 16, 1),
        (("routes", 1), 24, 1),
        (("routes", 1, "absent"), 24, 1),
        (("absent",), None, None),
    ],
)
def test_a_key_is_found_or_the_nearest_table(
    path: KeyPath, line: int | None, column: int | None
) -> None:
    expected = None if line is None or column is None else Position(line=line, column=column)
    assert Places(DOCUMENT).of_key(path) == expected


def test_line_ends_of_windows_do_not_shift_places() -> None:
    places = Places(DOCUMENT.replace("\n", "\r\n"))
    assert places.of_value(("routes", 1, "match")) == Position(line=25, column=9)


class Writer:
    """Writes a document in random but valid TOML and remembers how each scalar was written."""

    def __init__(self, draw: Any) -> None:
        self._draw = draw
        self.lines: list[str] = []
        self.written: dict[KeyPath, str] = {}

    def table(self, path: KeyPath, header: str, values: dict[str, Any]) -> None:
        inner: list[str] = []
        for name, value in values.items():
            if isinstance(value, dict) or (isinstance(value, list) and _all_tables(value)):
                inner.append(name)
                continue
            self.lines.append(
                f"{self.name(name)}{self.space()}={self.space()}"
                f"{self.value((*path, name), value)}{self.space()}{self.comment()}"
            )
        for name in inner:
            dotted = f"{header}.{self.name(name)}" if header else self.name(name)
            value = values[name]
            if isinstance(value, dict):
                self.lines.append(f"{self.space()}[{self.space()}{dotted}]{self.comment()}")
                self.table((*path, name), dotted, value)
                continue
            for index, element in enumerate(value):
                self.lines.append(f"[[{dotted}]]")
                self.table((*path, name, index), dotted, element)

    def value(self, path: KeyPath, value: Any) -> str:
        if isinstance(value, dict):
            pairs = [f"{self.name(k)} = {self.value((*path, k), v)}" for k, v in value.items()]
            return "{" + f"{self.space()},".join(pairs) + "}"
        if isinstance(value, list):
            gap = self._draw(st.sampled_from(["", " ", "\n", "\n# ], comment\n"]))
            items = [f"{gap}{self.value((*path, i), v)}" for i, v in enumerate(value)]
            return "[" + ",".join(items) + gap + "]"
        raw = self.scalar(value)
        self.written[path] = raw
        return raw

    def scalar(self, value: Any) -> str:
        if isinstance(value, str):
            basic = json.dumps(value)
            choices = [basic, f'""{basic}""']
            if "'" not in value:
                choices += [f"'{value}'", f"'''{value}'''"]
            return str(self._draw(st.sampled_from(choices)))
        return json.dumps(value)

    def name(self, name: str) -> str:
        bare = name.isascii() and name.isalnum()
        return name if bare and self._draw(st.booleans()) else json.dumps(name)

    def space(self) -> str:
        return str(self._draw(st.sampled_from(["", " ", "\t "])))

    def comment(self) -> str:
        return str(self._draw(st.sampled_from(["", ' # a = "b" [c]', "\n\n# [x]"])))


def _all_tables(value: list[Any]) -> bool:
    return bool(value) and all(isinstance(item, dict) for item in value)


printable = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0x17F, exclude_characters="\x7f")
)
names = st.one_of(st.sampled_from(["a", "b", "ring", "key"]), printable.filter(bool))
scalars = st.one_of(printable, st.integers(-99, 99), st.booleans(), st.floats(-9, 9, width=16))
documents = st.dictionaries(
    names,
    st.recursive(
        scalars,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)
        ),
        max_leaves=8,
    ),
    max_size=4,
)


def scalar_paths(value: Any, path: KeyPath = ()) -> dict[KeyPath, Any]:
    if isinstance(value, dict):
        return {
            k: v
            for name, item in value.items()
            for k, v in scalar_paths(item, (*path, name)).items()
        }
    if isinstance(value, list):
        return {
            k: v for i, item in enumerate(value) for k, v in scalar_paths(item, (*path, i)).items()
        }
    return {path: value}


@given(st.data())
def test_every_value_of_any_document_is_found_where_it_was_written(data: st.DataObject) -> None:
    document = data.draw(documents)
    writer = Writer(data.draw)
    writer.table((), "", document)
    text = "\n".join(writer.lines)
    assert tomllib.loads(text) == document, "the writer of this test must write TOML"
    places = Places(text)
    lines = text.split("\n")
    for path in scalar_paths(document):
        place = places.of_value(path)
        assert place is not None
        assert path in places.paths()
        rest = "\n".join([lines[place.line - 1][place.column - 1 :], *lines[place.line :]])
        assert rest.startswith(writer.written[path])
