#!/bin/bash
# Builds kube-apiserver and kubectl for the tests of the chart, into ~/go/bin: by the Go proxy, from the modules that go/go.mod
# names. About ten minutes on two idle cores, and a second where they are there. After another version in go.mod, remove them.
set -euo pipefail
cd "$(dirname "$0")/go"
export PATH="$PATH:/usr/local/go/bin" GOFLAGS=-mod=readonly
into="$HOME/go/bin"
version="$(sed -nE 's/^require k8s\.io\/kubernetes (v[0-9.]+)$/\1/p' go.mod)"
IFS=. read -r major minor _ <<<"${version#v}"
# helm refuses a server that does not know its version.
stamp="k8s.io/component-base/version"
flags="-s -w -X $stamp.gitVersion=$version -X $stamp.gitMajor=$major -X $stamp.gitMinor=$minor"
mkdir -p "$into"
for program in kube-apiserver kubectl; do
  if [[ ! -x "$into/$program" ]]; then
    go build -ldflags "$flags" -o "$into/.$program.new" "k8s.io/kubernetes/cmd/$program"
    mv "$into/.$program.new" "$into/$program"
  fi
done
