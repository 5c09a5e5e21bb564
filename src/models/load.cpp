// From a model folder or a .gguf file to a Model. Matrices are views into the mapped file wherever the file's
// own bytes can be used: only rows that GGUF permutes, and what the recipe converts, are copied.

#include <fmt/ranges.h>

#include <algorithm>

#include "base/byte_size.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/machine_memory.h"
#include "formats/weight_file.h"
#include "models/add_tokens.h"
#include "models/four_bit.h"
#include "models/fp8_matrix.h"
#include "models/gguf_heads.h"
#include "models/layer_stream.h"
#include "models/layers.h"
#include "models/own_templates.h"
#include "models/read_config.h"
#include "models/tensor_names.h"
#include "models/text_part.h"
#include "quant/finite.h"

namespace retort {
namespace {

// Type that a recipe's word asks for; nullopt: keep.
std::optional<WeightType> wanted_type(const ModelSpec& spec) {
  if (spec.weights == "keep") return std::nullopt;
  if (spec.weights == "nf4") return spec.double_quant ? WeightType::nf4_dq : WeightType::nf4;
  if (spec.weights == "int8") return WeightType::int8_row;
  const auto type = type_from_name(spec.weights);
  if (!type) throw RecipeError("model.weights: unknown type '" + printable(spec.weights) + "'");
  return type;
}

class Source {
 public:
  Source(WeightFile file, ModelConfig config, bool gguf, const ModelSpec& spec)
      : file_(std::move(file)),
        config_(std::move(config)),
        gguf_(gguf),
        wanted_(wanted_type(spec)),
        integers_(spec.compute == "int8") {}

  // A linear layer with its bias where the file has one. The head keeps its stored type unless a dense one is
  // asked for.
  Linear linear(const TensorPlace& place) const {
    Linear layer;
    auto base = base_of(place, true);
    layer.weight = std::move(base.weight);
    layer.int8_scales = std::move(base.int8_scales);
    layer.bias = bias_of(place);
    return layer;
  }
  // The same, its matrix left in the file.
  Linear linear_without(const TensorPlace& place) const {
    Linear layer;
    const auto stored = matrix_at(place);
    layer.weight = absent_weight(held_type(place, stored), stored.rows, stored.columns);
    layer.bias = bias_of(place);
    return layer;
  }
  BaseMatrix base_of(const TensorPlace& place, bool first) const {
    BaseMatrix base;
    base.weight = stored_matrix(place, first);
    base.weight = convert_weight(base.weight, held_type(place, matrix_at(place)));
    drop_pages(base.weight, place);
    if (integers_) base.int8_scales = int8_row_scales(base.weight);
    return base;
  }
  void give_back(const TensorPlace& place) const {
    if (const auto heads = heads_at(place)) return give_back(*heads);
    const auto stored = matrix_at(place);
    if (stored.four_bit) release(*stored.four_bit);
    else stored.tensor.file->release(stored.tensor.data);
  }
  uint64_t held_bytes(const TensorPlace& place) const {
    const auto stored = matrix_at(place);
    const auto type = held_type(place, stored);
    if (type == WeightType::packed4) return retort::held_bytes(*stored.four_bit);
    const auto row = row_bytes(type, static_cast<uint64_t>(stored.columns));
    return static_cast<uint64_t>(stored.rows) * row.value_or(0);
  }
  // Of the file, which what is held may be made from.
  uint64_t file_bytes(const TensorPlace& place) const {
    if (const auto heads = heads_at(place)) return heads->keys.data.size() + heads->values.data.size();
    const auto stored = matrix_at(place);
    return stored.four_bit ? retort::held_bytes(*stored.four_bit) : stored.tensor.data.size();
  }
  Weight matrix(const TensorPlace& place) const {
    auto weight = stored_matrix(place);
    if (wanted_ && !is_block_quantized(*wanted_)) weight = convert_weight(weight, *wanted_);
    drop_pages(weight, place);
    return weight;
  }
  // A vector, or a router's matrix: fp32, a copy.
  Tensor vector(const TensorPlace& place) const {
    const auto tensor = need(place);
    if (tensor.shape.empty() || tensor.shape.size() > 2)
      fail(place, fmt::format("expected a vector or a matrix, found {} dimensions", tensor.shape.size()));
    if (type_info(tensor.type).block_elements != 1 || tensor.type == WeightType::f8_e4m3)
      fail(place, "expected a dense tensor");
    auto values = at::empty(tensor.shape, at::TensorOptions(at::kFloat));
    require_finite(tensor);
    dequantize_rows(tensor.type, tensor.data.data(), values.mutable_data_ptr<float>(), 1, values.numel());
    const auto here = placed(place);
    if (here.plus_one) values.sub_(1);
    if (here.permuted_heads > 0)
      values = values.index_select(0, order(here.permuted_heads, values.size(0), place));
    return values;
  }

