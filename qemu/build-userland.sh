#!/usr/bin/env bash
# Builds what runs in the guest, and the runner that boots it, as static binaries; prints their directory.
# Static: the guest has no libraries, and a build root's libc may be newer than the host's.
set -euo pipefail
# shellcheck source=qemu/lib.sh
source "$(dirname "$0")/lib.sh"

cd "$checkout"
target=x86_64-unknown-linux-gnu
RUSTFLAGS="-C target-feature=+crt-static" CARGO_TARGET_DIR=$checkout/target/guest \
    "$qemu/cargo.sh" build --release --target "$target" \
    --package pidlist-vm --package pidlist --package pidlist-tests >&2
echo "$checkout/target/guest/$target/release"
