#!/usr/bin/env bash
# Runs the tests of the code with unsafe that ships under AddressSanitizer: tools/sanitize.sh PYTHON [PYTEST-ARGUMENT...]
#
# PYTHON is the interpreter of the virtual environment. The extension is built by a nightly compiler,
# instrumented and with every check of a debug build; gcc's runtime of the sanitizer is loaded first,
# and Python takes all memory from malloc, so that each object of its own has guarded borders. Leaks
# are not looked for: an interpreter leaves much behind on purpose.
#
# Exit codes: 0 nothing found, 1 a test or the sanitizer failed, 2 could not run.
set -euo pipefail
cd "$(dirname "$0")/.."

python="${1:-}"
if [ -z "$python" ] || ! command -v "$python" >/dev/null; then
    echo "sanitize.sh: needs the interpreter of the virtual environment as its first argument" >&2
    exit 2
fi
shift
if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "sanitize.sh: needs a nightly compiler: rustup toolchain install nightly" >&2
    exit 2
fi
runtime="$(gcc -print-file-name=libasan.so)"
if ! [ -f "$runtime" ]; then
    echo "sanitize.sh: needs gcc and its libasan.so" >&2
    exit 2
fi

home="$PWD/target/sanitize"
triple="$(rustc +nightly -vV | sed -n 's/^host: //p')"
RUSTFLAGS="-Zsanitizer=address" PYO3_PYTHON="$python" cargo +nightly build --quiet --locked \
    --package hashroute-bindings --features pyo3/extension-module \
    --target "$triple" --target-dir "$home" || exit 2
rm -rf "$home/python"
mkdir -p "$home/python"
cp -r python/hashroute "$home/python/"
rm -f "$home"/python/hashroute/_hashroute*.so
cp "$home/$triple/debug/lib_hashroute.so" "$home/python/hashroute/_hashroute.abi3.so"

tests=("$@")
if [ "${#tests[@]}" -eq 0 ]; then
    for name in bad_input ring ring_batch ring_plan ring_shortcut router threads; do
        tests+=("tests/python/test_$name.py")
    done
fi
# The test runner swallows what a dying process says, so the report goes into a file of its own.
rm -f "$home"/report.*
if ! LD_PRELOAD="$(realpath "$runtime")" PYTHONMALLOC=malloc PYTHONPATH="$home/python" PYTHONDONTWRITEBYTECODE=1 \
    ASAN_OPTIONS="detect_leaks=0:detect_stack_use_after_return=1:log_path=$home/report" \
    "$python" -m pytest --override-ini timeout=600 "${tests[@]}"; then
    cat "$home"/report.* >&2 2>/dev/null || true
    exit 1
fi
