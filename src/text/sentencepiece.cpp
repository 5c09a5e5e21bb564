// tokenizer.model: BPE models without normalization (Llama 2, Mistral, Gemma) run on our own engine, which
// gives the same ids faster; unigram models and those with normalization rules run in libsentencepiece.
#include <sentencepiece_processor.h>

#include <algorithm>
#include <stdexcept>

#include "base/error.h"
#include "base/hash.h"
#include "text/folder_settings.h"
#include "text/sentencepiece_model.h"

namespace retort {
namespace {

constexpr int32_t kMostHoles = 65536;   // ids without a token
constexpr float kScoreOfAdded = -1000;  // as llama.cpp's converter writes it; found before anything merges

std::vector<AddedToken> added_tokens(const SentencePieceModel& model) {
  std::vector<AddedToken> added;
  for (size_t i = 0; i < model.pieces.size(); ++i) {
    const bool control = model.types[i] == TokenType::control || model.types[i] == TokenType::unknown;
    if (control || model.types[i] == TokenType::user_defined)
      added.push_back({.text = model.pieces[i],
                       .id = static_cast<int32_t>(i),
                       .control = control,
                       .normalized = !control});
  }
  return added;
}

std::optional<int32_t> control_piece(const SentencePieceModel& model, const std::string& spelling) {
  const auto found = std::ranges::find(model.pieces, spelling);
  if (found == model.pieces.end()) return std::nullopt;
  const auto id = static_cast<size_t>(found - model.pieces.begin());
  return model.types[id] == TokenType::control ? std::optional(static_cast<int32_t>(id)) : std::nullopt;
}

std::optional<int32_t> unknown_piece(const SentencePieceModel& model) {
  return static_cast<int32_t>(std::ranges::find(model.types, TokenType::unknown) - model.types.begin());
}

// libsentencepiece behind the common interface.
class SentencePieceTokenizer final : public Tokenizer {
 public:
  SentencePieceTokenizer(SentencePieceModel model, std::string_view model_bytes, std::string_view file)
      : model_(std::move(model)), hash_(sha256(fmt::format("sentencepiece {}", sha256(model_bytes)))) {
    const auto status = processor_.LoadFromSerializedProto(std::string(model_bytes));
    if (!status.ok())
      corrupt(file, "model", fmt::format("libsentencepiece refuses it: {}", printable(status.ToString())));
    model_.charsmap = {};  // a view into bytes that go away
    for (const AddedToken& token : added_tokens(model_))
      if (token.control) control_.add(token);
    bos = control_piece(model_, model_.bos_piece);
    eos = control_piece(model_, model_.eos_piece);
    pad = control_piece(model_, model_.pad_piece);
    unknown = unknown_piece(model_);
    add_bos = bos.has_value();
  }

  std::vector<int32_t> encode(std::string_view text, Specials specials) const override {
    std::vector<int32_t> ids;
    std::vector<int> part;
    for (size_t at = 0; at < text.size();) {
      const auto match = specials == Specials::as_tokens
                             ? control_.find(text, at, true)
                             : AddedTokenFinder::Match{nullptr, text.size(), text.size()};
      if (match.begin > at) {
        const std::string_view plain = text.substr(at, match.begin - at);
        const auto status = processor_.Encode({plain.data(), plain.size()}, &part);
        if (!status.ok())
          throw Failure(fmt::format("libsentencepiece could not encode a text of {}: {}", bytes(plain.size()),
                                    printable(status.ToString())));
        ids.insert(ids.end(), part.begin(), part.end());
      }
      if (match.token != nullptr) ids.push_back(match.token->id);
      at = match.end;
    }
    require_rows(ids);
    return ids;
  }
  std::string decode(std::span<const int32_t> ids, bool skip_special) const override {
    std::string text;
    for (const int32_t id : ids)
      text += is_special(id) ? (skip_special ? "" : token_text(id)) : token_bytes(id);
    if (model_.add_dummy_prefix && text.starts_with(' ')) text.erase(0, 1);
    return text;
  }
  std::string token_bytes(int32_t id) const override {
    const std::string spelling = token_text(id);
    if (is_special(id)) return "";
    if (model_.types[static_cast<size_t>(id)] == TokenType::byte)
      return std::string(1, static_cast<char>(byte_of_spelling(spelling)));
    return spaces_for_marks(spelling);
  }
  std::string token_text(int32_t id) const override {
    if (id < 0 || id >= size())
      throw std::out_of_range(
          fmt::format("token {} does not exist; the tokenizer has {} tokens", id, size()));
    return model_.pieces[static_cast<size_t>(id)];
  }
  std::optional<int32_t> find(std::string_view token_text) const override {
    const int id = processor_.PieceToId({token_text.data(), token_text.size()});
    return id >= 0 && id < size() && model_.pieces[static_cast<size_t>(id)] == token_text ? std::optional(id)
                                                                                          : std::nullopt;
  }
  bool is_special(int32_t id) const override {
    return id >= 0 && id < size() && model_.types[static_cast<size_t>(id)] == TokenType::control;
  }
  int64_t size() const override { return static_cast<int64_t>(model_.pieces.size()); }
  std::string hash() const override { return hash_; }

