#!/usr/bin/env bash
# Publishes the packages for npm of one version from a directory, and leaves alone what is published already.
#
#   packaging/publish.sh DIRECTORY VERSION
set -euo pipefail

# First those with the programs, which the launcher asks for.
for package in "$1"/apigw-local-*-*-"$2".tgz "$1"/apigw-local-"$2".tgz "$1"/viral-alerts-"$2".tgz; do
  [ -f "$package" ] || { echo "error: $package is missing" >&2; exit 1; }
  name=$(basename "$package" "-$2.tgz")
  if [ "$(npm view "$name@$2" version 2>/dev/null)" = "$2" ]; then
    echo "$name $2 is published already"
  else
    npm publish --access public --provenance "$package"
  fi
done
