// A family's keys of config.json, in and out: what config_hf.cpp and write_config.cpp offer to the families.
#pragma once
#include "base/error.h"
#include "models/families.h"

namespace retort {

// A section of config.json; errors name the file and the key.
class HfConfig {
 public:
  HfConfig(const Json& json, std::string file, std::string path = "")
      : json_(json), file_(std::move(file)), path_(std::move(path)) {}

  const Json* find(const std::string& key) const {
    const auto found = json_.find(key);
    return found == json_.end() || found->is_null() ? nullptr : &*found;
  }
  // A key that is null says "none"; only one that is absent takes the family's default.
  bool names(const std::string& key) const { return json_.contains(key); }
  std::optional<double> number(const std::string& key) const {
    const auto* value = find(key);
    if (!value) return std::nullopt;
    if (!value->is_number()) fail(key, "expected a number");
    return value->get<double>();
  }
  std::optional<int64_t> whole(const std::string& key) const {
    const auto* value = find(key);
    if (!value) return std::nullopt;
    if (!value->is_number_integer() || value->get<double>() < 0 || value->get<double>() > 1e9)
      fail(key, "expected a whole number from 0 to 1000000000");
    return value->get<int64_t>();
  }
  int64_t required(const std::string& key) const {
    const auto value = whole(key);
    if (!value || *value == 0) fail(key, "missing or 0; expected a positive whole number");
    return *value;
  }
  std::optional<std::string> text(const std::string& key) const {
    const auto* value = find(key);
    if (!value) return std::nullopt;
    if (!value->is_string()) fail(key, "expected a string");
    return value->get<std::string>();
  }
  bool truth(const std::string& key, bool otherwise) const {
    const auto* value = find(key);
    if (!value) return otherwise;
    if (!value->is_boolean()) fail(key, "expected true or false");
    return value->get<bool>();
  }
  std::vector<double> numbers(const std::string& key) const {
    const auto* value = find(key);
    if (!value) return {};
    if (!value->is_array()) fail(key, "expected a list of numbers");
    std::vector<double> list;
    for (const auto& element : *value) {
      if (!element.is_number()) fail(key, "expected a list of numbers");
      list.push_back(element.get<double>());
    }
    return list;
  }
  std::optional<HfConfig> section(const std::string& key) const {
    const auto* value = find(key);
    if (!value) return std::nullopt;
    if (!value->is_object()) fail(key, "expected a section");
    return HfConfig(*value, file_, path_ + key + ".");
  }
  [[noreturn]] void fail(const std::string& key, const std::string& problem) const {
    corrupt(file_, path_ + key, problem);
  }

 private:
  const Json& json_;
  std::string file_, path_;
};

// What the class of the family says of an absent key.
double number_or_default(const HfConfig& config, const char* key, double otherwise);

// One section of rope_parameters or rope_scaling, whose own theta wins.
RopeConfig read_rope_section(const HfConfig& section, double theta, const HfConfig& whole,
                             const ModelConfig& model);
// The one rotation of a model: rope_parameters, or the old pair rope_theta and rope_scaling.
RopeConfig read_rope(const HfConfig& config, const ModelConfig& model);

// The same, of queries that grow along a text (llama_4_scaling_beta of the section; 0 where it is absent).
RopeConfig read_growing_rope(const HfConfig& config, const ModelConfig& model);

// sliding_window, or the family's default.
int64_t read_window(const HfConfig& config, const ModelConfig& model);
// Which layers see only a window: `layer_types` where it is written, else those of `habit`; nullptr: all.
void read_windows(const HfConfig& config, ModelConfig& model, int64_t window,
                  const std::function<bool(int64_t layer)>& habit);
void read_qwen_windows(const HfConfig& config, ModelConfig& model);

// num_experts or num_local_experts, and how many see a token.
void read_experts(const HfConfig& config, ModelConfig& model);
// attention_bias of q, k, v and o; read_biases: Llama's mlp_bias too.
void read_attention_bias(const HfConfig& config, ModelConfig& model);
void read_biases(const HfConfig& config, ModelConfig& model);

// config.json in its order: names and sizes; [experts]; the shape; the rotation; windows.
OrderedJson hf_sizes(const ModelConfig& config);
void add_hf_experts(const ModelConfig& config, const char* key, OrderedJson& json);
void add_hf_shape(const ModelConfig& config, OrderedJson& json);
void add_hf_rope(const ModelConfig& config, OrderedJson& json);
OrderedJson rope_json(const RopeConfig& rope);
// Llama 3's parameters behind the frequency divisors of a GGUF file.
RopeConfig with_llama3_parameters(const ModelConfig& config);
void add_hf_biases(const ModelConfig& config, OrderedJson& json);
// sliding_window (null where there is none, if `null_too`) and layer_types.
void add_hf_windows(const ModelConfig& config, bool null_too, OrderedJson& json);

}  // namespace retort
