#include "plan/predict.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <numeric>
#include <set>
#include <stdexcept>

#include "adapters/attach.h"
#include "base/error.h"
#include "base/machine_memory.h"
#include "eval/check_tasks.h"
#include "export/compared_samples.h"
#include "export/merged.h"
#include "formats/adapter_folder.h"
#include "models/experts.h"
#include "models/layer_stream.h"
#include "ops/gemm.h"
#include "ops/workers.h"
#include "quant/mixture.h"
#include "schedule/layers.h"
#include "train/batches.h"
#include "train/interval.h"
#include "train/objective.h"
#include "train/step.h"

namespace retort {

namespace {

constexpr uint64_t kProgramBytes = uint64_t{150}
                                   << 20;  // code and tables of LibTorch (124 MiB once loaded), the tokenizer
constexpr uint64_t kThreadBytes = uint64_t{12} << 20;  // packed operands and buffers of one thread
constexpr double kLogitBytes =
    32 << 20;  // ops/head.cpp: logits that one thread holds at a time where the head learns

constexpr uint64_t kSampleBytes = 60;   // where it begins, its id, its place in the order of an epoch
constexpr uint64_t kTokenBytes = 3;     // packed, where data.cache names no store that they stay in
constexpr uint64_t kStoredBytes = 5;    // of a token in a store
constexpr uint64_t kHeldOutBytes = 28;  // of a held-out token: its record's text; token, position and target
                                        // in the forests of the held-out loss

constexpr int64_t kLookedAt = 64;  // steps

// PEFT's rule: the whole name, or its end after a dot.
bool named(const std::string& layer, const std::vector<std::string>& names) {
  return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
    return layer == name || (layer.size() > name.size() && layer.ends_with(name) &&
                             layer[layer.size() - name.size() - 1] == '.');
  });
}

uint64_t bytes_of(double value) { return static_cast<uint64_t>(std::max(0.0, value)); }

// Which role stands for all that read what this layer reads.
Role first_reader(const Linear& layer) {
  switch (layer.place.role) {
    case Role::q:
    case Role::k:
    case Role::v:
    case Role::qkv: return Role::q;
    case Role::gate:
    case Role::up:
    case Role::gate_up: return Role::gate;
    case Role::q_a:
    case Role::kv_a: return Role::q;
    case Role::shared_gate:
    case Role::shared_up: return Role::shared_gate;
    case Role::o:
    case Role::down:
    case Role::q_b:
    case Role::kv_b:
    case Role::shared_down:
    case Role::mtp_join:
    case Role::index_q:
    case Role::index_k:
    case Role::index_weights: return layer.place.role;
    default: throw std::logic_error(layer.name + ": nobody said what a linear layer of this role reads");
  }
}

int64_t value_width(const ModelConfig& config) {
  return config.latent ? config.latent->value_dim : config.head_dim;
}

// Of the gated activation of a layer, for one row: `copies` of it go to experts, where there are any.
double mean_intermediate(const ModelConfig& config, double copies) {
  const auto dense = static_cast<double>(config.intermediate);
  if (config.experts == 0) return dense;
  const auto sparse =
      (copies + static_cast<double>(config.shared_experts)) * static_cast<double>(config.expert_intermediate);
  const auto share = static_cast<double>(std::ranges::count(config.dense_layers, true)) /
                     static_cast<double>(std::max<int64_t>(1, config.layers));
  return share * dense + (1 - share) * sparse;
}

// Of attention: q, k, v and its result, of one row.
double attention_numbers(const ModelConfig& config, int64_t longest) {
  if (!config.indexer || longest <= config.indexer->top)
    return static_cast<double>((config.heads + config.kv_heads) * (config.head_dim + value_width(config)));
  // Where tokens are left out it is computed on the latents; the rows that were chosen are 4 bytes each.
  const auto& latent = config.latent.value();
  return static_cast<double>((config.heads + 1) * (latent.kv_rank + latent.rope_dim) +
                             config.heads * (latent.kv_rank + config.head_dim + value_width(config)) +
                             config.indexer->top);
}

