# LibTorch comes from the torch wheel (tools/setup): libtorch_cpu and libc10 only, as imported targets.
# libtorch_cpu needs libcudart and libcupti at load time even on a machine without a GPU; its own RPATH
# finds them in ../../nvidia/cu13/lib, which tools/setup fills from the two small NVIDIA wheels.
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(ZLIB REQUIRED)
find_package(HDF5 REQUIRED COMPONENTS C)
find_package(PkgConfig REQUIRED)
pkg_check_modules(YamlCpp REQUIRED IMPORTED_TARGET yaml-cpp)
pkg_check_modules(Sentencepiece REQUIRED IMPORTED_TARGET sentencepiece)
pkg_check_modules(Utf8proc REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(Pcre2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(Simdjson REQUIRED IMPORTED_TARGET simdjson)
pkg_check_modules(Zstd REQUIRED IMPORTED_TARGET libzstd)
pkg_check_modules(Xxhash REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(Cli11 REQUIRED IMPORTED_TARGET CLI11)
if(RETORT_ONLINE)
  find_package(CURL REQUIRED)
endif()
if(BUILD_TESTING)
  find_package(GTest REQUIRED)
endif()

set(retort_torch_root ${RETORT_LIBTORCH})
if(NOT retort_torch_root)
  set(retort_torch_root ${PROJECT_SOURCE_DIR}/third_party/libtorch)
endif()
if(NOT EXISTS ${retort_torch_root}/torch/lib/libtorch_cpu.so)
  message(FATAL_ERROR "LibTorch not found in ${retort_torch_root}: run tools/setup, "
    "or set RETORT_LIBTORCH to a folder with torch/lib and torch/include")
endif()
get_filename_component(retort_torch_root ${retort_torch_root} REALPATH)
add_library(libc10 SHARED IMPORTED)
set_target_properties(libc10 PROPERTIES IMPORTED_LOCATION ${retort_torch_root}/torch/lib/libc10.so)
add_library(libtorch SHARED IMPORTED)
set_target_properties(libtorch PROPERTIES IMPORTED_LOCATION ${retort_torch_root}/torch/lib/libtorch_cpu.so)
target_include_directories(libtorch SYSTEM INTERFACE
  ${retort_torch_root}/torch/include ${retort_torch_root}/torch/include/torch/csrc/api/include)
target_link_libraries(libtorch INTERFACE libc10 Threads::Threads)
# LibTorch's include folder brings a newer fmt whose library part is nowhere to be linked: files that see
# torch use it inline.
target_compile_definitions(libtorch INTERFACE FMT_HEADER_ONLY=1)
target_link_options(libtorch INTERFACE -Wl,--allow-shlib-undefined -Wl,--disable-new-dtags
  -Wl,-rpath,${retort_torch_root}/torch/lib)

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
target_include_directories(jinja_engine SYSTEM PUBLIC ${retort_jinja} ${PROJECT_SOURCE_DIR}/cmake/jinja)
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
