#!/usr/bin/env bash
# The whole server on a machine with a GPU that has neither Node nor a network: answers, logits, KV caches,
# calibration, and the schedulers against each other. It needs what `node scripts/pack.mjs .gpu` has made on another machine (with
# TANDEM_CUDA=1), and nothing else.
#
#   native/gpu-serve.sh [--packed FOLDER] [--device cuda|cpu] [--shape 8b|1b|demo] [--weights bf16|int8]
#                       [--only logits|serve|kv|calibrate|schedulers] [--seconds N] [--step-tokens N]
#                       [--streams N,N] [--repetitions N] [--out FOLDER]
#
#   logits      logits of a tiny checkpoint of each architecture against those of transformers, and of the demo model
#   serve       the demo model answers the README's request; random models load and answer, one of --shape and one of
#               SmolVLM-256M's, which is shown an image
#   kv          the demo model under --kv int8, zip and pack: the README's request, one endless session with far tokens, and
#               more requests than the memory has room for
#   calibrate   tandem calibrate with the random model
#   schedulers  nexus, chunked and prefill-first: streams that run while long prompts arrive
#
# --seconds is for everything, 240 unless said otherwise; each part has its share, and what it has written stays when it is
# stopped. --streams are those that run for the schedulers, 8,32 unless said otherwise, --repetitions how many turns
# each scheduler has, 1 unless said otherwise. `--device cpu --shape demo` tries all of it on a machine without a GPU. Results go
# to FOLDER ($OUT, else docs/results/gpu): gpu-serve.log, gpu-serve.json, and rows as `tandem bench` writes them. Ends with 0 if
# every part passed, 2 if it could not begin, 1 otherwise.
set -u -o pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=${OUT:-$root/docs/results/gpu}
packed=$root/.gpu
device=cuda
shape=8b
weights=bf16
seconds=240
step_tokens=2048
repetitions=1
streams=
parts=()

fail() {
  printf 'gpu-serve: %s\n' "$1" >&2
  exit 2
}

while [ $# -gt 0 ]; do
  [ $# -ge 2 ] || fail "$1 needs a value; see the head of native/gpu-serve.sh"
  case $1 in
    --packed) packed=$2 ;;
    --device) device=$2 ;;
    --shape) shape=$2 ;;
    --weights) weights=$2 ;;
    --only) parts+=("$2") ;;
    --seconds) seconds=$2 ;;
    --step-tokens) step_tokens=$2 ;;
    --repetitions) repetitions=$2 ;;
    --streams) streams=$2 ;;
    --out) out=$2 ;;
    *) fail "unknown option $1; see the head of native/gpu-serve.sh" ;;
  esac
  shift 2
done
[ ${#parts[@]} -gt 0 ] || parts=(logits serve kv calibrate schedulers)
case $device in cuda | cpu) ;; *) fail "--device is cuda or cpu, not $device" ;; esac
case $shape in 8b | 1b | demo) ;; *) fail "--shape is 8b, 1b or demo, not $shape" ;; esac
case $weights in bf16 | int8) ;; *) fail "--weights is bf16 or int8, not $weights" ;; esac
for number in "$seconds" "$step_tokens" "$repetitions"; do
  case $number in '' | *[!0-9]*) fail "--seconds, --step-tokens and --repetitions are whole numbers, not $number" ;; esac
done
[ "$repetitions" -gt 0 ] || fail '--repetitions is 1 at least'
for part in "${parts[@]}"; do
  case $part in logits | serve | kv | calibrate | schedulers) ;; *) fail "there is no part $part" ;; esac
done
for file in node.xz server.tar.xz; do
  [ -f "$packed/$file" ] || fail "$packed/$file is missing: make it with 'node scripts/pack.mjs $packed' elsewhere"
done

work=$(mktemp -d) || exit 2
mkdir -p "$out" && out=$(realpath "$out") || exit 2
children=()
exec > >(tee "$out/gpu-serve.log") 2>&1
logger=$!
clean() {
  for child in "${children[@]+"${children[@]}"}"; do kill "$child" 2>/dev/null && wait "$child"; done
  rm -rf "$work" ${store:+"$store"}
  exec >&- 2>&-
  wait "$logger"
}
trap clean EXIT

