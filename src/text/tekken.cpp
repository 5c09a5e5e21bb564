// Mistral's tekken files: byte-level BPE by token ranks, as tiktoken does it. Control tokens take the first
// ids.
#include <simdjson.h>

#include "base/error.h"
#include "text/base64.h"
#include "text/bpe.h"

namespace retort {
namespace {

constexpr size_t kMostSpecials = 65536;  // published files have 1000

// The control tokens of files that list none (versions up to v7), in mistral-common's order.
constexpr std::string_view kOldSpecials[] = {"<unk>",
                                             "<s>",
                                             "</s>",
                                             "[INST]",
                                             "[/INST]",
                                             "[AVAILABLE_TOOLS]",
                                             "[/AVAILABLE_TOOLS]",
                                             "[TOOL_RESULTS]",
                                             "[/TOOL_RESULTS]",
                                             "[TOOL_CALLS]",
                                             "[IMG]",
                                             "<pad>",
                                             "[IMG_BREAK]",
                                             "[IMG_END]",
                                             "[PREFIX]",
                                             "[MIDDLE]",
                                             "[SUFFIX]",
                                             "[SYSTEM_PROMPT]",
                                             "[/SYSTEM_PROMPT]",
                                             "[TOOL_CONTENT]"};

}  // namespace

std::unique_ptr<Tokenizer> tokenizer_from_tekken(std::string_view tekken_json, std::string_view file) {
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  const simdjson::padded_string padded(tekken_json);
  if (const auto error = parser.parse(padded).get(root))
    corrupt(file, "", fmt::format("is not valid JSON: {}", simdjson::error_message(error)));
  const auto number = [&](const char* key) {
    int64_t value = 0;
    if (root["config"][key].get(value) != simdjson::SUCCESS || value < 0 ||
        value > static_cast<int64_t>(kMostTokens))
      corrupt(file, fmt::format("config.{}", key),
              fmt::format("is not a whole number from 0 to {}", kMostTokens));
    return static_cast<size_t>(value);
  };
  BpeModel model;
  model.order = BpeModel::Order::ids;
  model.ignore_merges = true;
  model.pre = "tekken";
  std::string_view pattern;
  if (root["config"]["pattern"].get(pattern) != simdjson::SUCCESS)
    corrupt(file, "config.pattern", "is missing; is this a tekken file?");
  const Split* const split = split_by_pattern(pattern);
  if (split == nullptr)
    corrupt(file, "config.pattern",
            fmt::format("'{}' is not known (patterns are never executed); known are {}", printable(pattern),
                        known_patterns()));
  model.splits = {*split};

  const size_t size = number("default_vocab_size"), specials = number("default_num_special_tokens");
  if (specials >= size || specials > kMostSpecials)
    corrupt(file, "config.default_num_special_tokens",
            fmt::format("is {} of {} tokens; at most {} are read", specials, size, kMostSpecials));
  simdjson::dom::array vocabulary;
  if (root["vocab"].get(vocabulary) != simdjson::SUCCESS) corrupt(file, "vocab", "is not a JSON array");
  if (vocabulary.size() < size - specials)
    corrupt(file, "vocab",
            fmt::format("has {} entries; config.default_vocab_size needs {}", vocabulary.size(),
                        size - specials));
  model.tokens.reserve(size);
  simdjson::dom::array listed;
  if (root["special_tokens"].get(listed) == simdjson::SUCCESS) {
    for (const auto entry : listed) {
      int64_t rank = -1;
      std::string_view text;
      if (entry["rank"].get(rank) != simdjson::SUCCESS || entry["token_str"].get(text) != simdjson::SUCCESS ||
          rank != static_cast<int64_t>(model.tokens.size()) || text.empty())
        corrupt(file, fmt::format("special_tokens[{}]", model.tokens.size()),
                "has no text, or its rank is not its place");
      model.tokens.emplace_back(text);
    }
  } else {
    for (const std::string_view text : kOldSpecials) model.tokens.emplace_back(text);
  }
  if (model.tokens.size() > specials)
    corrupt(file, "special_tokens",
            fmt::format("has {} entries; config allows {}", model.tokens.size(), specials));
  while (model.tokens.size() < specials)
    model.tokens.push_back(fmt::format("<SPECIAL_{}>", model.tokens.size()));
  model.types.assign(specials, TokenType::control);
  for (size_t i = 0; i < specials; ++i)
    model.added.push_back({.text = model.tokens[i], .id = static_cast<int32_t>(i), .control = true});

  std::string bytes_of_token;
  for (const auto entry : vocabulary) {
    if (model.tokens.size() == size) break;  // the file holds more than the model uses
    int64_t rank = -1;
    std::string_view base64;
    const size_t place = model.tokens.size() - specials;
    if (entry["rank"].get(rank) != simdjson::SUCCESS || rank != static_cast<int64_t>(place))
      corrupt(file, fmt::format("vocab[{}]", place), "its rank is not its place");
    if (entry["token_bytes"].get(base64) != simdjson::SUCCESS || base64.size() > 2 * kLongestToken ||
        !decode_base64(base64, bytes_of_token) || bytes_of_token.empty())
      corrupt(file, fmt::format("vocab[{}]", place), "token_bytes is not the base64 of a token");
    model.tokens.push_back(byte_level_spelling(bytes_of_token));
    model.types.push_back(TokenType::normal);
  }
  const auto named = [&](std::string_view text) -> std::optional<int32_t> {
    for (size_t i = 0; i < specials; ++i)
      if (model.tokens[i] == text) return static_cast<int32_t>(i);
    return std::nullopt;
  };
  model.unknown = named("<unk>");
  model.bos = named("<s>");
  model.eos = named("</s>");
  model.pad = named("<pad>");
  model.add_bos = true;
  return std::make_unique<BpeTokenizer>(std::move(model), file);
}

}  // namespace retort
