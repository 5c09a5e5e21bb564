// adapter_config.json: a closed list of the settings that matter, and an error for everything else that is
// switched on.
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "base/error.h"
#include "base/json.h"
#include "formats/peft_folder.h"

namespace retort {
namespace {

// Does a pattern key name this module? PEFT asks re.match(rf"(.*\.)?({key})$", module). Patterns come from
// outside: bounded steps.
bool pattern_matches(const std::string& key, std::string_view module) {
  const auto pattern = "(.*\\.)?(" + key + ")$";
  int error = 0;
  PCRE2_SIZE offset = 0;
  const std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)> code(
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                    PCRE2_ANCHORED | PCRE2_NEVER_BACKSLASH_C | PCRE2_DOLLAR_ENDONLY, &error, &offset,
                    nullptr),
      pcre2_code_free);
  if (!code) corrupt("adapter_config.json", key, "is not a regular expression that is understood here");
  const std::unique_ptr<pcre2_match_context, decltype(&pcre2_match_context_free)> limits(
      pcre2_match_context_create(nullptr), pcre2_match_context_free);
  pcre2_set_match_limit(limits.get(), 100'000);
  pcre2_set_depth_limit(limits.get(), 1'000);
  pcre2_set_heap_limit(limits.get(), 10'000);  // KiB
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> match(
      pcre2_match_data_create(1, nullptr), pcre2_match_data_free);
  const int found = pcre2_match(code.get(), reinterpret_cast<PCRE2_SPTR>(module.data()), module.size(), 0, 0,
                                match.get(), limits.get());
  if (found < 0 && found != PCRE2_ERROR_NOMATCH)
    corrupt("adapter_config.json", key, "this regular expression takes too many steps");
  return found >= 0;
}

template <class Value> Value matched(const std::vector<std::pair<std::string, Value>>& patterns,
                                     std::string_view module, Value otherwise) {
  for (const auto& [key, value] : patterns)
    if (pattern_matches(key, module)) return value;
  return otherwise;
}

class ConfigReader {
 public:
  ConfigReader(const OrderedJson& config, std::string_view file) : config_(config), file_(file) {}

  [[noreturn]] void refuse(const std::string& key, std::string_view problem) const {
    corrupt(file_, key, problem);
  }
  const OrderedJson* find(const std::string& key) const {
    const auto found = config_.find(key);
    return found == config_.end() || found->is_null() ? nullptr : &*found;
  }
  std::string word(const std::string& key) const {
    const auto* value = find(key);
    if (value && !value->is_string()) refuse(key, "expected text");
    return value ? value->get<std::string>() : "";
  }
  bool flag(const std::string& key) const {
    const auto* value = find(key);
    if (value && !value->is_boolean()) refuse(key, "expected true or false");
    return value && value->get<bool>();
  }
  double number(const std::string& key, double otherwise) const {
    const auto* value = find(key);
    if (value && !value->is_number()) refuse(key, "expected a number");
    return value ? value->get<double>() : otherwise;
  }
  int64_t rank(const std::string& key, const OrderedJson& value) const {
    if (!value.is_number_unsigned() || value.get<uint64_t>() < 1 || value.get<uint64_t>() > 65536)
      refuse(key, "expected a whole number from 1 to 65536");
    return value.get<int64_t>();
  }
  double alpha(const std::string& key, const OrderedJson& value) const {
    if (!value.is_number() || !std::isfinite(value.get<double>())) refuse(key, "expected a number");
    return value.get<double>();
  }
  std::vector<std::string> words(const std::string& key) const {
    const auto* value = find(key);
    std::vector<std::string> list;
    if (!value) return list;
    if (!value->is_array()) refuse(key, "expected a list of names");
    for (const auto& item : *value) {
      if (!item.is_string()) refuse(key, "expected a list of names");
      list.push_back(item.get<std::string>());
    }
    return list;
  }
  std::vector<int64_t> ids(const std::string& key, const OrderedJson& value) const {
    if (!value.is_array() || value.empty()) refuse(key, "expected a list of token ids");
    std::vector<int64_t> list;
    for (const auto& item : value) {
      if (!item.is_number_unsigned() || item.get<uint64_t>() > INT32_MAX)
        refuse(key, "expected a list of token ids");
      list.push_back(item.get<int64_t>());
    }
    return list;
  }
  const OrderedJson& object(const std::string& key) const {
    static const OrderedJson kNone = OrderedJson::object();
    const auto* value = find(key);
    if (value && !value->is_object()) refuse(key, "expected an object");
    return value ? *value : kNone;
  }

 private:
  const OrderedJson& config_;
  std::string_view file_;
};

// Off is what PEFT writes for a setting that is not used.
bool switched_off(const OrderedJson& value) {
  return value.is_null() || (value.is_boolean() && !value.get<bool>()) ||
         (value.is_structured() && value.empty()) ||
         (value.is_string() && value.get_ref<const std::string&>().empty()) ||
         (value.is_number() && value.get<double>() == 0);
}

// Read below, or without influence on what a finished adapter computes.
constexpr std::string_view kKnown[] = {"peft_type",
                                       "task_type",
                                       "base_model_name_or_path",
                                       "r",
                                       "lora_alpha",
                                       "lora_dropout",
                                       "target_modules",
                                       "target_parameters",
                                       "use_rslora",
                                       "use_dora",
                                       "modules_to_save",
                                       "rank_pattern",
                                       "alpha_pattern",
                                       "trainable_token_indices",
                                       "bias",
                                       "init_lora_weights",
                                       "revision",
                                       "inference_mode",
                                       "exclude_modules",
                                       "layers_to_transform",
                                       "layers_pattern",
                                       "auto_mapping",
                                       "peft_version",
                                       "megatron_core",
                                       "qalora_group_size",
                                       "ensure_weight_tying",
                                       "eva_config",
                                       "runtime_config"};

void refuse_unsupported(const OrderedJson& config, const ConfigReader& read) {
  if (const auto type = read.word("peft_type"); type != "LORA")
    read.refuse("peft_type", fmt::format("is '{}'; only LORA adapters are read", printable(type)));
  if (const auto task = read.word("task_type"); !task.empty() && task != "CAUSAL_LM")
    read.refuse("task_type", fmt::format("is '{}'; expected CAUSAL_LM", printable(task)));
  if (const auto bias = read.word("bias"); !bias.empty() && bias != "none")
    read.refuse("bias",
                fmt::format("is '{}': trained biases are not supported; expected 'none'", printable(bias)));
  if (const auto* init = read.find("init_lora_weights"); init && init->is_string()) {
    const auto& kind = init->get_ref<const std::string&>();
    if (kind != "gaussian" && kind != "eva" && kind != "orthogonal")
      read.refuse(
          "init_lora_weights",
          fmt::format(
              "is '{}', which alters the base weights; convert the adapter with PEFT to plain LoRA first",
              printable(kind)));
  }
  for (const auto& [key, value] : config.items())
    if (std::find(std::begin(kKnown), std::end(kKnown), key) == std::end(kKnown) && !switched_off(value))
      read.refuse(key, "is set, and this setting is not supported");
}

OrderedJson as_written(double value) {
  if (value == std::floor(value) && std::abs(value) < 1e15) return static_cast<int64_t>(value);
  return value;
}

}  // namespace

PeftConfig parse_peft_config(std::string_view text, std::string_view file) {
  parse_json(text, file);                      // depth, duplicates, UTF-8
  const auto json = OrderedJson::parse(text);  // the order of patterns counts
  if (!json.is_object()) corrupt(file, "", "expected a JSON object");
  const ConfigReader read(json, file);
  refuse_unsupported(json, read);

  PeftConfig config;
  config.base_model_name_or_path = read.word("base_model_name_or_path");
  if (const auto* rank = read.find("r")) config.r = read.rank("r", *rank);
  config.lora_alpha = read.number("lora_alpha", 8);
  config.lora_dropout = read.number("lora_dropout", 0);
  if (!(config.lora_dropout >= 0 && config.lora_dropout < 1))
    read.refuse("lora_dropout", "expected a number from 0 to below 1");
  if (const auto* targets = read.find("target_modules"); targets && targets->is_string())
    config.target_pattern = targets->get<std::string>();
  else config.target_modules = read.words("target_modules");
  config.target_parameters = read.words("target_parameters");
  // A linear layer's own matrix adapts as the layer does; the others are those of all experts of a layer.
  for (const auto& name : config.target_parameters)
    if (!name.ends_with(".weight") && !name.ends_with("experts.gate_up_proj") &&
        !name.ends_with("experts.down_proj"))
      read.refuse("target_parameters",
                  "is set to '" + printable(name) +
                      "', which is not supported; expected matrices of linear layers (*.weight), "
                      "experts.gate_up_proj and experts.down_proj");
  config.use_rslora = read.flag("use_rslora");
  config.use_dora = read.flag("use_dora");
  config.modules_to_save = read.words("modules_to_save");
  if (const auto* tokens = read.find("trainable_token_indices"); tokens && tokens->is_object())
    for (const auto& [key, value] : tokens->items())
      config.trainable_tokens.emplace_back(key, read.ids("trainable_token_indices." + key, value));
  else if (tokens)
    config.trainable_tokens.emplace_back("embed_tokens", read.ids("trainable_token_indices", *tokens));
  for (const auto& [key, value] : read.object("rank_pattern").items())
    config.rank_pattern.emplace_back(key, read.rank("rank_pattern." + key, value));
  for (const auto& [key, value] : read.object("alpha_pattern").items())
    config.alpha_pattern.emplace_back(key, read.alpha("alpha_pattern." + key, value));
  return config;
}

std::string peft_config_text(const PeftConfig& config) {
  OrderedJson json = {
      // sorted as PEFT sorts; patterns keep their order
      {"alora_invocation_tokens", nullptr},
      {"alpha_pattern", OrderedJson::object()},
      {"arrow_config", nullptr},
      {"auto_mapping", nullptr},
      {"base_model_name_or_path", nullptr},
      {"bias", "none"},
      {"corda_config", nullptr},
      {"ensure_weight_tying", false},
      {"eva_config", nullptr},
      {"exclude_modules", nullptr},
      {"fan_in_fan_out", false},
      {"inference_mode", true},
      {"init_lora_weights", true},
      {"kasa_config", nullptr},
      {"layer_replication", nullptr},
      {"layers_pattern", nullptr},
      {"layers_to_transform", nullptr},
      {"loftq_config", OrderedJson::object()},
      {"lora_alpha", as_written(config.lora_alpha)},
      {"lora_bias", false},
      {"lora_dropout", config.lora_dropout},
      {"lora_ga_config", nullptr},
      {"megatron_config", nullptr},
      {"megatron_core", "megatron.core"},
      {"modules_to_save", nullptr},
      {"monteclora_config", nullptr},
      {"peft_type", "LORA"},
      {"peft_version", "0.21.2"},
      {"qalora_group_size", 16},
      {"r", config.r},
      {"rank_pattern", OrderedJson::object()},
      {"revision", nullptr},
      {"target_modules", config.target_modules},
      {"target_parameters",
       config.target_parameters.empty() ? OrderedJson() : OrderedJson(config.target_parameters)},
      {"task_type", "CAUSAL_LM"},
      {"trainable_token_indices", nullptr},
      {"use_bdlora", nullptr},
      {"use_dora", config.use_dora},
      {"use_qalora", false},
      {"use_rslora", config.use_rslora},
      {"velora_config", nullptr}};
  if (!config.base_model_name_or_path.empty())
    json["base_model_name_or_path"] = config.base_model_name_or_path;
  if (!config.target_pattern.empty()) json["target_modules"] = config.target_pattern;
  // The embedding's alone are a list.
  const auto& tokens = config.trainable_tokens;
  if (tokens.size() == 1 && tokens[0].first == "embed_tokens")
    json["trainable_token_indices"] = tokens[0].second;
  else
    for (const auto& [module, ids] : tokens) json["trainable_token_indices"][module] = ids;
  if (!config.modules_to_save.empty()) json["modules_to_save"] = config.modules_to_save;
  for (const auto& [key, rank] : config.rank_pattern) json["rank_pattern"][key] = rank;
  for (const auto& [key, alpha] : config.alpha_pattern) json["alpha_pattern"][key] = as_written(alpha);
  return json.dump(2) + "\n";
}

int64_t peft_rank(const PeftConfig& config, std::string_view module) {
  return matched(config.rank_pattern, module, config.r);
}
double peft_alpha(const PeftConfig& config, std::string_view module) {
  return matched(config.alpha_pattern, module, config.lora_alpha);
}

double peft_scaling(const PeftConfig& config, std::string_view module) {
  const auto rank = static_cast<double>(peft_rank(config, module));
  return peft_alpha(config, module) / (config.use_rslora ? std::sqrt(rank) : rank);
}

}  // namespace retort
