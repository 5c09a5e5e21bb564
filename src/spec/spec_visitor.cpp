#include "spec/spec_visitor.h"

#include <fmt/ranges.h>

#include <charconv>
#include <cmath>

#include "base/error.h"

namespace retort {

namespace {

std::string number(double value) {
  if (std::abs(value) < 1e15 && value == std::floor(value))
    return fmt::format("{}", static_cast<int64_t>(value));
  return fmt::format("{}", value);
}

std::string range(const Rule& rule) {
  const bool low = std::isfinite(rule.low), high = std::isfinite(rule.high);
  if (low && high && !rule.low_open && !rule.high_open)
    return fmt::format(" from {} to {}", number(rule.low), number(rule.high));
  std::string text;
  if (low) text += fmt::format(" {} {}", rule.low_open ? "above" : "of at least", number(rule.low));
  if (high)
    text +=
        fmt::format("{} {} {}", low ? " and" : "", rule.high_open ? "below" : "at most", number(rule.high));
  return text;
}

std::string words(const Rule& rule) { return fmt::format("one of {}", fmt::join(rule.one_of, ", ")); }

template <class T> std::string one(const Rule& rule) {
  if constexpr (std::is_same_v<T, bool>) return "true or false";
  if constexpr (std::is_same_v<T, int64_t>) return "a whole number" + range(rule);
  if constexpr (std::is_same_v<T, double>) return "a number" + range(rule);
  if constexpr (std::is_same_v<T, std::string>)
    return !rule.one_of.empty() ? words(rule) : rule.not_empty ? "text, not empty" : "text";
}

template <class T> std::string many(const Rule& rule) {
  const std::string ending = rule.not_empty ? ", not empty" : "";
  if constexpr (std::is_same_v<T, int64_t>)
    return fmt::format("a list of whole numbers{}{}", range(rule), ending);
  if constexpr (std::is_same_v<T, double>) return fmt::format("a list of numbers{}{}", range(rule), ending);
  if constexpr (std::is_same_v<T, std::string>) {
    return rule.one_of.empty() ? "a list of texts" + ending
                               : fmt::format("a list of any of {}{}", fmt::join(rule.one_of, ", "), ending);
  }
}

template <class T> std::string yaml(const T& value) {
  if constexpr (std::is_same_v<T, bool>) return value ? "true" : "false";
  if constexpr (std::is_same_v<T, int64_t>) return fmt::format("{}", value);
  if constexpr (std::is_same_v<T, double>) return shortest(value);
  if constexpr (std::is_same_v<T, std::string>) return yaml_text(value);
}

struct Expected {
  const Rule& rule;
  template <class T> std::string operator()(const T*) const { return one<T>(rule); }
  template <class T> std::string operator()(const std::vector<T>*) const { return many<T>(rule); }
  template <class T> std::string operator()(const std::optional<T>*) const { return one<T>(rule); }
  std::string operator()(const NamedValues*) const {
    return "names with a value each: true, false, a number or a text";
  }
};

struct Yaml {
  template <class T> std::string operator()(const T* value) const { return yaml(*value); }
  template <class T> std::string operator()(const std::optional<T>* value) const {
    return *value ? yaml(**value) : "null";
  }
  template <class T> std::string operator()(const std::vector<T>* values) const {
    std::vector<std::string> items;
    for (const auto& value : *values) items.push_back(yaml(value));
    return fmt::format("[{}]", fmt::join(items, ", "));
  }
  std::string operator()(const NamedValues* values) const {
    std::vector<std::string> items;
    for (const auto& [name, value] : values->entries) items.push_back(yaml_text(name) + ": " + value);
    return fmt::format("{{{}}}", fmt::join(items, ", "));
  }
};

}  // namespace

std::string expected(const Field& field, const Rule& rule) { return std::visit(Expected{rule}, field); }
std::string yaml_value(const Field& field) { return std::visit(Yaml{}, field); }

std::string yaml_text(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') quoted += '\\', quoted += c;
    else if (c == '\n') quoted += "\\n";
    else if (c == '\t') quoted += "\\t";
    else if (c == '\r') quoted += "\\r";
    else if (byte < 0x20 || byte == 0x7F) quoted += fmt::format("\\x{:02x}", byte);
    else quoted += c;
  }
  return quoted + '"';
}

std::string shortest(double value) {
  char buffer[40];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value).ptr;
  std::string text(buffer, end);
  // 2e-04 is text to YAML 1.1 readers: a number needs its point.
  if (const auto e = text.find('e'); e != std::string::npos && text.find('.') == std::string::npos)
    text.insert(e, ".0");
  return text;
}

}  // namespace retort
