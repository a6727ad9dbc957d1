# Sourced by scripts/serve and scripts/test: finds Python 3.11 or newer and makes a virtual environment.

say() { printf '%s\n' "$*" >&2; }

find_python() {
    local candidate
    for candidate in python3.11 python3 python3.12 python3.13; do
        if command -v "$candidate" >/dev/null &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    say "Cleanmail needs Python 3.11 or newer. On Debian 12: apt-get install python3 python3-venv"
    return 1
}

# prepare_environment ROOT NAME WHAT: ROOT/NAME is an environment with WHAT (a pip requirement of the checkout in ROOT)
# installed. It is installed anew when what it depends on has changed.
prepare_environment() {
    local root=$1 folder="$1/$2" what=$3 python wanted
    python=$(find_python)
    if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
        say "$python cannot make virtual environments. On Debian 12: apt-get install python3-venv"
        return 1
    fi
    wanted="$("$python" -V) $(cksum <"$root/pyproject.toml") $root $what"
    if "$folder/bin/python" -c '' 2>/dev/null && [ "$(cat "$folder/installed" 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    if [ -L "$folder" ]; then
        say "$folder is a link to $(readlink "$folder"), an environment that is not of this checkout: remove the link to have one made here."
        return 1
    fi
    # Looked for before anything is removed: what belongs to somebody else would fail file by file, and half-way.
    if [ -e "$folder" ] && { [ ! -w "$root" ] || [ -n "$(find "$folder" -type d ! -writable -print -quit 2>&1)" ]; }; then
        say "$folder cannot be used or made anew by $(id -un), since it belongs to $(stat -c %U "$folder"): remove it as that user, or work in a checkout of your own."
        return 1
    fi
    if [ ! -w "$root" ]; then
        say "$folder cannot be made by $(id -un), since $root belongs to $(stat -c %U "$root"): work in a checkout of your own."
        return 1
    fi
    say "Making $folder (it downloads the packages that Cleanmail is built on; this happens once) ..."
    rm -rf "$folder"
    "$python" -m venv "$folder"
    if ! (cd "$root" && "$folder/bin/python" -m pip --disable-pip-version-check install --quiet --editable "$what" >&2); then
        say "Installing the packages failed; can this machine reach pypi.org?"
        return 1
    fi
    printf '%s\n' "$wanted" >"$folder/installed"
}