// Views into the file count as the pages they touch; pages that copies were made from are given back
// (models/load.cpp). Weights that are trained are fp32 leaves instead, and the file is closed with the last
// view of it.
uint64_t weight_bytes(const Model& model, const AdapterSpec& adapter) {
  if (adapter.kind == "full") return 0;
  uint64_t held = model.embedding.weight.stored_bytes();
  if (!model.config.tied_head) held += model.head.linear.weight.stored_bytes();
  for (const auto* layer : model.linears()) held += layer->weight.stored_bytes();
  if (const auto* stream = model.stream()) held += stream->budget().weights;
  return held;
}

uint64_t mixture_bytes(const Mixture& mixture, const Model& model) {
  const auto& config = model.config;
  const MixtureModel shape{"llama",         config.layers,  config.heads,
                           config.kv_heads, config.experts, config.tied_head};
  double bytes = 0;
  for (const auto& tensor : merged_tensors(model)) {
    // The rules ask for GGUF's names; the main type stands for those that differ by name only.
    const auto type = tensor.shape.size() < 2 || tensor.place.role == Role::router
                          ? WeightType::f32
                          : choose_type(mixture, shape, {"blk.0.attn_q.weight", tensor.shape});
    bytes += static_cast<double>(tensor.row_count()) *
             static_cast<double>(row_bytes(type, static_cast<uint64_t>(tensor.row_length())).value_or(0));
  }
  return bytes_of(bytes);
}

}  // namespace

// Read off the operations (differentiable.h: what a backward captures) and checked against the peak of real
// runs by tools/bench/memory_prediction; whoever changes what an operation saves changes this.
RowNumbers row_numbers(const Model& model, const AdapterSpec& spec, int64_t longest) {
  const auto& config = model.config;
  const auto hidden = static_cast<double>(config.hidden),
             query = static_cast<double>(config.heads * config.head_dim),
             keys = static_cast<double>(config.kv_heads * config.head_dim),
             copies = static_cast<double>(config.experts_per_token),  // of a row that goes to several experts
      intermediate = mean_intermediate(config, copies);
  double all = 0;                               // of all layers
  for (const auto& vector : model.vectors()) {  // each norm keeps what it reads
    switch (vector.place.role) {
      case Role::q_norm: all += query; break;
      case Role::k_norm: all += keys; break;
      case Role::q_a_norm:
      case Role::kv_a_norm: all += static_cast<double>(vector.tensor->numel()); break;
      case Role::attention_norm:
      case Role::after_attention_norm:
      case Role::mlp_norm:
      case Role::after_mlp_norm:
      case Role::mtp_token_norm:
      case Role::mtp_hidden_norm:
      case Role::mtp_norm: all += hidden; break;
      default: break;  // biases and routers; the final norm is in no layer
    }
  }
  std::set<TensorPlace> inputs;  // layers of one input keep it once
  for (const auto* layer : model.linears()) {
    const auto share = token_share(config, layer->place);
    const auto in = share * static_cast<double>(layer->weight.columns),
               out = share * static_cast<double>(layer->weight.rows);
    const bool whole = spec.kind == "full" || named(layer->name, spec.modules_to_save),
               low_rank = !whole && spec.low_rank() && is_target(config, *layer, spec.targets);
    if (low_rank)
      all += share * static_cast<double>(spec.rank) +
             (spec.kind == "dora" ? out : 0);  // x A^T; DoRA's product before its magnitude
    auto input = layer->place;
    input.role = first_reader(*layer);
    if (input.role == Role::o || (!whole && !low_rank)) continue;  // attention keeps its result itself
    if (inputs.insert(input).second) all += in;
  }
  RowNumbers numbers;
  numbers.saved = all / static_cast<double>(std::max<int64_t>(1, config.layers)) +
                  attention_numbers(config, longest) + 2 * intermediate;  // the gated activation: gate and up
  numbers.attended = std::min(numbers.saved, 2 * hidden + attention_numbers(config, longest));
  // Forward and backward alike: the residual sum, one more row, gradients of the feed-forward layer; the rows
  // of all experts, before and after.
  numbers.passing = 3 * hidden + 3 * intermediate + 2 * copies * hidden;
  return numbers;
}

