#!/bin/sh
# check_hardening: looks for the traces of the hardening flags in the binary that was built, since a flag that got lost on the way
# from ./configure to the linker would be missed by nobody.
#
#   tests/check_hardening.sh [BINARY]      ./sockroute where none is named
#
# Not run for builds without hardening, without optimization or with sanitizers: see configure.ac.
set -eu

binary=${1:-./sockroute}
status=0

# expect WHAT PATTERN: standard input has a line that matches it.
expect()
{
	if grep -Eq -- "$2"; then
		echo "check_hardening: $1: yes"
	else
		echo "check_hardening: $1: MISSING"
		status=1
	fi
}

# refuse WHAT PATTERN: it has none.
refuse()
{
	if grep -Eq -- "$2"; then
		echo "check_hardening: $1: MISSING"
		status=1
	else
		echo "check_hardening: $1: yes"
	fi
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
LC_ALL=C readelf -W -h -l -d "$binary" > "$work/parts"
LC_ALL=C readelf -W --dyn-syms "$binary" > "$work/symbols"

expect 'position-independent (PIE)' '^ *Type: *DYN .*Position-Independent' < "$work/parts"
expect 'read-only relocations (RELRO)' '^ *GNU_RELRO ' < "$work/parts"
expect 'all symbols bound at start (-z now)' 'FLAGS.*NOW' < "$work/parts"
expect 'a stack segment of its own' '^ *GNU_STACK ' < "$work/parts"
refuse 'a stack that is not executable' '^ *GNU_STACK .* RWE ' < "$work/parts"
refuse 'no segment both writable and executable' '^ *LOAD .* RWE ' < "$work/parts"
expect 'stack protector' '__stack_chk_(fail|guard)' < "$work/symbols"
expect '_FORTIFY_SOURCE' '__(memcpy|snprintf|vsnprintf|fprintf|printf|read|recv)_chk' < "$work/symbols"
# Stack clash protection has no symbol: each page of a large frame is touched, which GCC on this machine writes so.
if [ "$(uname -m)" = x86_64 ] && readelf -p .comment "$binary" | grep -q 'GCC:' && command -v objdump >/dev/null; then
	objdump -d --no-show-raw-insn "$binary" > "$work/code"
	expect 'stack clash protection' 'orq *\$0x0,(0x[0-9a-f]+)?\(%rsp\)' < "$work/code"
fi
exit $status
