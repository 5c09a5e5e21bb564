// One position of a DistillKit folder: from its stored numbers to the likeliest tokens.
//
// Packed (the current schema): exact_k values, coefficients of the curve through the other ranks, then for
// each bin a scale and whole numbers; everything little-endian, whole numbers most significant bit first,
// each bin padded to bytes. With delta_encoding the sum up to a rank is its log-probability. Ids: ceil(log2
// d) bits each, most significant first. Fitted (the older schema): float columns; ids are put into 64-bit
// words lowest bits first, as many as fit, none across two words.
//
// The curve is evaluated in the type of its coefficients (term_dtype), since residuals were taken from what
// that gives; everything after it in fp32.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "import/compression_config.h"
#include "teacher/served_teacher.h"

namespace retort {

// Every rank as it is stored: ids may be anything, log-probabilities not numbers.
struct Ranks {
  std::vector<uint64_t> ids;
  std::vector<float> log_p;
};

class RankDecoder {
 public:
  explicit RankDecoder(const CompressionConfig& config);
  // Sizes that the configuration asks for.
  size_t value_bytes() const { return value_bytes_; }
  size_t id_bytes() const { return id_bytes_; }
  size_t id_words() const { return id_words_; }
  size_t exact() const { return exact_; }
  size_t coefficients() const { return terms_; }
  void packed(std::span<const uint8_t> values, std::span<const uint8_t> ids, Ranks& ranks) const;
  void fitted(std::span<const uint64_t> ids, std::span<const float> exact,
              std::span<const float> coefficients, Ranks& ranks) const;

 private:
  double curve(size_t rank, std::span<const double> coefficients) const;
  CompressionConfig config_;
  std::string term_type_;
  size_t ranks_ = 0, exact_ = 0, terms_ = 0, value_bytes_ = 0, id_bits_ = 0, id_bytes_ = 0, id_words_ = 0;
  std::vector<double> powers_;  // [rank behind the exact ones][term]
};

// What is left of a position's ranks for a student: likeliest first, without ranks that hold nothing (-inf),
// tokens beyond the student's (padding of the matrices) and tokens that stand twice (a server names equally
// likely ones at two ranks). Those stay in the rest.
class RowSettler {
 public:
  RowSettler(const CompressionConfig& config, int64_t tokens);
  // "" or what makes these ranks no distribution: ids outside the vocabulary, values that are no numbers,
  // probabilities above 1 in one or in sum.
  std::string settle(const Ranks& ranks, TopRow& row);
  int64_t left_out() const { return left_out_; }  // ranks of tokens beyond the student's, or named twice

 private:
  int64_t vocabulary_, tokens_;
  size_t exact_;
  double rounding_;  // of an exact log-probability, relative
  bool curved_;
  int64_t left_out_ = 0, number_ = 0;
  std::vector<int64_t> seen_;  // number of the last row that named the token
  std::vector<size_t> order_;
};

}  // namespace retort
