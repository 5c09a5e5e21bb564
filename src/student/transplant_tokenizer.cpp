#include "base/error.h"
#include "student/prune.h"

namespace retort {

TransplantedTokenizer transplant_tokenizer(const Tokenizer& old, std::shared_ptr<const Tokenizer> other) {
  TransplantedTokenizer transplanted;
  const auto of_role = [&](int32_t id) -> std::optional<int32_t> {
    if (const auto same = old.find(other->token_text(id)); same && old.is_special(*same)) return same;
    for (const auto role : {&Tokenizer::eos, &Tokenizer::bos, &Tokenizer::pad, &Tokenizer::unknown})
      if ((*other).*role == id && old.*role) return old.*role;
    return std::nullopt;
  };
  for (int32_t id = 0; id < other->size(); ++id) {
    std::vector<int32_t> parts;
    if (other->is_special(id)) {
      if (const auto same = of_role(id)) parts = {*same};
      else parts = old.encode(other->token_text(id));
    } else {
      parts = old.encode(other->token_bytes(id));
    }
    if (parts.empty()) parts = {old.unknown.value_or(old.eos.value_or(0))};  // a token without text
    transplanted.former.push_back(std::move(parts));
  }
  transplanted.tokenizer = std::move(other);
  return transplanted;
}

}  // namespace retort
