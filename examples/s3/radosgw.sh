#!/bin/sh
# Makes a user of the gateway, which then makes its bucket and owns it. On a host with the keyring of client.admin.
set -eu
radosgw-admin user create --uid entrepot --display-name Entrepot --access-key entrepot --secret "${S3_SECRET_KEY:?}"
AWS_ACCESS_KEY_ID=entrepot AWS_SECRET_ACCESS_KEY="$S3_SECRET_KEY" AWS_DEFAULT_REGION=us-east-1 \
  aws --endpoint-url http://radosgw:7480 s3api create-bucket --bucket images
