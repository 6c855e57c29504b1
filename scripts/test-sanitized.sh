#!/usr/bin/env bash
# The native tests under AddressSanitizer and UndefinedBehaviorSanitizer. A test runs on one core, so two processes share
# them.
set -u
cd "$(dirname "$0")/.."

cmake -S native -B build/sanitize -DTANDEM_SANITIZE=address,undefined -DTANDEM_TESTS=ON -DTANDEM_ADDON=OFF &&
  cmake --build build/sanitize --parallel 2 --target tandem-tests || exit 1
tests=build/sanitize/test/tandem-tests
"$tests" --share 1/2 >build/sanitize/first.log 2>&1 &
first=$!
"$tests" --share 2/2
second=$?
wait "$first"
first=$?
cat build/sanitize/first.log
[ "$first" -eq 0 ] && [ "$second" -eq 0 ]
