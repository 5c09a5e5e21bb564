// `retort inspect FILE`: what a weight file holds.
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <map>

#include "base/hash.h"
#include "base/stop.h"
#include "cli/commands.h"
#include "formats/weight_file.h"

namespace retort {

namespace {

template <class T> std::string shown_value(const T& value) {
  if constexpr (std::is_same_v<T, std::string>) return "\"" + printable(value) + "\"";
  else if constexpr (std::is_same_v<T, bool>) return value ? "true" : "false";
  else return fmt::format("{}", value);
}

// Vocabularies hold 100,000 entries: a list shows its first few.
std::string shown(const GgufValue& value) {
  return std::visit(
      [](const auto& held) -> std::string {
        using Held = std::decay_t<decltype(held)>;
        if constexpr (std::is_same_v<Held, GgufArray>) {
          return std::visit(
              [](const auto& items) {
                using Item = typename std::decay_t<decltype(items)>::value_type;
                std::string text = "[";
                for (size_t i = 0; i < items.size() && i < 6; ++i)
                  text += (i ? ", " : "") + shown_value<Item>(static_cast<Item>(items[i]));
                if (items.size() > 6) text += fmt::format(", ... {} in all", items.size());
                return text + "]";
              },
              held);
        } else {
          return shown_value(held);
        }
      },
      static_cast<const GgufValue::variant&>(value));
}

std::string_view type_name(WeightType type) { return type_info(type).name; }

Exit inspect(const std::string& path, bool hashes) {
  const auto file = open_weights(path);
  fmt::print("{}\n", printable(file.path.string()));
  for (const auto& [key, value] : file.gguf_metadata) fmt::print("  {} = {}\n", printable(key), shown(value));
  for (const auto& [key, value] : file.safetensors_metadata)
    fmt::print("  {} = \"{}\"\n", printable(key), printable(value));

  struct Sum {
    int64_t tensors = 0, elements = 0;
    uint64_t bytes = 0;
  };
  std::map<std::string, Sum> by_type;
  Sum all;
  fmt::print("\n{:<48} {:<8} {:<20} {:>14}{}\n", "tensor", "type", "shape", "bytes",
             hashes ? "  sha256" : "");
  for (const auto& tensor : file.tensors) {
    leave_if_stopped("inspecting");
    fmt::print("{:<48} {:<8} {:<20} {:>14}{}\n", printable(tensor.name), type_name(tensor.type),
               fmt::format("[{}]", fmt::join(tensor.shape, ", ")), tensor.data.size(),
               hashes ? "  " + sha256(tensor.data) : "");
    for (auto* sum : {&by_type[std::string(type_name(tensor.type))], &all}) {
      ++sum->tensors;
      sum->elements += tensor.elements();
      sum->bytes += tensor.data.size();
    }
  }
  fmt::print("\n{:<8} {:>8} {:>14} {:>14} {:>12}\n", "type", "tensors", "weights", "bytes", "bits/weight");
  const auto line = [](const std::string& name, const Sum& sum) {
    fmt::print("{:<8} {:>8} {:>14} {:>14} {:>12.3f}\n", name, sum.tensors, sum.elements, sum.bytes,
               sum.elements ? 8.0 * static_cast<double>(sum.bytes) / static_cast<double>(sum.elements) : 0.0);
  };
  for (const auto& [name, sum] : by_type) line(name, sum);
  line("all", all);

  std::map<std::string, bool> files;
  for (const auto& tensor : file.tensors) files[tensor.file->name()] = true;
  fmt::print("\n");
  for (const auto& [name, used] : files) fmt::print("sha256 {}  {}\n", sha256_file(name), printable(name));
  file.require_unchanged();
  return Exit::done;
}

}  // namespace

void add_inspect(CLI::App& app, Action& action) {
  struct Options {
    std::string path;
    bool hashes = false;
  };
  auto* command =
      app.add_subcommand("inspect", "List tensors, metadata, sizes and hashes of a weight file or folder");
  auto options = std::make_shared<Options>();
  command
      ->add_option("path", options->path,
                   "a .gguf or .safetensors file, a model folder or a PEFT adapter folder")
      ->required();
  command->add_flag("--hashes", options->hashes, "the sha256 of every tensor");
  command->callback(
      [options, &action] { action = [options] { return inspect(options->path, options->hashes); }; });
}

}  // namespace retort
