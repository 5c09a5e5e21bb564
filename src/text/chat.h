// Chat templates, rendered natively: messages -> pieces that say which text is content and which is control.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace retort {

// How much of an assistant's message is learned.
enum class Learned : uint8_t { whole, after_thought, nothing };

struct Message {
  std::string role;  // "system", "user", "assistant"; templates in Jinja know more: "tool", "developer"
  std::string content;
  Learned learned = Learned::whole;
  // What else the record says of the message, as members of a JSON object in the order and spelling of the
  // file: `"tool_calls":[...],"name":"x"`. Only templates in Jinja see it.
  std::string fields = {};
  std::string not_carried = {};  // the first of `fields` that means something: no built-in template writes it
  // A thought that came in a field of its own. The content holds it too, as <think>...</think>; `spoken` is
  // the content without it.
  std::string thought = {}, spoken = {};
  // What the record says beside its messages (tools, documents, switches), as such members; on the first.
  std::string beside = {};
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
  int32_t answer = -1;    // index of the assistant message that this piece is the reply of (content and its
                          // end token), or -1
  bool if_known = false;  // a control piece that is plain text where the tokenizer has no such token
};

struct ChatTemplate {
  // "chatml", "smollm2", "llama3", "mistral-v1", ..., "plain", "alpaca"; of any other text "jinja-" and the
  // beginning of its sha256
  std::string name, documentation;
  // add_reply_header: end with the header of an assistant turn, for generation. Throws RecipeError on what
  // the template refuses (place: the caller adds it).
  std::function<std::vector<Piece>(const std::vector<Message>& messages, bool add_reply_header)> render;
  // The token texts that end a turn: generation stops there. Empty: the tokenizer's EOS.
  std::vector<std::string> stops;
  std::string source = {};  // the Jinja text that is rendered, for exports; empty where only a name is known
  std::string tools_source = {};  // the one that is rendered where a record brings tools, if it is another
  // Renders all that turns.h and render_tokens() will ask of these conversations, for this thread, at once.
  std::function<void(std::span<const std::vector<Message>* const> conversations)> prepare = nullptr;
};

const std::vector<ChatTemplate>& chat_templates();
const ChatTemplate* find_chat_template(std::string_view name);  // nullptr when unknown
// The built-in template that renders as this text does, by its sha256; nullptr when there is none.
const ChatTemplate* chat_template_by_source(std::string_view jinja_source);

// Jinja text of a template for models that bring none or another: what an export carries so that others ask
// as was trained; "" for those whose text is not kept here. `begins_with_bos`: whether the tokenizer's own
// convention puts BOS first.
std::string_view chat_template_source(std::string_view name, bool begins_with_bos);
// The template of such a text, nullptr when it is none of them.
const ChatTemplate* chat_template_of_ours(std::string_view jinja_source);

// What a recipe says of the template.
struct WantedTemplate {
  std::string name = "auto";  // or the name of one of the model's or of a built-in one, a file, a Jinja text
  std::vector<std::pair<std::string, std::string>> arguments = {};  // switches: name, value as JSON
  std::string key = "data.template";                                // where it says so
};

// What a model brings.
struct OwnTemplates {
  std::string_view text;  // in Jinja, the "default" one; or the name of a built-in template; or empty
  std::span<const std::pair<std::string, std::string>> named = {};  // others: name, text in Jinja
};

// The template that is meant: for "auto" the model's own text, and its "tool_use" for records with tools, as
// transformers does. A built-in renderer is used for a text that it equals, the interpreter
// (template_engine.h) for all others, and for tools and what else the built-in ones do not write. It lives as
// long as the program. RecipeError that says what to set when there is none.
const ChatTemplate& choose_chat_template(const WantedTemplate& wanted, const OwnTemplates& own,
                                         const Tokenizer& tokenizer);
const ChatTemplate& choose_chat_template(const WantedTemplate& wanted, std::string_view own_text,
                                         const Tokenizer& tokenizer);
// The same for "auto", and nullptr where there is no text or it cannot be read.
const ChatTemplate* own_chat_template(const OwnTemplates& own, const Tokenizer& tokenizer);
// RecipeError for a name that is misspelt whatever the model is.
void require_template_name(const WantedTemplate& wanted);
// Whether a tokenizer has the control tokens of a prompt.
bool has_tokens_of(const ChatTemplate& chat, const Tokenizer& tokenizer);

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