 private:
  // Keys and values of latent attention's heads, as two tensors.
  struct StoredHeads {
    TensorView keys, values;  // [heads, L, n] and [heads, v, L]
  };
  static void give_back(const StoredHeads& heads) {
    for (const auto& each : {heads.keys, heads.values}) each.file->release(each.data);
  }
  // A matrix where the file has it: as one tensor, or as codes with what belongs to them.
  struct StoredMatrix {
    WeightType type;
    int64_t rows, columns;
    TensorView tensor;  // of codes where it is four_bit
    std::optional<FourBitMatrix> four_bit;
  };
  StoredMatrix matrix_at(const TensorPlace& place) const {
    if (auto four_bit = four_bit_at(place))
      return {WeightType::packed4, four_bit->rows, four_bit->columns, *four_bit->codes, four_bit};
    if (const auto heads = heads_at(place)) {
      const auto& latent = *config_.latent;
      const auto type = heads->keys.type == heads->values.type && !is_block_quantized(heads->keys.type)
                            ? heads->keys.type
                            : WeightType::f32;
      return {type, config_.heads * (latent.nope_dim + latent.value_dim), latent.kv_rank, heads->values,
              std::nullopt};
    }
    const auto tensor = matrix_view(place);
    return {tensor.type, tensor.shape[0], tensor.shape[1], tensor, std::nullopt};
  }
  std::optional<FourBitMatrix> four_bit_at(const TensorPlace& place) const {
    if (!config_.four_bit || gguf_) return std::nullopt;
    return find_four_bit(file_, *config_.four_bit, placed(place).name);
  }
  std::optional<StoredHeads> heads_at(const TensorPlace& place) const {
    const auto names = gguf_ ? gguf_heads(config_, place) : std::nullopt;
    if (!names || file_.find(placed(place).name)) return std::nullopt;
    const auto& latent = *config_.latent;
    const auto need_shape = [&](const std::string& name, const std::vector<int64_t>& shape) {
      const auto* tensor = file_.find(name);
      if (!tensor)
        corrupt(file_.path.string(), name,
                "missing from the file; is the download complete and of this architecture?");
      if (tensor->shape != shape)
        corrupt(file_.path.string(), name,
                fmt::format("shape is [{}], the model's configuration asks for [{}]",
                            fmt::join(tensor->shape, ", "), fmt::join(shape, ", ")));
      return *tensor;
    };
    return StoredHeads{need_shape(names->keys, {config_.heads, latent.kv_rank, latent.nope_dim}),
                       need_shape(names->values, {config_.heads, latent.value_dim, latent.kv_rank})};
  }
  // Rows of each head: its keys', turned back, and its values'.
  Weight joined(const StoredHeads& heads, at::ScalarType type) const {
    const auto decoded = [&](const TensorView& tensor) {
      if (is_block_quantized(tensor.type) && !type_info(tensor.type).dequantize)
        corrupt(tensor.file->name(), tensor.name,
                fmt::format("type {} cannot be decoded", type_info(tensor.type).name));
      require_finite(tensor);
      auto values = at::empty(tensor.shape, at::TensorOptions(at::kFloat));
      dequantize_rows(tensor.type, tensor.data.data(), values.mutable_data_ptr<float>(),
                      tensor.shape[0] * tensor.shape[1], tensor.shape[2]);
      return values.to(type);
    };
    const auto all = at::cat({decoded(heads.keys).transpose(1, 2), decoded(heads.values)}, 1);
    return dense_weight(all.reshape({-1, all.size(2)}).contiguous());
  }
  WeightType held_type(const TensorPlace& place, const StoredMatrix& stored) const {
    if (!wanted_ || (is_block_quantized(*wanted_) && place.role == Role::head)) return stored.type;
    return fitting_type(*wanted_, stored.columns);
  }
  Tensor bias_of(const TensorPlace& place) const {
    auto bias = place;
    bias.bias = true;
    return find(bias) ? vector(bias) : Tensor();
  }
  TensorView matrix_view(const TensorPlace& place) const {
    auto tensor = need(place);
    if (tensor.shape.size() != 2)
      fail(place, fmt::format("expected a matrix, found {} dimensions", tensor.shape.size()));
    if (tensor.shape[0] == 0 || tensor.shape[1] == 0) fail(place, "is empty");
    return tensor;
  }
  GgufTensor placed(const TensorPlace& place) const {
    return gguf_ ? gguf_tensor(config_, place) : GgufTensor{tensor_name(config_, place)};
  }
  const TensorView* find(const TensorPlace& place) const { return file_.find(placed(place).name); }
  TensorView need(const TensorPlace& place) const {
    const auto* tensor = find(place);
    const bool half = place.role == Role::gate || place.role == Role::up;
    if (!tensor && place.expert >= 0) {
      const auto* stack = file_.find(gguf_ ? gguf_gate_up(place) : stack_name(config_, place));
      if (stack && half) return half_of_gate_up(place, stack);
      if (stack && !gguf_) return expert_of(*stack, place.expert);
    }
    if (!tensor) fail(place, "missing from the file; is the download complete and of this architecture?");
    const auto expert = placed(place).expert;
    return expert < 0 ? *tensor : expert_of(*tensor, expert);
  }
  // One expert's matrix of the tensor that holds all of a layer's.
  TensorView expert_of(const TensorView& stack, int64_t expert) const {
    if (stack.shape.size() != 3 || stack.shape[0] != config_.experts)
      corrupt(file_.path.string(), stack.name,
              fmt::format("expected one matrix for each of {} experts, found shape [{}]", config_.experts,
                          fmt::join(stack.shape, ", ")));
    auto one = stack;
    one.shape.erase(one.shape.begin());
    const auto size = stack.data.size() / static_cast<size_t>(config_.experts);
    one.data = stack.data.subspan(size * static_cast<size_t>(expert), size);
    return one;
  }
  TensorView half_of_gate_up(const TensorPlace& place, const TensorView* both) const {
    const std::vector<int64_t> shape{config_.experts, 2 * config_.expert_intermediate, config_.hidden};
    if (both->shape != shape)
      corrupt(file_.path.string(), both->name,
              fmt::format("shape is [{}], the model's configuration asks for [{}]",
                          fmt::join(both->shape, ", "), fmt::join(shape, ", ")));
    auto half = *both;
    half.shape = {config_.expert_intermediate, config_.hidden};
    const auto size = both->data.size() / static_cast<size_t>(2 * config_.experts);
    half.data =
        both->data.subspan(size * static_cast<size_t>(2 * place.expert + (place.role == Role::up)), size);
    return half;
  }
  [[noreturn]] void fail(const TensorPlace& place, const std::string& problem) const {
    corrupt(file_.path.string(), placed(place).name, problem);
  }

