# SPDX-License-Identifier: MIT
# What `cmake --install` lays down: headers, libraries, tool, CMake package, pkg-config, man pages.

include(CMakePackageConfigHelpers)

install(DIRECTORY include/millrace TYPE INCLUDE FILES_MATCHING PATTERN "*.h")
