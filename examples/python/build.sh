#!/usr/bin/env bash
# Builds dist/app.wasm (about 20 MB, not committed) from app/*.py. Needs Python
# 3.10 or newer; the compiler comes from PyPI into a folder outside the sources.
#
#   build.sh [output.wasm]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
output=${1:-$here/dist/app.wasm}
tools=${FORERUN_BUILD_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/forerun}/python
version=0.25.1
if [ ! -x "$tools/bin/componentize-py" ] ||
  [ "$("$tools/bin/componentize-py" --version)" != "componentize-py $version" ]; then
  python3 -m venv "$tools"
  "$tools/bin/pip" install --quiet --disable-pip-version-check "componentize-py==$version"
fi
# A function that draws anew what must not be the same in all VMs (`reuse = "warm"`) exports one thing more.
world=function
if grep -q "^class Warm(" "$here/app/app.py"; then world=renewable-function; fi
mkdir -p "$(dirname "$output")"
"$tools/bin/componentize-py" --quiet --wit-path "$here/../wit" --world "$world" \
  componentize --python-path "$here/app" app --output "$output.new"
# Whoever watches the file sees a whole component or none.
mv "$output.new" "$output"
ls -l "$output"
