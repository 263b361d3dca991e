#include "sentencepiece.h"

#include <algorithm>
#include <bitset>
#include <cmath>
#include <queue>
#include <stdexcept>

namespace outrider {

namespace {

constexpr std::string_view SPACE = "\xe2\x96\x81";  // how the names of tokens write one

// Of a character in UTF-8, by its first byte.
size_t length_of(char first) {
    const auto byte = static_cast<uint8_t>(first);
    return byte < 0xc0 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

std::string with_spaces_written(std::string_view text) {
    std::string written;
    written.reserve(text.size() + text.size() / 2);
    for (char c : text) c == ' ' ? written.append(SPACE) : written.append(1, c);
    return written;
}

// Which pairs of bytes a text holds; one bit each.
class Pairs {
 public:
    explicit Pairs(std::string_view text) {
        for (size_t i = 0; i + 1 < text.size(); i++) seen_[place(text.data() + i)] = true;
    }
    bool may_hold(std::string_view name) const { return name.size() < 2 || seen_[place(name.data())]; }

 private:
    static size_t place(const char* two) { return static_cast<uint8_t>(two[0]) << 8 | static_cast<uint8_t>(two[1]); }
    std::bitset<65536> seen_;
};

// Part of a text: a character, or several that were joined. One that was joined to another is empty.
struct Symbol {
    size_t start, size;
    int32_t before, after;
};

// Two neighbours that may be joined; out of date where one of them has changed since.
struct Pair {
    float score;
    int32_t left, right;
    size_t size;

    bool operator<(const Pair& other) const {  // comes later
        return score < other.score || (score == other.score && left > other.left);
    }
};

}  // namespace

SentencePiece::SentencePiece(std::string names, std::vector<uint64_t> ends, std::vector<float> scores,
                             std::vector<int32_t> special, const std::vector<int32_t>& strips, bool prefix)
    : names_(std::move(names)),
      ends_(std::move(ends)),
      scores_(std::move(scores)),
      special_(std::move(special)),
      strips_(ends_.size()),
      prefix_(prefix) {
    const size_t count = ends_.size();
    const auto is_token = [count](int32_t token) { return token >= 0 && static_cast<size_t>(token) < count; };
    if (count > INT32_MAX || scores_.size() != count || !std::is_sorted(ends_.begin(), ends_.end()) ||
        (count ? ends_.back() : 0) != names_.size())
        throw std::invalid_argument("names and scores of different numbers");
    if (!std::all_of(special_.begin(), special_.end(), is_token) || !std::all_of(strips.begin(), strips.end(), is_token))
        throw std::invalid_argument("a special token that is none");
    if (std::any_of(scores_.begin(), scores_.end(), [](float score) { return std::isnan(score); }))
        throw std::invalid_argument("a score that is no number");
    tokens_.reserve(count);
    for (int32_t token = 0; is_token(token); token++) {
        const auto text = name(token);
        if (text.empty() || !tokens_.emplace(text, token).second)
            throw std::invalid_argument("a name that is empty, or of two tokens");
        longest_ = std::max(longest_, text.size());
    }
    const char* digits = "0123456789ABCDEF";
    for (size_t byte = 0; byte < bytes_.size(); byte++) {
        const std::string text = {'<', '0', 'x', digits[byte >> 4], digits[byte & 15], '>'};
        bytes_[byte] = find(text);
        if (bytes_[byte] == NONE) throw std::invalid_argument("a byte that has no token");
    }
    // As llama.cpp sorts them, so that equally long ones come in the same order.
    std::sort(special_.begin(), special_.end(), [this](int32_t a, int32_t b) { return name(a).size() > name(b).size(); });
    for (int32_t token : strips) strips_[token] = true;
}

std::string_view SentencePiece::name(int32_t token) const {
    const size_t start = token ? ends_[token - 1] : 0;
    return std::string_view(names_).substr(start, ends_[token] - start);
}

int32_t SentencePiece::find(std::string_view text) const {
    if (text.size() > longest_) return NONE;
    const auto found = tokens_.find(text);
    return found == tokens_.end() ? NONE : found->second;
}

std::vector<int32_t> SentencePiece::encode(std::string_view text) const {
    std::vector<int32_t> out;
    for (const Fragment& fragment : cut(text)) {
        if (fragment.token != NONE) {
            out.push_back(fragment.token);
        } else {
            std::string words = with_spaces_written(fragment.text);
            if (prefix_) words.insert(0, SPACE);  // a text begins here, or something special ends
            join(words, out);
        }
    }
    return out;
}

// The longest special token takes what it finds anywhere, then the next one in what is left.
std::vector<SentencePiece::Fragment> SentencePiece::cut(std::string_view text) const {
    std::vector<Fragment> fragments, made;
    if (text.empty()) return fragments;
    fragments.push_back({text, NONE});
    const Pairs pairs(text);
    for (int32_t token : special_) {
        const std::string_view wanted = name(token);
        if (!pairs.may_hold(wanted)) continue;
        made.clear();
        for (const Fragment& fragment : fragments) {
            std::string_view rest = fragment.text;
            size_t found;
            while (fragment.token == NONE && (found = rest.find(wanted)) != std::string_view::npos) {
                if (found) made.push_back({rest.substr(0, found), NONE});
                made.push_back({{}, token});
                rest.remove_prefix(found + wanted.size());
                while (strips_[token] && !rest.empty() && is_space(rest.front())) rest.remove_prefix(1);
            }
            if (fragment.token != NONE || !rest.empty()) made.push_back({rest, fragment.token});
        }
        fragments.swap(made);
    }
    return fragments;
}

void SentencePiece::join(std::string_view text, std::vector<int32_t>& out) const {
    if (text.size() > INT32_MAX) throw std::invalid_argument("a text of 2 GiB");
    std::vector<Symbol> symbols;
    symbols.reserve(text.size());
    for (size_t start = 0; start < text.size(); start += symbols.back().size) {
        const auto place = static_cast<int32_t>(symbols.size());
        const size_t size = std::min(length_of(text[start]), text.size() - start);
        symbols.push_back({start, size, place - 1, start + size == text.size() ? NONE : place + 1});
    }
    std::vector<Pair> storage;
    storage.reserve(symbols.size());
    const auto pair_of = [&](int32_t left, int32_t right) {
        const size_t size = symbols[left].size + symbols[right].size;
        const int32_t token = find(text.substr(symbols[left].start, size));
        return Pair{token == NONE ? 0 : scores_[token], left, token == NONE ? NONE : right, size};
    };
    for (int32_t right = 1; right < static_cast<int32_t>(symbols.size()); right++) {
        const Pair pair = pair_of(right - 1, right);
        if (pair.right != NONE) storage.push_back(pair);
    }
    std::priority_queue<Pair> queue(std::less<Pair>(), std::move(storage));
    const auto offer = [&](int32_t left, int32_t right) {
        if (left == NONE || right == NONE) return;
        const Pair pair = pair_of(left, right);
        if (pair.right != NONE) queue.push(pair);
    };
    while (!queue.empty()) {
        const Pair best = queue.top();
        queue.pop();
        Symbol &left = symbols[best.left], &right = symbols[best.right];
        if (!left.size || !right.size || left.size + right.size != best.size) continue;
        left.size += right.size;
        right.size = 0;
        left.after = right.after;
        if (right.after != NONE) symbols[right.after].before = best.left;
        offer(left.before, best.left);
        offer(best.left, left.after);
    }
    for (int32_t place = 0; place != NONE; place = symbols[place].after) {
        const auto piece = text.substr(symbols[place].start, symbols[place].size);
        const int32_t token = find(piece);
        if (token != NONE) {
            out.push_back(token);
        } else {
            for (char byte : piece) out.push_back(bytes_[static_cast<uint8_t>(byte)]);
        }
    }
}

}  // namespace outrider
