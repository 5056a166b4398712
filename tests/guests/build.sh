#!/usr/bin/env bash
# Rebuilds components/*.wasm from the sources beside this file.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
exec "$here/../../examples/build-rust.sh" "$here" aged escape misbehave steady
