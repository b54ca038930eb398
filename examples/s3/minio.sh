#!/bin/sh
# Makes the bucket and a user that may use it and nothing else. `mc alias set minio http://minio:9000 <root user> <root password>` comes first.
set -eu
here="$(dirname "$0")"
mc mb --ignore-existing minio/images
mc admin policy create minio entrepot "$here/aws-policy.json"
mc admin user add minio entrepot "${S3_SECRET_KEY:?}"
mc admin policy attach minio entrepot --user entrepot
