#include "ops/index_loss.h"

#include "ops/composed.h"
#include "ops/differentiable.h"

namespace retort {
namespace {

constexpr int64_t kQueries = 32;  // at a time, where all keys count

// Some queries over the same keys, all in fp32 and without a graph.
struct Piece {
  Tensor queries, keys;  // rows of the pass
  Tensor unseen;         // bool [queries, keys], or undefined
};

struct Sums {
  Tensor dq, dk, dw;  // [N,J,D], [N,D], [N,J]
  double nats = 0;
};

// p [queries, keys].
Tensor paid(const Attended& attended, const Piece& piece) {
  const auto q = attended.q.index_select(0, piece.queries).to(at::kFloat),
             k = attended.k.index_select(0, piece.keys).to(at::kFloat);  // [n,H,W], [m,K,W]
  const auto n = q.size(0), heads = q.size(1), shared = k.size(1);
  // [K, group n, W] times [K, W, m]
  const auto by_key = q.view({n, shared, heads / shared, q.size(2)})
                          .permute({1, 2, 0, 3})
                          .reshape({shared, heads / shared * n, q.size(2)});
  auto z = at::bmm(by_key, k.permute({1, 2, 0})).view({heads, n, k.size(0)}) * attended.scale;
  if (piece.unseen.defined()) z.masked_fill_(piece.unseen, -std::numeric_limits<float>::infinity());
  return z.softmax(2).mean(0);
}

void add_piece(const Tensor& q, const Tensor& k, const Tensor& weights, const Attended& attended,
               const Piece& piece, Sums& sums) {
  const auto own_q = q.index_select(0, piece.queries).to(at::kFloat),   // [n,J,D]
      own_k = k.index_select(0, piece.keys).squeeze(1).to(at::kFloat),  // [m,D]
      w = weights.index_select(0, piece.queries);                       // [n,J]
  const auto n = own_q.size(0), heads = own_q.size(1), m = own_k.size(0);
  const auto scores = at::relu(at::mm(own_q.flatten(0, 1), own_k.t()).view({n, heads, m}));
  auto index = at::bmm(w.unsqueeze(1), scores).squeeze(1);  // [n,m]
  if (piece.unseen.defined()) index.masked_fill_(piece.unseen, -std::numeric_limits<float>::infinity());
  const auto log_share = index.log_softmax(1), p = paid(attended, piece);
  // Of keys that are not seen neither has a share.
  const auto told = at::where(p.gt(0), p * (p.log() - log_share), at::zeros_like(p));
  sums.nats += told.sum().item<double>();
  const auto slope = log_share.exp() - p;  // of the index scores [n,m]
  const auto of_scores = w.unsqueeze(2) * slope.unsqueeze(1) * scores.gt(0);
  sums.dw.index_add_(0, piece.queries, at::bmm(scores, slope.unsqueeze(2)).squeeze(2));
  sums.dq.index_add_(0, piece.queries, at::matmul(of_scores, own_k));
  sums.dk.index_add_(0, piece.keys, at::mm(of_scores.flatten(0, 1).t(), own_q.flatten(0, 1)));
}

// Of rows on the device of `like`.
template <class Use>
void each_piece(const Tensor& like, const Pass& pass, const ChosenKeys* chosen, Use&& use) {
  if (chosen) {
    for (size_t query = 0; query + 1 < chosen->first.size(); ++query) {
      const std::vector<int64_t> keys(chosen->rows.begin() + chosen->first[query],
                                      chosen->rows.begin() + chosen->first[query + 1]);
      if (!keys.empty()) use(Piece{list_on(like, std::vector{query}), list_on(like, keys), {}});
    }
    return;
  }
  const auto whole = like.options().dtype(at::kLong);
  for (const auto& block : pass.blocks) {
    std::vector<int64_t> path;
    for (const auto& range : block.keys)
      for (auto row = range.begin; row < range.end; ++row) path.push_back(row);
    const auto keys = list_on(like, path);
    const int64_t rows = block.q_end - block.q_begin, offset = keys.size(0) - rows;
    for (int64_t begin = 0; begin < rows; begin += kQueries) {
      const auto end = std::min(rows, begin + kQueries), seen = offset + end;
      const auto last = at::arange(offset + begin, offset + end, whole).unsqueeze(1);  // that each query sees
      use(Piece{at::arange(block.q_begin + begin, block.q_begin + end, whole), keys.narrow(0, 0, seen),
                at::arange(seen, whole).unsqueeze(0).gt(last)});
    }
  }
}

}  // namespace

Tensor index_loss(const Tensor& q, const Tensor& k, const Tensor& weights, const Attended& attended,
                  const std::shared_ptr<const ChosenKeys>& chosen, const Pass& pass) {
  return differentiable({"index loss", 0, bytes_of(q)}, {q, k, weights}, [&](bool recorded) -> Computed {
    const auto wide = q.options().dtype(at::kFloat);
    Sums sums{at::zeros(q.sizes(), wide), at::zeros({k.size(0), k.size(2)}, wide),
              at::zeros(weights.sizes(), wide)};
    each_piece(q, pass, chosen.get(),
               [&](const Piece& piece) { add_piece(q, k, weights, attended, piece, sums); });
    const auto value = at::full({}, sums.nats, wide);
    if (!recorded) return {value, nullptr};
    return {value,
            [sums, q_type = q.scalar_type(), k_type = k.scalar_type()](const Tensor& gradient) -> Tensors {
              return {(sums.dq * gradient).to(q_type), (sums.dk * gradient).unsqueeze(1).to(k_type),
                      sums.dw * gradient};
            }};
  });
}

Tensor with_loss(const Tensor& x, const Tensor& loss) {
  return differentiable({"with loss"}, {x, loss}, [&](bool) -> Computed {
    return {x.detach(), [](const Tensor& gradient) -> Tensors {
              return {gradient, at::ones({}, gradient.options().dtype(at::kFloat))};
            }};
  });
}

}  // namespace retort
