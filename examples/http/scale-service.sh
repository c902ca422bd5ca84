#!/usr/bin/env bash
# Creates a service, scales it, waits until it is settled, and prints its sets.
# Needs: BERTH_API_URL, BERTH_TOKEN (role tenant), curl.
set -euo pipefail

berth_call() { # METHOD PATH [curl arguments]
  curl --silent --show-error --fail-with-body --request "$1" "$BERTH_API_URL$2" \
    --header "Authorization: Bearer $BERTH_TOKEN" --header "Content-Type: application/json" "${@:3}"
}

# The same key and body take effect once, however often you retry the request.
berth_call POST /v1/services --header "Idempotency-Key: create-menu-web" --data '{
  "name": "menu-web",
  "replicas": 2,
  "template": {
    "cpu": 0.5, "memory": "256Mi", "rootfs": "1Gi",
    "containers": [{
      "index": 0, "name": "app", "image": "nginx:1.27",
      "options": { "cpu": 100, "memory": 100, "health": { "http": { "port": 80, "path": "/" } } }
    }]
  }
}'

# Scaling is absolute, so a repeated request changes nothing.
berth_call POST /v1/services/menu-web/scale --data '{ "replicas": 5 }'
berth_call GET "/v1/services/menu-web/wait?for=settled&timeoutSeconds=30"
berth_call GET "/v1/sets?service=menu-web"
