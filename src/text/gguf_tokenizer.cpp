// Tokenizers from GGUF metadata and back. The meaning of each key is llama.cpp's.
#include "base/error.h"
#include "text/bpe.h"
#include "text/spelling_ids.h"

namespace retort {
namespace {

void read_merges(const GgufVocabulary& vocabulary, BpeModel& model, std::string_view file) {
  const SpellingIds ids(model.tokens);
  model.merges.reserve(vocabulary.merges.size());
  for (size_t rank = 0; rank < vocabulary.merges.size(); ++rank) {
    const std::string& merge = vocabulary.merges[rank];
    const size_t space = merge.find(' ', 1);
    if (space == std::string::npos)
      corrupt(file, fmt::format("merge {}", rank),
              fmt::format("'{}' is not two tokens with a space between", printable(merge)));
    const auto id = [&](std::string_view part) {
      const auto found = ids.find(part);
      if (!found)
        corrupt(file, fmt::format("merge {}", rank),
                fmt::format("names '{}', which is no token", printable(part)));
      return *found;
    };
    const std::string_view text = merge;
    model.merges.emplace_back(id(text.substr(0, space)), id(text.substr(space + 1)));
  }
}

}  // namespace

std::unique_ptr<Tokenizer> tokenizer_from_gguf(const GgufVocabulary& vocabulary, std::string_view file) {
  BpeModel model;
  const bool sentencepiece = vocabulary.model == "llama";
  if (!sentencepiece && vocabulary.model != "gpt2")
    corrupt(file, "tokenizer.ggml.model",
            fmt::format("is '{}'; 'gpt2' (byte-level BPE) and 'llama' (SentencePiece) are read",
                        printable(vocabulary.model)));
  model.alphabet = sentencepiece ? BpeModel::Alphabet::characters : BpeModel::Alphabet::bytes;
  model.order = sentencepiece ? BpeModel::Order::scores : BpeModel::Order::merges;
  model.tokens = vocabulary.tokens;
  model.scores = vocabulary.scores;
  model.pre = vocabulary.pre;
  const size_t count = model.tokens.size();
  if (vocabulary.token_types.empty()) {
    model.types.assign(count, TokenType::normal);
  } else {
    if (vocabulary.token_types.size() != count)
      corrupt(file, "tokenizer.ggml.token_type",
              fmt::format("has {} entries for {} tokens", vocabulary.token_types.size(), count));
    for (const int32_t type : vocabulary.token_types) {
      if (type < 1 || type > 6)
        corrupt(file, "tokenizer.ggml.token_type", fmt::format("holds {}; types are 1 to 6", type));
      model.types.push_back(static_cast<TokenType>(type));
    }
  }
  model.bos = vocabulary.bos;
  model.eos = vocabulary.eos;
  model.pad = vocabulary.pad;
  model.unknown = vocabulary.unknown;
  model.add_bos = vocabulary.add_bos;
  model.add_eos = vocabulary.add_eos;
  model.add_space_prefix = vocabulary.add_space_prefix;
  for (size_t i = 0; i < count; ++i) {
    const bool control = model.types[i] == TokenType::control || model.types[i] == TokenType::unknown;
    if (!control && model.types[i] != TokenType::user_defined) continue;
    if (!model.tokens[i].empty())
      model.added.push_back({.text = model.tokens[i], .id = static_cast<int32_t>(i), .control = control});
  }
  if (sentencepiece) {
    model.byte_fallback = true;
    model.prefix =
        vocabulary.add_space_prefix.value_or(true) ? BpeModel::Prefix::always : BpeModel::Prefix::never;
    for (size_t i = 0; i < count && !model.unknown; ++i)
      if (model.types[i] == TokenType::unknown) model.unknown = static_cast<int32_t>(i);
    auto tokenizer = std::make_unique<BpeTokenizer>(std::move(model), file);
    tokenizer->add_bos = vocabulary.add_bos.value_or(true);
    return tokenizer;
  }
  const PreTokenizer* pre = find_pre_tokenizer(vocabulary.pre);
  if (pre == nullptr) {
    std::string known;
    for (const PreTokenizer& candidate : pre_tokenizers())
      known += (known.empty() ? "" : ", ") + std::string(candidate.name);
    corrupt(file, "tokenizer.ggml.pre",
            fmt::format("is '{}', an unknown pre-tokenizer; known are {}", printable(vocabulary.pre), known));
  }
  model.splits = pre->splits;
  model.ignore_merges = pre->ignore_merges;
  model.nfc = pre->nfc;
  read_merges(vocabulary, model, file);
  auto tokenizer = std::make_unique<BpeTokenizer>(std::move(model), file);
  tokenizer->add_bos = vocabulary.add_bos.value_or(pre->add_bos);
  return tokenizer;
}

}  // namespace retort
