#include "distill/features.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/random.h"
#include "ops/attend.h"
#include "ops/composed.h"

namespace retort {
namespace {

Tensor weights_on(const Tensor& x, const std::vector<double>& weights) {
  return at::tensor(weights, at::TensorOptions(at::kFloat)).to(x.device());
}

Tensor start_of_projection(int64_t to, int64_t from, const std::string& name, uint64_t seed) {
  if (to == from) return at::eye(to, at::TensorOptions(at::kFloat));
  auto p = at::empty({to, from}, at::TensorOptions(at::kFloat));
  const Draws draws(seed, name);
  const double size = 1 / std::sqrt(static_cast<double>(from));
  for (int64_t i = 0; i < to * from; ++i)
    p.mutable_data_ptr<float>()[i] = static_cast<float>(draws.normal(static_cast<uint64_t>(i)) * size);
  return p;
}

constexpr double kUnseen =
    1e-30;  // probability that stands for none: its log is finite, and so is what the backward makes of it

// The supervised queries of one block, and what they may look at.
struct Looking {
  std::vector<int64_t> rows, place;  // rows of the forest; their places in the block's concatenation of keys
  std::vector<double> weight;
};

// log of the mean over heads of the softmax over keys, [rows, keys]; keys that a query does not see have
// kUnseen.
Tensor log_attention(const Heard::Attention& heard, const AttendBlock& block, const Looking& looking) {
  std::vector<Tensor> ranges;
  for (const auto& range : block.keys)
    ranges.push_back(heard.k.narrow(0, range.begin, range.end - range.begin));
  const auto q = heard.q.index_select(0, list_on(heard.q, looking.rows)).to(at::kFloat),
             k = at::cat(ranges, 0).to(at::kFloat);  // [R,H,D], [S,K,D]
  const auto group = q.size(1) / k.size(1), keys = k.size(0);
  const double scale = heard.scale != 0 ? heard.scale : 1 / std::sqrt(static_cast<double>(q.size(2)));
  auto scores =
      at::matmul(q.transpose(0, 1), k.repeat_interleave(group, 1).permute({1, 2, 0})) * scale;  // [H,R,S]
  if (heard.soft_cap > 0) scores = heard.soft_cap * at::tanh(scores / heard.soft_cap);
  const auto s = at::arange(keys, q.options().dtype(at::kLong)).unsqueeze(0),
             t = list_on(q, looking.place).unsqueeze(1);
  auto hidden = s.gt(t);
  if (heard.window > 0) hidden = hidden.logical_or((t - s).ge(heard.window));
  scores = scores.masked_fill(hidden, -std::numeric_limits<float>::infinity());
  return scores.softmax(-1).mean(0).clamp_min(kUnseen).log();
}

Tensor attention_loss(const Heard::Attention& student, const Heard::Attention& teacher,
                      const SupervisedRows& rows, const Pass& pass) {
  auto sum = at::zeros({}, student.q.options().dtype(at::kFloat));
  for (const auto& block : pass.blocks) {
    Looking looking;
    const auto own = block.key_count() - (block.q_end - block.q_begin);
    for (size_t i = 0; i < rows.rows.size(); ++i) {
      const auto row = rows.rows[i];
      if (row < block.q_begin || row >= block.q_end) continue;
      looking.rows.push_back(row);
      looking.place.push_back(own + row - block.q_begin);
      looking.weight.push_back(rows.weight[i]);
    }
    if (looking.rows.empty()) continue;
    const auto log_q = log_attention(student, block, looking);
    Tensor log_p;
    {
      const at::NoGradGuard no_graph;
      log_p = log_attention(teacher, block, looking);
    }
    const auto p = log_p.exp();
    const auto cost = (p * (log_p - log_q)).sum(-1);  // an unseen key costs 1e-30 (log 1e-30 - log 1e-30) = 0
    sum = sum + (cost * weights_on(cost, looking.weight)).sum();
  }
  return sum;
}

Tensor hidden_loss(const Tensor& student, const Tensor& teacher, const Tensor& projection,
                   const SupervisedRows& rows) {
  const auto index = list_on(student, rows.rows);
  const auto s = student.index_select(0, index).to(at::kFloat),
             t = teacher.index_select(0, index).to(at::kFloat);
  const auto cost =
      (at::linear(s, projection.to(s.device())) - t).square().sum(-1) / t.square().sum(-1).clamp_min(1e-12);
  return (cost * weights_on(cost, rows.weight)).sum();
}

}  // namespace

SupervisedRows supervised_rows(const std::vector<Target>& targets) {
  SupervisedRows all;
  int32_t last = -1;
  for (const auto& target : targets) last = std::max(last, target.row);
  std::vector<int32_t> place(static_cast<size_t>(last + 1), -1);
  for (const auto& target : targets) {
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

Features::Features(std::vector<FeatureSpec> specs, const ModelConfig& student, const ModelConfig& teacher,
                   uint64_t seed)
    : specs_(std::move(specs)) {
  for (size_t i = 0; i < specs_.size(); ++i) {
    const auto& spec = specs_[i];
    const auto check = [&](const char* side, int64_t layer, int64_t layers) {
      if (layer >= layers)
        throw RecipeError(
            fmt::format("distill.features[{}].{}: layer {} is asked for; the {} has {}, counted from 0", i,
                        side, layer, side, layers));
    };
    check("student", spec.student, student.layers);
    check("teacher", spec.teacher, teacher.layers);
    const auto name = fmt::format("distill.features.{}.projection", i);
    projections_.push_back(
        spec.kind == "hidden"
            ? start_of_projection(teacher.hidden, student.hidden, name, seed).requires_grad_()
            : Tensor());
  }
}

void Features::listen(Pass& pass, Side side, Heard& heard) const {
  const auto wanted = [this, side](const char* kind, int64_t layer) {
    return std::any_of(specs_.begin(), specs_.end(), [&](const FeatureSpec& spec) {
      return spec.kind == kind && layer == (side == Side::student ? spec.student : spec.teacher);
    });
  };
  pass.after_layer = [wanted, &heard](int64_t layer, const Tensor& x) {
    if (wanted("hidden", layer)) heard.hidden[layer] = x;
  };
  pass.before_attend = [wanted, &heard](const AttendRule& rule, const Tensor& q, const Tensor& k) {
    if (wanted("attention", rule.layer))
      heard.attention[rule.layer] = {q, k, rule.scale, rule.soft_cap, rule.window};
  };
}

Tensor Features::loss(const Heard& student, const Heard& teacher, const SupervisedRows& rows,
                      const Pass& pass) const {
  auto sum = at::zeros({}, pass.tokens.options().dtype(at::kFloat));
  for (size_t i = 0; i < specs_.size(); ++i) {
    const auto& spec = specs_[i];
    sum = sum + spec.weight * (spec.kind == "hidden"
                                   ? hidden_loss(student.hidden.at(spec.student),
                                                 teacher.hidden.at(spec.teacher), projections_[i], rows)
                                   : attention_loss(student.attention.at(spec.student),
                                                    teacher.attention.at(spec.teacher), rows, pass));
  }
  return sum;
}

std::vector<NamedTensor> Features::leaves() {
  std::vector<NamedTensor> leaves;
  for (size_t i = 0; i < projections_.size(); ++i)
    if (projections_[i].defined())
      leaves.push_back({fmt::format("distill.features.{}.projection", i), &projections_[i]});
  return leaves;
}

}  // namespace retort
