#!/usr/bin/env bash
# Builds dist/app.wasm (about 13 MB, not committed) from src/*.js. Needs Node 20
# or newer; the compiler comes from npm into a folder outside the sources.
#
#   build.sh [output.wasm]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
output=${1:-$here/dist/app.wasm}
tools=${FORERUN_BUILD_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/forerun}/js
mkdir -p "$tools" "$(dirname "$output")"
if ! cmp -s "$here/package.json" "$tools/package.json" || [ ! -x "$tools/node_modules/.bin/componentize-js" ]; then
  cp "$here/package.json" "$tools/package.json"
  npm install --prefix "$tools" --no-package-lock --no-audit --no-fund --loglevel=error
fi
# This engine (StarlingMonkey) exports the handler of WASI 0.2.10 by that exact
# name. Nothing the world uses changed since 0.2.4, so the packages are renumbered.
rm -rf "$tools/wit"
cp -R "$here/../wit" "$tools/wit"
find "$tools/wit" -name '*.wit' -exec sed -i.bak 's/@0\.2\.4/@0.2.10/g' {} +
find "$tools/wit" -name '*.bak' -delete
# componentize-js takes absolute paths only.
"$tools/node_modules/.bin/componentize-js" --wit "$tools/wit" --world-name function \
  --out "$output.new" "$here/src/app.js"
# Whoever watches the file sees a whole component or none.
mv "$output.new" "$output"
ls -l "$output"
