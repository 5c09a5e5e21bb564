#include "formats/inspect.h"

#include <algorithm>
#include <map>

#include "base/hash.h"
#include "base/stop.h"
#include "formats/parse.h"

namespace retort {
namespace {

struct Total {
  uint64_t tensors = 0, parameters = 0, bytes = 0;
  void add(const TensorView& tensor) {
    ++tensors;
    parameters += static_cast<uint64_t>(tensor.elements());
    bytes += tensor.data.size();
  }
};

// Everything both outputs need, gathered in one pass.
struct Listing {
  WeightFile weights;
  std::map<std::string, Total> types;
  Total all;
  std::vector<std::pair<std::shared_ptr<const MappedFile>, std::string>>
      files;                               // SHA-256, or "" without hashes
  std::vector<std::string> tensor_hashes;  // empty without
};

std::string hash_of(std::span<const std::byte> data) {
  constexpr size_t kPart = size_t{64} << 20;
  Sha256 sum;
  for (; !data.empty(); data = data.subspan(std::min(kPart, data.size()))) {
    leave_if_stopped("hashing");
    sum.add(data.first(std::min(kPart, data.size())));
  }
  return sum.hex();
}

Listing list_file(const std::filesystem::path& path, InspectHashes hashes) {
  Listing listing;
  listing.weights = open_weights(path);
  for (const auto& tensor : listing.weights.tensors) {
    listing.types[std::string(type_info(tensor.type).name)].add(tensor);
    listing.all.add(tensor);
    if (listing.files.empty() || listing.files.back().first != tensor.file)
      listing.files.emplace_back(tensor.file, "");
    if (hashes == InspectHashes::files_and_tensors) listing.tensor_hashes.push_back(hash_of(tensor.data));
  }
  if (hashes != InspectHashes::none)
    for (auto& [file, hash] : listing.files) hash = hash_of(file->bytes());
  listing.weights.require_unchanged();
  return listing;
}

const char* value_type(const GgufValue& value) {
  constexpr const char* kNames[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                    "bool", "string", "array", "u64", "i64", "f64"};
  return kNames[value.index()];
}

template <class Element> std::string shown(const Element& value, size_t longest) {
  if constexpr (std::is_same_v<Element, std::string>) {
    const auto text = printable(value.substr(0, longest));
    return "'" + text + (value.size() > longest ? "...' (" + bytes(value.size()) + ")" : "'");
  } else if constexpr (std::is_same_v<Element, bool>) {
    return value ? "true" : "false";
  } else {
    return fmt::format("{}", +value);
  }
}

std::string shown_value(const GgufValue& value, const InspectOptions& options) {
  return std::visit(
      [&](const auto& held) -> std::string {
        using Held = std::decay_t<decltype(held)>;
        if constexpr (std::is_same_v<Held, GgufArray>) {
          return std::visit(
              [&](const auto& elements) {
                using Element = typename std::decay_t<decltype(elements)>::value_type;
                std::string text = fmt::format("{} x [", elements.size());
                for (size_t i = 0; i < std::min(elements.size(), options.most_elements); ++i) {
                  if (text.size() > options.longest_value) break;
                  text += (i ? ", " : "") + shown<Element>(elements[i], options.longest_value);
                }
                return text + (elements.size() > options.most_elements ? ", ...]" : "]");
              },
              held);
        } else {
          return shown<Held>(held, options.longest_value);
        }
      },
      value);
}

template <class Element> OrderedJson as_json(const Element& value) {
  // Bytes that are not UTF-8 (tokens of byte vocabularies) are escaped as in error messages.
  if constexpr (std::is_same_v<Element, std::string>) {
    try {
      static_cast<void>(OrderedJson(value).dump());
    } catch (const OrderedJson::exception&) { return printable(value); }
  }
  return value;
}

OrderedJson value_json(const GgufValue& value, const InspectOptions& options) {
  return std::visit(
      [&](const auto& held) -> OrderedJson {
        using Held = std::decay_t<decltype(held)>;
        if constexpr (std::is_same_v<Held, GgufArray>) {
          return std::visit(
              [&](const auto& elements) {
                using Element = typename std::decay_t<decltype(elements)>::value_type;
                OrderedJson first = OrderedJson::array();
                for (size_t i = 0; i < std::min(elements.size(), options.most_elements); ++i)
                  first.push_back(as_json<Element>(elements[i]));
                return OrderedJson{{"length", elements.size()}, {"first", first}};
              },
              held);
        } else {
          return as_json<Held>(held);
        }
      },
      value);
}

OrderedJson total_json(const Total& total) {
  return {{"tensors", total.tensors}, {"parameters", total.parameters}, {"bytes", total.bytes}};
}

std::string json_text(const Listing& listing, const InspectOptions& options) {
  OrderedJson out;
  out["path"] = printable(listing.weights.path.string());
  for (const auto& [file, hash] : listing.files) {
    OrderedJson entry = {{"file", printable(file->name())}, {"bytes", file->bytes().size()}};
    if (!hash.empty()) entry["sha256"] = hash;
    out["files"].push_back(entry);
  }
  out["metadata"] = OrderedJson::object();
  for (const auto& [key, value] : listing.weights.gguf_metadata)
    out["metadata"][printable(key)] = {{"type", value_type(value)}, {"value", value_json(value, options)}};
  for (const auto& [key, value] : listing.weights.safetensors_metadata)
    out["metadata"][printable(key)] = {{"type", "string"}, {"value", value}};
  out["total"] = total_json(listing.all);
  for (const auto& [type, total] : listing.types) out["types"][type] = total_json(total);
  out["tensors"] = OrderedJson::array();
  for (size_t i = 0; i < listing.weights.tensors.size(); ++i) {
    const auto& tensor = listing.weights.tensors[i];
    OrderedJson entry = {{"name", as_json(tensor.name)},
                         {"type", type_info(tensor.type).name},
                         {"shape", tensor.shape},
                         {"bytes", tensor.data.size()}};
    if (!listing.tensor_hashes.empty()) entry["sha256"] = listing.tensor_hashes[i];
    out["tensors"].push_back(entry);
  }
  return out.dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
}

std::string plain_text(const Listing& listing, const InspectOptions& options) {
  std::string out;
  const auto line = [&](const std::string& text) { out += text + "\n"; };
  for (const auto& [file, hash] : listing.files) {
    line(fmt::format("{}: {}", printable(file->name()), bytes(file->bytes().size())));
    if (!hash.empty()) line("  sha256 " + hash);
  }
  const auto metadata = listing.weights.gguf_metadata.size() + listing.weights.safetensors_metadata.size();
  line(fmt::format("\n{} metadata values", metadata));
  for (const auto& [key, value] : listing.weights.gguf_metadata)
    line(fmt::format("  {:<44} {:<6} {}", printable(key), value_type(value), shown_value(value, options)));
  for (const auto& [key, value] : listing.weights.safetensors_metadata)
    line(fmt::format("  {:<44} {}", printable(key), shown(value, options.longest_value)));

  size_t widest = 4;
  for (const auto& tensor : listing.weights.tensors)
    widest = std::max(widest, std::min<size_t>(printable(tensor.name).size(), 64));
  line(fmt::format("\n{} tensors", listing.weights.tensors.size()));
  for (size_t i = 0; i < listing.weights.tensors.size(); ++i) {
    const auto& tensor = listing.weights.tensors[i];
    line(fmt::format("  {:<{}} {:<8} {:<18} {:>14}{}", printable(tensor.name), widest,
                     type_info(tensor.type).name, describe_shape(tensor.shape), tensor.data.size(),
                     listing.tensor_hashes.empty() ? "" : "  " + listing.tensor_hashes[i]));
  }
  line(fmt::format("\n  {:<8} {:>8} {:>16} {:>16} {:>12}", "type", "tensors", "parameters", "bytes",
                   "bits/weight"));
  const auto total_line = [&](const std::string& name, const Total& total) {
    const double bits = total.parameters == 0
                            ? 0
                            : 8.0 * static_cast<double>(total.bytes) / static_cast<double>(total.parameters);
    line(fmt::format("  {:<8} {:>8} {:>16} {:>16} {:>12.2f}", name, total.tensors, total.parameters,
                     total.bytes, bits));
  };
  for (const auto& [type, total] : listing.types) total_line(type, total);
  total_line("all", listing.all);
  return out;
}

}  // namespace

std::string inspect(const std::filesystem::path& path, const InspectOptions& options) {
  const auto listing = list_file(path, options.hashes);
  return options.json ? json_text(listing, options) : plain_text(listing, options);
}

}  // namespace retort
