#!/bin/sh
# Print the first interpreter that can run Dayfly: $PYTHON when given, else the usual names on PATH.
# The upper bound is where the locked numba has no wheels any more.
set -eu
can_run='import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))'
for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14 python}; do
  if "$candidate" -c "$can_run" >/dev/null 2>&1; then
    command -v "$candidate"
    exit 0
  fi
done
cat >&2 <<EOF
PYTHON=${PYTHON:-(not set)} must name, or PATH must hold, a Python of at least 3.11 and below 3.15 with its venv module;
install one (on Debian and Ubuntu: python3 and python3-venv) or run \`make PYTHON=/path/to/python3.12\`.
EOF
exit 1
