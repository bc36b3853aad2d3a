#!/usr/bin/env bash
# Everything that a GPU must show, on a bare machine, in at most LIMIT seconds: run.sh CARRIED OUTPUT [STAGE...]
# CARRIED holds models, structures and packages; prepare.py writes them (see README.md beside this file).
# A stage that fails or reaches its limit leaves what it has written, and the next one begins. Variables, with defaults:
#   LIMIT=1500  DEVICE=cuda  SMALL= (1: little of everything)  PYTHON=python3  WORK=/tmp/equiprune-gpu  FLAGSHIP= (arguments)
set -uo pipefail
carried=$(realpath -m "$1") out=$(realpath -m "$2")
shift 2
limit=${LIMIT:-1500} device=${DEVICE:-cuda} python=${PYTHON:-python3} work=${WORK:-/tmp/equiprune-gpu}
[ $# -gt 0 ] || set -- setup smoke engines verified speed batch precision mace flagship wait collect
mkdir -p "$work" "$out"
cd "$(dirname "$(realpath "$0")")/../.."
export PYTHONPATH="$PWD:$PWD/src:$carried/site:$carried/oeq${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-8} PYTORCH_ALLOC_CONF=expandable_segments:True
common=(--device "$device" ${SMALL:+--small})
models=("l3i5=$carried/l3i5" "compact=$carried/compact-start" "mini=$carried/mini-start" "7net-0=$carried/7net-0")
reserve=20 # seconds to collect at the end
failures=0

left() { # SECONDS: so many, or what is left of the run
  local rest=$((limit - SECONDS - reserve))
  echo $(($1 < rest ? $1 : rest))
}
limited() { # SECONDS COMMAND...: at most so long, and no longer than the run
  local most
  most=$(left "$1")
  shift
  [ "$most" -gt 0 ] || { echo "No time is left."; return 124; }
  timeout -k 5 "$most" "$@"
}
stage_of() { # SECONDS MODULE ARGUMENTS...
  local most=$1 module=$2
  shift 2
  limited "$most" "$python" -m "benchmarks.gpu.$module" "$@" "${common[@]}"
}
engine_of() { # MODEL WHAT: the fastest, where engines were compared
  [ -e "$work/engines.json" ] || { echo e3nn; return; }
  "$python" -c "import json, sys; from benchmarks.gpu.engines import fastest
print(fastest(json.load(open('$work/engines.json'))['rows'], sys.argv[1], sys.argv[2]))" "$1" "$2" 2>/dev/null || echo e3nn
}
engines() { # e3nn and the fastest, where that is another
  local best
  best=$(engine_of l3i5 evaluation_seconds)
  echo e3nn; [ "$best" = e3nn ] || echo "$best"
}
setup() {
  [ "$device" = cpu ] || nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv
  [ -e "$carried/l3i5" ] || limited 200 "$python" -m benchmarks.gpu.prepare "$carried" --device "$device"
  limited 60 "$python" -c "import torch, e3nn, numpy, sevenn; print(torch.__version__, e3nn.__version__, numpy.__version__, sevenn.__version__)"
  # Compiled in the background, where it is there: engines, which need it, wait for it.
  limited 200 "$python" -c "import openequivariance; print('oeq ready')" >"$work/oeq.log" 2>&1 &
  compiling=$!
}
compare_engines() {
  [ -z "${compiling:-}" ] || wait "$compiling"
  tail -3 "$work/oeq.log" 2>/dev/null
  local most
  most=$(left 300)
  stage_of 300 engines "$carried/compact-start" "$carried/l3i5" --limit $((most > 20 ? most - 15 : most)) -o "$work/engines.json"
  local code=$?
  cp "$work/engines.json" "$out/"
  return $code
}
verified() { # engines as users have them; those of MACE where it is
  stage_of 150 verified "compact=$carried/compact-start" -o "$out/verified.json" || return
  [ -e "$carried/mace-mp-small" ] || return 0
  PYTHONPATH="$carried/mace-site:$PYTHONPATH" stage_of 100 verified "mace=$carried/mace-mp-small" -o "$out/verified-mace.json"
}
time_mace() { # in an environment of its own, whose e3nn is another
  local model=$carried/mace-mp-small
  [ -n "${SMALL:-}" ] || [ ! -e "$model" ] || set -- --model "$model"
  PYTHONPATH="$carried/mace-site:$PYTHONPATH" stage_of 150 mace -o "$out/mace.json" "$@"
}
train() { # in the background, until it is done or the run ends; shares of what is left unless FLAGSHIP says how long
  local rest
  rest=$(left 100000)
  [ "$rest" -gt 0 ] || { echo "No time is left."; return 124; }
  [ -e "$carried/starting-structures.npz" ] || { echo "There is nothing to label: no starting-structures.npz."; return 0; }
  rm -f "$work/flagship.pid"
  local given=() shares=$work/flagship.shares # of the first attempt: with others, flagship refuses to go on
  [ -e "$shares" ] || echo "--labelling-seconds $((rest * 15 / 100)) --children compact=$((rest * 45 / 100))=3e-3 mini=$((rest * 20 / 100))=4e-3" >"$shares"
  # shellcheck disable=SC2206,SC2207 # words are arguments
  [ -n "${SMALL:-}" ] || given=($(<"$shares"))
  # shellcheck disable=SC2206
  [ -z "${FLAGSHIP:-}" ] || given=($FLAGSHIP)
  env -u PYTORCH_ALLOC_CONF setsid nohup timeout -k 5 "$rest" "$python" -m benchmarks.gpu.flagship --models "$carried" \
    --output "$work/flagship" --labelling-engine "$(engine_of l3i5 evaluation_seconds)" \
    --training-engine "$(engine_of compact-start training_seconds)" "${common[@]}" "${given[@]}" \
    >"$work/flagship.log" 2>&1 </dev/null &
  echo $! >"$work/flagship.pid"
}
wait_for_training() { # until it is done, at most until the run ends
  local pid
  pid=$(cat "$work/flagship.pid" 2>/dev/null) || return 0
  while [ "$(left 1)" -gt 0 ] && kill -0 "$pid" 2>/dev/null; do sleep 1; done
}
collect() {
  tail -n "${LINES_SHOWN:-12}" "$work/flagship.log" 2>/dev/null && cp "$work/flagship.log" "$out/"
  local child
  for child in "$work"/flagship/*/; do
    [ -d "$child" ] || continue
    tar czf "$out/$(basename "$child").tar.gz" --exclude=partial.pt -C "$child" . || return
  done
}
run() { # STAGE
  case $1 in
    setup) setup ;;
    smoke) stage_of 180 smoke "$carried/mini-start" -o "$out/smoke.json" ;;
    engines) compare_engines ;;
    verified) verified ;;
    speed) stage_of 150 speed "${models[@]}" --engines $(engines) $(sizes 64 512 4096 32768) -o "$out/speed.json" ;;
    speed64) stage_of 100 speed "${models[@]}" --dtypes float64 $(sizes 64 512 4096) -o "$out/speed64.json" ;;
    batch) stage_of 240 batch "${models[@]}" --engines "$(engine_of l3i5 evaluation_seconds)" -o "$out/batch.json" ;;
    precision) stage_of 120 precision "${models[@]}" -o "$out/precision.json" ;;
    mace) time_mace ;;
    flagship) train ;;
    wait) wait_for_training ;;
    collect) collect ;;
    *) echo "There is no stage $1."; return 2 ;;
  esac
}
sizes() { # NUMBERS...: unless it is to be small
  [ -n "${SMALL:-}" ] || echo --sizes "$@"
}
for stage in "$@"; do
  echo "== $stage $(date +%T)"
  begun=$SECONDS
  run "$stage"
  code=$?
  echo "{\"stage\": \"$stage\", \"seconds\": $((SECONDS - begun)), \"code\": $code}" >>"$out/stages.jsonl"
  [ $code -eq 0 ] || { echo "== $stage ended with $code"; failures=$((failures + 1)); }
done
[ $failures -eq 0 ]
