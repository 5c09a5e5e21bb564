# CUDA kernels are compiled for Ampere, Hopper and Blackwell data-centre parts; their arithmetic is that of
# the HOST_DEVICE functions which the CPU tests run. No fused multiply-add that the source does not spell out:
# equal means bit-equal.
enable_language(CUDA)
# CMake 3.25 does not know this compiler's flag for C++20.
set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 100-real)

function(retort_cuda_sources name)
  add_library(${name}_cuda STATIC ${ARGN})
  target_include_directories(${name}_cuda PUBLIC ${PROJECT_SOURCE_DIR}/src)
  target_compile_options(${name}_cuda PRIVATE
    $<$<COMPILE_LANGUAGE:CUDA>:--fmad=false --expt-relaxed-constexpr>)
  set_target_properties(${name}_cuda PROPERTIES CUDA_RUNTIME_LIBRARY Static)
  target_link_libraries(${name}_cuda PUBLIC ${name} CUDA::cudart_static)
  set_property(GLOBAL APPEND PROPERTY RETORT_CUDA_TESTED ${name})
endfunction()
