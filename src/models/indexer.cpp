#include "models/indexer.h"

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

std::shared_ptr<const ChosenKeys> Indexer::choose(const Tensor& x, const Tensor& narrow,
                                                  const std::shared_ptr<const RotaryTable>& table,
                                                  const Pass& pass) const {
  const bool chooses = leaves_keys_out(pass, config.top);
  if (!chooses && !pass.cache) return nullptr;
  const at::NoGradGuard no_graph;
  const auto normed = at::layer_norm(linear(x, wk, pass).to(at::kFloat), {config.head_dim}, k_norm_weight,
                                     k_norm_bias, kEpsilon);
  const auto k = rotate(normed.to(x.scalar_type()).unsqueeze(1), pass.positions, table);  // [N,1,D]
  store_index_keys(k, layer, pass);
  if (!chooses) return nullptr;
  const auto q = rotate(split_heads(linear(narrow, wq_b, pass), config.heads), pass.positions, table);
  auto wide = pass;  // these decide the sums' order: the reference has them in fp32
  wide.compute = at::kFloat;
  const auto weights = linear(x.to(at::kFloat), weights_proj, wide) /
                       std::sqrt(static_cast<double>(config.heads * config.head_dim));
  return choose_keys(q, k, weights, config.top, layer, pass);
}

}  // namespace retort
