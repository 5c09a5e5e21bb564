// Attention of a token forest over LibTorch calls: each block's keys are gathered along its path, some
// queries at a time; their causal mask stands at the lower right corner. Nothing but q, k and v is kept for
// backward, which attends again.
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <stdexcept>

#include "ops/attend_keys.h"
#include "ops/composed.h"
#include "ops/composed_forms.h"
#include "ops/differentiable.h"

namespace retort {
namespace {

constexpr int64_t kQueries = 256;  // at a time, where the mask or the scores are formed

// Queries [begin, end) of a block, and keys [low, high) of its path, which are all that any of them sees.
struct Piece {
  const AttendBlock* block;
  int64_t begin, end, low, high;
  // Query `begin` is key `offset` of these.
  int64_t offset() const { return high - low - (end - begin); }
  int64_t row() const { return block->q_begin + begin; }
};

std::vector<Piece> pieces_of(const std::vector<AttendBlock>& blocks, const AttendRule& rule, bool one_width) {
  std::vector<Piece> pieces;
  for (const auto& block : blocks) {
    const int64_t rows = block.q_end - block.q_begin, before = block.key_count() - rows;
    // A whole text with a plain mask needs none.
    const bool plain = rule.window == 0 && rule.soft_cap == 0 && before == 0 && one_width;
    const auto most = plain ? rows : kQueries;
    for (int64_t begin = 0; begin < rows; begin += most) {
      const auto end = std::min(rows, begin + most);
      const auto low = rule.window > 0 ? std::max<int64_t>(0, before + begin - rule.window + 1) : 0;
      pieces.push_back({&block, begin, end, low, before + end});
    }
  }
  return pieces;
}

// Rows of keys or values as this pass computed them or a cache holds them.
struct Kept {
  Tensor rows, scales;

