#!/usr/bin/env bash
# Everything that a GPU must show, on a bare machine: run.sh CARRIED OUTPUT [STAGE...]
# CARRIED holds models (l3i5, 7net-0, compact-start, mini-start), starting-structures.npz, site/ and oeq/ (see README.md beside this file).
set -uo pipefail
carried=$1 out=$2
shift 2
work=/tmp/equiprune-gpu
mkdir -p "$work" "$out"
export PYTHONPATH="$PWD:$PWD/src:/tmp/site:$PWD/$carried/site:$PWD/$carried/oeq" PYTHONUNBUFFERED=1 OMP_NUM_THREADS=8
export PYTORCH_ALLOC_CONF=expandable_segments:True
models=("l3i5=$carried/l3i5" "compact=$carried/compact-start" "mini=$carried/mini-start" "7net-0=$carried/7net-0")
engine_of() { # MODEL WHAT
  python3 -c "import json, sys; from benchmarks.gpu.engines import fastest
print(fastest(json.load(open('$work/engines.json')), sys.argv[1], sys.argv[2]))" "$1" "$2" 2>/dev/null || echo e3nn
}
for stage in "$@"; do
  echo "== $stage $(date +%T)"
  case $stage in
    setup)
      nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv
      python3 -c "import torch, e3nn, numpy, sevenn; print(torch.__version__, e3nn.__version__, numpy.__version__, sevenn.__version__)"
      (timeout 200 python3 -c "import openequivariance; print('oeq ready')" >"$work/oeq.log" 2>&1; tail -3 "$work/oeq.log") &
      ;;
    smoke) timeout 150 python3 -m benchmarks.gpu.smoke "$carried/mini-start" --output "$out/smoke.json" ;;
    engines)
      wait
      timeout 300 python3 -m benchmarks.gpu.engines "$carried/compact-start" "$carried/l3i5" -o "$work/engines.json"
      cp "$work/engines.json" "$out/" ;;
    speed)
      best=$(engine_of l3i5 evaluation_seconds)
      engines=(e3nn); [ "$best" = e3nn ] || engines+=("$best")
      timeout 150 python3 -m benchmarks.gpu.speed "${models[@]}" --engines "${engines[@]}" --sizes 64 512 4096 32768 -o "$out/speed.json" ;;
    speed64) timeout 100 python3 -m benchmarks.gpu.speed "${models[@]}" --dtypes float64 --sizes 64 512 4096 -o "$out/speed64.json" ;;
    flagship)
      env -u PYTORCH_ALLOC_CONF setsid nohup python3 -m benchmarks.gpu.flagship --models "$carried" --output "$work/flagship" \
        --labelling-engine "$(engine_of l3i5 evaluation_seconds)" --training-engine "$(engine_of compact-start training_seconds)" \
        ${FLAGSHIP:-} >"$work/flagship.log" 2>&1 </dev/null &
      sleep 20; tail -5 "$work/flagship.log" ;;
    wait) # until training is done, at most until WAIT seconds after this script began
      while [ $SECONDS -lt "${WAIT:-3000}" ] && pgrep -f benchmarks.gpu.flagship >/dev/null; do sleep 1; done ;;
    collect)
      tail -n "${LINES_SHOWN:-12}" "$work/flagship.log"; cp "$work/flagship.log" "$out/"
      for child in compact mini; do
        [ -d "$work/flagship/$child" ] || continue
        (cd "$work/flagship/$child" && tar czf "$out/$child.tar.gz" --exclude=partial.pt ./*)
      done ;;
  esac
done
