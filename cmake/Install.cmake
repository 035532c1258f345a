# SPDX-License-Identifier: MIT
# What `cmake --install` lays down: headers, libraries, tool, CMake package, pkg-config, man pages.
# The component "tests" (test programs, examples, benchmarks) goes into packages only.

include(CMakePackageConfigHelpers)
set(cmake_folder ${CMAKE_INSTALL_LIBDIR}/cmake/Millrace)
set(pc_folder ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

install(DIRECTORY include/millrace TYPE INCLUDE FILES_MATCHING PATTERN "*.h")
install(FILES LICENSE TYPE DOC)

install(TARGETS millrace millrace_job EXPORT Millrace)
set_target_properties(millrace_job PROPERTIES EXPORT_NAME job)
install(EXPORT Millrace NAMESPACE Millrace:: FILE MillraceTargets.cmake DESTINATION ${cmake_folder})

configure_package_config_file(cmake/MillraceConfig.cmake.in MillraceConfig.cmake
    INSTALL_DESTINATION ${cmake_folder})
write_basic_package_version_file(MillraceConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/MillraceConfig.cmake
    ${PROJECT_BINARY_DIR}/MillraceConfigVersion.cmake DESTINATION ${cmake_folder})

# The .pc files find their prefix from their own place, so that the installed tree can be moved.
file(RELATIVE_PATH MILLRACE_PC_PREFIX /${pc_folder} /)
string(REGEX REPLACE "/$" "" MILLRACE_PC_PREFIX ${MILLRACE_PC_PREFIX})
foreach(name millrace millrace-job)
    configure_file(cmake/${name}.pc.in ${name}.pc @ONLY)
    install(FILES ${PROJECT_BINARY_DIR}/${name}.pc DESTINATION ${pc_folder})
endforeach()

# Each page under its own name, and a page of one line for every function, so that `man mr_ring_take`
# works.
foreach(section 1 3 5 7)
    file(GLOB pages CONFIGURE_DEPENDS docs/man/*.${section})
    install(FILES ${pages} DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section})
endforeach()
file(GLOB pages CONFIGURE_DEPENDS docs/man/*.3)
set(links)
foreach(page IN LISTS pages)
    get_filename_component(page_name ${page} NAME)
    file(STRINGS ${page} lines REGEX "^\\.(Fo mr_|Fn mr_[a-z0-9_]+ (void|\"))")
    foreach(line IN LISTS lines)
        string(REGEX MATCH "mr_[a-z0-9_]+" function "${line}")
        if(NOT "${function}.3" STREQUAL page_name)
            file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/man3/${function}.3 CONTENT ".so man3/${page_name}\n")
            list(APPEND links ${PROJECT_BINARY_DIR}/man3/${function}.3)
        endif()
    endforeach()
endforeach()
list(REMOVE_DUPLICATES links)
install(FILES ${links} DESTINATION ${CMAKE_INSTALL_MANDIR}/man3)
