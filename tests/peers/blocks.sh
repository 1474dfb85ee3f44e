# MX and NVFP4 blocks against NumPy and ml_dtypes (blocks.py); skipped where they are neither
# present nor to be had.
python=$(sh "$SOURCE/tests/peers/python.sh" "$BUILD") || { echo "no NumPy with ml_dtypes: skipped"; exit 77; }
exec "$python" "$SOURCE/tests/peers/blocks.py" "$FPLAW"
