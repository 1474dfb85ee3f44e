# libfplaw: formats/ and the CPU backend of kernels/ as a C library of its own, static and
# shared, with headers, a CMake package and a pkg-config file.
#   find_package(fplaw) -> fplaw::fplaw (shared), fplaw::static      pkg-config --libs fplaw
# Headers keep their folders (<fplaw/formats/quantizer.h>, <fplaw/kernels/kernels.h>), since
# they include each other by them.  formats/random.h stays here: it needs Random123.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(library_layers fpl_formats fpl_cpu)
foreach(level ${levels})
  list(APPEND library_layers fpl_vec_${level})
endforeach()
set(library_objects)
foreach(layer ${library_layers})
  set_target_properties(${layer} PROPERTIES POSITION_INDEPENDENT_CODE ON)
  target_compile_options(${layer} PRIVATE $<$<COMPILE_LANG_AND_ID:C,GNU>:-fno-semantic-interposition>)
  list(APPEND library_objects $<TARGET_OBJECTS:${layer}>)
endforeach()

add_library(fplaw_static STATIC ${library_objects})
add_library(fplaw_shared SHARED ${library_objects})
set_target_properties(fplaw_static PROPERTIES EXPORT_NAME static)
# Before 1.0 every minor version may change the interface, and says so in the soname.
set_target_properties(fplaw_shared PROPERTIES EXPORT_NAME fplaw
  VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}
  LINK_DEPENDS ${CMAKE_SOURCE_DIR}/sim/library.map)
target_link_options(fplaw_shared PRIVATE -Wl,--version-script=${CMAKE_SOURCE_DIR}/sim/library.map -Wl,--no-undefined)
foreach(target fplaw_static fplaw_shared)
  set_target_properties(${target} PROPERTIES OUTPUT_NAME fplaw LINKER_LANGUAGE C)
  target_link_libraries(${target} PRIVATE OpenMP::OpenMP_C m ${CMAKE_DL_LIBS})
  target_include_directories(${target} INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  if(FPLAW_SANITIZE)
    target_link_options(${target} PRIVATE -fsanitize=address,undefined -Wl,--undefined-version -Wl,-z,undefs)
  endif()
endforeach()

file(GLOB headers CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/formats/*.h)
list(REMOVE_ITEM headers ${CMAKE_SOURCE_DIR}/formats/random.h)
install(FILES ${headers} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/fplaw/formats)
install(FILES ${CMAKE_SOURCE_DIR}/kernels/kernels.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/fplaw/kernels)
install(TARGETS fplaw_static fplaw_shared EXPORT fplawTargets)

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/fplaw)
install(EXPORT fplawTargets NAMESPACE fplaw:: DESTINATION ${package})
file(WRITE ${CMAKE_BINARY_DIR}/fplawConfig.cmake
"include(CMakeFindDependencyMacro)
find_dependency(OpenMP COMPONENTS C) # of fplaw::static
include(\${CMAKE_CURRENT_LIST_DIR}/fplawTargets.cmake)
")
write_basic_package_version_file(${CMAKE_BINARY_DIR}/fplawConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/fplawConfig.cmake ${CMAKE_BINARY_DIR}/fplawConfigVersion.cmake DESTINATION ${package})

# Paths are relative to the file, so that an installed tree can be moved.
string(REGEX REPLACE "[^/]+" ".." up "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
list(JOIN OpenMP_C_LIB_NAMES " -l" openmp)
file(WRITE ${CMAKE_BINARY_DIR}/fplaw.pc
"prefix=\${pcfiledir}/${up}
libdir=\${prefix}/${CMAKE_INSTALL_LIBDIR}
includedir=\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}

Name: fplaw
Description: Emulation of floating-point formats, scalings and low-precision kernels
Version: ${PROJECT_VERSION}
Libs: -L\${libdir} -lfplaw
Libs.private: -l${openmp} -lm
Cflags: -I\${includedir}
")
install(FILES ${CMAKE_BINARY_DIR}/fplaw.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
