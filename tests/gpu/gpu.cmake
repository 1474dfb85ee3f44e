# The host_* programs once more on a real device: the same objects, linked with the kernels that nvcc compiled.
# ctest -L gpu; without a device each is skipped (77).  The kernels are one shared library for all of them.
set_target_properties(fpl_cuda PROPERTIES POSITION_INDEPENDENT_CODE ON)
add_library(fpl_cuda_tested SHARED $<TARGET_OBJECTS:fpl_cuda>)
target_link_libraries(fpl_cuda_tested PRIVATE CUDA::cudart_static)
set_target_properties(fpl_cuda_tested PROPERTIES LINKER_LANGUAGE CXX)

# fpl_gpu_program(NAME SOURCES LINK..): what of formats/ and kernels/ the library calls comes from the program.
function(fpl_gpu_program name sources)
  add_executable(${name} ${sources} ${CMAKE_CURRENT_SOURCE_DIR}/gpu/order.c)
  target_link_libraries(${name} PRIVATE fpl_cuda_tested ${ARGN} m)
  set_target_properties(${name} PROPERTIES LINKER_LANGUAGE CXX ENABLE_EXPORTS ON)
endfunction()

function(fpl_gpu_test name script program)
  add_test(NAME ${name} COMMAND sh ${CMAKE_CURRENT_SOURCE_DIR}/gpu/${script}.sh
           $<TARGET_FILE:gpu_probe> $<TARGET_FILE:${program}>)
  set_tests_properties(${name} PROPERTIES LABELS gpu TIMEOUT 1800 SKIP_RETURN_CODE 77 RESOURCE_LOCK gpu
    ENVIRONMENT "OMP_WAIT_POLICY=passive;${ARGN}")
endfunction()

add_library(fpl_gpu_probe OBJECT gpu/probe.c)
target_link_libraries(fpl_gpu_probe PRIVATE fpl_flags)
fpl_gpu_program(gpu_probe "$<TARGET_OBJECTS:fpl_gpu_probe>;$<TARGET_OBJECTS:fpl_backends_with_cuda>" fpl_cpu)

foreach(part rows optimizer optimizer_formats gemm hadamard quantize attention attention_quantized diagnose)
  fpl_gpu_program(gpu_reference_${part} $<TARGET_OBJECTS:host_reference_${part}> fpl_reference)
  fpl_gpu_test(gpu_reference_${part} run gpu_reference_${part} FPLAW_CUBLASLT=none)
  fpl_gpu_test(gpu_sanitize_${part} sanitize gpu_reference_${part} FPLAW_CUBLASLT=none)
endforeach()
fpl_gpu_test(gpu_reference_gemm_library run gpu_reference_gemm)
foreach(part accumulate steps training products)
  fpl_gpu_program(gpu_${part} $<TARGET_OBJECTS:host_${part}> fpl_train fpl_reference)
endforeach()
fpl_gpu_test(gpu_accumulate run gpu_accumulate FPLAW_CUBLASLT=none)
fpl_gpu_test(gpu_steps run gpu_steps)
fpl_gpu_test(gpu_training run gpu_training)
fpl_gpu_test(gpu_training_own run gpu_training FPLAW_CUBLASLT=none)
fpl_gpu_test(gpu_products run gpu_products)

# Runs side by side have the bits that they have alone, through the whole program.
add_test(NAME gpu_study COMMAND sh -c "$<TARGET_FILE:gpu_probe> && sh ${CMAKE_CURRENT_SOURCE_DIR}/host/study.sh")
set_tests_properties(gpu_study PROPERTIES LABELS gpu TIMEOUT 1800 SKIP_RETURN_CODE 77 RESOURCE_LOCK gpu
  ENVIRONMENT "FPLAW=$<TARGET_FILE:fplaw>;ON_DEVICE=1")
# The archive by its file: the warnings that come with the target are no words of nvcc's.
add_executable(gpu_native gpu/native.cu)
target_link_libraries(gpu_native PRIVATE fpl_cuda_tested CUDA::cudart_static $<TARGET_FILE:fpl_formats> m)
add_dependencies(gpu_native fpl_formats)
target_compile_features(gpu_native PRIVATE cuda_std_17)
target_include_directories(gpu_native SYSTEM PRIVATE ${RANDOM123_INCLUDE})
target_compile_options(gpu_native PRIVATE --fmad=false -Xcompiler=-ffp-contract=off)
set_target_properties(gpu_native PROPERTIES LINKER_LANGUAGE CXX ENABLE_EXPORTS ON CUDA_ARCHITECTURES 80-real)
fpl_gpu_test(gpu_native run gpu_native)
