#!/bin/sh
# Run the test suite against the built wheel, the way a user has it: in a new venv without the editable install, from a
# folder elsewhere that holds the tests and the pages they read, but none of the source roots.
# Arguments go to pytest. BIN is the folder of a Python that can build (default: .venv/bin).
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
bin=$(cd "$root" && cd "${BIN:-.venv/bin}" && pwd)
place=$(mktemp -d "${TMPDIR:-/tmp}/dayfly-wheel-XXXXXX")
trap 'rm -rf "$place"' EXIT INT TERM

"$bin/python" -m build --wheel --no-isolation --outdir "$place/dist" "$root" >"$place/build.log" 2>&1 || {
  cat "$place/build.log" >&2
  exit 1
}
wheel=$(ls "$place"/dist/dayfly-*.whl)
echo "built $(basename "$wheel") ($(wc -c <"$wheel") bytes)"

"$bin/python" -m venv "$place/venv"
python="$place/venv/bin/python"
"$python" -m pip install -qq --disable-pip-version-check --require-hashes -r "$root/requirements/dev.lock"
"$python" -m pip install -qq --disable-pip-version-check --no-deps "$wheel"

mkdir "$place/suite"
for item in tests docs notebooks tools requirements pyproject.toml Makefile README.md CHANGELOG.md LICENSE .ci; do
  [ ! -e "$root/$item" ] || cp -R "$root/$item" "$place/suite/"
done
rm -rf "$place/suite/docs/_build"
if [ -z "${DAYFLY_SHARED_DATA:-}" ] && [ -d "$root/../shared/data" ]; then
  DAYFLY_SHARED_DATA=$(cd "$root/../shared/data" && pwd)
  export DAYFLY_SHARED_DATA
fi

cd "$place/suite"
unset PYTHONPATH VIRTUAL_ENV
"$python" -m dayfly.engine.warmup
DAYFLY_WHEEL=$wheel PATH="$place/venv/bin:$PATH" "$place/venv/bin/pytest" -m "not slow" -p no:cacheprovider "$@"
