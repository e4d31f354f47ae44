#!/usr/bin/env bash
# Third-party clients that the contract tests drive: grpcurl through the Go module proxy, grpcio through PyPI.
# Each is optional; a test that misses its client skips with a loud line.
set -u
tools=.rlhf/tools
pins=examples/clients/python/requirements.txt
mkdir -p "$tools"
if ! command -v grpcurl >/dev/null && [ ! -x "$tools/grpcurl" ] && command -v go >/dev/null; then
  GOBIN="$PWD/$tools" GOFLAGS=-mod=mod timeout 300 go install github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3 || echo "grpcurl: not installed"
fi
if command -v python3 >/dev/null && ! cmp -s "$pins" "$tools/python/requirements.txt"; then
  timeout 300 python3 -m venv "$tools/python" &&
    timeout 300 "$tools/python/bin/pip" install -q --disable-pip-version-check -r "$pins" &&
    cp "$pins" "$tools/python/requirements.txt" || echo "grpcio: not installed"
fi
exit 0
