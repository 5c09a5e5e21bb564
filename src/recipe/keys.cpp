#include "recipe/keys.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/letters.h"
#include "recipe/other_tools.h"
#include "recipe/recipe.h"
#include "recipe/renamed.h"
#include "spec/spec_visitor.h"

namespace retort {

namespace {

class KeyLister : public SpecVisitor {
 public:
  std::vector<Key> keys;

 protected:
  void on_field(const std::string& name, Field field, const Rule& rule,
                const std::string& documentation) override {
    Key key{.path = path(name),
            .required = rule.required,
            .expected = expected(field, rule),
            .documentation = documentation};
    if (!rule.required) key.standard = yaml_value(field);
    if (std::holds_alternative<bool*>(field) || std::holds_alternative<std::optional<bool>*>(field))
      key.words = {"true", "false"};
    if (std::holds_alternative<std::string*>(field) ||
        std::holds_alternative<std::optional<std::string>*>(field))
      key.words = rule.one_of;
    keys.push_back(key);
  }
  bool enter_section(const std::string& name, bool always, bool, const std::string& documentation) override {
    keys.push_back(
        {.path = path(name), .section = true, .optional = !always, .documentation = documentation});
    prefixes_.push_back(path(name) + ".");
    return true;
  }
  void leave_section() override { prefixes_.pop_back(); }
  size_t enter_list(const std::string& name, size_t, const std::string& documentation) override {
    keys.push_back({.path = path(name), .section = true, .list = true, .documentation = documentation});
    prefixes_.push_back(path(name) + "[].");
    return 1;
  }
  void leave_list() override { prefixes_.pop_back(); }
  void enter_item(size_t) override {}
  void leave_item() override {}

 private:
  std::string path(const std::string& name) const {
    return (prefixes_.empty() ? "" : prefixes_.back()) + name;
  }
  std::vector<std::string> prefixes_;
};

// One value: type, bounds, words, default.
struct ValueSchema {
  const Rule& rule;

  template <class T> OrderedJson one() const {
    OrderedJson schema;
    if constexpr (std::is_same_v<T, bool>) schema["type"] = "boolean";
    if constexpr (std::is_same_v<T, int64_t>) schema["type"] = "integer";
    if constexpr (std::is_same_v<T, double>) {
      schema["type"] = "number";
      if (is_share(rule)) schema["type"] = {"number", "string"}, schema["pattern"] = "^[0-9.]+ ?%$";
    }
    if constexpr (std::is_same_v<T, int64_t> || std::is_same_v<T, double>) {
      const auto bound = [](double value) {
        return value == std::floor(value) ? OrderedJson(static_cast<int64_t>(value)) : OrderedJson(value);
      };
      if (std::isfinite(rule.low)) schema[rule.low_open ? "exclusiveMinimum" : "minimum"] = bound(rule.low);
      if (std::isfinite(rule.high))
        schema[rule.high_open ? "exclusiveMaximum" : "maximum"] = bound(rule.high);
    }
    if constexpr (std::is_same_v<T, std::string>) {
      schema["type"] = "string";
      if (!rule.one_of.empty()) schema["enum"] = rule.one_of;
      if (rule.not_empty) schema["minLength"] = 1;
    }
    return schema;
  }
  template <class T> OrderedJson operator()(const T* value) const {
    auto schema = one<T>();
    if (!rule.required) schema["default"] = *value;
    return schema;
  }
  template <class T> OrderedJson operator()(const std::optional<T>*) const {
    auto schema = one<T>();
    if (schema["type"].is_array()) schema["type"].push_back("null");
    else schema["type"] = {schema["type"], "null"};
    schema["default"] = nullptr;
    return schema;
  }
  template <class T> OrderedJson operator()(const std::vector<T>* values) const {
    OrderedJson schema{{"type", "array"}, {"items", one<T>()}};
    schema["items"].erase("minLength");
    if (rule.not_empty) schema["minItems"] = 1;
    if (!rule.required) schema["default"] = *values;
    return schema;
  }
  OrderedJson operator()(const NamedValues*) const {
    return {{"type", "object"},
            {"additionalProperties", {{"type", {"boolean", "number", "string", "null"}}}},
            {"default", OrderedJson::object()}};
  }
};

class SchemaWriter : public SpecVisitor {
 public:
  SchemaWriter() { open(); }
  OrderedJson finish() { return close(); }

