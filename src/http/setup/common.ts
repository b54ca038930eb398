/**
 * Beginning of every script: arguments, staging, and the end that shows each difference before it writes. The
 * script stages all files first, so that one that contradicts leaves all of them as they are. POSIX sh, with
 * no program but those of any node.
 */
export const COMMON = String.raw`
fail() {
  printf 'entrepot: %s\n' "$1" >&2
  exit 1
}

note() {
  printf 'entrepot: note: %s\n' "$1" >&2
}

usage() {
  cat <<'EOF'
curl -fsS MIRROR/setup/CLIENT.sh | sh -s -- [options]
  --dry-run      show the differences and write nothing
  --remove       undo what this script did, and nothing else
  --mirror URL   address of the mirror as this machine reaches it
  --ca FILE      CA certificate of the mirror, at its path on this machine
  --root DIR     directory to use as /, such as /mnt/image
EOF
}

read_arguments() {
  action=write
  root=
  ca=
  while [ "$#" -gt 0 ]; do
    case $1 in
      --dry-run) dry_run=yes ;;
      --remove) action=remove ;;
      --mirror | --ca | --root)
        [ "$#" -gt 1 ] || fail "$1 needs a value"
        case $1 in
          --mirror) mirror=$2 ;;
          --ca) ca=$2 ;;
          --root) root=$2 ;;
        esac
        shift
        ;;
      -h | --help)
        usage
        exit 0
        ;;
      *) fail "$1 is not known: --help lists the options" ;;
    esac
    shift
  done
}

check_arguments() {
  mirror=$(printf '%s' "$mirror" | sed 's,/$,,')
  authority=$(printf '%s' "$mirror" | sed 's,^[a-z]*://,,')
  case $mirror in
    http://?* | https://?*) ;;
    *) fail "--mirror is not the address of a mirror (such as http://mirror.example.com:8080)" ;;
  esac
  case $authority in
    *[!][a-zA-Z0-9.:-]*) fail "--mirror is not the address of a mirror, without a path" ;;
  esac
  case $ca in
    '') ;;
    /*) case $ca in *[\"\\]*) fail "--ca has a character that no path here can have" ;; esac ;;
    *) fail "--ca is not an absolute path" ;;
  esac
  root=$(printf '%s' "$root" | sed 's,/$,,')
  [ -z "$root" ] || [ -d "$root" ] || fail "$root is not a directory"
  if [ -z "$root" ] && [ -z "$dry_run" ] && [ "$(id -u)" != 0 ]; then
    fail "these files belong to root: run it as root (… | sudo sh), or with --dry-run"
  fi
}

# stage PATH: $work/text becomes the new text of the file.
stage() {
  count=$((count + 1))
  mv "$work/text" "$work/$count"
  printf '%s\n' "$1" >>"$work/list"
}

# stage_removal PATH
stage_removal() {
  count=$((count + 1))
  : >"$work/$count.gone"
  printf '%s\n' "$1" >>"$work/list"
}

# refuse REASON: nothing is written, after all differences are shown.
refuse() {
  printf '%s\n' "$1" >>"$work/refusals"
}

# is_ours PATH: this script made the whole file.
is_ours() {
  [ -f "$root$1" ] && [ "$(head -n 1 "$root$1")" = "$mark" ]
}

# refuse_link PATH: a link could lead anywhere.
refuse_link() {
  if [ -h "$root$1" ]; then refuse "$1 is a symbolic link"; fi
}

show_difference() {
  if command -v diff >/dev/null 2>&1; then
    diff -u "$1" "$2" | sed -e "1s,.*,--- $3," -e "2s,.*,+++ $3," || :
  else
    printf '+++ %s\n' "$3"
    cat "$2"
  fi
}

same() {
  [ -f "$1" ] && [ "$(cat "$1" && printf x)" = "$(cat "$2" && printf x)" ]
}

show_all() {
  index=0
  while IFS= read -r path; do
    index=$((index + 1))
    before=$root$path
    [ -f "$before" ] || before=/dev/null
    if [ -e "$work/$index.gone" ]; then
      show_difference "$before" /dev/null "$path"
    elif ! same "$before" "$work/$index"; then
      show_difference "$before" "$work/$index" "$path"
    fi
  done <"$work/list"
}

write_all() {
  index=0
  while IFS= read -r path; do
    index=$((index + 1))
    if [ -e "$work/$index.gone" ]; then
      rm -f "$root$path"
      case $path in */_default/*) rmdir "$(dirname "$root$path")" 2>/dev/null || : ;; esac
      printf 'removed: %s\n' "$path"
    elif same "$root$path" "$work/$index"; then
      printf 'unchanged: %s\n' "$path"
    else
      write_one "$root$path" "$work/$index"
      printf 'written: %s\n' "$path"
    fi
  done <"$work/list"
}

# A reader sees the old file or the new one. An old file keeps its owner and its mode.
write_one() {
  mkdir -p "$(dirname "$1")"
  if [ -f "$1" ]; then cp -p "$1" "$1.entrepot.$$"; fi
  cat "$2" >"$1.entrepot.$$"
  mv "$1.entrepot.$$" "$1"
}

finish() {
  show_all
  if [ -s "$work/refusals" ]; then
    sed 's/^/entrepot: /' "$work/refusals" >&2
    fail "nothing was written; the differences show what is needed"
  fi
  if [ -n "$dry_run" ]; then
    note "nothing was written (--dry-run)"
    exit 0
  fi
  write_all
  if [ "$count" = 0 ]; then printf 'nothing to do\n'; fi
}

# hosts.toml, which containerd and Docker read: one host for every registry.
hosts_text() {
  printf '%s\n[host."%s"]\n  capabilities = ["pull", "resolve"]\n' "$mark" "$mirror"
  if [ -n "$ca" ]; then printf '  ca = "%s"\n' "$ca"; fi
}

# plan_hosts PATH
plan_hosts() {
  refuse_link "$1"
  if [ "$action" = remove ]; then
    if is_ours "$1"; then stage_removal "$1"; fi
    return
  fi
  if [ -f "$root$1" ] && ! is_ours "$1"; then
    if grep -qF "[host.\"$mirror\"]" "$root$1"; then return; fi
    refuse "$1 is not from this script, and names other hosts"
  fi
  hosts_text >"$work/text"
  stage "$1"
}

run() {
  umask 022
  mark="# Made by Entrepot's setup script, whose --remove removes this file."
  dry_run=
  count=0
  read_arguments "$@"
  check_arguments
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  : >"$work/list"
  plan
  finish
  if [ "$action" = write ]; then tell; fi
}
`
