# Read by llama-cpp-python's build (CMAKE_PROJECT_llama_cpp_INCLUDE): only the library that Outrider calls, in half the time.
# A plain variable goes before the cached one that llama-cpp-python insists on.
set(LLAMA_BUILD_COMMON OFF)
# Its 200 files share a few large headers: 40 of them at a time are compiled as one.
cmake_language(DEFER CALL set_target_properties llama PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 40)
# GCC before 13 drops stores to the tile configuration (it takes `_tile_loadconfig` to read 8 of its 64 bytes): ggml's AMX
# kernels then die of an illegal instruction. Explicit flags win over -march=native, wherever they stand.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13
   AND CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    string(APPEND CMAKE_C_FLAGS " -mno-amx-tile -mno-amx-int8 -mno-amx-bf16")
    string(APPEND CMAKE_CXX_FLAGS " -mno-amx-tile -mno-amx-int8 -mno-amx-bf16")
endif()
