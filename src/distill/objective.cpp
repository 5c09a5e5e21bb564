#include "distill/objective.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "ops/head_rows.h"

namespace retort {
namespace {

double parameter_of(const DistillSpec& spec, const Divergence& divergence) {
  return spec.parameter < 0 ? divergence.parameter : spec.parameter;
}

// The cross-entropy part, with its share of the loss; undefined nats when it has none.
Tensor data_part(const DistillSpec& spec, const Tensor& hidden, const Forest& forest, const Model& model,
                 const Pass& pass) {
  if (spec.weight == 1) return {};
  auto targets = forest.targets;
  for (auto& target : targets) target.weight *= static_cast<float>(1 - spec.weight);
  return cross_entropy(hidden, targets, model.head, pass).nats;
}

// Rows at which the teacher is heard.
std::vector<bool> chosen_rows(const std::optional<SelectSpec>& select, const Tensor& log_p, const Tensor& p,
                              const Tensor& q) {
  std::vector<bool> chosen(static_cast<size_t>(p.size(0)), true);
  if (!select) return chosen;
  const auto amount = select->by == "entropy"
                          ? at::where(p.gt(0), p * log_p, at::zeros_like(p)).sum(-1, false, at::kDouble).neg()
                          : (p - q).abs().sum(-1, false, at::kDouble) / 2;
  for (size_t i = 0; i < chosen.size(); ++i)
    chosen[i] = amount.const_data_ptr<double>()[i] >= select->at_least;
  return chosen;
}

}  // namespace

Objective live_distillation(const DistillSpec& spec, LiveTeacher teacher) {
  const auto& divergence = find_divergence(spec.loss);
  const double parameter = parameter_of(spec, divergence);
  return [=](const Model& model, const Forest& forest, const Pass& pass) -> LossSum {
    if (!pass.training) return cross_entropy(model.hidden(pass), forest.targets, model.head, pass);
    const auto rows = supervised_rows(forest.targets);
    Heard heard, heard_of_teacher;
    auto student_pass = pass, teacher_pass = make_pass(forest, teacher.compute, teacher.model->device());
    if (teacher.features) {
      teacher.features->listen(student_pass, Features::Side::student, heard);
      teacher.features->listen(teacher_pass, Features::Side::teacher, heard_of_teacher);
    }
    const auto hidden = model.hidden(student_pass);
    if (spec.weight == 0 && !teacher.features) return cross_entropy(hidden, forest.targets, model.head, pass);
    Tensor taught;  // the teacher's hidden states
    {
      const at::NoGradGuard no_graph;
      taught = teacher.model->hidden(teacher_pass);
    }
    const double t = spec.temperature;
    auto nats = loss_over_logits(
        hidden, rows.rows, {model.head, teacher.vocabulary}, pass, [&](LogitRows& chunk, bool gradient) {
          const auto log_of = [&](const Tensor& z) { return (t == 1 ? z : z / t).log_softmax(-1); };
          const auto log_p = log_of(logits(taught, chunk.rows, teacher.model->head, teacher_pass)
                                        .narrow(1, 0, teacher.vocabulary)),
                     p = log_p.exp();
          const auto log_q = log_of(chunk.logits), q = log_q.exp();
          const auto chosen = chosen_rows(spec.select, log_p, p, q);
          const auto width = static_cast<size_t>(teacher.vocabulary);
          auto* out = chunk.logits.mutable_data_ptr<float>();
          std::vector<float> slope(gradient ? 0 : width);
          double sum = 0;
          for (size_t i = 0; i < chunk.rows.size(); ++i) {
            const auto row_of = [&](const Tensor& all) {
              return std::span(all.const_data_ptr<float>() + i * width, width);
            };
            const std::span<float> result = gradient ? std::span(out + i * width, width) : std::span(slope);
            if (!chosen[i]) {
              std::fill(result.begin(), result.end(), 0.0f);
              continue;
            }
            sum +=
                rows.weight[chunk.first + i] *
                measure(divergence, {row_of(log_p), row_of(p), row_of(log_q), row_of(q)}, parameter, result);
            const auto scale = static_cast<float>(rows.weight[chunk.first + i] * spec.weight *
                                                  t);  // T^2 of the loss, 1/T of the logits
            if (gradient)
              for (auto& value : result) value *= scale;
          }
          return sum * spec.weight * t * t;
        });
    if (const auto data = data_part(spec, hidden, forest, model, pass); data.defined()) nats = nats + data;
    if (teacher.features) nats = nats + teacher.features->loss(heard, heard_of_teacher, rows, pass);
    return {nats, rows.total};
  };
}

// sum p^ (log p - log q): the entropy is kept exactly (on average), -sum p^ log q is estimated without bias.
// d/dz = q - p^.
RowCost sampled_forward_kl(const SparseRow& row, std::span<const float> log_q, std::span<float> corrections) {
  RowCost cost{-static_cast<double>(row.entropy), 0};
  for (size_t i = 0; i < row.ids.size(); ++i) {
    cost.nats -= static_cast<double>(row.p[i]) * log_q[i];
    cost.softmax += row.p[i];  // 1, or what another tokenizer's tokens covered
    corrections[i] = -row.p[i];
  }
  return cost;
}

RowCost bucket_divergence(const Divergence& divergence, double parameter, const SparseRow& row,
                          std::span<const float> log_q, std::span<float> corrections) {
  const auto head = row.head;
  std::vector<float> p(row.p.begin(), row.p.begin() + static_cast<std::ptrdiff_t>(head)), log_p, q,
      lq(log_q.begin(), log_q.begin() + static_cast<std::ptrdiff_t>(head));
  double inside = 0;
  for (size_t i = 0; i < head; ++i) {
    log_p.push_back(p[i] > 0 ? std::log(p[i]) : kLogZero);
    q.push_back(std::exp(lq[i]));
    inside += std::exp(static_cast<double>(lq[i]));
  }
  // The student's rest: log(1 - sum) through expm1, so that a small rest keeps its digits; rounding may push
  // the sum to 1.
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

double disagreement(const SparseRow& row, std::span<const float> log_q) {
  double inside = 0, sum = 0;
  for (size_t i = 0; i < row.head; ++i) {
    const double q = std::exp(static_cast<double>(log_q[i]));
    inside += q;
    sum += std::abs(static_cast<double>(row.p[i]) - q);
  }
  return (sum + std::abs(static_cast<double>(row.rest) - (1 - inside))) / 2;
}

namespace {

// What is asked of one row: the teacher's ids, then the labels of the data that are not among them.
struct AskedRow {
  std::optional<SparseRow> kept;
  double teacher = 0, data = 0;                  // weights of the two parts
  std::vector<std::pair<size_t, float>> labels;  // index among the row's ids, weight
};

struct Asked {
  std::vector<AskedRow> rows;  // one a supervised row
  IdRows ids;                  // of those that ask for any
  std::vector<size_t> place;   // of each of those among `rows`
};

// `with_labels`: the cross-entropy is taken in the same pass.
Asked ask(const DistillSpec& spec, const KeptRows& kept, const SupervisedRows& rows,
          const std::vector<Context>& here, bool with_labels) {
  Asked asked;
  asked.ids.temperature = spec.temperature;
  for (size_t i = 0; i < rows.rows.size(); ++i) {
    AskedRow row;
    row.kept = kept.find(here[static_cast<size_t>(rows.rows[i])]);
    row.data = row.kept ? 1 - spec.weight : 1;
    if (row.kept && spec.select && spec.select->by == "entropy" && row.kept->entropy < spec.select->at_least)
      row.kept.reset();
    if (row.kept) row.teacher = rows.weight[i] * spec.weight * spec.temperature * spec.temperature;
    const auto begin = asked.ids.ids.size();
    if (row.kept) asked.ids.ids.insert(asked.ids.ids.end(), row.kept->ids.begin(), row.kept->ids.end());
    if (with_labels && row.data > 0)
      for (const auto* target : rows.targets[i]) {
        const auto first = asked.ids.ids.begin() + static_cast<std::ptrdiff_t>(begin);
        const auto found = std::find(first, asked.ids.ids.end(), target->label);
        const auto at = static_cast<size_t>(found - first);
        if (found == asked.ids.ids.end()) asked.ids.ids.push_back(target->label);
        row.labels.emplace_back(at, target->weight * static_cast<float>(row.data));
      }
    if (asked.ids.ids.size() > begin) {
      asked.ids.rows.push_back(rows.rows[i]);
      asked.ids.offsets.push_back(asked.ids.ids.size());
      asked.place.push_back(i);
    }
    asked.rows.push_back(std::move(row));
  }
  return asked;
}

// The contexts of the rows that the pass was asked for.
std::vector<Context> asked_contexts(const Forest& forest, const Pass& pass) {
  auto here = contexts(forest);
  if (!pass.rows.defined()) return here;
  std::vector<Context> asked;
  for (const auto row : asked_rows(forest).rows) asked.push_back(here[static_cast<size_t>(row)]);
  return asked;
}

// The data's part where the teacher is compared at another temperature: a pass of its own.
Tensor data_part(const Asked& asked, const SupervisedRows& rows, const Tensor& hidden, const Model& model,
                 const Pass& pass) {
  std::vector<Target> targets;
  for (size_t i = 0; i < asked.rows.size(); ++i)
    if (asked.rows[i].data > 0)
      for (const auto* target : rows.targets[i])
        targets.push_back({target->row, target->label,
                           target->weight * static_cast<float>(asked.rows[i].data), target->sample});
  return targets.empty() ? Tensor() : cross_entropy(hidden, targets, model.head, pass).nats;
}

// A sum that is linear in log q is cross-entropy with several weighted labels a row.
Tensor linear_part(const Asked& asked, const SupervisedRows& rows, const Tensor& hidden, const Model& model,
                   const Pass& pass) {
  std::vector<Target> targets;
  double constant = 0;
  for (size_t i = 0; i < asked.place.size(); ++i) {
    const auto& row = asked.rows[asked.place[i]];
    const auto begin = asked.ids.offsets[i];
    const auto at_row = asked.ids.rows[i], sample = rows.targets[asked.place[i]].front()->sample;
    for (const auto& [at, weight] : row.labels)
      targets.push_back({at_row, asked.ids.ids[begin + at], weight, sample});
    if (!row.kept) continue;
    for (size_t j = 0; j < row.kept->ids.size(); ++j)
      targets.push_back({at_row, row.kept->ids[j], static_cast<float>(row.teacher) * row.kept->p[j], sample});
    constant += row.teacher * row.kept->entropy;
  }
  return cross_entropy(hidden, targets, model.head, pass).nats - constant;
}

}  // namespace

Objective kept_distillation(const DistillSpec& spec, KeptRows kept) {
  const auto& divergence = find_divergence(spec.loss);
  const double parameter = parameter_of(spec, divergence);
  const bool sampled = spec.loss == "forward_kl" && kept.sampled,
             by_disagreement = spec.select && spec.select->by == "disagreement";
  const auto of_hidden = [=](const Model& model, const Tensor& hidden, const Forest& forest,
                             const Pass& pass) -> LossSum {
    const auto targets = asked_targets(forest, pass);
    const auto here = asked_contexts(forest, pass);
    if (!pass.training || spec.weight == 0) return cross_entropy(hidden, targets, model.head, pass);
    const auto rows = supervised_rows(targets);
    // At T = 1 teacher and data go through the head once; padding of the matrix counts for the data alone.
    const bool together = spec.temperature == 1 && kept.vocabulary == model.head.linear.weight.rows;
    const auto asked = ask(spec, kept, rows, here, together);
    if (sampled && together && !by_disagreement)
      return {linear_part(asked, rows, hidden, model, pass), rows.total};
    auto nats = loss_over_ids(
        hidden, asked.ids, {model.head, kept.vocabulary}, pass,
        [&](size_t i, std::span<const float> log_q, std::span<float> corrections) {
          const auto& row = asked.rows[asked.place[i]];
          IdLoss loss;
          if (row.kept && !(by_disagreement && disagreement(*row.kept, log_q) < spec.select->at_least)) {
            const auto mine = corrections.first(row.kept->ids.size());
            const auto cost = sampled ? sampled_forward_kl(*row.kept, log_q, mine)
                                      : bucket_divergence(divergence, parameter, *row.kept, log_q, mine);
            for (auto& value : mine) value *= static_cast<float>(row.teacher);
            loss = {cost.nats * row.teacher, cost.softmax * row.teacher};
          }
          for (const auto& [at, weight] : row.labels) {
            loss.nats -= static_cast<double>(weight) * log_q[at];
            loss.softmax += weight;
            corrections[at] -= weight;
          }
          return loss;
        });
    if (!together)
      if (const auto data = data_part(asked, rows, hidden, model, pass); data.defined()) nats = nats + data;
    return {nats, rows.total};
  };
  return {ask_for_targets, of_hidden};
}

Objective cached_distillation(const DistillSpec& spec, std::shared_ptr<const TeacherCache> cache) {
  KeptRows rows{nullptr, cache->vocabulary(), cache->keep().draws > 0};
  rows.find = [cache = std::move(cache)](Context context) { return std::optional(cache->at(context)); };
  return kept_distillation(spec, std::move(rows));
}

void require_same_tokens(const Tokenizer& teacher, const Tokenizer& student) {
  if (teacher.hash() == student.hash()) return;
  const auto shared = std::min(teacher.size(), student.size());
  for (int32_t id = 0; id < shared; ++id)
    if (teacher.token_text(id) != student.token_text(id))
      throw RecipeError(
          fmt::format("teacher: its tokenizer is not the student's: token {} is '{}' there and '{}' here; "
                      "give a teacher of the same tokenizer, or set distill.alignment: bytes",
                      id, printable(teacher.token_text(id)), printable(student.token_text(id))));
  if (teacher.size() != student.size())
    throw RecipeError(
        fmt::format("teacher: its tokenizer has {} tokens, the student's {}; give a teacher of the same "
                    "tokenizer, or set distill.alignment: bytes",
                    teacher.size(), student.size()));
  throw RecipeError(
      "teacher: its tokenizer has the student's tokens but other merges or rules, so the two cut texts "
      "differently; give a teacher of the same tokenizer, or set distill.alignment: bytes");
}

}  // namespace retort
