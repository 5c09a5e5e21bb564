// A family's keys of GGUF metadata, in and out: what config_gguf.cpp and write_config.cpp offer to the
// families.
#pragma once
#include <cmath>

#include "base/error.h"
#include "formats/weight_file.h"
#include "models/families.h"

namespace retort {

class GgufMetadata {
 public:
  // `arch`: "llama."; a key that begins with a dot is the architecture's own.
  explicit GgufMetadata(const WeightFile& file, std::string arch = "")
      : file_(file), arch_(std::move(arch)) {}

  std::optional<double> number(const std::string& key) const {
    const auto* value = file_.metadata(full(key));
    if (!value) return std::nullopt;
    return std::visit(
        [&](const auto& held) -> double {
          using Held = std::decay_t<decltype(held)>;
          if constexpr (std::is_arithmetic_v<Held> && !std::is_same_v<Held, bool>)
            return static_cast<double>(held);
          else fail(key, "expected a number");
        },
        static_cast<const GgufValue::variant&>(*value));
  }
  std::optional<int64_t> whole(const std::string& key) const {
    const auto value = number(key);
    if (!value) return std::nullopt;
    if (*value != std::floor(*value) || *value < 0 || *value > 1e9)
      fail(key, fmt::format("expected a whole number from 0 to 1000000000, found {}", *value));
    return static_cast<int64_t>(*value);
  }
  int64_t required(const std::string& key) const {
    const auto value = whole(key);
    if (!value) fail(key, "missing; a model file has it");
    if (*value == 0) fail(key, "is 0");
    return *value;
  }
  std::optional<std::string> text(const std::string& key) const {
    const auto* value = file_.metadata(full(key));
    if (!value) return std::nullopt;
    if (const auto* held = std::get_if<std::string>(value)) return *held;
    fail(key, "expected a string");
  }
  bool is_list(const std::string& key) const {
    const auto* value = file_.metadata(full(key));
    return value && std::holds_alternative<GgufArray>(*value);
  }
  std::optional<bool> truth(const std::string& key) const {
    const auto* value = file_.metadata(full(key));
    if (!value) return std::nullopt;
    if (const auto* held = std::get_if<bool>(value)) return *held;
    fail(key, "expected a boolean");
  }
  template <class Element> std::vector<Element> list(const std::string& key) const {
    const auto* value = file_.metadata(full(key));
    if (!value) return {};
    const auto* array = std::get_if<GgufArray>(value);
    if (!array) fail(key, "expected an array");
    return std::visit(
        [&](const auto& held) -> std::vector<Element> {
          using Held = typename std::decay_t<decltype(held)>::value_type;
          if constexpr (std::is_same_v<Held, Element>) return held;
          else if constexpr (std::is_arithmetic_v<Held> && std::is_arithmetic_v<Element>)
            return std::vector<Element>(held.begin(), held.end());
          else fail(key, "has elements of the wrong type");
        },
        *array);
  }
  [[noreturn]] void fail(const std::string& key, const std::string& problem) const {
    corrupt(file_.path.string(), full(key), problem);
  }

  bool holds(const char* tensor) const { return file_.find(tensor) != nullptr; }

 private:
  std::string full(const std::string& key) const {
    return key.starts_with(".") ? arch_ + key.substr(1) : key;
  }
  const WeightFile& file_;
  std::string arch_;
};

void read_gguf_experts(const GgufMetadata& data, ModelConfig& config);
// A list of the layers that have a window, where the file holds one.
void read_gguf_window_list(const GgufMetadata& data, ModelConfig& config);

// The keys of a file in their order; a family calls for the parts that it has.
class GgufKeys {
 public:
  explicit GgufKeys(const ModelConfig& config);  // general.*, sizes
  void experts();
  void attention();                                   // heads, norms, rotation, vocabulary
  void windows(bool listed = true);                   // listed: those of some layers as a list
  void scaling();                                     // of the rotation
  void whole(const std::string& key, int64_t value);  // ".block_count"
  void number(const std::string& key, double value);
  void add(const std::string& key, GgufValue value);

  std::vector<std::pair<std::string, GgufValue>> all;

 private:
  const ModelConfig& config_;
  std::string arch_;
};

}  // namespace retort
