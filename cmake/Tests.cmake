# SPDX-License-Identifier: MIT
# What a test, an example and a benchmark are. Every test carries one label, exits 77 to be skipped,
# and may not run longer than its timeout.

set(MILLRACE_TEST_ENVIRONMENT
    "ASAN_OPTIONS=detect_leaks=1:abort_on_error=0"
    "UBSAN_OPTIONS=print_stacktrace=1"
    "TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1")

# millrace_add_test(NAME LABEL TIMEOUT COMMAND...) registers one test. Sanitizers get thrice the time.
function(millrace_add_test name label timeout)
    if(MILLRACE_SANITIZE)
        math(EXPR timeout "3 * ${timeout}")
    endif()
    add_test(NAME ${name} COMMAND ${ARGN})
    set_tests_properties(${name} PROPERTIES LABELS ${label} TIMEOUT ${timeout}
        SKIP_RETURN_CODE 77 ENVIRONMENT "${MILLRACE_TEST_ENVIRONMENT}")
endfunction()

# Every program of tests/ may use the helpers of tests/support.
function(millrace_use_support target)
    target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
    target_link_libraries(${target} PRIVATE millrace_support)
endfunction()

# millrace_unit_test(NAME [JOB] [SOURCES ...] [LIBRARIES ...]) builds test_NAME.c with cmocka against
# the static library, so that it sees internal symbols. JOB adds the job library.
function(millrace_unit_test name)
    cmake_parse_arguments(arg "JOB" "" "SOURCES;LIBRARIES" ${ARGN})
    add_executable(test_${name} test_${name}.c ${arg_SOURCES})
    target_link_libraries(test_${name} PRIVATE ${arg_LIBRARIES}
        $<$<BOOL:${arg_JOB}>:millrace_job_static> millrace_static PkgConfig::CMOCKA)
    millrace_use_support(test_${name})
    millrace_add_test(unit.${name} unit 60 test_${name})
endfunction()

# A program over public headers only, run once per backend: on the CPU as it is, and on CUDA against
# the stand-in driver (cuda).
function(millrace_backend_test label name timeout)
    add_executable(${label}_${name} ${name}.c ${ARGN})
    target_link_libraries(${label}_${name} PRIVATE millrace Threads::Threads m)
    millrace_use_support(${label}_${name})
    install(TARGETS ${label}_${name} DESTINATION tests COMPONENT tests EXCLUDE_FROM_ALL)

    millrace_add_test(${label}.${name}.cpu ${label} ${timeout} ${label}_${name} --backend cpu)
    millrace_add_test(${label}.${name}.cuda ${label} ${timeout} ${label}_${name} --backend cuda)
    set_tests_properties(${label}.${name}.cuda PROPERTIES ENVIRONMENT_MODIFICATION
        "LD_LIBRARY_PATH=path_list_prepend:$<TARGET_FILE_DIR:fakecuda>")
endfunction()

# millrace_several(LABEL NAME [SOURCE...]) builds NAME.c, which takes all devices of a backend at once,
# and runs it also with two and with four devices of the stand-in driver, peers and not.
function(millrace_several label name)
    millrace_backend_test(${label} ${name} 180 ${ARGN})
    target_link_libraries(${label}_${name} PRIVATE ${CMAKE_DL_LIBS})
    foreach(devices 2 4)
        set(test ${label}.${name}.cuda${devices})
        millrace_add_test(${test} ${label} 180 ${label}_${name} --backend cuda)
        set_tests_properties(${test} PROPERTIES ENVIRONMENT_MODIFICATION
            "LD_LIBRARY_PATH=path_list_prepend:$<TARGET_FILE_DIR:fakecuda>")
        set_property(TEST ${test} APPEND PROPERTY ENVIRONMENT
            "FAKECUDA_DEVICES=${devices}" $<$<EQUAL:${devices},4>:FAKECUDA_NO_PEERS=1>)
    endforeach()
endfunction()

# millrace_conformance(NAME [SOURCE...]) builds tests/conformance/NAME.c.
function(millrace_conformance name)
    millrace_backend_test(conformance ${name} 180 ${ARGN})
