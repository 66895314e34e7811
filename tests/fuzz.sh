#!/usr/bin/env bash
# Fuzzes the parsers, each target for so many seconds:
#   fuzz.sh [seconds]     (60)
# What it found interesting is kept in target/fuzz/corpus for the next time; tests/fuzz/seeds are where it
# starts, and every input there once broke something or could have. Takes a C++ compiler, for libFuzzer.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
triple=x86_64-unknown-linux-gnu
kept=$PWD/target/fuzz

command -v c++ >/dev/null || {
    printf 'fuzz.sh: libFuzzer is C++, and there is no C++ compiler here\n' >&2
    exit 2
}

# What `cargo fuzz` asks of rustc, but for the sanitizers, which a stable one does not have: the parsers
# have no unsafe code for them to look at.
flags=(-Cpasses=sancov-module -Ccodegen-units=1 --cfg fuzzing
    -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares)
# With a target named, build scripts are spared the flags.
RUSTFLAGS="${flags[*]}" CARGO_TARGET_DIR=$kept qemu/cargo.sh build --release --locked --target "$triple" \
    --manifest-path tests/fuzz/Cargo.toml

failed=0
for target in text name cli request; do
    corpus=$kept/corpus/$target
    found=$kept/found/$target-
    log=$kept/$target.log
    mkdir -p "$corpus" "$kept/found"
    echo "== $target, $seconds s"
    if ! "$kept/$triple/release/$target" -max_total_time="$seconds" -max_len=512 -timeout=10 -verbosity=1 \
        -print_final_stats=1 -artifact_prefix="$found" "$corpus" "tests/fuzz/seeds/$target" >"$log" 2>&1; then
        failed=1
        tail -n 40 "$log"
        echo "fuzz.sh: $target failed; what broke it is $found…: put it into tests/fuzz/seeds/$target"
        continue
    fi
    # Without counters in the parsers it would guess blindly, and be content.
    if ! grep -q 'inline 8-bit counters' "$log"; then
        failed=1
        echo "fuzz.sh: $target was built without coverage"
    fi
    grep -E '^stat::number_of_executed_units|DONE' "$log"
done
exit $failed
