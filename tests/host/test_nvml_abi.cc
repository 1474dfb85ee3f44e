/* test_nvml_abi.cc - fplaw's words for NVML (nvml_abi.h) against the toolkit's header, by the compiler. */
#include <stdio.h>

#include <type_traits>

#include <nvml.h>

#include "nvml_abi.h"

/* An enumeration of the library is an int here; everything else is the same type. */
template <typename T> struct plain {
    typedef typename std::conditional<std::is_enum<T>::value, int, T>::type type;
};
template <typename F> struct simple;
template <typename R, typename... A> struct simple<R (*)(A...)> {
    typedef typename plain<R>::type type(typename plain<A>::type...);
};

#define CHECK_CALL(field, name, result, args)                                                                \
    static_assert(std::is_same<simple<decltype(&::name)>::type, simple<decltype(fpl_nvml::field)>::type>(),  \
                  #name " is declared otherwise");
FPL_NVML_CALLS(CHECK_CALL)
static_assert(static_cast<int>(NVML_SUCCESS) == static_cast<int>(FPL_NVML_SUCCESS), "success");
static_assert(sizeof(nvmlReturn_t) == sizeof(int), "statuses");

int main(void) {
    printf("NVML: the calls are those of nvml.h\n");
    return 0;
}