 protected:
  void on_field(const std::string& name, Field field, const Rule& rule,
                const std::string& documentation) override {
    auto schema = std::visit(ValueSchema{rule}, field);
    schema["description"] = documentation;
    levels_.back()["properties"][name] = std::move(schema);
    if (rule.required) levels_.back()["required"].push_back(name);
  }
  bool enter_section(const std::string& name, bool always, bool, const std::string& documentation) override {
    names_.push_back({name, documentation, always});
    open();
    return true;
  }
  void leave_section() override {
    auto schema = close();
    if (schema.contains("required") && names_.back().always)
      levels_.back()["required"].push_back(names_.back().name);
    if (!names_.back().always) schema["type"] = {"object", "null"};
    place(std::move(schema));
  }
  size_t enter_list(const std::string& name, size_t, const std::string& documentation) override {
    names_.push_back({name, documentation, true});
    return 1;
  }
  void enter_item(size_t) override { open(); }
  void leave_item() override { item_ = close(); }
  void leave_list() override { place({{"type", "array"}, {"items", std::move(item_)}}); }

 private:
  struct Name {
    std::string name, documentation;
    bool always;
  };
  void open() {
    levels_.push_back(
        {{"type", "object"}, {"additionalProperties", false}, {"properties", OrderedJson::object()}});
  }
  OrderedJson close() {
    auto schema = std::move(levels_.back());
    levels_.pop_back();
    return schema;
  }
  void place(OrderedJson schema) {
    schema["description"] = names_.back().documentation;
    levels_.back()["properties"][names_.back().name] = std::move(schema);
    names_.pop_back();
  }
  std::vector<OrderedJson> levels_;
  std::vector<Name> names_;
  OrderedJson item_;
};

std::string value_line(const Key& key) {
  if (key.required) return key.expected + "; required";
  return fmt::format("{}; default {}", key.expected, key.standard);
}

// `documentation` broken at words, each line behind `indent` spaces.
std::string wrapped(const std::string& documentation, size_t indent) {
  constexpr size_t kWidth = 100;
  std::string text, line;
  for (size_t begin = 0; begin < documentation.size();) {
    const auto end = std::min(documentation.find(' ', begin), documentation.size());
    const auto word = documentation.substr(begin, end - begin);
    begin = end + 1;
    if (!line.empty() && indent + line.size() + 1 + word.size() > kWidth) {
      text += std::string(indent, ' ') + line + "\n";
      line.clear();
    }
    line += (line.empty() ? "" : " ") + word;
  }
  return text + std::string(indent, ' ') + line + "\n";
}

// A key as `retort explain` shows it.
std::string entry_text(const Key& entry) {
  const char* kind = entry.list       ? "  (list of sections)"
                     : entry.optional ? "  (section; left out unless written)"
                     : entry.section  ? "  (section)"
                                      : "";
  return entry.path + kind + "\n" + (entry.section ? "" : "    " + value_line(entry) + "\n") +
         wrapped(entry.documentation, 4);
}

// What a word, or several, that are no key of ours may be about: a key of another tool, and our keys in whose
// names or descriptions all of the words stand. "" where nothing is found.
std::string search(const std::string& words) {
  const auto other = explain_other_key(words);
  const auto wanted = words_of(lower_case(words));
  std::string named, found;
  for (const auto& entry : recipe_keys()) {
    if (std::find(other.ours.begin(), other.ours.end(), entry.path) != other.ours.end()) {
      named += entry_text(entry);
      continue;
    }
    const auto text = lower_case(entry.path + " " + entry.documentation);
    const bool all = std::all_of(wanted.begin(), wanted.end(), [&](const std::string& word) {
      return text.find(word) != std::string::npos;
    });
    if (all && !wanted.empty()) found += entry_text(entry);
  }
  std::string text = other.text + named;
  if (!found.empty())
    text += fmt::format("{}keys with '{}' in their names or descriptions:\n{}", text.empty() ? "" : "\n",
                        printable(words), found);
  return text;
}

std::string markdown(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '|' || c == '<' || c == '*') escaped += '\\';
    escaped += c;
  }
  return escaped;
}

}  // namespace

