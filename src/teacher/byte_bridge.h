// A teacher with other tokens: its probabilities are carried to the student's tokens through the bytes that
// both stand for.
//
// At a student position that begins at byte b of the supervised text, the teacher's last boundary a <= b is
// found. Of its row there, the tokens whose bytes begin with text[a, b) (all of them when a = b) are what the
// teacher still thinks possible; each gives its probability to the longest student token that begins its
// remaining bytes (a walk in the byte trie of the student's vocabulary). The result is divided by the mass
// that was possible; the mass that found a student token is reported as covered. With equal tokenizers every
// token meets itself and nothing changes.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "teacher/contexts.h"
#include "teacher/sparse_row.h"
#include "text/tokenizer.h"

namespace retort {

class ByteBridge {
 public:
  ByteBridge(const Tokenizer& teacher, const Tokenizer& student);

  // The row over student tokens: those that a head token met first, rising, then those that drawn tokens
  // alone met; p sums to `covered`, and the rest is what is not in the head. The entropy is that of what was
  // carried: for equal tokens the teacher's own.
  struct Carried {
    SparseRow row;
    double covered = 0;   // share of the possible mass that met a student token
    double possible = 0;  // mass of the teacher's tokens that begin with `prefix`
  };
  Carried carry(const SparseRow& teacher, std::string_view prefix) const;

  // The longest student token that begins `bytes`; -1 when none does.
  int32_t longest(std::string_view bytes) const;

 private:
  struct Node {
    std::unordered_map<unsigned char, int32_t> next;
    int32_t token = -1;
  };
  std::vector<std::string> teacher_bytes_;
  std::vector<int32_t>
      special_;  // teacher's control tokens: the student's of the same spelling or role, else -1
  std::vector<Node> trie_;
};

// Where a student's position finds its teacher: the teacher's context, and the bytes of its next token that
// are known already.
struct BridgePlace {
  Context context;
  std::string prefix;
};
// For each supervised context of `student` that lies on the same text as `teacher` (the same record in the
// teacher's tokens). Runs of supervised tokens (answers) are paired in order and aligned at their ends: the
// front of one may be missing in the other, a space that SentencePiece adds or a first token that nothing
// predicts. `lost` counts the positions of runs that differ otherwise, and those before the teacher's first
// boundary.
std::vector<std::pair<Context, BridgePlace>> bridge_places(const Sample& student,
                                                           const Tokenizer& student_tokens,
                                                           const Sample& teacher,
                                                           const Tokenizer& teacher_tokens,
                                                           int64_t* lost = nullptr);

}  // namespace retort
