#include "text/extend_tokenizer.h"

#include <algorithm>

#include "base/error.h"
#include "text/bpe.h"

namespace retort {
namespace {

// GGUF lists of padded vocabularies end with names that stand for no token.
bool only_pads(const BpeModel& model, size_t id) {
  return model.types[id] == TokenType::unused &&
         model.tokens[id].starts_with(spelling_of_hole(static_cast<int64_t>(id)));
}

std::string_view key_of(bool special) { return special ? "model.add_tokens" : "model.add_words"; }

}  // namespace

int64_t first_new_id(const Tokenizer& tokenizer) {
  auto last = tokenizer.size();
  const auto& holes = tokenizer.holes();
  const auto* bpe = dynamic_cast<const BpeTokenizer*>(&tokenizer);
  while (last > 0 && (std::ranges::binary_search(holes, static_cast<int32_t>(last - 1)) ||
                      (bpe && only_pads(bpe->model(), static_cast<size_t>(last - 1)))))
    --last;
  return last;
}

std::unique_ptr<Tokenizer> extended_tokenizer(const Tokenizer& tokenizer,
                                              const std::vector<NewToken>& tokens) {
  const auto* bpe = dynamic_cast<const BpeTokenizer*>(&tokenizer);
  if (!bpe)
    throw RecipeError(
        fmt::format("{}: this SentencePiece model (unigram, or with normalization rules) takes no further "
                    "tokens; choose a base with byte-pair encoding",
                    tokens.empty() ? key_of(true) : key_of(tokens.front().special)));
  auto model = bpe->model();
  const auto first = static_cast<size_t>(first_new_id(tokenizer));
  model.tokens.resize(first);
  model.types.resize(first);
  if (!model.scores.empty()) model.scores.resize(first);
  for (const auto& [text, special] : tokens) {
    const auto refuse = [&text = text, key = key_of(special)](const std::string& problem) {
      throw RecipeError(fmt::format("{}: '{}' {}", key, printable(text), problem));
    };
    if (text.empty()) refuse("is empty; expected a token's text");
    if (text.find_first_not_of(" \t\n\r\f\v") == std::string::npos)
      refuse("is white space, which would be cut out of every text; expected a word or a mark");
    if (text.size() > kLongestToken) refuse(fmt::format("is longer than {} bytes", kLongestToken));
    if (!special && looks_like_control(text))
      refuse(
          "is spelled as control tokens are, for which readers would take it; list it in model.add_tokens");
    const auto id = static_cast<int32_t>(model.tokens.size());
    if (const auto found = std::ranges::find(model.tokens, text); found != model.tokens.end()) {
      const auto known = found - model.tokens.begin();
      refuse(known < static_cast<int64_t>(first)
                 ? fmt::format("is a token of this model already (id {}); leave it out", known)
                 : "stands there twice");
    }
    model.tokens.push_back(text);
    model.types.push_back(special ? TokenType::control : TokenType::user_defined);
    if (!model.scores.empty()) model.scores.push_back(0);
    model.added.push_back({.text = text, .id = id, .control = special, .special = special});
  }
  auto extended = std::make_unique<BpeTokenizer>(std::move(model), key_of(true));
  extended->bos = tokenizer.bos, extended->eos = tokenizer.eos;
  extended->pad = tokenizer.pad, extended->unknown = tokenizer.unknown;
  extended->add_bos = tokenizer.add_bos;
  extended->rows = tokenizer.rows;
  return extended;
}

}  // namespace retort
