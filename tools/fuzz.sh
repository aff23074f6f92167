#!/usr/bin/env bash
# Fuzzes every parser of bytes from outside, each for SECONDS (default 60): tools/fuzz.sh [SECONDS] [TARGET...]
#
# Exit codes: 0 nothing found, 1 a target failed (its input lies in fuzz/artifacts/), 2 could not run.
# Without a nightly compiler, `cargo test -p hashroute-dataplane --test fuzz` and
# `cargo test -p hashroute-quorum fuzzing` run the same bodies on a bounded number of mutated seeds.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"

seconds="${1:-60}"
shift || true
if ! [[ "$seconds" =~ ^[1-9][0-9]*$ ]]; then
    echo "fuzz.sh: SECONDS must be a whole number above zero, not '$seconds'" >&2
    exit 2
fi
if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "fuzz.sh: needs a nightly compiler for the sanitizers: rustup toolchain install nightly" >&2
    exit 2
fi
targets=("$@")
if [ "${#targets[@]}" -eq 0 ]; then
    for path in fuzz_targets/*.rs; do targets+=("$(basename "$path" .rs)"); done
fi

# What cargo-fuzz would pass. The explicit triple keeps the instrumentation out of build scripts.
triple="$(rustc +nightly -vV | sed -n 's/^host: //p')"
sancov="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
sancov+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
sancov+=" -Cllvm-args=-sanitizer-coverage-trace-compares"
RUSTFLAGS="--cfg fuzzing -Ccodegen-units=1 -Zsanitizer=address $sancov" \
    cargo +nightly build --quiet --locked --release --target "$triple" --target-dir target || exit 2

failed=()
for target in "${targets[@]}"; do
    binary="target/$triple/release/$target"
    if ! [ -x "$binary" ]; then
        echo "fuzz.sh: no target '$target': one of $(cd fuzz_targets && echo *.rs | sed 's/\.rs//g')" >&2
        exit 2
    fi
    mkdir -p "corpus/$target" "artifacts/$target"
    log="artifacts/$target/log"
    if "$binary" "corpus/$target" "seeds/$target" -artifact_prefix="artifacts/$target/" \
        -max_total_time="$seconds" -max_len=4096 -timeout=5 -rss_limit_mb=1024 -print_final_stats=1 \
        >"$log" 2>&1; then
        echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs, nothing found"
    else
        failed+=("$target")
        echo "$target: FAILED, see fuzz/$log" >&2
        tail -n 20 "$log" >&2
    fi
done
if [ "${#failed[@]}" -gt 0 ]; then
    echo "fuzz.sh: failed: ${failed[*]}" >&2
    exit 1
fi
