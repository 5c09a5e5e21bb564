#include "teacher/sparse_row.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "base/error.h"
#include "distill/objective.h"

namespace retort {
namespace {

// Probabilities that fall as a power of the rank, ids shuffled.
std::vector<float> zipf(size_t size, double exponent, uint64_t seed) {
  const auto order = shuffled(static_cast<int64_t>(size), Draws(seed, "test"));
  std::vector<double> p(size);
  for (size_t i = 0; i < size; ++i)
    p[static_cast<size_t>(order[i])] = std::pow(static_cast<double>(i + 1), -exponent);
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  std::vector<float> result;
  for (const double x : p) result.push_back(static_cast<float>(x / sum));
  return result;
}
double entropy_of(const std::vector<float>& p) {
  double sum = 0;
  for (const float x : p)
    if (x > 0) sum -= static_cast<double>(x) * std::log(x);
  return sum;
}
SparseRow through_bits(const std::vector<float>& p, const KeepSpec& keep, uint64_t position,
                       uint64_t* bits = nullptr) {
  BitWriter out;
  encode_row(p, entropy_of(p), keep, {Draws(1, "test"), position}, out);
  if (bits) *bits = out.size();
  BitReader in("test", out.bytes());
  const auto row = decode_row(in, keep, static_cast<int64_t>(p.size()), "test");
  EXPECT_EQ(in.position(), out.size());
  return row;
}

TEST(Bits, ReadBackWhatWasPut) {
  BitWriter out, more;
  out.put(5, 3), out.put(0x1FFFF, 17), out.put(0, 1), out.put(0xABCDE, 20);
  more.put(1, 1), more.put(0x155, 9);
  out.append(more);
  BitReader in("f", out.bytes());
  EXPECT_EQ(in.take(3), 5u);
  EXPECT_EQ(in.take(17), 0x1FFFFu);
  EXPECT_EQ(in.take(1), 0u);
  EXPECT_EQ(in.take(20), 0xABCDEu);
  EXPECT_EQ(in.take(1), 1u);
  EXPECT_EQ(in.take(9), 0x155u);
  EXPECT_THROW(in.take(20), FormatError);
}

TEST(SparseRow, KeepsTheLargestAndOneDistribution) {
  const auto p = zipf(1000, 1.1, 5);
  const KeepSpec keep;
  const auto row = through_bits(p, keep, 3);
  ASSERT_EQ(row.head, 6u);
  std::vector<float> sorted = p;
  std::sort(sorted.rbegin(), sorted.rend());
  double sum = 0;
  for (size_t i = 0; i < row.ids.size(); ++i) {
    if (i < row.head) {
      EXPECT_EQ(p[static_cast<size_t>(row.ids[i])], sorted[i]);
      EXPECT_NEAR(row.p[i] / sorted[i], 1, 0.03);  // six independent roundings of 0.35 %
    }
    sum += row.p[i];
  }
  EXPECT_NEAR(sum, 1, 1e-6);
  EXPECT_NEAR(row.entropy, entropy_of(p), 1.0 / 256);
}

TEST(SparseRow, WholeVocabularyAtHighPrecisionIsTheDistribution) {
  const auto p = zipf(40, 1, 6);
  const auto row = through_bits(p, {.head = 40, .draws = 0, .precision = 24}, 0);
  ASSERT_EQ(row.head, 40u);
  EXPECT_EQ(row.rest, 0);
  for (size_t i = 0; i < 40; ++i) EXPECT_NEAR(row.p[i] / p[static_cast<size_t>(row.ids[i])], 1, 1e-4);
}

TEST(SparseRow, ConfidentRowsAreShort) {
  std::vector<float> p(49152, 0.0005f / 49151);
  p[77] = 0.9995f;
  uint64_t bits = 0;
  const auto row = through_bits(p, {}, 0, &bits);
  EXPECT_EQ(row.head, 1u);
  EXPECT_EQ(row.ids.size(), 2u);  // one draw stands for the rest
  EXPECT_LE(bits, 64u);
  std::vector<float> certain(100);
  certain[3] = 1;
  const auto sure = through_bits(certain, {}, 0);
  EXPECT_EQ(sure.ids, std::vector<int32_t>{3});
  EXPECT_EQ(sure.p[0], 1);
  EXPECT_EQ(sure.rest, 0);
}

// The budget, for the flattest distributions there are: nothing is saved by a short head.
TEST(SparseRow, WorstCaseFitsTheBudget) {
  for (const auto& [vocabulary, budget] : {std::pair<size_t, double>{129280, 48}, {49152, 40}}) {
    const std::vector<float> flat(vocabulary, 1.0f / static_cast<float>(vocabulary));
    double worst = 0;
    for (uint64_t position = 0; position < 20; ++position) {
      uint64_t bits = 0;
      through_bits(flat, {}, position, &bits);
      worst = std::max(worst, static_cast<double>(bits) / 8);
    }
    EXPECT_LE(worst, budget - 1) << vocabulary;  // one byte is left for the file around it
  }
}

// Over many draws the mean of what is kept is the distribution, in every token: compared with the standard
// error, and the squared deviations with what chance gives.
TEST(SparseRow, TheMeanOfManyDrawsIsTheDistribution) {
  constexpr int kDraws = 10000;
  for (const double exponent : {0.6, 1.5}) {
    const auto p = zipf(60, exponent, 7);
    const KeepSpec keep{.head = 4, .draws = 5};
    std::vector<double> sum(p.size()), squares(p.size());
    for (uint64_t position = 0; position < kDraws; ++position) {
      std::vector<double> row(p.size());
      const auto kept = through_bits(p, keep, position);
      for (size_t i = 0; i < kept.ids.size(); ++i) row[static_cast<size_t>(kept.ids[i])] += kept.p[i];
      for (size_t i = 0; i < p.size(); ++i) sum[i] += row[i], squares[i] += row[i] * row[i];
    }
    double chi = 0;
    for (size_t i = 0; i < p.size(); ++i) {
      const double mean = sum[i] / kDraws, error = std::sqrt((squares[i] / kDraws - mean * mean) / kDraws);
      EXPECT_LT(std::abs(mean - p[i]), 4.5 * error + 1e-9) << i;
      chi += (mean - p[i]) * (mean - p[i]) / (error * error);
    }
    EXPECT_LT(chi, 120);  // 60 +- 11
  }
}

TEST(SparseRow, DrawsAreKeyedByPosition) {
  const auto p = zipf(500, 0.5, 8);
  EXPECT_EQ(through_bits(p, {}, 4).ids, through_bits(p, {}, 4).ids);
  EXPECT_NE(through_bits(p, {}, 4).ids, through_bits(p, {}, 5).ids);
}

TEST(SparseRow, RefusesBitsThatAreNoRow) {
  const auto p = zipf(500, 0.5, 9);
  BitWriter out;
  encode_row(p, 1, {}, {Draws(1, "test"), 0}, out);
  const auto problem = [&](std::vector<uint8_t> bytes, int64_t vocabulary) -> std::string {
    try {
      BitReader in("f", bytes);
      decode_row(in, {}, vocabulary, "f");
    } catch (const FormatError& error) { return error.what(); }
    return "";
  };
  EXPECT_EQ(problem(out.bytes(), 500), "");
  EXPECT_NE(
      problem(std::vector<uint8_t>(out.bytes().begin(), out.bytes().end() - 4), 500).find("ends inside"),
      std::string::npos);
  EXPECT_NE(problem({0xFF, 0xFF, 0xFF, 0xFF}, 500).find("more than the settings"),
            std::string::npos);  // head 7 of 6
  EXPECT_NE(problem(std::vector<uint8_t>(100, 0xFE), 500).find(": rows:"), std::string::npos);
}

// KL of the partition (head, rest), worked by hand: p = (0.5, 0.25 | 0.25), q = (0.25, 0.25 | 0.5).
TEST(BucketDivergence, ValueAndGradientByHand) {
  const SparseRow row{{3, 8}, {0.5f, 0.25f}, 2, 0.25f, 0};
  const std::vector<float> log_q = {std::log(0.25f), std::log(0.25f)};
  std::vector<float> corrections(2);
  const auto cost = bucket_divergence(find_divergence("forward_kl"), 0, row, log_q, corrections);
  EXPECT_NEAR(cost.nats, 0.5 * std::log(2) + 0 + 0.25 * std::log(0.5), 1e-6);
  // dz of a head token: q - p; of a rest token: q_i (1 - 0.25 / 0.5)
  EXPECT_NEAR(cost.softmax, 0.5, 1e-6);
  EXPECT_NEAR(0.5 * 0.25 + corrections[0], 0.25 - 0.5, 1e-6);
  EXPECT_NEAR(0.5 * 0.25 + corrections[1], 0, 1e-6);
}

// k = V equals the full divergence, k = 8 is at most that and never negative, for every divergence.
TEST(BucketDivergence, IsExactForAWholeHeadAndNeverNegative) {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    const auto p = zipf(64, 0.5 + 0.1 * static_cast<double>(seed % 15), seed),
               q = zipf(64, 1.2, seed % 7 == 0 ? seed : 100 + seed);
    std::vector<float> log_p, log_q;
    for (const float x : p) log_p.push_back(std::log(x));
    for (const float x : q) log_q.push_back(std::log(x));
    for (const auto& divergence : divergences()) {
      std::vector<float> gradient(64);
      const double full = measure(divergence, {log_p, p, log_q, q}, divergence.parameter, gradient);
      for (const int64_t head : {8, 64}) {
        const auto row = through_bits(p, {.head = head, .draws = 0, .precision = 24}, seed);
        std::vector<float> asked, corrections(row.ids.size());
        for (const auto id : row.ids) asked.push_back(log_q[static_cast<size_t>(id)]);
        const auto cost = bucket_divergence(divergence, divergence.parameter, row, asked, corrections);
        EXPECT_GE(cost.nats, -1e-7) << divergence.name;
        if (head == 64) {
          EXPECT_NEAR(cost.nats, full, 1e-4) << divergence.name;
          for (size_t i = 0; i < row.ids.size() && divergence.name != "total_variation";
               ++i) {  // where p = q its sign is chance
            const auto id = static_cast<size_t>(row.ids[i]);
            EXPECT_NEAR(cost.softmax * q[id] + corrections[i], gradient[id], 1e-4) << divergence.name;
          }
        } else if (divergence.name != "adaptive_kl") {  // no f-divergence: merging cells may raise it
          EXPECT_LE(cost.nats, full + 1e-6) << divergence.name;
        }
      }
    }
  }
}

}  // namespace
}  // namespace retort
