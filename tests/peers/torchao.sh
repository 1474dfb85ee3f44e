# MX and NVFP4 block conversions against PyPI's torchao (torchao_blocks.py), by hand: torch with what it
# brings is some gigabytes, so this is no CTest test.
#
#     FPLAW=build/fplaw sh tests/peers/torchao.sh VENV
#
# VENV is a virtual environment, made and filled from PyPI if it is not there.
set -e
[ $# -eq 1 ] && [ -x "$FPLAW" ] || { echo "usage: FPLAW=build/fplaw sh $0 VENV"; exit 2; }
[ -x "$1/bin/python" ] || python3 -m venv "$1"
"$1/bin/python" -c 'import numpy, torch, torchao' 2>/dev/null ||
    "$1/bin/pip" -q --disable-pip-version-check install numpy torch torchao
exec "$1/bin/python" -W ignore "$(dirname "$0")/torchao_blocks.py" "$FPLAW"
