#include "distill/quality.h"

#include <array>
#include <cmath>
#include <map>
#include <numbers>
#include <numeric>

#include "base/error.h"
#include "ops/workers.h"
#include "schedule/read.h"

namespace retort {
namespace {

constexpr size_t kRowsAtATime = 32;
constexpr size_t kBins = 15;

struct Sums {
  int64_t rows = 0;
  double forward = 0, reverse = 0, top1 = 0, top5 = 0, accepted = 0, weight = 0, nats = 0, bytes = 0;
  std::array<double, kBins> count{}, confidence{}, right{};

  void add(const Sums& other) {
    rows += other.rows;
    forward += other.forward, reverse += other.reverse, top1 += other.top1, top5 += other.top5,
        accepted += other.accepted;
    weight += other.weight, nats += other.nats, bytes += other.bytes;
    for (size_t i = 0; i < kBins; ++i)
      count[i] += other.count[i], confidence[i] += other.confidence[i], right[i] += other.right[i];
  }
};

double sum_of(const Tensor& values) { return values.sum(at::kDouble).item<double>(); }

// p log(p/q) with the limit 0 at p = 0.
double divergence(const Tensor& p, const Tensor& log_p, const Tensor& log_q) {
  return sum_of(at::where(p.gt(0), p * (log_p - log_q), at::zeros_like(p)));
}

}  // namespace

double Quality::perplexity() const { return std::exp(nats); }
double Quality::acceptance_length() const {
  return acceptance >= 1 ? kDraft + 1 : (1 - std::pow(acceptance, kDraft + 1)) / (1 - acceptance);
}

std::vector<Quality> measure_quality(const ComputedModel* teacher, const std::vector<ComputedModel>& students,
                                     const std::vector<Forest>& forests, const Comparing& comparing) {
  const auto vocabulary = comparing.vocabulary;
  auto all = students;
  if (teacher) all.push_back(*teacher);
  std::vector<std::vector<Sums>> parts(forests.size(), std::vector<Sums>(all.size()));
  std::vector<Reader> readers;
  for (const auto& each : all)
    readers.push_back(
        {each.model, [&forests, compute = each.compute, device = each.model.device()](int64_t f) {
           return make_pass(forests[static_cast<size_t>(f)], compute, device);
         }});
  std::vector<int64_t> texts(forests.size());
  std::iota(texts.begin(), texts.end(), int64_t{0});
  const auto measure_forest = [&](int64_t f, Read&& read) {
    const auto& forest = forests[static_cast<size_t>(f)];
    std::map<int32_t, std::vector<const Target*>> targets;
    for (const auto& target : forest.targets) targets[target.row].push_back(&target);
    std::vector<int32_t> rows;
    for (const auto& [row, here] : targets) rows.push_back(row);
    const auto add_data = [&](Sums& sums, const std::vector<const Target*>& here, const Tensor& log_q,
                              double confidence, int64_t choice) {
      const auto bin = std::min(static_cast<size_t>(confidence * kBins), kBins - 1);
      for (const auto* target : here) {
        sums.weight += target->weight;
        sums.nats -= target->weight * log_q[target->label].item<double>();
        sums.bytes +=
            target->weight * static_cast<double>(comparing.tokenizer.token_bytes(target->label).size());
        sums.count[bin] += target->weight;
        sums.confidence[bin] += target->weight * confidence;
        sums.right[bin] += choice == target->label ? target->weight : 0;
      }
    };
    for (size_t first = 0; first < rows.size(); first += kRowsAtATime) {
      const auto chunk = std::span(rows).subspan(first, std::min(kRowsAtATime, rows.size() - first));
      const auto log_of = [&](size_t m) {
        return logits(read.hidden[m], chunk, all[m].model.head, read.passes[m])
            .narrow(1, 0, vocabulary)
            .log_softmax(-1);
      };
      const auto log_p = log_of(all.size() - 1), p = log_p.exp();  // the teacher, where there is one
      const auto best = std::get<1>(p.topk(std::min<int64_t>(5, vocabulary), -1));  // [rows, 5]
      for (size_t m = 0; m < all.size(); ++m) {
        auto& sums = parts[static_cast<size_t>(f)][m];
        const auto log_q = log_of(m), q = log_q.exp();
        const auto [largest, choice] = q.topk(std::min<int64_t>(5, vocabulary), -1);
        sums.rows += static_cast<int64_t>(chunk.size());
        for (size_t i = 0; i < chunk.size(); ++i)
          add_data(sums, targets[chunk[i]], log_q[static_cast<int64_t>(i)],
                   largest[static_cast<int64_t>(i)][0].item<double>(),
                   choice[static_cast<int64_t>(i)][0].item<int64_t>());
        if (!teacher) continue;
        sums.forward += divergence(p, log_p, log_q);
        sums.reverse += divergence(q, log_q, log_p);
        sums.accepted += sum_of(at::minimum(p, q));
        sums.top1 += sum_of(best.select(1, 0).eq(choice.select(1, 0)));
        sums.top5 += sum_of(best.unsqueeze(2).eq(choice.unsqueeze(1))) / static_cast<double>(best.size(1));
      }
    }
  };
  read_texts(readers, texts, usable_threads(comparing.threads), "comparing students with their teacher",
             measure_forest);
  std::vector<Quality> result;
  for (size_t m = 0; m < all.size(); ++m) {
    Sums sums;
    for (const auto& part : parts) sums.add(part[m]);  // in forest order
    if (sums.rows == 0)
      throw RecipeError(
          "comparing with the teacher: no token is supervised in the held-out samples; check data.loss and "
          "data.held_out");
    const auto rows = static_cast<double>(sums.rows);
    Quality quality{sums.rows,
                    sums.forward / rows,
                    sums.reverse / rows,
                    sums.top1 / rows,
                    sums.top5 / rows,
                    sums.accepted / rows,
                    0,
                    sums.nats / sums.weight,
                    0,
                    teacher != nullptr};
    for (size_t i = 0; i < kBins; ++i)
      quality.calibration_error += std::abs(sums.confidence[i] - sums.right[i]) / sums.weight;
    if (sums.bytes > 0) quality.bits_per_byte = sums.nats / std::numbers::ln2 / sums.bytes;
    result.push_back(quality);
  }
  return result;
}

}  // namespace retort
