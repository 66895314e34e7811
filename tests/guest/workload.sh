#!/bin/sh
# Starts COUNT short-lived processes with different arguments and exit codes, and prints how many it
# started: workload.sh COUNT
count=$1 started=0
while [ "$started" -lt "$count" ]; do
    /bin/sh -c "exit $((started % 4))" "task-$started"
    started=$((started + 1))
done
echo "$started"
