// The most probable tokens of each row of logits, exactly, without sorting the row.
#include <algorithm>
#include <cmath>
#include <limits>

#include "decoder.h"
#include "pool.h"

namespace outrider {

namespace {

constexpr size_t GROUP = 256;      // logits that have a maximum and a sum of their own
constexpr size_t OF_A_PIECE = 16;  // groups of one piece of work: they fit into the first cache

// Of one group: its largest logit, and the sum of exp(logit - largest); NaN where a logit is.
struct Summary {
    float largest, sum;
};

Summary summarise(const Kernels& kernels, const float* x, size_t size) {
    Summary group;
    kernels.exponentials(x, size, &group.largest, &group.sum);
    if (group.largest == -INFINITY && std::all_of(x, x + size, [](float each) { return each == -INFINITY; }))
        group.sum = 0;  // not exp(-inf - -inf)
    return group;
}

// The k largest of a row, falling, the lower id first of equals. The k-th largest maximum of the groups is reached by at
// least k logits, so all that are sought stand in the few groups that reach it.
void choose(const float* x, size_t size, const std::vector<Summary>& groups, size_t first, size_t count, size_t k,
            int64_t* tokens) {
    std::vector<float> maxima(count);
    for (size_t i = 0; i < count; i++) maxima[i] = groups[first + i].largest;
    float least = -INFINITY;
    if (k <= count) {
        std::nth_element(maxima.begin(), maxima.begin() + static_cast<ptrdiff_t>(k) - 1, maxima.end(),
                         std::greater<float>());
        least = maxima[k - 1];
    }
    std::vector<size_t> found;
    for (size_t i = 0; i < count; i++)
        for (size_t at = i * GROUP; groups[first + i].largest >= least && at < std::min(size, (i + 1) * GROUP); at++)
            if (x[at] >= least) found.push_back(at);
    std::partial_sort(found.begin(), found.begin() + static_cast<ptrdiff_t>(k), found.end(), [x](size_t a, size_t b) {
        return x[a] > x[b] || (x[a] == x[b] && a < b);
    });
    std::copy_n(found.begin(), k, tokens);
}

}  // namespace

// Groups are cut and added in one order, so the probabilities do not depend on the number of threads either.
Top Decoder::top_of(const float* logits, size_t rows, size_t k) const {
    const size_t width = shape_.vocabulary, groups = (width + GROUP - 1) / GROUP;
    if (k > width) throw std::invalid_argument("the top " + std::to_string(k) + " of " + std::to_string(width));
    Top top{std::vector<int64_t>(rows * k), std::vector<float>(rows * k)};
    if (top.tokens.empty()) return top;
    std::vector<Summary> summaries(rows * groups);
    const size_t parts = (groups + OF_A_PIECE - 1) / OF_A_PIECE;
    Pool::shared().run(rows * parts, threads_, [&](size_t piece, size_t) {
        const size_t row = piece / parts, first = piece % parts * OF_A_PIECE;
        for (size_t group = first; group < std::min(groups, first + OF_A_PIECE); group++)
            summaries[row * groups + group] = summarise(*kernels_, logits + row * width + group * GROUP,
                                                        std::min(GROUP, width - group * GROUP));
    });
    Pool::shared().run(rows, threads_, [&](size_t row, size_t) {
        const Summary* of_row = summaries.data() + row * groups;
        float largest = -INFINITY;
        for (size_t i = 0; i < groups; i++) largest = std::max(largest, of_row[i].largest);
        double total = 0;
        for (size_t i = 0; i < groups; i++)
            total += of_row[i].largest == -INFINITY && of_row[i].sum == 0
                         ? 0.0
                         : of_row[i].sum * std::exp(static_cast<double>(of_row[i].largest) - largest);
        int64_t* tokens = top.tokens.data() + row * k;
        float* probabilities = top.probabilities.data() + row * k;
        if (!(total > 0 && total < std::numeric_limits<double>::infinity())) {  // a logit is no number
            std::fill_n(probabilities, k, std::numeric_limits<float>::quiet_NaN());
            return;
        }
        choose(logits + row * width, width, summaries, row * groups, groups, k, tokens);
        for (size_t i = 0; i < k; i++)
            probabilities[i] = static_cast<float>(
                std::exp(static_cast<double>(logits[row * width + static_cast<size_t>(tokens[i])]) - largest) / total);
    });
    return top;
}

}  // namespace outrider
