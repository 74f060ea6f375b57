#!/usr/bin/env bash
# Set up .venv: the pinned packages of requirements.txt, Detectron2, and this project.
#
#   tools/setup_env.sh                      Detectron2 as before; the pinned wheel the first time
#   DETECTRON2=wheel  tools/setup_env.sh    the pinned wheel (no C++ part, nothing to compile)
#   DETECTRON2=source tools/setup_env.sh    the official code at the pinned commit, compiled
#   DETECTRON2=PATH   tools/setup_env.sh    a checkout of Detectron2 already there, compiled
#   PYTHON=python3.11 tools/setup_env.sh    the Python to make .venv with (default: python3)
#
# Each part leaves a stamp with all it depends on, so a second call does only what
# changed. May be interrupted at any point and run again. Exit code 2: one line says what is wrong.
set -euo pipefail
unset CDPATH  # cd would look there, too
cd "$(dirname "${BASH_SOURCE[0]}")/.."
unset PYTHONPATH PYTHONHOME  # packages of another installation must not count as installed here

venv=.venv
state=$venv/.setup  # stamps, log, lock; survives a rebuild of .venv
log=$state/log
export PATH="$PWD/$venv/bin:$PATH"  # the compilation looks for ninja here

die() {
    echo "error: $*" >&2
    exit 2
}
exec 3>&2  # the trap may run while stderr goes to the log
trap 'printf "\nsetup: interrupted; run it again to complete it\n" >&3; exit 130' INT TERM

pin() { sed -n "s/^# detectron2-$1: //p" requirements.txt; }
no_deps() { sed -n 's/^# no-deps: //p' requirements.txt; }
version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --no-input "$@"; }

# Run a command into the log and say how long it took, or what the log gives as the reason.
step() {
    local what=$1 start=$SECONDS
    shift
    printf 'setup: %s ... ' "$what"
    if "$@" >"$log" 2>&1; then
        echo "$((SECONDS - start)) s"
        return
    fi
    echo "failed"
    # pip failed before it changed anything: .venv is still whole.
    grep -q '^Installing collected packages' "$log" || rm -f "$state/incomplete"
    die "$what failed: $(reason) (log: $log)"
}

reason() {
    if grep -qE 'name resolution|NewConnectionError|ConnectTimeout|Could not resolve|Failed to connect' "$log"; then
        echo "the network or the package index cannot be reached; see pip's index and proxy settings"
    elif grep -qE 'lib(GL|glib|gthread)[-.0-9so]*: cannot open' "$log"; then
        echo "OpenCV lacks a system library: on Debian or Ubuntu, apt-get install libgl1 libglib2.0-0"
    elif grep -qiE 'No space left on device' "$log"; then
        echo "the disk is full; about 6 GB are needed"
    else
        grep -iE '^ *(error|fatal|[a-z]*error):' "$log" | tail -n 1 | grep . || tail -n 1 "$log"
    fi
}

# --- What is wanted -------------------------------------------------------------------------------

choice=${DETECTRON2:-$(cat "$state/choice" 2>/dev/null || echo wheel)}
case $choice in
wheel | source) ;;
*)
    choice=${choice/#\~/$HOME}
    if [ -f "$choice/setup.py" ] && [ -f "$choice/detectron2/__init__.py" ]; then
        choice=$(cd "$choice" && pwd -P)
    elif [ -n "${DETECTRON2-}" ] || [ ! -f "$state/detectron2" ]; then
        die "DETECTRON2=$choice is neither 'wheel' nor 'source' nor a checkout of Detectron2" \
            "(a folder with setup.py and detectron2/__init__.py)"
    fi
    ;;
esac

torch=$(grep '^torch==' requirements.txt)  # compiled code fits one version of PyTorch only
want_requirements=$(cat requirements.txt)
case $choice in
wheel) want_detectron2=$(pin wheel) ;;
source) want_detectron2="$(pin source) $torch" ;;
*)
    # A checkout that was installed and is gone since is no reason to fail: it is not needed again.
    commit=$(git -C "$choice" rev-parse HEAD 2>/dev/null || true)
    want_detectron2="$choice $commit $torch"
    [ -d "$choice" ] || want_detectron2=$(cat "$state/detectron2")
    ;;
esac
want_project="$PWD $(cat setup.py)"  # an editable install holds the folder's place
want_bytecode="$want_requirements $want_detectron2"

is_done() { [ "$(cat "$state/$1" 2>/dev/null)" = "$2" ]; }
venv_works() {
    [ -x "$venv/bin/python" ] && [ ! -e "$state/incomplete" ] &&
        { [ -z "${PYTHON-}" ] || [ "$(version_of "$PYTHON")" = "$(version_of "$venv/bin/python")" ]; }
}
all_done() {
    venv_works && is_done requirements "$want_requirements" &&
        is_done detectron2 "$want_detectron2" && is_done project "$want_project" && bytecode_done
}
# With that variable, which many container images set, Python keeps nothing of what it compiles:
# each program would spend seconds on compiling PyTorch and Detectron2 again.
bytecode_done() { [ -z "${PYTHONDONTWRITEBYTECODE-}" ] || is_done bytecode "$want_bytecode"; }
all_done && exit 0

# --- What it takes --------------------------------------------------------------------------------

python=$venv/bin/python
venv_works || python=${PYTHON:-python3}
version=$(version_of "$python") || die "no working $python: install Python 3.11, or name one with PYTHON=..."
case $version in
3.11 | 3.12) ;;
*) die "$python is Python $version, but the pinned packages need 3.11 or 3.12: name one with PYTHON=..." ;;
esac
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    die "$python cannot make virtual environments: on Debian or Ubuntu, apt-get install python3-venv"
if [ "$choice" != wheel ] && ! is_done detectron2 "$want_detectron2"; then
    command -v "${CXX:-c++}" >/dev/null ||
        die "compiling Detectron2 needs a C++ compiler: on Debian or Ubuntu, apt-get install g++"
    include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    [ -f "$include/Python.h" ] ||
        die "compiling Detectron2 needs Python.h: on Debian or Ubuntu, apt-get install python3-dev"
