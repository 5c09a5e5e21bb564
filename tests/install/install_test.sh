#!/usr/bin/env bash
# install_test.sh BUILD: installs the build into an empty folder and builds a small project against it, which
# lists a file's tensors as `retort inspect` does.
set -euo pipefail
build=$(realpath "$1")
source=$(dirname "$(realpath "$0")")
file=$source/../golden/models/llama/model.safetensors
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cmake --install "$build" --prefix "$folder/prefix" >"$folder/log"
cmake -S "$source" -B "$folder/build" -G Ninja -DCMAKE_PREFIX_PATH="$folder/prefix" >"$folder/log" 2>&1 ||
  { cat "$folder/log"; exit 1; }
ninja -C "$folder/build" --quiet
names() { "$@" "$file" | awk '$1 ~ /weight$/ {print $1}'; }
[ "$(names "$folder/build/consumer" | wc -l)" = 21 ]
diff <(names "$folder/build/consumer") <(names "$build/retort" inspect)
"$folder/prefix/bin/retort" --version
