#!/bin/sh
# Every system package that fastsec's build, demo, test and bench need, in one place.
#
#   scripts/system-packages.sh list            names all of them
#   scripts/system-packages.sh build|test|bench|fuzz    installs what is missing for that (as root), else says how, in a line
#
# PYTHON names the interpreter that .venv will be made from (default: python3).
set -eu
python=${PYTHON:-python3}
missing=""

need() { # need PACKAGE COMMAND...: the package is missing where the command fails
    package=$1
    shift
    "$@" >/dev/null 2>&1 || missing="$missing $package"
}
header() { echo "#include <$1>" | cc -E -o /dev/null -; }
openssl3() { printf '#include <openssl/opensslv.h>\n#if OPENSSL_VERSION_MAJOR < 3\n#error old\n#endif\n' | cc -E -o /dev/null -; }
still_missing() { missing="" && "$1" && [ -n "$missing" ]; }
in_sbin() { PATH="$PATH:/usr/sbin:/sbin" command -v "$1"; }
rsyslog_tls() { for module in /usr/lib/*/rsyslog/lmnsd_ossl.so /usr/lib*/rsyslog/lmnsd_ossl.so; do [ ! -e "$module" ] || return 0; done && return 1; }

build() {
    need gcc command -v cc
    need libc6-dev header stdio.h
    need libssl-dev openssl3
    need python3 command -v "$python"
    need python3-venv "$python" -c 'import venv, ensurepip'
    need python3-dev "$python" -c 'import os, sysconfig; assert os.path.exists(sysconfig.get_path("include") + "/Python.h")'
}
tests() {
    build
    need tshark command -v tshark
    need maude command -v maude
    need spin command -v spin
    need valgrind command -v valgrind # also its headers
    need stunnel4 in_sbin stunnel # as TLS peer
    need openssl command -v openssl # as TLS peer and OCSP responder
    need softhsm2 command -v softhsm2-util
    need rsyslog in_sbin rsyslogd # as collector of security events
    need rsyslog-openssl rsyslog_tls
}
bench() {
    build
    need stunnel4 in_sbin stunnel
    need valgrind command -v valgrind
}

fuzz() {
    tests
    need clang command -v clang
}

case "${1:-}" in
list) echo "gcc make libc6-dev libssl-dev python3 python3-venv python3-dev tshark stunnel4 valgrind clang maude spin softhsm2 openssl rsyslog rsyslog-openssl"; exit 0 ;;
build) what=build ;;
test) what=tests ;;
bench) what=bench ;;
fuzz) what=fuzz ;;
*) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac

still_missing $what || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing system packages:$missing" >&2
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q >/dev/null
    # shellcheck disable=SC2086 — one word per package is meant
    apt-get install -y -q --no-install-recommends $missing >/dev/null
    still_missing $what || exit 0
    echo "installed, but still not found for $python:$missing" >&2
    exit 1
else
    echo "missing system packages; run once: sudo apt-get install -y --no-install-recommends$missing" >&2
    exit 1
fi
