# Warnings are errors on our own targets; everything from outside is included as SYSTEM.
add_compile_options(
  $<$<COMPILE_LANGUAGE:CXX>:-Wall> $<$<COMPILE_LANGUAGE:CXX>:-Wextra>
  $<$<COMPILE_LANGUAGE:CXX>:-Wshadow> $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
# GCC 12 reports false positives inside its own standard library at -O2.
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU)
  add_compile_options(-Wno-error=maybe-uninitialized -Wno-error=stringop-overflow -Wno-error=array-bounds
                      -Wno-error=restrict -Wno-error=stringop-overread -Wno-error=dangling-pointer)
else()
  add_compile_options(-Wno-error)   # GCC is the compiler whose warnings count; clang builds the fuzzers
endif()
if(RETORT_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)   # counts edges, so that libFuzzer sees where an input leads
endif()
if(RETORT_SANITIZE)
  add_compile_options(-fsanitize=${RETORT_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${RETORT_SANITIZE})
endif()
