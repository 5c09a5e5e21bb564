#include "formats/peft_folder.h"

#include <algorithm>
#include <map>

#include "formats/parse.h"

namespace retort {
namespace {

constexpr std::string_view kPrefix = "base_model.model.";
constexpr auto kConfig = "adapter_config.json";
constexpr auto kWeights = "adapter_model.safetensors";

// Cuts `part` off the end of a key: the module's name, or nullopt.
std::optional<std::string> module_before(std::string_view key, std::string_view part) {
  if (!key.ends_with(part) || key.size() == part.size()) return std::nullopt;
  return std::string(key.substr(0, key.size() - part.size()));
}

// PEFT's own state dicts have the adapter's name in the middle ("lora_A.default.weight",
// "lm_head.modules_to_save.default.weight"); its files do not, those of others do.
std::string without_default(std::string_view key) {
  std::string plain(key);
  for (const std::string_view part :
       {".lora_A", ".lora_B", ".lora_embedding_A", ".lora_embedding_B", ".lora_magnitude_vector",
        ".modules_to_save", ".trainable_tokens_delta"}) {
    const auto named = std::string(part) + ".default";
    const auto at = plain.find(named);
    if (at == std::string::npos || (at + named.size() < plain.size() && plain[at + named.size()] != '.'))
      continue;
    const bool saved = part == ".modules_to_save";
    plain.replace(at, named.size(), saved ? std::string_view() : part);
  }
  return plain;
}

void require_dense(const TensorView& tensor, size_t dimensions, const std::string& file) {
  if (tensor.type != WeightType::f32 && tensor.type != WeightType::f16 && tensor.type != WeightType::bf16)
    corrupt(file, tensor.name,
            fmt::format("is stored as {}; expected F32, F16 or BF16", type_info(tensor.type).name));
  if (tensor.shape.size() != dimensions)
    corrupt(file, tensor.name,
            fmt::format("has shape {}; expected {} dimensions", describe_shape(tensor.shape), dimensions));
}

// Which tokens' rows a module's tensor has.
const std::vector<int64_t>& token_ids(const PeftConfig& config, const std::string& module,
                                      const TensorView& tensor, const std::string& file) {
  for (const auto& [name, ids] : config.trainable_tokens) {
    if (module != name && !module.ends_with("." + name)) continue;
    require_dense(tensor, 2, file);
    if (tensor.shape[0] != static_cast<int64_t>(ids.size()))
      corrupt(file, tensor.name,
              fmt::format("has {} rows, and trainable_token_indices in {} names {} tokens", tensor.shape[0],
                          kConfig, ids.size()));
    return ids;
  }
  corrupt(file, tensor.name,
          fmt::format("trainable_token_indices in {} says nothing of this module", kConfig));
}

// PEFT wraps a module once for each parameter that is adapted, the first one innermost: of experts those are
// gate_up_proj and down_proj. nullopt: the module holds no experts, or the config names none of the two.
std::optional<std::string> stacked_parameter(const PeftConfig& config, std::string_view module) {
  constexpr std::string_view kInner = ".base_layer";
  const bool inner = module.ends_with(kInner);
  if (inner) module.remove_suffix(kInner.size());
  if (!module.ends_with(".experts")) return std::nullopt;
  const auto names = [&](const char* parameter) {
    const auto whole = std::string(module) + parameter;
    return std::any_of(
        config.target_parameters.begin(), config.target_parameters.end(), [&](const std::string& target) {
          return whole == target || whole.ends_with("." + target) || target.ends_with("." + whole);
        });
  };
  const bool gate_up = names(".gate_up_proj"), down = names(".down_proj");
  if (inner ? !gate_up || !down : !gate_up && !down) return std::nullopt;
  return std::string(module) + (inner || !down ? ".gate_up_proj" : ".down_proj");
}

PeftStack checked_stack(const std::string& name, const PeftModule& module, const PeftConfig& config,
                        const std::string& file) {
  if (!module.a || !module.b)
    corrupt(file, name, fmt::format("{} is missing", module.a ? "lora_B" : "lora_A"));
  if (module.magnitude || module.looked_up || config.use_dora)
    corrupt(file, name, "is a parameter of several experts; expected plain LoRA, lora_A and lora_B alone");
  require_dense(*module.a, 2, file);
  require_dense(*module.b, 2, file);
  const auto rank = peft_rank(config, name);
  if (rank < 1 || module.a->shape[0] % rank != 0 || module.a->shape[0] != module.b->shape[1])
    corrupt(file, name,
            fmt::format("lora_A {} and lora_B {} do not have the rank {} that {} gives, for each expert",
                        describe_shape(module.a->shape), describe_shape(module.b->shape), rank, kConfig));
  return {name, module.a, module.b, rank, peft_scaling(config, name)};
}

}  // namespace

void check_adapter_module(const PeftModule& module, int64_t rank, bool dora, const std::string& file) {
  const char* a = module.looked_up ? "lora_embedding_B" : module.transposed ? "lora_a" : "lora_A";
  const char* b = module.looked_up ? "lora_embedding_A" : module.transposed ? "lora_b" : "lora_B";
  const char* magnitude = module.transposed ? "m" : "lora_magnitude_vector";
  const char* setting = module.transposed ? "fine_tune_type: dora" : "use_dora";
  if (!module.a || !module.b) corrupt(file, module.name, fmt::format("{} is missing", module.a ? b : a));
  if (module.looked_up && (dora || module.magnitude))
    corrupt(file, module.name, "is an embedding adapted by DoRA, which is not supported");
  require_dense(*module.a, 2, file);
  require_dense(*module.b, 2, file);
  const size_t inner = module.transposed ? 1 : 0;
  if (module.a->shape[inner] != rank || module.b->shape[1 - inner] != rank)
    corrupt(file, module.name,
            fmt::format("{} {} and {} {} do not have the rank {} that {} gives", a,
                        describe_shape(module.a->shape), b, describe_shape(module.b->shape), rank, kConfig));
  if (dora != (module.magnitude != nullptr))
    corrupt(file, module.name,
            dora ? fmt::format("{} is set, but {} is missing", setting, magnitude)
                 : fmt::format("has a {}, but {} is not set", magnitude, setting));
  if (!module.magnitude) return;
  require_dense(*module.magnitude, 1, file);
  if (module.magnitude->shape[0] != module.b->shape[inner])
    corrupt(file, module.magnitude->name,
            fmt::format("has shape {}; {} has {} {}", describe_shape(module.magnitude->shape), b,
                        module.b->shape[inner], module.transposed ? "columns" : "rows"));
}

std::string peft_name(std::string_view module, std::string_view part) {
  return fmt::format("{}{}.{}", kPrefix, module, part);
}

PeftAdapter open_peft_folder(const std::filesystem::path& folder) {
  std::error_code error;
  const auto there = [&](const char* name) {
    return std::filesystem::exists(std::filesystem::symlink_status(folder / name, error));
  };
  if (!there(kConfig))
    corrupt(folder.string(), "", fmt::format("holds no {}; is it a PEFT adapter?", kConfig));
  if (!there(kWeights) && there("adapter_model.bin"))
    corrupt(folder.string(), "",
            "holds the adapter only as a pickle (adapter_model.bin), which runs code and is never opened; "
            "save it as safetensors with PEFT");

  PeftAdapter adapter;
  adapter.config = parse_peft_config(read_text(file_beneath(folder, kConfig), size_t{16} << 20),
                                     (folder / kConfig).string());
  adapter.file = std::make_shared<const WeightFile>(open_safetensors(file_beneath(folder, kWeights)));
  const auto file = adapter.file->path.string();
  std::map<std::string, PeftModule> modules, stacks;
  for (const auto& tensor : adapter.file->tensors) {
    std::string_view whole = tensor.name;
    if (whole.starts_with(kPrefix)) whole.remove_prefix(kPrefix.size());
    const auto key = without_default(whole);
    const TensorView* PeftModule::*part = nullptr;
    std::optional<std::string> name;
    if ((name = module_before(key, ".lora_A.weight"))) part = &PeftModule::a;
    else if ((name = module_before(key, ".lora_B.weight"))) part = &PeftModule::b;
    else if ((name = module_before(key, ".lora_magnitude_vector")) ||
             (name = module_before(key, ".lora_magnitude_vector.weight")))
      part = &PeftModule::magnitude;
    const bool looked_up = !part && ((name = module_before(key, ".lora_embedding_A")) ||
                                     (name = module_before(key, ".lora_embedding_B")));
    if (looked_up) part = key.ends_with('A') ? &PeftModule::b : &PeftModule::a;
    if (part) {
      const auto parameter = stacked_parameter(adapter.config, *name);
      if (!parameter && name->ends_with(".base_layer"))
        corrupt(file, tensor.name,
                fmt::format("adapts a parameter of several experts that {} does not name; expected "
                            "experts.gate_up_proj and experts.down_proj in target_parameters",
                            kConfig));
      auto& module = parameter ? stacks[*parameter] : modules[*name];
      if (module.*part) corrupt(file, tensor.name, "this part of the module stands twice");
      module.*part = &tensor;
      if (looked_up) module.looked_up = module.transposed = true;
    } else if ((name = module_before(key, ".token_adapter.trainable_tokens_delta"))) {
      adapter.rows.push_back({*name, token_ids(adapter.config, *name, tensor, file), &tensor});
    } else if ((name = module_before(key, ".base_layer.weight"))) {
      adapter.bases.push_back({*name, &tensor});
    } else if (key.find(".lora_") != key.npos) {
      corrupt(file, tensor.name,
              "this part of an adapter (a bias) is not supported; expected lora_A, lora_B, lora_embedding_A, "
              "lora_embedding_B or lora_magnitude_vector");
    } else {
      adapter.saved.push_back({key, &tensor});
    }
  }
  for (auto& [name, module] : modules) {
    module.name = name;
    check_adapter_module(module, peft_rank(adapter.config, name), adapter.config.use_dora, file);
    module.scaling = peft_scaling(adapter.config, name);
    adapter.modules.push_back(std::move(module));
  }
  for (const auto& [name, module] : stacks)
    adapter.stacks.push_back(checked_stack(name, module, adapter.config, file));
  if (adapter.modules.empty() && adapter.stacks.empty() && adapter.saved.empty() && adapter.rows.empty())
    corrupt(file, "", "holds no tensors");
  std::sort(adapter.saved.begin(), adapter.saved.end(),
            [](const auto& one, const auto& other) { return one.name < other.name; });
  return adapter;
}

void write_peft_folder(const std::filesystem::path& folder, const PeftConfig& config,
                       const std::vector<TensorSource>& tensors,
                       std::map<std::string, std::string> metadata) {
  metadata.emplace("format", "pt");
  make_folder(folder);
  std::error_code error;
  std::filesystem::remove(folder / kConfig,
                          error);  // of an earlier export: it must not be paired with the new weights
  write_safetensors(folder / kWeights, tensors, metadata);
  write_text(folder / kConfig, peft_config_text(config));
}

}  // namespace retort
