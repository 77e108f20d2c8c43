#!/usr/bin/env bash
# Fuzzes the targets one after another and prints a table; ends with 1 when there is any finding.
#
#   fuzz/run.sh [seconds per target, default 60] [target …, default all]
#
# Needs a nightly toolchain and cargo-fuzz. New inputs collect in fuzz/corpus, findings in fuzz/artifacts, logs in
# fuzz/target/logs; none of them belongs in the repository.
set -uo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cargo +nightly fuzz list)

dictionary() {
  case $1 in
    settings | targets | storage) echo settings ;;
    timespan | query | names | reply) echo text ;;
    steps) echo steps ;;
    *) echo json ;;
  esac
}

# One build for all targets, or only for the one that was asked for.
if [ ${#targets[@]} -eq 1 ]; then only=("${targets[@]}"); else only=(); fi
cargo +nightly fuzz build "${only[@]}" || exit 2

logs=fuzz/target/logs
mkdir -p "$logs"
findings=0
printf '%-14s %12s %9s %9s %9s %7s %9s\n' target runs exec/s coverage features cpu_s findings
for target in "${targets[@]}"; do
  log=$logs/$target.log
  corpus=fuzz/corpus/$target
  mkdir -p "$corpus"
  # A hang or a flood of memory is a finding too.
  times >"$log.begun"
  cargo +nightly fuzz run "$target" "$corpus" "fuzz/seeds/$target" -- -max_total_time="$seconds" -timeout=5 \
    -rss_limit_mb=1024 -dict="fuzz/dictionaries/$(dictionary "$target").dict" -print_final_stats=1 >"$log" 2>&1
  status=$?
  times >"$log.ended"
  # The second line is user time of what this shell ran, as minutes and seconds.
  cpu=$(awk -F '[ms ]' 'FNR == 2 { t = $1 * 60 + $2; d = t - d } END { printf "%d", d }' "$log.begun" "$log.ended")
  stat() { awk -v key="stat::$1:" '$1 == key { print $2 }' "$log" | tail -1; }
  seen() { grep -oE "$1: [0-9]+" "$log" | tail -1 | cut -d' ' -f2; }
  found=0
  [ $status -eq 0 ] || { found=1; findings=$((findings + 1)); }
  printf '%-14s %12s %9s %9s %9s %7s %9s\n' "$target" "$(stat number_of_executed_units)" "$(stat average_exec_per_sec)" \
    "$(seen cov)" "$(seen ft)" "$cpu" "$found"
  [ $found -eq 0 ] || grep -aE 'panicked|^(left|right)|ERROR|artifacts/' "$log" | head -12
done
[ "$findings" -eq 0 ] && echo "no finding" || { echo "$findings targets with a finding; see $logs"; exit 1; }
