# Read by llama-cpp-python's build (CMAKE_PROJECT_llama_cpp_INCLUDE): only the library that Outrider calls, in half the time.
# A plain variable goes before the cached one that llama-cpp-python insists on.
set(LLAMA_BUILD_COMMON OFF)
# Its 200 files share a few large headers: 40 of them at a time are compiled as one.
cmake_language(DEFER CALL set_target_properties llama PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 40)
