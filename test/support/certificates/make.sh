#!/bin/sh
# Makes the certificates of this folder anew (OpenSSL 3); tests only read them. The authority's key is thrown away at the
# end, so that trusting `ca.pem` somewhere by mistake harms nobody.
set -eu
cd "$(dirname "$0")"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
: >"$scratch/index"
cat >"$scratch/ca.conf" <<CONF
[ca]
default_ca = tests
[tests]
database = $scratch/index
new_certs_dir = $scratch
rand_serial = yes
default_md = sha256
policy = anything
unique_subject = no
[anything]
commonName = supplied
CONF

# issue <name> <subject> <extensions> <last day> [-selfsign]
issue() {
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key.pem" 2>/dev/null
  printf '%b\n' "$3" >"$scratch/extensions"
  openssl req -new -key "$1.key.pem" -subj "/CN=$2" -out "$scratch/request"
  issuer='-cert ca.pem -keyfile ca.key.pem'
  [ -n "${5:-}" ] && issuer="-selfsign -keyfile $1.key.pem"
  openssl ca -batch -notext -config "$scratch/ca.conf" $issuer -in "$scratch/request" -out "$1.pem" \
    -extfile "$scratch/extensions" -startdate 20200101000000Z -enddate "$4000000Z" 2>/dev/null
}

leaf='basicConstraints=CA:FALSE\nauthorityKeyIdentifier=keyid\n'
names="${leaf}subjectAltName=DNS:localhost,DNS:*.example.test,DNS:example.test,DNS:docker.io,DNS:*.docker.io,DNS:ghcr.io,DNS:quay.io,IP:127.0.0.1,IP:::1"
issue ca 'Entrepot tests' 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash' 21200101 -selfsign
issue server localhost "$names" 21200101
issue expired localhost "$names" 20200201
issue other-name other "${leaf}subjectAltName=DNS:elsewhere.example.invalid" 21200101
issue client client "${leaf}extendedKeyUsage=clientAuth" 21200101
issue self-signed localhost "$names" 21200101 -selfsign
rm ca.key.pem
