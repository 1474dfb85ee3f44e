# Prints a Python that has NumPy and ml_dtypes: python3 itself, or one in a virtual environment
# in the build folder, which is made if PyPI answers.  Nothing is installed outside of it.
# Usage: python=$(sh tests/peers/python.sh BUILD) || exit 77
venv=$1/peers-venv
for python in python3 "$venv/bin/python"; do
    "$python" -c 'import numpy, ml_dtypes' 2>/dev/null && { echo "$python"; exit 0; }
done
[ -e "$venv.failed" ] && exit 1 # once is enough
python3 -m venv "$venv" >/dev/null 2>&1 &&
    timeout 120 "$venv/bin/pip" -q --disable-pip-version-check --retries 1 --timeout 10 install numpy ml_dtypes safetensors >/dev/null 2>&1 &&
    "$venv/bin/python" -c 'import numpy, ml_dtypes' 2>/dev/null && { echo "$venv/bin/python"; exit 0; }
touch "$venv.failed"
exit 1
