#include "import/compressed_row.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/error.h"
#include "base/half.h"

namespace retort {
namespace {

constexpr double kRounding = 1e-3;  // of a sum of probabilities, beside what the stored type does
constexpr double kCurve = 0.1;      // what a curve instead of the ranks themselves may add to their sum

size_t bytes_of_type(const std::string& type) { return type == "float64" ? 8 : type == "float32" ? 4 : 2; }

// The nearest number of a type.
double rounded(const std::string& type, double value) {
  if (type == "float64") return value;
  const auto single = static_cast<float>(value);
  if (type == "float32") return single;
  return type == "bfloat16" ? bf16_to_float(float_to_bf16(single)) : half_to_float(float_to_half(single));
}

template <class Number> Number load(const uint8_t* bytes) {
  Number value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

double take_number(std::span<const uint8_t>& bytes, const std::string& type) {
  const auto* at = bytes.data();
  bytes = bytes.subspan(bytes_of_type(type));
  if (type == "float64") return load<double>(at);
  if (type == "float32") return load<float>(at);
  return type == "bfloat16" ? bf16_to_float(load<uint16_t>(at)) : half_to_float(load<uint16_t>(at));
}

// Whole numbers of 1 to 64 bits, most significant bit first, nothing between them.
class WholeNumbers {
 public:
  explicit WholeNumbers(std::span<const uint8_t> bytes) : bytes_(bytes) {}
  uint64_t take(size_t bits) {
    uint64_t value = 0;
    for (size_t done = 0; done < bits;) {
      const auto offset = at_ % 8, step = std::min(8 - offset, bits - done);
      value = value << step | ((bytes_[at_ / 8] >> (8 - offset - step)) & ((1u << step) - 1));
      at_ += step, done += step;
    }
    return value;
  }

 private:
  std::span<const uint8_t> bytes_;
  size_t at_ = 0;
};

size_t packed_bytes(size_t count, size_t bits) { return (count * bits + 7) / 8; }

// The middle of the 2^bits numbers is 0; of two they are -1 and 1.
float signed_element(uint64_t stored, size_t bits) {
  if (bits == 1) return stored ? 1.0f : -1.0f;
  return static_cast<float>(static_cast<int64_t>(stored - (uint64_t{1} << (bits - 1))));
}

// `count` equally spaced points from 0 to 1, built from both ends.
template <class Number> Number spaced(size_t rank, size_t count) {
  const Number step = 1 / static_cast<Number>(count - 1);
  if (rank < count / 2) return step * static_cast<Number>(rank);
  return 1 - step * static_cast<Number>(count - 1 - rank);
}

// 0, 1, 2, ... or 0 to 1: worked out in fp32 for the types below it, and rounded once.
double place_of(size_t rank, size_t count, bool normalized, const std::string& type) {
  if (!normalized) return rounded(type, static_cast<double>(rank));
  if (count < 2) return 0;
  return type == "float64" ? spaced<double>(rank, count) : rounded(type, spaced<float>(rank, count));
}

double term(const std::string& name, double t) {
  return name == "sqrt" ? std::sqrt(t) : name == "exp" ? std::exp(t) : std::pow(t, std::stoi(name));
}

}  // namespace

RankDecoder::RankDecoder(const CompressionConfig& config) : config_(config) {
  id_bits_ = static_cast<size_t>(std::bit_width(static_cast<uint64_t>(vocabulary_of(config) - 1)));
  if (const auto* packed = std::get_if<PackedRows>(&config)) {
    ranks_ = static_cast<size_t>(packed->k), exact_ = static_cast<size_t>(packed->exact_k),
    terms_ = packed->polynomial_terms.size();
    term_type_ = packed->term_dtype;
    value_bytes_ = exact_ * bytes_of_type(packed->exact_dtype) + terms_ * bytes_of_type(term_type_);
    for (const auto& bin : packed->residual_bins)
      value_bytes_ += bytes_of_type(bin.scale_dtype) + packed_bytes(static_cast<size_t>(bin.num_elements),
                                                                    static_cast<size_t>(bin.element_bits));
    id_bytes_ = packed_bytes(ranks_, id_bits_);
    for (size_t rank = 0; rank < ranks_ - exact_; ++rank)
      for (const auto& name : packed->polynomial_terms)
        powers_.push_back(rounded(
            term_type_, term(name, place_of(rank, ranks_ - exact_, packed->normalize_t, term_type_))));
    return;
  }
  const auto& fitted = std::get<FittedRows>(config);
  ranks_ = static_cast<size_t>(fitted.k), exact_ = static_cast<size_t>(fitted.exact_k);
  term_type_ = "float32";  // whatever they were rounded to, the column is fp32
  if (exact_ < ranks_) terms_ = static_cast<size_t>(fitted.polynomial_degree) + 1 + fitted.with_sqrt_term;
  id_words_ = (ranks_ + 64 / id_bits_ - 1) / (64 / id_bits_);
  for (size_t rank = 1; rank <= ranks_ - exact_; ++rank) {
    for (int64_t power = 0; power <= fitted.polynomial_degree; ++power)
      powers_.push_back(static_cast<float>(std::pow(
          static_cast<double>(rank), static_cast<double>(fitted.invert_polynomial ? -power : power))));
    if (fitted.with_sqrt_term) powers_.push_back(std::sqrt(static_cast<float>(rank)));
  }
}

double RankDecoder::curve(size_t rank, std::span<const double> coefficients) const {
  const auto* powers = powers_.data() + rank * terms_;
  if (term_type_ == "float64")
    return std::inner_product(coefficients.begin(), coefficients.end(), powers, 0.0);
  float sum = 0;
  for (size_t i = 0; i < coefficients.size(); ++i)
    sum += static_cast<float>(rounded(term_type_, powers[i] * coefficients[i]));
  return rounded(term_type_, sum);
}

void RankDecoder::packed(std::span<const uint8_t> values, std::span<const uint8_t> ids, Ranks& ranks) const {
  const auto& config = std::get<PackedRows>(config_);
  WholeNumbers stored_ids(ids);
  ranks.ids.resize(ranks_);
  for (auto& id : ranks.ids) id = stored_ids.take(id_bits_);
  std::vector<double> read(ranks_);
  for (size_t rank = 0; rank < exact_; ++rank) read[rank] = take_number(values, config.exact_dtype);
  std::vector<double> coefficients(terms_);
  for (auto& coefficient : coefficients) coefficient = take_number(values, term_type_);
  auto next = exact_;
  for (const auto& bin : config.residual_bins) {
    const auto bits = static_cast<size_t>(bin.element_bits), count = static_cast<size_t>(bin.num_elements);
    const double scale = take_number(values, bin.scale_dtype);
    WholeNumbers elements(values);
    for (size_t i = 0; i < count; ++i)
      read[next++] = static_cast<float>(signed_element(elements.take(bits), bits) * scale);
    values = values.subspan(packed_bytes(count, bits));
  }
  if (terms_ > 0)
    for (size_t rank = exact_; rank < ranks_; ++rank)
      read[rank] = term_type_ == "float64" ? read[rank] + curve(rank - exact_, coefficients)
                                           : static_cast<float>(read[rank]) +
                                                 static_cast<float>(curve(rank - exact_, coefficients));
  ranks.log_p.resize(ranks_);
  double sum = 0;
  for (size_t rank = 0; rank < ranks_; ++rank) {
    if (!config.delta_encoding) sum = read[rank];
    else if (!std::isinf(sum))
      sum += static_cast<float>(read[rank]);  // behind a rank that holds nothing none does
    ranks.log_p[rank] = static_cast<float>(sum);
  }
}

void RankDecoder::fitted(std::span<const uint64_t> ids, std::span<const float> exact,
                         std::span<const float> coefficients, Ranks& ranks) const {
  const auto a_word = 64 / id_bits_;
  ranks.ids.resize(ranks_);
  for (size_t rank = 0; rank < ranks_; ++rank)
    ranks.ids[rank] = (ids[rank / a_word] >> (rank % a_word * id_bits_)) & ((uint64_t{1} << id_bits_) - 1);
  ranks.log_p.assign(exact.begin(), exact.end());
  const std::vector<double> read(coefficients.begin(), coefficients.end());
  for (size_t rank = exact_; rank < ranks_; ++rank)
    ranks.log_p.push_back(static_cast<float>(curve(rank - exact_, read)));
}

RowSettler::RowSettler(const CompressionConfig& config, int64_t tokens)
    : vocabulary_(vocabulary_of(config)),
      tokens_(tokens),
      seen_(static_cast<size_t>(std::max(vocabulary_, tokens)), -1) {
  const auto* packed = std::get_if<PackedRows>(&config);
  const auto& type = packed ? packed->exact_dtype : "float16";  // the older schema keeps halves in its column
  rounding_ = type == std::string("bfloat16") ? 0x1p-8 : type == std::string("float16") ? 0x1p-11 : 0x1p-23;
  exact_ = static_cast<size_t>(packed ? packed->exact_k : std::get<FittedRows>(config).exact_k);
  curved_ = exact_ < static_cast<size_t>(packed ? packed->k : std::get<FittedRows>(config).k);
}

std::string RowSettler::settle(const Ranks& ranks, TopRow& row) {
  row.ids.clear(), row.log_p.clear();
  order_.clear();
  ++number_;
  double sum = 0, allowed = kRounding + (curved_ ? kCurve : 0);
  for (size_t rank = 0; rank < ranks.ids.size(); ++rank) {
    const auto log_p = static_cast<double>(ranks.log_p[rank]);
    if (std::isnan(log_p)) return fmt::format("rank {} is not a number", rank + 1);
    if (std::isinf(log_p) && log_p < 0) continue;
    if (ranks.ids[rank] >= static_cast<uint64_t>(vocabulary_))
      return fmt::format("rank {} names token {}; the vocabulary has {}", rank + 1, ranks.ids[rank],
                         vocabulary_);
    const double p = std::exp(log_p);
    if (p > 1 + (rank < exact_ ? kRounding : kCurve))
      return fmt::format(
          "rank {} has a probability of {:.4g}; are these log-probabilities, stored with this configuration?",
          rank + 1, p);
    const auto id = static_cast<size_t>(ranks.ids[rank]);
    if (seen_[id] == number_ || static_cast<int64_t>(id) >= tokens_) {
      ++left_out_;
      continue;
    }
    seen_[id] = number_;
    sum += p;
    if (rank < exact_) allowed += p * std::abs(log_p) * rounding_;
    order_.push_back(rank);
  }
  if (order_.empty()) return "no rank holds a probability";
  if (sum > 1 + allowed)
    return fmt::format(
        "its probabilities add up to {:.4f}; are these log-probabilities, stored with this configuration?",
        sum);
  std::stable_sort(order_.begin(), order_.end(),
                   [&](size_t a, size_t b) { return ranks.log_p[a] > ranks.log_p[b]; });
  for (const auto rank : order_) {
    row.ids.push_back(static_cast<int32_t>(ranks.ids[rank]));
    row.log_p.push_back(ranks.log_p[rank]);
  }
  return "";
}

}  // namespace retort
