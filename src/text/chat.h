// Chat templates, rendered natively: messages -> pieces that say which text is content and which is control.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace retort {

// How much of an assistant's message is learned.
enum class Learned : uint8_t { whole, after_thought, nothing };

struct Message {
  std::string role;  // "system", "user", "assistant"
  std::string content;
  Learned learned = Learned::whole;
};

// Control pieces whose spelling depends on the tokenizer: its BOS where its own convention puts one first,
// and its EOS.
inline constexpr std::string_view kBeginOfText = "\x02";
inline constexpr std::string_view kEndOfText = "\x03";

// A piece of a rendered conversation. A control piece is exactly one special token; all other pieces, those
// of the template as well as content, are encoded as plain text, so a user's "<|im_end|>" never becomes that
// token.
struct Piece {
  std::string text;
  bool control = false;
  int32_t answer = -1;  // index of the assistant message that this piece is the reply of (content and its end
                        // token), or -1
};

struct ChatTemplate {
  std::string_view
      name;  // "chatml", "smollm2", "llama3", "mistral-v1", ..., "gemma", "deepseek-v3", "plain", "alpaca"
  std::string_view documentation;
  // add_reply_header: end with the header of an assistant turn, for generation. Throws RecipeError on roles
  // that the family does not know (place: the caller adds it).
  std::vector<Piece> (*render)(const std::vector<Message>& messages, bool add_reply_header);
  // The token texts that end a turn: generation stops there. Empty: the tokenizer's EOS.
  std::vector<std::string> stops;
};

const std::vector<ChatTemplate>& chat_templates();
const ChatTemplate* find_chat_template(std::string_view name);  // nullptr when unknown
// By sha256 of a known template's text; else by what only one family writes (its control tokens); nullptr
// when unknown.
const ChatTemplate* chat_template_by_source(std::string_view jinja_source);

// Jinja text of a template for models that bring none or another: what an export carries so that others ask
// as was trained; "" for those whose text is not kept here. `begins_with_bos`: whether the tokenizer's own
// convention puts BOS first.
std::string_view chat_template_source(std::string_view name, bool begins_with_bos);
// The template of such a text, nullptr when it is none of them.
const ChatTemplate* chat_template_of_ours(std::string_view jinja_source);

// The template that a recipe means: `name`, or for "auto" the one of the model's own jinja text. RecipeError
// that says what to set when neither is known.
const ChatTemplate& choose_chat_template(std::string_view name, std::string_view jinja_source,
                                         std::string_view key = "data.template");

// A conversation as ids. answers[i] is -1 or the index of the assistant message that token i belongs to.
struct RenderedTokens {
  std::vector<int32_t> tokens;
  std::vector<int32_t> answers;
};

// Neighbouring plain pieces are encoded together, as the reference encodes the whole rendered string; before
// an answer the ids are cut so that the ids of the prompt with its reply header are a prefix of the ids of
// the whole conversation. RecipeError when the tokenizer lacks a control token of the template.
RenderedTokens render_tokens(const ChatTemplate& chat, const Tokenizer& tokenizer,
                             const std::vector<Message>& messages, bool add_reply_header);

// The rendered string, with BOS and EOS spelled as given: for display and for goldens.
std::string render_text(const ChatTemplate& chat, const std::vector<Message>& messages, bool add_reply_header,
                        std::string_view bos = "", std::string_view eos = "");

}  // namespace retort
