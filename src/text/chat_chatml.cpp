// ChatML and the families that write it: SmolLM2, Qwen.
#include "base/error.h"
#include "text/chat_pieces.h"

namespace retort {
namespace {

constexpr std::string_view kStart = "<|im_start|>", kEnd = "<|im_end|>";
constexpr std::string_view kSmolSystem =
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face";
constexpr std::string_view kQwen2System = "You are a helpful assistant.";
constexpr std::string_view kQwen25System =
    "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.";

void add_turn(PieceList& pieces, std::string_view role, std::string_view content, int32_t answer) {
  pieces.control(kStart)
      .text(std::string(role) + "\n")
      .text(content, answer)
      .control(kEnd, answer)
      .text("\n");
}

Pieces chatml(std::string_view family, const Messages& messages, bool add_reply_header,
              std::string_view default_system) {
  require_known_roles(family, messages);
  PieceList pieces;
  if (!default_system.empty() && (messages.empty() || messages[0].role != "system"))
    add_turn(pieces, "system", default_system, -1);
  for (size_t i = 0; i < messages.size(); ++i)
    add_turn(pieces, messages[i].role, messages[i].content,
             messages[i].role == "assistant" ? static_cast<int32_t>(i) : -1);
  if (add_reply_header) pieces.control(kStart).text("assistant\n");
  return pieces.take();
}

std::string_view without(std::string_view text, char edge, bool front, bool back) {
  while (front && text.starts_with(edge)) text.remove_prefix(1);
  while (back && text.ends_with(edge)) text.remove_suffix(1);
  return text;
}

// Qwen3 keeps the thought only in the reply to the last user message and writes an empty one where that reply
// has none.
Pieces qwen3(const Messages& messages, bool add_reply_header, bool thinking) {
  require_known_roles("qwen3", messages);
  size_t last_user = messages.empty() ? 0 : messages.size() - 1;
  for (size_t i = 0; i < messages.size(); ++i)
    if (messages[i].role == "user") last_user = i;
  PieceList pieces;
  for (size_t i = 0; i < messages.size(); ++i) {
    const auto &role = messages[i].role, &content = messages[i].content;
    if (role != "assistant") {
      add_turn(pieces, role, content, -1);
      continue;
    }
    const auto answer = static_cast<int32_t>(i);
    std::string_view thought, reply = content;
    if (const auto close = reply.rfind("</think>"); close != std::string_view::npos) {
      thought = reply.substr(0, reply.find("</think>"));
      thought = without(thought, '\n', false, true);
      if (const auto open = thought.rfind("<think>"); open != std::string_view::npos)
        thought.remove_prefix(open + 7);
      thought = without(thought, '\n', true, true);
      reply = without(reply.substr(close + 8), '\n', true, false);
    }
    pieces.control(kStart).text("assistant\n");
    if (i > last_user && (i + 1 == messages.size() || !thought.empty())) {
      reply = without(reply, '\n', true, false);
      if (!thought.empty() && !thinking)
        throw RecipeError(
            "template qwen3 begins each reply with an empty thought, but this answer holds a <think> part; "
            "set template: qwen3-thinking");
      // What the reply header already says is not the model's to learn.
      pieces.control("<think>", thinking ? answer : -1)
          .text("\n" + std::string(thought) + "\n", thinking ? answer : -1);
      pieces.control("</think>", thinking ? answer : -1).text("\n\n", thinking ? answer : -1);
    }
    pieces.text(reply, answer).control(kEnd, answer).text("\n");
  }
  if (add_reply_header) {
    pieces.control(kStart).text("assistant\n");
    if (!thinking) pieces.control("<think>").text("\n\n").control("</think>").text("\n\n");
  }
  return pieces.take();
}

}  // namespace

Pieces render_chatml(const Messages& messages, bool add_reply_header) {
  return chatml("chatml", messages, add_reply_header, "");
}
Pieces render_smollm2(const Messages& messages, bool add_reply_header) {
  return chatml("smollm2", messages, add_reply_header, kSmolSystem);
}
Pieces render_qwen2(const Messages& messages, bool add_reply_header) {
  return chatml("qwen2", messages, add_reply_header, kQwen2System);
}
Pieces render_qwen25(const Messages& messages, bool add_reply_header) {
  return chatml("qwen2.5", messages, add_reply_header, kQwen25System);
}
Pieces render_qwen3(const Messages& messages, bool add_reply_header) {
  return qwen3(messages, add_reply_header, false);
}
Pieces render_qwen3_thinking(const Messages& messages, bool add_reply_header) {
  return qwen3(messages, add_reply_header, true);
}

}  // namespace retort
