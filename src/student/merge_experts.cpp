#include <numeric>

#include "student/prune.h"

namespace retort {

ExpertMatrices aligned(const ExpertMatrices& kept, const ExpertMatrices& other) {
  constexpr int64_t kRows = 256;  // channels whose products with all others are held at a time
  const int64_t channels = kept.gate.size(0);
  const auto of = [](const ExpertMatrices& expert) {
    return at::cat({expert.gate, expert.up, expert.down.t()}, 1);
  };  // [F, 3E]
  const auto ours = of(kept), theirs = of(other);
  const auto order = ours.norm(2, 1).argsort(true, 0, true);
  auto taken = at::zeros({channels}, at::TensorOptions(at::kBool));
  auto choice = at::empty({channels}, at::TensorOptions(at::kLong));
  auto* chosen = choice.mutable_data_ptr<int64_t>();
  for (int64_t first = 0; first < channels; first += kRows) {
    const auto rows = order.narrow(0, first, std::min(kRows, channels - first));
    const auto products = at::mm(ours.index_select(0, rows), theirs.t());
    for (int64_t i = 0; i < rows.size(0); ++i) {
      const auto best = products[i].masked_fill(taken, -INFINITY).argmax().item<int64_t>();
      chosen[rows[i].item<int64_t>()] = best;
      taken[best].fill_(true);
    }
  }
  return {other.gate.index_select(0, choice), other.up.index_select(0, choice),
          other.down.index_select(1, choice)};
}

ExpertMatrices merge_experts(const std::vector<ExpertMatrices>& experts, const std::vector<double>& uses) {
  const auto sum = std::accumulate(uses.begin(), uses.end(), 0.0);
  const auto share = [&](size_t i) { return sum > 0 ? uses[i] / sum : 1 / static_cast<double>(uses.size()); };
  const auto& kept = experts.front();
  ExpertMatrices merged{kept.gate * share(0), kept.up * share(0), kept.down * share(0)};
  for (size_t i = 1; i < experts.size(); ++i) {
    const auto other = aligned(kept, experts[i]);
    merged.gate.add_(other.gate, share(i));
    merged.up.add_(other.up, share(i));
    merged.down.add_(other.down, share(i));
  }
  return merged;
}

}  // namespace retort
