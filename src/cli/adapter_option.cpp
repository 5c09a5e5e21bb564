#include "cli/adapter_option.h"

#include <charconv>
#include <cmath>
#include <filesystem>

#include "base/tell.h"

namespace retort {

AdapterOptions add_adapter_option(CLI::App& command) {
  auto adapters = std::make_shared<std::vector<std::string>>();
  command
      .add_option(
          "--adapter", *adapters,
          "adapter folder (PEFT, mlx-lm) or GGUF LoRA file to put on the model, as PATH or PATH=WEIGHT; "
          "several are summed")
      ->allow_extra_args(false);  // one a time: --adapter A --adapter B=0.5
  return adapters;
}

WeightedAdapter weighted_adapter(const std::string& text) {
  const auto at = text.rfind('=');
  if (at == std::string::npos || std::filesystem::exists(text)) return {text, 1};
  WeightedAdapter adapter{text.substr(0, at), 0};
  const auto* end = text.data() + text.size();
  const auto [rest, code] = std::from_chars(text.data() + at + 1, end, adapter.weight);
  if (at == 0 || code != std::errc{} || rest != end || !std::isfinite(adapter.weight))
    throw RecipeError(fmt::format(
        "--adapter: expected PATH or PATH=WEIGHT with a number as weight, found '{}'", printable(text)));
  return adapter;
}

std::vector<WeightedAdapter> weighted_adapters(const std::vector<std::string>& texts) {
  std::vector<WeightedAdapter> adapters;
  for (const auto& text : texts) adapters.push_back(weighted_adapter(text));
  return adapters;
}

void load_adapters(LoadedModel& loaded, const AdapterOptions& options) {
  for (const auto& note : load_adapters(loaded, weighted_adapters(*options))) tell("note: " + note);
}

}  // namespace retort
