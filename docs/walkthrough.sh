#!/bin/sh
# Everything that a client does, with curl alone: SERVER=http://... TOKEN=... sh walkthrough.sh FILE.shot [FOLDER]
set -eu
shot=$1 folder=${2:-.}
client=$(cat /proc/sys/kernel/random/uuid 2>/dev/null || uuidgen)
ask() {
    curl -sS --fail-with-body --max-time 600 -H "Authorization: Bearer ${TOKEN:-none}" -H "X-Maquette-Wire: 1" \
        -H "X-Maquette-Client: $client" "$@"
}
field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }

echo "Who answers:"
curl -sS --fail-with-body "$SERVER/v1/health" && echo

echo "Send the shot. The key makes it safe to send again where the answer is lost:"
key=$(date +%s)-$$-upload
job=$(ask -H "Idempotency-Key: $key" -F "shot=@$shot" "$SERVER/v1/videos")
again=$(ask -H "Idempotency-Key: $key" -F "shot=@$shot" "$SERVER/v1/videos")
id=$(printf %s "$job" | field id)
[ "$id" = "$(printf %s "$again" | field id)" ]
echo "$id"

echo "Follow it until it has ended:"
ask -N -o "$folder/events.txt" "$SERVER/v1/videos/$id/events"
status=$(ask "$SERVER/v1/videos/$id" | field status)
echo "$status"
[ "$status" = completed ]

echo "Fetch the film, and its frames:"
ask -o "$folder/film.mp4" "$SERVER/v1/videos/$id/content"
ask -o "$folder/frames.zip" "$SERVER/v1/videos/$id/content?variant=frames"

echo "Delete it; it is gone:"
ask -X DELETE -o "$folder/deleted.json" "$SERVER/v1/videos/$id"
! ask -o "$folder/gone.json" "$SERVER/v1/videos/$id" 2>/dev/null
field code < "$folder/gone.json"
