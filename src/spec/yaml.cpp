#include "spec/yaml.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <sstream>
#include <utility>

#include "base/error.h"

namespace retort {

namespace {

constexpr size_t kLongestText = size_t{1} << 20;
constexpr size_t kDeepest = 32;

[[noreturn]] void refuse(const Place& place, const std::string& problem) {
  throw RecipeError(fmt::format("{}: {}", describe(place), problem));
}

// Builds the tree from yaml-cpp's events, so that an alias is refused before anything could walk it.
class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(std::string source, std::vector<Problem>& problems)
      : source_(std::move(source)), problems_(problems) {}
  YamlNode root;

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    leaf(node(mark, anchor, YamlNode::Kind::null));
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    refuse(place(mark), "aliases (*name) are not allowed in a recipe; write the value out");
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    auto scalar = node(mark, anchor, YamlNode::Kind::scalar);
    if (tag != "?" && tag != "!" && !tag.empty())
      refuse(scalar.place, fmt::format("tags ('{}') are not allowed in a recipe", printable(tag)));
    scalar.text = value;
    scalar.quoted = tag == "!";
    leaf(std::move(scalar));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, YamlNode::Kind::list);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, YamlNode::Kind::map);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Level {
    YamlNode node;
    YamlNode key;
    bool key_read = false;
  };

  Place place(const YAML::Mark& mark) const { return {source_, mark.line + 1, mark.column + 1}; }
  YamlNode node(const YAML::Mark& mark, YAML::anchor_t anchor, YamlNode::Kind kind) {
    if (anchor != 0) refuse(place(mark), "anchors (&name) are not allowed in a recipe; write the value out");
    YamlNode made;
    made.kind = kind;
    made.place = place(mark);
    return made;
  }
  void open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, YamlNode::Kind kind) {
    if (tag != "?" && !tag.empty())
      refuse(place(mark), fmt::format("tags ('{}') are not allowed in a recipe", printable(tag)));
    if (levels_.size() >= kDeepest)
      refuse(place(mark), fmt::format("nested deeper than {} levels", kDeepest));
    if (!levels_.empty() && levels_.back().node.kind == YamlNode::Kind::map && !levels_.back().key_read) {
      refuse(place(mark), "a key must be a word, found a list or a map");
    }
    levels_.push_back({node(mark, anchor, kind), {}, false});
  }
  void close() {
    auto done = std::move(levels_.back().node);
    levels_.pop_back();
    leaf(std::move(done));
  }
  void leaf(YamlNode done) {
    if (levels_.empty()) {
      root = std::move(done);
      return;
    }
    auto& level = levels_.back();
    if (level.node.kind == YamlNode::Kind::list) {
      level.node.items.push_back(std::move(done));
    } else if (!level.key_read) {
      if (done.kind != YamlNode::Kind::scalar) refuse(done.place, "a key must be a word, found nothing");
      if (done.text == "<<" && !done.quoted)
        refuse(done.place, "merge keys (<<) are not allowed in a recipe; write the values out");
      level.key = std::move(done);
      level.key_read = true;
    } else {
      level.key_read = false;
      if (const auto* first = level.node.find(level.key.text)) {
        problems_.push_back({level.key.place, fmt::format("{}: key given twice; first on line {}",
                                                          printable(level.key.text), first->place.line)});
      } else {
        level.node.entries.push_back({std::move(level.key), std::move(done)});
      }
    }
  }

  std::string source_;
  std::vector<Problem>& problems_;
  std::vector<Level> levels_;
};

