// From a model folder or a .gguf file to a Model.

#include <fmt/ranges.h>

#include <algorithm>

#include "base/byte_size.h"
#include "base/error.h"
#include "base/machine_memory.h"
#include "formats/weight_file.h"
#include "models/add_tokens.h"
#include "models/layer_stream.h"
#include "models/layers.h"
#include "models/own_templates.h"
#include "models/read_config.h"
#include "models/stored_weights.h"
#include "models/tensor_names.h"
#include "models/text_part.h"
#include "models/weight_hash.h"

namespace retort {
namespace {

// What a model that is read layer by layer may hold at a time: two layers, one at work and one on its way,
// where half of the memory is enough for them.
std::shared_ptr<LayerStream> stream_of(const std::shared_ptr<const StoredWeights>& source, const Model& model,
                                       uint64_t memory, const ModelSpec& spec) {
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
      LayerStream::Budget{stored, std::min(2 * largest, memory / 2), memory / 4, spec.scratch, read,
                          memory / 2, spec.memory.empty(),
                          !spec.scratch.empty() && spec.scratch_holds == "activations"});
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

// Whether both tensors are there and are not the same. The pages of equal ones are given back.
bool differ(const WeightFile& file, const std::string& one, const std::string& other) {
  const auto *left = file.find(one), *right = file.find(other);
  if (!left || !right) return false;
  const bool same =
      left->type == right->type && left->shape == right->shape && std::ranges::equal(left->data, right->data);
  if (same) left->file->release(left->data);
  return !same;
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
  const auto layer = fmt::format("model.layers.{}.", config.layers);
  const std::pair<std::string, std::string> copies[] = {
      {layer + "embed_tokens.weight", "model.embed_tokens.weight"},
      {layer + "shared_head.head.weight", config.tied_head ? "model.embed_tokens.weight" : "lm_head.weight"}};
  for (const auto& [own, shared] : copies)
    if (differ(file, own, shared))
      refuse(fmt::format("has a {} that is another matrix than {}, with which that layer is computed", own,
                         shared));
}

// config.json may say that the head is the embedding while the file holds another matrix under the head's
// name: transformers then keeps the two apart. All bytes are compared, for one that differs is enough.
bool head_differs(const WeightFile& file) {
  return differ(file, "lm_head.weight", "model.embed_tokens.weight");
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
  const auto text = path.string();
  if (what_to_do.empty())
    what_to_do =
        "; expected a .gguf file, or a folder with config.json and *.safetensors, on this machine (nothing "
        "is downloaded" +
        std::string(text.starts_with('~') || text.find('$') != text.npos ? "; ~ and ${VAR} are not expanded)"
                                                                         : ")");
  throw FormatError(named + ": no such file or folder" + what_to_do);
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
  const auto source = std::make_shared<const StoredWeights>(std::move(file), config, !folder, spec);
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
  if (memory) loaded.model->read_layers_from(stream_of(source, *loaded.model, *memory, spec));
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
