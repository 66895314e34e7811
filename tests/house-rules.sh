#!/usr/bin/env bash
# What no compiler checks here: where the module's `unsafe` may be, and that no file names a registry's host.
set -euo pipefail
cd "$(dirname "$0")/.."
failed=0

complain() {
    printf '%s:\n%s\n' "$1" "$2"
    failed=1
}

# The kernel builds these without clippy, which denies it for the rest.
module=(rust_pidlist ':!rust_pidlist/tests')
stray=$(git grep -nE '\bunsafe\b' -- "${module[@]}" ':!rust_pidlist/sys' ':!rust_pidlist/tree/link.rs' |
    grep -vE ':[0-9]+:\s*//|unsafe_code' || true)
[[ -z $stray ]] || complain "unsafe outside of rust_pidlist/sys and tree/link.rs" "$stray"

# Every unsafe block, impl and callback has its reason just above it.
# shellcheck disable=SC2016 # awk's own
bare=$(git ls-files -- 'rust_pidlist/sys/*.rs' rust_pidlist/tree/link.rs | xargs awk '
    FNR == 1 { reason = -9 }
    /SAFETY:|# Safety/ { reason = FNR }
    /unsafe (\{|impl|extern "C" fn [a-z])/ && !/^ *\/\// && FNR - reason > 5 { print FILENAME ":" FNR ": " $0 }')
[[ -z $bare ]] || complain "unsafe without a SAFETY comment" "$bare"

hosts=$(git grep -nIE 'https?://[a-z0-9.-]*(debian|crates|pypi|pythonhosted|npmjs)[a-z0-9.-]*' -- . ':!Cargo.lock' || true)
[[ -z $hosts ]] || complain "the name of a registry's host" "$hosts"

exit $failed
