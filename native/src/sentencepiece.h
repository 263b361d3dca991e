// The tokenizer of GGUF files with SentencePiece, token for token as llama.cpp has it (llm_tokenizer_spm in its
// llama-vocab.cpp): of all neighbours whose text together is a token, the pair with the best score is joined first, and
// of equal ones the leftmost, until none is left. A character that is no token then becomes its bytes.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace outrider {

class SentencePiece {
 public:
    // `names` of all tokens, one behind the other, and where each ends. `special`: those that are cut out of a text
    // before anything is joined, by rising id; `strips`: whether white space after each of these is dropped. `prefix`:
    // whether a space goes before the text, and before what follows a special token.
    // Throws std::invalid_argument where two names are equal, one is empty or there is none for a byte.
    SentencePiece(std::string names, std::vector<uint64_t> ends, std::vector<float> scores,
                  std::vector<int32_t> special, const std::vector<int32_t>& strips, bool prefix);
    SentencePiece(const SentencePiece&) = delete;

    std::vector<int32_t> encode(std::string_view text) const;

 private:
    struct Fragment {
        std::string_view text;
        int32_t token;  // NONE where the text is still to be joined
    };
    static constexpr int32_t NONE = -1;

    std::string_view name(int32_t token) const;
    int32_t find(std::string_view text) const;
    std::vector<Fragment> cut(std::string_view text) const;
    void join(std::string_view text, std::vector<int32_t>& out) const;

    std::string names_;
    std::vector<uint64_t> ends_;
    std::vector<float> scores_;
    std::vector<int32_t> special_;  // the longest first
    std::vector<bool> strips_;      // [token]
    bool prefix_;
    size_t longest_ = 0;  // bytes of a name
    std::unordered_map<std::string_view, int32_t> tokens_;
    std::array<int32_t, 256> bytes_;
};

}  // namespace outrider
