#!/bin/sh
# Locks every install profile from pyproject.toml: universal, hashed, without download addresses.
# The full profile is resolved first; the others are constrained by it, so that profiles never disagree on a version.
set -eu
cd "$(dirname "$0")/.."
UV=${UV:-.venv/bin/uv}
compile() { "$UV" pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock" "$@"; }
compile pyproject.toml --extra diarization --extra dev -o requirements/full.txt
compile pyproject.toml requirements/build.in -c requirements/full.txt -o requirements/base.txt
compile pyproject.toml --extra dev -c requirements/full.txt -o requirements/dev.txt
compile pyproject.toml --extra diarization requirements/build.in -c requirements/full.txt -o requirements/diarization.txt
echo uv | compile - -c requirements/full.txt -o requirements/uv.txt
