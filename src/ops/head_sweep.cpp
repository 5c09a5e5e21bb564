#include "ops/head_sweep.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "ops/differentiable.h"
#include "ops/gemm.h"
#include "ops/row_loops.h"
#include "ops/scratch.h"
#include "ops/team.h"

namespace retort {
namespace {

constexpr int64_t kRowTile = 128;  // rows of logits at a time
constexpr int64_t kPanelBytes =
    512 << 10;  // both packed forms of a part of the matrix stay in the second-level cache
constexpr int64_t kRowsApiece = 128;  // a thread with fewer rows would spend its time packing
int64_t round_up(int64_t count, int64_t unit) { return (count + unit - 1) / unit * unit; }

// Rows of x as the kernel reads them: in its operand type, an odd width padded with a zero.
struct Operands {
  Tensor memory;
  GemmRows rows;
};
Operands operands_of(const GemmKernel& kernel, const Tensor& x) {
  const auto type = kernel.operand == Operand::f32 ? at::kFloat : at::kBFloat16;
  const auto width = x.size(1), stride = round_up(width, kernel.pair);
  auto memory = x.contiguous().to(type);
  if (stride != width) memory = at::constant_pad_nd(memory, {0, stride - width});
  return {memory, {memory.const_data_ptr(), stride, kernel.operand}};
}

// What one thread has seen of its rows and its part of the vocabulary: probabilities are relative to the
// largest logit so far.
struct SweepPart {
  int64_t row = 0, rows = 0, first = 0, last = 0;
  std::vector<float> top, sum;
  std::vector<int32_t> best;
  float* expected = nullptr;  // [rows,E]: sum of exp(z - top) W
  Tensor memory;
};

class Sweep {
 public:
  Sweep(const Tensor& x, const AskedLabels& asked, const SweptHead& head, bool gradient)
      : kernel_(gemm_kernel(x.scalar_type() == at::kFloat ? Operand::f32 : Operand::bf16)),
        x_(operands_of(kernel_, x)),
        rows_(x.size(0)),
        width_(x.size(1)),
        asked_(asked),
        weight_(head.weight),
        cap_(static_cast<float>(head.soft_cap)),
        gradient_(gradient) {
    if (head.int8_scales.defined() && kernel_.lanes == 16 && width_ % 16 == 0)
      scales_ = head.int8_scales.const_data_ptr<float>();
  }

  Swept run() {
    Swept swept;
    swept.logits.resize(asked_.labels.size());
    if (gradient_) swept.expected = at::empty({rows_, width_}, at::TensorOptions(at::kFloat));
    logits_ = swept.logits.data();
    const auto threads = team_size(), by_rows = std::clamp<int64_t>(rows_ / kRowsApiece, 1, threads),
               by_words = std::max<int64_t>(1, threads / by_rows);
    const auto words = round_up((weight_.rows + by_words - 1) / by_words, kernel_.width);
    std::vector<SweepPart> parts;
    for (int64_t r = 0; r < by_rows; ++r)
      for (int64_t first = 0; first < weight_.rows; first += words)
        parts.push_back({rows_ * r / by_rows,
                         rows_ * (r + 1) / by_rows - rows_ * r / by_rows,
                         first,
                         std::min(weight_.rows, first + words),
                         {},
                         {},
                         {},
                         nullptr,
                         {}});
    on_team(static_cast<int64_t>(parts.size()),
            [&](int64_t i) { work(parts[static_cast<size_t>(i)], swept.expected); });
    for (const auto& part : parts) join(part, swept);
    finish(swept);
    return swept;
  }

 private:
  int64_t bytes() const { return kernel_.operand == Operand::f32 ? 4 : 2; }

  // The part of the matrix at work as the right operand of p W: one of the two, or neither without a
  // gradient.
  struct Back {
    const std::byte* panels = nullptr;
    std::optional<Int8Panels> integers;
  };
  // Words [first, first + count) of the vocabulary, packed for both products.
  struct Words {
    int64_t first, count;
    const std::byte* columns;
    Back back;
  };

