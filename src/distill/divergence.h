// How far the student's distribution q is from the teacher's p at one position, and the gradient in the
// student's logits.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace retort {

// One position: cells of a partition of the vocabulary (every token, or the teacher's head and one cell for
// the rest).
struct Cells {
  std::span<const float> log_p, p;  // teacher
  std::span<const float> log_q, q;  // student
};

// A row of the table. `measure` returns D in nats and fills slope[i] = q_i dD/dq_i: the gradient in logit i
// is then slope_i - q_i sum(slope). p_i = 0 and q_i = 0 cost their limits; a log of zero counts as kLogZero.
struct Divergence {
  std::string_view name;
  std::string_view documentation;
  double (*measure)(const Cells& cells, double parameter, std::span<float> slope);
  double parameter;  // used when the recipe gives none
};

inline constexpr float kLogZero = -104;  // exp(-104) is the first to be 0 in fp32

const std::vector<Divergence>& divergences();
std::vector<std::string> divergence_names();
const Divergence& find_divergence(
    std::string_view name);  // std::logic_error when unknown: the recipe's rule lists the names

// D, with the gradient in the logits in `gradient` (D's own, not yet times T).
double measure(const Divergence& divergence, const Cells& cells, double parameter, std::span<float> gradient);

}  // namespace retort
