#include "eval/compare.h"

#include <cmath>
#include <map>

#include "base/error.h"
#include "ops/workers.h"
#include "schedule/read.h"

namespace retort {
namespace {

constexpr size_t kRowsAtATime = 64;

struct Sums {
  int64_t rows = 0, equal = 0;
  double kl = 0, largest = 0, weight = 0, reference_nats = 0, other_nats = 0;
};

// KL of what is no number would count as none, and two rows of it as agreeing.
void require_finite(const Tensor& logits, std::string_view whose) {
  if (logits.isfinite().all().item<bool>()) return;
  throw Failure(fmt::format(
      "comparing models: logits of the {} model are not finite, so that nothing can be said of how "
      "near the two are; look at its weights, and at the size of its activations",
      whose));
}

Sums compare_forest(const Model& reference, const Model& other, const Forest& forest, const Read& read) {
  std::vector<int32_t> rows;
  std::vector<std::vector<const Target*>> labels;
  std::map<int32_t, size_t> place;
  for (const auto& target : forest.targets) {
    const auto [found, fresh] = place.try_emplace(target.row, rows.size());
    if (fresh) {
      rows.push_back(target.row);
      labels.emplace_back();
    }
    labels[found->second].push_back(&target);
  }
  Sums sums;
  for (size_t first = 0; first < rows.size(); first += kRowsAtATime) {
    const auto part = std::span(rows).subspan(first, std::min(kRowsAtATime, rows.size() - first));
    auto p = logits(read.hidden[0], part, reference.head, read.passes[0]),
         q = logits(read.hidden[1], part, other.head, read.passes[1]);
    require_finite(p, "trained");
    require_finite(q, "compared");
    const auto vocabulary = std::min(p.size(1), q.size(1));
    p = p.narrow(1, 0, vocabulary).log_softmax(-1);
    q = q.narrow(1, 0, vocabulary).log_softmax(-1);
    const auto kl =
        at::where(p.exp().gt(0), p.exp() * (p - q), at::zeros_like(p)).sum(-1, false, at::kDouble);  // [rows]
    const auto equal = p.argmax(-1).eq(q.argmax(-1));
    for (size_t i = 0; i < part.size(); ++i) {
      const auto row = static_cast<int64_t>(i);
      const auto nats = kl[row].item<double>();
      sums.kl += nats;
      sums.largest = std::max(sums.largest, nats);
      sums.equal += equal[row].item<bool>();
      ++sums.rows;
      for (const auto* target : labels[first + i]) {
        sums.weight += target->weight;
        sums.reference_nats -= target->weight * p[row][target->label].item<double>();
        sums.other_nats -= target->weight * q[row][target->label].item<double>();
      }
    }
  }
  return sums;
}

}  // namespace

double Agreement::reference_perplexity() const { return std::exp(reference_nats); }
double Agreement::other_perplexity() const { return std::exp(other_nats); }

Agreement compare_models(const ComputedModel& reference, const ComputedModel& other,
                         const std::vector<Forest>& forests, int64_t threads) {
  std::vector<Sums> parts(forests.size());
  std::vector<int64_t> texts;
  for (size_t i = 0; i < forests.size(); ++i)
    if (!forests[i].targets.empty()) texts.push_back(static_cast<int64_t>(i));
  const auto reader = [&](const ComputedModel& side) {
    return Reader{side.model, [&, compute = side.compute, device = side.model.device()](int64_t i) {
                    return make_pass(forests[static_cast<size_t>(i)], compute, device);
                  }};
  };
  read_texts({reader(reference), reader(other)}, texts, usable_threads(threads), "comparing models",
             [&](int64_t i, Read&& read) {
               const auto at = static_cast<size_t>(i);
               parts[at] = compare_forest(reference.model, other.model, forests[at], read);
             });
  Agreement mean;
  double equal = 0, weight = 0;
  for (const auto& part : parts) {
    mean.rows += part.rows;
    mean.kl_nats += part.kl;
    mean.largest_kl_nats = std::max(mean.largest_kl_nats, part.largest);
    equal += static_cast<double>(part.equal);
    weight += part.weight;
    mean.reference_nats += part.reference_nats;
    mean.other_nats += part.other_nats;
  }
  if (mean.rows == 0)
    throw RecipeError(
        "comparing models: no token is supervised in the samples; check data.loss and data.held_out");
  mean.kl_nats /= static_cast<double>(mean.rows);
  mean.top1 = equal / static_cast<double>(mean.rows);
  mean.reference_nats /= weight;
  mean.other_nats /= weight;
  return mean;
}

}  // namespace retort
