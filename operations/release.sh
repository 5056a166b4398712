#!/usr/bin/env bash
# Builds a release on a fresh machine: the stripped binary, in an archive with its documentation, unit, completions and
# licence, and the archive's SHA-256 beside it.
#
#   operations/release.sh [FOLDER]        writes FOLDER/forerun-VERSION-TARGET.tar.gz; default dist/
#
# Needs Rust 1.95 (rustup or a distribution's), a C compiler, tar, gzip and sha256sum. The binary is static where the
# compiler has a musl target for this processor and `musl-gcc` is there (Debian's package musl-tools); rustup is asked for
# the target. Where it cannot be had, the binary needs the system's C library, of this version or later, and that is said.
#
# FORERUN_TARGET names a target instead. FORERUN_BINARY packs a binary that was built before.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=${1:-dist}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
host=$(rustc -vV | sed -n 's/^host: //p')
static=${host%%-*}-unknown-linux-musl

say() {
  printf '%s\n' "$*" >&2
}

# Whether the compiler has the standard library of a target.
has_target() {
  [ -d "$(rustc --print target-libdir --target "$1" 2>/dev/null)" ]
}

# Prints the target to build for, and says why.
choose_target() {
  if [ -n "${FORERUN_TARGET:-}" ]; then
    printf '%s\n' "$FORERUN_TARGET"
    return
  fi
  if ! has_target "$static" && command -v rustup >/dev/null; then
    rustup target add "$static" >&2 || true
  fi
  if ! has_target "$static"; then
    say "not static: this compiler has no standard library for $static, and it could not be fetched"
    printf '%s\n' "$host"
  elif ! command -v musl-gcc >/dev/null; then
    say "not static: there is no musl-gcc (Debian: apt-get install musl-tools)"
    printf '%s\n' "$host"
  else
    printf '%s\n' "$static"
  fi
}

# Builds for a target and prints the path of the binary.
build() {
  local target=$1
  # Paths of this machine stay out of panic messages.
  RUSTFLAGS="${RUSTFLAGS:-} --remap-path-prefix=$PWD=. --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo" \
    CARGO_PROFILE_RELEASE_STRIP=symbols \
    cargo build --release --locked --target "$target" >&2
  printf '%s/%s/release/forerun\n' "${CARGO_TARGET_DIR:-target}" "$target"
}

# Fails unless the archive's binary runs; says what it needs of the system.
check() {
  local binary=$1
  [ "$("$binary" --version)" = "forerun $version" ] || { say "$binary is not version $version"; exit 1; }
  if command -v ldd >/dev/null && ldd "$binary" >/dev/null 2>&1; then
    say "the binary needs: $(ldd "$binary" | awk '{print $1}' | xargs)"
  else
    say "the binary is static"
  fi
}

if [ -n "${FORERUN_BINARY:-}" ]; then
  target=$host
  binary=$FORERUN_BINARY
else
  target=$(choose_target)
  binary=$(build "$target")
fi
check "$binary"

name=forerun-$version-$target
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/$name/completions" "$folder"
install -m 755 "$binary" "$work/$name/forerun"
cp LICENSE README.md CHANGELOG.md SPEC.md SECURITY.md ARCHITECTURE.md "$work/$name/"
cp -R docs "$work/$name/docs"
cp operations/forerun.service operations/grafana.json crates/manifest/forerun.schema.json "$work/$name/"
for shell in bash zsh fish; do
  "$binary" completions "$shell" >"$work/$name/completions/forerun.$shell"
done

# The same sources give the same archive: names in order, no owner, the time of the last commit.
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$epoch" -cf - "$name" |
  gzip -9 -n >"$folder/$name.tar.gz"
(cd "$folder" && sha256sum "$name.tar.gz" >"$name.tar.gz.sha256")
cat "$folder/$name.tar.gz.sha256"
