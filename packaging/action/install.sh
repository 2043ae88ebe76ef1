#!/usr/bin/env bash
# Puts apigw-local into the PATH of the steps that follow: what action.yml runs.
#
# It takes the program from the package for npm in the release of the repository. VERSION names the release; without it
# it is the version of this checkout.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)

# field NAME: a field of Cargo.toml that is written once.
field() { sed -n "s/^$1 = \"\(.*\)\"$/\1/p" "$root/Cargo.toml" | head -n 1; }

version=${VERSION:-$(field version)}
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] ||
  { echo "::error::version $version: expected three numbers, such as 0.1.0"; exit 1; }

case "$RUNNER_OS-$RUNNER_ARCH" in
  Linux-X64) platform=linux-x64 ;;
  Linux-ARM64) platform=linux-arm64 ;;
  macOS-ARM64) platform=darwin-arm64 ;;
  *)
    echo "::error::apigw-local has no program for $RUNNER_OS on $RUNNER_ARCH: use Linux (X64, ARM64) or macOS (ARM64)"
    exit 1
    ;;
esac

directory=$RUNNER_TEMP/apigw-local-$version
mkdir -p "$directory"
address=${APIGW_LOCAL_RELEASES:-$(field repository)/releases/download}/v$version/apigw-local-$platform-$version.tgz
curl --fail --silent --show-error --location --retry 3 --max-time 120 --output "$directory/package.tgz" "$address" ||
  { echo "::error::cannot download $address: is $version a released version?"; exit 1; }
tar -xzf "$directory/package.tgz" -C "$directory" --strip-components=2 package/bin/apigw-local
rm "$directory/package.tgz"
"$directory/apigw-local" --version
echo "$directory" >>"$GITHUB_PATH"
