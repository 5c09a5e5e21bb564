// Chat templates, rendered natively: messages -> pieces that say which text is content and which is control.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace retort {

struct Message {
  std::string role;     // "system", "user", "assistant"
  std::string content;
};

// A piece of a rendered conversation. Control pieces are encoded with Specials::as_tokens, content never is.
struct Piece {
  std::string text;
  bool control = false;
  int32_t answer = -1;  // index of the assistant message that this piece is the reply of (content and its end token), or -1
};

struct ChatTemplate {
  std::string_view name;  // "chatml", "smollm2", "llama3", "mistral-v1", ..., "gemma", "deepseek-v3", "plain", "alpaca"
  std::string_view documentation;
  // add_reply_header: end with the header of an assistant turn, for generation. Throws RecipeError on roles that the
  // family does not know (place: the caller adds it).
  std::vector<Piece> (*render)(const std::vector<Message>& messages, bool add_reply_header);
  // The token texts that end a turn: generation stops there.
  std::vector<std::string> stops;
};

const std::vector<ChatTemplate>& chat_templates();
const ChatTemplate* find_chat_template(std::string_view name);                // nullptr when unknown
const ChatTemplate* chat_template_by_source(std::string_view jinja_source);   // by sha256 of a known template's text

// A conversation as ids. answers[i] is -1 or the index of the assistant message that token i belongs to.
struct RenderedTokens {
  std::vector<int32_t> tokens;
  std::vector<int32_t> answers;
};
RenderedTokens render_tokens(const ChatTemplate& chat, const Tokenizer& tokenizer, const std::vector<Message>& messages, bool add_reply_header);

}  // namespace retort
