#!/usr/bin/env bash
# Installs what the tests need beside Python, where it is missing and this is Debian's root. One package and its command a line.
set -euo pipefail

packages=(
    "nginx-light nginx"
    "prometheus promtool"
    "systemd systemd-analyze"
)

missing=()
for line in "${packages[@]}"; do
    read -r package command <<<"$line"
    PATH="$PATH:/usr/sbin" command -v "$command" >/dev/null || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "Not installed, their tests will be skipped: ${missing[*]}" >&2
    exit 0
fi

# Debian starts services as it installs them: not these.
no_services=/usr/sbin/policy-rc.d
if [ ! -e "$no_services" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$no_services"
    chmod +x "$no_services"
    trap 'rm -f "$no_services"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
