# SPDX-License-Identifier: MIT
# A layer is a folder compiled once into objects. The libraries are made of layers.

# millrace_layer(NAME SOURCE...) compiles this folder into the object library layer_NAME.
function(millrace_layer name)
    add_library(layer_${name} OBJECT ${ARGN})
    target_include_directories(layer_${name} PRIVATE
        ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
endfunction()

# millrace_objects(OUT NAME...) collects the objects of those layers that are built here.
function(millrace_objects out)
    set(objects)
    foreach(name IN LISTS ARGN)
        if(TARGET layer_${name})
            list(APPEND objects $<TARGET_OBJECTS:layer_${name}>)
        endif()
    endforeach()
    set(${out} ${objects} PARENT_SCOPE)
endfunction()

# millrace_library(NAME OUTPUT OBJECT...) makes a shared library NAME and a static NAME_static. The
# static one is for the unit tests, which reach the hidden mr__ symbols through it.
function(millrace_library name output)
    add_library(${name} SHARED ${ARGN})
    add_library(${name}_static STATIC ${ARGN})
    set_target_properties(${name} PROPERTIES VERSION ${PROJECT_VERSION}
        SOVERSION ${PROJECT_VERSION_MAJOR} OUTPUT_NAME ${output} LINKER_LANGUAGE C)
    set_target_properties(${name}_static PROPERTIES OUTPUT_NAME ${output} LINKER_LANGUAGE C)
    foreach(target ${name} ${name}_static)
        target_include_directories(${target} PUBLIC
            $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
            $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
    endforeach()
    target_include_directories(${name}_static INTERFACE ${PROJECT_SOURCE_DIR}/src)
    if(NOT MILLRACE_SANITIZE)
        target_link_options(${name} PRIVATE -Wl,--no-undefined -Wl,--as-needed)
    endif()
endfunction()
