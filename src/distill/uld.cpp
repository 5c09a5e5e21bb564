#include "distill/uld.h"

#include <algorithm>

#include "ops/head_rows.h"

namespace retort {
namespace {

// Contexts of the supervised tokens of each run of a sample.
std::vector<std::vector<Context>> runs_of(const Sample& sample) {
  std::vector<std::vector<Context>> runs;
  const auto here = contexts(sample.tokens);
  for (size_t i = 1; i < sample.tokens.size(); ++i) {
    if (sample.weights[i] == 0) continue;
    if (i == 1 || sample.weights[i - 1] == 0) runs.emplace_back();
    runs.back().push_back(here[i - 1]);
  }
  return runs;
}

// sum |p_(i) - q_(i)| over the head's ranks and the rest; q becomes d/dq.
double sorted_distance(const SparseRow& row, std::span<float> q, std::vector<int32_t>& order) {
  std::vector<float> p(row.p.begin(), row.p.begin() + static_cast<std::ptrdiff_t>(row.head));
  std::sort(p.begin(), p.end(), std::greater<>());
  order.resize(q.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
  const auto ranks = std::min(p.size(), q.size());
  std::partial_sort(
      order.begin(), order.begin() + static_cast<std::ptrdiff_t>(ranks), order.end(),
      [&](int32_t a, int32_t b) { return q[static_cast<size_t>(a)] > q[static_cast<size_t>(b)]; });
  const auto sign = [](double x) { return x > 0 ? 1.0f : x < 0 ? -1.0f : 0.0f; };
  double distance = 0, inside = 0;
  std::vector<float> slopes(ranks);
  for (size_t i = 0; i < ranks; ++i) {
    const double gap = static_cast<double>(q[static_cast<size_t>(order[i])]) - p[i];
    inside += q[static_cast<size_t>(order[i])];
    distance += std::abs(gap);
    slopes[i] = sign(gap);
  }
  for (size_t i = ranks; i < p.size(); ++i) distance += p[i];  // a student with fewer tokens than the head
  const double rest = q.size() > ranks ? (1 - inside) - row.rest : -static_cast<double>(row.rest);
  distance += std::abs(rest);
  std::fill(q.begin(), q.end(), sign(rest));
  for (size_t i = 0; i < ranks; ++i) q[static_cast<size_t>(order[i])] = slopes[i];
  return distance;
}

}  // namespace

std::unordered_map<Context, Context> paired_in_order(const Samples& ours, const Samples& theirs) {
  std::unordered_map<Context, Context> pairs;
  for (const auto& [our, their] : same_records(ours, theirs)) {
    const auto here = runs_of(ours[our]), there = runs_of(theirs[their]);
    for (size_t r = 0; r < std::min(here.size(), there.size()); ++r)
      for (size_t i = 0; i < std::min(here[r].size(), there[r].size()); ++i)
        pairs.emplace(here[r][i], there[r][i]);
  }
  return pairs;
}

Objective uld_distillation(const DistillSpec& spec, KeptRows kept) {
  const auto loss = [=](const Model& model, const Tensor& hidden, const Forest& forest,
                        const Pass& pass) -> LossSum {
    if (!pass.training || spec.weight == 0) return cross_entropy(hidden, forest.targets, model.head, pass);
    const auto rows = supervised_rows(forest.targets);
    const auto here = contexts(forest);
    const double t = spec.temperature;
    std::vector<int32_t> asked;
    std::vector<std::pair<SparseRow, double>> taught;  // with the weight of the row
    std::vector<Target> data;
    for (size_t i = 0; i < rows.rows.size(); ++i) {
      auto row = kept.find(here[static_cast<size_t>(rows.rows[i])]);
      const float share = row ? static_cast<float>(1 - spec.weight) : 1;
      for (const auto* target : rows.targets[i])
        if (share > 0) data.push_back({target->row, target->label, target->weight * share, target->sample});
      if (!row) continue;
      asked.push_back(rows.rows[i]);
      taught.emplace_back(std::move(*row), rows.weight[i] * spec.weight * t * t);
    }
    auto nats = loss_over_logits(
        hidden, asked, {model.head, kept.vocabulary}, pass, [&](LogitRows& chunk, bool gradient) {
          const auto q_all = (t == 1 ? chunk.logits : chunk.logits / t).softmax(-1);
          const auto width = static_cast<size_t>(kept.vocabulary);
          std::vector<float> slope(width);
          std::vector<int32_t> order;
          double sum = 0;
          for (size_t i = 0; i < chunk.rows.size(); ++i) {
            const auto* q = q_all.const_data_ptr<float>() + i * width;
            const auto& [row, weight] = taught[chunk.first + i];
            std::copy_n(q, width, slope.begin());
            sum += weight * sorted_distance(row, slope, order);
            if (!gradient) continue;
            double mean = 0;
            for (size_t j = 0; j < width; ++j) mean += static_cast<double>(q[j]) * slope[j];
            auto* out = chunk.logits.mutable_data_ptr<float>() + i * width;
            const auto scale = static_cast<float>(weight / t), centre = static_cast<float>(mean);
            for (size_t j = 0; j < width; ++j) out[j] = scale * q[j] * (slope[j] - centre);
          }
          return sum;
        });
    if (!data.empty()) nats = nats + cross_entropy(hidden, data, model.head, pass).nats;
    return {nats, rows.total};
  };
  return {nullptr, loss};
}

}  // namespace retort
