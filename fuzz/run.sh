#!/bin/sh
# Builds and runs one fuzz target on the stable compiler: run.sh TARGET [libFuzzer options]
# What is new goes to target/corpus/TARGET, what was found to target/artifacts; it starts from seeds/TARGET. Paths are below fuzz/.
set -eu
target=$1
shift
cd "$(dirname "$0")"
host=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS="--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares" \
    cargo build --release --locked --target "$host" --bin "$target"
mkdir -p "target/corpus/$target" target/artifacts
program=target/$host/release/$target
# With inputs named, just those are run.
for option in "$@"; do
  if [ -f "$option" ]; then exec "$program" "$@"; fi
done
exec "$program" -artifact_prefix="target/artifacts/$target-" "$@" "target/corpus/$target" "seeds/$target"
