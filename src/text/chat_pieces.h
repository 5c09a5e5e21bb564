// What the template families share: building pieces, checking roles.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "text/chat.h"

namespace retort {

class PieceList {
 public:
  PieceList& control(std::string_view token, int32_t answer = -1);
  PieceList& control_if_known(std::string_view token, int32_t answer = -1);
  PieceList& text(std::string_view text,
                  int32_t answer = -1);  // joined with plain text of the same answer before it
  std::vector<Piece> take() { return std::move(pieces_); }

 private:
  std::vector<Piece> pieces_;
};

// Whitespace as Python's str.strip() sees it in ASCII.
std::string_view trimmed(std::string_view text);

// RecipeError when a role is not system, user or assistant.
void require_known_roles(std::string_view family, const std::vector<Message>& messages);
// As above, and user and assistant must take turns, beginning with user (after a leading system message if
// allowed).
void require_turns(std::string_view family, const std::vector<Message>& messages, bool system_first_allowed);

// One renderer a family; the table in chat.cpp names them.
using Pieces = std::vector<Piece>;
using Messages = std::vector<Message>;
Pieces render_chatml(const Messages& messages, bool add_reply_header);
Pieces render_smollm2(const Messages& messages, bool add_reply_header);
Pieces render_qwen2(const Messages& messages, bool add_reply_header);
Pieces render_qwen25(const Messages& messages, bool add_reply_header);
Pieces render_qwen3(const Messages& messages, bool add_reply_header);
Pieces render_qwen3_thinking(const Messages& messages, bool add_reply_header);
Pieces render_llama2(const Messages& messages, bool add_reply_header);
Pieces render_llama3(const Messages& messages, bool add_reply_header);
Pieces render_llama31(const Messages& messages, bool add_reply_header);
Pieces render_mistral_v1(const Messages& messages, bool add_reply_header);
Pieces render_mistral_v3(const Messages& messages, bool add_reply_header);
Pieces render_mistral_v3_tekken(const Messages& messages, bool add_reply_header);
Pieces render_mistral_v7(const Messages& messages, bool add_reply_header);
Pieces render_gemma(const Messages& messages, bool add_reply_header);
Pieces render_gemma3(const Messages& messages, bool add_reply_header);
Pieces render_phi3(const Messages& messages, bool add_reply_header);
Pieces render_deepseek_v3(const Messages& messages, bool add_reply_header);
Pieces render_deepseek_r1(const Messages& messages, bool add_reply_header);
Pieces render_deepseek_v32(const Messages& messages, bool add_reply_header);
Pieces render_deepseek_v32_thinking(const Messages& messages, bool add_reply_header);
Pieces render_deepseek_v4(const Messages& messages, bool add_reply_header);
Pieces render_deepseek_v4_thinking(const Messages& messages, bool add_reply_header);
Pieces render_plain(const Messages& messages, bool add_reply_header);
Pieces render_alpaca(const Messages& messages, bool add_reply_header);

}  // namespace retort
