#!/usr/bin/env bash
# Grades one folder and hands the result to GitHub Classroom's reporter: grade.sh SUBMISSION [option of `grading run` …]
# SUBMITTED is when it was pushed (ISO 8601 with a zone, or seconds since 1970); without it, the last commit's own time.
set -euo pipefail
submission=$(realpath "$1")
shift
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/class"
cp -R "$submission" "$work/class/submission"
submitted=${SUBMITTED:-$(git -C "$submission" log -1 --format=%cI 2>/dev/null || true)}
"$python" -m trtverify grading run "$work/class" --out "$work/graded" ${submitted:+--submitted "$submitted"} "$@"
"$python" -m trtverify grading show submission --out "$work/graded"
"$python" -m trtverify grading export --format github-classroom --out "$work/graded"
echo "result=$(base64 -w 0 "$work"/graded/exports/github-classroom/submission.json)" >>"$GITHUB_OUTPUT"
# The total, in points, as GitHub Classroom's own reporter writes it into the log.
"$python" - "$work/graded/exports/github-classroom/submission.json" <<'PYTHON'
import json, pathlib, sys
result = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
print(f"Points {round(sum(test['score'] for test in result['tests']), 2):g}/{result['max_score']:g}")
PYTHON
