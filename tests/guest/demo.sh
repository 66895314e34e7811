#!/bin/sh
# What pidlist is for, in a minute: `make run` shows this. It fails unless every process was seen.
#   demo.sh [COUNT]
count=${1:-2000}
tests=$(dirname "$0")
dir=$(mktemp -d)
failed=0

title() {
    printf '\n\033[1m%s\033[0m\n' "$*"
}

title "This machine"
pidlist doctor || failed=1

# Two views of the same processes, of which the inner one starts them when both are watching.
pidlist clear && pidlist follow on >/dev/null || failed=1
pidlist ps --exited --of-command --max-age 10ms -- sh -c "
    exec pidlist ps --exited --of-command -- $tests/workload.sh $count $dir >$dir/all" >"$dir/short" &
views=$!

while [ "$(pidlist list | wc -l)" -lt 5 ]; do :; done
title "The tracked tree, while it works: $(pidlist list | wc -l) members"
pidlist tree --tracked || failed=1
wait "$views" || failed=1

title "Processes that lived under 10 ms: the last 12 of $(grep -c task- "$dir/short")"
head -n 1 "$dir/short"
grep task- "$dir/short" | tail -n 12

started=$(($(cat "$dir/started.1") + $(cat "$dir/started.2")))
seen=$(grep -c task- "$dir/all")
title "Started by the workload: $started, seen with arguments and exit code: $seen, lost: $((started - seen))"
tail -n 1 "$dir/all"
[ "$started" = "$count" ] && [ "$seen" = "$started" ] && grep -q 'lost: 0;' "$dir/all" || failed=1

title "The PID set"
pidlist stats -l default || failed=1
[ -z "$(pidlist list)" ] || {
    echo "members are left: $(pidlist list)"
    failed=1
}

title "The largest slab caches"
pidlist slabs --top 8 || failed=1

title "The audit"
pidlist audit || failed=1

rm -r "$dir"
exit $failed
