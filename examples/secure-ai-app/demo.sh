#!/usr/bin/env bash
# The lesson of this example, from nothing to a running, isolated container:
# build the base and the image, see the refusal, see the success, change the code, rebuild.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
corten=${CORTEN:-corten}
image=secure-ai-app
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ -t 1 ]; then bold=$'\e[1m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'; else bold='' green='' red='' plain=''; fi
summary=()

now_ms() { date +%s%3N; }

say() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }

fail() { printf '%sdemo failed: %s%s\n' "$red" "$*" "$plain" >&2; exit 1; }

# step TITLE EXPECTED_CODE COMMAND...: shows the command, runs it, checks its exit code.
step() {
  local title=$1 expected=$2 start code=0
  shift 2
  say "$title"
  printf '$ %s\n' "$*"
  start=$(now_ms)
  "$@" 2>&1 | tee "$work/output" || code=${PIPESTATUS[0]}
  local elapsed=$(($(now_ms) - start))
  [ "$code" -eq "$expected" ] || fail "\`$*\` exited with $code, expected $expected"
  summary+=("$(printf '%8d ms  %s' "$elapsed" "$title")")
}

expect() { grep -qF -- "$1" "$work/output" || fail "the output does not say: $1"; }

cp -r "$here" "$work/app"

step "Make the base image from signed Debian packages" 0 "$corten" base build python-3.11
step "Build the image" 0 "$corten" build -t "$image:v1" "$work/app"
step "Run it without its key: it must refuse" 1 "$corten" run --rm --network none "$image:v1"
expect "CRITICAL: the variable MODEL_API_KEY is not set"
step "Run it with its key: it must work" 0 \
  "$corten" run --rm --network none -e MODEL_API_KEY=demo-key "$image:v1"
expect "SUCCESS: the model is running"
step "Who is it inside? Not root, alone, with its own mounts and few rights" 0 \
  "$corten" run --rm --network none "$image:v1" bash -c \
  'id; ps -ef; mount | grep -E " on (/|/proc|/sys) "; grep -E "^(CapEff|CapBnd|NoNewPrivs|Seccomp):" /proc/self/status'
expect "appuser"
expect "NoNewPrivs:	1"
step "Build again with nothing changed" 0 "$corten" build -t "$image:v1" "$work/app"
sed -i 's/the model is running/version two is running/' "$work/app/main.py"
step "Change one line of code and build again: every earlier layer is reused" 0 \
  "$corten" build -t "$image:v2" "$work/app"
# A store that has seen the demo before has the changed step, too.
[ "$(grep -c DONE "$work/output")" -le 1 ] || fail "more than the changed step was done again"
step "Run the new version" 0 \
  "$corten" run --rm --network none -e MODEL_API_KEY=demo-key "$image:v2"
expect "SUCCESS: version two is running"
step "The images" 0 "$corten" images

say "How long each step took"
printf '%s\n' "${summary[@]}"
printf '%sThe demo passed.%s\n' "$green" "$plain"