double copied_bytes(const Model& model, const AdapterSpec& spec, at::ScalarType compute,
                    const RowsAtWork& at_work) {
  const auto& kernel = gemm_kernel(compute == at::kBFloat16 ? Operand::bf16 : Operand::f32);
  const auto copies = [&](double rows, int64_t k, int64_t n) {
    const auto count = static_cast<int64_t>(std::ceil(rows));
    return static_cast<double>(copied_bytes(kernel, count, k, n, at_work.threads));
  };
  double most = 0;
  for (const auto* layer : model.linears()) {
    const auto rows = token_share(model.config, layer->place) * static_cast<double>(at_work.rows);
    const auto in = layer->weight.columns, out = layer->weight.rows;
    const bool low_rank = spec.low_rank() && is_target(model.config, *layer, spec.targets);
    const auto rank = low_rank ? spec.rank : 0;
    const auto product = [&](int64_t k, int64_t n) {
      return copies(rows, k, n) + (rank > 0 ? copies(rows, rank, n) : 0);
    };
    most = std::max({most, product(in, out), product(out, in)});
  }
  return most * static_cast<double>(at_work.forests);
}

FirstSteps first_steps(const TrainSpec& spec, const Samples& samples) {
  FirstSteps first;
  Batches batches(samples, spec.batch, static_cast<uint64_t>(spec.seed));
  first.steps = spec.steps > 0 ? spec.steps : batches.steps(spec.epochs);
  first.epoch = batches.steps(1);
  Batches::Place place;
  for (int64_t step = 0; step < std::min(first.steps, kLookedAt); ++step) {
    std::vector<Sample> taken;
    for (const auto index : batches.take(place)) taken.push_back(samples[static_cast<size_t>(index)]);
    first.samples.emplace_back(std::move(taken));
  }
  const auto look = [&](const Samples& some) {
    for (size_t i = 0; i < some.size(); ++i) first.longest = std::max(first.longest, some.tokens(i) - 1);
  };
  if (first.steps > kLookedAt) look(samples);
  else
    for (const auto& step : first.samples) look(step);
  return first;
}

RunWork run_work(const TrainSpec& spec, const FirstSteps& first) {
  RunWork work;
  const auto threads = usable_threads(spec.threads);
  work.steps = first.steps;
  work.epoch = first.epoch;
  const auto looked_at = static_cast<int64_t>(first.samples.size());
  Saving saving;
  for (const auto& samples : first.samples) {
    std::vector<int64_t> all(samples.size());
    std::iota(all.begin(), all.end(), int64_t{0});
    const auto plan = plan_step(samples, all, spec.batch.pass_tokens, spec.batch.parts_or(threads));
    work.threads = std::max(work.threads, std::min(threads, static_cast<int64_t>(plan.forests.size())));
    work.most_forests = std::max(work.most_forests, static_cast<int64_t>(plan.forests.size()));
    work.forests_per_step += static_cast<double>(plan.forests.size()) / static_cast<double>(looked_at);
    std::vector<int64_t> sizes;
    for (const auto& forest : plan.forests) {
      sizes.push_back(forest.size());
      work.most_rows = std::max(work.most_rows, forest.size());
      work.most_targets = std::max(work.most_targets, static_cast<int64_t>(asked_rows(forest).rows.size()));
    }
    // The largest that are computed at the same time: what one thread frees, the others use.
    std::sort(sizes.begin(), sizes.end(), std::greater<>());
    sizes.resize(std::min(sizes.size(), static_cast<size_t>(threads)));
    work.rows_at_once = std::max(work.rows_at_once, std::accumulate(sizes.begin(), sizes.end(), int64_t{0}));
    saving.plain_rows += plan.saving.plain_rows;
    saving.forest_rows += plan.saving.forest_rows;
  }
  // The longest sample comes some time.
  work.rows_at_once += std::max<int64_t>(0, first.longest - work.most_rows);
  work.most_rows = std::max(work.most_rows, first.longest);
  work.longest = first.longest;
  work.rows_per_step =
      static_cast<double>(saving.forest_rows) / static_cast<double>(std::max<int64_t>(1, looked_at));
  work.plain_rows_per_step =
      static_cast<double>(saving.plain_rows) / static_cast<double>(std::max<int64_t>(1, looked_at));
  return work;
}