endfunction()

# millrace_stress(NAME [SOURCE...]) builds tests/stress/NAME.c.
function(millrace_stress name)
    millrace_backend_test(stress ${name} 240 ${ARGN})
endfunction()

# millrace_cli_test(NAME) runs tests/cli/NAME.sh, which finds the tool in $MILLRACE and may write in
# its own empty working folder.
function(millrace_cli_test name)
    set(folder ${CMAKE_CURRENT_BINARY_DIR}/${name})
    millrace_add_test(cli.${name} cli 120 bash ${CMAKE_CURRENT_SOURCE_DIR}/run
        ${CMAKE_CURRENT_SOURCE_DIR}/${name}.sh ${folder})
    set_property(TEST cli.${name} APPEND PROPERTY ENVIRONMENT
        "MILLRACE=$<TARGET_FILE:millrace_cli>" "MILLRACE_SOURCE=${PROJECT_SOURCE_DIR}")
endfunction()

# millrace_fuzz(NAME) builds tests/fuzz/fuzz_NAME.c and runs it briefly over tests/fuzz/corpus/NAME.
# New inputs stay in the build folder. Only in the fuzz preset.
set(MILLRACE_FUZZ_SECONDS 15 CACHE STRING "Seconds that the test run gives each fuzz target")
add_custom_target(fuzz)
function(millrace_fuzz name)
    if(NOT MILLRACE_FUZZ)
        return()
    endif()
    set(corpus ${CMAKE_CURRENT_BINARY_DIR}/corpus/${name})
    file(MAKE_DIRECTORY ${corpus})
    add_executable(fuzz_${name} fuzz_${name}.c)
    add_dependencies(fuzz fuzz_${name})
    target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
    target_link_libraries(fuzz_${name} PRIVATE millrace_job_static millrace_static)
    millrace_add_test(fuzz.${name} fuzz 300 fuzz_${name} -seed=1
        -max_total_time=${MILLRACE_FUZZ_SECONDS} -timeout=10 -rss_limit_mb=2048
        -print_final_stats=1 -artifact_prefix=${CMAKE_CURRENT_BINARY_DIR}/ ${corpus}
        ${CMAKE_CURRENT_SOURCE_DIR}/corpus/${name})
endfunction()

# millrace_example(NAME [JOB]) builds examples/NAME.c and runs it on each backend as a test.
function(millrace_example name)
    cmake_parse_arguments(arg "JOB" "" "" ${ARGN})
    add_executable(example_${name} ${name}.c)
    set_target_properties(example_${name} PROPERTIES OUTPUT_NAME ${name})
    target_link_libraries(example_${name} PRIVATE millrace $<$<BOOL:${arg_JOB}>:millrace_job>
        Threads::Threads)
    install(TARGETS example_${name} DESTINATION examples COMPONENT tests EXCLUDE_FROM_ALL)
    millrace_add_test(example.${name}.cpu example 120 example_${name} cpu)
    if(TARGET fakecuda)
        millrace_add_test(example.${name}.cuda example 120 example_${name} cuda)
        set_tests_properties(example.${name}.cuda PROPERTIES ENVIRONMENT_MODIFICATION
            "LD_LIBRARY_PATH=path_list_prepend:$<TARGET_FILE_DIR:fakecuda>")
    endif()
endfunction()

# millrace_bench(NAME [LIBRARIES ...]) builds bench/NAME.c as bench_NAME. Benchmarks are not tests.
function(millrace_bench name)
    cmake_parse_arguments(arg "" "" "SOURCES;LIBRARIES" ${ARGN})
    if(NOT arg_SOURCES)
        set(arg_SOURCES ${name}.c)
    endif()
    add_executable(bench_${name} ${arg_SOURCES})
    target_link_libraries(bench_${name} PRIVATE millrace Threads::Threads m ${arg_LIBRARIES})
    install(TARGETS bench_${name} DESTINATION bench COMPONENT tests EXCLUDE_FROM_ALL)
endfunction()
