#!/usr/bin/env bash
# Create the two environments that Maquette needs, kept apart as in real use:
#   .venv           the backend (torch), Python 3.11 or newer
#   .venv-blender   Blender 4.5 as a module, Python 3.11
#   .venv-blender-5.2   Blender 5.2 as a module, where a Python 3.13 is found; said aloud where not
# and fetch the wheel that the extension carries. Quick when nothing changed: each environment remembers
# the checksum of what it was made from.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }

find_python() {  # find_python 3.13 -> path of a working interpreter of that version, or nothing
  local candidate
  for candidate in "python$1" python3 "$HOME"/.pyenv/versions/"$1".*/bin/python3; do
    if "$candidate" -c "import sys, venv, ensurepip; sys.exit('%d.%d' % sys.version_info[:2] != '$1')" 2>/dev/null; then
      "$candidate" -c 'import sys; print(sys.executable)'
      return
    fi
  done
}

make_env() {  # make_env FOLDER PYTHON CHECKSUM WHAT-COMES pip-arguments...
  local folder=$1 python=$2 sum=$3 comes=$4
  shift 4
  if [ "$(cat "$folder/.ready" 2>/dev/null)" = "$sum" ]; then return; fi
  say "$folder ($("$python" --version)): $comes"
  [ -x "$folder/bin/python" ] || "$python" -m venv "$folder"
  "$folder/bin/python" -m pip install --disable-pip-version-check --quiet --progress-bar on "$@"
  printf '%s' "$sum" > "$folder/.ready"
}

# Before anything is downloaded: Python, and what Blender loads from the machine.
py311=$(find_python 3.11)
if [ -n "$py311" ]; then
  "$py311" tools/check_system.py
elif command -v python3 > /dev/null; then
  # Another version, or Debian's without the parts that make environments.
  python3 tools/check_system.py --need python3.11 python3.11-venv
  py311=$(find_python 3.11)
fi
if [ -z "$py311" ]; then
  echo "Maquette needs Python 3.11 with venv. On Debian 12: $(grep -m1 -o 'sudo apt install .*' README.md)" >&2
  exit 1
fi

here=$(pwd)
make_env .venv "$py311" "$(cat pyproject.toml <(echo "$here") | sha256sum)" \
  'the first time about 4 GB come and fill 8 GB, in 5 to 20 minutes; 0.7 and 2 GB where pip finds torch without CUDA' \
  -e '.[backend,gguf,train,evaluate,smplx,dev]'
blender_sum=$(sha256sum < tools/blender-requirements.txt)
blender_comes='the first time about 0.4 GB come and fill 1 GB, in 1 to 5 minutes'
make_env .venv-blender "$py311" "$blender_sum" "$blender_comes" -r tools/blender-requirements.txt
py313=$(find_python 3.13)
if [ -n "$py313" ]; then
  make_env .venv-blender-5.2 "$py313" "$blender_sum" "$blender_comes" -r tools/blender-requirements.txt
elif [ ! -e .venv-blender-5.2 ]; then
  say "no Python 3.13 found: Blender 5.2 will not be tested here (4.5 will)"
fi

wheel=$(sed -n 's/^wheels = \["\.\/\(.*\)"\]/\1/p' blender_manifest.toml)
if [ ! -e "$wheel" ]; then
  say "$wheel"
  .venv/bin/python -m pip download --disable-pip-version-check --quiet --no-deps --only-binary=:all: -d wheels \
    "$(grep '^trimesh' tools/blender-requirements.txt)"
fi
