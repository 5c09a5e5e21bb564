# retort_row(NUMBER FOLDER...)
#
# The folders of src/ in one row of the tower. http is left out without RETORT_ONLINE, ranks without MPI,
# tables and import without Parquet.
function(retort_row number)
  foreach(folder ${ARGN})
    if((folder STREQUAL http AND NOT RETORT_ONLINE) OR
       (folder STREQUAL ranks AND NOT TARGET MPI::MPI_C) OR
       (folder MATCHES "^(import|tables)$" AND NOT TARGET libparquet))
      continue()
    endif()
    add_subdirectory(${folder})
  endforeach()
endfunction()

# retort_library(NAME [TORCH] DEPENDS targets... SOURCES files...
#                [AVX2 files...] [AVX512 files...])
#
# One static library a folder of src/. Only those with TORCH may include LibTorch. Tests are found in
# tests/NAME/*_test.cpp, so none can be left out of a list. AVX2 and AVX512 files are compiled for that
# instruction set and reached only after a CPUID check.
set(RETORT_AVX2_FLAGS -mavx2 -mfma -mf16c -mbmi2)
set(RETORT_AVX512_FLAGS -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512bf16 -mavx512vnni -mavx512vbmi
  -mfma -mf16c -mbmi2)

function(retort_library name)
  cmake_parse_arguments(arg "TORCH" "" "DEPENDS;SOURCES;AVX2;AVX512;LINK" ${ARGN})
  add_library(${name} STATIC ${arg_SOURCES} ${arg_AVX2} ${arg_AVX512})
  target_include_directories(${name} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/src> $<INSTALL_INTERFACE:include/retort>)
  target_link_libraries(${name} PUBLIC ${arg_DEPENDS} ${arg_LINK})
  set_source_files_properties(${arg_AVX2} PROPERTIES
    COMPILE_OPTIONS "${RETORT_AVX2_FLAGS}" SKIP_PRECOMPILE_HEADERS ON)
  set_source_files_properties(${arg_AVX512} PROPERTIES
    COMPILE_OPTIONS "${RETORT_AVX512_FLAGS}" SKIP_PRECOMPILE_HEADERS ON)
  if(arg_TORCH)
    target_link_libraries(${name} PUBLIC libtorch)
    target_precompile_headers(${name} REUSE_FROM torch_pch)
  endif()
  set_property(GLOBAL APPEND PROPERTY RETORT_TESTED ${name})
  set_property(GLOBAL PROPERTY RETORT_TORCH_${name} ${arg_TORCH})
endfunction()

# Called once from tests/CMakeLists.txt, after all libraries are known.
function(retort_tests)
  include(GoogleTest)
  add_library(test_where STATIC ${PROJECT_SOURCE_DIR}/tests/where.cpp)
  target_compile_definitions(test_where PRIVATE
    RETORT_SOURCE_DIR="${PROJECT_SOURCE_DIR}" RETORT_BINARY_DIR="${PROJECT_BINARY_DIR}")
  get_property(names GLOBAL PROPERTY RETORT_TESTED)
  foreach(name ${names})
    file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/${name}/*_test.cpp)
    if(NOT sources)
      continue()
    endif()
    add_executable(${name}_test ${sources})
    target_include_directories(${name}_test PRIVATE ${PROJECT_SOURCE_DIR}/tests)
    target_link_libraries(${name}_test PRIVATE ${name} test_where GTest::gtest GTest::gtest_main)
    get_property(torch GLOBAL PROPERTY RETORT_TORCH_${name})
    if(torch)
      target_precompile_headers(${name}_test REUSE_FROM torch_pch)
    endif()
    gtest_discover_tests(${name}_test TEST_PREFIX ${name}. DISCOVERY_MODE PRE_TEST
      PROPERTIES ENVIRONMENT "OMP_WAIT_POLICY=passive" TIMEOUT 300)
  endforeach()
endfunction()
