#include "models/latent_attention.h"

#include <array>

#include "ops/attend_chosen.h"
#include "ops/composed.h"

namespace retort {
namespace {

Norm latent_norm(const Parts& parts, const TensorPlace& place, int64_t width) {
  auto norm = parts.norm(place, width);
  norm.epsilon = kLatentEpsilon;
  return norm;
}

// The layer as one matrix in x's type and on its device, its adapter included.
Tensor effective_weight(const Linear& layer, const Tensor& x) {
  const auto base = base_matrix(layer).weight;
  const auto matrix = [&](const Tensor& like) {
    return like.is_cpu() ? widen(base, like.scalar_type()) : widened_on(like, base, 0, base.rows);
  };
  if (!layer.adapter) return matrix(x);
  const auto& adapter = *layer.adapter;
  const auto there = [&](const Tensor& leaf) { return brought(leaf, x.device(), at::kFloat); };
  auto w = at::addmm(matrix(x.to(at::kFloat)), there(adapter.b), there(adapter.a), 1, adapter.scaling);
  if (adapter.magnitude.defined()) {  // a row of zeros has no direction and stays
    const auto norms = w.norm(2, {1});
    w = w * at::where(norms.eq(0), at::ones_like(norms), there(adapter.magnitude) / norms).unsqueeze(1);
  }
  return w.to(x.scalar_type());
}

}  // namespace

LatentAttention::LatentAttention(const Parts& parts, int64_t layer,
                                 std::shared_ptr<const Rotary> layer_rotary)
    : widths(parts.config.latent.value()),
      rotary(std::move(layer_rotary)),
      rule(attend_rule(parts.config, layer)),
      heads(parts.config.heads),
      growth(parts.config.rope) {
  const auto& config = parts.config;
  const auto hidden = config.hidden, queries = heads * config.head_dim;
  if (widths.q_rank == 0) {
    q_proj = parts.linear({layer, Role::q}, queries, hidden);
  } else {
    q_a_proj = parts.linear({layer, Role::q_a}, widths.q_rank, hidden, config.attention_bias);
    q_a_layernorm = latent_norm(parts, {layer, Role::q_a_norm}, widths.q_rank);
    q_b_proj = parts.linear({layer, Role::q_b}, queries, widths.q_rank);
  }
  kv_a_proj_with_mqa =
      parts.linear({layer, Role::kv_a}, widths.kv_rank + widths.rope_dim, hidden, config.attention_bias);
  kv_a_layernorm = latent_norm(parts, {layer, Role::kv_a_norm}, widths.kv_rank);
  kv_b_proj = parts.linear({layer, Role::kv_b}, heads * (widths.nope_dim + widths.value_dim), widths.kv_rank);
  o_proj = parts.linear({layer, Role::o}, hidden, heads * widths.value_dim, config.output_bias);
  if (config.indexer) indexer.emplace(parts, layer);
}

Tensor LatentAttention::forward(const Tensor& x, const Pass& pass) const {  // x [N,E]
  const auto [q_rank, kv_rank, n, r, v, interleaved] = widths;
  const auto table = rotary->table(pass.positions);
  Tensor q, latent;
  IndexChoice choice;
  if (q_proj) {
    const auto both = linear_group(x, {&*q_proj, &kv_a_proj_with_mqa}, pass);
    q = both[0], latent = both[1];
  } else {
    const auto both = linear_group(x, {&*q_a_proj, &kv_a_proj_with_mqa}, pass);
    const auto narrow = rms_norm(both[0], *q_a_layernorm);
    if (indexer) choice = indexer->choose(x, narrow, table, !adapted(), pass);
    q = linear(narrow, *q_b_proj, pass), latent = both[1];
  }
  q = rotate(split_heads(q, heads), pass.positions, table, {n, interleaved});  // [N,H,n+r]
  q = growth.grown(q, pass.positions);
  const auto c = rms_norm(latent.narrow(1, 0, kv_rank), kv_a_layernorm);  // [N,L]
  const auto shared =
      rotate(latent.narrow(1, kv_rank, r).unsqueeze(1), pass.positions, table, {0, interleaved});  // [N,1,r]
  // Chosen keys are gathered for each query, which is cheap where a key is one for all heads. Dropout in
  // front of kv_b_proj's adapter, and whoever hears the heads' keys, need them one by one.
  const bool drops = pass.training && kv_b_proj.adapter && kv_b_proj.adapter->dropout > 0;
  const bool by_latents = pass.cache || (choice.chosen && !drops && !pass.before_attend);
  const auto attended =
      by_latents ? absorbed(q, c, shared, choice, pass) : plain(q, c, shared, choice, pass);  // [N,H*v]
  return linear(keep_rows(attended, pass), o_proj, pass);
}

bool LatentAttention::adapted() const {
  return (q_proj && q_proj->adapter) || (q_a_proj && q_a_proj->adapter) || (q_b_proj && q_b_proj->adapter) ||
         kv_a_proj_with_mqa.adapter || kv_b_proj.adapter || o_proj.adapter;
}

Tensor LatentAttention::taught(const Tensor& result, const IndexChoice& choice, const Tensor& q,
                               const Tensor& k, const Pass& pass) const {
  return choice.learns() ? indexer->teach(result, choice, {q.detach(), k.detach(), rule.scale}, pass)
                         : result;
}

Tensor LatentAttention::plain(const Tensor& q, const Tensor& c, const Tensor& shared,
                              const IndexChoice& choice, const Pass& pass) const {
  const auto own = split_heads(linear(c, kv_b_proj, pass), heads);  // [N,H,n+v]
  const auto k =
      at::cat({own.narrow(2, 0, widths.nope_dim), shared.expand({c.size(0), heads, widths.rope_dim})},
              2);  // [N,H,n+r]
  const auto values = own.narrow(2, widths.nope_dim, widths.value_dim);
  if (!choice.chosen) return taught(attend(q, k, values, rule, pass), choice, q, k, pass);
  if (pass.before_attend) pass.before_attend(rule, q, k);
  return taught(attend_chosen(q, k, values, widths.value_dim, choice.chosen, rule, pass), choice, q, k, pass);
}

// The layer as one matrix [H,n+v,L], its adapter included: what it makes of the unit vectors, so that
// whatever is trained of it gets its gradient as elsewhere.
Tensor LatentAttention::matrix_of_heads(const Tensor& x, const Pass& pass) const {
  const std::array<int64_t, 3> shape{heads, widths.nope_dim + widths.value_dim, widths.kv_rank};
  if (pass.cache) return effective_weight(kv_b_proj, x).view(shape);
  auto quiet = pass;
  quiet.observe = nullptr;
  const auto units = at::eye(widths.kv_rank, x.options());
  return linear(units, kv_b_proj, quiet).t().reshape(shape);
}

// q_h . (W_h c) = (W_h^T q_h) . c: what a cache keeps of a token is c and its rotated key, for all heads, and
// each head's query is taken to where c is. The sum over tokens of p c comes back through W's other rows.
Tensor LatentAttention::absorbed(const Tensor& q, const Tensor& c, const Tensor& shared,
                                 const IndexChoice& choice, const Pass& pass) const {
  const auto [q_rank, latent, n, r, v, interleaved] = widths;
  if (pass.observe) pass.observe(kv_b_proj, c);
  const auto w = matrix_of_heads(c, pass);  // [H,n+v,L]
  const auto by_head = [](const Tensor& x) { return x.transpose(0, 1); };
  const auto own = by_head(at::bmm(by_head(q.narrow(2, 0, n)), w.narrow(1, 0, n)));  // [N,H,L]
  const auto taken = at::cat({own, q.narrow(2, n, r)}, 2);                           // [N,H,L+r]
  const auto key = at::cat({c.unsqueeze(1), shared}, 2);                             // [N,1,L+r]
  const auto result = choice.chosen ? attend_chosen(taken, key, {}, latent, choice.chosen, rule, pass)
                                    : attend(taken, key, key.narrow(2, 0, latent), rule, pass);
  const auto sums = taught(result, choice, taken, key, pass).view({c.size(0), heads, latent});
  return by_head(at::bmm(by_head(sums), w.narrow(1, n, v).transpose(1, 2))).reshape({c.size(0), heads * v});
}

}  // namespace retort