int64_t trainable_elements(const Model& model, const AdapterSpec& spec) {
  const auto& config = model.config;
  const auto matrix = config.vocabulary * config.hidden;
  int64_t count = 0;
  if (spec.kind == "none") return 0;
  if (!spec.from.empty()) return summary_of(open_adapter_folder(spec.from)).elements;
  if (spec.kind == "full") {
    count += matrix * (config.tied_head ? 1 : 2);
    for (const auto* layer : model.linears())
      if (!chooses_only(layer->place.role))
        count +=
            layer->weight.rows * layer->weight.columns + (layer->bias.defined() ? layer->bias.numel() : 0);
    for (const auto& vector : model.vectors())
      if (!vector.place.bias && !chooses_only(vector.place.role)) count += vector.tensor->numel();
    return count;
  }
  for (const auto* layer : model.matrices()) {
    const auto in = layer->weight.columns, out = layer->weight.rows;
    if (!stands_outside(*layer) && named(layer->name, spec.modules_to_save)) count += in * out;
    else if (is_target(config, *layer, spec.targets))
      count += spec.rank * (in + out) + (spec.kind == "dora" ? out : 0);
  }
  count += static_cast<int64_t>(spec.trainable_tokens.size()) * config.hidden *
           (spec.trainable_tokens_head && !config.tied_head ? 2 : 1);
  for (const auto& name : spec.modules_to_save)
    if (named("lm_head", {name}) || named("model.embed_tokens", {name})) count += matrix;
  return count;
}

double state_bytes(const OptimizerSpec& spec) {
  if (spec.kind == "adamw") return 8;
  if (spec.kind == "adamw8bit") return 2 + 8.0 / 256;  // two codes, and two scales for each block of 256
  return spec.kind == "lion" || spec.momentum > 0 ? 4 : 0;
}

