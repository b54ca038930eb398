import { PUBLIC_REGISTRIES } from '../../oci/namespace.ts'

/** Podman, Skopeo, Buildah and CRI-O: a drop-in with one block for each well-known registry. */
export const CONTAINERS_IMAGE = String.raw`
conf=/etc/containers/registries.conf
dropin=/etc/containers/registries.conf.d/50-entrepot.conf
registries='REGISTRIES'

dropin_text() {
  printf '%s\n' "$mark"
  for registry in $registries; do
    printf '[[registry]]\nprefix = "%s"\nlocation = "%s"\n\n' "$registry" "$registry"
    printf '[[registry.mirror]]\nlocation = "%s/%s"\n' "$authority" "$registry"
    case $mirror in
      http://*) printf 'insecure = true\n' ;;
    esac
    printf '\n'
  done
}

# Two blocks for one registry: which one counts is nothing to guess at.
refuse_others() {
  for file in "$root$conf" "$root$(dirname "$dropin")"/*.conf; do
    if [ ! -f "$file" ] || [ "$file" = "$root$dropin" ]; then continue; fi
    for registry in $registries; do
      pattern=$(printf '%s' "$registry" | sed 's/[.]/[.]/g')
      if grep -Eq "^[[:space:]]*(prefix|location)[[:space:]]*=[[:space:]]*[\"']$pattern[\"']" "$file"; then
        refuse "$file has another block for $registry"
      fi
    done
  done
}

plan() {
  refuse_link "$dropin"
  if [ "$action" = remove ]; then
    if is_ours "$dropin"; then stage_removal "$dropin"; fi
    return
  fi
  case $authority in
    *[][]*) fail "Podman and CRI-O need a host name or an IPv4 address: give one by --mirror" ;;
  esac
  if [ -f "$root$dropin" ] && ! is_ours "$dropin"; then refuse "$dropin is not from this script"; fi
  refuse_others
  dropin_text >"$work/text"
  stage "$dropin"
}

tell() {
  note "The file lists well-known registries: this format cannot express every registry. CRI-O reads it again after systemctl reload crio."
  if [ -n "$ca" ]; then note "Copy the CA certificate to /etc/containers/certs.d/$authority/ca.crt: the file cannot name it."; fi
}
`.replace('REGISTRIES', PUBLIC_REGISTRIES.join(' '))
