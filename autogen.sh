#!/bin/sh
# Makes ./configure and the Makefile templates from their sources.
set -e
cd "$(dirname "$0")"
for tool in autoreconf automake pkg-config; do
	command -v $tool >/dev/null || missing=1
done
if [ -n "${missing-}" ]; then
	echo "autogen.sh needs autoconf, automake and pkg-config.  On Debian: apt-get install autoconf automake pkg-config" >&2
	exit 1
fi
exec autoreconf --install --force --warnings=all
