#include "teacher/sparse_row.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <queue>

#include "base/error.h"

namespace retort {
namespace {

constexpr double kEnough = 0.001;  // a head that leaves less than this is not made longer
constexpr double kEveryDraw =
    0.25;  // a rest of at least this gets all its draws, a smaller one proportionally fewer
constexpr double kShareRange = 14;  // shares from 8e-7 to 1 - 8e-7; the largest of n tokens has at least 1/n
constexpr int kEntropyBits = 12;
constexpr double kEntropyStep = 1.0 / 256;  // up to 16 nats: e^16 tokens
constexpr uint64_t kDrawsARow =
    1 << 20;  // numbers set aside for the draws of a row; above KeepSpec's largest head

int bits_for(int64_t largest) { return std::bit_width(static_cast<uint64_t>(largest)); }

// Code c of `bits` bits -> log(share / (1 - share)); the last code is a share of 1.
double grid(uint64_t code, int bits) {
  return -kShareRange +
         2 * kShareRange * static_cast<double>(code) / static_cast<double>((uint64_t{1} << bits) - 2);
}
double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
struct Share {
  double taken, left;  // sum to 1; each is exact where the other is nearly 1
};
Share share_of(uint64_t code, int bits) {
  if (code == (uint64_t{1} << bits) - 1) return {1, 0};
  const double x = grid(code, bits);
  return {sigmoid(x), sigmoid(-x)};
}

// One of the two codes around taken : left, so that the mean of the decoded share is exact.
uint64_t rounded_share(double taken, double left, int bits, double draw) {
  const auto last = (uint64_t{1} << bits) - 1;
  if (left <= 0) return last;
  const double at =
      (std::log(taken / left) + kShareRange) / (2 * kShareRange) * static_cast<double>(last - 1);
  if (at < 0) return 0;
  const auto below = std::min(static_cast<uint64_t>(at), last - 1);
  const auto low = share_of(below, bits), high = share_of(below + 1, bits);
  // Differences of `left` where shares are near 1, of `taken` elsewhere: no digits cancel.
  const double share = taken / (taken + left), rest = left / (taken + left);
  const double up = share > 0.5 ? (low.left - rest) / (low.left - high.left)
                                : (share - low.taken) / (high.taken - low.taken);
  return draw < up ? below + 1 : below;
}

// The `count` largest, largest first; equal ones by id.
std::vector<int32_t> largest(std::span<const float> p, size_t count) {
  const auto better = [&](int32_t a, int32_t b) {
    return p[static_cast<size_t>(a)] > p[static_cast<size_t>(b)] ||
           (p[static_cast<size_t>(a)] == p[static_cast<size_t>(b)] && a < b);
  };
  std::vector<int32_t> best;
  if (count < p.size()) {
    std::priority_queue<int32_t, std::vector<int32_t>, decltype(better)> kept(better);  // the worst on top
    float bar = -1;
    for (size_t i = 0; i < p.size(); ++i) {
      if (kept.size() == count && p[i] <= bar) continue;
      if (kept.size() == count) kept.pop();
      kept.push(static_cast<int32_t>(i));
      bar = p[static_cast<size_t>(kept.top())];
    }
    for (; !kept.empty(); kept.pop()) best.push_back(kept.top());
  } else {
    for (size_t i = 0; i < p.size(); ++i) best.push_back(static_cast<int32_t>(i));
  }
  std::sort(best.begin(), best.end(), better);
  return best;
}

// Head count, number of drawn ids, entropy.
void put_sizes(size_t kept, size_t drawn, double entropy, double draw, const KeepSpec& keep, BitWriter& out) {
  out.put(kept, bits_for(keep.head));
  out.put(drawn, bits_for(keep.draws));
  const double steps = std::clamp(entropy, 0.0, ((1 << kEntropyBits) - 1) * kEntropyStep) / kEntropyStep;
  out.put(std::min<uint64_t>(static_cast<uint64_t>(steps + draw), (1u << kEntropyBits) - 1), kEntropyBits);
}

}  // namespace

void BitWriter::put(uint64_t value, int bits) {
  for (int done = 0; done < bits;) {
    const auto offset = static_cast<int>(bits_ % 8);
    if (offset == 0) bytes_.push_back(0);
    const int step = std::min(8 - offset, bits - done);
    bytes_.back() = static_cast<uint8_t>(bytes_.back() | ((value >> done) & ((1u << step) - 1)) << offset);
    bits_ += static_cast<uint64_t>(step), done += step;
  }
}

void BitWriter::append(const BitWriter& other) {
  for (uint64_t at = 0; at < other.bits_; at += 8)
    put(other.bytes_[at / 8], static_cast<int>(std::min<uint64_t>(8, other.bits_ - at)));
}

uint64_t BitReader::take(int bits) {
  if (at_ + static_cast<uint64_t>(bits) > bytes_.size() * 8) corrupt(file_, "rows", "ends inside a position");
  uint64_t value = 0;
  for (int done = 0; done < bits;) {
    const auto offset = static_cast<int>(at_ % 8);
    const int step = std::min(8 - offset, bits - done);
    value |= static_cast<uint64_t>((bytes_[at_ / 8] >> offset) & ((1u << step) - 1)) << done;
    at_ += static_cast<uint64_t>(step), done += step;
  }
  return value;
}

double RowDraws::uniform(uint64_t index) const { return draws.uniform(position * kDrawsARow + index); }

void encode_row(std::span<const float> p, double entropy, const KeepSpec& keep, const RowDraws& draws,
                BitWriter& out) {
  const auto id_bits = bits_for(static_cast<int64_t>(p.size()) - 1);
  const auto head = largest(p, std::min<size_t>(static_cast<size_t>(keep.head), p.size()));
  // Sums of what is left from the small end: nothing cancels.
  double total = 0;
  for (const float value : p) total += value;
  std::vector<bool> taken(p.size());
  for (const auto id : head) taken[static_cast<size_t>(id)] = true;
  double outside = 0;
  for (size_t i = 0; i < p.size(); ++i)
    if (!taken[i]) outside += p[i];
  std::vector<double> left(head.size() + 1, outside);  // left[j]: without the first j head tokens
  for (size_t j = head.size(); j-- > 0;) left[j] = left[j + 1] + p[static_cast<size_t>(head[j])];

  std::vector<uint64_t> shares;
  bool nothing_left = false;
  for (size_t j = 0;
       j < head.size() && !nothing_left && (j == 0 || keep.draws == 0 || left[j] > kEnough * total); ++j) {
    shares.push_back(rounded_share(p[static_cast<size_t>(head[j])], left[j + 1],
                                   static_cast<int>(keep.precision), draws.uniform(j + 2)));
    nothing_left = shares.back() == (uint64_t{1} << keep.precision) - 1;
  }
  const auto kept = shares.size();
  for (size_t j = kept; j < head.size(); ++j) taken[static_cast<size_t>(head[j])] = false;

  std::vector<std::pair<int32_t, int64_t>> drawn;  // id, count
  const double rest = left[kept];
  if (!nothing_left && rest > 0 && keep.draws > 0) {
    const auto count = std::clamp<int64_t>(
        static_cast<int64_t>(std::ceil(rest / total / kEveryDraw * static_cast<double>(keep.draws))), 1,
        keep.draws);
    const double step = rest / static_cast<double>(count);
    double next = draws.uniform(0) * step, sum = 0;
    int64_t done = 0;
    int32_t last = -1;
    for (size_t i = 0; i < p.size() && done < count; ++i) {
      if (taken[i] || !(p[i] > 0)) continue;
      sum += p[i];
      last = static_cast<int32_t>(i);
      int64_t times = 0;
      for (; done < count && next < sum; ++done, next += step) ++times;
      if (times > 0) drawn.emplace_back(last, times);
    }
    if (done < count) {  // rounding left the last point beyond the sum
      if (!drawn.empty() && drawn.back().first == last) drawn.back().second += count - done;
      else drawn.emplace_back(last, count - done);
    }
  }

  put_sizes(kept, drawn.size(), entropy, draws.uniform(1), keep, out);
  for (size_t j = 0; j < kept; ++j) {
    out.put(static_cast<uint64_t>(head[j]), id_bits);
    out.put(shares[j], static_cast<int>(keep.precision));
  }
  for (const auto& [id, times] : drawn) out.put(static_cast<uint64_t>(id), id_bits);
  for (const auto& [id, times] : drawn) {
    for (int64_t i = 1; i < times; ++i) out.put(1, 1);
    out.put(0, 1);
  }
}

void encode_top_row(const TopRow& row, int64_t vocabulary, const KeepSpec& keep, const RowDraws& draws,
                    BitWriter& out) {
  const auto head = std::min(row.ids.size(), static_cast<size_t>(keep.head));
  std::vector<double> p;
  double known = 0, entropy = 0;
  for (size_t j = 0; j < head; ++j) {
    p.push_back(std::exp(static_cast<double>(row.log_p[j])));
    known += p.back();
    if (p.back() > 0) entropy -= p.back() * row.log_p[j];
  }
  const double rest = static_cast<int64_t>(head) == vocabulary ? 0 : std::max(0.0, 1 - known);
  if (rest > 0) entropy -= rest * std::log(rest);
  std::vector<double> left(head + 1, rest);  // left[j]: without the first j
  for (size_t j = head; j-- > 0;) left[j] = left[j + 1] + p[j];
  std::vector<uint64_t> shares;
  const auto last = (uint64_t{1} << keep.precision) - 1;
  while (shares.size() < head && (shares.empty() || shares.back() != last)) {
    const auto j = shares.size();
    shares.push_back(
        p[j] > 0 ? rounded_share(p[j], left[j + 1], static_cast<int>(keep.precision), draws.uniform(j + 2))
                 : 0);
  }
  put_sizes(shares.size(), 0, entropy, draws.uniform(1), keep, out);
  for (size_t j = 0; j < shares.size(); ++j) {
    out.put(static_cast<uint64_t>(row.ids[j]), bits_for(vocabulary - 1));
    out.put(shares[j], static_cast<int>(keep.precision));
  }
}

SparseRow decode_row(BitReader& in, const KeepSpec& keep, int64_t vocabulary, std::string_view file) {
  const auto id_bits = bits_for(vocabulary - 1);
  SparseRow row;
  row.head = in.take(bits_for(keep.head));
  const auto distinct = in.take(bits_for(keep.draws));
  if (row.head > static_cast<uint64_t>(keep.head) || distinct > static_cast<uint64_t>(keep.draws))
    corrupt(file, "rows", "a position keeps more than the settings say");
  row.entropy = static_cast<float>(static_cast<double>(in.take(kEntropyBits)) * kEntropyStep);
  const auto take_id = [&] {
    const auto id = in.take(id_bits);
    if (id >= static_cast<uint64_t>(vocabulary))
      corrupt(file, "rows", fmt::format("token {} is outside the vocabulary of {}", id, vocabulary));
    row.ids.push_back(static_cast<int32_t>(id));
  };
  double left = 1;
  for (size_t j = 0; j < row.head; ++j) {
    take_id();
    const auto share = share_of(in.take(static_cast<int>(keep.precision)), static_cast<int>(keep.precision));
    row.p.push_back(static_cast<float>(left * share.taken));
    left *= share.left;
  }
  row.rest = static_cast<float>(left);
  for (uint64_t i = 0; i < distinct; ++i) take_id();
  std::vector<int64_t> counts;
  int64_t draws = 0;
  for (uint64_t i = 0; i < distinct; ++i) {
    int64_t times = 1;
    while (in.take(1) == 1) ++times;
    counts.push_back(times);
    draws += times;
    if (draws > keep.draws) corrupt(file, "rows", "a position keeps more than the settings say");
  }
  for (const auto times : counts)
    row.p.push_back(static_cast<float>(left * static_cast<double>(times) / static_cast<double>(draws)));
  return row;
}

}  // namespace retort
