#!/bin/sh
# Builds and runs one fuzz target on the stable compiler: run.sh TARGET [libFuzzer options]
set -eu
target=$1
shift
cd "$(dirname "$0")"
RUSTFLAGS="--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares" \
    cargo build --release --target "$(rustc -vV | sed -n 's/^host: //p')" --bin "$target"
mkdir -p "target/corpus/$target"
exec "target/$(rustc -vV | sed -n 's/^host: //p')/release/$target" "target/corpus/$target" "$@"
