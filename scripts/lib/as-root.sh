# Sourced first by scripts that install packages or start Docker: runs the calling script again under sudo
# unless it runs as root. It passes PATH, because Node is often in the caller's home.
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || {
    echo "$0 installs packages and starts Docker. Run it as root, or install sudo." >&2
    exit 1
  }
  exec sudo -E env "PATH=$PATH:/usr/sbin:/sbin" "$0" "$@"
fi
PATH=$PATH:/usr/sbin:/sbin
export PATH