  // One number that is none spreads over everything that a model computes, where nobody can tell any more
  // whence it came.
  void require_finite(const TensorView& tensor) const {
    const auto found = first_not_finite(tensor.type, tensor.data);
    if (!found) return;
    const auto columns = tensor.shape.empty() ? int64_t{1} : tensor.shape.back();
    corrupt(tensor.file->name(), tensor.name,
            fmt::format("holds a number that is not finite (row {}, column {}); is the file whole, and did "
                        "its training end well?",
                        *found / columns, *found % columns));
  }

  // Pages of the file that a copy was made from would count as this process's memory until somebody else
  // wants it.
  void drop_pages(const Weight& weight, const TensorPlace& place) const {
    if (const auto heads = heads_at(place)) return give_back(*heads);
    const auto tensor = matrix_at(place).tensor;
    const auto* held = weight.dense.defined() ? static_cast<const std::byte*>(weight.dense.const_data_ptr())
                                              : weight.blocks.data();
    if (held != tensor.data.data()) tensor.file->release(tensor.data);
  }

  // Where row i of the Hugging Face order stands in the file.
  Tensor order(int64_t heads, int64_t rows, const TensorPlace& place) const {
    if (rows % heads != 0 || rows / heads % 2 != 0)
      fail(place, fmt::format("{} rows do not divide into {} heads", rows, heads));
    auto index = at::empty({rows}, at::TensorOptions(at::kLong));
    auto* out = index.mutable_data_ptr<int64_t>();
    for (int64_t i = 0; i < rows; ++i) out[i] = gguf_row_of(i, heads, rows);
    return index;
  }

