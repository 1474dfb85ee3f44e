# Packed codes and .npy files against NumPy and ml_dtypes (codes.py); skipped where they are neither
# present nor to be had.
python=$(sh "$SOURCE/tests/peers/python.sh" "$BUILD") || { echo "no NumPy with ml_dtypes"; exit 77; }
exec "$python" "$SOURCE/tests/peers/codes.py" "$FPLAW"