left() { echo $((seconds - SECONDS)); }
# Of the time that is left, at most so many seconds, and 1 at least.
at_most() {
  local rest
  rest=$(($(left) - 2))
  [ "$rest" -lt "$1" ] || rest=$1
  [ "$rest" -gt 0 ] && echo "$rest" || echo 1
}
say() { printf '\n== %s (%s s)\n' "$1" "$SECONDS"; }
results=()
# Runs a part for at most so many seconds.
run() {
  local name=$1 limit began=$SECONDS status
  limit=$(at_most "$2")
  shift 2
  say "$name, at most $limit s"
  timeout --kill-after=5 "$limit" "$@"
  status=$?
  [ "$status" -ne 124 ] || printf '%s: stopped after %s s\n' "$name" "$limit"
  note "$name" "$status" $((SECONDS - began))
  return "$status"
}
# Written after each part: what runs next may be the last.
note() {
  results+=("{\"part\": \"$1\", \"status\": $2, \"seconds\": $3}")
  local IFS=,
  printf '{"device": "%s", "shape": "%s", "weights": "%s", "parts": [%s]}\n' "$device" "$shape" "$weights" \
    "${results[*]}" >"$out/gpu-serve.json"
}
wants() {
  local part
  for part in "${parts[@]}"; do [ "$part" != "$1" ] || return 0; done
  return 1
}
unpack() { if command -v xz >/dev/null; then xz -dc "$1"; else python3 -c \
  'import lzma, shutil, sys; shutil.copyfileobj(lzma.open(sys.argv[1]), sys.stdout.buffer)' "$1"; fi; }

say 'unpacking'
mkdir "$work/server"
unpack "$packed/node.xz" >"$work/node" && chmod +x "$work/node" || fail 'node.xz cannot be unpacked'
unpack "$packed/server.tar.xz" | tar -xf - -C "$work/server" || fail 'server.tar.xz cannot be unpacked'
mkdir -p "$work/server/models" && cp -r "$root/models/demo" "$work/server/models/" || fail "$root/models/demo is missing"
export XDG_CACHE_HOME=$work/cache
tandem=("$work/node" "$work/server/scripts/tandem.mjs")
printf 'Node %s, Tandem %s\n' "$("$work/node" --version)" "$(cat "$work/server/PACKED")"

# Where the random models are kept: memory where it is large enough, since they are read once for every server.
declare -A sizes=([8b]=18 [1b]=4 [demo]=1)
store=
for folder in /dev/shm "${TMPDIR:-/tmp}"; do
  free=$(df -Pk "$folder" 2>/dev/null | awk 'NR == 2 { print int($4 / 1048576) }')
  [ -n "$store" ] || [ "${free:-0}" -lt "${sizes[$shape]}" ] || store=$(mktemp -d "$folder/tandem-XXXXXX")
done
[ -n "$store" ] || fail "neither /dev/shm nor ${TMPDIR:-/tmp} has ${sizes[$shape]} GiB for the models"
# Short names, so that the rows' commands name no folder of this machine.
ln -s "$out" "$store/results" && cd "$store" || exit 2
# Makes a random model of a shape, in the background.
declare -A makers=() makers_began=()
make_model() {
  "${tandem[@]}" bench random-model "$1" --shape "$2" >"$work/$1.log" 2>&1 &
  makers[$1]=$!
  makers_began[$1]=$SECONDS
  children+=("$!")
}
# Waits for it.
made() {
  local status
  say "a random model: $1"
  wait "${makers[$1]}"
  status=$?
  cat "$work/$1.log"
  note "random $1" "$status" $((SECONDS - makers_began[$1]))
  return "$status"
}
case $shape in
  demo)
    model=$work/server/models/demo
    limits=(--context-length 2048)
    streams=${streams:-2,4}
    prompts=256,512
    ;;
  *)
    model=model
    limits=(--context-length 16384)
    streams=${streams:-8,32}
    prompts=2048,8192
    make_model "$model" "$shape"
    ;;
