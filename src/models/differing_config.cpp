#include "models/differing_config.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "models/rotary.h"

namespace retort {
namespace {

bool near(double a, double b) { return std::abs(a - b) <= 1e-5 * std::max(std::abs(a), std::abs(b)); }

// The window of each layer; 0 where it sees all earlier tokens.
std::vector<int64_t> windows(const ModelConfig& config) {
  std::vector<int64_t> all(static_cast<size_t>(config.layers), config.sliding_window);
  for (size_t i = 0; i < all.size() && i < config.sliding_layers.size(); ++i)
    if (!config.sliding_layers[i]) all[i] = 0;
  return all;
}

double scale_of(const ModelConfig& config) {
  return config.attention_scale > 0 ? config.attention_scale
                                    : 1 / std::sqrt(static_cast<double>(config.head_dim));
}

// Layer i is turned by the local rotation where the model has one and the layer slides.
const RopeConfig& rope_of(const ModelConfig& config, size_t layer) {
  const bool slides = layer < config.sliding_layers.size() && config.sliding_layers[layer];
  return config.local_rope && slides ? *config.local_rope : config.rope;
}

// What turns the heads of texts of `length` tokens: the frequencies, and the factor of cos and sin.
std::vector<double> rotation(const ModelConfig& config, size_t layer, int64_t length) {
  const auto& rope = rope_of(config, layer);
  const auto width = config.latent ? config.latent->rope_dim : config.head_dim;
  const auto frequencies = rotary_frequencies(rope, width, config.context, length);
  std::vector<double> all(frequencies.begin(), frequencies.end());
  all.push_back(rotary_attention_factor(rope, config.context));
  return all;
}

bool rotates(const ModelConfig& config, size_t layer) {
  return layer >= config.unrotated_layers.size() || !config.unrotated_layers[layer];
}

bool same_rotation(const ModelConfig& a, const ModelConfig& b, size_t layer) {
  if (rotates(a, layer) != rotates(b, layer)) return false;
  if (!rotates(a, layer)) return true;
  for (const auto length : {int64_t{1}, a.context}) {
    const auto left = rotation(a, layer, length), right = rotation(b, layer, length);
    if (!std::equal(left.begin(), left.end(), right.begin(), right.end(), near)) return false;
  }
  return true;
}

}  // namespace

std::optional<std::string> what_reads_back_otherwise(const ModelConfig& a, const ModelConfig& b) {
  std::optional<std::string> found;
  const auto differs = [&](const char* what, auto written, auto read) {
    if (!found) found = fmt::format("{}: {} was written, {} reads back", what, written, read);
  };
  const auto whole = [&](const char* what, int64_t written, int64_t read) {
    if (written != read) differs(what, written, read);
  };
  const auto real = [&](const char* what, double written, double read) {
    if (!near(written, read)) differs(what, written, read);
  };
  whole("rows of the embedding", a.vocabulary, b.vocabulary);
  whole("hidden width", a.hidden, b.hidden);
  whole("layers", a.layers, b.layers);
  whole("heads", a.heads, b.heads);
  whole("key/value heads", a.kv_heads, b.kv_heads);
  whole("width of a head", a.head_dim, b.head_dim);
  whole("feed-forward width", a.intermediate, b.intermediate);
  whole("context", a.context, b.context);
  whole("experts", a.experts, b.experts);
  if (a.experts > 0) {
    whole("experts of a token", a.experts_per_token, b.experts_per_token);
    whole("width of an expert", a.expert_intermediate, b.expert_intermediate);
    whole("weights of a token's experts summing to 1", a.renormalise, b.renormalise);
  }
  whole("shared experts", a.shared_experts, b.shared_experts);
  const auto grouped = [](const ModelConfig& of) {
    return of.grouped.value_or(GroupedRouting{0, 0, 0, false, 0});
  };
  whole("groups of experts", grouped(a).groups, grouped(b).groups);
  whole("groups of a token", grouped(a).groups_per_token, grouped(b).groups_per_token);
  real("scale of the experts", grouped(a).scale, grouped(b).scale);
  whole("scores of experts by sigmoids", grouped(a).sigmoid, grouped(b).sigmoid);
  whole("experts by which a group is judged", grouped(a).judged_by, grouped(b).judged_by);
  const auto latent = [](const ModelConfig& of) { return of.latent.value_or(LatentConfig{}); };
  whole("latent width of queries", latent(a).q_rank, latent(b).q_rank);
  whole("latent width of keys and values", latent(a).kv_rank, latent(b).kv_rank);
  whole("rotated width of a head", latent(a).rope_dim, latent(b).rope_dim);
  whole("width of a value", latent(a).value_dim, latent(b).value_dim);
  whole("interleaved rotation", latent(a).interleaved, latent(b).interleaved);
  const auto indexer = [](const ModelConfig& of) { return of.indexer.value_or(IndexerConfig{}); };
  whole("heads of the indexer", indexer(a).heads, indexer(b).heads);
  whole("width of an indexer's head", indexer(a).head_dim, indexer(b).head_dim);
  whole("tokens that the indexer leaves", indexer(a).top, indexer(b).top);
  real("growth of queries along a text", a.rope.query_beta.value_or(0), b.rope.query_beta.value_or(0));
  if (a.rope.query_beta.value_or(0) != 0)
    whole("places until queries grow", a.rope.original_context, b.rope.original_context);
  whole("tied head", a.tied_head, b.tied_head);
  real("epsilon of the norms", a.norm_epsilon, b.norm_epsilon);
  real("scale of attention", scale_of(a), scale_of(b));
  real("soft cap of attention", a.attention_soft_cap, b.attention_soft_cap);
  real("soft cap of the logits", a.final_soft_cap, b.final_soft_cap);
  real("scale of the embedding", a.embedding_scale, b.embedding_scale);
  real("scale of the residual parts", a.residual_scale, b.residual_scale);
  real("divisor of the logits", a.logit_divisor, b.logit_divisor);
  whole("biases of q, k and v", a.attention_bias, b.attention_bias);
  whole("bias of o_proj", a.output_bias, b.output_bias);
  whole("biases of the feed-forward part", a.mlp_bias, b.mlp_bias);
  if (found) return found;
  const auto written = windows(a), read = windows(b);
  for (size_t i = 0; i < written.size() && !found; ++i) {
    const auto layer = static_cast<int64_t>(i);
    if (a.has_experts(layer) != b.has_experts(layer))
      found = fmt::format("experts of layer {}: {} were written, {} read back", i,
                          a.has_experts(layer) ? "some" : "none", b.has_experts(layer) ? "some" : "none");
    else if (written[i] != read[i])
      found = fmt::format("attention window of layer {}: {} was written, {} reads back (0 = none)", i,
                          written[i], read[i]);
    else if (!same_rotation(a, b, i))
      found = fmt::format("rotary embedding of layer {}: other frequencies read back than were written", i);
  }
  return found;
}

}  // namespace retort
