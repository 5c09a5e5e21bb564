#include "base/json.h"

#include "base/error.h"
#include "base/files.h"

namespace retort {
namespace {

constexpr size_t kDeepest = 64;

// Builds the tree from the parser's events, which keep no stack of their own: depth is bounded before a level
// exists.
class TreeBuilder : public nlohmann::json_sax<Json> {
 public:
  explicit TreeBuilder(std::string_view file) : file_(file) {}
  Json root;

  bool null() override { return place(nullptr), true; }
  bool boolean(bool value) override { return place(value), true; }
  bool number_integer(number_integer_t value) override { return place(value), true; }
  bool number_unsigned(number_unsigned_t value) override { return place(value), true; }
  bool number_float(number_float_t value, const string_t&) override { return place(value), true; }
  bool string(string_t& value) override { return place(std::move(value)), true; }
  bool binary(binary_t&) override { return false; }

  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override { return open_.pop_back(), true; }
  bool end_array() override { return open_.pop_back(), true; }

  bool key(string_t& name) override {
    const auto [entry, fresh] = open_.back()->get_ref<Json::object_t&>().try_emplace(std::move(name));
    if (!fresh) corrupt(file_, entry->first, "this key stands twice in one JSON object");
    value_ = &entry->second;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    // 406: a number beyond a double's range.
    corrupt(file_, fmt::format("byte {}", position),
            error.id == 406 ? "this number is out of range" : kBrokenJson);
  }

 private:
  Json& place(Json value) {
    if (open_.empty()) return root = std::move(value);
    if (open_.back()->is_array())
      return open_.back()->get_ref<Json::array_t&>().emplace_back(std::move(value));
    return *value_ = std::move(value);
  }

  bool open(Json container) {
    if (open_.size() == kDeepest)
      corrupt(file_, "", fmt::format("is nested deeper than {} levels", kDeepest));
    open_.push_back(&place(std::move(container)));  // stays put: its parent grows only after it is closed
    return true;
  }

  std::string_view file_;
  std::vector<Json*> open_;
  Json* value_ = nullptr;  // where the value of the current key goes
};

}  // namespace

Json parse_json(std::string_view text, std::string_view file) {
  // The parser takes a NUL for the end of the text and would ignore what follows.
  if (const auto nul = text.find('\0'); nul != text.npos)
    corrupt(file, fmt::format("byte {}", nul), "JSON holds no NUL bytes");
  TreeBuilder builder(file);
  try {
    Json::sax_parse(text.begin(), text.end(), &builder);
  } catch (const Json::exception&) { corrupt(file, "", "is not valid JSON"); }
  return std::move(builder.root);
}

Json read_json(const std::filesystem::path& path) {
  constexpr size_t kLargest = size_t{512} << 20;
  const MappedFile file(path);
  if (file.bytes().size() > kLargest)
    corrupt(file.name(), "",
            "is " + bytes(file.bytes().size()) + "; at most " + bytes(kLargest) + " of JSON are read");
  return parse_json(file.text(), file.name());
}

std::optional<uint64_t> whole_number(const Json& value) {
  return value.is_number_unsigned() ? std::optional(value.get<uint64_t>()) : std::nullopt;
}

}  // namespace retort
