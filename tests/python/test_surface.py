"""The public surface: every name is meant to be public, documented, and typed."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import hashroute
import hashroute.cluster
import hashroute.pod
import pytest

PUBLIC_MODULES = [
    "hashroute",
    "hashroute.errors",
    "hashroute.router",
    "hashroute.clients.grpc",
    "hashroute.clients.zmq",
    "hashroute.cluster",
    "hashroute.pod",
    "hashroute.pod.grpc",
    "hashroute.pod.zmq",
]
# What is documented with all its members, wherever it is imported from.
PUBLIC_NAMES = [
    (module, name) for module in PUBLIC_MODULES for name in importlib.import_module(module).__all__
]


@pytest.mark.parametrize("name", PUBLIC_MODULES)
def test_what_a_module_shows_is_what_it_lists(name):
    module = importlib.import_module(name)
    shown = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    listed = set(module.__all__)
    assert listed <= shown
    if name == "hashroute":
        assert shown == listed


@pytest.mark.parametrize(("module", "name"), PUBLIC_NAMES)
def test_every_public_name_is_documented_with_all_its_members(module, name):
    value = getattr(importlib.import_module(module), name)
    if not inspect.isclass(value) or value.__module__ == "typing":
        return
    assert inspect.getdoc(value), name
    ours = [base for base in value.__mro__ if base.__module__.startswith("hashroute")]
    undocumented = [
        member
        for base in ours
        for member, held in vars(base).items()
        if not member.startswith("_")
        and (callable(held) or isinstance(held, classmethod | staticmethod | property))
        and not inspect.getdoc(getattr(base, member))
    ]
    assert undocumented == []


def test_every_public_name_is_in_the_documentation():
    text = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
    text += (Path(__file__).parents[2] / "docs" / "errors.md").read_text(encoding="utf-8")
    names = {*hashroute.__all__, *hashroute.pod.__all__, *hashroute.cluster.__all__}
    assert [name for name in sorted(names) if f"`{name}" not in text] == []


def test_the_package_is_typed():
    assert Path(hashroute.__file__).with_name("py.typed").exists()


def test_importing_the_package_imports_no_client_library():
    program = (
        "import sys, hashroute, hashroute.pod;"
        "print({'grpc', 'zmq', 'pydantic', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "set()"
