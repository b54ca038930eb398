/** containerd: `hosts.toml`, and the setting of the CRI plugin that names its directory. */
export const CONTAINERD = String.raw`
config=/etc/containerd/config.toml
certs=/etc/containerd/certs.d

# What config.toml says: its version, the table of registries, config_path, and the older form of mirrors.
analyse() {
  awk '
    function bare(text) { gsub(/[ \t\042\047]/, "", text); return text }
    /^[ \t]*#/ { next }
    /^[ \t]*\[/ {
      table = bare($0); sub(/#.*/, "", table); gsub(/[][]/, "", table)
      plugin = "^plugins[.]io[.]containerd[.](grpc[.]v1[.]cri|cri[.]v1[.]images)"
      ours = table ~ (plugin "[.]registry$")
      if (ours) print "table", NR
      if (table ~ (plugin "[.]registry[.]mirrors[.].") || table ~ (plugin "[.]registry[.]configs[.].*[.]tls$")) print "older"
      next
    }
    table == "" && /^[ \t]*version[ \t]*=/ { value = $0; gsub(/[^0-9]/, "", value); print "version", value }
    table == "" && /^[ \t]*disabled_plugins[ \t]*=/ && /[.\042\047]cri[\042\047]|cri[.]v1[.]images/ { print "disabled" }
    table ~ /^plugins[.]/ && /^[ \t]*registry[ \t]*=[ \t]*\{/ { print "older" }
    ours && /^[ \t]*config_path[ \t]*=/ {
      value = $0; sub(/^[^=]*=[ \t]*/, "", value); sub(/[ \t]*(#.*)?$/, "", value); gsub(/[\042\047]/, "", value)
      print "path", NR, value
    }
  ' "$root$config"
}

plan_config() {
  refuse_link "$config"
  if [ ! -f "$root$config" ]; then
    printf '%s\nversion = 2\n\n[plugins."io.containerd.grpc.v1.cri".registry]\n  config_path = "%s"\n' "$mark" "$certs" >"$work/text"
    stage "$config"
    return
  fi
  if is_ours "$config"; then return; fi
  found=$(analyse)
  if printf '%s\n' "$found" | grep -q '^disabled$'; then return; fi
  if printf '%s\n' "$found" | grep -q '^older$'; then
    refuse "$config has mirrors or TLS settings of the older form, which containerd refuses beside config_path"
    return
  fi
  table=$(printf '%s\n' "$found" | sed -n 's/^table //p' | head -n 1)
  path_line=$(printf '%s\n' "$found" | sed -n 's/^path \([0-9]*\).*/\1/p' | head -n 1)
  path=$(printf '%s\n' "$found" | sed -n 's/^path [0-9]* //p' | head -n 1)
  version=$(printf '%s\n' "$found" | sed -n 's/^version //p' | head -n 1)
  if [ -n "$path" ]; then
    certs=$(printf '%s' "$path" | sed 's/:.*//')
  elif [ -n "$path_line" ]; then
    awk -v line="$path_line" -v certs="$certs" '
      NR == line { match($0, /^[ \t]*/); printf "%sconfig_path = \"%s\" # by entrepot, was empty\n", substr($0, 1, RLENGTH), certs; next }
      { print }
    ' "$root$config" >"$work/text"
    stage "$config"
  elif [ -n "$table" ]; then
    awk -v line="$table" -v certs="$certs" '
      { print }
      NR == line { match($0, /^[ \t]*/); printf "%s  config_path = \"%s\" # by entrepot\n", substr($0, 1, RLENGTH), certs }
    ' "$root$config" >"$work/text"
    stage "$config"
  else
    append_table
  fi
}

append_table() {
  case $version in
    2) plugin=io.containerd.grpc.v1.cri ;;
    3 | 4) plugin=io.containerd.cri.v1.images ;;
    *)
      refuse "$config has version $version of the format, which this script does not know"
      return
      ;;
  esac
  {
    # A last line without its end would become part of the next one.
    awk '{ print }' "$root$config"
    printf '[plugins."%s".registry] # by entrepot\n  config_path = "%s" # by entrepot\n' "$plugin" "$certs"
  } >"$work/text"
  stage "$config"
}

unplan_config() {
  refuse_link "$config"
  [ -f "$root$config" ] || return 0
  if is_ours "$config"; then
    stage_removal "$config"
    return
  fi
  path=$(analyse | sed -n 's/^path [0-9]* //p' | head -n 1)
  if [ -n "$path" ]; then certs=$(printf '%s' "$path" | sed 's/:.*//'); fi
  grep -q '# by entrepot' "$root$config" || return 0
  awk '
    { lines[NR] = $0 }
    END {
      for (line = 1; line <= NR; line += 1) {
        text = lines[line]
        if (text ~ /# by entrepot, was empty$/) { sub(/config_path.*/, "config_path = \"\"", text); print text; continue }
        if (text !~ /# by entrepot$/) { print text; continue }
        if (text !~ /^[ \t]*\[/) continue
        # A table that others have used meanwhile stays.
        after = lines[line + 2]
        if (line + 2 <= NR && after !~ /^[ \t]*(\[|$)/) { sub(/ # by entrepot$/, "", text); print text }
      }
    }
  ' "$root$config" >"$work/text"
  stage "$config"
}

plan() {
  if [ "$action" = remove ]; then unplan_config; else plan_config; fi
  plan_hosts "$certs/_default/hosts.toml"
}

tell() {
  note "containerd reads config.toml when it starts: if that file was written, run systemctl restart containerd. Running containers keep running."
  note "hosts.toml takes effect on the next pull. ctr images pull needs --hosts-dir $certs."
}
`
