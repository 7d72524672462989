#!/bin/sh
# guest: runs a command on Debian's own kernel, in a virtual machine (qemu, without KVM: some ten times slower), for what the kernel
# of this machine lacks or forbids: TLS in the kernel, `tc netem`, a high limit of descriptors.
#
#   tests/guest.sh COMMAND...       in the build directory; its kernel and what it starts from lie in ./guest
#
# The guest sees this machine's files where they are and can't change them: what it writes is gone with it. It has the loopback only,
# and ends with its command, whose exit status is told. GUEST_MB, GUEST_SECONDS: its memory, and after what time it is ended.
# Needs, beside what the command does: qemu-system-x86 busybox-static cpio kmod (make check-guest installs them). For amd64.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$PWD/guest
mkdir -p "$work"

# Debian's kernel, unpacked and not installed.
if ! ls "$work"/kernel/boot/vmlinuz-* >/dev/null 2>&1; then
	package=$(apt-cache depends --no-recommends --no-suggests linux-image-amd64 | sed -n 's/^ *Depends: \(linux-image-[^ ]*\).*/\1/p' | head -1)
	(cd "$work" && apt-get -qq -o APT::Sandbox::User=root download "$package" && dpkg-deb -x "$package"_*.deb kernel && rm "$package"_*.deb)
fi
kernel=$(ls "$work"/kernel/boot/vmlinuz-* | tail -1)
release=${kernel##*/vmlinuz-}
modules=$work/kernel/lib/modules/$release
[ -f "$modules/modules.dep" ] || depmod -b "$work/kernel" "$release"

# What it starts from: busybox, and the modules that reach the files of this machine, each behind those that it needs.
start=$work/start
rm -rf "$start"
mkdir -p "$start/bin" "$start/modules"
cp "$(command -v busybox)" "$start/bin/"
cp "$here/guest-init" "$start/init"
chmod +x "$start/init"
for module in virtio_pci 9pnet_virtio 9p overlay; do
	sed -n "s,^\(.*/$module\.ko[^:]*\):\(.*\),\2 \1,p" "$modules/modules.dep" | tr ' ' '\n' | sed '/^$/d' | {
		# modules.dep names what is needed last to first.
		own=; needed=
		while read -r path; do needed="${own:+$own }$needed"; own=$path; done
		printf '%s\n' $needed "$own"
	}
done | awk '!seen[$0]++' > "$start/order"
while read -r path; do cp "$modules/$path" "$start/modules/"; done < "$start/order"
sed -i 's,.*/,,' "$start/order"

# What it is to do.
{
	echo "modules=$modules release=$release"
	echo "export PATH='$PATH' HOME=/root PYTHONDONTWRITEBYTECODE=1"
	printf 'export SOCKROUTE_TEST_SLOW=%s\n' "${SOCKROUTE_TEST_SLOW:-20}"
	echo "cd '$PWD'"
	printf 'set --'
	for word; do printf " '%s'" "$(printf %s "$word" | sed "s/'/'\\\\''/g")"; done
	echo
} > "$start/job"
(cd "$start" && find . | cpio --quiet -o -H newc | gzip -1) > "$work/start.gz"

timeout "${GUEST_SECONDS:-1200}" qemu-system-x86_64 -machine q35,accel=tcg -cpu max -smp "$(nproc)" -m "${GUEST_MB:-3072}" \
	-nodefaults -no-reboot -nographic -serial stdio -kernel "$kernel" -initrd "$work/start.gz" \
	-append "console=ttyS0 quiet loglevel=2 panic=-1 mitigations=off" \
	-virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap </dev/null 2>"$work/errors" |
	sed -u 's/\r//g' | tee "$work/console" | sed -u '1,/^guest: here$/d; /^guest: exit/,$d'
status=$(sed -n 's/^guest: exit \([0-9]*\)$/\1/p' "$work/console")
[ -n "$status" ] || { cat "$work/errors"; echo "the guest did not come to its end: $work/console" >&2; }
exit "${status:-1}"