void require_text(std::string_view text, const std::string& source) {
  if (text.size() > kLongestText)
    throw RecipeError(fmt::format("{}: {} is too long for a recipe; at most {}", printable(source),
                                  bytes(text.size()), bytes(kLongestText)));
  Place place{source, 1, 1};
  for (size_t i = 0; i < text.size();) {
    const auto byte = static_cast<unsigned char>(text[i]);
    size_t length = byte < 0x80                   ? 1
                    : byte >= 0xC2 && byte < 0xE0 ? 2
                    : byte >= 0xE0 && byte < 0xF0 ? 3
                    : byte >= 0xF0 && byte < 0xF5 ? 4
                                                  : 0;
    for (size_t k = 1; k < length; ++k) {
      if (i + k >= text.size() || (static_cast<unsigned char>(text[i + k]) & 0xC0) != 0x80) length = 0;
    }
    if (length == 0) refuse(place, fmt::format("byte 0x{:02x} is not UTF-8; save the recipe as UTF-8", byte));
    if ((byte < 0x20 && byte != '\n' && byte != '\r' && byte != '\t') || byte == 0x7F)
      refuse(place, fmt::format("control byte 0x{:02x} in the recipe", byte));
    if (byte == '\n') {
      ++place.line;
      place.column = 1;
    } else {
      ++place.column;
    }
    i += length;
  }
}

// Line and column (from 0) of a tab among the spaces that begin this line, or the one before it.
std::optional<std::pair<int, int>> tab_before_key(std::string_view text, int line) {
  size_t begin = 0;
  for (int here = 0; here <= line && begin < text.size(); ++here) {
    const auto end = std::min(text.find('\n', begin), text.size());
    const auto words = std::min(text.find_first_not_of(" \t", begin), end);
    const auto tab = text.substr(begin, words - begin).find('\t');
    if (here >= line - 1 && tab != std::string_view::npos && words < end && text[words] != '#')
      return std::pair(here, static_cast<int>(tab));
    begin = end + 1;
  }
  return std::nullopt;
}

// The line (from 1) of the last bracket of this kind before `end` that is open there; 0: none is. Quoted
// texts and remarks are passed over.
int line_of_open(std::string_view text, int end, char bracket) {
  const auto stop = std::min(text.size(), static_cast<size_t>(std::max(end, 0)));
  std::vector<std::pair<char, int>> open;
  int line = 1;
  char quote = 0, before = '\n';
  for (size_t i = 0; i < stop; ++i) {
    const char c = text[i];
    const bool begins = std::string_view(" \t\n{[,").find(before) != std::string_view::npos;
    if (c == '\n') ++line;
    if (quote != 0) {
      if (c == '\\' && quote == '"') ++i;
      else if (c == quote) quote = 0;
    } else if (c == '#' && begins) {
      while (i + 1 < stop && text[i + 1] != '\n') ++i;
    } else if ((c == '"' || c == '\'') && begins) {
      quote = c;
    } else if (c == '{' || c == '[') {
      open.emplace_back(c, line);
    } else if ((c == '}' || c == ']') && !open.empty()) {
      open.pop_back();
    }
    before = c;
  }
  for (auto one = open.rbegin(); one != open.rend(); ++one)
    if (one->first == bracket) return one->second;
  return 0;
}

// Keys of a map go into the map that is there, at every level; anything else takes its place.
void merge(YamlNode& into, YamlNode&& from) {
  const bool both = into.kind == YamlNode::Kind::map && from.kind == YamlNode::Kind::map;
  if (!both || from.entries.empty()) {
    into = std::move(from);
    return;
  }
  for (auto& [key, value] : from.entries) {
    if (auto* there = into.find(key.text)) merge(*there, std::move(value));
    else into.entries.push_back({std::move(key), std::move(value)});
  }
}

}  // namespace

std::string describe(const Place& place) {
  return place.line == 0 ? printable(place.source)
                         : fmt::format("{}:{}:{}", printable(place.source), place.line, place.column);
}

YamlNode* YamlNode::find(std::string_view key) {
  for (auto& [name, value] : entries) {
    if (name.text == key) return &value;
  }
  return nullptr;
}

