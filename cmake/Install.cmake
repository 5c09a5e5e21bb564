# cmake --install BUILD --prefix FOLDER: the program, and the libraries of src/ with their headers, which
#   find_package(retort)
#   target_link_libraries(mine retort::formats)
# finds there. LibTorch stays where it is: RETORT_LIBTORCH of the other project names another place. The
# targets that `tools/build release retort` makes are all that is needed.
include(GNUInstallDirs)
get_property(retort_installed GLOBAL PROPERTY RETORT_TESTED)
# They are for retort-online, retort-import, retort-ranks, retort-sign and retort-tables alone.
list(REMOVE_ITEM retort_installed http import ranks sign tables)
install(TARGETS ${retort_installed} cli_offline jinja_engine EXPORT retort
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}/retort)
install(EXPORT retort NAMESPACE retort:: FILE retort-targets.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/retort)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/src/ DESTINATION include/retort FILES_MATCHING PATTERN "*.h")
install(TARGETS retort RUNTIME DESTINATION bin)
if(TARGET retort_cuda)   # src/ops/device.cpp looks for it there
  install(TARGETS retort_cuda LIBRARY DESTINATION lib/retort)
endif()
install(TARGETS retort-sign RUNTIME DESTINATION bin OPTIONAL)   # where it was built
set_target_properties(retort PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON)

include(CMakePackageConfigHelpers)
configure_file(${PROJECT_SOURCE_DIR}/cmake/retort-config.cmake.in retort-config.cmake @ONLY)
write_basic_package_version_file(retort-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/retort-config.cmake ${PROJECT_BINARY_DIR}/retort-config-version.cmake
  ${PROJECT_SOURCE_DIR}/cmake/Parts.cmake DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/retort)
