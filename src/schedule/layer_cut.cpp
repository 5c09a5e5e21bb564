#include "schedule/layer_cut.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "models/layer_stream.h"

namespace retort {

std::vector<Share> cut_layers(const std::vector<uint64_t>& bytes_of_layers, int64_t ranks) {
  const auto layers = bytes_of_layers.size();
  const auto stages = std::min(static_cast<size_t>(ranks), layers);
  std::vector<uint64_t> before(layers + 1);  // bytes of the layers in front
  std::partial_sum(bytes_of_layers.begin(), bytes_of_layers.end(), before.begin() + 1);
  // most[n][i]: the largest rank's bytes where n ranks have the first i layers; begin[n][i]: of the last of
  // them.
  std::vector most(stages + 1, std::vector<uint64_t>(layers + 1, std::numeric_limits<uint64_t>::max()));
  std::vector begin(stages + 1, std::vector<size_t>(layers + 1));
  most[0][0] = 0;
  for (size_t n = 1; n <= stages; ++n)
    for (size_t end = n; end <= layers; ++end)
      for (size_t first = n - 1; first < end; ++first)
        if (const auto largest = std::max(most[n - 1][first], before[end] - before[first]);
            largest < most[n][end])
          most[n][end] = largest, begin[n][end] = first;
  std::vector<Share> cut(stages);
  for (size_t n = stages, end = layers; n > 0; end = begin[n][end], --n)
    cut[n - 1] = {static_cast<int64_t>(begin[n][end]), static_cast<int64_t>(end)};
  return cut;
}

std::vector<uint64_t> bytes_of_layers(const Model& model) {
  std::vector<uint64_t> bytes(static_cast<size_t>(model.config.layers));
  for (const auto* linear : model.linears())
    if (const auto layer = linear->place.layer; layer < model.config.layers)
      bytes[static_cast<size_t>(layer)] +=
          linear->source ? model.stream()->bytes_of(*linear) : linear->weight.stored_bytes();
  return bytes;
}

std::string describe_cut(const std::vector<uint64_t>& bytes_of_layers,
                         const std::vector<Share>& layers_of_ranks,
                         const std::function<std::string(int64_t rank)>& name) {
  auto text = fmt::format("layers divided by {} {}:", layers_of_ranks.size(),
                          layers_of_ranks.size() == 1 ? "rank" : "ranks");
  for (size_t rank = 0; rank < layers_of_ranks.size(); ++rank) {
    const auto& [begin, end] = layers_of_ranks[rank];
    const auto size =
        std::accumulate(bytes_of_layers.begin() + begin, bytes_of_layers.begin() + end, uint64_t{0});
    text += fmt::format(
        "{} {}{} {} ({})", rank == 0 ? "" : ",", name(static_cast<int64_t>(rank)), rank == 0 ? " reads" : "",
        end - begin == 1 ? fmt::format("{}", begin) : fmt::format("{} to {}", begin, end - 1), bytes(size));
  }
  return text;
}

std::vector<Share> cut_groups(const std::vector<int64_t>& rows, const GroupRule& rule) {
  const auto all = std::accumulate(rows.begin(), rows.end(), int64_t{0});
  const auto wanted =
      std::min(rule.most_rows, std::max(rule.least_rows, (all + rule.most_groups - 1) / rule.most_groups));
  std::vector<Share> groups;
  const auto count = static_cast<int64_t>(rows.size());
  for (int64_t first = 0, end = 0; first < count; first = end) {
    int64_t sum = 0;
    for (; end < count; ++end) {
      const auto next = sum + rows[static_cast<size_t>(end)];
      const bool enough = end - first >= rule.least_texts && sum >= wanted;
      if (end > first && (enough || next > rule.most_rows)) break;
      sum = next;
    }
    groups.push_back({first, end});
  }
  return groups;
}

int64_t rows_worth_decoding(const ModelConfig& config) {
  constexpr int64_t kRows = 1024;
  return config.experts > 0 ? kRows * config.experts / std::max<int64_t>(1, config.experts_per_token) : kRows;
}

}  // namespace retort