  // Its pages are read when this returns.
  Weight stored_matrix(const TensorPlace& place, bool first = true) const {
    if (const auto four_bit = four_bit_at(place)) return read_four_bit(*four_bit);
    if (const auto heads = heads_at(place)) {
      const auto type = matrix_at(place).type;
      return joined(*heads, type == WeightType::bf16  ? at::kBFloat16
                            : type == WeightType::f16 ? at::kHalf
                                                      : at::kFloat);
    }
    const auto tensor = matrix_view(place);
    const auto rows = tensor.shape[0], columns = tensor.shape[1];
    tensor.file->fetch(tensor.data);
    if (first) require_finite(tensor);
    const auto heads = placed(place).permuted_heads;
    auto weight = view(tensor, rows, columns, place);
    if (heads == 0) return weight;
    const auto index = order(heads, rows, place);
    if (weight.dense.defined()) return dense_weight(weight.dense.index_select(0, index));
    const auto stride = weight.blocks.size() / static_cast<size_t>(rows);
    auto buffer = std::make_shared<std::vector<std::byte>>(weight.blocks.size());
    const auto* from = index.const_data_ptr<int64_t>();
    for (int64_t i = 0; i < rows; ++i)
      std::copy_n(weight.blocks.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(from[i]) * stride),
                  stride, buffer->begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(i) * stride));
    const std::span<const std::byte> blocks(*buffer);
    return block_weight(weight.type, rows, columns, blocks, buffer);
  }

  // Of a matrix of its own, or of one among those of all experts (need()).
  Weight scaled(const TensorView& codes, const TensorPlace& place) const {
    const auto* scales = find_f8_scales(file_, codes);
    if (!scales || codes.name == placed(place).name) return read_scaled_f8(file_, *config_.fp8, codes);
    const bool half = place.role != Role::down;  // of gate and up
    return read_scaled_f8(
        *config_.fp8, codes,
        scales_in_stack(*config_.fp8, codes, *scales,
                        {place.expert, config_.experts, int64_t{place.role == Role::up}, half ? 2 : 1}));
  }

  Weight view(const TensorView& tensor, int64_t rows, int64_t columns, const TensorPlace& place) const {
    if (is_block_quantized(tensor.type)) {
      if (!type_info(tensor.type).dequantize)
        fail(place, fmt::format("type {} cannot be decoded", type_info(tensor.type).name));
      return block_weight(tensor.type, rows, columns, tensor.data, tensor.file);
    }
    if (tensor.type == WeightType::f8_e4m3 && config_.fp8) return scaled(tensor, place);
    const auto scalar = tensor.type == WeightType::f32    ? at::kFloat
                        : tensor.type == WeightType::bf16 ? at::kBFloat16
                                                          : at::kHalf;
    if (scalar == at::kHalf && tensor.type != WeightType::f16)
      fail(place, fmt::format("type {} is not read as a weight; expected F32, F16, BF16 or a block type",
                              type_info(tensor.type).name));
    // The mapping is read-only and nothing writes into a frozen weight; whoever trains it takes a copy first.
    auto* data = const_cast<std::byte*>(tensor.data.data());
    auto dense = at::from_blob(
        data, {rows, columns}, [file = tensor.file](void*) {}, at::TensorOptions(scalar));
    const bool aligned = reinterpret_cast<uintptr_t>(data) % c10::elementSize(scalar) == 0;
    if (aligned) return dense_weight(dense);
    auto copy = at::empty({rows, columns}, at::TensorOptions(scalar));
    std::memcpy(copy.mutable_data_ptr(), data, tensor.data.size());
    return dense_weight(copy);
  }

