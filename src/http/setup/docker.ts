/** Docker: `registry-mirrors` for Docker Hub; `hosts.toml` for the rest, with the containerd image store. */
export const DOCKER = String.raw`
daemon=/etc/docker/daemon.json
certs=/etc/docker/certs.d

mirror_lines() {
  printf '  "registry-mirrors": ["%s"]' "$mirror"
  case $mirror in
    http://*) printf ',\n  "insecure-registries": ["%s"]' "$mirror" ;;
  esac
  printf '%s\n' "$1"
}

whole_file() {
  printf '{\n'
  mirror_lines ''
  printf '}\n'
}

# has_list KEY: the file has the key, with or without the mirror.
has_list() {
  grep -q "\"$1\"" "$root$daemon"
}

plan_daemon() {
  refuse_link "$daemon"
  text=$(tr -d ' \t\r\n' 2>/dev/null <"$root$daemon" || :)
  case $text in
    '' | '{}')
      whole_file >"$work/text"
      stage "$daemon"
      return
      ;;
    '{'*) ;;
    *)
      refuse "$daemon is not a JSON object"
      return
      ;;
  esac
  if has_list registry-mirrors; then
    if grep -qF -e "\"$mirror\"" -e "\"$mirror/\"" "$root$daemon"; then return; fi
    refuse "$daemon has registry-mirrors already: add \"$mirror\" to that list"
    return
  fi
  case $mirror in
    http://*)
      if has_list insecure-registries; then
        refuse "$daemon has insecure-registries already: add \"$mirror\" to that list, and registry-mirrors"
        return
      fi
      ;;
  esac
  mirror_lines , >"$work/lines"
  awk -v lines="$work/lines" '
    !done && (at = index($0, "{")) {
      print substr($0, 1, at)
      while ((getline line <lines) > 0) print line
      rest = substr($0, at + 1)
      if (rest ~ /[^ \t\r]/) print rest
      done = 1
      next
    }
    { print }
  ' "$root$daemon" >"$work/text"
  stage "$daemon"
}

unplan_daemon() {
  refuse_link "$daemon"
  [ -f "$root$daemon" ] || return 0
  whole_file >"$work/whole"
  if same "$root$daemon" "$work/whole"; then
    stage_removal "$daemon"
    return
  fi
  mirror_lines , >"$work/lines"
  grep -qxF -f "$work/lines" "$root$daemon" || return 0
  awk -v lines="$work/lines" '
    BEGIN { while ((getline line <lines) > 0) ours[line] = 1 }
    !($0 in ours) { print }
  ' "$root$daemon" >"$work/text"
  stage "$daemon"
}

plan() {
  if [ "$action" = remove ]; then unplan_daemon; else plan_daemon; fi
  plan_hosts "$certs/_default/hosts.toml"
}

tell() {
  note "docker pull uses the new daemon.json after systemctl reload docker."
  note "Registries other than Docker Hub come from the mirror only with the containerd image store (docker info says io.containerd.snapshotter.v1)."
  if [ -n "$ca" ]; then note "For Docker Hub, copy the CA certificate to $certs/$authority/ca.crt."; fi
}
`
