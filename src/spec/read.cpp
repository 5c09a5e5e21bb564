#include "spec/read.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "base/json.h"
#include "base/letters.h"

namespace retort {

namespace {

// What stands there, for "found ...".
std::string found(const YamlNode& node) {
  switch (node.kind) {
    case YamlNode::Kind::null: return "nothing";
    case YamlNode::Kind::list: return fmt::format("a list of {}", node.items.size());
    case YamlNode::Kind::map: return "a section with keys of its own";
    case YamlNode::Kind::scalar: break;
  }
  return node.quoted ? fmt::format("the text \"{}\"", printable(node.text))
                     : fmt::format("'{}'", printable(node.text));
}

bool in_range(double value, const Rule& rule) {
  return (rule.low_open ? value > rule.low : value >= rule.low) &&
         (rule.high_open ? value < rule.high : value <= rule.high);
}

// Digits of a decimal number without the readings YAML 1.1 gives them: 010 is neither 8 nor 10 here.
bool plain_digits(std::string_view text) {
  if (!text.empty() && text[0] == '-') text.remove_prefix(1);
  return !(text.size() > 1 && text[0] == '0' && text[1] >= '0' && text[1] <= '9');
}

// Each returns "" or what is wrong beyond "expected ..., found ...".
struct Wrong {
  bool wrong = false;
  std::string advice = {};
};

Wrong read_one(const YamlNode& node, const Rule&, bool& value) {
  if (node.kind != YamlNode::Kind::scalar || node.quoted || (node.text != "true" && node.text != "false")) {
    const bool said = node.kind == YamlNode::Kind::scalar && !node.quoted;
    const auto lower = lower_case(node.text);
    if (said && (lower == "yes" || lower == "on" || lower == "true")) return {true, "write true"};
    if (said && (lower == "no" || lower == "off" || lower == "false")) return {true, "write false"};
    return {true};
  }
  value = node.text == "true";
  return {};
}

Wrong read_one(const YamlNode& node, const Rule& rule, int64_t& value) {
  if (node.kind != YamlNode::Kind::scalar) return {true};
  if (node.quoted) return {true, "remove the quotes"};
  if (!plain_digits(node.text)) return {true, "remove the leading zero"};
  int64_t number = 0;
  const auto* end = node.text.data() + node.text.size();
  const auto [rest, code] = std::from_chars(node.text.data(), end, number);
  if (code == std::errc::result_out_of_range) return {true, "it does not fit 64 bits"};
  if (code != std::errc{} || rest != end || !in_range(static_cast<double>(number), rule)) return {true};
  value = number;
  return {};
}

Wrong read_one(const YamlNode& node, const Rule& rule, double& value) {
  if (node.kind != YamlNode::Kind::scalar) return {true};
  if (node.quoted) return {true, "remove the quotes"};
  std::string_view text = node.text;
  std::string hundredth;
  const bool percent = text.ends_with('%');
  if (percent) {
    if (!is_share(rule)) return {true, "write it without %"};
    text.remove_suffix(1);
    if (text.ends_with(' ')) text.remove_suffix(1);
  }
  if (!plain_digits(text)) return {true, "remove the leading zero"};
  if (percent) {  // as a number that is read, not divided: 0.7% is 0.007 to the bit
    if (text.find_first_of("eE") != std::string_view::npos) return {true};
    hundredth = std::string(text) + "e-2";
    text = hundredth;
  }
  double number = 0;
  const auto* end = text.data() + text.size();
  const auto [rest, code] = std::from_chars(text.data(), end, number);
  const bool digits = text.find_first_not_of("0123456789.eE+-") ==
                      std::string_view::npos;  // from_chars also knows inf and nan
  if (code != std::errc{} || rest != end || !digits || !std::isfinite(number) || !in_range(number, rule))
    return {true};
  value = number;
  return {};
}

// The nearest of these words, whatever the case of either; "" where none is near.
std::string nearest_word(const std::string& text, const std::vector<std::string>& words) {
  std::vector<std::string> lower;
  for (const auto& word : words) lower.push_back(lower_case(word));
  const auto near = nearest(lower_case(text), lower);
  const auto at = std::find(lower.begin(), lower.end(), near);
  return near.empty() || at == lower.end() ? "" : words[static_cast<size_t>(at - lower.begin())];
}

Wrong read_one(const YamlNode& node, const Rule& rule, std::string& value) {
  if (node.kind != YamlNode::Kind::scalar) return {true};
  if (!rule.one_of.empty()) {
    if (std::find(rule.one_of.begin(), rule.one_of.end(), node.text) == rule.one_of.end()) {
      const auto near = nearest_word(node.text, rule.one_of);
      return {true, near.empty() ? "" : fmt::format("did you mean '{}'?", near)};
    }
  } else if (!node.quoted) {
    for (const char* word : {"true", "false", "yes", "no", "on", "off", "True", "False", "Yes", "No", "On",
                             "Off", "TRUE", "FALSE", "YES", "NO", "ON", "OFF"}) {
      if (node.text == word) return {true, "put it in quotes if the word is meant"};
    }
  }
  if (rule.not_empty && node.text.empty()) return {true};
  value = node.text;
  return {};
}

// A scalar as JSON; nullopt for a list or a map.
std::optional<std::string> json_scalar(const YamlNode& node) {
  if (node.kind == YamlNode::Kind::null) return "null";
  if (node.kind != YamlNode::Kind::scalar) return std::nullopt;
  double number = 0;
  int64_t whole = 0;
  const bool plain = node.text == "true" || node.text == "false" || node.text == "null" ||
                     !read_one(node, any(), whole).wrong || !read_one(node, any(), number).wrong;
  return plain && !node.quoted ? node.text
                               : Json(node.text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

SpecReader::SpecReader(const YamlNode& root, std::vector<std::string> paths, std::vector<Problem>& problems,
                       Elsewhere elsewhere)
    : paths_(std::move(paths)), problems_(problems), elsewhere_(std::move(elsewhere)) {
  push(&root, "");
}

void SpecReader::finish() { pop(); }

void SpecReader::add(const Place& place, const std::string& path, const std::string& text) {
  problems_.push_back({place, path.empty() ? text : fmt::format("{}: {}", path, text)});
}

std::string SpecReader::path_of(const std::string& name) const {
  const auto& path = levels_.back().path;
  return path.empty() ? name : path + "." + name;
}

void SpecReader::push(const YamlNode* node, const std::string& path) {
  Level level{node, node ? node->place : levels_.back().place, path, {}, false};
  if (node && node->kind == YamlNode::Kind::null) level.node = nullptr;
  if (level.node && level.node->kind == YamlNode::Kind::map) level.is_map = true;
  if (level.node && !level.is_map) {
    add(level.place, path, fmt::format("expected keys and values, found {}", found(*level.node)));
  }
  levels_.push_back(std::move(level));
}

void SpecReader::pop() {
  const auto level = std::move(levels_.back());
  levels_.pop_back();
  if (!level.is_map) return;
  for (const auto& entry : level.node->entries) {
    const auto& key = entry.key;
    if (std::find(level.known.begin(), level.known.end(), key.text) != level.known.end()) continue;
    const auto path = (level.path.empty() ? "" : level.path + ".") + printable(key.text);
    add(key.place, path, "unknown key; " + suggestion(level, entry));
  }
}

// Another tool's key that one of ours stands for; the nearest key here; a key of that name in another
// section; another tool's key that has no counterpart; else where to read what exists.
std::string SpecReader::suggestion(const Level& level, const YamlEntry& entry) const {
  const auto& key = entry.key.text;
  std::vector<std::string> own;  // paths of ours that end so
  for (const auto& path : paths_) {
    const auto dot = path.rfind('.');
    if (path.substr(dot == std::string::npos ? 0 : dot + 1) == key) own.push_back(path);
  }
  const auto mean = [](const std::string& path) { return fmt::format("did you mean '{}'?", path); };
  const auto elsewhere = [&](bool with_ours) {
    return elsewhere_ ? elsewhere_(level.path, key, with_ours) : std::string();
  };
  // A key of ours that stands in the wrong section is meant, unless a whole recipe of theirs is here: theirs
  // have no sections.
  const bool of_ours = !own.empty() && (!level.path.empty() || entry.value.kind == YamlNode::Kind::map);
  if (const auto other = elsewhere(true); !other.empty() && !of_ours) {
    bool named = own.empty();
    for (const auto& path : own) named |= other.find(" " + path + " ") != std::string::npos;
    return named ? other : other + "; or " + mean(own[0]);
  }
  if (const auto near = nearest(key, level.known); !near.empty()) return mean(near);
  if (!own.empty()) return mean(own[0]);
  if (const auto other = elsewhere(false); !other.empty()) return other;
  return level.path.empty()
             ? "`retort explain` lists all keys"
             : fmt::format("`retort explain {}` lists its keys", level.path.substr(0, level.path.find('[')));
}

const YamlNode* SpecReader::take(const std::string& name) {
  auto& level = levels_.back();
  level.known.push_back(name);
  return level.is_map ? level.node->find(name) : nullptr;
}

void SpecReader::on_field(const std::string& name, Field field, const Rule& rule,
                          const std::string& documentation) {
  const auto* node = take(name);
  const auto path = path_of(name);
  const auto& level = levels_.back();
  if (!node) {
    // A section of the wrong kind is already reported.
    if (rule.required && (level.is_map || !level.node))
      add(level.place, path,
          fmt::format("missing; expected {}: {}", expected(field, rule),
                      documentation.substr(0, documentation.find("; "))));
    return;
  }
  const auto complain = [&](const YamlNode& at, const std::string& where, const std::string& wanted,
                            const Wrong& result) {
    add(at.place, where,
        fmt::format("expected {}, found {}{}{}", wanted, found(at), result.advice.empty() ? "" : "; ",
                    result.advice));
  };
  std::visit(
      [&](auto* member) {
        using Member = std::remove_pointer_t<decltype(member)>;
        if constexpr (requires {
                        typename Member::value_type;
                        member->has_value();
                      }) {
          if (node->kind == YamlNode::Kind::null) return member->reset();
          typename Member::value_type value{};
          if (const auto result = read_one(*node, rule, value); result.wrong)
            complain(*node, path, expected(field, rule), result);
          else *member = value;
        } else if constexpr (requires { member->push_back({}); } && !std::is_same_v<Member, std::string>) {
          if (node->kind != YamlNode::Kind::list) {
            return complain(
                *node, path, expected(field, rule),
                {true, node->kind == YamlNode::Kind::scalar ? fmt::format("write [{}]", printable(node->text))
                                                            : ""});
          }
          if (rule.not_empty && node->items.empty())
            return complain(*node, path, expected(field, rule), {true});
          Member values;
          for (size_t i = 0; i < node->items.size(); ++i) {
            typename Member::value_type value{};
            Rule item_rule = rule;
            if (const auto result = read_one(node->items[i], item_rule, value); result.wrong) {
              complain(node->items[i], fmt::format("{}[{}]", path, i), expected(Field(&value), item_rule),
                       result);
            } else {
              values.push_back(value);
            }
          }
          *member = std::move(values);
        } else if constexpr (std::is_same_v<Member, NamedValues>) {
          if (node->kind == YamlNode::Kind::null) return member->entries.clear();
          if (node->kind != YamlNode::Kind::map)
            return complain(*node, path, expected(field, rule), {true, "write {name: value}"});
          Member values;
          for (const auto& [key, value] : node->entries) {
            if (auto text = json_scalar(value)) values.entries.emplace_back(key.text, std::move(*text));
            else complain(value, path + "." + printable(key.text), "true, false, a number or a text", {true});
          }
          *member = std::move(values);
        } else {
          if (const auto result = read_one(*node, rule, *member); result.wrong)
            complain(*node, path, expected(field, rule), result);
        }
      },
      field);
}

bool SpecReader::enter_section(const std::string& name, bool always, bool, const std::string&) {
  const auto* node = take(name);
  const auto path = path_of(name);
  if (!always && (!node || node->kind == YamlNode::Kind::null)) return false;
  push(node, path);
  return true;
}

void SpecReader::leave_section() { pop(); }

size_t SpecReader::enter_list(const std::string& name, size_t count, const std::string&) {
  const auto* node = take(name);
  Level level{node, node ? node->place : levels_.back().place, path_of(name), {}, false};
  if (node && node->kind == YamlNode::Kind::map) {
    add(node->place, level.path, "expected a list of sections, found one section; put '- ' before it");
  } else if (node && node->kind != YamlNode::Kind::list) {
    add(node->place, level.path, fmt::format("expected a list of sections, found {}", found(*node)));
  }
  const bool usable = node && node->kind == YamlNode::Kind::list;
  levels_.push_back(std::move(level));
  return usable ? node->items.size() : node ? 0 : count;
}

void SpecReader::leave_list() { levels_.pop_back(); }

void SpecReader::enter_item(size_t index) {
  const auto& level = levels_.back();
  const bool written = level.node && level.node->kind == YamlNode::Kind::list;
  push(written ? &level.node->items[index] : nullptr, fmt::format("{}[{}]", level.path, index));
}

void SpecReader::leave_item() { pop(); }

void throw_if_any(std::vector<Problem> problems) {
  if (problems.empty()) return;
  std::stable_sort(problems.begin(), problems.end(), [](const Problem& a, const Problem& b) {
    if ((a.place.line == 0) != (b.place.line == 0)) return b.place.line == 0;  // the file first
    return std::pair(a.place.line, a.place.column) < std::pair(b.place.line, b.place.column);
  });
  std::string report;
  for (const auto& problem : problems)
    report += fmt::format("{}: {}\n", describe(problem.place), problem.text);
  report += fmt::format("{} problem{}; nothing was loaded or written.", problems.size(),
                        problems.size() == 1 ? "" : "s");
  throw RecipeError(report);
}

}  // namespace retort