  const WeightFile file_;
  const ModelConfig config_;
  const bool gguf_;
  const std::optional<WeightType> wanted_;
  const bool integers_;
};

// What a model that is read layer by layer may hold at a time: two layers, one at work and one on its way,
// where half of the memory is enough for them.
std::shared_ptr<LayerStream> stream_of(const std::shared_ptr<const Source>& source, const Model& model,
                                       uint64_t memory, const std::string& scratch) {
  std::map<int64_t, uint64_t> layers;
  uint64_t largest = 0, stored = 0, read = 0;
  for (const auto* linear : model.linears()) {
    layers[linear->place.layer] += source->held_bytes(linear->place);
    read += source->file_bytes(linear->place);
  }
  for (const auto& [layer, bytes] : layers) largest = std::max(largest, bytes), stored += bytes;
  return std::make_shared<LayerStream>(
      LayerStream::File{
          [source](const TensorPlace& place, bool first) { return source->base_of(place, first); },
          [source](const TensorPlace& place) { source->give_back(place); },
          [source](const TensorPlace& place) { return source->held_bytes(place); }},
      LayerStream::Budget{stored, std::min(2 * largest, memory / 2), memory / 4, scratch, read});
}

// Whether the layers stay in the file, and what they may take then.
std::optional<uint64_t> memory_of_layers(const ModelSpec& spec, const WeightFile& file, bool four_bit) {
  if (spec.schedule == "tokens") return std::nullopt;
  const auto given = byte_size(spec.memory);
  if (!spec.memory.empty() && !given)
    throw RecipeError("model.memory: '" + printable(spec.memory) +
                      "' is no size; expected a number with a unit, like 16GiB");
  const auto available = machine_memory().available;
  const auto wanted = wanted_type(spec);
  uint64_t held = 0;
  for (const auto& tensor : file.tensors) {
    const auto row = tensor.shape.empty() ? 1 : static_cast<uint64_t>(tensor.shape.back());
    const auto bytes = wanted ? row_bytes(*wanted, row) : std::nullopt;
    const auto stored =
        bytes ? *bytes * (static_cast<uint64_t>(tensor.elements()) / row) : tensor.data.size();
    // Words of 8 codes, and bytes of two, are as many numbers.
    held += wanted && four_bit && tensor.type == WeightType::i32  ? 8 * stored
            : wanted && four_bit && tensor.type == WeightType::u8 ? 2 * stored
                                                                  : stored;
  }
  const bool fits = held <= given.value_or(available);
  return spec.schedule == "auto" && fits ? std::nullopt : std::optional(given.value_or(available / 2));
}

// What model.mtp asks for is there, and one layer of it alone: nobody publishes weights of more.
void require_mtp(const ModelSpec& spec, const WeightFile& file, const ModelConfig& config) {
  const auto refuse = [&](const std::string& why) {
    throw RecipeError(fmt::format("model.mtp: {} {}; set it to false", printable(spec.path), why));
  };
  if (!std::filesystem::is_directory(spec.path))
    refuse("is a GGUF file, and the layer behind the last is read from folders alone");
  const auto module = module_name(config, {.layer = config.layers, .role = Role::mtp_join});
  if (std::ranges::none_of(file.tensors,
                           [&](const TensorView& tensor) { return tensor.name.starts_with(module + "."); }))
    refuse("has no " + module + ", and so no layer behind its last that predicts the token after the next");
}

