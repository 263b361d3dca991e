// Which instruction sets this build has and this processor runs.
#include <cstring>

#include "kernels.h"

#if defined(OUTRIDER_HAS_AMX)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace outrider {

extern const Kernels kernels_portable;
extern const Kernels kernels_avx2, kernels_avx512, kernels_amx, kernels_neon;  // those that this build has

namespace {

struct Set {
    const Kernels* kernels;
    bool (*runs)();
};

#if defined(OUTRIDER_HAS_AVX512)
bool runs_avx512() {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
}
#endif

#if defined(OUTRIDER_HAS_AMX)
// Linux gives tiles to those processes only that ask for them.
bool runs_amx() {
    constexpr int ASK = 0x1023, TILE_DATA = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    static const bool given = [] {
        unsigned a, b, c, d;
        const bool has = __get_cpuid_count(7, 0, &a, &b, &c, &d) && d >> 24 & 1 && d >> 25 & 1;  // AMX-TILE, AMX-INT8
        return has && runs_avx512() && syscall(SYS_arch_prctl, ASK, TILE_DATA) == 0;
    }();
    return given;
}
#endif

const Set SETS[] = {
#if defined(OUTRIDER_HAS_AMX)
    {&kernels_amx, runs_amx},
#endif
#if defined(OUTRIDER_HAS_AVX512)
    {&kernels_avx512, runs_avx512},
#endif
#if defined(OUTRIDER_HAS_AVX2)
    {&kernels_avx2,
     [] {
         __builtin_cpu_init();
         // F16C came with the generation before AVX2, and some compilers do not know its name here.
         return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
     }},
#endif
#if defined(OUTRIDER_HAS_NEON)
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
