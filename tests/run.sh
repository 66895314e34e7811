#!/usr/bin/env bash
# Runs checks, one line each, logs in target/test; the last line is the sum: "N passed, M failed".
#   run.sh <part>…         parts: lint host guest rt debug harness soak
# Exit code: 0 when nothing failed, 1 when something did, 2 when the machine could not be set up.
# shellcheck disable=SC2317 # takes functions for unreachable where a script ends in exit
set -euo pipefail
cd "$(dirname "$0")/.."
logs=target/test
mkdir -p "$logs"

passed=0 failed=0 skipped=0

# check <name> <command>…: a command that says how many tests it ran (as cargo does) counts as those
# tests, another as one.
check() {
    local name=$1 log=${1//[^a-zA-Z]/-} start=$SECONDS status=0 counts p f s
    log=$logs/${log//--/-}.log
    shift
    [[ ! -t 1 ]] || printf '   %s … (log: %s)' "$name" "$log"
    "$@" >"$log" 2>&1 </dev/null || status=$?
    counts=$(awk '/^test result: / { p += $4; f += $6; s += $8; n++ } END { if (n) print p, f, s }' "$log")
    read -r p f s <<<"${counts:-$((status == 0)) 0 0}"
    [[ $status -eq 0 || $f -gt 0 ]] || f=1
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    [[ ! -t 1 ]] || printf '\r\033[K'
    if [[ $f -eq 0 ]]; then
        printf ' ✓ %-45s %4d passed %5d s\n' "$name" "$p" $((SECONDS - start))
    else
        printf ' ✗ %-45s %4d failed %5d s   the end of %s:\n' "$name" "$f" $((SECONDS - start)) "$log"
        tail -n 40 "$log" | sed 's/^/    /'
    fi
}

skip() {
    skipped=$((skipped + 1))
    printf ' - %-45s skipped: %s\n' "$1" "$2"
}

# red <name> <what it has to say> <command>…: passes when the command fails, for the right reason.
red() {
    local name=$1 reason=$2
    shift 2
    check "$name" expect_red "$reason" "$@"
}

expect_red() {
    local reason=$1 output status=0
    shift
    output=$("$@" 2>&1) || status=$?
    printf '%s\n' "$output" | sed 's/^test result/(&)/'
    if [[ $status -ne 1 ]]; then
        echo "expected exit code 1, got $status"
        return 1
    fi
    grep -qE "$reason" <<<"$output" || {
        echo "expected to read: $reason"
        return 1
    }
}

cargo=qemu/cargo.sh

lint() {
    if "$cargo" fmt --version >/dev/null 2>&1; then
        check "cargo fmt" "$cargo" fmt --all --check
    else
        skip "cargo fmt" "not installed"
    fi
    if "$cargo" clippy --version >/dev/null 2>&1; then
        check "cargo clippy" "$cargo" clippy --all-targets -- -D warnings
    else
        skip "cargo clippy" "not installed"
    fi
    check "house rules" tests/house-rules.sh
    if command -v shellcheck >/dev/null; then
        mapfile -t scripts < <(git ls-files -co --exclude-standard | xargs grep -lE '^#!.*\<(ba)?sh\>')
        check "shellcheck" shellcheck --external-sources "${scripts[@]}"
    else
        skip "shellcheck" "not installed"
    fi
}

host() {
    lint
    check "cargo test" "$cargo" test --no-fail-fast
    if [[ $EUID -eq 0 ]]; then
        check "who may ask the daemon" "$cargo" test --package pidlist --test daemon -- --ignored
    else
        skip "who may ask the daemon" "not root"
    fi
    check "tree: loom" env RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom \
        "$cargo" test --package pidlist-tree --release --test tree
    if cargo +nightly --version >/dev/null 2>&1; then
        check "tree: AddressSanitizer" env RUSTFLAGS=-Zsanitizer=address CARGO_TARGET_DIR=target/asan \
            cargo +nightly test --package pidlist-tree --target x86_64-unknown-linux-gnu
    else
        skip "tree: AddressSanitizer" "no nightly toolchain"
    fi
    if command -v c++ >/dev/null; then
        check "fuzz the parsers, 10 s each" tests/fuzz.sh 10
    else
        skip "fuzz the parsers" "no C++ compiler"
    fi
    if cargo +nightly miri --version >/dev/null 2>&1; then
        check "tree: Miri" env CARGO_TARGET_DIR=target/miri cargo +nightly miri test --package pidlist-tree
    else
        skip "tree: Miri" "not installed"
    fi
}

# The longest test says nothing for two minutes, or more where the machine is busy.
guest() {
    check "guest" qemu/guest.sh tests --tests --timeout 2400 --idle 400 -- guest-tests
    check "set in the kernel" rust_pidlist/tests/kernel/run.sh
}

# The same with a kernel that preempts nearly everything; the lives that BPF sees are tried in the stock one.
rt() {
    check "guest: real-time kernel" env KERNEL=7.2-rt \
        qemu/guest.sh rt --tests --timeout 1200 --idle 400 -- guest-tests '!lives:'
    check "set in the kernel: real-time kernel" env KERNEL=7.2-rt rust_pidlist/tests/kernel/run.sh
}

# The same with a kernel that checks every access, lock and allocation, and looks for leaks in the end.
debug() {
    check "guest: debug kernel" env KERNEL=7.2-debug \
        qemu/guest.sh debug --tests --timeout 3600 --idle 900 --env PIDLIST_LOADS=500 -- guest-tests '!lives:'
    check "set in the kernel: debug kernel" env KERNEL=7.2-debug \
        rust_pidlist/tests/kernel/run.sh operations="${PIDLIST_OPERATIONS:-1000000}"
}

# For hours, what takes hours.
soak() {
    check "soak: debug kernel" env KERNEL=7.2-debug \
        qemu/guest.sh soak --tests --patience 1 --timeout 21600 --idle 3600 --env "PIDLIST_SOAK=${PIDLIST_SOAK:-1}" --env PIDLIST_LOADS=2000 \
        -- guest-tests
    check "soak: set in the kernel" env KERNEL=7.2-debug rust_pidlist/tests/kernel/run.sh operations=100000000
}

# Runs a part beside the others, where several boot guests: an emulator keeps one processor busy, not two.
start_beside() {
    [[ -z $beside_pid ]] || return 0
    # Built once, before two runs want to.
    check "build the userland" qemu/build-userland.sh
    [[ -n $beside ]] || return 0
    TESTS_BUILT=1 "$0" "$beside" >"$logs/beside.out" 2>&1 &
    beside_pid=$!
}

finish_beside() {
    local p f
    [[ -n $beside_pid ]] || return 0
    wait "$beside_pid" || true
    head -n -1 "$logs/beside.out"
    read -r p _ f _ < <(tail -n 1 "$logs/beside.out")
    [[ $p =~ ^[0-9]+$ ]] || p=0 f=1
    passed=$((passed + p)) failed=$((failed + f))
}

# The harness itself: whatever goes wrong in a guest has to turn its run red.
harness() {
    local module ktap
    export GUEST_MODULE=
    check "harness: build splat.ko" qemu/build-module.sh qemu/splat
    module=$(qemu/build-module.sh qemu/splat 2>/dev/null) || return 0
    for kind in warning oops panic; do
        red "harness: sees a kernel $kind" "the kernel (complained|is lost).*\($kind\)|the kernel is lost: Kernel panic" \
            qemu/guest.sh harness --file "$module:/splat.ko" -- sh -c "insmod /splat.ko kind=$kind; exit 0"
    done
    red "harness: sees a guest that hangs" "no output on any channel for 5 s" \
        qemu/guest.sh harness --idle 5 -- sleep 1000
    # shellcheck disable=SC2016 # expanded in the guest
    ktap='printf "KTAP version 1\n1..3\nok 1 a\n%s" "$0" >$PIDLIST_RESULTS'
    red "harness: sees a failed test" "1 tests failed" \
        qemu/guest.sh harness --tests -- sh -c "$ktap" $'not ok 2 b\nok 3 c\n'
    red "harness: sees a missing result" "2 tests failed" qemu/guest.sh harness --tests -- sh -c "$ktap" ''
    red "harness: sees that there are no tests" "reported no tests" qemu/guest.sh harness --tests -- true
    red "harness: passes the exit code on" "exit code 1" qemu/guest.sh harness -- false
    check "harness: is content with a clean guest" \
        qemu/guest.sh harness -- sh -c "$ktap" $'ok 2 b\nok 3 c # SKIP no need\n'
}

# In braces, so that bash has read all of this file before it runs for minutes: it may be edited meanwhile.
{
    [[ $# -gt 0 ]] || set -- host guest rt harness debug
    kernels=() guests=() beside='' beside_pid=''
    for part in "$@"; do
        case $part in
            lint | host) ;;
            guest | harness) guests+=("$part") ;;
            rt) guests+=("$part") kernels+=(7.2-rt) ;;
            debug | soak) guests+=("$part") kernels+=(7.2-debug) ;;
            *)
                printf 'tests/run.sh: unknown part %s; parts: lint host guest rt debug harness soak\n' "$part" >&2
                exit 2
                ;;
        esac
    done
    # The last one: it is the longest in `make test`.
    [[ ${#guests[@]} -lt 2 ]] || beside=${guests[-1]}
    if [[ "$*" != lint && -z ${TESTS_BUILT-} ]]; then
        # First, because the userland embeds the BPF object, and a machine without cargo takes it from a root.
        qemu/setup.sh
        for kernel in "${kernels[@]}"; do KERNEL=$kernel qemu/setup.sh; done
        check "build the BPF programs" qemu/build-bpf.sh
    fi
    for part in "$@"; do
        [[ $part == lint || $part == host || -n ${TESTS_BUILT-} ]] || start_beside
        [[ $part == "$beside" ]] || "$part"
    done
    finish_beside
    [[ $skipped -eq 0 ]] || printf '\n%d skipped\n' "$skipped"
    printf '%d passed, %d failed\n' "$passed" "$failed"
    exit $((failed > 0))
}