 private:
  SentencePieceModel model_;
  std::string hash_;
  sentencepiece::SentencePieceProcessor processor_;
  AddedTokenFinder control_;
};

// Tokens behind the model's own, with room for ids that nobody took, and the names of the folder.
void add_settings(const FolderSettings& settings, std::string_view file, BpeModel& model) {
  const auto own = static_cast<int32_t>(model.tokens.size());
  for (const auto& token : settings.added) {
    if (token.id < own) {  // one of the model's, mentioned again
      if (model.tokens[static_cast<size_t>(token.id)] != token.text)
        corrupt(file, fmt::format("token {}", token.id),
                fmt::format("is '{}' here and '{}' in the folder's list of added tokens; do the two belong "
                            "together?",
                            printable(model.tokens[static_cast<size_t>(token.id)]), printable(token.text)));
      continue;
    }
    if (token.id > own + kMostHoles)
      corrupt(file, token.text,
              fmt::format("is added as token {}, far behind the model's {}", token.id, own));
    while (static_cast<int32_t>(model.tokens.size()) < token.id) {
      model.tokens.push_back(spelling_of_hole(static_cast<int64_t>(model.tokens.size())));
      model.types.push_back(TokenType::unused);
      model.scores.push_back(kScoreOfAdded);
    }
    model.tokens.push_back(token.text);
    model.types.push_back(token.control ? TokenType::control : TokenType::user_defined);
    model.scores.push_back(kScoreOfAdded);
    model.added.push_back(token);
  }
  const auto take = [&](const std::string& spelling, std::optional<int32_t>& id) {
    const auto found = std::ranges::find(model.tokens, spelling);
    if (!spelling.empty() && found != model.tokens.end())
      id = static_cast<int32_t>(found - model.tokens.begin());
  };
  take(settings.bos, model.bos), take(settings.eos, model.eos), take(settings.pad, model.pad);
  if (settings.add_bos) model.add_bos = settings.add_bos;
  if (settings.add_eos) model.add_eos = settings.add_eos;
}

}  // namespace

std::unique_ptr<Tokenizer> tokenizer_from_sentencepiece(std::string_view model_bytes, std::string_view file,
                                                        const FolderSettings& settings) {
  SentencePieceModel read = read_sentencepiece_model(model_bytes, file);
  const bool plain = read.kind == SentencePieceModel::Kind::bpe && read.charsmap.empty() &&
                     !read.remove_extra_whitespaces && read.escape_whitespaces &&
                     !read.whitespace_as_suffix &&
                     std::ranges::find(read.types, TokenType::unused) == read.types.end();
  if (!plain) {
    const auto own = static_cast<int32_t>(read.pieces.size());
    for (const auto& token : settings.added)
      if (token.id >= own)
        corrupt(file, token.text,
                "was added to a model that is unigram or normalizes, which is read as it stands; save it as "
                "tokenizer.json with transformers");
    return std::make_unique<SentencePieceTokenizer>(std::move(read), model_bytes, file);
  }
  BpeModel model;
  model.alphabet = BpeModel::Alphabet::characters;
  model.order = BpeModel::Order::scores;
  model.added = added_tokens(read);
  model.bos = control_piece(read, read.bos_piece);
  model.eos = control_piece(read, read.eos_piece);
  model.pad = control_piece(read, read.pad_piece);
  model.unknown = unknown_piece(read);
  model.add_bos = model.bos.has_value();
  model.byte_fallback = read.byte_fallback;
  model.fuse_unknown = true;
  model.prefix = read.add_dummy_prefix ? BpeModel::Prefix::always : BpeModel::Prefix::never;
  model.add_space_prefix = read.add_dummy_prefix;
  model.invalid_utf8 = InvalidUtf8::each_byte;
  model.pre = "default";
  model.tokens = std::move(read.pieces);
  model.scores = std::move(read.scores);
  model.types = std::move(read.types);
  add_settings(settings, file, model);
  return std::make_unique<BpeTokenizer>(std::move(model), file);
}

std::unique_ptr<Tokenizer> tokenizer_from_sentencepiece(std::string_view model_bytes, std::string_view file) {
  return tokenizer_from_sentencepiece(model_bytes, file, FolderSettings());
}

}  // namespace retort
