# Sourced by the other scripts: `prepare EXTRAS` creates .venv with this package and puts it first on the PATH.

find_python() {
    local name
    for name in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; then
            echo "$name"
            return
        fi
    done
    echo "No Python 3.10 or newer found (tried python3, python3.14 ... python3.10, python); install one." >&2
    return 1
}

make_venv() {
    local python
    python=$(find_python)
    echo "Creating .venv with $("$python" --version)" >&2
    if ! "$python" -m venv .venv; then
        rm -rf .venv
        echo "$python cannot create a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2
        return 1
    fi
}

# The stamp file stores the checksum of pyproject.toml and the extras that were installed, to skip the installation
# if neither has changed. The extra [dev] includes everything.
prepare() {
    local extras=$1 stamp=.venv/installed requested
    [ -e .venv/bin/python ] || [ -e .venv/Scripts/python.exe ] || make_venv
    PATH="$PWD/.venv/bin:$PWD/.venv/Scripts:$PATH"
    requested="$(cksum <pyproject.toml) [dev]"
    [ "$(cat "$stamp" 2>/dev/null)" != "$requested" ] || return 0
    requested="$(cksum <pyproject.toml) $extras"
    [ "$(cat "$stamp" 2>/dev/null)" != "$requested" ] || return 0
    echo "Installing yolo9k and its dependencies into .venv (only once; PyTorch is large)" >&2
    python -m pip install --disable-pip-version-check --quiet --editable ".$extras"
    echo "$requested" >"$stamp"
}
