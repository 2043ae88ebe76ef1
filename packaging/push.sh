#!/usr/bin/env bash
# Pushes the images of one version from a directory, and then the name under which Docker finds the one for a machine.
# Repeating it does no harm.
#
#   packaging/push.sh DIRECTORY ghcr.io/OWNER/apigw-local VERSION
set -euo pipefail

pushed=()
for platform in linux-x64 linux-arm64; do
  file="$1/apigw-local-$3-$platform.image.tar"
  [ -f "$file" ] || { echo "error: $file is missing" >&2; exit 1; }
  docker load --quiet --input "$file"
  docker tag "apigw-local:$3-$platform" "$2:$3-$platform"
  docker push --quiet "$2:$3-$platform"
  pushed+=("$2:$3-$platform")
done
docker buildx imagetools create --tag "$2:$3" --tag "$2:latest" "${pushed[@]}"
