// Byte-pair merges apply in their order, and a token arises from its own merge alone. So a text whose tokens
// are kept, together with everything those tokens are merged from, is cut as before once the other merges are
// gone.
#include <unordered_map>

#include "base/error.h"
#include "student/prune.h"

namespace retort {

TrimmedTokenizer trim_tokenizer(const Tokenizer& tokenizer, const std::vector<bool>& used) {
  const auto all = gguf_vocabulary(tokenizer, tokenizer.usable_ids());
  if (all.merges.empty())
    throw RecipeError(
        "prune.vocabulary: this tokenizer has scores instead of merges; only byte-pair tokenizers with "
        "merges are trimmed");
  const auto count = all.tokens.size();
  std::unordered_map<std::string_view, size_t> ids;
  for (size_t i = 0; i < count; ++i) ids.emplace(all.tokens[i], i);

  struct Merge {
    size_t left, right, result;
  };
  std::vector<Merge> merges;
  std::vector<std::vector<size_t>> made_by(count);  // merges that make a token; nearly always one
  for (const auto& text : all.merges) {
    const auto space = text.find(' ', 1);
    if (space == std::string::npos)
      throw RecipeError("prune.vocabulary: a merge of the tokenizer is no pair");
    const auto left = text.substr(0, space), right = text.substr(space + 1), joined = left + right;
    const auto find = [&](const std::string& token) {
      const auto found = ids.find(token);
      return found == ids.end() ? count : found->second;
    };
    const Merge merge{find(left), find(right), find(joined)};
    if (merge.left == count || merge.right == count || merge.result == count)
      throw RecipeError("prune.vocabulary: a merge of the tokenizer names a token that it does not have");
    made_by[merge.result].push_back(merges.size());
    merges.push_back(merge);
  }

  std::vector<bool> kept(count);
  std::vector<size_t> open;
  for (size_t i = 0; i < count; ++i)
    if ((i < used.size() && used[i]) || made_by[i].empty() ||
        (i < all.token_types.size() && all.token_types[i] != 1))
      open.push_back(i);
  while (!open.empty()) {
    const auto id = open.back();
    open.pop_back();
    if (kept[id]) continue;
    kept[id] = true;
    for (const auto m : made_by[id]) open.push_back(merges[m].left), open.push_back(merges[m].right);
  }

  TrimmedTokenizer trimmed;
  GgufVocabulary rest = all;
  rest.tokens.clear(), rest.token_types.clear(), rest.merges.clear(), rest.scores.clear();
  std::vector<int32_t> now(count, -1);
  for (size_t i = 0; i < count; ++i) {
    if (!kept[i]) continue;
    now[i] = static_cast<int32_t>(trimmed.former.size());
    trimmed.former.push_back(static_cast<int32_t>(i));
    rest.tokens.push_back(all.tokens[i]);
    if (i < all.token_types.size()) rest.token_types.push_back(all.token_types[i]);
    if (i < all.scores.size()) rest.scores.push_back(all.scores[i]);
  }
  for (size_t m = 0; m < merges.size(); ++m)
    if (kept[merges[m].left] && kept[merges[m].right] && kept[merges[m].result])
      rest.merges.push_back(all.merges[m]);
  for (auto* id : {&rest.bos, &rest.eos, &rest.pad, &rest.unknown})
    if (*id)
      *id = now.at(static_cast<size_t>(**id)) < 0 ? std::nullopt
                                                  : std::optional(now[static_cast<size_t>(**id)]);
  trimmed.tokenizer = tokenizer_from_gguf(rest, "trimmed vocabulary");
  return trimmed;
}

}  // namespace retort
