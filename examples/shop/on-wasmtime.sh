#!/usr/bin/env bash
# Runs the same components, unmodified, on `wasmtime serve`: one server and one
# port for each function (8101 and up), which find one another by <NAME>_URL.
# WASMTIME names the binary. Ctrl-c stops them.
set -euo pipefail
cd "$(dirname "$0")"
functions=(storefront catalog cart checkout stock payment receipt)
environment=() servers=()
port=8101
for function in "${functions[@]}"; do
  environment+=(--env "${function^^}_URL=http://127.0.0.1:$port")
  port=$((port + 1))
done
trap 'kill "${servers[@]}"' EXIT
port=8101
for function in "${functions[@]}"; do
  "${WASMTIME:-wasmtime}" serve -Scli -Shttp -Sconfig -Skeyvalue "${environment[@]}" \
    --addr "127.0.0.1:$port" "components/$function.wasm" &
  servers+=($!)
  port=$((port + 1))
done
wait