// config.json may say that the head is the embedding while the file holds another matrix under the head's
// name: transformers then keeps the two apart. All bytes are compared, for one that differs is enough.
bool head_differs(const WeightFile& file) {
  const auto* head = file.find("lm_head.weight");
  const auto* embedding = file.find("model.embed_tokens.weight");
  if (!head || !embedding) return false;
  const bool same = head->type == embedding->type && head->shape == embedding->shape &&
                    std::ranges::equal(head->data, embedding->data);
  if (same) head->file->release(head->data);
  return !same;
}

// One hash for one or many files: the file's own, or that of the lines "hash  name".
Later<std::string> hash_of(const WeightFile& file) {
  std::vector<std::string> names;
  for (const auto& tensor : file.tensors)
    if (std::find(names.begin(), names.end(), tensor.file->name()) == names.end())
      names.push_back(tensor.file->name());
  std::sort(names.begin(), names.end());
  return Later<std::string>::of([names] {
    if (names.size() == 1) return sha256_file(names.front());
    std::string lines;
    for (const auto& name : names)
      lines += sha256_file(name) + "  " + std::filesystem::path(name).filename().string() + "\n";
    return sha256(lines);
  });
}

// The end-of-text ids that generation_config.json adds, and its other settings. `eos_is_named`: config.json
// itself names an end; a family's default gives way to generation_config.json.
void read_generation_config(const std::filesystem::path& file, LoadedModel& loaded, ModelConfig& config,
                            bool eos_is_named) {
  auto json = read_json(file);
  if (!json.is_object()) return;
  const auto take = [&](const Json& id) {
    if (id.is_number_integer() && id.get<int64_t>() >= 0 && id.get<int64_t>() < config.vocabulary &&
        std::find(config.eos.begin(), config.eos.end(), id.get<int32_t>()) == config.eos.end())
      config.eos.push_back(id.get<int32_t>());
  };
  if (const auto found = json.find("eos_token_id"); found != json.end()) {
    if (!eos_is_named) config.eos.clear();
    if (found->is_array())
      for (const auto& id : *found) take(id);
    else take(*found);
  }
  for (const char* written_anew :
       {"_from_model_config", "transformers_version", "bos_token_id", "eos_token_id", "pad_token_id"})
    json.erase(written_anew);
  if (!json.empty()) loaded.generation_settings = json.dump();
}

// One template, or the "default" of several with names; the others are kept beside it.
void take_templates(const Json& templates, LoadedModel& loaded) {
  if (templates.is_string()) loaded.chat_template_source = templates.get<std::string>();
  if (!templates.is_array()) return;
  for (const auto& one : templates) {
    if (!one.is_object() || !one.contains("name") || !one.contains("template") || !one["name"].is_string() ||
        !one["template"].is_string())
      continue;
    const auto name = one["name"].get<std::string>();
    auto& source = name == "default" ? loaded.chat_template_source
                                     : loaded.other_templates.emplace_back(name, "").second;
    source = one["template"].get<std::string>();
  }
}

void read_folder_extras(const std::filesystem::path& folder, LoadedModel& loaded, ModelConfig& config,
                        bool eos_is_named) {
  constexpr size_t kLargest = 1 << 20;
  if (const auto file = folder / "generation_config.json"; std::filesystem::exists(file))
    read_generation_config(file, loaded, config, eos_is_named);
  if (const auto file = folder / "tokenizer_config.json"; std::filesystem::exists(file)) {
    const auto json = read_json(file);
    if (json.is_object() && json.contains("chat_template")) take_templates(json["chat_template"], loaded);
  }
  if (const auto file = folder / "chat_template.jinja"; std::filesystem::exists(file))
    loaded.chat_template_source = read_text(file, kLargest);
  const auto more = folder / "additional_chat_templates";
  if (!std::filesystem::is_directory(more)) return;
  for (const auto& entry : std::filesystem::directory_iterator(more))
    if (entry.path().extension() == ".jinja")
      loaded.other_templates.emplace_back(entry.path().stem().string(), read_text(entry.path(), kLargest));
  std::sort(loaded.other_templates.begin(), loaded.other_templates.end());
}

