#!/usr/bin/env bash
# Tests the extension under a free-threaded CPython: tools/free_threaded.sh PYTHON [PYTEST-ARGUMENT...]
#
# PYTHON is python3.14t, or any other interpreter that was configured with --disable-gil; also 3.13t,
# which PyO3 still lays out correctly but refuses to build for unless it is told not to look.
# Builds into target/free-threaded, runs the tests that need no more than NumPy (grpcio has no wheels
# for such interpreters), then shows how `Ring.owner` scales over threads.
#
# Exit codes: 0 held, 1 a test failed, 2 could not run.
set -euo pipefail
cd "$(dirname "$0")/.."

python="${1:-}"
if [ -z "$python" ] || ! command -v "$python" >/dev/null; then
    echo "free_threaded.sh: needs a free-threaded CPython as its first argument, such as python3.14t" >&2
    exit 2
fi
shift
if [ "$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("Py_GIL_DISABLED"))')" != 1 ]; then
    echo "free_threaded.sh: $python was not built with --disable-gil" >&2
    exit 2
fi

home="target/free-threaded"
venv="$home/venv"
if ! [ -x "$venv/bin/python" ]; then
    "$python" -m venv "$venv"
fi
"$venv/bin/python" -m pip install --quiet --only-binary :all: hypothesis maturin numpy pymemcache pytest \
    pytest-asyncio pytest-benchmark pytest-timeout uhashring xxhash || exit 2
if "$python" -c 'import sys; sys.exit(sys.version_info >= (3, 14))'; then
    export UNSAFE_PYO3_SKIP_VERSION_CHECK=1
fi
rm -rf "$home/wheels"
CARGO_TARGET_DIR="$home" "$venv/bin/maturin" build --release --quiet \
    --interpreter "$venv/bin/python" --out "$home/wheels" || exit 2
"$venv/bin/python" -m pip install --quiet --no-deps --force-reinstall "$home"/wheels/*.whl || exit 2

files=()
for name in adapters bad_input ring ring_html ring_plan ring_properties ring_shortcut router slots threads vectors; do
    files+=("tests/python/test_$name.py")
done
"$venv/bin/python" -m pytest "${files[@]}" "$@" || exit 1
"$venv/bin/python" -m benches.python.threads
