# Sourced first by scripts that install packages or start Docker: runs the calling script again under sudo
# unless it is root already. PATH is kept, because Node often lies in the caller's home.
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || {
    echo "$0 installs packages and starts Docker: run it as root, or install sudo." >&2
    exit 1
  }
  exec sudo -E env "PATH=$PATH:/usr/sbin:/sbin" "$0" "$@"
fi
PATH=$PATH:/usr/sbin:/sbin
export PATH
