#include "models/indexer.h"

#include <ATen/core/grad_mode.h>

#include <cmath>

namespace retort {
namespace {

constexpr double kEpsilon = 1e-6;  // of the keys' norm, whatever rms_norm_eps says

}  // namespace

Indexer::Indexer(const Parts& parts, int64_t index) : config(parts.config.indexer.value()), layer(index) {
  const auto hidden = parts.config.hidden;
  wq_b = parts.linear({layer, Role::index_q}, config.heads * config.head_dim,
                      parts.config.latent.value().q_rank);
  wk = parts.linear({layer, Role::index_k}, config.head_dim, hidden);
  weights_proj = parts.linear({layer, Role::index_weights}, config.heads, hidden);
  TensorPlace norm{layer, Role::index_k_norm};
  k_norm_weight = parts.vector(norm, config.head_dim);
  norm.bias = true;
  k_norm_bias = parts.vector(norm, config.head_dim);
}

IndexChoice Indexer::choose(const Tensor& x_input, const Tensor& narrow_input,
                            const std::shared_ptr<const RotaryTable>& table, bool alone,
                            const Pass& pass) const {
  const bool trained = pass.training && (wq_b.adapter || wk.adapter || weights_proj.adapter);
  const bool chooses = leaves_keys_out(pass, config.top) && !(trained && alone);
  const bool learns = trained && at::GradMode::is_enabled();
  if (!chooses && !learns && !pass.cache) return {};
  const at::AutoGradMode graph(learns);
  const auto x = x_input.detach(), narrow = narrow_input.detach();
  const auto there = [&](const Tensor& vector, DeviceCopies::Part part) {
    return brought(vector, x.device(), vector.scalar_type(), copies, part);
  };
  const auto normed = at::layer_norm(linear(x, wk, pass).to(at::kFloat), {config.head_dim},
                                     there(k_norm_weight, DeviceCopies::Part::numbers),
                                     there(k_norm_bias, DeviceCopies::Part::bias), kEpsilon);
  IndexChoice choice;
  choice.k = rotate(normed.to(x.scalar_type()).unsqueeze(1), pass.positions, table);  // [N,1,D]
  store_index_keys(choice.k, layer, pass);
  if (!chooses && !learns) return {};
  choice.q = rotate(split_heads(linear(narrow, wq_b, pass), config.heads), pass.positions, table);
  auto wide = pass;  // these decide the sums' order: the reference has them in fp32
  wide.compute = at::kFloat;
  choice.weights = linear(x.to(at::kFloat), weights_proj, wide) /
                   std::sqrt(static_cast<double>(config.heads * config.head_dim));
  if (chooses) choice.chosen = choose_keys(choice.q, choice.k, choice.weights, config.top, layer, pass);
  return choice;
}

Tensor Indexer::teach(const Tensor& result, const IndexChoice& choice, const Attended& attended,
                      const Pass& pass) const {
  if (!choice.learns()) return result;
  const auto loss = index_loss(choice.q, choice.k, choice.weights, attended, choice.chosen, pass);
  learned->add(loss.item<double>(), result.size(0));
  return with_loss(result, loss);
}

}  // namespace retort
