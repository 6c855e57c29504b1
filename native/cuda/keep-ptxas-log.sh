#!/bin/sh
# Runs a compiler. What ptxas says of each kernel (-Xptxas -v) goes to OBJECT.ptxas, for ptxas-report.py; the rest
# to standard error, as before.
object=
previous=
for argument; do
  [ "$previous" = -o ] && object=$argument
  previous=$argument
done
"$@" 2>"$object.ptxas"
status=$?
grep -vE '^ptxas info|bytes stack frame' "$object.ptxas" >&2
exit $status
