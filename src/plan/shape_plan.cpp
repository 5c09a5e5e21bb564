#include "plan/shape_plan.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "adapters/attach.h"
#include "models/experts.h"
#include "plan/predict.h"
#include "schedule/layers.h"

namespace retort {
namespace {

constexpr double kProgram = 150 << 20, kThread = 12 << 20;  // plan/predict.cpp
constexpr double kAdapterBytes = 4 + 4 + 8;                 // fp32 weight, gradient, AdamW's two moments
constexpr double kStates = 0.25, kWeights = 0.5;            // of model.memory, as models/load.cpp shares it

double bytes_of(const Linear& layer, const ModelConfig& config, WeightType stored) {
  const auto type = fitting_type(stored, layer.weight.columns);
  const auto rows = static_cast<double>(layer.weight.rows);
  auto bytes =
      rows * static_cast<double>(row_bytes(type, static_cast<uint64_t>(layer.weight.columns)).value_or(0));
  if (type != WeightType::packed4) return bytes;
  // A scale and a zero point for each group. bitsandbytes' matrices say their blocks themselves: mostly 64.
  const bool said = config.four_bit && config.four_bit->method != FourBitConfig::Method::bitsandbytes;
  const auto group = !said                             ? 64
                     : config.four_bit->group_size > 0 ? config.four_bit->group_size
                                                       : layer.weight.columns;
  return bytes + rows * std::ceil(static_cast<double>(layer.weight.columns) / static_cast<double>(group)) *
                     (said && !is_e2m1(config.four_bit->method) ? 5 : 4);
}

bool ends_layer(Role role) { return role == Role::down || role == Role::shared_down; }

double sparse_layers(const ModelConfig& config) {
  double count = 0;
  for (int64_t i = 0; i < config.layers; ++i) count += config.has_experts(i) ? 1 : 0;
  return count;
}

}  // namespace

ModelShape shape_of(Model& model, WeightType stored, const AdapterSpec& adapter) {
  const auto& config = model.config;
  ModelShape shape;
  std::map<int64_t, double> layers;
  const auto vectors = model.vectors();
  const bool norm_ends = std::ranges::any_of(
      vectors, [](const NamedTensor& vector) { return vector.place.role == Role::after_mlp_norm; });
  for (const auto* layer : model.linears()) {
    const auto weights = static_cast<double>(layer->weight.rows) * static_cast<double>(layer->weight.columns);
    shape.parameters += weights;
    shape.active += weights * token_share(config, layer->place);
    const auto flop = 2 * weights * token_share(config, layer->place);
    if (ends_layer(layer->place.role) && !norm_ends) shape.last_flop += flop;
    else if (config.has_experts(layer->place.layer)) shape.sparse_flop += flop;
    layers[layer->place.layer] += bytes_of(*layer, config, stored);
    if (config.has_experts(layer->place.layer) && layer->place.expert < 0)
      shape.before_experts_flop += 2 * weights;
    if (is_target(config, *layer, adapter.targets))
      shape.trained_numbers +=
          static_cast<double>(adapter.rank) * static_cast<double>(layer->weight.rows + layer->weight.columns);
  }
  for (const auto& [number, bytes] : layers) {
    shape.layer_bytes += bytes;
    shape.largest_layer = std::max(shape.largest_layer, bytes);
  }
  const auto matrix = static_cast<double>(config.vocabulary) * static_cast<double>(config.hidden);
  const auto matrices = config.tied_head ? matrix : 2 * matrix;
  shape.outside_bytes = 2 * matrices;
  shape.linear_flop = 2 * (shape.active + matrix);
  shape.parameters += matrices;
  shape.active += matrices;
  for (const auto& vector : vectors) {
    const auto count = static_cast<double>(vector.tensor->numel());
    shape.parameters += count;
    shape.active += count;
    shape.outside_bytes += 4 * count;
    if (vector.place.role == Role::router) shape.linear_flop += 2 * count;
  }
  const auto values = config.latent ? config.latent->value_dim : config.head_dim;
  shape.flop_a_key = 2 * static_cast<double>(config.layers * config.heads * (config.head_dim + values));
  if (!config.indexer || !config.latent) return shape;
  const auto of_layers = 2 * static_cast<double>(config.layers);
  shape.chosen = static_cast<double>(config.indexer->top);
  shape.flop_a_chosen_key =
      of_layers * static_cast<double>(config.heads * (2 * config.latent->kv_rank + config.latent->rope_dim));
  shape.flop_an_index_key = of_layers * static_cast<double>(config.indexer->heads * config.indexer->head_dim);
  return shape;
}

double attention_flop(const ModelShape& shape, double length) {
  const auto top = shape.chosen;
  if (top == 0 || length <= top) return shape.flop_a_key * length / 2;
  // The first `top` tokens attend to half as many on the average, each further one to `top`; the indexer
  // looks at all that those see.
  return shape.flop_a_chosen_key * top * (length - top / 2) / length +
         shape.flop_an_index_key * (length * length - top * top) / (2 * length);
}

std::vector<PlanRow> plan_rows(const Model& model, const ModelShape& shape, const PlanMachine& machine,
                               const PlanText& text, const AdapterSpec& adapter) {
  const auto states = machine.memory * kStates,
             weights = std::min(2 * shape.largest_layer, machine.memory * kWeights);
  const auto between = static_cast<double>(model.config.hidden) * 2;  // a token's state in bf16
  const auto at_work = state_bytes_at_work(model, at::kBFloat16);
  const auto numbers = row_numbers(model, adapter, static_cast<int64_t>(text.length));
  const auto of_threads =
      2 * static_cast<double>(machine.threads) * text.length;  // bytes of a number of a row
  const auto copies =
      copied_bytes(model, adapter, at::kBFloat16, {machine.threads, static_cast<int64_t>(text.length), 1});
  const auto attention = attention_flop(shape, text.length), forward = shape.linear_flop + attention;
  const auto layers = static_cast<double>(model.config.layers), sparse = sparse_layers(model.config);
  const bool keeps = machine.keeps_activations && machine.scratch > 0;
  // Of a token, in the scratch folder: what backward needs of layers without experts.
  const auto activations =
      keeps ? (layers - sparse) * (2 * numbers.saved + 4 * static_cast<double>(model.config.heads)) : 0;
  const auto again = keeps ? shape.sparse_flop + attention * sparse / layers : forward - shape.last_flop;
  const auto row = [&](const char* use, double reached, double bytes_a_token, double kept, double reads,
                       double flop_a_token, double more_memory) {
    PlanRow plan;
    plan.use = use;
    const bool waits_on_disk = machine.scratch > 0;
    const auto room = waits_on_disk ? machine.scratch : states;
    plan.tokens_a_pass = std::min(text.tokens, std::max(text.length, room / (bytes_a_token + kept)));
    const auto passes = std::ceil(text.tokens / plan.tokens_a_pass);
    plan.bytes_read = passes * reads * shape.layer_bytes + shape.outside_bytes;
    plan.flop = text.tokens * flop_a_token;
    if (waits_on_disk) plan.scratch = plan.tokens_a_pass * (bytes_a_token + kept);
    const auto in_memory = waits_on_disk ? std::min(plan.tokens_a_pass, 2 * text.length) : plan.tokens_a_pass;
    plan.memory = kProgram + shape.outside_bytes + weights + in_memory * bytes_a_token + more_memory;
    // Where a text waits it is written once a layer and read as often, if no page of it stays in memory.
    const auto waiting = waits_on_disk ? 2 * text.tokens * (at_work * layers * reads + kept) : 0;
    plan.disk_seconds = (plan.bytes_read + waiting) / machine.disk;
    plan.product_seconds = plan.flop / (reached * machine.products);
    return plan;
  };
  // Training reads the layers forward and backward, and computes each once or twice and its gradient once.
  return {
      row("teach or score", kReadingReached, at_work, 0, 1, forward, of_threads * numbers.passing + copies),
      row("LoRA, a pass over the texts", kTrainingReached, at_work + layers * between, activations, 2,
          2 * forward + again + shape.before_experts_flop,
          shape.trained_numbers * kAdapterBytes + of_threads * (numbers.passing + numbers.saved) + copies)};
}

// Backward multiplies each frozen matrix once more, for the gradient of what it read. Attention has two
// products forward and five backward.
LoneStep lone_step(const ModelShape& shape, const PlanMachine& machine, const PlanText& text) {
  const auto flop = 2 * shape.linear_flop + 3.5 * attention_flop(shape, text.length);
  LoneStep step;
  step.forests = std::max<int64_t>(1, std::llround(text.tokens / text.length));
  step.threads = machine.threads;
  step.seconds = text.tokens * flop / (kTrainingReached * machine.products);
  step.tokens = text.tokens;
  step.trainable_elements = std::llround(shape.trained_numbers);
  return step;
}

// As plan/predict.cpp counts a pass: what all layers keep for backward and what comes and goes; a frozen
// head's rows of gradient; gradients of each forest at work beside the sum; copies of rows for products.
BytesOfRank bytes_of_rank(const Model& model, const ModelShape& shape, const PlanMachine& machine,
                          const PlanText& text, const AdapterSpec& adapter) {
  const auto numbers = row_numbers(model, adapter, static_cast<int64_t>(text.length));
  const auto threads = static_cast<double>(machine.threads);
  const auto layers = static_cast<double>(model.config.layers), width = 2.0;
  const auto row = layers * (width * numbers.saved + 4.0 * static_cast<double>(model.config.heads)) +
                   width * numbers.passing + static_cast<double>(model.config.hidden) * (4 + 3 * width);
  const auto own =
      kProgram + threads * kThread + shape.trained_numbers * (kAdapterBytes + 4 * threads) +
      threads * text.length * row +
      copied_bytes(model, adapter, at::kBFloat16, {machine.threads, static_cast<int64_t>(text.length), 1});
  return {static_cast<uint64_t>(own), static_cast<uint64_t>(shape.layer_bytes + shape.outside_bytes)};
}

}  // namespace retort
