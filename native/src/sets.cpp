// Which instruction sets this build has and this processor runs.
#include <cstring>

#include "kernels.h"

namespace outrider {

extern const Kernels kernels_portable;
#if defined(OUTRIDER_HAS_X86)
extern const Kernels kernels_avx2, kernels_avx512;
#elif defined(OUTRIDER_HAS_NEON)
extern const Kernels kernels_neon;
#endif

namespace {

struct Set {
    const Kernels* kernels;
    bool (*runs)();
};

const Set SETS[] = {
#if defined(OUTRIDER_HAS_X86)
    {&kernels_avx512,
     [] {
         __builtin_cpu_init();
         return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                __builtin_cpu_supports("avx512vnni");
     }},
    {&kernels_avx2,
     [] {
         __builtin_cpu_init();
         // F16C came with the generation before AVX2, and some compilers do not know its name here.
         return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
     }},
#elif defined(OUTRIDER_HAS_NEON)
    {&kernels_neon, [] { return true; }},  // the build says that the machine has dot products
#endif
    {&kernels_portable, [] { return true; }},
};

}  // namespace

const Kernels* find_kernels(const char* name) {
    for (const Set& set : SETS)
        if (!std::strcmp(set.kernels->name, name) && set.runs()) return set.kernels;
    return nullptr;
}

const char* const* kernel_names() {
    static const char* names[sizeof(SETS) / sizeof(Set) + 1];
    static const bool filled = [] {
        size_t count = 0;
        for (const Set& set : SETS)
            if (set.runs()) names[count++] = set.kernels->name;
        return true;
    }();
    (void)filled;
    return names;
}

}  // namespace outrider
