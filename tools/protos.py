"""Generates the Python modules of the wire contracts, or checks that they are up to date.

`python tools/protos.py` writes them; with `--check` it changes nothing and exits 1 if a file is
missing, differs or should not be there. A test runs the check; nobody edits what is generated.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"

# Package of the contract -> the Python package that its modules belong to. The generated modules
# import each other by the contract's package, which is not where they are installed; the file name
# inside the descriptors stays that of the contract, so that reflection shows it as published and
# another program's copy of it is no conflict.
PACKAGES = {
    "hashroute.demo.v1": "hashroute.demo._proto",
    "hashroute.v1": "hashroute._proto.v1",
}
INIT = '"""Generated from proto/ by tools/protos.py; never edited."""\n'
INITS = {
    "hashroute/_proto/__init__.py": INIT,
    "hashroute/_proto/v1/__init__.py": INIT,
    "hashroute/demo/_proto/__init__.py": INIT,
}
OUTPUT = ROOT / "python"


def main(arguments: list[str]) -> int:
    """Writes or checks the generated modules and returns the exit code."""
    wanted = generate()
    present = {
        path.relative_to(OUTPUT).as_posix()
        for package in PACKAGES.values()
        for path in (OUTPUT / package.replace(".", "/")).glob("*.py*")
        if path.is_file()
    }
    strangers = sorted(present - wanted.keys())
    stale = [name for name, text in wanted.items() if not holds(OUTPUT / name, text)]
    if "--check" in arguments:
        for name in stale:
            print(f"python/{name} is stale: run `python tools/protos.py`")
        for name in strangers:
            print(f"python/{name} belongs to no contract: remove it")
        return 1 if stale or strangers else 0
    for name in stale:
        path = OUTPUT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[name], encoding="utf-8")
        print(f"wrote python/{name}")
    for name in strangers:
        (OUTPUT / name).unlink()
        print(f"removed python/{name}")
    return 0


def generate() -> dict[str, str]:
    """Returns the text of each generated file by its path below `python/`."""
    files = dict(INITS)
    with tempfile.TemporaryDirectory() as directory:
        sources = sorted(path.relative_to(PROTO).as_posix() for path in PROTO.rglob("*.proto"))
        options = [
            *(f"--{kind}_out={directory}" for kind in ("python", "grpc_python")),
            *(f"--{kind}_out=quiet:{directory}" for kind in ("mypy", "mypy_grpc")),
        ]
        plugins = [
            f"--plugin={name}={Path(sys.executable).with_name(name)}"
            for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")
        ]
        if protoc.main(["protoc", f"-I{PROTO}", *plugins, *options, *sources]) != 0:
            raise SystemExit(2)
        for path in sorted(Path(directory).rglob("*.py*")):
            package = path.parent.relative_to(directory).as_posix().replace("/", ".")
            target = PACKAGES[package]
            text = path.read_text(encoding="utf-8")
            text = text.replace(f"from {package} import", f"from {target} import")
            files[f"{target.replace('.', '/')}/{path.name}"] = text
    return files


def holds(path: Path, text: str) -> bool:
    """Returns whether `path` exists with this text."""
    return path.exists() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
