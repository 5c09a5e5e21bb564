// The choice of keys and attention to those that were chosen, over LibTorch calls, some queries at a time.
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <stdexcept>

#include "ops/attend_keys.h"
#include "ops/composed.h"
#include "ops/composed_forms.h"
#include "ops/differentiable.h"

namespace retort {
namespace {

constexpr int64_t kQueries = 64;        // of a choice, at a time
constexpr int64_t kGathered = 1 << 24;  // numbers of gathered keys at a time

Tensor in_type(const Tensor& rows, const Tensor& scales, at::ScalarType type) {
  return scales.defined() ? (rows * scales.unsqueeze(2)).to(type) : rows.to(type);
}

// Queries [begin, end), the rows of their keys [n,c], and which of these are theirs.
struct Piece {
  int64_t begin, end;
  Tensor rows, own;
};

// Calls use(piece) for runs of queries; one without keys has none of its c.
template <class Use> void each_piece(const ChosenKeys& chosen, const Tensor& q, int64_t numbers, Use&& use) {
  const auto queries = static_cast<int64_t>(chosen.first.size()) - 1;
  const auto keys = [&](int64_t t) {
    return chosen.first[static_cast<size_t>(t) + 1] - chosen.first[static_cast<size_t>(t)];
  };
  for (int64_t begin = 0; begin < queries;) {
    int64_t end = begin, most = 0;
    for (; end < queries; ++end) {
      const auto wider = std::max(most, keys(end));
      if (end > begin && (end + 1 - begin) * wider * numbers > kGathered) break;
      most = wider;
    }
    std::vector<int32_t> rows(static_cast<size_t>((end - begin) * most), 0);
    std::vector<int32_t> counts;
    for (int64_t t = begin; t < end; ++t) {
      std::copy_n(chosen.rows.begin() + chosen.first[static_cast<size_t>(t)], keys(t),
                  rows.begin() + (t - begin) * most);
      counts.push_back(static_cast<int32_t>(keys(t)));
    }
    if (most > 0)
      use(Piece{
          begin, end, list_on(q, rows).view({end - begin, most}),
          at::arange(most, q.options().dtype(at::kLong)).unsqueeze(0).lt(list_on(q, counts).unsqueeze(1))});
    begin = end;
  }
}

// q [n,H,D], k [n,c,K,D], v [n,c,K,V] -> [n,H*V].
Tensor attend_piece(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& own, double scale) {
  const auto n = q.size(0), heads = q.size(1), shared = k.size(2);
  const auto queries = q.view({n, shared, heads / shared, q.size(2)});
  auto z = at::matmul(queries, k.permute({0, 2, 3, 1})).to(at::kFloat) * scale;  // [n,K,group,c]
  z = z.masked_fill(own.logical_not().view({n, 1, 1, -1}), -std::numeric_limits<float>::infinity());
  const auto p = z.softmax(3).to(q.scalar_type());
  return at::matmul(p, v.permute({0, 2, 1, 3})).reshape({n, heads * v.size(3)});
}

}  // namespace

std::shared_ptr<const ChosenKeys> composed_choose_keys(const Tensor& q, const Tensor& k,
                                                       const Tensor& weights, int64_t top, int64_t layer,
                                                       const Pass& pass) {
  constexpr auto kOut = -std::numeric_limits<float>::infinity();
  const auto at_layer = static_cast<size_t>(layer);
  auto keys = k;
  Tensor scales;
  if (pass.cache) {
    keys = pass.cache->index_keys.at(at_layer);
    if (!pass.cache->index_scales.empty()) scales = pass.cache->index_scales.at(at_layer);
  }
  const auto w = weights.view({q.size(0), q.size(1)});
  std::vector<std::vector<int32_t>> rows(static_cast<size_t>(q.size(0)));
  for (const auto& block : pass.blocks) {
    std::vector<int32_t> path;
    for (const auto& range : block.keys)
      for (auto row = range.begin; row < range.end; ++row) path.push_back(static_cast<int32_t>(row));
    const int64_t queries = block.q_end - block.q_begin, all = static_cast<int64_t>(path.size()),
                  before = all - queries;
    const auto index = list_on(keys, path);
    const auto own = in_type(keys.index_select(0, index),
                             scales.defined() ? scales.index_select(0, index) : Tensor(), q.scalar_type())
                         .squeeze(1)
                         .to(at::kFloat);  // [m,D]
    for (int64_t begin = 0; begin < queries; begin += kQueries) {
      const auto count = std::min(kQueries, queries - begin);
      const auto some = q.narrow(0, block.q_begin + begin, count).to(at::kFloat);  // [n,J,D]
      const auto scores = at::relu(at::matmul(some, own.t()));                     // [n,J,m]
      auto judged = at::bmm(w.narrow(0, block.q_begin + begin, count).unsqueeze(1), scores).squeeze(1);
      const auto whole = q.options().dtype(at::kLong);
      const auto last = at::arange(before + begin, before + begin + count, whole).unsqueeze(1);
      // What is no number stands before what is not seen: of equal ones the earlier is chosen.
      judged = at::nan_to_num(judged, kOut, -kOut, kOut)
                   .masked_fill(at::arange(all, whole).unsqueeze(0).gt(last), kOut);
      const auto order = std::get<1>(at::sort(judged, /*stable=*/true, /*dim=*/1, /*descending=*/true));
      const auto best = std::get<0>(order.narrow(1, 0, std::min(top, all)).sort(1)).to(at::kCPU).contiguous();
      for (int64_t i = 0; i < count; ++i) {
        auto& of_query = rows[static_cast<size_t>(block.q_begin + begin + i)];
        const auto seen = before + begin + i + 1;
        if (seen <= top) {
          of_query.assign(path.begin(), path.begin() + seen);
          continue;
        }
        const auto* places = best.const_data_ptr<int64_t>() + i * best.size(1);
        for (int64_t j = 0; j < top; ++j) of_query.push_back(path[static_cast<size_t>(places[j])]);
      }
    }
  }
  auto chosen = std::make_shared<ChosenKeys>();
  chosen->first.push_back(0);
  for (const auto& of_query : rows) {
    chosen->rows.insert(chosen->rows.end(), of_query.begin(), of_query.end());
    chosen->first.push_back(static_cast<int64_t>(chosen->rows.size()));
  }
  return chosen;
}

Tensor composed_attend_chosen(const Tensor& q, const Tensor& k, const Tensor& v, int64_t value_width,
                              const std::shared_ptr<const ChosenKeys>& chosen, const AttendRule& rule,
                              const Pass& pass) {
  const auto scale = rule.scale != 0 ? rule.scale : 1 / std::sqrt(static_cast<double>(q.size(2)));
  const bool front = !v.defined();  // values are the front of the keys
  const auto values = front ? value_width : v.size(2);
  const auto numbers = k.size(1) * (k.size(2) + values);
  const auto gathered = [](const Tensor& rows, const Tensor& scales, const Piece& piece,
                           at::ScalarType type) {
    const auto index = piece.rows.flatten();
    const auto some = in_type(rows.index_select(0, index),
                              scales.defined() ? scales.index_select(0, index) : Tensor(), type);
    return some.view({piece.rows.size(0), piece.rows.size(1), rows.size(1), rows.size(2)});
  };
  return differentiable(
      {"attend to chosen keys", 0, bytes_of(q) + bytes_of(k)}, {q, k, v}, [&](bool recorded) -> Computed {
        auto keys = k;
        Tensor scales;
        if (pass.cache) {
          if (recorded) throw std::logic_error("attend: a cache is for generation, without gradients");
          const auto layer = static_cast<size_t>(rule.layer);
          auto* own = pass.cache->key_scales.empty() ? nullptr : &pass.cache->key_scales.at(layer);
          store_in_cache(k, pass.cache_rows, pass.cache->keys.at(layer), own);
          keys = pass.cache->keys.at(layer);
          if (own) scales = *own;
        }
        auto out = at::zeros({q.size(0), q.size(1) * values}, q.options());
        each_piece(*chosen, q, numbers, [&](const Piece& piece) {
          const auto own_k = gathered(keys, scales, piece, q.scalar_type());
          const auto own_v = front ? own_k.narrow(3, 0, values) : gathered(v, {}, piece, q.scalar_type());
          out.narrow(0, piece.begin, piece.end - piece.begin)
              .copy_(attend_piece(q.narrow(0, piece.begin, piece.end - piece.begin), own_k, own_v, piece.own,
                                  scale));
        });
        if (!recorded) return {out, nullptr};
        return {out,
                [=, q = q.detach(), k = k.detach(),
                 v = front ? Tensor() : v.detach()](const Tensor& dout) -> Tensors {
                  const auto wide = q.options().dtype(at::kFloat);
                  auto dq = at::zeros(q.sizes(), q.options()), dk = at::zeros(k.sizes(), wide),
                       dv = front ? Tensor() : at::zeros(v.sizes(), wide);
                  each_piece(*chosen, q, numbers, [&](const Piece& piece) {
                    const auto count = piece.end - piece.begin;
                    const auto leaf = [](const Tensor& x) { return x.detach().requires_grad_(); };
                    const auto own_q = leaf(q.narrow(0, piece.begin, count)),
                               own_k = leaf(gathered(k, {}, piece, k.scalar_type()));
                    Tensors inputs{own_q, own_k}, gradients;
                    if (!front) inputs.push_back(leaf(gathered(v, {}, piece, v.scalar_type())));
                    {
                      const at::AutoGradMode graph(true);
                      const auto again = attend_piece(
                          own_q, own_k, front ? own_k.narrow(3, 0, values) : inputs[2], piece.own, scale);
                      gradients =
                          torch::autograd::grad({again}, inputs, {dout.narrow(0, piece.begin, count)});
                    }
                    dq.narrow(0, piece.begin, count).copy_(gradients[0]);
                    const auto index = piece.rows.flatten();
                    dk.index_add_(0, index, gradients[1].flatten(0, 1).to(at::kFloat));
                    if (!front) dv.index_add_(0, index, gradients[2].flatten(0, 1).to(at::kFloat));
                  });
                  return {dq, dk.to(k.scalar_type()), front ? Tensor() : dv.to(v.scalar_type())};
                }};
      });
}

}  // namespace retort
