// What a cache keeps of one teacher distribution, and its bits.
//
// The head is the k largest probabilities; the rest of the mass is represented by n draws (random-sampling
// distillation, arXiv:2503.16870). Probabilities are kept as shares of what is still left (stick breaking):
// share_j = p_j / (1 - p_1 - ... - p_{j-1}), rounded at random to a grid in log(share / (1 - share)). The
// shares are rounded independently, so the mean of each p_j and of the rest is exact, and head and rest sum
// to 1. The draws are systematic: n equally spaced points on the cumulated rest with one random offset, so a
// token's expected count is n p_i / rest with less variance than independent draws.
//
// A row's bits, least significant first: head count, number of distinct drawn ids, entropy (12 bits); (id,
// share) of each head token, largest first; drawn ids, rising; their counts in unary. Nothing is aligned.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "teacher/teacher_spec.h"
#include "teacher/top_row.h"

namespace retort {

struct SparseRow {
  std::vector<int32_t> ids;  // head, then drawn
  std::vector<float> p;      // of the head tokens; of a drawn one rest * count / draws
  size_t head = 0;
  float rest = 0;     // mass outside the head
  float entropy = 0;  // nats, of the whole distribution
};

class BitWriter {
 public:
  void put(uint64_t value, int bits);  // bits <= 32
  void append(const BitWriter& other);
  uint64_t size() const { return bits_; }
  const std::vector<uint8_t>& bytes() const { return bytes_; }

 private:
  std::vector<uint8_t> bytes_;
  uint64_t bits_ = 0;
};

// Bits from outside: FormatError, naming `file`, past the end.
class BitReader {
 public:
  BitReader(std::string_view file, std::span<const uint8_t> bytes, uint64_t at = 0)
      : file_(file), bytes_(bytes), at_(at) {}
  uint64_t take(int bits);
  uint64_t position() const { return at_; }

 private:
  std::string_view file_;
  std::span<const uint8_t> bytes_;
  uint64_t at_;
};

// A cache's draws, and the position whose row is encoded with its own of them.
struct RowDraws {
  Draws draws;
  uint64_t position;
  double uniform(uint64_t index) const;
};

// p: probabilities of the whole vocabulary, fp32.
void encode_row(std::span<const float> p, double entropy, const KeepSpec& keep, const RowDraws& draws,
                BitWriter& out);
// A row of which only the likeliest tokens are known: the head and one bucket for the rest; keep.draws is 0.
// The entropy that is kept is that of the buckets.
void encode_top_row(const TopRow& row, int64_t vocabulary, const KeepSpec& keep, const RowDraws& draws,
                    BitWriter& out);
// FormatError for ids outside the vocabulary and counts beyond the rule.
SparseRow decode_row(BitReader& in, const KeepSpec& keep, int64_t vocabulary, std::string_view file);

}  // namespace retort
