#!/usr/bin/env bash
# secrets.sh DIRECTORY [NAME]: everything secret that the files beside it refer to, into a new directory: an authority, a
# certificate of its for each NATS server and one for NAME (localhost), by which clients reach the load balancer; the
# password that nodes have at NATS; the secret of clients' tokens. What clients see is to be believed by them: put a
# certificate and key of your own into feed.pem.
set -euo pipefail

dir=${1:?secrets.sh DIRECTORY [NAME]} name=${2:-localhost}
days=3650
# The directory keeps others out; the files are readable, because in containers they are read by other users.
mkdir -m 0700 "$dir"
cd "$dir"
quiet() { "$@" 2>openssl.log || { cat openssl.log >&2 && exit 1; }; }
key=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)

# certificate FILE NAMES USAGE
certificate() {
    quiet openssl req "${key[@]}" -keyout "$1.key" -out "$1.csr" -subj "/CN=$1"
    quiet openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days "$days" -out "$1.pem" \
        -extfile <(echo "subjectAltName=$2" && echo "extendedKeyUsage=$3")
}

quiet openssl req -x509 "${key[@]}" -keyout ca.key -out ca.pem -days "$days" -subj "/CN=Newswire deployment" \
    -addext "keyUsage=critical,keyCertSign,cRLSign"
for server in nats-a nats-b nats-c; do
    # They connect to each other, so that each is a client as well. This machine's own names are for tools beside it.
    certificate "$server" "DNS:$server,DNS:localhost,IP:127.0.0.1" serverAuth,clientAuth
done
certificate feed "DNS:$name" serverAuth
cat feed.key >>feed.pem

openssl rand -hex 32 >nats-password
echo "authorization { user: \"newswire\", password: \"$(cat nats-password)\" }" >auth.conf
openssl rand -hex 32 >auth-secret

rm -f -- *.csr *.srl openssl.log feed.key
chmod 0444 -- *
# Vouches for servers; nobody needs it before the next certificate.
chmod 0400 ca.key
