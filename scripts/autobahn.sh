#!/bin/bash
# RFC 6455 conformance: runs the Autobahn test suite's fuzzing client against a WebSocket server whose clients get their
# messages back (profile `channel`).
#
#   scripts/autobahn.sh                    builds carillon, starts a node of its own, tests that
#   scripts/autobahn.sh ws://host:port/    tests a server that runs already
#
# Groups 1 to 7 and 10, 247 cases, a few seconds; others by CASES='["9.*"]' (9, 12 and 13 are slow, the last two need a
# compression that is not offered). Reports go to OUT (target/autobahn). Exits 1 if a case failed, 2 if it could not be run.
#
# The suite is Python 2.7: PYTHON2 names an interpreter (else python2.7, or pyenv's, is looked for). It is installed from
# PyPI, with a C compiler, into AUTOBAHN_HOME (~/.cache/autobahn) the first time.
set -euo pipefail
cd "$(dirname "$0")/.."

home=${AUTOBAHN_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/autobahn}
out=$(realpath -m "${OUT:-target/autobahn}")
cases=${CASES:-'["1.*","2.*","3.*","4.*","5.*","6.*","7.*","10.*"]'}

fail() {
  echo "autobahn.sh: $*" >&2
  exit 2
}

# The first Python 2.7 that runs: pyenv's python2.7 may be there and refuse.
find_python() {
  local python
  for python in ${PYTHON2:-python2.7 "$HOME"/.pyenv/versions/2.7.*/bin/python}; do
    if "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (2, 7))' 2>/dev/null; then
      echo "$python"
      return
    fi
  done
  fail "no Python 2.7 found; name one in PYTHON2"
}

install_suite() {
  export PIP_NO_PYTHON_VERSION_WARNING=1
  local python
  python=$(find_python)
  mkdir -p "$home"
  # The last virtualenv that makes environments of Python 2.7.
  "$python" -m pip install -q --target "$home/boot" virtualenv==20.15.1
  PYTHONPATH=$home/boot "$python" -m virtualenv -q "$home/venv"
  "$home/venv/bin/pip" install -q autobahntestsuite==25.10.1
}

node=
stop_node() {
  [[ -n $node ]] || return 0
  kill "$node" 2>/dev/null && wait "$node" || true
}
trap stop_node EXIT

# Starts a node on free ports and sets `url`.
start_node() {
  local ports ws http
  cargo build --quiet --bin carillon
  ports=$(python3 -c '
import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(s.getsockname()[1] for s in sockets))')
  read -r ws http <<<"$ports"
  WS_HOST=127.0.0.1 WS_PORT=$ws HTTP_HOST=127.0.0.1 HTTP_PORT=$http \
    "${CARGO_TARGET_DIR:-target}/debug/carillon" >"$out/node.log" 2>&1 &
  node=$!
  for _ in {1..100}; do
    if (exec 3<>"/dev/tcp/127.0.0.1/$ws") 2>/dev/null; then
      url=ws://127.0.0.1:$ws/
      return
    fi
    kill -0 "$node" 2>/dev/null || break
    sleep 0.1
  done
  cat "$out/node.log" >&2
  fail "the node did not start"
}

# One line of figures, then each case that failed.
report() {
  python3 - "$out/index.json" <<'PYTHON'
import collections, json, sys

passed = {"OK", "INFORMATIONAL", "NON-STRICT"}
with open(sys.argv[1]) as index:
    agents = json.load(index)
# Where nobody answers, the suite writes an empty report and is content.
if not any(agents.values()):
    print("no case was run", file=sys.stderr)
    sys.exit(2)
failed = False
for agent, cases in agents.items():
    print(agent, len(cases), "cases", dict(collections.Counter(case["behavior"] for case in cases.values())))
    for name, case in sorted(cases.items()):
        if case["behavior"] not in passed or case["behaviorClose"] not in {"OK", "INFORMATIONAL"}:
            print(" ", name, case["behavior"], "close:", case["behaviorClose"])
            failed = True
sys.exit(failed)
PYTHON
}

[[ -x $home/venv/bin/wstest ]] || install_suite
mkdir -p "$out"
rm -f "$out/index.json"
url=${1:-}
[[ -n $url ]] || start_node
printf '{"outdir":"%s","servers":[{"agent":"carillon","url":"%s"}],"cases":%s,"exclude-cases":[],"exclude-agent-cases":{}}' \
  "$out" "$url" "$cases" >"$out/spec.json"
PYTHONHASHSEED=0 PYTHONWARNINGS=ignore "$home/venv/bin/wstest" -m fuzzingclient -s "$out/spec.json" >"$out/wstest.log" 2>&1 ||
  { tail -20 "$out/wstest.log" >&2; fail "the suite did not run"; }
[[ -f $out/index.json ]] || { tail -20 "$out/wstest.log" >&2; fail "the suite wrote no report"; }
report
