#!/bin/bash
# Install the Debian packages that netbpf, its tests and its benchmarks need. Where all of them are
# there, it asks nothing of the network and takes some milliseconds.
set -euo pipefail

case "$(uname -m)" in
x86_64) headers=linux-headers-cloud-amd64 ;;
aarch64) headers=linux-headers-cloud-arm64 ;;
*) headers=linux-headers-generic ;;
esac

packages=(
	python3-venv          # .venv
	clang-14              # compiles xdp/ and tc/, and what users attach as C
	llvm-14               # llvm-strip: drops DWARF, keeps BTF
	libbpf-dev            # <bpf/bpf_helpers.h>
	linux-libc-dev        # <linux/bpf.h>
	python3-bpfcc         # the BCC dialect
	"$headers"            # which BCC compiles against
	libpcap0.8            # filters of captures
	clang-19              # tests: the second compiler
	bpftool               # tests: a second opinion; benchmarks
	xdp-tools             # tests: libxdp's dispatcher; benchmarks: xdp-loader
	iproute2              # tests: ip and tc as foreign managers; benchmarks
	graphviz              # netbpf prog dump --cfg svg
	ethtool               # tests: offloads and features of interfaces
	tcpdump               # tests: a second opinion on packets
	tshark                # tests: what Wireshark makes of captures that netbpf writes
	lcov                  # tests: what genhtml makes of coverage that netbpf writes
	gcc                   # benchmarks: the bare kernel call, in C
	libc6-dev
)

if ! command -v dpkg-query >/dev/null; then
	if command -v clang >/dev/null && [ -e /usr/include/bpf/bpf_helpers.h ]; then
		echo "setup: not Debian; clang and bpf_helpers.h are there, the rest is yours to provide"
		exit 0
	fi
	echo "setup: this is not Debian or Ubuntu. Install clang, llvm, the headers of libbpf and of Linux," \
		"bpftool, xdp-tools, iproute2, ethtool, tcpdump, tshark, gcc and BCC for Python yourself." >&2
	exit 1
fi

# dpkg-query fails for packages it never heard of, and still lists the others.
installed=$(dpkg-query --show --showformat='${db:Status-Status} ${Package}\n' "${packages[@]}" 2>/dev/null || true)
missing=()
for package in "${packages[@]}"; do
	[[ $'\n'$installed$'\n' == *$'\n'"installed $package"$'\n'* ]] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ]; then
	echo "setup: ${#missing[@]} packages are missing; run 'make setup' as root, or:" >&2
	echo "  sudo apt-get install --no-install-recommends ${missing[*]}" >&2
	exit 1
fi

echo "setup: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Its output is long and of no interest, unless it fails.
if ! {
	apt-get -o DPkg::Lock::Timeout=300 update &&
		apt-get -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends "${missing[@]}"
} >"$log" 2>&1 </dev/null; then
	cat "$log" >&2
	echo "setup: apt-get failed" >&2
	exit 1
fi
