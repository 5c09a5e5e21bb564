#include "formats/mlx_adapter.h"

#include <cmath>
#include <map>

#include "base/json.h"
#include "formats/parse.h"

namespace retort {
namespace {

constexpr auto kConfig = "adapter_config.json";
constexpr auto kWeights = "adapters.safetensors";
constexpr size_t kMostConfig = size_t{16} << 20;

struct MlxConfig {
  int64_t rank = 0;
  double scale = 1, dropout = 0;
  bool dora = false;
};

MlxConfig parse_config(const Json& json, const std::string& file) {
  MlxConfig config;
  const auto type = json.value("fine_tune_type", Json("lora"));
  if (type != "lora" && type != "dora")
    corrupt(file, "fine_tune_type",
            fmt::format("is {}; only lora and dora hold an adapter", printable(type.dump())));
  config.dora = type == "dora";
  const auto parameters = json.find("lora_parameters");
  if (parameters == json.end() || !parameters->is_object())
    corrupt(file, "lora_parameters", "expected an object with rank and scale");
  const auto number = [&](const char* key) {
    const auto found = parameters->find(key);
    if (found == parameters->end() || !found->is_number() || !std::isfinite(found->get<double>()))
      corrupt(file, std::string("lora_parameters.") + key, "expected a number");
    return found->get<double>();
  };
  const auto rank = number("rank");
  if (!(rank >= 1 && rank <= 65536) || rank != std::floor(rank))
    corrupt(file, "lora_parameters.rank", "expected a whole number from 1 to 65536");
  config.rank = static_cast<int64_t>(rank);
  config.scale = number("scale");
  if (parameters->contains("dropout")) config.dropout = number("dropout");
  if (!(config.dropout >= 0 && config.dropout < 1))
    corrupt(file, "lora_parameters.dropout", "expected a number from 0 to below 1");
  // mlx-lm of early 2024 multiplied the scale by alpha / rank, later ones do not look at alpha.
  if (parameters->contains("alpha") && number("alpha") != rank)
    corrupt(file, "lora_parameters.alpha",
            fmt::format("is {:g}: mlx-lm of early 2024 scales by scale * alpha / rank = {:g}, later ones by "
                        "scale = {:g}; write the one it was trained with as scale, and take alpha out",
                        number("alpha"), config.scale * number("alpha") / rank, config.scale));
  return config;
}

Json read_config(const std::filesystem::path& folder) {
  return parse_json(read_text(file_beneath(folder, kConfig), kMostConfig), (folder / kConfig).string());
}

}  // namespace

bool is_mlx_adapter(const std::filesystem::path& folder) {
  std::error_code error;
  if (!std::filesystem::exists(std::filesystem::symlink_status(folder / kConfig, error))) return false;
  const auto json = read_config(folder);
  return json.is_object() && !json.contains("peft_type") &&
         (json.contains("lora_parameters") || json.contains("fine_tune_type"));
}

PeftAdapter open_mlx_adapter(const std::filesystem::path& folder) {
  const auto config = parse_config(read_config(folder), (folder / kConfig).string());
  PeftAdapter adapter;
  adapter.config.r = config.rank;
  adapter.config.lora_alpha = config.scale * static_cast<double>(config.rank);
  adapter.config.lora_dropout = config.dropout;
  adapter.config.use_dora = config.dora;
  adapter.file = std::make_shared<const WeightFile>(open_safetensors(file_beneath(folder, kWeights)));
  const auto file = adapter.file->path.string();
  std::map<std::string, PeftModule> modules;
  for (const auto& tensor : adapter.file->tensors) {
    const std::string_view name = tensor.name;
    const auto dot = name.rfind('.');
    const auto part = dot == name.npos ? std::string_view() : name.substr(dot + 1);
    const auto place = part == "lora_a"             ? &PeftModule::a
                       : part == "lora_b"           ? &PeftModule::b
                       : part == "m" && config.dora ? &PeftModule::magnitude
                                                    : nullptr;
    if (!place || dot == 0)
      corrupt(file, tensor.name,
              fmt::format("is no part of an adapter; expected names that end in .lora_a, .lora_b{}",
                          config.dora ? " or .m" : ""));
    if (name.find(".switch_mlp.") != name.npos)
      corrupt(file, tensor.name, "adapts all experts of a layer as one tensor, which is not supported");
    modules[std::string(name.substr(0, dot))].*place = &tensor;
  }
  for (auto& [name, module] : modules) {
    module.name = name;
    module.transposed = true;
    // An embedding's lora_a is looked up: [tokens, r], and lora_b is [r, hidden].
    if (name == "embed_tokens" || name.ends_with(".embed_tokens")) {
      std::swap(module.a, module.b);
      module.transposed = false, module.looked_up = true;
    }
    module.scaling = config.scale;
    check_adapter_module(module, config.rank, config.dora, file);
    adapter.modules.push_back(std::move(module));
  }
  if (adapter.modules.empty()) corrupt(file, "", "holds no tensors");
  return adapter;
}

}  // namespace retort
