#!/usr/bin/env bash
# Gradescope runs this once, as root, when the autograder's image is built.
# Upload a zip of this repository with this file and run_autograder at its top.
set -euo pipefail
source_folder=${AUTOGRADER:-/autograder}/source
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv bubblewrap libseccomp2 >/dev/null
python3 -m venv "$source_folder/.venv"
"$source_folder/.venv/bin/python" -m pip install --quiet -r "$source_folder/requirements.lock"
