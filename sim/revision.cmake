# Writes revision.h with the version and the source revision, only when it changed.
set(revision "unknown")
if(GIT)
  execute_process(COMMAND ${GIT} -C ${SOURCE} describe --always --dirty --abbrev=12
    OUTPUT_VARIABLE found OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE rc)
  if(rc EQUAL 0)
    set(revision "${found}")
  endif()
endif()
file(CONFIGURE OUTPUT ${OUT} CONTENT "#define FPL_VERSION \"${VERSION}\"\n#define FPL_REVISION \"${revision}\"\n")