  // Rows [first, first + count) of the matrix in the operand type.
  GemmMatrix decoded(int64_t first, int64_t count) const {
    auto matrix = weight_.operand(false);
    if (matrix.type == (kernel_.operand == Operand::f32 ? WeightType::f32 : WeightType::bf16)) {
      matrix.data += first * matrix.row_bytes;
      matrix.rows = count;
      return matrix;
    }
    auto* memory = scratch_bytes(Scratch::head_decoded, count * width_ * bytes());
    auto out = at::from_blob(memory, {count, width_},
                             at::TensorOptions(kernel_.operand == Operand::f32 ? at::kFloat : at::kBFloat16));
    widen_rows_into(weight_, first, count, out);
    return kernel_.operand == Operand::f32
               ? gemm_matrix(reinterpret_cast<const float*>(memory), count, width_, false)
               : gemm_matrix_bf16(reinterpret_cast<const uint16_t*>(memory), count, width_, false);
  }

  void work(SweepPart& part, Tensor& expected) const {
    part.top.assign(static_cast<size_t>(part.rows), -std::numeric_limits<float>::infinity());
    part.sum.assign(static_cast<size_t>(part.rows), 0.0f);
    part.best.assign(static_cast<size_t>(part.rows), 0);
    if (gradient_) {
      part.memory = part.first == 0 ? expected.narrow(0, part.row, part.rows)
                                    : at::empty({part.rows, width_}, at::TensorOptions(at::kFloat));
      part.expected = part.memory.zero_().mutable_data_ptr<float>();
    }
    const auto most =
        std::clamp<int64_t>(kPanelBytes / ((bytes() + (scales_ ? 1 : bytes())) * width_) / kernel_.width, 1,
                            8) *
        kernel_.width;
    for (int64_t first = part.first; first < part.last; first += most) {
      const auto count = std::min(most, part.last - first);
      auto matrix = decoded(first, count);
      auto* columns = scratch_bytes(Scratch::column_panels, panel_bytes(kernel_, width_, count));
      pack_panels(kernel_, matrix, 0, count, columns);
      Back back;
      if (gradient_) {
        matrix.transposed = true;
        if (scales_) {
          back.integers = pack_int8_panels(kernel_, matrix, scales_ + first);
        } else {
          auto* panels = scratch_bytes(Scratch::row_panels, panel_bytes(kernel_, count, width_));
          pack_panels(kernel_, matrix, 0, width_, panels);
          back.panels = panels;
        }
      }
      const Words words{first, count, columns, back};
      for (int64_t row = 0; row < part.rows; row += kRowTile)
        tile(part, row, std::min(kRowTile, part.rows - row), words);
    }
  }

  // Rows [row, row + rows) of the part and these words.
  void tile(SweepPart& part, int64_t row, int64_t rows, const Words& words) const {
    const auto& [first, count, columns, back] = words;
    const auto stride = round_up(count, kernel_.pair);
    auto* z = reinterpret_cast<float*>(scratch_bytes(Scratch::logits, rows * count * 4));
    auto* p = scratch_bytes(Scratch::head_probabilities, rows * stride * bytes());
    const auto* a = static_cast<const std::byte*>(x_.rows.data) + (part.row + row) * x_.rows.stride * bytes();
    multiply_panels(kernel_, {a, x_.rows.stride, kernel_.operand}, rows, width_, columns, count,
                    {z, count, Operand::f32});
    for (int64_t r = 0; r < rows; ++r) {
      const auto at = static_cast<size_t>(row + r);
      auto* values = z + r * count;
      if (cap_ > 0) row_loops().f32.soft_cap(values, cap_, count);
      take_labels(static_cast<size_t>(part.row + row + r), values, first, count);
      const float largest = row_loops().scores.largest(values, count);
      if (largest > part.top[at]) {
        part.best[at] = static_cast<int32_t>(
            first + std::min<int64_t>(
                        count - 1, std::find(values, values + count, largest) - values));  // NaNs are nowhere
        rescale(part, row + r, std::exp(part.top[at] - largest));
        part.top[at] = largest;
      }
      auto* out = p + r * stride * bytes();
      part.sum[at] +=
          kernel_.operand == Operand::f32
              ? row_loops().f32.exponentials(values, part.top[at], cap_, reinterpret_cast<float*>(out), count)
              : row_loops().bf16.exponentials(values, part.top[at], cap_, reinterpret_cast<uint16_t*>(out),
                                              count);
      std::fill_n(out + count * bytes(), (stride - count) * bytes(), std::byte{});
    }
    const GemmRows probabilities{p, stride, kernel_.operand};
    if (back.integers)
      add_int8_product(kernel_, probabilities, rows, *back.integers, part.expected + row * width_, width_);
    else if (back.panels)
      multiply_panels(kernel_, probabilities, rows, count, back.panels, width_,
                      {part.expected + row * width_, width_, Operand::f32, nullptr, true});
  }