MemoryPrediction predict_memory(const Recipe& recipe, const Model& model, at::ScalarType compute,
                                const RunWork& work, const Dataset& dataset) {
  const auto& config = model.config;
  const auto width = static_cast<double>(c10::elementSize(compute));
  const auto trainable = static_cast<double>(trainable_elements(model, recipe.adapter));
  const auto layers = static_cast<double>(config.layers), rows = static_cast<double>(work.rows_at_once),
             threads = static_cast<double>(work.threads);

  MemoryPrediction need;
  need.program = kProgramBytes + kThreadBytes * static_cast<uint64_t>(usable_threads(recipe.train.threads));
  need.weights = weight_bytes(model, recipe.adapter);
  need.trainables = bytes_of(trainable * (4 + 4 + state_bytes(recipe.train.optimizer)));
  const uint64_t packed = recipe.data.cache.empty() ? kTokenBytes : 0;
  const auto tokens = [](const Samples& samples, size_t i) {
    return static_cast<uint64_t>(samples.tokens(i));
  };
  for (size_t i = 0; i < dataset.train.size(); ++i)
    need.samples += kSampleBytes + tokens(dataset.train, i) * packed;
  for (size_t i = 0; i < dataset.held_out.size(); ++i)
    need.samples += kSampleBytes + tokens(dataset.held_out, i) * (packed + kHeldOutBytes);

  const auto numbers = row_numbers(model, recipe.adapter, work.longest);
  const auto layer = width * numbers.saved + 4.0 * static_cast<double>(config.heads);
  const auto boundary = width * static_cast<double>(config.hidden);
  // Layer-major keeps what stands between layers of a group of texts, which the budget cuts, and one layer's
  // own.
  const auto* stream = model.stream();
  const auto asked =
      std::min(1.0, threads * static_cast<double>(work.most_targets) / std::max(1.0, rows));  // of the rows
  const auto last = layer - (1 - asked) * width * (numbers.saved - numbers.attended);
  const auto saved = stream                   ? layer
                     : recipe.train.recompute ? layers * boundary + layer
                                              : (layers - 1) * layer + last;
  const auto states = stream ? std::max(std::min(static_cast<double>(stream->budget().states),
                                                 static_cast<double>(work.most_forests * work.most_rows) *
                                                     (layers + 2) * boundary),
                                        static_cast<double>(work.most_rows) * (layers + 2) * boundary)
                             : 0;
  const bool head_learns = recipe.adapter.kind == "full" ||
                           named("lm_head", recipe.adapter.modules_to_save) ||
                           is_target(config, model.head.linear, recipe.adapter.targets) ||
                           (!recipe.adapter.trainable_tokens.empty() &&
                            (config.tied_head || recipe.adapter.trainable_tokens_head));
  // A frozen head keeps rows of fp32 gradient; one that learns holds logits.
  const auto targets = static_cast<double>(work.most_targets);
  const auto head = head_learns
                        ? 2 * std::min(kLogitBytes, targets * static_cast<double>(config.vocabulary) * width)
                        : targets * static_cast<double>(config.hidden) * (4 + 3 * width);
  // Gradients of the weights themselves are products of transposed rows.
  const bool all_sparse = config.experts > 0 && std::ranges::count(config.dense_layers, true) == 0;
  const auto transposed =
      recipe.adapter.kind == "full"
          ? rows * width * static_cast<double>(all_sparse ? config.expert_intermediate : config.intermediate)
          : 0;
  // Every forest at work has gradients of its own; the first becomes the sum, which further ones wait for.
  // Those of matrices, the head's aside, go into the sum at once but for what one forest is ahead of another.
  const auto others = std::max(0.0, std::min(static_cast<double>(work.most_forests), threads + 1) - 1);
  const auto waiting = recipe.adapter.kind == "full"
                           ? 4.0 * static_cast<double>(config.vocabulary * config.hidden)
                           : 4 * trainable;
  const auto own = waiting * others + (4 * trainable - waiting) * std::min(1.0, others);
  // Backward of a step's only forest lets go what layers kept while their gradients come, so that the two are
  // never there together. Of several forests one may be at its beginning when another is at its end.
  const auto of_layers = recipe.adapter.kind == "full" ? 4 * trainable - waiting : 4 * trainable;
  const auto in_turn = work.most_forests == 1 && !stream ? std::min(rows * saved, of_layers) : 0;
  const auto inner = recipe.train.batch.parts > 0
                         ? 1
                         : usable_threads(recipe.train.threads) / std::max<int64_t>(1, work.threads);
  const RowsAtWork at_work{work.threads, work.rows_at_once / std::max<int64_t>(1, work.threads), inner};
  const auto looked_at = static_cast<double>(usable_threads(recipe.eval.threads)) *
                         static_cast<double>(recipe.eval.pass_tokens) * width * numbers.passing;
  need.passes =
      bytes_of(recipe.adapter.kind == "none"
                   ? looked_at
                   : std::max(looked_at, rows * (saved + width * numbers.passing) + transposed +
                                             threads * head + own + states - in_turn +
                                             copied_bytes(model, recipe.adapter, compute, at_work)));

  // Answers of a batch: the held-out prompts and what follows, keys and values of every layer; logits in
  // fp32.
  for (const auto& task : recipe.eval.tasks) {
    if (task.kind != "completion" && task.kind != "numeric" && task.kind != "code") continue;
    int64_t prompt = 0;
    for (size_t i = 0; i < dataset.held_out.size(); ++i)
      prompt = std::max(prompt, dataset.held_out.tokens(i));
    const auto texts = static_cast<double>(recipe.eval.batch);
    const auto kept = kv_type(recipe.eval.kv);
    const auto shape = cache_shape(config);
    const auto number = kept == KvType::int8   ? 1 + 4.0 / static_cast<double>(shape.key_dim)
                        : kept == KvType::bf16 ? 2
                        : kept == KvType::f32  ? 4
                                               : width;
    const auto cache = texts * static_cast<double>(prompt + task.max_tokens) * layers *
                       static_cast<double>(shape.numbers()) * number;
    const auto scores = texts * static_cast<double>(config.vocabulary) * 8;
    const auto abreast = static_cast<double>(usable_threads(recipe.eval.threads));
    // Layer-major the prompts of all threads wait between two layers, as many as the budget has room for.
    const auto between =
        stream ? std::min(static_cast<double>(stream->budget().states),
                          abreast * texts * static_cast<double>(prompt) * state_bytes_at_work(model, compute))
               : 0;
    need.generation = std::max(need.generation, bytes_of(abreast * (cache + scores) + between));
  }
  return need;
}

