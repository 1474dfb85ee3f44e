# Element formats against ml_dtypes (sweep.py): the stratified set through FPLAW, or with
# `--full GOLDEN` all inputs; skipped where NumPy and ml_dtypes are neither present nor to be had.
python=$(sh "$SOURCE/tests/peers/python.sh" "$BUILD") || { echo "no NumPy with ml_dtypes: skipped"; exit 77; }
[ $# -gt 0 ] || set -- "$FPLAW"
exec "$python" "$SOURCE/tests/peers/sweep.py" "$@"
