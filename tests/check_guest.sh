#!/bin/sh
# check_guest: what `make check-guest` does in the guest (tests/guest.sh), from the build directory: all that differs where the kernel has
# TLS and netem. TLS again in version 1.2 alone, which is the one that the kernel does.
set -u
here=$(cd "$(dirname "$0")" && pwd)
status=0

whole()
{
	SOCKROUTE_TEST_JOBS=2 "$here/whole.sh" -rs "$@" || status=1
}

whole -k "tls_front or tls_within_tls or netem or lossy"

cat > /run/only12.cnf <<END
openssl_conf = all
[all]
ssl_conf = tls
[tls]
system_default = versions
[versions]
MaxProtocol = TLSv1.2
END
export OPENSSL_CONF=/run/only12.cnf
for t in layers stream context; do
	"tests/base/test_tls_$t" || status=1
done
whole -k "tls_within_tls"
exit $status