YamlNode parse_yaml(std::string_view text, const std::string& source, std::vector<Problem>& problems) {
  require_text(text, source);
  std::istringstream stream{std::string(text)};
  try {
    YAML::Parser parser(stream);
    TreeBuilder builder(source, problems);
    if (!parser.HandleNextDocument(builder))
      refuse({source, 1, 1}, "the recipe is empty; `retort explain` lists what can be written");
    TreeBuilder rest(source, problems);
    if (parser.HandleNextDocument(rest))
      refuse(rest.root.place, "a second document (---) starts here; a recipe is one document");
    return std::move(builder.root);
  } catch (const YAML::Exception& error) {
    if (const auto tab = tab_before_key(text, error.mark.line))
      refuse({source, tab->first + 1, tab->second + 1},
             "a tab before the key; YAML indents with spaces: replace it by two");
    const Place place{source, error.mark.line + 1, error.mark.column + 1};
    const bool map = error.msg == "end of map flow not found";
    if (map || error.msg == "end of sequence flow not found")
      if (const auto line = line_of_open(text, error.mark.pos, map ? '{' : '['))
        refuse(place,
               fmt::format("a `{0}` is not closed (opened on line {1}), or a value with `{0}`, `{2}` or `,` "
                           "stands without quotes; close it or put the value in quotes",
                           map ? '{' : '[', line, map ? '}' : ']'));
    refuse(place, error.msg);
  }
}

void override_yaml(YamlNode& root, const std::string& assignment, std::vector<Problem>& problems) {
  const std::string source = "command line: " + assignment;
  const auto equals = assignment.find('=');
  if (equals == std::string::npos || equals == 0) {
    throw RecipeError(
        fmt::format("{}: expected key.path=value, for example train.steps=100", printable(source)));
  }
  std::string path;  // data.sources[0].path and data.sources.0.path are the same key
  for (const char c : assignment.substr(0, equals)) {
    if (c == '[') path += '.';
    else if (c != ']') path += c;
  }
  const std::string value = assignment.substr(equals + 1);
  const Place place{source, 0, 0};

  YamlNode* node = &root;
  for (size_t begin = 0; begin <= path.size();) {
    const auto end = std::min(path.find('.', begin), path.size());
    const std::string word = path.substr(begin, end - begin);
    const auto so_far = printable(std::string_view(path).substr(0, begin == 0 ? 0 : begin - 1));
    begin = end + 1;
    if (node->kind == YamlNode::Kind::list) {
      size_t index = 0;
      const auto [rest, code] = std::from_chars(word.data(), word.data() + word.size(), index);
      if (code != std::errc{} || rest != word.data() + word.size() || index > node->items.size()) {
        problems.push_back({place, fmt::format("{}: expected a list index from 0 to {}, found '{}'", so_far,
                                               node->items.size(), printable(word))});
        return;
      }
      if (index == node->items.size()) node->items.emplace_back().place = place;
      node = &node->items[index];
    } else {
      if (node->kind == YamlNode::Kind::scalar) {
        problems.push_back(
            {place, fmt::format("{}: has no keys inside; it is '{}'", so_far, printable(node->text))});
        return;
      }
      node->kind = YamlNode::Kind::map;
      if (!node->find(word)) {
        YamlNode key, empty;
        key.kind = YamlNode::Kind::scalar;
        key.text = word;
        key.place = empty.place = place;
        node->entries.push_back({std::move(key), std::move(empty)});
      }
      node = node->find(word);
    }
  }
  if (!value.empty() && std::string_view("[{\"'").find(value[0]) != std::string_view::npos) {
    std::vector<Problem> inside;
    YamlNode parsed;
    try {
      parsed = parse_yaml(value, "value", inside);
    } catch (const RecipeError& error) { inside.push_back({place, error.what()}); }
    for (auto& problem : inside) problems.push_back({place, problem.text});
    // Whatever is wrong in it came from the command line.
    std::vector<YamlNode*> pending{&parsed};
    while (!pending.empty()) {
      auto* next = pending.back();
      pending.pop_back();
      next->place = place;
      for (auto& item : next->items) pending.push_back(&item);
      for (auto& [key, entry] : next->entries) key.place = place, pending.push_back(&entry);
    }
    merge(*node, std::move(parsed));
  } else {
    *node = {};
    node->kind = value == "null" || value == "~" ? YamlNode::Kind::null : YamlNode::Kind::scalar;
    node->text = value;
    node->quoted = value.empty();
    node->place = place;
  }
}

}  // namespace retort
