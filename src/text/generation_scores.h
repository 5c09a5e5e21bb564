// BLEU, chrF and ROUGE-L as their reference programs compute them.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace retort {

// Of a corpus, 0 to 100 (Papineni et al. 2002): sacrebleu's default, tokens of mteval-v13a, up to 4 of them,
// smoothing "exp", one reference.
class Bleu {
 public:
  void add(std::string_view expected, std::string_view got);
  double score() const;

 private:
  static constexpr size_t kOrder = 4;
  std::array<int64_t, kOrder> right_ = {}, all_ = {};
  int64_t expected_ = 0, got_ = 0;
};

// Of a corpus, 0 to 100 (Popovic 2015): sacrebleu's default chrF2, up to 6 characters without white space.
class Chrf {
 public:
  void add(std::string_view expected, std::string_view got);
  double score() const;

 private:
  static constexpr size_t kOrder = 6;
  std::array<int64_t, kOrder> right_ = {}, expected_ = {}, got_ = {};
};

// F1 of the longest common subsequence of words, 0 to 1 (Lin 2004): rouge-score's rougeL without stemming,
// whose words are of a to z and digits alone. Texts in other scripts have none: use chrF for them.
double rouge_l(std::string_view expected, std::string_view got);

// The tokens of mteval-v13a.
std::vector<std::string> bleu_tokens(std::string_view text);

// Does the answer hold every passage that the expected one quotes ("...", „...“, “...”, «...», 「...」), or,
// where it quotes none, all of it? White space counts as one space, case does not count.
bool holds_citations(std::string_view expected, std::string_view got);

}  // namespace retort