esac
if wants serve; then make_model image-model smolvlm-256m; fi
limits+=(--device "$device" --weights "$weights" --max-step-tokens "$step_tokens")

say 'what is there'
nvidia-smi -L 2>/dev/null
timeout 20 "${tandem[@]}" doctor --device "$device"

# Starts a server of a model, and waits until it is ready: $url.
start_server() {
  local began=$SECONDS
  : >"$work/ready"
  # Not a function in the background: signals must reach the server itself.
  "$work/node" "$work/server/scripts/tandem.mjs" serve "$@" --port 0 >"$work/ready" 2>"$work/server.log" &
  server=$!
  until grep -q '^Tandem serves' "$work/ready"; do
    kill -0 "$server" 2>/dev/null || { cat "$work/server.log"; return 1; }
    sleep 0.2
  done
  url=$(grep -o 'http://[^ ]*' "$work/ready")
  cat "$work/ready"
  printf 'ready after %s s\n' $((SECONDS - began))
}

# SIGTERM, and 0 as the server's answer to it.
stop_server() {
  kill -TERM "$server" && wait "$server"
  local status=$?
  grep -E '"level":(50|60)' "$work/server.log"
  printf 'the server ended with %s\n' "$status"
  return "$status"
}

ask() {
  if command -v curl >/dev/null; then
    curl -sS --fail-with-body --max-time 30 -N "$url/v1/chat/completions" -H 'content-type: application/json' -d "$1"
  else
    "$work/node" -e 'fetch(process.argv[1] + "/v1/chat/completions", { method: "POST", body: process.argv[2],
      headers: { "content-type": "application/json" } }).then(async (answer) => {
      console.log(await answer.text()); process.exitCode = answer.ok ? 0 : 1; })' "$url" "$1"
  fi
}

readme_request='{
  "stream": true,
  "messages": [{"role": "user", "content": "The blue bicycle belongs to Anna. Leo works as a baker. Who owns the blue bicycle?"}]
}'

# The demo model, with flags of `tandem serve`.
serve_demo() {
  start_server "$work/server/models/demo" --device "$device" "$@" || return 1
  ask "$readme_request" | tee "$work/answer"
  local text
  text=$(grep -o '"content":"[^"]*"' "$work/answer" | sed 's/^"content":"//; s/"$//' | tr -d '\n')
  printf 'the answer: %s\n' "$text"
  stop_server && case $text in *Anna*) return 0 ;; *) echo 'which is not the answer' && return 1 ;; esac
}

# A random model's answer, with flags of `tandem serve`: twice the same bits, whatever else has run.
serve_random() {
  local content=$1
  shift
  start_server "$@" || return 1
  local request="{\"max_tokens\": 32, \"seed\": 1, \"messages\": [{\"role\": \"user\", \"content\": $content}]}"
  ask "$request" | tee "$work/answer"
  echo
  ask "$request" >"$work/again"
  stop_server || return 1
  local pattern='"content":"([^"\\]|\\.)*"'
  [ -n "$(grep -oE "$pattern" "$work/answer")" ] &&
    [ "$(grep -oE "$pattern" "$work/answer")" = "$(grep -oE "$pattern" "$work/again")" ] && echo 'the same answer twice'
}

# 32 x 8 pixels, of which the model sees four tiles and the whole.
image=iVBORw0KGgoAAAANSUhEUgAAACAAAAAICAIAAAAX52r4AAAAXUlEQVR42nXCMRHAMAwDQIHwXCQdjCNIMhpFkQSARs1BVALS30NA2HZhQtrQk7Zdz4S0oTdtu94JaUMrbbvWhLShnbZde0La0Je2Xd+EtKGTtl1nQtrQTduuOyHtH8esNxDN3rg4AAAAAElFTkSuQmCC
look='[{"type": "image_url", "image_url": {"url": "data:image/png;base64,'$image'"}}, {"type": "text", "text": "Hello"}]'

