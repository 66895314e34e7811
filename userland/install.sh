#!/usr/bin/env bash
# Installs pidlist with its man page, completions and service, and the module if one was built for this kernel:
#   PREFIX=/usr/local DESTDIR= install.sh
set -euo pipefail
cd "$(dirname "$0")/.."

root=${DESTDIR-}
prefix=$root${PREFIX:-/usr/local}
install=(install -D -m 644)
run=()
if [[ ! -w ${root:-/} && $EUID -ne 0 ]]; then run=(sudo); fi

[[ -e target/bpf/pidlist.bpf.o ]] || qemu/build-bpf.sh >/dev/null
cargo build --release --package pidlist
binary=target/release/pidlist
pages=$(mktemp -d)
trap 'rm -rf "$pages"' EXIT
"$binary" man >"$pages/pidlist.1"
"$binary" completions bash >"$pages/pidlist"
"$binary" completions zsh >"$pages/_pidlist"
"$binary" completions fish >"$pages/pidlist.fish"
sed "s|/usr/local|${PREFIX:-/usr/local}|" userland/daemon/pidlist.service >"$pages/pidlist.service"

"${run[@]}" install -D -m 755 "$binary" "$prefix/bin/pidlist"
"${run[@]}" "${install[@]}" "$pages/pidlist.1" "$prefix/share/man/man1/pidlist.1"
"${run[@]}" "${install[@]}" "$pages/pidlist" "$prefix/share/bash-completion/completions/pidlist"
"${run[@]}" "${install[@]}" "$pages/_pidlist" "$prefix/share/zsh/site-functions/_pidlist"
"${run[@]}" "${install[@]}" "$pages/pidlist.fish" "$prefix/share/fish/vendor_completions.d/pidlist.fish"
"${run[@]}" "${install[@]}" "$pages/pidlist.service" "$prefix/lib/systemd/system/pidlist.service"
echo "installed $prefix/bin/pidlist; start its daemon with: systemctl enable --now pidlist"
if module=$(rust_pidlist/module.sh built 2>/dev/null); then
    target=$root/lib/modules/$(uname -r)/updates/rust_pidlist.ko
    "${run[@]}" "${install[@]}" "$module" "$target"
    [[ -n $root ]] || "${run[@]}" depmod
    echo "installed $target; load it with: modprobe rust_pidlist"
else
    echo "no module for kernel $(uname -r) was built; pidlist works without, see: pidlist doctor"
fi
