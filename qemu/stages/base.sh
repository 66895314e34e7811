#!/usr/bin/env bash
# A minimal trixie with backports, from the host's own mirror: what both build roots start from.
set -euo pipefail
# shellcheck source=qemu/lib.sh
source "$(dirname "$0")/../lib.sh"
out=$1

# The URI the host's apt takes Debian from, whatever format its sources are written in.
mirror() {
    # shellcheck disable=SC2016 # apt's own variables
    apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        sed -n 's,^Debian|Debian|\(https\?://.*\)$,\1,p' | head -n 1
}

bootstrap() {
    local uri
    uri=$(mirror)
    # Without a mirror debootstrap takes its own default.
    debootstrap --variant=minbase --include=ca-certificates trixie "$out" ${uri:+"$uri"}
}

configure() {
    local uri file
    uri=$(awk '$1 == "deb" { print $2; exit }' "$out/etc/apt/sources.list")
    printf 'deb %s %s main\n' "$uri" trixie "$uri" trixie-updates "$uri" trixie-backports \
        >"$out/etc/apt/sources.list"
    # Some machines reach their mirror only with settings of their own (proxy, dates, pins).
    for file in /etc/apt/apt.conf /etc/apt/apt.conf.d/*; do
        if [[ -f $file ]] && grep -qi 'Acquire::' "$file"; then
            cp "$file" "$out/etc/apt/apt.conf.d/50host-$(basename "$file")"
        fi
    done
    printf 'APT::Install-Recommends "false";\nAcquire::Retries "3";\nAcquire::Languages "none";\n' \
        >"$out/etc/apt/apt.conf.d/90pidlist"
    # A half-written root is thrown away whole: fsync and documentation are wasted time here.
    printf 'force-unsafe-io\npath-exclude=/usr/share/doc/*\npath-exclude=/usr/share/man/*\npath-exclude=/usr/share/locale/*\n' \
        >"$out/etc/dpkg/dpkg.cfg.d/pidlist"
    in_root "$out" -- apt-get update
    rm -rf "$out"/var/cache/apt/archives/*.deb
}

step base "bootstrap trixie" bootstrap
step base "add backports" configure
