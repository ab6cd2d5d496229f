# Sourced by demo and test: `prepare EXTRAS` makes .venv with this package in it, and puts it first on the PATH.

find_python() {
    local name
    for name in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; then
            echo "$name"
            return
        fi
    done
    echo "No Python 3.10 or newer was found (tried python3, python3.14 ... python3.10, python); please install one." >&2
    return 1
}

make_venv() {
    local python
    python=$(find_python)
    echo "Making .venv with $("$python" --version)" >&2
    if ! "$python" -m venv .venv; then
        rm -rf .venv
        echo "$python cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2
        return 1
    fi
}

# The stamp holds what was installed from which pyproject.toml, so that a second run starts at once.
prepare() {
    local extras=$1 stamp=.venv/installed wanted
    [ -e .venv/bin/python ] || [ -e .venv/Scripts/python.exe ] || make_venv
    PATH="$PWD/.venv/bin:$PWD/.venv/Scripts:$PATH"
    wanted="$(cksum <pyproject.toml) [dev]"
    [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || return 0
    wanted="$(cksum <pyproject.toml) $extras"
    [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || return 0
    echo "Installing yolo9k and what it needs into .venv (PyTorch is large; only the first time)" >&2
    python -m pip install --disable-pip-version-check --quiet --editable ".$extras"
    echo "$wanted" >"$stamp"
}
