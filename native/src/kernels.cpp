// All kernels, compiled once for each instruction set (OUTRIDER_SET). Nothing here or in kernel_*.h may be shared with
// other files: a function compiled for AVX-512 must not be linked into code that runs without it. So no templates of
// the standard library, and everything stands in an unnamed namespace.
#include "kernel_attention.h"
#include "kernel_linear.h"
#include "kernel_vectors.h"

#define OUTRIDER_JOIN(a, b) a##b
#define OUTRIDER_NAME(set) OUTRIDER_JOIN(kernels_, set)
#define OUTRIDER_TEXT(set) #set
#define OUTRIDER_QUOTED(set) OUTRIDER_TEXT(set)

namespace outrider {
extern const Kernels OUTRIDER_NAME(OUTRIDER_SET);
const Kernels OUTRIDER_NAME(OUTRIDER_SET) = {
    OUTRIDER_QUOTED(OUTRIDER_SET), multiply, quantise, norm, rotate, gate, cap, attend, to_halves,
    exponentials};
}  // namespace outrider
