// Trees of lookups and a head, grown best first. outrider/drafters/joint/ says how and why; here is the same, step by
// step, so that both grow the same trees.
#pragma once

#include <queue>
#include <string>

#include "lookup.h"

namespace outrider {

// The lookups behind a place, and its level: joint/blend.py.
struct Family {
    Evidence evidence;
    uint32_t level = 0;
};

// How a head and lookups are believed together, and what asking the head brings: joint/blend.py.
class Blend {
   public:
    struct Brought {
        bool known = false;
        double weight = 0, best = 0, better = 0;
        uint32_t left_out = 0, patience = 0;
    };
    Calibration drawn, joint;

    double weight(Family family) const;
    void move_weight(Family family, double by_head, double by_lookups);
    Brought& brought(Family family, uint32_t sureness);
    static uint32_t sureness_of(double surest);

   private:
    struct Weight {
        double value, count;
    };
    Weight known_weight(Family family) const;

    std::vector<Weight> weights_;  // negative where nothing is known
    std::vector<Brought> brought_;
};

// What a tree needs to grow on: joint/growth.py.
enum class Need { nothing, answer, draw };

// What questions cost, in tokens.
struct StepPrices {
    bool asks = false;
    double first = 0, further = 0;
};

struct JointTerms {
    size_t nodes = 0, depth = 0;
    std::vector<double> totals;
    StepPrices questions;
    bool draws = false;
    size_t children = 1;
    double least = 0;
};

class JointTree {
   public:
    JointTree(std::shared_ptr<const Lookups> lookups, const std::vector<Match>& matches,
              const std::vector<int64_t>& context, std::shared_ptr<Calibration> calibration,
              std::shared_ptr<Blend> blend, JointTerms terms);

    // Grows until the head is needed; `node` is whose children it is asked for, -1 for the text itself.
    Need advance(int32_t& node);
    // The likeliest tokens after a node, falling.
    void answer(int32_t node, const std::vector<int32_t>& told, const std::vector<double>& given);
    void drew(int32_t node, int32_t token);
    void teach(const std::vector<int64_t>& path, const std::vector<int64_t>& came);
    // How many of the nodes are worth their price; drawn ones stay.
    size_t worth() const;
    const std::vector<int32_t>& children_of(int32_t node) const { return at(node).children; }
    size_t depth_of(int32_t node) const { return at(node).place.depth; }

    std::vector<int32_t> tokens, parents;
    std::vector<double> chances;
    std::vector<uint32_t> proposers;
    std::vector<int32_t> q_rows;  // -1 where the token was chosen
    size_t questions = 0;

   private:
    enum class Task { child, question, draw };
    struct Share {
        int32_t token;
        double looked_up, asked, share, corrected;
        bool by_lookups, by_head;
        uint32_t proposers;
    };
    struct Spot {
        Lookups::Place place;
        double chance = 1;
        Tree::Expected expected;
        std::vector<Lookups::Onward> onward;
        Family family;
        uint32_t sureness = 0;
        double surest = 0;
        bool asked = false, read = false;
        std::vector<Share> shares;
        uint32_t answers = 0;
        std::vector<int32_t> children;
        std::vector<double> ranks;
    };
    struct Waiting {
        double chance;
        size_t order;
        int32_t node;
        Task task;
        int32_t token;
        uint32_t answers, proposers;
        bool operator<(const Waiting& other) const {
            return chance != other.chance ? chance < other.chance : order > other.order;
        }
    };

    Spot& at(int32_t node) { return spots_.at(static_cast<size_t>(node + 1)); }
    const Spot& at(int32_t node) const { return spots_.at(static_cast<size_t>(node + 1)); }
    void arrive(int32_t node);
    void offer(int32_t node, bool drawn_apart);
    void wait(Task task, int32_t node, double chance, int32_t token = -1, uint32_t answers = 0, uint32_t bits = 0);
    void join(int32_t parent, int32_t token, double chance, uint32_t bits, int32_t q_row);
    bool pays_to_ask(int32_t node);
    bool pays_to_draw(const Waiting& next);
    double price_of_next() const;
    double share_of_a_draw(const Spot& spot) const;
    size_t unread(int32_t node) const;
    void note_question(int32_t node);
    void learn_drawn(const std::vector<int64_t>& path);

    std::shared_ptr<const Lookups> lookups_;
    std::shared_ptr<Calibration> calibration_;
    std::shared_ptr<Blend> blend_;
    const JointTerms terms_;
    const std::vector<double> steps_;
    const double least_;
    const uint32_t head_;  // its bit among the proposers
    size_t order_ = 0, read_ = 0;
    int32_t q_count_ = 0;
    std::priority_queue<Waiting> waiting_;
    std::vector<Spot> spots_;  // [1 + node]
};

}  // namespace outrider
