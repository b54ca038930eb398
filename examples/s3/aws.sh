#!/bin/sh
# Makes the bucket, and lets the role that the mirror runs as use it and nothing else. No key is written anywhere.
set -eu
here="$(dirname "$0")"
aws s3api create-bucket --bucket images --create-bucket-configuration LocationConstraint=eu-central-1
aws s3api put-bucket-lifecycle-configuration --bucket images --lifecycle-configuration "file://$here/aws-lifecycle.json"
aws iam put-role-policy --role-name entrepot --policy-name bucket --policy-document "file://$here/aws-policy.json"