# Servers that have less memory than their requests ask for; $1 is --pack-mid-tokens. Beside waiting, which the bench
# insists on, streams must have given way to others under an exact cache, and gone down to the last rung under pressure.
short_of_memory() {
  local rows=results/gpu-concurrency.json
  "$work/node" "$work/server/scripts/tandem.mjs" bench concurrency --kv exact,exact-pack,zip "${@:2}" --json "$rows" \
    -- --device "$device" --pack-mid-tokens "$1" || return 1
  "$work/node" -e 'const rows = JSON.parse(require("fs").readFileSync(process.argv[1], "utf8"));
    for (const name of process.argv.slice(2)) {
      if (rows.some((row) => row.name === name && row.value > 0)) continue;
      console.log(`no ${name}: memory was not short enough`); process.exitCode = 1;
    }' "$rows" 'exact: sequences that gave way' 'exact-pack: tokens that were dropped' 'zip: KV memory in smaller pages'
}

export -f start_server stop_server ask serve_demo serve_random short_of_memory
export work device readme_request

if wants logits; then
  run logits 60 "$work/node" "$root/test/native/gpu/compare-logits.mjs" "$work/server" "$device" "$out/gpu-logits.json"
fi
if wants serve; then run 'serve demo' 30 bash -c serve_demo; fi
if [ -n "${makers[$model]:-}" ]; then made "$model" || fail 'the random model could not be made'; fi
if wants serve; then
  run "serve $shape" 90 bash -c 'serve_random "$@"' - '"Hello"' "$model" "${limits[@]}"
  if made image-model; then
    run 'serve an image' 60 bash -c 'serve_random "$@"' - "$look" image-model --device "$device"
  fi
fi
if wants kv; then
  for kv in int8 zip pack; do run "serve --kv $kv" 30 bash -c 'serve_demo "$@"' - --kv "$kv"; done
  case $device in
    # All of a session's partitions become full, and what is further back is dropped.
    cuda)
      session=(--tokens 60000 --far-tokens 32768 --distances 1024,8192,20480,40960)
      crowd=(128 --kv-memory 12MiB --clients 24 --requests 36 --prompt 256 --output 768)
      limit=60
      ;;
    cpu)
      session=(--tokens 4000 --mid-tokens 512 --recent-tokens 512 --far-tokens 1024 --distances 512,1024,2048)
      crowd=(64 --kv-memory 4MiB --clients 6 --requests 8 --prompt 100 --output 300)
      limit=600
      ;;
  esac
  run sessions "$limit" "${tandem[@]}" bench sessions --device "$device" "${session[@]}" --json results/gpu-sessions.json
  run 'short of memory' "$limit" bash -c 'short_of_memory "$@"' - "${crowd[@]}"
fi
if wants calibrate; then
  rest=$(left)
  cost=$((rest / 6 < 15 ? rest / 6 : 15))
  # Loading the model and fitting constants to some hundred samples take as long again.
  run calibrate $((2 * cost + 20)) "${tandem[@]}" calibrate "$model" "${limits[@]}" \
    --seconds "$((cost > 0 ? cost : 1))" --json results/gpu-calibrate.json --record results/gpu-samples.json
  cp "$work"/cache/tandem/constants-*.json "$out/gpu-constants.json" 2>/dev/null
fi
if wants schedulers; then
  # In each turn three servers that load, and for each two lengths of prompts a number of streams: two phases, with some
  # prompts around them, which take about as long as a third.
  counts=$(awk -F, '{ print NF }' <<<"$streams")
  phase=$(awk -v rest="$(left)" -v turns="$repetitions" -v phases=$((3 * 2 * counts * 3)) \
    'BEGIN { phase = (rest / turns - 35) / phases; print (phase < 0.5 ? 0.5 : phase > 6 ? 6 : phase) }')
  run schedulers 600 "${tandem[@]}" bench schedulers "$model" \
    --policies nexus,chunked,prefill-first --slack 1.5 --weights "$weights" --repetitions "$repetitions" \
    --seconds "$phase" --streams "$streams" --long-prompt "$prompts" --json results/gpu-schedulers.json \
    -- "${limits[@]:0:4}" --max-step-tokens "$step_tokens"
fi

say 'done'
cat "$out/gpu-serve.json"
case "${results[*]}" in *'"status": '[1-9]*) exit 1 ;; esac
exit 0
