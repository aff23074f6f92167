"""Checks the rules that no linter knows: sizes, to-dos, banned words, safe roots, stray paths.

Run by `make verify`; exits 1 with one line a violation. Each limit has its reason beside it.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# A file past this has a second idea in it (docs/style.md). The exceptions say why they are one.
FILE_LINES_MAX = 600
FILE_EXCEPTIONS: dict[str, str] = {}
FUNCTION_LINES_MAX = 70  # a function fits on a screen; clippy keeps the same limit for Rust

SANS_IO = ("rust/core", "rust/coordination", "rust/dataplane")

BANNED = {
    r"\bTODO\b|\bFIXME\b|\bXXX\b": "finish it, or list it under the changelog's known gaps",
    r"\btodo!\(|\bunimplemented!\(|raise NotImplementedError": "no stubs",
    r"#\[ignore|pytest\.mark\.(skip|xfail)|pytest\.skip\(": "a skipped test is a defect",
    r"type: ignore(?!\[)": "name the mypy code that is ignored",
    r"\bsleep\(0\.\d+\)\s*#\s*wait": "wait for a condition",
    r"except( Exception| BaseException)?:\s*pass\b": "no swallowed errors",
}
SLEEP_FREE = re.compile(r"\b(time|asyncio|thread)(\.|::)sleep\(")


def main() -> int:
    """Prints every violation and returns the exit code."""
    violations: list[str] = []
    sources = [path for path in tracked() if path.suffix in {".rs", ".py"} and not generated(path)]
    for path in sources:
        text = (ROOT / path).read_text(encoding="utf-8")
        violations += check_size(path, text)
        violations += check_words(path, text)
        if path.suffix == ".py":
            violations += check_functions(path, text)
    violations += check_unsafe_roots()
    for violation in violations:
        print(violation, file=sys.stderr)
    print(f"tidy: {len(sources)} files, {len(violations)} violations")
    return 1 if violations else 0


def tracked() -> list[Path]:
    """Returns the files that git tracks or would track."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [Path(line) for line in listing.splitlines() if (ROOT / line).is_file()]


def generated(path: Path) -> bool:
    """Returns whether a tool wrote `path`."""
    return "_pb2" in path.name


def check_size(path: Path, text: str) -> list[str]:
    """Returns a violation if the file is too long."""
    lines = text.count("\n")
    if lines <= FILE_LINES_MAX or str(path) in FILE_EXCEPTIONS:
        return []
    return [f"{path}: {lines} lines, at most {FILE_LINES_MAX}: find the second idea in it"]


def check_words(path: Path, text: str) -> list[str]:
    """Returns a violation for each banned phrase."""
    if path == Path("tools/tidy.py"):
        return []
    violations = []
    is_test = path.parts[0] == "tests" or "tests" in path.parts
    for number, line in enumerate(text.splitlines(), start=1):
        for pattern, reason in BANNED.items():
            if re.search(pattern, line):
                violations.append(f"{path}:{number}: {line.strip()[:60]!r}: {reason}")
        if is_test and SLEEP_FREE.search(line) and "poll" not in line:
            violations.append(f"{path}:{number}: a sleep in a test: wait for a condition")
    return violations


def check_functions(path: Path, text: str) -> list[str]:
    """Returns a violation for each Python function that does not fit on a screen."""
    violations = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            lines = node.end_lineno - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                violations.append(f"{path}:{node.lineno}: {node.name} has {lines} lines")
    return violations


def check_unsafe_roots() -> list[str]:
    """Returns a violation for each deciding room that does not forbid unsafe code."""
    return [
        f"{room}/src/lib.rs: a room that decides forbids unsafe code"
        for room in SANS_IO
        if "#![forbid(unsafe_code)]" not in (ROOT / room / "src/lib.rs").read_text(encoding="utf-8")
    ]


if __name__ == "__main__":
    sys.exit(main())
