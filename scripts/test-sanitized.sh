#!/usr/bin/env bash
# The native tests under AddressSanitizer and UndefinedBehaviorSanitizer. A test runs on one core, so two processes share
# them. What failed is named again at the end, where a long log is read.
set -u
cd "$(dirname "$0")/.."

cmake -S native -B build/sanitize -DTANDEM_SANITIZE=address,undefined -DTANDEM_TESTS=ON -DTANDEM_ADDON=OFF &&
  cmake --build build/sanitize --parallel 2 --target tandem-tests || exit 1
share() {
  build/sanitize/test/tandem-tests --share "$1/2" >"build/sanitize/$1.log" 2>&1
}
share 1 &
share 2
second=$?
wait $!
first=$?
cd build/sanitize || exit 1
cat 1.log 2.log
grep -h -E '^FAIL|^SUMMARY: |runtime error: ' 1.log 2.log | sed 's/^/FAILED: /'
[ "$first" -eq 0 ] && [ "$second" -eq 0 ] && exit
printf 'FAILED: the two halves ended with %s and %s\n' "$first" "$second"
exit 1
