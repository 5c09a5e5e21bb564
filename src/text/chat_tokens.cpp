// Pieces -> ids, and the pieces' shared checks.
#include "base/error.h"
#include "text/bpe.h"
#include "text/chat_pieces.h"

namespace retort {
namespace {

// Plain text between two control tokens, cut where the answer changes.
struct ChatPart {
  std::string text;
  int32_t answer;
};

// Encodes texts at the beginning of a conversation, or behind its first control token.
class Encoder {
 public:
  Encoder(const Tokenizer& tokenizer, bool behind)
      : tokenizer_(tokenizer), bpe_(behind ? dynamic_cast<const BpeTokenizer*>(&tokenizer) : nullptr) {
    const auto ids = encode("a");
    adds_space_ = !ids.empty() && tokenizer.token_text(ids[0]).starts_with("\u2581");
  }
  std::vector<int32_t> encode(std::string_view text) const {
    return bpe_ ? bpe_->encode_behind(text) : tokenizer_.encode(text);
  }
  bool adds_space() const { return adds_space_; }  // SentencePiece models put one before a text

 private:
  const Tokenizer& tokenizer_;
  const BpeTokenizer* bpe_;
  bool adds_space_;
};

bool starts_with(const std::vector<int32_t>& ids, const std::vector<int32_t>& prefix) {
  return ids.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), ids.begin());
}

void append(RenderedTokens& rendered, const std::vector<int32_t>& ids, size_t from, int32_t answer) {
  rendered.tokens.insert(rendered.tokens.end(), ids.begin() + static_cast<std::ptrdiff_t>(from), ids.end());
  rendered.answers.resize(rendered.tokens.size(), answer);
}

// A part continues the one before it as long as that leaves the earlier ids alone; else it is encoded on its
// own, which is what the model meets when it generates.
void encode_run(const Encoder& encoder, std::vector<ChatPart>& run, RenderedTokens& rendered) {
  const bool own_space = encoder.adds_space();
  if (!run.empty() && own_space && run[0].text.starts_with(' ')) run[0].text.erase(0, 1);
  std::string before;
  std::vector<int32_t> before_ids;
  for (const auto& part : run) {
    if (part.text.empty()) continue;
    auto ids = encoder.encode(before.empty() ? part.text : before + part.text);
    size_t from = 0;
    std::vector<int32_t> own;
    if (!before.empty()) {
      const bool joined = starts_with(ids, before_ids);
      // Without the join a SentencePiece model brings its own space.
      const bool spare = own_space && part.text.starts_with(' ');
      own = encoder.encode(spare ? std::string_view(part.text).substr(1) : std::string_view(part.text));
      if (joined) from = before_ids.size();
      else ids = own;
    } else {
      own = ids;
    }
    append(rendered, ids, from, part.answer);
    before = part.text;
    before_ids = std::move(own);
    if (own_space && before.starts_with(' ')) before.erase(0, 1);
  }
  run.clear();
}

// Of `"tools":[...]`.
std::string first_name(std::string_view members) {
  return printable(members.substr(1, members.find('"', 1) - 1));
}

}  // namespace

PieceList& PieceList::control(std::string_view token, int32_t answer) {
  pieces_.push_back({std::string(token), true, answer});
  return *this;
}

PieceList& PieceList::control_if_known(std::string_view token, int32_t answer) {
  pieces_.push_back({std::string(token), true, answer, true});
  return *this;
}

PieceList& PieceList::text(std::string_view text, int32_t answer) {
  if (text.empty()) return *this;
  if (!pieces_.empty() && !pieces_.back().control && pieces_.back().answer == answer)
    pieces_.back().text += text;
  else pieces_.push_back({std::string(text), false, answer});
  return *this;
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\n\r\v\f\x1c\x1d\x1e\x1f";
  const auto first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

void require_known_roles(std::string_view family, const std::vector<Message>& messages) {
  for (size_t i = 0; i < messages.size(); ++i) {
    const auto& message = messages[i];
    if (!message.not_carried.empty())
      throw RecipeError(
          fmt::format("message {}: {}: the built-in template {} does not write it; leave such records out "
                      "(on_bad_record: skip), or set data.template to a text in Jinja that does",
                      i + 1, message.not_carried, family));
    if (!message.beside.empty())
      throw RecipeError(
          fmt::format("{}: the built-in template {} does not write it; leave such records out "
                      "(on_bad_record: skip), or set data.template to a text in Jinja that does",
                      first_name(message.beside), family));
    if (message.role != "system" && message.role != "user" && message.role != "assistant")
      throw RecipeError(
          fmt::format("role '{}' is not known to template {}; expected system, user or assistant",
                      printable(message.role), family));
  }
}

void require_turns(std::string_view family, const std::vector<Message>& messages, bool system_first_allowed) {
  require_known_roles(family, messages);
  size_t first = 0;
  if (!messages.empty() && messages[0].role == "system") {
    if (!system_first_allowed)
      throw RecipeError(
          fmt::format("template {} has no system message; put its text into the first user message", family));
    first = 1;
  }
  for (size_t i = first; i < messages.size(); ++i)
    if ((messages[i].role == "user") != ((i - first) % 2 == 0))
      throw RecipeError(fmt::format(
          "message {} has role '{}'; in template {} user and assistant take turns, beginning with user",
          i + 1, messages[i].role, family));
}

RenderedTokens render_tokens(const ChatTemplate& chat, const Tokenizer& tokenizer,
                             const std::vector<Message>& messages, bool add_reply_header) {
  const auto pieces = chat.render(messages, add_reply_header);
  const Encoder at_start(tokenizer, false), behind(tokenizer, true);
  RenderedTokens rendered;
  const auto encode = [&](std::vector<ChatPart>& parts) {
    encode_run(rendered.tokens.empty() ? at_start : behind, parts, rendered);
  };
  const auto* bpe = dynamic_cast<const BpeTokenizer*>(&tokenizer);
  std::vector<ChatPart> run;
  bool strip = false;  // the control token before has the white space behind it
  for (const auto& piece : pieces) {
    if (!piece.control || (piece.if_known && !tokenizer.find(piece.text))) {
      const auto text = std::string_view(piece.text).substr(strip ? behind_white_space(piece.text, 0) : 0);
      strip = strip && text.empty();
      if (!run.empty() && run.back().answer == piece.answer) run.back().text += text;
      else run.push_back({std::string(text), piece.answer});
      continue;
    }
    encode(run);
    strip = false;
    if (piece.text == kBeginOfText) {
      if (tokenizer.add_bos && tokenizer.bos) append(rendered, {*tokenizer.bos}, 0, piece.answer);
      continue;
    }
    const auto id = piece.text == kEndOfText ? tokenizer.eos : tokenizer.find(piece.text);
    if (!id)
      throw RecipeError(
          fmt::format("data.template: template {} needs {}, which this model's tokenizer does not have; set "
                      "data.template to the model's own",
                      chat.name, piece.text == kEndOfText ? "an EOS token" : "the token " + piece.text));
    tokenizer.require_rows({&*id, 1});
    append(rendered, {*id}, 0, piece.answer);
    strip = bpe && bpe->strips_right(*id);
  }
  encode(run);
  return rendered;
}

std::string render_text(const ChatTemplate& chat, const std::vector<Message>& messages, bool add_reply_header,
                        std::string_view bos, std::string_view eos) {
  std::string text;
  for (const auto& piece : chat.render(messages, add_reply_header))
    text += piece.control && piece.text == kBeginOfText ? bos
            : piece.control && piece.text == kEndOfText ? eos
                                                        : std::string_view(piece.text);
  return text;
}

}  // namespace retort