std::string describe(const MemoryPrediction& need) {
  const auto mib = [](uint64_t count) { return fmt::format("{} MiB", (count + (1 << 19)) >> 20); };
  return fmt::format("program {}, weights {}, what is trained and its optimizer {}, samples {}, {} {}{}",
                     mib(need.program), mib(need.weights), mib(need.trainables), mib(need.samples),
                     need.passes >= need.generation ? "training passes" : "generation",
                     mib(std::max(need.passes, need.generation)),
                     need.teacher == 0    ? ""
                     : need.teacher_stays ? fmt::format(", teacher {}", mib(need.teacher))
                                          : fmt::format(", teacher {} before training", mib(need.teacher)));
}

void require_memory(const MemoryPrediction& need, const Recipe& recipe) {
  const auto machine = machine_memory();
  if (need.peak() <= machine.available) return;
  std::string advice;
  if (need.generation > need.passes) advice = "lower eval.batch";
  else if (need.passes * 2 > need.peak())
    advice = recipe.train.recompute
                 ? "lower train.batch.pass_tokens or train.threads"
                 : "set train.recompute: true, or lower train.batch.pass_tokens or train.threads";
  else
    advice = recipe.adapter.kind == "full"
                 ? "train an adapter (adapter.kind: lora) or set train.optimizer.kind: adamw8bit"
                 : "hold the base in fewer bits (model.weights: keep or nf4)";
  throw Failure(fmt::format("this run needs about {} of memory ({}), and {} leaves {}; {}",
                            bytes(need.peak()), describe(need), machine.bound_by, bytes(machine.available),
                            advice));
}

uint64_t predict_scratch(const Recipe& recipe, const Model& model, at::ScalarType compute,
                         const RunWork& work) {
  const auto* stream = model.stream();
  if (!stream || stream->budget().scratch.empty() || recipe.adapter.kind == "none") return 0;
  const auto& config = model.config;
  const auto width = static_cast<double>(c10::elementSize(compute));
  // Of a row: what enters each layer and leaves the last, and two of what flows back
  // (schedule/walk_record.h).
  auto row = static_cast<double>((config.layers + 3) * config.hidden) * width;
  const auto numbers = row_numbers(model, recipe.adapter, work.longest);
  for (int64_t i = 0; stream->budget().keeps_activations && i < config.layers; ++i)
    if (!config.has_experts(i)) row += width * numbers.saved + 4.0 * static_cast<double>(config.heads);
  return bytes_of(row * static_cast<double>(work.most_forests * work.most_rows));
}

