#!/usr/bin/env bash
# Grades one folder and hands the result to GitHub Classroom's reporter: grade.sh SUBMISSION [option of `grading run` …]
set -euo pipefail
submission=$(realpath "$1")
shift
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/class"
cp -R "$submission" "$work/class/submission"
"$python" -m grading run "$work/class" --out "$work/graded" "$@"
"$python" -m grading show submission --out "$work/graded"
"$python" -m grading export --format github-classroom --out "$work/graded"
echo "result=$(base64 -w 0 "$work"/graded/exports/github-classroom/submission.json)" >>"$GITHUB_OUTPUT"
