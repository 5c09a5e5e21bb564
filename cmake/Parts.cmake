# What the libraries of src/ link. Included by the build, and by retort-config.cmake for whoever links them
# from elsewhere.
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

set(retort_torch_root ${RETORT_LIBTORCH})
if(NOT retort_torch_root)
  set(retort_torch_root ${retort_usual_torch_root})
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
