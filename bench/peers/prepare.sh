# What `./dev bench peers` needs besides the benches' own tools: Go and nginx. Sourced by ./dev.

readonly peers_go_oldest=1.25

prepare_peers() {
  prepare_go
  prepare_nginx
}

# Debian's own Go may be older than Fiber wants, so it is asked for its version and not only for being there.
prepare_go() {
  has go || [[ ! -x /usr/local/go/bin/go ]] || PATH=$PATH:/usr/local/go/bin
  install_missing go:golang-go
  local version
  version=$(go env GOVERSION)
  version=${version#go}
  [[ $(printf '%s\n' "$peers_go_oldest" "$version" | sort -V | head -n 1) == "$peers_go_oldest" ]] ||
    fail "the go in PATH is $version; the Go peer needs $peers_go_oldest or newer"
}

# Debian's package, unpacked and not installed: an installed one starts a server on port 80 by itself.
prepare_nginx() {
  [[ -z ${UNMOGROWP_NGINX-} ]] || return 0
  local cache=${XDG_CACHE_HOME:-$HOME/.cache}/unmogrowp
  if [[ -x /usr/sbin/nginx ]]; then
    UNMOGROWP_NGINX=/usr/sbin/nginx
  else
    UNMOGROWP_NGINX=$cache/nginx/usr/sbin/nginx
    [[ -x $UNMOGROWP_NGINX ]] ||
      fetch_once nginx "Debian's nginx" "$cache" "$UNMOGROWP_NGINX" fetch_nginx "$cache/nginx.partial" "$cache/nginx"
  fi
  export UNMOGROWP_NGINX
  "$UNMOGROWP_NGINX" -v 2>/dev/null || fail "$UNMOGROWP_NGINX does not start; install Debian's package nginx"
}

# A folder appears under its final name whole or not at all.
fetch_nginx() {
  local partial=$1 kept=$2
  has apt-get || fail "nginx is missing; install it, or name its program in UNMOGROWP_NGINX"
  say "fetching Debian's nginx (about 500 KB, once)"
  rm -rf "$partial"
  mkdir -p "$partial"
  ((EUID != 0)) || attend apt-get update -qq || true
  attend env -C "$partial" apt-get download -qq -o "APT::Sandbox::User=$(id -un)" nginx >&2 ||
    fail "apt-get could not download nginx; run 'apt-get update' as root, or name its program in UNMOGROWP_NGINX"
  local -a packages=("$partial"/nginx_*.deb)
  attend dpkg-deb -x "${packages[0]}" "$partial" || fail "the package nginx could not be unpacked"
  rm -f "${packages[@]}"
  rm -rf "$kept"
  mv -T "$partial" "$kept"
}
