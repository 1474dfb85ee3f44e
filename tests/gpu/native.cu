/* native.cu - tests/host/test_native.cc for the real device. */
#include "../host/test_native.cc"
