#!/usr/bin/env bash
# Sees to it that programs are there: `packages.sh PROGRAM:PACKAGE …`. What is missing is installed with
# apt-get by root, or by whoever may sudo without a password; for others it says what to do.
set -euo pipefail
missing=()
for pair in "$@"; do
	PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
[ "${#missing[@]}" -eq 0 ] && exit 0
if [ "$(id -u)" -eq 0 ]; then
	as_root=()
elif sudo -n true 2>/dev/null; then
	as_root=(sudo -n)
else
	echo "missing: ${missing[*]}; ask root for: apt-get install ${missing[*]}" >&2
	exit 2
fi
"${as_root[@]}" apt-get update -q >/dev/null
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" >/dev/null
