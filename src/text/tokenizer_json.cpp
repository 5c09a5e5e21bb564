// tokenizer.json (Hugging Face tokenizers): byte-level BPE and SentencePiece-like BPE. Every component that
// changes ids is either understood or refused by name.
#include <simdjson.h>

#include <unordered_set>

#include "base/error.h"
#include "base/json.h"
#include "text/bpe.h"
#include "text/folder_settings.h"
#include "text/spelling_ids.h"

namespace retort {
namespace {

using simdjson::dom::element;
constexpr std::string_view kSpaceMark = "\u2581";
constexpr size_t kMostHoles = 65536;  // ids without a token; published files have a few hundred

struct Reader {
  std::string_view file;
  BpeModel model;
  bool byte_level = false, spaces_marked = false;
  std::vector<bool> taken;  // ids that have a token
  size_t most_ids = 0;      // what the entries that are there can name, with room for holes

  std::optional<element> field(element object, std::string_view key) const {
    element value;
    if (!object.is_object() || object[key].get(value) != simdjson::SUCCESS || value.is_null())
      return std::nullopt;
    return value;
  }
  bool flag(element object, std::string_view key, bool fallback) const {
    const auto value = field(object, key);
    if (!value) return fallback;
    bool result = false;
    if (value->get(result) != simdjson::SUCCESS) corrupt(file, key, "is not true or false");
    return result;
  }
  std::string text(element object, std::string_view key) const {
    const auto value = field(object, key);
    std::string_view result;
    if (value && value->get(result) != simdjson::SUCCESS) corrupt(file, key, "is not a text");
    return std::string(result);
  }
  std::string type_of(element object, std::string_view what) const {
    if (!object.is_object()) corrupt(file, what, "is not a JSON object");
    return text(object, "type");
  }
  simdjson::dom::array array(element value, std::string_view what) const {
    simdjson::dom::array result;
    if (value.get(result) != simdjson::SUCCESS) corrupt(file, what, "is not a JSON array");
    return result;
  }

