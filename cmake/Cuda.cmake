# Kernels are compiled for Ampere, Hopper and Blackwell data-centre parts by nvcc itself, not through CMake's
# language CUDA: NVIDIA's wheels (tools/setup cuda) are laid out otherwise than CMake 3.25 expects. No fused
# multiply-add that the source does not spell out: equal means bit-equal.
set(RETORT_NVCC "" CACHE FILEPATH
  "nvcc 13; default that of third_party/cuda (tools/setup cuda), else the one on the PATH")
set(RETORT_CUDA_ARCHITECTURES 80 90 100)
set(retort_nvcc ${RETORT_NVCC})
if(NOT retort_nvcc)
  set(retort_nvcc ${PROJECT_SOURCE_DIR}/third_party/cuda/nvidia/cu13/bin/nvcc)
  if(NOT EXISTS ${retort_nvcc})
    find_program(retort_nvcc_of_path nvcc)
    set(retort_nvcc ${retort_nvcc_of_path})
  endif()
endif()
if(NOT EXISTS "${retort_nvcc}")
  message(FATAL_ERROR "RETORT_CUDA needs nvcc: run tools/setup cuda, or set RETORT_NVCC")
endif()
get_filename_component(retort_cuda_root ${retort_nvcc} REALPATH)
get_filename_component(retort_cuda_root ${retort_cuda_root} DIRECTORY)
get_filename_component(retort_cuda_root ${retort_cuda_root} DIRECTORY)
find_library(RETORT_CUDART libcudart_static.a REQUIRED NO_DEFAULT_PATH
  PATHS ${retort_cuda_root}/lib ${retort_cuda_root}/lib64)

add_library(cudart_static STATIC IMPORTED)
set_target_properties(cudart_static PROPERTIES IMPORTED_LOCATION ${RETORT_CUDART})
target_include_directories(cudart_static SYSTEM INTERFACE ${retort_cuda_root}/include)
target_link_libraries(cudart_static INTERFACE Threads::Threads ${CMAKE_DL_LIBS} rt)

# retort_cuda_kernels(NAME files...): an object library of .cu files.
function(retort_cuda_kernels name)
  set(flags -std=c++20 -O3 --fmad=false --expt-relaxed-constexpr -Xcompiler=-fPIC
    -ccbin ${CMAKE_CXX_COMPILER} -I${PROJECT_SOURCE_DIR}/src)
  foreach(architecture ${RETORT_CUDA_ARCHITECTURES})
    list(APPEND flags -gencode=arch=compute_${architecture},code=sm_${architecture})
  endforeach()
  foreach(file ${ARGN})
    get_filename_component(stem ${file} NAME_WE)
    set(object ${CMAKE_CURRENT_BINARY_DIR}/${stem}.cu.o)
    add_custom_command(OUTPUT ${object}
      COMMAND ${retort_nvcc} ${flags} -MD -MF ${object}.d -MT ${object}
        -c ${CMAKE_CURRENT_SOURCE_DIR}/${file} -o ${object}
      DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${file} DEPFILE ${object}.d
      COMMENT "nvcc ${file}" VERBATIM)
    list(APPEND objects ${object})
  endforeach()
  set_source_files_properties(${objects} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
  add_library(${name} STATIC ${objects})
  set_target_properties(${name} PROPERTIES LINKER_LANGUAGE CXX)
  target_link_libraries(${name} PUBLIC cudart_static)
endfunction()
