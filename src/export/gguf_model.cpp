#include <algorithm>
#include <map>

#include "adapters/merge.h"
#include "base/error.h"
#include "export/artefacts.h"
#include "export/merged.h"
#include "formats/weight_file.h"
#include "models/gguf_heads.h"
#include "models/read_config.h"
#include "models/tensor_names.h"
#include "text/export_tokenizer.h"

namespace retort {
namespace {

using Metadata = std::vector<std::pair<std::string, GgufValue>>;

void add_tokenizer(Metadata& metadata, const LoadedModel& loaded) {
  auto vocabulary = gguf_vocabulary(*loaded.tokenizer, loaded.model->config.vocabulary);
  // A conversation begins with a control token, behind which there is no such space; a text that is continued
  // would have one.
  if (puts_space_first_only(*loaded.tokenizer) && !loaded.chat_template_source.empty())
    vocabulary.add_space_prefix = false;
  metadata.emplace_back("tokenizer.ggml.model", vocabulary.model);
  if (!vocabulary.pre.empty()) metadata.emplace_back("tokenizer.ggml.pre", vocabulary.pre);
  metadata.emplace_back("tokenizer.ggml.tokens", GgufArray(std::move(vocabulary.tokens)));
  if (!vocabulary.scores.empty())
    metadata.emplace_back("tokenizer.ggml.scores", GgufArray(std::move(vocabulary.scores)));
  metadata.emplace_back("tokenizer.ggml.token_type", GgufArray(std::move(vocabulary.token_types)));
  if (!vocabulary.merges.empty())
    metadata.emplace_back("tokenizer.ggml.merges", GgufArray(std::move(vocabulary.merges)));
  const auto id = [&](const char* key, const std::optional<int32_t>& value) {
    if (value) metadata.emplace_back(key, static_cast<uint32_t>(*value));
  };
  id("tokenizer.ggml.bos_token_id", vocabulary.bos);
  id("tokenizer.ggml.eos_token_id", vocabulary.eos);
  if (const auto end = end_of_answer(loaded); end && end != vocabulary.eos)
    id("tokenizer.ggml.eot_token_id", end);
  id("tokenizer.ggml.unknown_token_id", vocabulary.unknown);
  id("tokenizer.ggml.padding_token_id", vocabulary.pad);
  if (vocabulary.add_bos) metadata.emplace_back("tokenizer.ggml.add_bos_token", *vocabulary.add_bos);
  if (vocabulary.add_eos) metadata.emplace_back("tokenizer.ggml.add_eos_token", *vocabulary.add_eos);
  if (vocabulary.add_space_prefix)
    metadata.emplace_back("tokenizer.ggml.add_space_prefix", *vocabulary.add_space_prefix);
  if (!loaded.chat_template_source.empty())
    metadata.emplace_back("tokenizer.chat_template", loaded.chat_template_source);
  std::vector<std::string> names;
  for (const auto& [name, source] : loaded.other_templates) {
    names.push_back(name);
    metadata.emplace_back("tokenizer.chat_template." + name, source);
  }
  if (!names.empty()) metadata.emplace_back("tokenizer.chat_templates", GgufArray(std::move(names)));
}

// One tensor's rows in GGUF's order: q and k of arch llama are interleaved inside each head.
Tensor rows_in_gguf_order(const MergedTensor& tensor, const GgufTensor& gguf, int64_t first, int64_t count) {
  auto values = [&] {
    if (gguf.permuted_heads == 0) return tensor.rows(first, count);
    if (tensor.shape.size() == 1) {  // a bias: permute its elements
      const auto all = tensor.rows(0, 1);
      auto permuted = at::empty_like(all);
      for (int64_t i = 0; i < tensor.row_length(); ++i)
        permuted.data_ptr<float>()[i] =
            all.const_data_ptr<float>()[hf_row_of(i, gguf.permuted_heads, tensor.row_length())];
      return permuted;
    }
    std::vector<int64_t> wanted;
    for (int64_t i = 0; i < count; ++i)
      wanted.push_back(hf_row_of(first + i, gguf.permuted_heads, tensor.row_count()));
    const auto [low, high] = std::minmax_element(wanted.begin(), wanted.end());
    const auto from = *low;
    const auto some = tensor.rows(from, *high + 1 - from);
    for (auto& row : wanted) row -= from;
    return some.index_select(0, at::tensor(wanted));
  }();
  return gguf.plus_one ? values + 1 : values;
}

// One tensor of the file: one of the model, or one of every expert of a layer.
struct FileTensor {
  GgufTensor gguf;
  std::vector<MergedTensor> parts;
};

// Latent attention's keys and values of each head, as parts of two tensors: of keys the columns are rows.
void add_heads(const ModelConfig& config, const GgufHeads& names, const MergedTensor& whole,
               std::vector<FileTensor>& stacks) {
  const auto n = config.latent->nope_dim, v = config.latent->value_dim, latent = config.latent->kv_rank;
  FileTensor keys, values;
  keys.gguf.name = names.keys, values.gguf.name = names.values;
  keys.gguf.expert = values.gguf.expert = 0;  // one of several
  for (int64_t head = 0; head < config.heads; ++head) {
    const auto begin = head * (n + v);
    auto key = whole, value = whole;
    key.shape = {latent, n}, value.shape = {v, latent};
    key.rows = [rows = whole.rows, begin, n](int64_t first, int64_t count) {
      return rows(begin, n).narrow(1, first, count).t().contiguous();
    };
    value.rows = [rows = whole.rows, begin, n](int64_t first, int64_t count) {
      return rows(begin + n + first, count);
    };
    keys.parts.push_back(std::move(key)), values.parts.push_back(std::move(value));
  }
  stacks.push_back(std::move(keys)), stacks.push_back(std::move(values));
}

std::vector<FileTensor> gguf_stacks(const Model& model) {
  std::vector<FileTensor> stacks;
  std::map<std::string, size_t> places;
  for (auto& tensor : merged_tensors(model)) {
    if (is_behind_the_last(model.config, tensor.place)) continue;  // block_count counts the others
    if (const auto heads = gguf_heads(model.config, tensor.place)) {
      add_heads(model.config, *heads, tensor, stacks);
      continue;
    }
    auto gguf = gguf_tensor(model.config, tensor.place);
    const auto [place, is_new] = places.try_emplace(gguf.name, stacks.size());
    if (is_new) stacks.push_back({std::move(gguf), {}});
    stacks[place->second].parts.push_back(std::move(tensor));  // experts come in order
  }
  return stacks;
}

// Frequency factors that llama.cpp keeps as tensors: Llama 3's divisors, Phi-3's two sets.
void add_rope_tensors(const ModelConfig& config, std::vector<TensorSource>& sources) {
  const auto add = [&](const char* name, const std::vector<double>& values) {
    const std::vector<float> floats(values.begin(), values.end());
    sources.push_back(
        {name, WeightType::f32, {static_cast<int64_t>(floats.size())}, [floats](const auto& sink) {
           sink(std::as_bytes(std::span(floats)));
         }});
  };
  if (config.rope.scaling == RopeScaling::llama3 || !config.rope.frequency_divisors.empty())
    add("rope_freqs.weight", rotary_divisors(config.rope, config.head_dim, config.context));
  if (config.rope.scaling == RopeScaling::longrope) {
    add("rope_factors_long.weight", config.rope.long_factor);
    add("rope_factors_short.weight", config.rope.short_factor);
  }
}

// "2 tensors Q4_K -> Q5_0, 61.0% of the parameters"
std::vector<std::string> describe_fallbacks(
    const std::map<std::pair<WeightType, WeightType>, std::pair<int64_t, int64_t>>& seen,
    int64_t parameters) {
  std::vector<std::string> lines;
  for (const auto& [types, counts] : seen)
    lines.push_back(
        fmt::format("{} tensors {} -> {}, {:.1f}% of the parameters", counts.first,
                    type_info(types.first).name, type_info(types.second).name,
                    100.0 * static_cast<double>(counts.second) / static_cast<double>(parameters)));
  return lines;
}

}  // namespace

Artefact write_gguf_model(const std::filesystem::path& file, LoadedModel& loaded, const Mixture& mixture,
                          bool fallback, const Writing& how) {
  auto& model = *loaded.model;
  const auto& config = model.config;
  Artefact artefact{"gguf", std::string(mixture.name), file, 0, {}, 0};
  Metadata metadata = gguf_metadata(config);
  metadata.emplace_back("general.file_type", static_cast<uint32_t>(mixture.file_type));
  metadata.emplace_back("general.quantization_version", uint32_t{2});
  add_tokenizer(metadata, loaded);

  const auto architecture = gguf_architecture(config);
  const MixtureModel facts{architecture,    config.layers,  config.heads,
                           config.kv_heads, config.experts, config.tied_head};
  std::vector<TensorSource> sources;
  std::map<std::pair<WeightType, WeightType>, std::pair<int64_t, int64_t>> fell_back;
  int64_t parameters = 0;
  for (const auto& stack : gguf_stacks(model)) {
    const auto& [gguf, parts] = stack;
    const auto& shape = parts.front().shape;
    auto whole = shape;
    if (gguf.expert >= 0) whole.insert(whole.begin(), static_cast<int64_t>(parts.size()));
    const auto type = choose_type(mixture, facts, {gguf.name, whole});
    const auto row_length = shape.back();
    const auto elements = static_cast<int64_t>(parts.size()) * parts.front().row_count() * row_length;
    parameters += elements;
    const auto wanted = preferred_type(mixture, facts, {gguf.name, whole});
    if (wanted != type) {
      if (!fallback)
        throw RecipeError(
            fmt::format("export.fallback: {} has rows of {} elements, not a multiple of {}'s block of {}; "
                        "set export.fallback: true to store it as {}",
                        gguf.name, row_length, type_info(wanted).name, type_info(wanted).block_elements,
                        type_info(type).name));
      auto& [tensors, count] = fell_back[{wanted, type}];
      ++tensors;
      count += elements;
    }
    sources.push_back(
        {gguf.name, type, whole, [=](const auto& sink) {
           for (const auto& tensor : stack.parts) {
             const auto encode = [&](int64_t first, int64_t count) {
               return encode_rows(stack.gguf.name, type,
                                  rows_in_gguf_order(tensor, stack.gguf, first, count).contiguous());
             };
             encode_in_order(tensor.row_count(), rows_per_chunk(row_length), how.threads, encode, sink);
           }
         }});
  }
  if (how.weights == Weights::left_out)
    for (auto& source : sources) source.fill = nullptr;
  artefact.fallbacks = describe_fallbacks(fell_back, parameters);
  add_rope_tensors(config, sources);
  write_gguf(file, metadata, sources);
  artefact.bytes = std::filesystem::file_size(file);
  artefact.ignored = gguf_ignored(config);
  if (mixture.name == "F32") artefact.exact_within = exact_within(config);
  return artefact;
}

}  // namespace retort
