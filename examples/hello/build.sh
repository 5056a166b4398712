#!/usr/bin/env bash
# Rebuilds components/*.wasm from the sources beside this file.
# Needs Rust 1.87 or newer with `rustup target add wasm32-wasip2`.
# FORERUN_CARGO_FLAGS passes more flags to cargo.
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck disable=SC2086 # several flags, split on purpose
cargo build --release --locked --target wasm32-wasip2 ${FORERUN_CARGO_FLAGS:-}
built=${CARGO_TARGET_DIR:-target}/wasm32-wasip2/release
mkdir -p components
cp "$built/hello.wasm" components/hello.wasm
cp "$built/hello_p3.wasm" components/hello-p3.wasm
ls -l components