const std::vector<Key>& recipe_keys() {
  static const std::vector<Key> keys = [] {
    KeyLister lister;
    Recipe recipe;
    recipe.fields(lister);
    return lister.keys;
  }();
  return keys;
}

std::string explain(const std::string& key) {
  // data.sources[0].path, data.sources.0.path and data.sources[].path are the same key.
  std::string path;
  for (size_t i = 0; i < key.size(); ++i) {
    const bool index = (key[i] == '[' || key[i] == '.') && i + 1 < key.size() &&
                       (std::isdigit(static_cast<unsigned char>(key[i + 1])) || key[i + 1] == ']');
    if (!index) {
      path += key[i];
      continue;
    }
    path += "[]";
    while (i + 1 < key.size() && (std::isdigit(static_cast<unsigned char>(key[i + 1])) || key[i + 1] == ']'))
      ++i;
  }
  if (path.size() > 2 && path.ends_with("[]")) path.resize(path.size() - 2);
  std::string text;
  if (const auto now = name_now(path); !now.empty()) {
    text = fmt::format("{} is called {} now; the old name still works\n", path, now);
    path = now;
  }
  std::vector<std::string> paths;
  for (const auto& entry : recipe_keys()) {
    paths.push_back(entry.path);
    const bool wanted = path.empty() || entry.path == path || entry.path.starts_with(path + ".") ||
                        entry.path.starts_with(path + "[].");
    if (wanted) text += entry_text(entry);
  }
  if (text.empty()) text = search(key);
  if (!text.empty()) return text;
  auto near = nearest(path, paths);
  if (near.empty()) {
    for (const auto& candidate : paths) {
      if (candidate.ends_with("." + path)) near = candidate;
    }
  }
  throw RecipeError(
      fmt::format("explain: '{}' is no key of a recipe{}", printable(key),
                  near.empty() ? "; `retort explain` lists all" : fmt::format("; did you mean '{}'?", near)));
}

std::string recipe_reference() {
  std::string text =
      "# Recipe reference\n\n"
      "Written by `retort explain --markdown`; a test compares this file with the program. A recipe is a "
      "YAML file with these keys and no others.\n"
      "Every key can be set on the command line: `retort run recipes/a.yaml train.steps=40 "
      "data.sources.0.limit=500`.\n"
      "Several keys of a section stand in braces, and in quotes for the shell: `'train.optimizer={kind: "
      "lion, learning_rate: 3e-5}'` sets these two and leaves the others; `{}` sets all as they are without "
      "a "
      "word. A text is taken as it stands, braces too: `'data.sources.0.prompt={note}'`.\n"
      "Anchors, aliases, tags and several documents are refused; `${VAR}` is not expanded; paths are "
      "relative to the current folder.\n"
      "A number from 0 to 1 that is a share may be written in per cent: `warmup_share: 3%` is 0.03.\n";
  bool in_table = false;
  const auto table = [&] {
    if (!in_table) text += "\n| key | value | default | meaning |\n|---|---|---|---|\n";
    in_table = true;
  };
  for (const auto& key : recipe_keys()) {
    if (key.section) {
      const auto level = std::count(key.path.begin(), key.path.end(), '.');
      text += fmt::format("\n{} `{}`{}\n\n{}.\n", level == 0 ? "##" : "###", key.path,
                          key.list       ? " (list)"
                          : key.optional ? " (optional)"
                                         : "",
                          markdown(key.documentation));
      in_table = false;
      continue;
    }
    table();
    text += fmt::format("| `{}` | {} | {} | {} |\n", key.path, markdown(key.expected),
                        key.required ? "required" : "`" + key.standard + "`", markdown(key.documentation));
  }
  return text;
}

OrderedJson recipe_schema() {
  SchemaWriter writer;
  Recipe recipe;
  recipe.fields(writer);
  OrderedJson schema{{"$schema", "https://json-schema.org/draft/2020-12/schema"}, {"title", "retort recipe"}};
  schema.update(writer.finish());
  return schema;
}

}  // namespace retort