void read_gguf_templates(const WeightFile& file, LoadedModel& loaded) {
  constexpr std::string_view kKey = "tokenizer.chat_template";
  for (const auto& [key, value] : file.gguf_metadata) {
    const auto* source = std::get_if<std::string>(&value);
    if (!source || !key.starts_with(kKey)) continue;
    if (key == kKey) loaded.chat_template_source = *source;
    else if (key[kKey.size()] == '.')
      loaded.other_templates.emplace_back(key.substr(kKey.size() + 1), *source);
  }
}

// A folder without tokenizer_config.json: config.json knows the ids.
void take_ids(Tokenizer& tokenizer, const ModelConfig& config) {
  const auto take = [&](std::optional<int32_t>& mine, std::optional<int32_t> id) {
    if (!mine && id && *id < tokenizer.size()) mine = id;
  };
  take(tokenizer.bos, config.bos);
  take(tokenizer.pad, config.pad);
  if (!config.eos.empty()) take(tokenizer.eos, config.eos.front());
}

std::shared_ptr<const Tokenizer> with_rows(std::unique_ptr<Tokenizer> tokenizer, const ModelConfig& config) {
  tokenizer->rows = config.vocabulary;
  return tokenizer;
}

}  // namespace

void require_model_path(const std::string& named, const std::filesystem::path& path) {
  if (std::filesystem::exists(path)) return;
  std::string what_to_do;
  for (auto folder = path.lexically_normal();
       what_to_do.empty() && folder.has_relative_path() && folder.has_parent_path();
       folder = folder.parent_path())
    if (folder.filename() == "export")
      what_to_do = "; an export of " + printable(folder.parent_path().string()) +
                   ": first run the recipe that writes there";
  throw FormatError(named + ": no such model folder or file" + what_to_do);
}

LoadedModel load_weights(const ModelSpec& spec) {
  LoadedModel loaded;
  loaded.path = spec.path;
  require_model_path(printable(spec.path), spec.path);
  const bool folder = std::filesystem::is_directory(spec.path);
  auto file = folder ? open_safetensors_folder(spec.path) : open_gguf(spec.path);
  ModelConfig config;
  if (folder) {
    const auto config_file = std::filesystem::path(spec.path) / "config.json";
    auto json = read_json(config_file);
    if (auto text = text_config(json, config_file.string())) {
      loaded.multimodal = true;
      loaded.left_out = keep_text_part(file);
      json = std::move(*text);
    }
    const bool packed_head = file.find("lm_head.qweight") || file.find("lm_head.weight_packed");
    config = config_from_hf(json, config_file.string(), packed_head || file.find("lm_head.weight"));
    if (packed_head) config.tied_head = false;
    read_folder_extras(spec.path, loaded, config, json.contains("eos_token_id"));
    if (config.tied_head && head_differs(file)) config.tied_head = false;
    if (spec.mtp) require_mtp(spec, file, config), config.mtp_layers = 1;
    loaded.beyond = count_beyond(file, config.layers + config.mtp_layers);
  } else {
    config = config_from_gguf(file);
    if (spec.mtp) require_mtp(spec, file, config);
    if (file.metadata("tokenizer.ggml.model"))
      loaded.tokenizer = with_rows(tokenizer_from_gguf(vocabulary_of(file), spec.path), config);
    read_gguf_templates(file, loaded);
  }
  if (!loaded.chat_template_source.empty())
    loaded.chat = chat_template_by_source(loaded.chat_template_source);
  loaded.sha256 = hash_of(file);
  const auto memory = memory_of_layers(spec, file, config.four_bit.has_value());
  const auto source = std::make_shared<const Source>(std::move(file), config, !folder, spec);
  try {
    loaded.model = build_model(
        config,
        [&](const TensorPlace& place) {
          return memory && place.layer >= 0 ? source->linear_without(place) : source->linear(place);
        },
        [&](const TensorPlace& place) { return source->vector(place); },
        [&](const TensorPlace& place) { return source->matrix(place); });
  } catch (const FormatError& error) {
    // A family compares shapes, and knows nothing of files.
    const std::string line = error.what();
    if (line.starts_with(printable(spec.path))) throw;
    throw FormatError(printable(spec.path) + ": " + line);
  }
  const auto linears = std::as_const(*loaded.model).linears();
  if (spec.mtp && std::ranges::none_of(
                      linears, [](const Linear* linear) { return linear->place.role == Role::mtp_join; }))
    throw RecipeError(fmt::format(
        "model.mtp: the layer behind the last is not computed for models of the family {}; set it to false",
        loaded.model->config.family));
  if (memory) loaded.model->read_layers_from(stream_of(source, *loaded.model, *memory, spec.scratch));
  if (spec.compute == "int8" && loaded.model->config.tied_head)
    loaded.model->head.linear.int8_scales = int8_row_scales(loaded.model->head.linear.weight);
  return loaded;
}