uint64_t predict_disk(const Recipe& recipe, const Model& model, const Dataset& dataset) {
  const auto trainable = static_cast<double>(trainable_elements(model, recipe.adapter));
  double parameters = 0;
  for (const auto& tensor : merged_tensors(model))
    parameters += static_cast<double>(tensor.row_count() * tensor.row_length());
  const auto& config = model.config;
  const double head =
      unties(model, recipe.adapter) ? static_cast<double>(config.vocabulary * config.hidden) : 0;
  // Kept ones, the one being written, and the best.
  const auto checkpoints =
      static_cast<double>(recipe.train.checkpoint.keep_last + 1 + (recipe.train.evaluate.keep_best ? 1 : 0));
  double disk = trainable * (4 + state_bytes(recipe.train.optimizer)) * checkpoints + trainable * 4;
  const auto& exports = recipe.exports;
  if (exports.adapter) disk += trainable * 4;
  if (exports.gguf_adapter) disk += trainable * 4;
  if (exports.merged == "keep") {
    for (const auto& tensor : model.matrices()) disk += static_cast<double>(tensor->weight.stored_bytes());
  } else if (exports.merged != "none") disk += (parameters + head) * (exports.merged == "f32" ? 4 : 2);
  for (const auto& name : exports.gguf)
    if (const auto mixture = mixture_from_name(name))
      disk += static_cast<double>(mixture_bytes(*mixture, model)) * (1 + head / parameters);
  for (const auto* side : {&dataset.train, &dataset.held_out})
    for (size_t i = 0; i < side->size(); ++i) disk += static_cast<double>(side->tokens(i)) * kStoredBytes;
  return bytes_of(disk);
}