  void take_labels(size_t row, const float* values, int64_t first, int64_t count) const {
    for (auto i = asked_.offsets[row]; i < asked_.offsets[row + 1]; ++i)
      if (const auto label = asked_.labels[i]; label >= first && label < first + count)
        logits_[i] = values[label - first];
  }

  void rescale(SweepPart& part, int64_t row, float factor) const {
    part.sum[static_cast<size_t>(row)] *= factor;
    if (auto* expected = part.expected ? part.expected + row * width_ : nullptr)
      row_loops().f32.to_float(expected, factor, expected, width_);
  }

  // Parts of the same rows meet in the order of the vocabulary.
  void join(const SweepPart& part, Swept& swept) {
    if (part.first == 0) {
      swept.log_sum.insert(swept.log_sum.end(), part.sum.begin(), part.sum.end());
      top_.insert(top_.end(), part.top.begin(), part.top.end());
      swept.best.insert(swept.best.end(), part.best.begin(), part.best.end());
      return;
    }
    for (int64_t r = 0; r < part.rows; ++r) {
      const auto at = static_cast<size_t>(r), all = static_cast<size_t>(part.row + r);
      const float together = std::max(top_[all], part.top[at]), before = std::exp(top_[all] - together),
                  now = std::exp(part.top[at] - together);
      if (part.top[at] > top_[all]) swept.best[all] = part.best[at];
      top_[all] = together;
      swept.log_sum[all] = swept.log_sum[all] * before + part.sum[at] * now;
      if (!gradient_) continue;
      auto* expected = swept.expected.mutable_data_ptr<float>() + static_cast<int64_t>(all) * width_;
      row_loops().f32.to_float(expected, before, expected, width_);
      row_loops().scores.add_scaled(expected, part.expected + r * width_, now, width_);
    }
  }

  void finish(Swept& swept) const {
    for (int64_t r = 0; r < rows_; ++r) {
      auto& sum = swept.log_sum[static_cast<size_t>(r)];
      if (gradient_) {
        auto* expected = swept.expected.mutable_data_ptr<float>() + r * width_;
        row_loops().f32.to_float(expected, 1 / sum, expected, width_);
      }
      sum = top_[static_cast<size_t>(r)] + std::log(sum);
    }
  }

  const GemmKernel& kernel_;
  Operands x_;
  int64_t rows_, width_;
  const AskedLabels& asked_;
  const Weight& weight_;
  float cap_;
  bool gradient_;
  const float* scales_ =
      nullptr;  // of the matrix's rows, where p W runs on integers: add_int8_product() stores whole vectors
  float* logits_ = nullptr;
  std::vector<float> top_;
};

}  // namespace

Swept sweep_head(const Tensor& x, const AskedLabels& asked, const SweptHead& head, bool gradient) {
  if (x.size(0) == 0)
    return {{}, {}, {}, gradient ? at::empty({0, x.size(1)}, at::TensorOptions(at::kFloat)) : Tensor()};
  return Sweep(x, asked, head, gradient).run();
}

}  // namespace retort
