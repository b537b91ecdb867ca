#!/usr/bin/env bash
# Installs the Debian packages that tests need, where they are missing and where we may. Elsewhere their tests are skipped.
set -euo pipefail

packages=(
  chromium
  nginx-light
  postgresql
  prometheus
  redis-server
  systemd
)

missing=()
for package in "${packages[@]}"; do
  dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
  echo "Not installed, so that some tests are skipped: ${missing[*]}" >&2
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
