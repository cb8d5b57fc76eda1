#!/usr/bin/env bash
# Runs every fuzz target of the repository, one after another, for the time given (default 30s).
set -euo pipefail
cd "$(dirname "$0")/.."
. ./toolchain.env
export GOTOOLCHAIN
time=${1:-30s}
grep -rlE '^func Fuzz[A-Z]' --include='*_test.go' . | xargs -n1 dirname | sort -u | while read -r dir; do
  (cd "$dir" && grep -hoE '^func Fuzz[A-Za-z0-9_]+' ./*_test.go | awk '{print $2}' | sort -u | while read -r target; do
    echo "== $dir $target"
    go test -run '^$' -fuzz "^${target}\$" -fuzztime "$time" .
  done)
done
