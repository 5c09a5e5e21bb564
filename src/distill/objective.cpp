#include "distill/objective.h"

#include <cmath>

#include "base/error.h"
#include "ops/head_rows.h"

namespace retort {
namespace {

// Supervised rows of a forest, each once, with the targets that share it.
struct SupervisedRows {
  std::vector<int32_t> rows;
  std::vector<std::vector<const Target*>> targets;
  std::vector<double> weight;   // summed over the targets
  double total = 0;
};

SupervisedRows supervised_rows(const Forest& forest) {
  SupervisedRows all;
  std::vector<int32_t> place(forest.tokens.size(), -1);
  for (const auto& target : forest.targets) {
    auto& at = place[static_cast<size_t>(target.row)];
    if (at < 0) {
      at = static_cast<int32_t>(all.rows.size());
      all.rows.push_back(target.row);
      all.targets.emplace_back();
      all.weight.push_back(0);
    }
    all.targets[static_cast<size_t>(at)].push_back(&target);
    all.weight[static_cast<size_t>(at)] += target.weight;
    all.total += target.weight;
  }
  return all;
}

double parameter_of(const DistillSpec& spec, const Divergence& divergence) { return spec.parameter < 0 ? divergence.parameter : spec.parameter; }

// The cross-entropy part, with its share of the loss; undefined nats when it has none.
Tensor data_part(const DistillSpec& spec, const Tensor& hidden, const Forest& forest, const Model& model, const Pass& pass) {
  if (spec.weight == 1) return {};
  auto targets = forest.targets;
  for (auto& target : targets) target.weight *= static_cast<float>(1 - spec.weight);
  return cross_entropy(hidden, targets, model.head, pass).nats;
}

}  // namespace

Objective live_distillation(const DistillSpec& spec, LiveTeacher teacher) {
  const auto& divergence = find_divergence(spec.loss);
  const double parameter = parameter_of(spec, divergence);
  return [=](const Model& model, const Forest& forest, const Pass& pass) -> LossSum {
    const auto hidden = model.hidden(pass);
    if (!pass.training || spec.weight == 0) return cross_entropy(hidden, forest.targets, model.head, pass);
    const auto rows = supervised_rows(forest);
    Tensor taught;   // the teacher's hidden states
    auto teacher_pass = make_pass(forest, teacher.compute);
    {
      const at::NoGradGuard no_graph;
      taught = teacher.model->hidden(teacher_pass);
    }
    const double t = spec.temperature;
    auto nats = loss_over_logits(hidden, rows.rows, model.head, pass, teacher.vocabulary, [&](LogitRows& chunk, bool gradient) {
      const auto log_of = [&](const Tensor& z) { return (t == 1 ? z : z / t).log_softmax(-1); };
      const auto log_p = log_of(logits(taught, chunk.rows, teacher.model->head, teacher_pass).narrow(1, 0, teacher.vocabulary)), p = log_p.exp();
      const auto log_q = log_of(chunk.logits), q = log_q.exp();
      const auto width = static_cast<size_t>(teacher.vocabulary);
      auto* out = chunk.logits.mutable_data_ptr<float>();
      std::vector<float> slope(gradient ? 0 : width);
      double sum = 0;
      for (size_t i = 0; i < chunk.rows.size(); ++i) {
        const auto row_of = [&](const Tensor& all) { return std::span(all.const_data_ptr<float>() + i * width, width); };
        const std::span<float> result = gradient ? std::span(out + i * width, width) : std::span(slope);
        sum += rows.weight[chunk.first + i] * measure(divergence, {row_of(log_p), row_of(p), row_of(log_q), row_of(q)}, parameter, result);
        const auto scale = static_cast<float>(rows.weight[chunk.first + i] * spec.weight * t);   // T^2 of the loss, 1/T of the logits
        if (gradient)
          for (auto& value : result) value *= scale;
      }
      return sum * spec.weight * t * t;
    });
    if (const auto data = data_part(spec, hidden, forest, model, pass); data.defined()) nats = nats + data;
    return {nats, rows.total};
  };
}

// sum p^ (log p - log q): the entropy is kept exactly (on average), -sum p^ log q is estimated without bias. d/dz = q - p^.
RowCost sampled_forward_kl(const SparseRow& row, std::span<const float> log_q, std::span<float> corrections) {
  RowCost cost{-static_cast<double>(row.entropy), 1};
  for (size_t i = 0; i < row.ids.size(); ++i) {
    cost.nats -= static_cast<double>(row.p[i]) * log_q[i];
    corrections[i] = -row.p[i];
  }
  return cost;
}

RowCost bucket_divergence(const Divergence& divergence, double parameter, const SparseRow& row, std::span<const float> log_q, std::span<float> corrections) {
  const auto head = row.head;
  std::vector<float> p(row.p.begin(), row.p.begin() + static_cast<std::ptrdiff_t>(head)), log_p, q, lq(log_q.begin(), log_q.begin() + static_cast<std::ptrdiff_t>(head));
  double inside = 0;
  for (size_t i = 0; i < head; ++i) {
    log_p.push_back(p[i] > 0 ? std::log(p[i]) : kLogZero);
    q.push_back(std::exp(lq[i]));
    inside += std::exp(static_cast<double>(lq[i]));
  }
  // The student's rest: log(1 - sum) through expm1, so that a small rest keeps its digits; rounding may push the sum to 1.
  const double log_rest = inside < 1 ? std::log(-std::expm1(std::log(inside))) : kLogZero;
  p.push_back(row.rest), log_p.push_back(row.rest > 0 ? std::log(row.rest) : kLogZero);
  lq.push_back(std::max(static_cast<float>(log_rest), kLogZero)), q.push_back(std::exp(lq.back()));
  std::vector<float> gradient(head + 1);
  RowCost cost;
  cost.nats = measure(divergence, {log_p, p, lq, q}, parameter, gradient);
  // The rest's gradient spreads over its tokens in proportion to q: dz_i = q_i (g_rest / q_rest) there.
  cost.softmax = q.back() > 0 ? static_cast<double>(gradient.back()) / q.back() : 0;
  for (size_t i = 0; i < head; ++i) corrections[i] = gradient[i] - static_cast<float>(cost.softmax) * q[i];
  for (size_t i = head; i < corrections.size(); ++i) corrections[i] = 0;
  return cost;
}

Objective cached_distillation(const DistillSpec& spec, std::shared_ptr<const TeacherCache> cache) {
  const auto& divergence = find_divergence(spec.loss);
  const double parameter = parameter_of(spec, divergence);
  const bool sampled = spec.loss == "forward_kl" && cache->keep().draws > 0;
  return [=](const Model& model, const Forest& forest, const Pass& pass) -> LossSum {
    const auto hidden = model.hidden(pass);
    if (!pass.training || spec.weight == 0) return cross_entropy(hidden, forest.targets, model.head, pass);
    const auto rows = supervised_rows(forest);
    const auto here = contexts(forest);
    std::vector<SparseRow> kept;
    for (size_t i = 0; i < rows.rows.size(); ++i) {
      auto row = cache->find(here[static_cast<size_t>(rows.rows[i])]);
      if (!row) throw FormatError(fmt::format("{}: has no row for a context of these samples ({} of {} positions are there); run `retort teach` to complete it",
                                              printable(cache->folder().string()), cache->positions(), cache->planned_positions()));
      kept.push_back(std::move(*row));
    }
    const double t = spec.temperature;
    // Forward KL from a sample is cross-entropy with several weighted labels a row, minus a constant: at T = 1 teacher and data
    // go through the fused head together, at the cost of cross-entropy alone.
    if (sampled && t == 1 && cache->vocabulary() == model.head.linear.weight.rows) {
      std::vector<Target> targets;
      double constant = 0;
      for (size_t i = 0; i < kept.size(); ++i) {
        if (spec.weight < 1)
          for (const auto* target : rows.targets[i]) targets.push_back({target->row, target->label, target->weight * static_cast<float>(1 - spec.weight), target->sample});
        const auto sample = rows.targets[i].front()->sample;
        for (size_t j = 0; j < kept[i].ids.size(); ++j)
          targets.push_back({rows.rows[i], kept[i].ids[j], static_cast<float>(rows.weight[i] * spec.weight) * kept[i].p[j], sample});
        constant += rows.weight[i] * spec.weight * kept[i].entropy;
      }
      return {cross_entropy(hidden, targets, model.head, pass).nats - constant, rows.total};
    }
    IdRows asked;
    for (size_t i = 0; i < kept.size(); ++i) {
      asked.rows.push_back(rows.rows[i]);
      asked.ids.insert(asked.ids.end(), kept[i].ids.begin(), kept[i].ids.end());
      asked.offsets.push_back(asked.ids.size());
    }
    auto nats = loss_over_ids(hidden, asked, model.head, pass, cache->vocabulary(), t, [&](size_t i, std::span<const float> log_q, std::span<float> corrections) {
      const auto cost = sampled ? sampled_forward_kl(kept[i], log_q, corrections) : bucket_divergence(divergence, parameter, kept[i], log_q, corrections);
      const double scale = rows.weight[i] * spec.weight * t * t;
      for (auto& value : corrections) value *= static_cast<float>(scale);
      return IdLoss{cost.nats * scale, cost.softmax * scale};
    });
    if (const auto data = data_part(spec, hidden, forest, model, pass); data.defined()) nats = nats + data;
    return {nats, rows.total};
  };
}

void require_same_tokens(const Tokenizer& teacher, const Tokenizer& student) {
  if (teacher.hash() == student.hash()) return;
  const auto shared = std::min(teacher.size(), student.size());
  for (int32_t id = 0; id < shared; ++id)
    if (teacher.token_text(id) != student.token_text(id))
      throw RecipeError(fmt::format("teacher: its tokenizer is not the student's: token {} is '{}' there and '{}' here; give a teacher of the same tokenizer",
                                    id, printable(teacher.token_text(id)), printable(student.token_text(id))));
  if (teacher.size() != student.size())
    throw RecipeError(fmt::format("teacher: its tokenizer has {} tokens, the student's {}; give a teacher of the same tokenizer", teacher.size(), student.size()));
  throw RecipeError("teacher: its tokenizer has the student's tokens but other merges or rules, so the two cut texts differently; give a teacher of the same tokenizer");
}

}  // namespace retort
