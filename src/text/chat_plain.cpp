// Templates for base models without a format of their own: plain text, and Alpaca's instruction blocks.
#include "text/chat_pieces.h"

namespace retort {

// Prompt, a blank line, answer, EOS. With a system message that text comes first.
Pieces render_plain(const Messages& messages, bool add_reply_header) {
  require_known_roles("plain", messages);
  PieceList pieces;
  pieces.control(kBeginOfText);
  for (size_t i = 0; i < messages.size(); ++i) {
    const auto &role = messages[i].role, &content = messages[i].content;
    const auto answer = static_cast<int32_t>(i);
    if (role == "assistant") pieces.text(content, answer).control(kEndOfText, answer);
    else pieces.text(content + "\n\n");
  }
  (void)add_reply_header;  // an answer has no header here
  return pieces.take();
}

// github.com/tatsu-lab/stanford_alpaca, train.py: PROMPT_DICT["prompt_no_input"]. The system message replaces
// the first sentence; later turns repeat the instruction block alone.
Pieces render_alpaca(const Messages& messages, bool add_reply_header) {
  require_known_roles("alpaca", messages);
  PieceList pieces;
  pieces.control(kBeginOfText);
  size_t first = 0;
  if (!messages.empty() && messages[0].role == "system") {
    pieces.text(messages[0].content + "\n\n");
    first = 1;
  } else {
    pieces.text(
        "Below is an instruction that describes a task. Write a response that appropriately completes the "
        "request.\n\n");
  }
  for (size_t i = first; i < messages.size(); ++i) {
    const auto &role = messages[i].role, &content = messages[i].content;
    const auto answer = static_cast<int32_t>(i);
    if (role == "assistant")
      pieces.text("### Response:\n").text(content, answer).control(kEndOfText, answer).text("\n\n");
    else pieces.text("### Instruction:\n" + content + "\n\n");
  }
  if (add_reply_header) pieces.text("### Response:\n");
  return pieces.take();
}

}  // namespace retort