  void check_keys(element value, int depth);
  bool put(std::string_view spelling, element id_value, TokenType type);  // false when it was there already
  void read_vocabulary(element root, element vocabulary);
  void read_added(element root);
  void read_merges(element merges);
  void read_normalizer(element normalizer);
  void read_pre_tokenizer(element pre);
  void read_split(element split);
  void read_post_processor(element post, std::string& first_token);
};

// Depth at most 64 and no key twice, except in the vocabulary, which checks its own keys.
void Reader::check_keys(element value, int depth) {
  if (depth > 64) corrupt(file, "", "nested deeper than 64 levels");
  if (value.is_array()) {
    for (const element part : simdjson::dom::array(value)) {
      if (part.is_object() || part.is_array()) check_keys(part, depth + 1);
    }
  } else if (value.is_object()) {
    std::unordered_set<std::string_view> keys;
    for (const auto [key, part] : simdjson::dom::object(value)) {
      if (key != "vocab" && !keys.insert(key).second)
        corrupt(file, key, "this key stands twice in one JSON object");
      if (key != "vocab" && key != "merges" && (part.is_object() || part.is_array()))
        check_keys(part, depth + 1);
    }
  }
}

bool Reader::put(std::string_view spelling, element id_value, TokenType type) {
  int64_t id = 0;
  if (id_value.get(id) != simdjson::SUCCESS || id < 0 || id >= static_cast<int64_t>(most_ids))
    corrupt(
        file, spelling,
        fmt::format("its id is not a whole number from 0 to {}, which is all that so many entries could need",
                    most_ids - 1));
  const auto place = static_cast<size_t>(id);
  if (place >= taken.size()) {
    taken.resize(place + 1);
    model.tokens.resize(place + 1);
    model.types.resize(place + 1, TokenType::unused);
  }
  if (taken[place] && model.tokens[place] != spelling)
    corrupt(file, spelling,
            fmt::format("has the id {}, which belongs to '{}'", id, printable(model.tokens[place])));
  const bool fresh = !taken[place];
  taken[place] = true;
  model.tokens[place] = spelling;
  model.types[place] = type;
  return fresh;
}

void Reader::read_vocabulary(element root, element vocabulary) {
  simdjson::dom::object object;
  if (vocabulary.get(object) != simdjson::SUCCESS) corrupt(file, "model.vocab", "is not a JSON object");
  const auto added = field(root, "added_tokens");
  most_ids = std::min(
      kMostTokens,
      object.size() + (added && added->is_array() ? simdjson::dom::array(*added).size() : 0) + kMostHoles);
  for (const auto [spelling, id] : object) {
    const bool byte =
        model.byte_fallback && spelling.size() == 6 && spelling.starts_with("<0x") && spelling.ends_with(">");
    if (!put(spelling, id, byte ? TokenType::byte : TokenType::normal))
      corrupt(file, spelling, "stands twice in the vocabulary");
  }
}

void Reader::read_added(element root) {
  const auto added = field(root, "added_tokens");
  if (!added) return;
  for (const element entry : array(*added, "added_tokens")) {
    const std::string content = text(entry, "content");
    const auto id = field(entry, "id");
    if (content.empty() || !id) corrupt(file, "added_tokens", "an entry has no content or no id");
    const bool control = flag(entry, "special", false) || looks_like_control(content);
    put(content, *id, control ? TokenType::control : TokenType::user_defined);
    model.added.push_back({.text = content,
                           .id = static_cast<int32_t>(int64_t(*id)),
                           .control = control,
                           .special = flag(entry, "special", false),
                           .normalized = flag(entry, "normalized", !control),
                           .strip_left = flag(entry, "lstrip", false),
                           .strip_right = flag(entry, "rstrip", false),
                           .single_word = flag(entry, "single_word", false)});
  }
}

void Reader::read_merges(element merges) {
  const SpellingIds ids(model.tokens);
  const auto list = array(merges, "model.merges");
  model.merges.reserve(list.size());
  for (const element merge : list) {
    const auto where = [&] { return fmt::format("merge {}", model.merges.size()); };
    std::string_view left, right;
    if (merge.is_string()) {
      const std::string_view whole(merge);
      const size_t space = whole.find(' ', 1);
      if (space == std::string_view::npos)
        corrupt(file, where(), fmt::format("'{}' is not two tokens with a space between", printable(whole)));
      left = whole.substr(0, space);
      right = whole.substr(space + 1);
    } else {
      const auto pair = array(merge, where());
      if (pair.size() != 2 || pair.at(0).get(left) != simdjson::SUCCESS ||
          pair.at(1).get(right) != simdjson::SUCCESS)
        corrupt(file, where(), "is not a pair of tokens");
    }
    const auto id = [&](std::string_view part) {
      const auto found = ids.find(part);
      if (!found) corrupt(file, where(), fmt::format("names '{}', which is no token", printable(part)));
      return *found;
    };
    model.merges.emplace_back(id(left), id(right));
  }
}

void Reader::read_normalizer(element normalizer) {
  const std::string type = type_of(normalizer, "normalizer");
  if (type == "Sequence") {
    const auto parts = field(normalizer, "normalizers");
    if (!parts) corrupt(file, "normalizer", "a Sequence without 'normalizers'");
    for (const element part : array(*parts, "normalizers")) read_normalizer(part);
  } else if (type == "NFC") {
    model.nfc = true;
  } else if (type == "Prepend") {
    if (text(normalizer, "prepend") != kSpaceMark)
      corrupt(file, "normalizer", "prepends something else than U+2581");
    model.prefix = BpeModel::Prefix::always;
  } else if (type == "Replace") {
    const auto pattern = field(normalizer, "pattern");
    if (!pattern || text(*pattern, "String") != " " || text(normalizer, "content") != kSpaceMark)
      corrupt(file, "normalizer", "a Replace that is not of ' ' by U+2581; that is the only one known");
    spaces_marked = true;
  } else {
    corrupt(file, "normalizer",
            fmt::format("'{}' is not known; known are Sequence, NFC, Prepend and Replace", printable(type)));
  }
}

void Reader::read_split(element split) {
  const auto pattern = field(split, "pattern");
  const std::string behaviour = text(split, "behavior");
  const bool invert = flag(split, "invert", false);
  if (pattern && text(*pattern, "String") == " " && spaces_marked && behaviour == "MergedWithPrevious" &&
      !invert)
    return;  // Gemma: no spaces are left
  const std::string regex = pattern ? text(*pattern, "Regex") : "";
  const Split* const known = split_by_pattern(regex);
  if (known == nullptr)
    corrupt(file, "pre_tokenizer",
            fmt::format(
                "splits by the pattern '{}', which is not known (patterns are never executed); known are {}",
                printable(regex), known_patterns()));
  const bool isolated =
      (behaviour == "Isolated" && !invert) || (behaviour == "Removed" && invert && *known >= Split::gpt2);
  if (!isolated)
    corrupt(file, "pre_tokenizer",
            fmt::format("a Split with behavior '{}' and invert {}; 'Isolated' and false is read",
                        printable(behaviour), invert));
  model.splits.push_back(*known);
}

void Reader::read_pre_tokenizer(element pre) {
  const std::string type = type_of(pre, "pre_tokenizer");
  if (type == "Sequence") {
    const auto parts = field(pre, "pretokenizers");
    if (!parts) corrupt(file, "pre_tokenizer", "a Sequence without 'pretokenizers'");
    for (const element part : array(*parts, "pretokenizers")) read_pre_tokenizer(part);
  } else if (type == "ByteLevel") {
    byte_level = true;
    if (flag(pre, "add_prefix_space", true))
      corrupt(file, "pre_tokenizer", "ByteLevel with add_prefix_space is not read");
    if (flag(pre, "use_regex", true)) model.splits.push_back(Split::gpt2);
  } else if (type == "Split") {
    read_split(pre);
  } else if (type == "Digits") {
    if (!flag(pre, "individual_digits", false))
      corrupt(file, "pre_tokenizer", "Digits without individual_digits is not read");
    model.splits.push_back(Split::one_number);
  } else if (type == "Metaspace") {
    const std::string scheme = text(pre, "prepend_scheme");
    if (text(pre, "replacement") != kSpaceMark)
      corrupt(file, "pre_tokenizer", "Metaspace with another replacement than U+2581");
    if (scheme.empty() ? flag(pre, "add_prefix_space", true) : scheme == "always")
      model.prefix = BpeModel::Prefix::always;
    else if (scheme == "first") model.prefix = BpeModel::Prefix::first;
    else if (!scheme.empty() && scheme != "never")
      corrupt(file, "pre_tokenizer", fmt::format("Metaspace with prepend_scheme '{}'", printable(scheme)));
    model.prefix_unless_there = true;
    model.split_words = flag(pre, "split", true);
    spaces_marked = true;
  } else {
    corrupt(file, "pre_tokenizer",
            fmt::format("'{}' is not known; known are Sequence, ByteLevel, Split, Digits and Metaspace",
                        printable(type)));
  }
}

// The token that the post-processor puts before a single text, if any.
void Reader::read_post_processor(element post, std::string& first_token) {
  const std::string type = type_of(post, "post_processor");
  if (const auto parts = field(post, "processors"); type == "Sequence" && parts) {
    for (const element part : array(*parts, "post_processor")) read_post_processor(part, first_token);
  } else if (const auto single = field(post, "single"); type == "TemplateProcessing" && single) {
    const auto pieces = array(*single, "post_processor");
    if (pieces.size() == 0) return;
    if (const auto special = field(pieces.at(0), "SpecialToken")) first_token = text(*special, "id");
  }
}

}  // namespace

std::unique_ptr<Tokenizer> tokenizer_from_json(std::string_view tokenizer_json,
                                               std::string_view tokenizer_config_json,
                                               std::string_view file) {
  simdjson::dom::parser parser;
  element root;
  const simdjson::padded_string padded(tokenizer_json);
  if (const auto error = parser.parse(padded).get(root))
    corrupt(file, "", fmt::format("is not valid JSON: {}", simdjson::error_message(error)));
  Reader reader{file, {}, false, false, {}};
  BpeModel& model = reader.model;
  reader.check_keys(root, 0);
  const auto section = reader.field(root, "model");
  if (!section) corrupt(file, "model", "is missing; is this a tokenizer.json?");
  const std::string type = reader.type_of(*section, "model");
  const auto vocabulary = reader.field(*section, "vocab"), merges = reader.field(*section, "merges");
  if ((type != "BPE" && !type.empty()) || !vocabulary || !merges)
    corrupt(file, "model",
            fmt::format("is of the type '{}'; BPE with vocab and merges is read (a SentencePiece unigram "
                        "model comes as tokenizer.model)",
                        printable(type)));
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (!reader.text(*section, key).empty()) corrupt(file, key, "is not read");
  double dropout = 0;
  if (const auto value = reader.field(*section, "dropout");
      value && (value->get(dropout) != simdjson::SUCCESS || dropout != 0))
    corrupt(file, "dropout", "would make ids random; only null or 0 is read");
  model.byte_fallback = reader.flag(*section, "byte_fallback", false);
  model.fuse_unknown = reader.flag(*section, "fuse_unk", false);
  model.ignore_merges = reader.flag(*section, "ignore_merges", false);

  if (const auto normalizer = reader.field(root, "normalizer")) reader.read_normalizer(*normalizer);
  if (const auto pre = reader.field(root, "pre_tokenizer")) reader.read_pre_tokenizer(*pre);
  if (!reader.byte_level && !reader.spaces_marked)
    corrupt(file, "pre_tokenizer",
            "neither ByteLevel nor spaces written as U+2581; those two kinds of BPE are read");
  model.alphabet = reader.byte_level ? BpeModel::Alphabet::bytes : BpeModel::Alphabet::characters;
  if (!reader.byte_level && !model.splits.empty())
    corrupt(file, "pre_tokenizer", "splits by a pattern, which only byte-level BPE does");

  reader.read_vocabulary(root, *vocabulary);
  reader.read_merges(*merges);
  reader.read_added(root);
  for (size_t id = 0; id < reader.taken.size(); ++id)
    if (!reader.taken[id]) model.tokens[id] = spelling_of_hole(static_cast<int64_t>(id));
  const SpellingIds ids(model.tokens);
  const auto named = [&](const std::string& spelling) -> std::optional<int32_t> {
    return spelling.empty() ? std::nullopt : ids.find(spelling);
  };
  model.unknown = named(reader.text(*section, "unk_token"));
  if (model.unknown && !reader.byte_level)
    model.types[static_cast<size_t>(*model.unknown)] = TokenType::unknown;
  std::string first_token;
  if (const auto post = reader.field(root, "post_processor")) reader.read_post_processor(*post, first_token);
  if (!tokenizer_config_json.empty()) {
    const Json config = parse_json(tokenizer_config_json, fmt::format("{} (tokenizer_config.json)", file));
    model.bos = named(special_text(config, "bos_token"));
    model.eos = named(special_text(config, "eos_token"));
    model.pad = named(special_text(config, "pad_token"));
    if (!model.unknown) model.unknown = named(special_text(config, "unk_token"));
    if (const auto found = config.find("add_bos_token"); found != config.end() && found->is_boolean())
      model.add_bos = found->get<bool>();
    if (const auto found = config.find("add_eos_token"); found != config.end() && found->is_boolean())
      model.add_eos = found->get<bool>();
  }
  if (!model.bos) model.bos = named(first_token);
  if (!model.add_bos) model.add_bos = model.bos.has_value() && model.bos == named(first_token);
  if (model.alphabet == BpeModel::Alphabet::characters)
    model.add_space_prefix = model.prefix != BpeModel::Prefix::never;
  if (const PreTokenizer* pre = find_pre_tokenizer(model.splits, model.ignore_merges, model.nfc);
      pre != nullptr && reader.byte_level)
    model.pre = pre->name;
  return std::make_unique<BpeTokenizer>(std::move(model), file);
}

}  // namespace retort
