// Families whose turns are marked by control tokens of their own: Llama, Mistral, Gemma, Phi-3, DeepSeek.
#include "base/error.h"
#include "text/chat_pieces.h"

namespace retort {
namespace {

int32_t answer_index(const Messages& messages, size_t i) {
  return messages[i].role == "assistant" ? static_cast<int32_t>(i) : -1;
}

// The system message in front, if there is one; `rest` is where the turns begin.
std::string_view leading_system(const Messages& messages, size_t& rest) {
  rest = !messages.empty() && messages[0].role == "system" ? 1 : 0;
  return rest == 1 ? std::string_view(messages[0].content) : std::string_view();
}

size_t last_user(const Messages& messages) {
  size_t last = messages.size();
  for (size_t i = 0; i < messages.size(); ++i)
    if (messages[i].role == "user") last = i;
  return last;
}

void llama3_turn(PieceList& pieces, std::string_view role, std::string_view content, int32_t answer) {
  pieces.control("<|start_header_id|>").text(role).control("<|end_header_id|>").text("\n\n");
  pieces.text(trimmed(content), answer).control("<|eot_id|>", answer);
}
void llama3_reply(PieceList& pieces) {
  pieces.control("<|start_header_id|>").text("assistant").control("<|end_header_id|>").text("\n\n");
}

// Which spaces a Mistral version writes, and to which user message the system text belongs.
struct MistralStyle {
  std::string_view family, open, close, before_answer;
  bool marks_are_tokens = true, trims_answers = false, system_in_last_user = false;
};

Pieces mistral(const MistralStyle& style, const Messages& messages) {
  require_turns(style.family, messages, true);
  size_t rest = 0;
  const auto system = leading_system(messages, rest);
  const size_t with_system = rest == 0                   ? messages.size()
                             : style.system_in_last_user ? last_user(messages)
                                                         : 1;
  PieceList pieces;
  pieces.control("<s>");
  for (size_t i = rest; i < messages.size(); ++i) {
    const auto answer = answer_index(messages, i);
    if (answer >= 0) {
      const std::string_view content = messages[i].content;
      pieces
          .text(std::string(style.before_answer) +
                    std::string(style.trims_answers ? trimmed(content) : content),
                answer)
          .control("</s>", answer);
      continue;
    }
    const auto content =
        i == with_system ? std::string(system) + "\n\n" + messages[i].content : messages[i].content;
    if (style.marks_are_tokens)
      pieces.control("[INST]").text(std::string(style.open) + content).control("[/INST]");
    else pieces.text(std::string(style.open) + content + std::string(style.close));
  }
  return pieces.take();
}

Pieces gemma(std::string_view family, const Messages& messages, bool add_reply_header, bool system_allowed) {
  require_turns(family, messages, system_allowed);
  size_t rest = 0;
  const auto system = leading_system(messages, rest);
  PieceList pieces;
  pieces.control("<bos>");
  for (size_t i = rest; i < messages.size(); ++i) {
    const auto answer = answer_index(messages, i);
    pieces.control("<start_of_turn>").text(answer >= 0 ? "model\n" : "user\n");
    if (i == rest && rest == 1) pieces.text(std::string(system) + "\n\n");
    pieces.text(trimmed(messages[i].content), answer).control("<end_of_turn>", answer).text("\n");
  }
  if (add_reply_header) pieces.control("<start_of_turn>").text("model\n");
  return pieces.take();
}

Pieces deepseek(std::string_view family, const Messages& messages, bool add_reply_header, bool thinking) {
  require_known_roles(family, messages);
  PieceList pieces;
  pieces.control("<｜begin▁of▁sentence｜>");
  bool first = true;
  for (const auto& message : messages) {
    if (message.role != "system") continue;
    pieces.text((first ? "" : "\n\n") + message.content);
    first = false;
  }
  for (size_t i = 0; i < messages.size(); ++i) {
    const auto &role = messages[i].role, &content = messages[i].content;
    const auto answer = answer_index(messages, i);
    if (role == "user") pieces.control("<｜User｜>").text(content);
    if (answer < 0) continue;
    pieces.control("<｜Assistant｜>");
    const auto close = content.rfind("</think>");
    if (close == std::string::npos) {
      pieces.text(content, answer);
    } else if (thinking && i + 1 == messages.size()) {
      // The reasoning of the last answer is what is to be learned; the header already wrote "<think>\n".
      std::string_view thought = content;
      if (thought.starts_with("<think>\n")) thought.remove_prefix(8);
      const auto end = thought.rfind("</think>");
      pieces.control("<think>")
          .text("\n")
          .text(thought.substr(0, end), answer)
          .control("</think>", answer)
          .text(thought.substr(end + 8), answer);
    } else {
      pieces.text(std::string_view(content).substr(close + 8), answer);
    }
    pieces.control("<｜end▁of▁sentence｜>", answer);
  }
  if (add_reply_header) {
    pieces.control("<｜Assistant｜>");
    if (thinking) pieces.control("<think>").text("\n");
  }
  return pieces.take();
}

}  // namespace

Pieces render_llama2(const Messages& messages, bool) {
  require_turns("llama2", messages, true);
  size_t rest = 0;
  const auto system = leading_system(messages, rest);
  PieceList pieces;
  for (size_t i = rest; i < messages.size(); ++i) {
    const auto content = std::string(trimmed(messages[i].content));
    const auto answer = answer_index(messages, i);
    if (answer >= 0) {
      pieces.text(" " + content + " ", answer).control("</s>", answer);
    } else {
      const auto block = i == 1 && rest == 1 ? std::string(trimmed("<<SYS>>\n" + std::string(system) +
                                                                   "\n<</SYS>>\n\n" + messages[i].content))
                                             : content;
      pieces.control("<s>").text("[INST] " + block + " [/INST]");
    }
  }
  return pieces.take();
}

Pieces render_llama3(const Messages& messages, bool add_reply_header) {
  require_known_roles("llama3", messages);
  PieceList pieces;
  pieces.control("<|begin_of_text|>");
  for (size_t i = 0; i < messages.size(); ++i)
    llama3_turn(pieces, messages[i].role, messages[i].content, answer_index(messages, i));
  if (add_reply_header) llama3_reply(pieces);
  return pieces.take();
}

// Llama 3.1 to 3.3 always write a system block with dates; the day is the template's own default, so that a
// run of tomorrow renders as one of today.
Pieces render_llama31(const Messages& messages, bool add_reply_header) {
  require_known_roles("llama3.1", messages);
  size_t rest = 0;
  const auto system = leading_system(messages, rest);
  PieceList pieces;
  pieces.control("<|begin_of_text|>")
      .control("<|start_header_id|>")
      .text("system")
      .control("<|end_header_id|>");
  pieces.text("\n\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n")
      .text(trimmed(system))
      .control("<|eot_id|>");
  for (size_t i = rest; i < messages.size(); ++i)
    llama3_turn(pieces, messages[i].role, messages[i].content, answer_index(messages, i));
  if (add_reply_header) llama3_reply(pieces);
  return pieces.take();
}

Pieces render_mistral_v1(const Messages& messages, bool) {
  return mistral({.family = "mistral-v1",
                  .open = " [INST] ",
                  .close = " [/INST]",
                  .before_answer = " ",
                  .marks_are_tokens = false},
                 messages);
}
Pieces render_mistral_v3(const Messages& messages, bool) {
  return mistral({.family = "mistral-v3",
                  .open = " ",
                  .close = "",
                  .before_answer = " ",
                  .trims_answers = true,
                  .system_in_last_user = true},
                 messages);
}
Pieces render_mistral_v3_tekken(const Messages& messages, bool) {
  return mistral({.family = "mistral-v3-tekken",
                  .open = "",
                  .close = "",
                  .before_answer = "",
                  .system_in_last_user = true},
                 messages);
}

Pieces render_mistral_v7(const Messages& messages, bool) {
  require_known_roles("mistral-v7", messages);
  PieceList pieces;
  pieces.control("<s>");
  for (size_t i = 0; i < messages.size(); ++i) {
    const auto &role = messages[i].role, &content = messages[i].content;
    const auto answer = answer_index(messages, i);
    if (role == "system") pieces.control("[SYSTEM_PROMPT]").text(" " + content).control("[/SYSTEM_PROMPT]");
    else if (role == "user") pieces.control("[INST]").text(" " + content).control("[/INST]");
    else pieces.text(" " + content, answer).control("</s>", answer);
  }
  return pieces.take();
}

Pieces render_gemma(const Messages& messages, bool add_reply_header) {
  return gemma("gemma", messages, add_reply_header, false);
}
Pieces render_gemma3(const Messages& messages, bool add_reply_header) {
  return gemma("gemma3", messages, add_reply_header, true);
}

Pieces render_phi3(const Messages& messages, bool add_reply_header) {
  require_known_roles("phi3", messages);
  PieceList pieces;
  for (size_t i = 0; i < messages.size(); ++i) {
    const auto answer = answer_index(messages, i);
    pieces.control("<|" + messages[i].role + "|>")
        .text("\n")
        .text(messages[i].content, answer)
        .control("<|end|>", answer)
        .text("\n");
  }
  if (add_reply_header) pieces.control("<|assistant|>").text("\n");
  else pieces.control(kEndOfText);
  return pieces.take();
}

Pieces render_deepseek_v3(const Messages& messages, bool add_reply_header) {
  return deepseek("deepseek-v3", messages, add_reply_header, false);
}
Pieces render_deepseek_r1(const Messages& messages, bool add_reply_header) {
  return deepseek("deepseek-r1", messages, add_reply_header, true);
}

}  // namespace retort