double measure_row_seconds(const Recipe& recipe, Model& model, at::ScalarType compute,
                           const Dataset& dataset) {
  const auto& spec = recipe.train;
  auto threads = usable_threads(spec.threads);
  auto fresh = recipe.adapter;  // takes as long as one that is read
  fresh.from.clear();
  const auto leaves = attach(model, fresh, static_cast<uint64_t>(spec.seed));
  std::vector<Tensor> tensors;
  for (const auto& leaf : leaves) tensors.push_back(*leaf.tensor);
  Batches batches(dataset.train, spec.batch, static_cast<uint64_t>(spec.seed));
  Batches::Place place;
  auto plan =
      plan_step(dataset.train, batches.take(place), spec.batch.pass_tokens, spec.batch.parts_or(threads));
  plan.forests.resize(std::min(plan.forests.size(), static_cast<size_t>(threads)));  // one round
  if (spec.batch.parts > 0)  // a forest has one thread then
    threads = std::clamp<int64_t>(static_cast<int64_t>(plan.forests.size()), 1, threads);
  int64_t rows = 0;
  for (const auto& forest : plan.forests) rows += forest.size();
  const auto pass_of = [&](const Forest& forest, int64_t) {
    auto pass = make_pass(forest, compute, model.device());
    pass.training = true;
    pass.recompute = spec.recompute;
    return pass;
  };
  const auto objective = recipe.model.mtp ? two_token_objective(spec.mtp_weight) : next_token_objective();
  const auto round = [&] {
    StepSums sums;
    const auto start = std::chrono::steady_clock::now();
    add_gradients({model, objective, plan, pass_of, threads}, tensors, sums);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  round();  // page faults and buffers of the first time
  return round() / static_cast<double>(std::max<int64_t>(1, rows));
}

namespace {

// How much longer fp32 takes than the type that the run computes in.
double fp32_share(at::ScalarType compute) {
  if (compute != at::kBFloat16) return 1;
  const auto fast = gemm_speed(gemm_kernel(Operand::bf16)).product,
             exact = gemm_speed(gemm_kernel(Operand::f32)).product;
  return exact > 0 ? std::max(1.0, fast / exact) : 1;
}

double tokens_of(const Samples& samples, size_t first_ones) {
  double sum = 0;
  for (size_t i = 0; i < std::min(samples.size(), first_ones); ++i)
    sum += static_cast<double>(samples.tokens(i));
  return sum;
}

// Rows of all comparisons of exports with the trained model.
double compared_rows(const Recipe& recipe, const Samples& held_out) {
  const auto& exports = recipe.exports;
  const auto rows = [&](bool whole) {
    return tokens_of(held_out, samples_to_compare(exports, whole, held_out));
  };
  const auto whole = exports.gguf.size() + (exports.merged != "none" ? 1 : 0);
  const auto adapters =
      recipe.adapter.low_rank() ? (exports.adapter ? 1 : 0) + (exports.gguf_adapter ? 1 : 0) : 0;
  return static_cast<double>(whole) * rows(true) + static_cast<double>(adapters) * rows(false);
}

}  // namespace

TimePrediction predict_time(const Recipe& recipe, const RunWork& work, const Dataset& dataset,
                            const RowTime& row, at::ScalarType compute) {
  const auto teacher_share = row.teacher_share;
  constexpr double kForwardShare = 0.4;  // of forward and backward
  constexpr double kDecodedRow = 4;  // a row of a decode step costs as much as so many rows of a full pass
  TimePrediction time;
  double held_out_rows = 0, answers = 0;
  for (const auto& sample : dataset.held_out) {
    held_out_rows += static_cast<double>(sample.tokens.size());
    answers += static_cast<double>(
        std::count_if(sample.weights.begin(), sample.weights.end(), [](float weight) { return weight > 0; }));
  }
  const double mean_answer =
      dataset.held_out.empty() ? 16 : answers / static_cast<double>(dataset.held_out.size());
  const auto forward = row.seconds * kForwardShare;
  const auto& evaluate = recipe.train.evaluate;
  const bool on_the_way = evaluate.every > 0 || evaluate.per_epoch > 0;
  const auto evaluations =
      1 +
      (on_the_way ? StepInterval{evaluate.every, evaluate.per_epoch, work.epoch}.times(work.steps) + 1 : 0);
  time.training = static_cast<double>(work.steps) * work.rows_per_step * row.seconds +
                  static_cast<double>(evaluations) * held_out_rows * forward;

  time.reopening = 2 * compared_rows(recipe, dataset.held_out) * forward * fp32_share(compute);
  auto models =
      2 + static_cast<double>(recipe.exports.gguf.size()) + (recipe.exports.merged != "none" ? 1 : 0);
  if (teacher_share > 0) {
    const bool baseline = recipe.distill && recipe.distill->baseline;
    const bool each_step = recipe.teacher->live || (recipe.distill && recipe.distill->on_policy);
    const auto asked = each_step ? static_cast<double>(work.steps) * work.rows_per_step
                                 : tokens_of(dataset.train, dataset.train.size());
    if (baseline) time.baseline = time.training;
    // At the end the teacher and two or three students go over the held-out samples.
    time.teacher = (asked * teacher_share + held_out_rows * (teacher_share + (baseline ? 3 : 2))) * forward;
    models += teacher_share + (baseline ? 1 : 0);  // the recipe's tasks measure them too
  }
  const auto inputs = check_tasks(recipe.eval, recipe.data, static_cast<int64_t>(dataset.held_out.size()));
  for (size_t i = 0; i < inputs.size(); ++i) {
    const auto& task = recipe.eval.tasks[i];
    const auto count = static_cast<double>(inputs[i].count);
    const double sample_rows =
        dataset.held_out.empty() ? 128 : held_out_rows / static_cast<double>(dataset.held_out.size());
    double rows = count * sample_rows;
    if (task.kind == "completion")
      rows += count * std::min(static_cast<double>(task.max_tokens), mean_answer) * kDecodedRow;
    if (task.kind == "numeric" || task.kind == "code")
      rows += count * static_cast<double>(task.max_tokens) * kDecodedRow;
    time.evaluation += models * rows * forward;
  }
  return time;
}

}  // namespace retort
