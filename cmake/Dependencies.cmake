set(retort_usual_torch_root ${PROJECT_SOURCE_DIR}/third_party/libtorch)
include(Parts)
if(RETORT_ONLINE)
  find_package(CURL REQUIRED)
endif()
# MPI itself is in no sanitizer's good books.
if(RETORT_RANKS AND NOT RETORT_SANITIZE AND NOT RETORT_FUZZ)
  find_package(MPI QUIET COMPONENTS C)
  if(NOT MPI_C_FOUND)
    message(STATUS "retort-ranks is not built: no MPI is found (tools/setup mpi)")
  endif()
endif()
if(BUILD_TESTING)
  find_package(GTest REQUIRED)
endif()

# One precompiled header for every target that sees torch: 20 s of parsing once instead of in each file.
add_library(torch_pch STATIC ${PROJECT_SOURCE_DIR}/cmake/torch_pch.cpp)
target_link_libraries(torch_pch PUBLIC libtorch)
target_precompile_headers(torch_pch PRIVATE ${PROJECT_SOURCE_DIR}/cmake/torch_pch.h)

# llama.cpp's Jinja interpreter (tools/setup), for chat templates; it runs in a confined child only
# (src/text/template_child.cpp).
set(retort_jinja ${PROJECT_SOURCE_DIR}/third_party/jinja)
file(SHA256 ${PROJECT_SOURCE_DIR}/cmake/jinja/engine.patch retort_jinja_wanted)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cmake/jinja/engine.patch)
if(EXISTS ${retort_jinja}/.complete)
  file(READ ${retort_jinja}/.complete retort_jinja_found)
endif()
if(NOT "${retort_jinja_found}" MATCHES "^${retort_jinja_wanted}")
  message(FATAL_ERROR "the interpreter of chat templates is not in ${retort_jinja}, or an older one is: "
    "run tools/setup build")
endif()
add_library(jinja_engine STATIC
  ${retort_jinja}/jinja/lexer.cpp ${retort_jinja}/jinja/parser.cpp ${retort_jinja}/jinja/runtime.cpp
  ${retort_jinja}/jinja/string.cpp ${retort_jinja}/jinja/value.cpp ${retort_jinja}/json.cpp
  ${retort_jinja}/unicode.cpp)
target_include_directories(jinja_engine SYSTEM PUBLIC
  $<BUILD_INTERFACE:${retort_jinja}> $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/cmake/jinja>)
target_link_libraries(jinja_engine PRIVATE nlohmann_json::nlohmann_json)
target_compile_options(jinja_engine PRIVATE -w)

# Parquet and Arrow come from the pyarrow wheel (tools/setup), for retort-tables and retort-import alone:
# without it those programs are not configured, and retort says so to whoever has such a file.
set(retort_arrow_root ${RETORT_ARROW})
if(NOT retort_arrow_root)
  set(retort_arrow_root ${PROJECT_SOURCE_DIR}/third_party/arrow)
endif()
file(GLOB retort_parquet ${retort_arrow_root}/pyarrow/libparquet.so.*)
file(GLOB retort_arrow ${retort_arrow_root}/pyarrow/libarrow.so.*)
if(retort_parquet AND retort_arrow)
  add_library(libarrow SHARED IMPORTED)
  set_target_properties(libarrow PROPERTIES IMPORTED_LOCATION ${retort_arrow})
  add_library(libparquet SHARED IMPORTED)
  set_target_properties(libparquet PROPERTIES IMPORTED_LOCATION ${retort_parquet})
  target_include_directories(libparquet SYSTEM INTERFACE ${retort_arrow_root}/pyarrow/include)
  target_link_libraries(libparquet INTERFACE libarrow Threads::Threads)
  target_link_options(libparquet INTERFACE -Wl,--disable-new-dtags -Wl,-rpath,${retort_arrow_root}/pyarrow)
else()
  message(STATUS
    "retort-tables and retort-import are not built: ${retort_arrow_root} holds no Parquet library "
    "(tools/setup parquet)")
endif()
