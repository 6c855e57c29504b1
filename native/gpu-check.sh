#!/usr/bin/env bash
# Everything that only a GPU can show, by one command on a bare machine: nvcc, CMake, a C++ compiler and Python 3, no
# Node. Where Python has PyTorch, its kernels are timed beside ours.
#
#   native/gpu-check.sh [--only ops|bench|nexus|profile|host] [--out FOLDER] [--jobs N] [--build yes|no] [--seconds N]
#
#   ops      the kernels' tests on the device, and again under compute-sanitizer where there is one
#   bench    each kernel against the copy bandwidth of the same run, and against PyTorch
#   nexus    prefill and decode alone and together, on two streams and on each split by green contexts
#   profile  by name alone: where the time of the kernels goes that are furthest from their floor, instruction by
#            instruction, by Nsight Compute: profile-KERNEL.csv and .txt
#   host     by name alone: all other native tests, on the processor of that machine, whose instruction sets may be at hand
#            nowhere else
#
# --build no takes the programs as they lie in build/gpu, made on another machine. --seconds is for all measurements
# together, 145 unless said otherwise.
#
# Writes gpu-report.json, gpu-report.md, and the rows that `tandem bench render` shows (gpu-kernels.json, gpu-lanes.json) to
# FOLDER ($OUT, else docs/results/gpu). Each part has a limit, 8 minutes in all.
# Exits with 0 if every part passed, 2 without a GPU or a tool, 1 otherwise.
set -u -o pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=${OUT:-$root/docs/results/gpu}
parts=()
jobs=$(nproc)
build_first=yes
seconds=145

fail() {
  printf 'gpu-check: %s\n' "$1" >&2
  exit 2
}

# As the report names it: where it goes makes no difference.
export GPU_CHECK_COMMAND=native/gpu-check.sh
while [ $# -gt 0 ]; do
  [ "$1" = --out ] || GPU_CHECK_COMMAND+=" $1 ${2-}"
  [ $# -ge 2 ] || fail "$1 needs a value; see the head of native/gpu-check.sh"
  case $1 in
    --only) parts+=("$2") ;;
    --out) out=$2 ;;
    --jobs) jobs=$2 ;;
    --build) build_first=$2 ;;
    --seconds) seconds=$2 ;;
    *) fail "unknown option $1; there are --only, --out, --jobs, --build and --seconds" ;;
  esac
  shift 2
done
[ ${#parts[@]} -gt 0 ] || parts=(ops bench nexus)
case $build_first in yes | no) ;; *) fail "--build is yes or no, not $build_first" ;; esac
case $seconds in '' | *[!0-9]*) fail "--seconds is a whole number, not $seconds" ;; esac
for part in "${parts[@]}"; do
  case $part in ops | bench | nexus | profile | host) ;; *) fail "there is no part $part; there are ops, bench, nexus, profile and host" ;; esac
done

if ! nvidia-smi -L 2>/dev/null | grep -q '^GPU' && ! compgen -G '/dev/nvidia[0-9]*' >/dev/null; then
  fail 'this machine has no NVIDIA GPU, and the check needs one.'
fi
export PATH=$PATH:/usr/local/cuda/bin
tools=(python3)
[ "$build_first" = no ] || tools+=(nvcc cmake c++)
for tool in "${tools[@]}"; do
  command -v "$tool" >/dev/null || fail "$tool is missing; the check builds the kernels and needs it"
done

build=$root/build/gpu
work=$build/results
rm -rf "$work"
mkdir -p "$work" "$out" || exit 2
results=()

# Runs a part for at most so many seconds, its output to a log of its own and to the terminal.
run() {
  local name=$1 limit=$2 began=$SECONDS status
  shift 2
  printf '\n== %s\n' "$name"
  timeout --kill-after=10 "$limit" "$@" 2>&1 | tee "$work/$name.log"
  status=${PIPESTATUS[0]}
  [ "$status" -eq 124 ] && printf '%s: stopped after %s s\n' "$name" "$limit"
  results+=("$name:$status:$((SECONDS - began))")
  return "$status"
}

build_all() {
  local programs=(gpu-tests gpu-bench gpu-nexus)
  case " $wanted " in *' host '*) programs+=(tandem-tests) ;; esac
  if [ "$build_first" = no ]; then
    ls "${programs[@]/#/$build/test/}"
    return
  fi
  cmake -S "$root/native" -B "$build" -DCMAKE_BUILD_TYPE=Release -DTANDEM_CUDA_KERNELS=ON -DTANDEM_TESTS=ON \
    -DTANDEM_ADDON=OFF &&
    cmake --build "$build" --parallel "$jobs" --target "${programs[@]}" &&
    python3 "$root/native/cuda/ptxas-report.py" "$build" --json "$work/ptxas.json"
}

# A test that fails does not keep the sanitizer from what it finds in the others: a GPU may not be at hand again soon.
test_kernels() {
  local status=0
  "$build/test/gpu-tests" cuda || status=1
  if command -v compute-sanitizer >/dev/null; then
    compute-sanitizer --error-exitcode 9 "$build/test/gpu-tests" cuda || status=1
  else
    echo 'compute-sanitizer is not installed: races and accesses out of bounds were not looked for'
  fi
  return "$status"
}

measure_kernels() {
  "$build/test/gpu-bench" "$work/bench.json" $((seconds * 60 / 145)) || return 1
  if python3 -c 'import torch' 2>/dev/null; then
    python3 "$root/test/native/gpu/torch-baselines.py" "$work/torch.json" $((seconds * 40 / 145))
  else
    echo 'Python has no PyTorch: nothing to compare with but the copy bandwidth'
  fi
}

profile_kernels() {
  command -v ncu >/dev/null || { echo 'ncu (Nsight Compute) is not installed'; return 1; }
  profile prefill attendTile 'prefillAttention bf16 2048 behind 8192' &&
    profile decode-int4 attendRuns 'decodeAttention int4 64 x 8192'
}
# The first launch of a kernel, by the regular expression of its name, in the part of the bench that has a row so named.
profile() {
  local report=$work/$1.ncu-rep
  ncu --clock-control none --set full -k "regex:$2" -c 1 -f -o "${report%.ncu-rep}" \
    "$build/test/gpu-bench" "$work/profiled.json" 1 "$3" &&
    ncu -i "$report" --page source --csv >"$out/profile-$1.csv" &&
    ncu -i "$report" --page details >"$out/profile-$1.txt"
}

export -f build_all test_kernels measure_kernels profile_kernels profile
export root build work out jobs build_first seconds wanted="${parts[*]}"
if run build 150 bash -c build_all; then
  for part in "${parts[@]}"; do
    case $part in
      ops) run ops 110 bash -c test_kernels ;;
      bench) run bench 120 bash -c measure_kernels ;;
      nexus) run nexus 80 "$build/test/gpu-nexus" "$work/nexus.json" $((seconds * 45 / 145)) ;;
      profile) run profile 60 bash -c profile_kernels ;;
      host) run host 200 "$build/test/tandem-tests" ;;
    esac
  done
fi

commit=$(git -C "$root" describe --always --dirty=+ 2>/dev/null || echo unknown)
python3 "$root/test/native/gpu/report.py" "$work" "$out" "$commit" "${results[@]}"
