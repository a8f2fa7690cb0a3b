# shellcheck shell=bash
# What the peer scripts share; they source it. Everything lives below $TERRACE_PEERS_DIR (target/peers of the checkout):
# bin/ holds built programs, kafka/libs the jars, python/ a virtual environment. Linux only (it reads /proc).

peers=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TERRACE_PEERS_DIR=${TERRACE_PEERS_DIR:-$(cd "$peers/../.." && pwd)/target/peers}
export TERRACE_PEERS_DIR
peers_bin=$TERRACE_PEERS_DIR/bin
peers_tmp=${TMPDIR:-/tmp}
peers_tmp=${peers_tmp%/}

die() { echo "${0##*/}: $*" >&2; exit 1; }

# usage STATUS: prints the calling script's header comment.
usage() { awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$0"; exit "$1"; }

need() {
  local tool
  for tool; do command -v "$tool" >/dev/null || die "needs $tool on the PATH"; done
}

# retry COMMAND...: registries hiccup; three tries with a pause.
retry() {
  local try
  for try in 1 2 3; do
    "$@" && return 0
    [[ $try == 3 ]] || { echo "again in $((try * 5)) s: $1" >&2; sleep $((try * 5)); }
  done
  return 1
}

# as_root COMMAND...: as root or through sudo.
as_root() {
  if [[ $EUID -eq 0 ]]; then env DEBIAN_FRONTEND=noninteractive "$@"; else sudo env DEBIAN_FRONTEND=noninteractive "$@"; fi
}

# apt_get ARGS...: refreshes the package lists only when the first try fails.
apt_get() {
  need apt-get
  local log
  log=$(mktemp "$peers_tmp/terrace-apt.XXXXXX")
  if ! as_root apt-get -q -y "$@" >"$log" 2>&1; then
    as_root apt-get -q -y update >>"$log" 2>&1 || true
    as_root apt-get -q -y "$@" >>"$log" 2>&1 || { tail -n 5 "$log" >&2; die "apt-get $* failed"; }
  fi
  rm -f "$log"
}

# put_bin FILE NAME: moves a built FILE into the folder of programs in one step, so nobody sees half of one.
put_bin() {
  mkdir -p "$peers_bin"
  mv -f "$1" "$peers_bin/.$2.$$"
  mv -f "$peers_bin/.$2.$$" "$peers_bin/$2"
}

# go_install NAME MODULE VERSION [PACKAGE]: a program of a Go module, of the folder PACKAGE in it; skipped when that very
# version is there, an old pin is built anew.
go_install() (
  if [[ -x $peers_bin/$1 ]]; then
    command -v go >/dev/null || return 0
    info=$(go version -m "$peers_bin/$1" 2>/dev/null || true)
    [[ $info == *$'\t'"$2"$'\t'"$3"[$'\t\n']* ]] && return 0
  fi
  need go
  proxy=$(go env GOPROXY)
  work=$(mktemp -d "$peers_tmp/terrace-go.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  # The module proxy alone: no version-control checkout of anything.
  GOBIN=$work GOPROXY=${proxy//[,|]direct/} GONOPROXY=none GOWORK=off GOFLAGS='-buildvcs=false -mod=mod' \
    retry go install -trimpath -ldflags='-s -w' "$2${4:+/$4}@$3"
  # The program has the name of its folder.
  path=$2${4:+/$4}
  put_bin "$work/${path##*/}" "$1"
)

# started_at PID: the kernel's start time of a live process; nothing for a dead one or a zombie.
started_at() {
  local stat
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 0
  # shellcheck disable=SC2086 # the words after the command name, which may itself hold blanks
  set -- ${stat##*) }
  [[ $1 == Z ]] || echo "${20}"
}

# running PIDFILE: does the very process we started still run? The start time tells it from a reused pid.
running() {
  local pid at
  [[ -f $1 ]] && read -r pid at <"$1" && [[ -n $at && $(started_at "$pid") == "$at" ]]
}

# spawn PIDFILE LOG COMMAND...: detached from the terminal and from the caller's pipes. With $TERRACE_PEER_OWNER set to
# a pid, the daemon ends when that process does, so that an aborted test run leaves nothing behind.
spawn() {
  local pidfile=$1 log=$2
  shift 2
  setsid nohup "$@" >"$log" 2>&1 </dev/null &
  local pid=$!
  echo "$pid $(started_at $pid)" >"$pidfile"
  # In a session of its own: whoever kills the tests' process group must not kill the watch with it.
  # (Not `test || command &`: that leaves a shell behind which holds the caller's pipes as long as the watch runs.)
  if [[ -n ${TERRACE_PEER_OWNER:-} ]]; then
    setsid nohup bash -c "source '$peers/lib.sh'; watch_owner '$pidfile' '$TERRACE_PEER_OWNER'" >/dev/null 2>&1 </dev/null &
  fi
}

# watch_owner PIDFILE OWNER: ends the daemon, and its data, once the process OWNER is gone.
watch_owner() {
  local owner_at pid
  owner_at=$(started_at "$2")
  while running "$1" && [[ -n $owner_at && $(started_at "$2") == "$owner_at" ]]; do sleep 0.5; done
  # Who stopped it while the owner lives says what becomes of its data.
  [[ -z $owner_at || $(started_at "$2") != "$owner_at" ]] || return 0
  if running "$1"; then
    read -r pid _ <"$1"
    kill -9 "$pid"
    while running "$1"; do sleep 0.1; done
  fi
  rm -rf "$(dirname "$1")"
}

# halt PIDFILE: SIGTERM, after 10 s SIGKILL; no error when nothing runs.
halt() {
  local pid
  if running "$1"; then
    read -r pid _ <"$1"
    kill "$pid" 2>/dev/null || true
    for _ in $(seq 100); do running "$1" || break; sleep 0.1; done
    running "$1" && kill -9 "$pid" 2>/dev/null
    while running "$1"; do sleep 0.05; done
  fi
  rm -f "$1"
}

# wait_ready SECONDS PIDFILE LOG COMMAND...: until COMMAND succeeds; shows the end of the log when it never does.
wait_ready() {
  local seconds=$1 pidfile=$2 log=$3
  shift 3
  local until=$((SECONDS + seconds))
  until "$@" >/dev/null 2>&1; do
    running "$pidfile" || { tail -n 5 "$log" >&2; die "it died while starting; log: $log"; }
    ((SECONDS < until)) || { tail -n 5 "$log" >&2; halt "$pidfile"; die "not ready in $seconds s; log: $log"; }
    sleep 0.1
  done
}

port_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