LoadedModel load_model(const ModelSpec& spec) {
  auto loaded = load_weights(spec);
  if (!loaded.tokenizer && std::filesystem::is_directory(spec.path)) {
    auto tokenizer = tokenizer_from_folder(spec.path);
    if (!std::filesystem::exists(std::filesystem::path(spec.path) / "tokenizer_config.json"))
      take_ids(*tokenizer, loaded.model->config);
    loaded.tokenizer = with_rows(std::move(tokenizer), loaded.model->config);
  }
  if (!loaded.tokenizer) corrupt(spec.path, "tokenizer.ggml.model", "missing: the file has no tokenizer");
  add_tokens(loaded, tokens_to_add(spec));
  loaded.chat = own_chat_template(own_templates(loaded), *loaded.tokenizer);
  return loaded;
}

std::optional<int32_t> end_of_answer(const LoadedModel& loaded) {
  if (!loaded.chat || !loaded.tokenizer) return std::nullopt;
  for (const auto& stop : loaded.chat->stops)
    if (const auto id = loaded.tokenizer->find(stop); id && loaded.tokenizer->is_special(*id)) return id;
  return std::nullopt;
}

void use_template(LoadedModel& loaded, const ChatTemplate& chat) {
  if (!loaded.chat || loaded.chat->name != chat.name) {
    const auto& tokenizer = *loaded.tokenizer;
    loaded.chat = &chat;
    loaded.chat_template_source =
        chat.source.empty() ? std::string(chat_template_source(chat.name, tokenizer.add_bos && tokenizer.bos))
                            : chat.source;
    loaded.other_templates.clear();  // of the old one's kind
    if (!chat.tools_source.empty()) loaded.other_templates = {{"tool_use", chat.tools_source}};
  }
  auto& ends = loaded.model->config.eos;
  const auto end = chat.stops.empty() ? loaded.tokenizer->eos : end_of_answer(loaded);
  if (end && *end < loaded.model->config.vocabulary &&
      std::find(ends.begin(), ends.end(), *end) == ends.end())
    ends.insert(ends.begin(), *end);
}

at::ScalarType compute_type(const ModelSpec& spec, at::Device device) {
  if (!device.is_cpu() && spec.compute == "int8")
    throw RecipeError(fmt::format(
        "compute: int8 is arithmetic of the CPU's kernels, and device is {}; set auto, bf16 or f32",
        device.str()));
  if (spec.compute == "f32") return at::kFloat;
  if (spec.compute == "bf16" || !device.is_cpu()) return at::kBFloat16;
  const auto& bf16 = gemm_kernel(Operand::bf16);
  if (&bf16 == gemm_kernel_amx_bf16()) return at::kBFloat16;  // tiles, whatever noise says
  // fp32 arithmetic where that is the faster of the two.
  const bool faster = bf16.operand == Operand::bf16 &&
                      gemm_speed(bf16).product > gemm_speed(gemm_kernel(Operand::f32)).product;
  return faster ? at::kBFloat16 : at::kFloat;
}

}  // namespace retort