fi

mkdir -p "$state" || die "the folder $PWD/$venv cannot be written"
if command -v flock >/dev/null; then
    # A pip that outlived its killed parent holds the lock too.
    exec 9>"$state/lock"
    flock -n 9 || { echo "setup: waiting for another set-up of this folder" && flock 9; }
    all_done && exit 0
fi
echo "$choice" >"$state/choice"

# --- The parts ------------------------------------------------------------------------------------

make_venv() {
    find "$venv/" -mindepth 1 -maxdepth 1 ! -name .setup -exec rm -rf {} + &&
        find "$state/" -type f ! -name choice ! -name incomplete ! -name log ! -name lock -delete &&
        "$python" -m venv "$venv"
}

# A few packages come as source; they are built with the pinned tools rather than with fresh ones.
# Byte-compiling all of it takes longer than compiling what is imported when it is (bytecode_done).
# shellcheck disable=SC2046  # one word per package, here and below
install_build_tools() { pip install $(grep -oE '^(setuptools|wheel)==[^ ]+' requirements.txt); }
install_requirements() {
    pip install --no-build-isolation --no-compile -r requirements.txt &&
        pip install --no-deps --no-build-isolation --no-compile $(no_deps)
}

install_detectron2() {
    local site
    site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))') &&
        pip uninstall --yes detectron2 sal-detectron2 &&
        rm -rf "$site/detectron2" "$site"/detectron2-*.dist-info "$site"/sal_detectron2-*.dist-info ||
        return
    case $choice in
    wheel) install_wheel "$site" ;;
    # pip keeps what it built in its cache, whatever PyTorch it was built with: not here.
    source)
        pip install --no-deps --no-build-isolation --no-cache-dir "$(pin source)" &&
            drop_tools "$site"
        ;;
    *) install_checkout && drop_tools "$site" ;;
    esac
}

# Detectron2 installs its scripts as a top-level package `tools`, which would hide ours: delete what
# it lists of that, and nothing else.
drop_tools() {
    local site=$1 record file
    record=$(echo "$site"/detectron2-*.dist-info/RECORD)
    while IFS=, read -r file _; do
        case $file in tools/*) rm -f "$site/$file" ;; esac
    done <"$record" && sed -i '/^tools\//d' "$record" || return
    rmdir "$site/tools/__pycache__" "$site/tools" 2>/dev/null || true
}

# The wheel is tagged for Python 3.10, but its Python code runs on later ones. pip unpacks a wheel
# for another Python only into a folder of its own; from there all but `tools` moves in.
install_wheel() {
    local site=$1 aside=$state/wheel
    rm -rf "$aside" && pin wheel >"$state/wheel.txt" &&
        pip install --no-deps --no-compile --only-binary=:all: --python-version 3.10 \
            --implementation cp --target "$aside" --require-hashes -r "$state/wheel.txt" &&
        sed -i '/^tools\//d' "$aside"/sal_detectron2-*.dist-info/RECORD &&
        mv "$aside/detectron2" "$aside"/sal_detectron2-*.dist-info "$site" &&
        rm -rf "$aside" "$state/wheel.txt"
}

# A package may hold templates that are no Python: what does not compile is no failure.
compile_packages() {
    "$venv/bin/python" -m compileall -q -j 0 \
        "$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" || true
}

# From a copy: the checkout may be read-only, or hold objects compiled for another Python.
install_checkout() {
    local copy=$state/checkout
    rm -rf "$copy" && mkdir "$copy" &&
        tar -C "$choice" --exclude=./.git --exclude=./build -cf - . | tar -C "$copy" -xf - &&
        pip install --no-deps --no-build-isolation --no-cache-dir "$copy" && rm -rf "$copy"
}

if ! venv_works || ! pip --version >/dev/null 2>&1; then
    [ ! -e "$state/incomplete" ] || echo "setup: the last one was interrupted; starting afresh"
    touch "$state/incomplete"
    step "making $venv with Python $version" make_venv
fi
if ! is_done requirements "$want_requirements"; then
    rm -f "$state/requirements"
    touch "$state/incomplete"  # until the stamp is there, no one can tell what is half installed
    step "installing the build tools" install_build_tools
    step "installing PyTorch and the other pinned packages (some 3 GB to download)" install_requirements
    echo "$want_requirements" >"$state/requirements"
fi
rm -f "$state/incomplete"
if ! is_done detectron2 "$want_detectron2"; then
    rm -f "$state/detectron2"
    case $choice in
    wheel) what="installing Detectron2 from the pinned wheel" ;;
    source) what="compiling Detectron2 from its repository (some minutes)" ;;
    *) what="compiling Detectron2 from $choice (some minutes)" ;;
    esac
    step "$what" install_detectron2
    echo "$want_detectron2" >"$state/detectron2"
fi
if ! is_done project "$want_project"; then
    step "installing inspire_d2 itself" pip install --no-deps --no-build-isolation -e .
    # The one package that leans on libraries of the system.
    step "checking OpenCV" "$venv/bin/python" -c 'import cv2, inspire_d2'
    echo "$want_project" >"$state/project"
fi
if ! bytecode_done; then
    step "compiling the packages, since PYTHONDONTWRITEBYTECODE is set" compile_packages
    echo "$want_bytecode" >"$state/bytecode"
fi
echo "setup: done"