  // Rows of the path in `type`: a view where they lie together.
  Tensor take(const Piece& piece, at::ScalarType type) const {
    std::vector<int64_t> wanted;
    int64_t begin = 0;
    bool together = true;
    each_run(piece.block->keys, piece.low, piece.high, [&](int64_t, int64_t row, int64_t count) {
      if (wanted.empty()) begin = row;
      else together = together && row == wanted.back() + 1;
      for (int64_t i = 0; i < count; ++i) wanted.push_back(row + i);
    });
    const auto count = static_cast<int64_t>(wanted.size());
    const auto index = together ? Tensor() : list_on(rows, wanted);
    const auto some = [&](const Tensor& all) {
      return together ? all.narrow(0, begin, count) : all.index_select(0, index);
    };
    if (!scales.defined()) return some(rows).to(type);
    return (some(rows) * some(scales).unsqueeze(2)).to(type);
  }
  // sum [path rows] += gradient of take().
  static void add(const Piece& piece, const Tensor& gradient, Tensor& sum) {
    each_run(piece.block->keys, piece.low, piece.high, [&](int64_t at, int64_t row, int64_t count) {
      sum.narrow(0, row, count).add_(gradient.narrow(0, at - piece.low, count));
    });
  }
};

// [n,m]: which keys each query sees.
Tensor seen(const Piece& piece, const AttendRule& rule, const Tensor& like) {
  const auto whole = like.options().dtype(at::kLong);
  const auto last = at::arange(piece.offset(), piece.offset() + piece.end - piece.begin, whole).unsqueeze(1),
             key = at::arange(piece.high - piece.low, whole).unsqueeze(0);
  const auto past = key.le(last);
  return rule.window > 0 ? past.logical_and(key.gt(last - rule.window)) : past;
}

// q [n,H,D], k [m,K,D], v [m,K,V] -> [n,H*V].
Tensor attend_piece(const Tensor& q, const Tensor& k, const Tensor& v, const Piece& piece,
                    const AttendRule& rule, double scale) {
  const auto n = q.size(0), heads = q.size(1), shared = k.size(1), group = heads / shared;
  const auto by_key = [&](const Tensor& x) {  // [K,group,m,width]
    return x.permute({1, 0, 2}).unsqueeze(1).expand({shared, group, x.size(0), x.size(2)});
  };
  const auto queries = q.view({n, shared, group, q.size(2)}).permute({1, 2, 0, 3}), keys = by_key(k),
             values = by_key(v);
  const bool all = n == 1 && rule.window == 0, corner = piece.offset() == 0 && rule.window == 0;
  Tensor y;
  if (rule.soft_cap > 0) {
    auto z = at::matmul(queries, keys.transpose(2, 3)).to(at::kFloat) * scale;
    z = rule.soft_cap * at::tanh(z / rule.soft_cap);
    if (!all) z = z.masked_fill(seen(piece, rule, q).logical_not(), -std::numeric_limits<float>::infinity());
    y = at::matmul(z.softmax(3).to(q.scalar_type()), values);
  } else {
    std::optional<Tensor> mask;
    if (!all && !corner) mask = seen(piece, rule, q);
    y = at::scaled_dot_product_attention(queries, keys, values, mask, 0, !all && corner, scale);
  }
  return y.permute({2, 0, 1, 3}).reshape({n, heads * v.size(2)});
}

Kept cached(const Tensor& rows, const std::vector<int32_t>& where, std::vector<Tensor>& cache,
            std::vector<Tensor>& scales, size_t layer) {
  auto* own = scales.empty() ? nullptr : &scales.at(layer);
  store_in_cache(rows, where, cache.at(layer), own);
  return {cache.at(layer), own ? *own : Tensor()};
}

}  // namespace

Tensor composed_attend(const Tensor& q, const Tensor& k, const Tensor& v, const AttendRule& rule,
                       const Pass& pass) {
  const auto scale = rule.scale != 0 ? rule.scale : 1 / std::sqrt(static_cast<double>(q.size(2)));
  const auto width = q.size(1) * v.size(2);
  const bool one_width = q.size(2) == v.size(2);
  return differentiable({"attend", 0, bytes_of(q) + bytes_of(k)}, {q, k, v}, [&](bool recorded) -> Computed {
    Kept keys{k, {}}, values{v, {}};
    if (pass.cache) {
      if (recorded) throw std::logic_error("attend: a cache is for generation, without gradients");
      auto& cache = *pass.cache;
      const auto layer = static_cast<size_t>(rule.layer);
      keys = cached(k, pass.cache_rows, cache.keys, cache.key_scales, layer);
      values = cache.values.empty()  // they are the front of the keys
                   ? Kept{keys.rows.narrow(2, 0, v.size(2)), keys.scales}
                   : cached(v, pass.cache_rows, cache.values, cache.value_scales, layer);
    }
    auto out = at::empty({q.size(0), width}, q.options());
    for (const auto& piece : pieces_of(pass.blocks, rule, one_width))
      out.narrow(0, piece.row(), piece.end - piece.begin)
          .copy_(attend_piece(q.narrow(0, piece.row(), piece.end - piece.begin),
                              keys.take(piece, q.scalar_type()), values.take(piece, q.scalar_type()), piece,
                              rule, scale));
    if (!recorded) return {out, nullptr};
    return {out,
            [=, blocks = pass.blocks, q = q.detach(), k = k.detach(),
             v = v.detach()](const Tensor& dout) -> Tensors {
              const auto wide = q.options().dtype(at::kFloat);
              auto dq = at::empty(q.sizes(), q.options()), dk = at::zeros(k.sizes(), wide),
                   dv = at::zeros(v.sizes(), wide);
              for (const auto& piece : pieces_of(blocks, rule, one_width)) {
                const auto leaf = [](const Tensor& x) { return x.detach().requires_grad_(); };
                const auto own_q = leaf(q.narrow(0, piece.row(), piece.end - piece.begin)),
                           own_k = leaf(Kept{k, {}}.take(piece, k.scalar_type())),
                           own_v = leaf(Kept{v, {}}.take(piece, v.scalar_type()));
                Tensors gradients;
                {
                  const at::AutoGradMode graph(true);
                  const auto again = attend_piece(own_q, own_k, own_v, piece, rule, scale);
                  gradients = torch::autograd::grad({again}, {own_q, own_k, own_v},
                                                    {dout.narrow(0, piece.row(), piece.end - piece.begin)});
                }
                dq.narrow(0, piece.row(), piece.end - piece.begin).copy_(gradients[0]);
                Kept::add(piece, gradients[1], dk);
                Kept::add(piece, gradients[2], dv);
              }
              return {dq, dk.to(k.scalar_type()), dv.to(v.scalar_type())};
            }};
  });
}

void composed_store_in_cache(const Tensor& rows, const std::vector<int32_t>& where, Tensor& cache,
                             Tensor& scales) {
  const auto index = list_on(cache, where);
  const auto values = rows.to(at::kFloat), largest = values.abs().amax(2);
  scales.index_copy_(0, index, largest / 127);
  const auto inverse = at::where(largest.gt(0), 127 / largest, at::zeros_like(largest));
  cache.index_copy_(0, index, (values * inverse.unsqueeze(2)).round().to(cache.scalar_type()));
}

}  // namespace retort
