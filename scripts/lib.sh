# Shared by the scripts beside it: `step` prints what runs and how long it took, `finish` the sum.
# Source it; it goes to the root of the repository.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
steps_done=()

# step NAME COMMAND…: runs the command, stops the script where it fails.
step() {
    local name=$1 began=$SECONDS status=0
    shift
    printf '\n==> %s: %s\n' "$name" "$*"
    "$@" || status=$?
    if [ "$status" -ne 0 ]; then
        printf '\n==> %s FAILED after %s (exit %d)\n' "$name" "$(duration $((SECONDS - began)))" "$status" >&2
        exit "$status"
    fi
    steps_done+=("$(printf '%8s  %s' "$(duration $((SECONDS - began)))" "$name")")
}

finish() {
    printf '\n==> all passed\n'
    printf '%s\n' "${steps_done[@]}"
    printf '%8s  %s\n' "$(duration "$SECONDS")" total
}

duration() { printf '%dm%02ds' $(($1 / 60)) $(($1 % 60)); }
