#!/usr/bin/env bash
# Builds the Rust components of one workspace and copies them to its components/.
#
#   build-rust.sh <workspace folder> <crate>...
#
# Needs Rust 1.87 or newer and `rustup target add wasm32-wasip2`. More flags for
# cargo go in FORERUN_CARGO_FLAGS.
set -euo pipefail
cd "$1"
shift
cargo fetch --locked
# Panic messages carry source paths: name the crate, not the builder's home.
flags=${RUSTFLAGS:-}
for source in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/; do
  flags+=" --remap-path-prefix=${source%/}=crates"
done
# shellcheck disable=SC2086 # several flags, split on purpose
RUSTFLAGS="$flags --remap-path-prefix=$PWD=." \
  cargo build --release --locked --target wasm32-wasip2 ${FORERUN_CARGO_FLAGS:-}
mkdir -p components
for crate in "$@"; do
  cp "${CARGO_TARGET_DIR:-target}/wasm32-wasip2/release/${crate//-/_}.wasm" "components/$crate.wasm"
done
ls -l components
