// An MLP of many experts, of which each token asks a few: a mixture of experts (arXiv 1701.06538).
#pragma once

#include "decoder.h"

namespace outrider {

struct Expert {
    Linear gate, up, down;
};

struct Experts {
    Linear router;             // [experts, hidden] in float32; behind them the row that weights the shared expert
    std::vector<Expert> each;  // all of one size and kind
    Expert shared;             // asked by every token, with a sigmoid as its weight; without matrices where there is none
    size_t inner = 0;          // of each expert
    size_t used = 0;           // by each token, without the shared one
    bool normalised = false;   // whether the weights of those have the sum 1

    bool has_shared() const { return shared.gate.matrix != nullptr; }
    // The shared one comes last.
    size_t size() const { return each.size() + has_shared(); }
    size_t asked() const { return used + has_shared(); }
    const Expert& at(size_t expert) const { return expert < each.size() ? each[expert] : shared; }
};

// Who asks whom in one pass. A visit is one token at one expert; visits are sorted by expert, then by token.
struct Visits {
    std::vector<float> logits;         // [tokens, rows of the router]
    std::vector<size_t> experts;       // [tokens, asked], rising
    std::vector<float> weights;        // [tokens, asked]
    std::vector<size_t> places;        // [tokens, asked]: which visits these are
    std::vector<size_t> tokens;        // of each visit
    std::vector<size_t> first;         // visit of each expert; behind them the number of visits
    std::vector<float> outputs;        // [visits, hidden padded to whole tiles]
};

}  // namespace outrider
